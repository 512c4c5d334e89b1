/*
 * http_private.h - what http.c (exchanges, request threads) and http_loop.c (connections) share
 */
#ifndef GATEWAY_HTTP_PRIVATE_H
#define GATEWAY_HTTP_PRIVATE_H

#include "base/buffer.h"
#include "base/trace.h"
#include "gateway/http.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>

#define THREADS_MAX 256

/*
 * One request and its answer. The loop and a request thread each hold a reference. `lock` guards
 * what stands below it; the rest is written before the exchange is handed over.
 */
struct http_exchange {
    atomic_int references;
    struct http_server *server;
    struct http_head head;
    const struct http_route *route;
    struct buffer body;
    size_t reserved; /* of the server's max_buffered_bytes */
    struct trace_context trace;
    struct trace_span *span; /* NULL: not recorded */
    char trace_id[TRACE_ID_TEXT], traceparent[TRACE_PARENT_TEXT];
    int64_t started_ns;
    struct http_exchange *next; /* in the queue */

    struct buffer headers; /* of the answer, added by the handler */
    bool begun, chunked, no_body;
    int status;
    uint64_t sent_bytes; /* of the answer's body */

    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct buffer out; /* framed, from `out_at` on not yet sent */
    size_t out_at;
    bool ended;   /* the answer is complete */
    bool close;   /* no further request on this connection */
    bool aborted; /* the answer stops short */
    bool gone;    /* the client, or the server's patience */
    bool waking;  /* in the server's list of exchanges to look at */
    struct http_exchange *next_waking;
    struct http_connection *connection; /* NULL once gone; the loop's, others only test it */
    void (*on_gone)(void *arg);
    void *on_gone_arg;
};

struct http_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct http_exchange *first, *last; /* waiting */
    uint32_t waiting, idle, n_threads;
    bool stopping;
    pthread_t threads[THREADS_MAX];
};

struct http_server {
    struct http_server_options options;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct lws *listener;
    pthread_t loop;
    bool loop_runs;
    int port;
    int spare_fd;        /* given up for a moment when descriptors run out */
    atomic_int stopping; /* 1: no new requests; 2: leave the loop */
    atomic_size_t active, buffered;
    uint32_t n_connections;
    struct http_connection *connections; /* the loop's */
    lws_sorted_usec_list_t sweep;
    struct http_pool pool;
    pthread_mutex_t waking_lock;
    struct http_exchange *waking;
};

/* http.c */
struct http_exchange *http_exchange_create(struct http_server *server, struct http_head *head);
void http_exchange_release(struct http_exchange **exchange);
/** Finish the answer, whatever the handler left undone. */
void http_exchange_end(struct http_exchange *exchange);
/** The client has left, or must. */
void http_exchange_abandon(struct http_exchange *exchange);
/** @return 0; -EAGAIN when the queue is full */
int http_pool_submit(struct http_pool *pool, struct http_exchange *exchange);
void http_pool_init(struct http_pool *pool);
/** Runs what still waits (abandoned exchanges end quickly), joins the threads. */
void http_pool_stop(struct http_pool *pool);

/* http_loop.c */
int http_loop_start(struct http_server *server);
/** Leave the loop; all exchanges are abandoned, their connections closed. */
void http_loop_stop(struct http_server *server);
/** Once no request thread may wake the loop any more. */
void http_loop_free(struct http_server *server);
/** Have the loop look at an exchange's output. Any thread. */
void http_loop_wake(struct http_exchange *exchange);

#endif
