/* Requests' heads and chunked bodies, whole and cut anywhere. */
#include "gateway/http_parse.h"
#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    SEED("POST /v1/audio/transcriptions?a=%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
         "Content-Type: multipart/form-data; boundary=\"x\"\r\nConnection: close\r\n\r\nhello"),
    SEED("GET http://host:80/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\nExpect: "
         "100-continue\r\n\r\n"),
    SEED("OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: y\r\n\r\n"),
    SEED("4\r\nWiki\r\n6;a=b\r\npedia \r\n0\r\nTrailer: x\r\n\r\nrest"),
    SEED("fffffffffffffff\r\nx\r\n0\r\n\r\n"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 300000;

static void need(bool so)
{
    if (!so)
        abort();
}

static void parse_head(const uint8_t *bytes, size_t size)
{
    struct http_head head;
    const char *why = NULL;
    ssize_t used = http_head_parse(bytes, size, &head, &why);

    need(used <= (ssize_t)size);
    if (used <= 0) {
        need(used == 0 || why);
        return;
    }
    need(head.path[0] == '/' || !strcmp(head.path, "*"));
    need(strlen(head.path) <= HTTP_PATH_MAX && head.n_headers <= HTTP_HEADERS_MAX);
    need(head.content_length >= -1 && !(head.chunked && head.content_length >= 0));
    /* What it takes does not depend on what follows. */
    http_head_fini(&head);
    need(http_head_parse(bytes, (size_t)used, &head, &why) == used);
    http_head_fini(&head);
}

/* The body's bytes, or that it is none, however it is cut. @return whether it ended */
static int unchunk(const uint8_t *bytes, size_t size, size_t piece, size_t *n_body, uint32_t *sum)
{
    struct http_chunks chunks = {0};
    size_t at = 0;
    int result = 0;

    *n_body = 0;
    *sum = 0;
    while (at < size && result == 0) {
        size_t n = size - at < piece ? size - at : piece, used = 0, n_part = 0;
        const uint8_t *part = NULL;

        result = http_chunks_next(&chunks, bytes + at, n, &used, &part, &n_part);
        if (result < 0)
            return result;
        need(used <= n && (used > 0 || result == 1));
        need(!part || (part >= bytes + at && part + n_part <= bytes + at + n));
        for (size_t i = 0; i < n_part; i++)
            *sum = *sum * 31 + part[i];
        *n_body += n_part;
        at += used;
    }
    return result;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    size_t n_whole, n_pieces;
    uint32_t whole, pieces;
    int result;

    parse_head(bytes, size);
    result = unchunk(bytes, size, size ? size : 1, &n_whole, &whole);
    need(unchunk(bytes, size, 1, &n_pieces, &pieces) == result);
    if (result >= 0)
        need(n_whole == n_pieces && whole == pieces);
}
