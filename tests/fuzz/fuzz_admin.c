/* Requests to the admin port, whole and cut anywhere. */
#include "base/admin_request.h"
#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    SEED("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    SEED("GET /readyz?verbose=1 HTTP/1.0\n\nGET /healthz HTTP/1.1\r\n\r\n"),
    SEED("HEAD / HTTP/1.1\r\nConnection:keep-alive,close\r\n\r\n"),
    SEED("POST /healthz HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi"),
    SEED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 300000;

static void need(bool so)
{
    if (!so)
        abort();
}

/* What is judged of the whole is judged of each of its beginnings, or more is asked for. */
void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct admin_request whole, part;
    ssize_t used = admin_request_read((const char *)bytes, size, &whole);
    struct buffer out;

    need(used <= (ssize_t)size);
    if (used > 0) {
        need(whole.status == 200 || whole.status == 400 || whole.status == 405 ||
             whole.status == 505);
        need(whole.status == 200 || !whole.keep_alive);
        need(memchr(whole.path, '\0', sizeof(whole.path)));
        need(admin_request_read((const char *)bytes, (size_t)used, &part) == used);
        need(memcmp(&whole, &part, sizeof(part)) == 0);
        need(admin_request_read((const char *)bytes, (size_t)used - 1, &part) == 0);
    }
    buffer_init(&out, 4096);
    need(admin_answer_write(&whole, 200, "ok\n", 3, &out) == 0);
    buffer_fini(&out);
}
