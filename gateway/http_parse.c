#include "gateway/http_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CHUNK_DIGITS_MAX 15
#define CHUNK_OVERHEAD_MAX 16384

static bool is_token(const char *text)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *text && !text[strspn(text, allowed)];
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

ssize_t http_unescape(char *text, bool plus)
{
    char *out = text;

    for (const char *in = text; *in; in++) {
        char c = *in;

        if (c == '%') {
            int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);

            if (low < 0 || !(high | low))
                return -EBADMSG;
            c = (char)(high << 4 | low);
            in += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        *out++ = c;
    }
    *out = '\0';
    return out - text;
}

/* The head's length with its blank line; 0 when that has not come yet. */
static size_t head_length(const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);

    return end ? (size_t)(end - data) + 4 : 0;
}

/* Cut the next line off *at. NULL at the blank line, or with *why set. */
static char *next_line(char **at, const char **why)
{
    char *line = *at, *end = strstr(line, "\r\n");

    if (!end || end == line)
        return NULL;
    *end = '\0';
    *at = end + 2;
    for (const char *c = line; *c; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
            *why = "a control character in the head";
            return NULL;
        }
    }
    return line;
}

static int parse_target(char *target, struct http_head *head, const char **why)
{
    char *query;

    if (!strncasecmp(target, "http://", 7)) { /* as sent to proxies */
        char *path = strchr(target + 7, '/');

        target = path ? path : strcpy(target, "/");
    }
    *why = "a target that is no path";
    if (*target != '/' && !(!strcmp(target, "*") && !strcmp(head->method, "OPTIONS")))
        return -EBADMSG;
    query = strchr(target, '?');
    head->query = query ? query + 1 : "";
    if (query)
        *query = '\0';
    if (http_unescape(target, false) < 0)
        return -EBADMSG;
    head->path = target;
    return strlen(target) > HTTP_PATH_MAX ? -EBADMSG : 0;
}

static int parse_request_line(char *line, struct http_head *head, const char **why)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;

    *why = "a request line that is none";
    if (!version)
        return -EBADMSG;
    *target++ = '\0';
    *version++ = '\0';
    if (strlen(version) != 8 || strncmp(version, "HTTP/", 5) || !is_token(line))
        return -EBADMSG;
    if (strcmp(version, "HTTP/1.1") && strcmp(version, "HTTP/1.0")) {
        *why = "HTTP/1.1 and HTTP/1.0 are spoken here";
        return -EPROTONOSUPPORT;
    }
    head->minor = version[7] - '0';
    head->method = line;
    return parse_target(target, head, why);
}

static int parse_header(char *line, struct http_head *head, const char **why)
{
    char *colon = strchr(line, ':'), *value, *end;

    *why = "too many headers";
    if (head->n_headers == HTTP_HEADERS_MAX)
        return -EMSGSIZE;
    *why = "a header that is none";
    if (!colon)
        return -EBADMSG;
    *colon = '\0';
    if (!is_token(line))
        return -EBADMSG;
    for (char *c = line; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    value = colon + 1 + strspn(colon + 1, " \t");
    for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
        end[-1] = '\0';
    head->headers[head->n_headers++] = (struct http_header){line, value};
    return 0;
}

static int parse_length(const char *text, int64_t *length)
{
    char *end;

    if (!*text || text[strspn(text, "0123456789")] || strlen(text) > 15)
        return -EBADMSG;
    *length = strtoll(text, &end, 10);
    return 0;
}

/* What the headers say about the message itself. */
static int parse_framing(struct http_head *head, const char **why)
{
    bool host = false;

    head->content_length = -1;
    head->keep_alive = head->minor == 1;
    for (size_t i = 0; i < head->n_headers; i++) {
        const char *name = head->headers[i].name, *value = head->headers[i].value;

        if (!strcmp(name, "content-length")) {
            *why = "a Content-Length that is no length, or two";
            if (head->content_length >= 0 || parse_length(value, &head->content_length) < 0)
                return -EBADMSG;
        } else if (!strcmp(name, "transfer-encoding")) {
            *why = "Transfer-Encoding: only \"chunked\" is understood";
            if (head->chunked || strcasecmp(value, "chunked"))
                return -ENOTSUP;
            head->chunked = true;
        } else if (!strcmp(name, "connection")) {
            if (strcasestr(value, "close"))
                head->keep_alive = false;
            else if (strcasestr(value, "keep-alive"))
                head->keep_alive = true;
        } else if (!strcmp(name, "expect")) {
            head->expects_continue = !strcasecmp(value, "100-continue");
        } else if (!strcmp(name, "host")) {
            *why = "two Host headers";
            if (host)
                return -EBADMSG;
            host = true;
        }
    }
    *why = "no Host header";
    if (!host && head->minor == 1)
        return -EBADMSG;
    *why = "both a Content-Length and chunks";
    return head->chunked && head->content_length >= 0 ? -EBADMSG : 0;
}

static int parse_head(struct http_head *head, const char **why)
{
    char *at = head->text, *line;
    int err;

    *why = NULL;
    line = next_line(&at, why);
    if (!line) {
        *why = *why ? *why : "no request line";
        return -EBADMSG;
    }
    err = parse_request_line(line, head, why);
    if (err < 0)
        return err;
    *why = NULL;
    while ((line = next_line(&at, why))) {
        err = parse_header(line, head, why);
        if (err < 0)
            return err;
        *why = NULL;
    }
    return *why ? -EBADMSG : parse_framing(head, why);
}

ssize_t http_head_parse(const void *data, size_t size, struct http_head *out, const char **why)
{
    struct http_head head = {0};
    size_t length = head_length(data, size < HTTP_HEAD_MAX ? size : HTTP_HEAD_MAX);
    int err = -ENOMEM;

    *why = "the request's head is too large";
    if (!length)
        return size < HTTP_HEAD_MAX ? 0 : -EMSGSIZE;
    *why = "a NUL in the head";
    if (memchr(data, '\0', length))
        return -EBADMSG;
    *why = "out of memory";
    head.text = strndup(data, length);
    if (head.text)
        err = parse_head(&head, why);
    if (err < 0) {
        http_head_fini(&head);
        return err;
    }
    *out = head;
    return (ssize_t)length;
}

void http_head_fini(struct http_head *head)
{
    free(head->text);
    *head = (struct http_head){0};
}

const char *http_head_get(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_headers; i++) {
        if (!strcmp(head->headers[i].name, name))
            return head->headers[i].value;
    }
    return NULL;
}

