/*
 * http_parse.h - HTTP/1.1 messages from bytes (RFC 9112): request heads and chunked bodies
 *
 * Strict where leniency lets two readers disagree: lines end with CRLF, no folded headers, no
 * space before a colon, one length only. Needs no socket; tests/fuzz/fuzz_http.c feeds it.
 */
#ifndef GATEWAY_HTTP_PARSE_H
#define GATEWAY_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP_HEAD_MAX 16384 /* bytes of a request's head */
#define HTTP_HEADERS_MAX 64
#define HTTP_PATH_MAX 512 /* decoded */

struct http_header {
    const char *name; /* lower case */
    const char *value;
};

struct http_head {
    char *text; /* owned; everything below points into it */
    const char *method;
    const char *path;  /* percent-decoded, starts with '/' */
    const char *query; /* raw, what follows the '?'; "" */
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t n_headers;
    int minor; /* of HTTP/1.minor: 0 or 1 */
    bool keep_alive, chunked, expects_continue;
    int64_t content_length; /* -1: none said */
};

/**
 * Read a head from the start of what has arrived.
 *
 * @param why  set on failure: what is wrong with it
 * @return bytes that it takes, the blank line included; 0: more must come; -EBADMSG (status 400);
 *         -EMSGSIZE (431); -EPROTONOSUPPORT another HTTP (505); -ENOTSUP another transfer coding
 * (501); -ENOMEM
 */
ssize_t http_head_parse(const void *data, size_t size, struct http_head *out, const char **why);
void http_head_fini(struct http_head *head);

/** A header's value by lower-case name; NULL. */
const char *http_head_get(const struct http_head *head, const char *name);

/** Decode %XX (and with `plus` '+') in place. @return the new length; -EBADMSG for a bad escape or
 * NUL */
ssize_t http_unescape(char *text, bool plus);

struct http_chunks {
    enum {
        CHUNK_SIZE,
        CHUNK_EXTENSION,
        CHUNK_DATA,
        CHUNK_CR,
        CHUNK_LF,
        CHUNK_TRAILER,
        CHUNK_DONE
    } state;
    uint64_t left;   /* of the chunk at hand */
    unsigned digits; /* of the size */
    size_t overhead; /* bytes of trailers and extensions so far, bounded */
    size_t line;     /* bytes of the trailer line at hand */
};

/**
 * Find the next piece of a chunked body in what has arrived. Zero-initialise *chunks first.
 *
 * @param consumed  bytes of `data` that are done with
 * @param piece     body bytes inside `data`; NULL when there are none yet
 * @return 0; 1 when the body is complete; -EBADMSG
 */
int http_chunks_next(struct http_chunks *chunks, const uint8_t *data, size_t size, size_t *consumed,
                     const uint8_t **piece, size_t *n);

#endif
