#include "base/admin_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Where the head ends, past its blank line; bare LF counts as a line's end too. 0: not here. */
static size_t head_size(const char *data, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++) {
        if (data[i] != '\n')
            continue;
        if (data[i + 1] == '\n')
            return i + 2;
        if (data[i + 1] == '\r' && i + 2 < size && data[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

/* The line at data, without its end. @return bytes with the end */
static size_t line_size(const char *data, size_t size, size_t *text)
{
    const char *end = memchr(data, '\n', size);
    size_t whole = end ? (size_t)(end - data) + 1 : size;

    *text = whole - (end ? 1 : 0);
    if (*text > 0 && data[*text - 1] == '\r')
        --*text;
    return whole;
}

static bool starts(const char *data, size_t size, const char *word)
{
    size_t n = strlen(word);

    return size >= n && memcmp(data, word, n) == 0;
}

static void read_path(const char *target, size_t size, struct admin_request *out)
{
    size_t n = 0;

    while (n < size && n + 1 < ADMIN_PATH_MAX && target[n] != '?') {
        out->path[n] = target[n];
        n++;
    }
    out->path[n] = '\0';
}

/* "GET /path HTTP/1.1" */
static void read_request_line(const char *line, size_t size, struct admin_request *out)
{
    const char *space = memchr(line, ' ', size);
    const char *target = space ? space + 1 : NULL;
    size_t rest = space ? size - (size_t)(target - line) : 0;
    const char *version = target ? memchr(target, ' ', rest) : NULL;

    out->status = 400;
    if (!version || memchr(line, '\0', size) || target[0] != '/')
        return;
    rest -= (size_t)(version + 1 - target);
    if (rest != 8 || !starts(version + 1, rest, "HTTP/")) /* all of "HTTP/1.1" */
        return;
    out->status = starts(version + 1, rest, "HTTP/1.") ? 200 : 505;
    out->keep_alive = version[8] == '1';
    out->head = starts(line, size, "HEAD ");
    if (out->status == 200 && !out->head && !starts(line, size, "GET "))
        out->status = 405;
    read_path(target, (size_t)(version - target), out);
}

/* A body would be taken for the next request: it ends the connection instead. */
static void read_header(const char *line, size_t size, struct admin_request *out)
{
    static const char CLOSE[] = "close", CONNECTION[] = "connection:";

    if (size >= 15 && strncasecmp(line, "content-length:", 15) == 0)
        out->keep_alive = false;
    if (size >= 18 && strncasecmp(line, "transfer-encoding:", 18) == 0)
        out->keep_alive = false;
    if (size < sizeof(CONNECTION) - 1 || strncasecmp(line, CONNECTION, sizeof(CONNECTION) - 1) != 0)
        return;
    for (size_t i = sizeof(CONNECTION) - 1; i + sizeof(CLOSE) - 1 <= size; i++)
        if (strncasecmp(line + i, CLOSE, sizeof(CLOSE) - 1) == 0)
            out->keep_alive = false;
}

ssize_t admin_request_read(const char *data, size_t size, struct admin_request *out)
{
    size_t end, at, text;

    memset(out, 0, sizeof(*out));
    end = head_size(data, size < ADMIN_REQUEST_MAX ? size : ADMIN_REQUEST_MAX);
    if (end == 0)
        return size >= ADMIN_REQUEST_MAX ? -EMSGSIZE : 0;
    at = line_size(data, end, &text);
    read_request_line(data, text, out);
    while (at < end) {
        size_t whole = line_size(data + at, end - at, &text);

        read_header(data + at, text, out);
        at += whole;
    }
    if (out->status != 200)
        out->keep_alive = false;
    return (ssize_t)end;
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

int admin_answer_write(const struct admin_request *request, int status, const void *body,
                       size_t size, struct buffer *out)
{
    int err =
        buffer_printf(out,
                      "HTTP/1.1 %d %s\r\n"
                      "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                      "Content-Length: %zu\r\nCache-Control: no-store\r\n%s%s\r\n",
                      status, reason_of(status), size, status == 405 ? "Allow: GET, HEAD\r\n" : "",
                      request->keep_alive ? "" : "Connection: close\r\n");

    return err == 0 && !request->head ? buffer_append(out, body, size) : err;
}
