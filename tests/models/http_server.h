/*
 * http_server.h - a web server for tests: on the loopback interface, as bad as a test wants it
 */
#ifndef TESTS_MODELS_HTTP_SERVER_H
#define TESTS_MODELS_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_ROUTES_MAX 16

/* What one path answers. Strings are borrowed. */
struct http_route {
    const char *path; /* "/a/b" */
    const char *body;
    size_t size;
    const char *type;  /* NULL: application/octet-stream */
    const char *moved; /* a redirection there */
    int status;        /* 0: 200, or 206 for a range */
    int fail_first;    /* so many requests get 503 */
    bool ignore_range; /* always send everything */
    size_t cut_at;     /* close after so many bytes of an answer; 0: do not */
    int cut_times;     /* so often */
    int pause_ms;      /* between pieces of 16 KiB */
};

struct http_server;

struct http_server *http_server_start(void); /* fails the test when it cannot */
void http_server_stop(struct http_server **server);
void http_server_add(struct http_server *server, const struct http_route *route);
/** "http://127.0.0.1:PORT" */
const char *http_server_url(const struct http_server *server);
/** How many requests a path got, and the last one's Range ("bytes=5-"; "" when none; borrowed). */
int http_server_requests(struct http_server *server, const char *path);
const char *http_server_range(struct http_server *server, const char *path);
/** Bytes of bodies sent for a path. */
size_t http_server_sent(struct http_server *server, const char *path);

#endif