/* One byte outside of chunk data. */
static int chunk_byte(struct http_chunks *chunks, uint8_t byte)
{
    int digit = hex_digit((char)byte);

    switch (chunks->state) {
    case CHUNK_SIZE:
        if (digit >= 0) {
            chunks->left = chunks->left << 4 | (unsigned)digit;
            return ++chunks->digits > CHUNK_DIGITS_MAX ? -EBADMSG : 0;
        }
        if (!chunks->digits)
            return -EBADMSG;
        chunks->state = byte == '\r' ? CHUNK_LF : CHUNK_EXTENSION;
        return byte == '\r' || byte == ';' || byte == ' ' || byte == '\t' ? 0 : -EBADMSG;
    case CHUNK_EXTENSION:
        if (byte == '\r')
            chunks->state = CHUNK_LF;
        return byte == '\n' || ++chunks->overhead > CHUNK_OVERHEAD_MAX ? -EBADMSG : 0;
    case CHUNK_LF: /* after a size, or after a chunk's data (then digits is 0) */
        if (byte != '\n')
            return -EBADMSG;
        if (!chunks->digits)
            chunks->state = CHUNK_SIZE;
        else
            chunks->state = chunks->left ? CHUNK_DATA : CHUNK_TRAILER;
        chunks->digits = 0;
        return 0;
    case CHUNK_CR:
        chunks->state = CHUNK_LF;
        return byte == '\r' ? 0 : -EBADMSG;
    case CHUNK_TRAILER: /* lines, dropped; an empty one ends the body */
        if (++chunks->overhead > CHUNK_OVERHEAD_MAX)
            return -EBADMSG;
        if (byte == '\n') {
            if (!chunks->line)
                chunks->state = CHUNK_DONE;
            chunks->line = 0;
        } else if (byte != '\r') {
            chunks->line++;
        }
        return 0;
    default:
        return -EBADMSG;
    }
}

int http_chunks_next(struct http_chunks *chunks, const uint8_t *data, size_t size, size_t *consumed,
                     const uint8_t **piece, size_t *n)
{
    size_t at = 0;

    *piece = NULL;
    *n = 0;
    for (; at < size && chunks->state != CHUNK_DATA && chunks->state != CHUNK_DONE; at++) {
        if (chunk_byte(chunks, data[at]) < 0)
            return -EBADMSG;
    }
    if (chunks->state == CHUNK_DATA && at < size) {
        *n = size - at < chunks->left ? size - at : (size_t)chunks->left;
        *piece = data + at;
        at += *n;
        chunks->left -= *n;
        if (!chunks->left)
            chunks->state = CHUNK_CR;
    }
    *consumed = at;
    return chunks->state == CHUNK_DONE;
}
