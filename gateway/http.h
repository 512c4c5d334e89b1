/*
 * http.h - the HTTP/1.1 server: one event loop, a bounded pool of request threads
 *
 * libwebsockets runs the loop and owns the sockets; the protocol is http_parse.h's. (Its own HTTP
 * parser, 4.1, takes no chunked bodies, spins when bytes arrive behind a GET that is being
 * answered, so that a client's leaving goes unseen, and asserts on states that a client can reach.)
 *
 * A request is read whole, within limits that are checked before anything is kept, then handled: at
 * once on the loop (HTTP_INLINE) or on a request thread. An answer may be longer than memory:
 * writing waits while a slow client has HTTP_OUT_MAX bytes before it. When the client leaves, the
 * exchange says so at once to whoever asked for it.
 */
#ifndef GATEWAY_HTTP_H
#define GATEWAY_HTTP_H

#include "gateway/http_parse.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_OUT_MAX (256 << 10) /* bytes that wait for a slow client */

struct http_server;
struct http_exchange;

enum http_route_flags {
    HTTP_INLINE = 1, /* handled on the loop: quick, never waits */
    HTTP_UPLOAD = 2, /* takes a body of max_body_bytes; others one of max_small_bytes */
    HTTP_OPEN = 4,   /* needs no API key */
};

struct http_route {
    const char *method; /* "GET" answers HEAD too */
    const char *path;   /* "/v1/models"; a final '*' stands for any rest */
    unsigned flags;
    void (*handle)(struct http_exchange *exchange, void *context);
};

struct http_server_options {
    const char *listen;              /* "127.0.0.1:8080" */
    const struct http_route *routes; /* ended by a NULL method */
    void *context;                   /* for the handlers */
    /** Write an error in the shape of the path's API. Any thread. */
    void (*fail)(struct http_exchange *exchange, int status, const char *message);
    /** Whether a request may go on, asked before its body is read; else it has been answered. */
    bool (*admit)(struct http_exchange *exchange, void *context);
    const char *cors_origin; /* NULL: no CORS */
    size_t max_body_bytes, max_small_bytes, max_buffered_bytes;
    uint32_t threads, queue_limit, max_connections;
    int64_t idle_timeout_ms;
};

/** @return 0; -EINVAL for a bad address; -EADDRINUSE and others of bind(2); -ENOMEM */
int http_server_start(const struct http_server_options *options, struct http_server **out);
int http_server_port(const struct http_server *server);
/** Requests being handled or waiting for it. */
size_t http_server_active(const struct http_server *server);
/** No new connections or requests; running ones get grace_ms, then they are told the client has
 * gone. */
void http_server_stop(struct http_server **server, int64_t grace_ms);

/*
 * The request.
 */

const struct http_head *http_head(const struct http_exchange *exchange);
const struct http_route *http_route(const struct http_exchange *exchange);
const uint8_t *http_body(const struct http_exchange *exchange, size_t *size);
/** 32 hex digits: the caller's (traceparent) or drawn here. */
const char *http_trace_id(const struct http_exchange *exchange);
/** A W3C traceparent with the request's own span: what calls made for it carry on. */
const char *http_traceparent(const struct http_exchange *exchange);

/*
 * The answer: either http_respond(), or http_begin(), any number of http_write(), and return.
 * One thread at a time.
 */

/** Add a header to the answer. Before it begins. Values with line ends are dropped. */
void http_add_header(struct http_exchange *exchange, const char *name, const char *value);
void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t size);
/** The head of an answer whose length is not known. */
int http_begin(struct http_exchange *exchange, int status, const char *content_type);
/** Waits while the client is slow. @return 0; -EPIPE when it has gone */
int http_write(struct http_exchange *exchange, const void *data, size_t size);
bool http_begun(const struct http_exchange *exchange);

/** Cut the connection when the handler returns: the client must see that the answer is not whole.
 */
void http_abort(struct http_exchange *exchange);

/** Whether the client has gone. */
bool http_gone(const struct http_exchange *exchange);
/**
 * Call `wake` from the loop when the client leaves (at once if it has). It must not block. NULL
 * takes it back: after that returns it is not running any more.
 */
void http_on_gone(struct http_exchange *exchange, void (*wake)(void *arg), void *arg);

const char *http_status_text(int status);

#endif
