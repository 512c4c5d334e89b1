#include "tests/gateway/client.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define REPLY_MAX ((size_t)512 << 20)

int client_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail_msg("cannot connect to port %d: %s", port, strerror(errno));
    return fd;
}

bool client_send(int fd, const void *data, size_t size)
{
    const char *at = data;

    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool client_say(int fd, const char *text)
{
    return client_send(fd, text, strlen(text));
}

/* One more read. @return bytes; 0: closed; -1: nothing in time */
static ssize_t more(int fd, struct buffer *in, int64_t until)
{
    char bytes[65536];
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    int64_t left = until - clock_now_ms();
    ssize_t n;

    if (left < 0 || poll(&poller, 1, (int)left) <= 0)
        return -1;
    n = recv(fd, bytes, sizeof(bytes), 0);
    if (n > 0)
        assert_int_equal(buffer_append(in, bytes, (size_t)n), 0);
    return n > 0 ? n : 0;
}

const char *reply_header(const struct reply *reply, const char *name)
{
    static char value[1024];
    size_t n = strlen(name);

    for (const char *line = strstr(reply->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, name, n) && line[2 + n] == ':') {
            const char *at = line + 3 + n + strspn(line + 3 + n, " ");

            snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
            return value;
        }
    }
    return NULL;
}

/* Undo chunks in place. @return whether the last one is there */
static bool unchunk(struct buffer *body)
{
    size_t at = 0, out = 0;

    while (at < body->size) {
        char *end;
        size_t n = strtoul((char *)body->data + at, &end, 16);

        at = (size_t)((uint8_t *)end - body->data) + 2;
        if (!n) {
            body->size = out;
            body->data[out] = '\0';
            return true;
        }
        if (at > body->size || n + 2 > body->size - at)
            break;
        memmove(body->data + out, body->data + at, n);
        out += n;
        at += n + 2;
    }
    body->size = out;
    return false;
}

static bool chunks_end(const struct buffer *body)
{
    return body->size >= 5 && !memcmp(body->data + body->size - 5, "0\r\n\r\n", 5);
}

static void read_body(int fd, struct reply *reply, int64_t until)
{
    const char *length = reply_header(reply, "Content-Length");
    const char *coding;
    size_t want = length ? strtoul(length, NULL, 10) : 0;
    bool has_length = length, chunked;
    ssize_t n = 1;

    coding = reply_header(reply, "Transfer-Encoding");
    chunked = coding && !strcmp(coding, "chunked");
    while (n > 0 && !(has_length && reply->body.size >= want) &&
           !(chunked && chunks_end(&reply->body)))
        n = more(fd, &reply->body, until);
    reply->whole = chunked ? unchunk(&reply->body) : has_length ? reply->body.size == want : n == 0;
}

bool client_read(int fd, struct reply *reply, bool has_body, int timeout_ms)
{
    int64_t until = clock_now_ms() + timeout_ms;
    const char *end = NULL, *connection;
    size_t head;

    *reply = (struct reply){0};
    buffer_init(&reply->body, REPLY_MAX);
    while (!reply->body.size ||
           !(end = memmem(reply->body.data, reply->body.size, "\r\n\r\n", 4))) {
        if (more(fd, &reply->body, until) <= 0)
            return false;
    }
    head = (size_t)(end - (const char *)reply->body.data) + 4;
    snprintf(reply->head, sizeof(reply->head), "%.*s", (int)head, (char *)reply->body.data);
    buffer_consume(&reply->body, head);
    assert_int_equal(sscanf(reply->head, "HTTP/1.1 %d", &reply->status), 1);
    connection = reply_header(reply, "Connection");
    reply->closes = connection && !strcmp(connection, "close");
    if (has_body && reply->status != 204 && reply->status != 100)
        read_body(fd, reply, until);
    return true;
}

void reply_fini(struct reply *reply)
{
    buffer_fini(&reply->body);
}

void client_request(int port, const char *method, const char *path, const char *head,
                    const void *body, size_t size, struct reply *reply)
{
    int fd = client_connect(port);
    char start[2048];

    snprintf(start, sizeof(start),
             "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n%s\r\n", method, path,
             size, head);
    assert_true(client_say(fd, start));
    client_send(fd, body, size);
    if (!client_read(fd, reply, strcmp(method, "HEAD") != 0, 120000))
        fail_msg("%s %s: no answer", method, path);
    close(fd);
}

void client_form(struct buffer *body, const void *file, size_t size, const char *filename, ...)
{
    va_list args;
    const char *name;

    buffer_init(body, REPLY_MAX);
    va_start(args, filename);
    while ((name = va_arg(args, const char *)))
        buffer_printf(body,
                      "--XboundaryX\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n",
                      name, va_arg(args, const char *));
    va_end(args);
    if (file) {
        buffer_printf(body,
                      "--XboundaryX\r\nContent-Disposition: form-data; name=\"file\"; "
                      "filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                      filename);
        buffer_append(body, file, size);
        buffer_printf(body, "\r\n");
    }
    buffer_printf(body, "--XboundaryX--\r\n");
}
