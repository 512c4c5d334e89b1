#include "gateway/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "gateway/http_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)1 << 30) /* bytes of one answer in memory */
#define HEADERS_MAX 8192
#define THREAD_STACK (512 << 10)

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {{200, "OK"},
                 {204, "No Content"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {411, "Length Required"},
                 {413, "Content Too Large"},
                 {415, "Unsupported Media Type"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {499, "Client Closed Request"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].status == status)
            return texts[i].text;
    }
    return "Unknown";
}

/* The trace of a W3C traceparent header, or one drawn here; and this request's place in it. */
static void choose_trace(struct http_exchange *exchange)
{
    const char *header = http_head_get(&exchange->head, "traceparent");
    struct trace_context parent;
    bool has_parent = header && trace_parse(header, &parent) == 0;

    if (!has_parent)
        trace_draw(&parent);
    exchange->span = trace_begin("HTTP", TRACE_SERVER, &parent, !has_parent, &exchange->trace);
    trace_id_format(&exchange->trace, exchange->trace_id);
    trace_format(&exchange->trace, exchange->traceparent);
}

/* The request is answered: its span, unless it was a probe's or a stranger's. */
static void end_span(struct http_exchange *exchange, int status)
{
    char error[32];

    if (!exchange->route || exchange->route->flags & HTTP_OPEN) {
        trace_drop(&exchange->span);
        return;
    }
    trace_set_name(exchange->span, "%s %s", exchange->head.method, exchange->route->path);
    trace_text(exchange->span, "http.request.method", exchange->head.method);
    trace_text(exchange->span, "http.route", exchange->route->path);
    trace_int(exchange->span, "http.response.status_code", status);
    trace_int(exchange->span, "http.request.body.size", (int64_t)exchange->body.size);
    trace_int(exchange->span, "http.response.body.size", (int64_t)exchange->sent_bytes);
    snprintf(error, sizeof(error), "HTTP %d", status);
    trace_end(&exchange->span, status >= 500 ? error : NULL);
}

struct http_exchange *http_exchange_create(struct http_server *server, struct http_head *head)
{
    struct http_exchange *exchange = calloc(1, sizeof(*exchange));

    if (!exchange)
        return NULL;
    atomic_init(&exchange->references, 1);
    exchange->server = server;
    exchange->head = *head;
    *head = (struct http_head){0};
    exchange->started_ns = clock_now_ns();
    exchange->no_body = !strcmp(exchange->head.method, "HEAD");
    choose_trace(exchange);
    buffer_init(&exchange->body, server->options.max_body_bytes);
    buffer_init(&exchange->headers, HEADERS_MAX);
    buffer_init(&exchange->out, ANSWER_MAX);
    pthread_mutex_init(&exchange->lock, NULL);
    pthread_cond_init(&exchange->drained, NULL);
    atomic_fetch_add(&server->active, 1);
    return exchange;
}

void http_exchange_release(struct http_exchange **exchange)
{
    struct http_exchange *self = *exchange;

    *exchange = NULL;
    if (!self || atomic_fetch_sub(&self->references, 1) > 1)
        return;
    atomic_fetch_sub(&self->server->buffered, self->reserved);
    atomic_fetch_sub(&self->server->active, 1);
    trace_drop(&self->span); /* of one that was never answered */
    http_head_fini(&self->head);
    buffer_fini(&self->body);
    buffer_fini(&self->headers);
    buffer_fini(&self->out);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->drained);
    free(self);
}

const struct http_head *http_head(const struct http_exchange *exchange)
{
    return &exchange->head;
}

const struct http_route *http_route(const struct http_exchange *exchange)
{
    return exchange->route;
}

const uint8_t *http_body(const struct http_exchange *exchange, size_t *size)
{
    *size = exchange->body.size;
    return exchange->body.data;
}

const char *http_trace_id(const struct http_exchange *exchange)
{
    return exchange->trace_id;
}

const char *http_traceparent(const struct http_exchange *exchange)
{
    return exchange->traceparent;
}

bool http_begun(const struct http_exchange *exchange)
{
    return exchange->begun;
}

void http_add_header(struct http_exchange *exchange, const char *name, const char *value)
{
    if (!value[strcspn(value, "\r\n")])
        buffer_printf(&exchange->headers, "%s: %s\r\n", name, value);
}

static void add_date(struct buffer *out)
{
    char text[40];
    time_t now = time(NULL);
    struct tm utc;

    if (gmtime_r(&now, &utc) && strftime(text, sizeof(text), "%a, %d %b %Y %T GMT", &utc))
        buffer_printf(out, "Date: %s\r\n", text);
}

static void add_cors(struct http_exchange *exchange)
{
    const char *origin = exchange->server->options.cors_origin;

    if (!origin)
        return;
    buffer_printf(&exchange->out, "Access-Control-Allow-Origin: %s\r\n", origin);
    buffer_printf(&exchange->out, "Access-Control-Expose-Headers: X-Request-ID, Retry-After\r\n");
}

/* The head of the answer. length < 0: chunks follow (to HTTP/1.0: the end of the connection ends
 * it). */
static void append_head(struct http_exchange *exchange, int status, const char *content_type,
                        int64_t length)
{
    struct buffer *out = &exchange->out;

    exchange->begun = true;
    exchange->status = status;
    exchange->chunked = length < 0 && exchange->head.minor == 1;
    if ((length < 0 && !exchange->chunked) || !exchange->head.keep_alive ||
        atomic_load(&exchange->server->stopping))
        exchange->close = true;
    buffer_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    add_date(out);
    if (content_type)
        buffer_printf(out, "Content-Type: %s\r\n", content_type);
    if (length >= 0 && status != 204)
        buffer_printf(out, "Content-Length: %lld\r\n", (long long)length);
    if (exchange->chunked)
        buffer_printf(out, "Transfer-Encoding: chunked\r\n");
    buffer_printf(out, "Connection: %s\r\n", exchange->close ? "close" : "keep-alive");
    buffer_printf(out, "X-Request-ID: %s\r\nX-Content-Type-Options: nosniff\r\n",
                  exchange->trace_id);
    add_cors(exchange);
    if (exchange->headers.size)
        buffer_append(out, exchange->headers.data, exchange->headers.size);
    buffer_append(out, "\r\n", 2);
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t size)
{
    pthread_mutex_lock(&exchange->lock);
    if (!exchange->begun) {
        append_head(exchange, status, content_type, (int64_t)size);
        if (!exchange->no_body && size) {
            if (buffer_append(&exchange->out, body, size) < 0)
                exchange->aborted = true;
            exchange->sent_bytes = size;
        }
        exchange->chunked = false;
    }
    pthread_mutex_unlock(&exchange->lock);
}

int http_begin(struct http_exchange *exchange, int status, const char *content_type)
{
    bool gone;

    pthread_mutex_lock(&exchange->lock);
    if (!exchange->begun)
        append_head(exchange, status, content_type, -1);
    gone = exchange->gone;
    pthread_mutex_unlock(&exchange->lock);
    http_loop_wake(exchange);
    return gone ? -EPIPE : 0;
}

int http_write(struct http_exchange *exchange, const void *data, size_t size)
{
    int err = -EPIPE;

    if (!size)
        return 0;
    pthread_mutex_lock(&exchange->lock);
    while (!exchange->gone && exchange->out.size - exchange->out_at >= HTTP_OUT_MAX)
        pthread_cond_wait(&exchange->drained, &exchange->lock);
    if (!exchange->gone) {
        err = 0;
        if (!exchange->no_body) {
            if (exchange->chunked)
                err = buffer_printf(&exchange->out, "%zx\r\n", size);
            if (!err)
                err = buffer_append(&exchange->out, data, size);
            if (!err && exchange->chunked)
                err = buffer_append(&exchange->out, "\r\n", 2);
            exchange->sent_bytes += size;
        }
        if (err)
            exchange->aborted = true;
    }
    pthread_mutex_unlock(&exchange->lock);
    http_loop_wake(exchange);
    return err;
}

void http_abort(struct http_exchange *exchange)
{
    pthread_mutex_lock(&exchange->lock);
    exchange->aborted = true;
    pthread_mutex_unlock(&exchange->lock);
}

bool http_gone(const struct http_exchange *exchange)
{
    struct http_exchange *self = (struct http_exchange *)exchange;
    bool gone;

    pthread_mutex_lock(&self->lock);
    gone = self->gone;
    pthread_mutex_unlock(&self->lock);
    return gone;
}

void http_on_gone(struct http_exchange *exchange, void (*wake)(void *arg), void *arg)
{
    pthread_mutex_lock(&exchange->lock);
    exchange->on_gone = wake;
    exchange->on_gone_arg = arg;
    if (exchange->gone && wake)
        wake(arg);
    pthread_mutex_unlock(&exchange->lock);
}

void http_exchange_abandon(struct http_exchange *exchange)
{
    pthread_mutex_lock(&exchange->lock);
    if (!exchange->gone) {
        exchange->gone = true;
        pthread_cond_broadcast(&exchange->drained);
        if (exchange->on_gone)
            exchange->on_gone(exchange->on_gone_arg);
    }
    pthread_mutex_unlock(&exchange->lock);
}

/* Probes and strangers are no events: what they hear is theirs to mind. */
static enum log_level level_of(const struct http_exchange *exchange, int status)
{
    if (!exchange->route || exchange->route->flags & HTTP_OPEN)
        return LOG_DEBUG;
    return status >= 500 ? LOG_WARN : LOG_INFO;
}

/* One line in the log and two series a request. */
static void account(struct http_exchange *exchange)
{
    const char *path = exchange->route ? exchange->route->path : "other";
    double seconds = (double)(clock_now_ns() - exchange->started_ns) / 1e9;
    int status = exchange->gone ? 499 : exchange->status;
    char labels[160];

    snprintf(labels, sizeof(labels), "route=\"%s\",status=\"%d\"", path, status);
    metric_add(metrics_counter("dragoman_http_requests_total", "Requests answered.", labels), 1);
    snprintf(labels, sizeof(labels), "route=\"%s\"", path);
    metric_observe(metrics_histogram("dragoman_http_request_duration_seconds",
                                     "From a request's head to the end of its answer.", labels),
                   seconds);
    trace_set_current(&exchange->trace);
    log_write(level_of(exchange, status), "%s %s: %d, %llu bytes in %.1f ms", exchange->head.method,
              exchange->head.path, status, (unsigned long long)exchange->sent_bytes,
              seconds * 1000);
    trace_set_current(NULL);
    end_span(exchange, status);
}

void http_exchange_end(struct http_exchange *exchange)
{
    if (!exchange->begun && !http_gone(exchange))
        exchange->server->options.fail(exchange, 500, "the request ended without an answer");
    pthread_mutex_lock(&exchange->lock);
    if (exchange->chunked && !exchange->aborted && !exchange->no_body)
        buffer_append(&exchange->out, "0\r\n\r\n", 5);
    if (exchange->aborted)
        exchange->close = true;
    account(exchange);
    exchange->ended = true;
    pthread_mutex_unlock(&exchange->lock);
    http_loop_wake(exchange);
}

/* Request threads: started when there is work and none is idle, up to the limit. */

static void run(struct http_exchange *exchange)
{
    trace_set_current(&exchange->trace);
    if (!http_gone(exchange))
        exchange->route->handle(exchange, exchange->server->options.context);
    trace_set_current(NULL);
    http_exchange_end(exchange);
}

static void *request_thread(void *arg)
{
    struct http_pool *pool = arg;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct http_exchange *exchange = pool->first;

        if (exchange) {
            pool->first = exchange->next;
            if (!pool->first)
                pool->last = NULL;
            pool->waiting--;
            pthread_mutex_unlock(&pool->lock);
            run(exchange);
            http_exchange_release(&exchange);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->stopping) {
            break;
        } else {
            pool->idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void start_thread(struct http_pool *pool)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    if (pthread_create(&pool->threads[pool->n_threads], &attributes, request_thread, pool) == 0)
        pool->n_threads++;
    pthread_attr_destroy(&attributes);
}

void http_pool_init(struct http_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
}

int http_pool_submit(struct http_pool *pool, struct http_exchange *exchange)
{
    const struct http_server_options *options = &exchange->server->options;
    int err = 0;

    pthread_mutex_lock(&pool->lock);
    if (pool->waiting >= pool->idle && pool->n_threads < options->threads)
        start_thread(pool);
    if (!pool->n_threads || pool->stopping || pool->waiting >= pool->idle + options->queue_limit) {
        err = -EAGAIN;
    } else {
        atomic_fetch_add(&exchange->references, 1);
        exchange->next = NULL;
        if (pool->last)
            pool->last->next = exchange;
        else
            pool->first = exchange;
        pool->last = exchange;
        pool->waiting++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}

void http_pool_stop(struct http_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
}

int http_server_start(const struct http_server_options *options, struct http_server **out)
{
    struct http_server *server = calloc(1, sizeof(*server));
    int err;

    if (!server)
        return -ENOMEM;
    server->options = *options;
    if (server->options.threads > THREADS_MAX)
        server->options.threads = THREADS_MAX;
    server->spare_fd = -1;
    pthread_mutex_init(&server->waking_lock, NULL);
    http_pool_init(&server->pool);
    err = http_loop_start(server);
    if (err < 0) {
        http_pool_stop(&server->pool);
        pthread_mutex_destroy(&server->waking_lock);
        free(server);
        return err;
    }
    *out = server;
    return 0;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

size_t http_server_active(const struct http_server *server)
{
    return atomic_load(&server->active);
}

void http_server_stop(struct http_server **server, int64_t grace_ms)
{
    int64_t until = clock_now_ms() + grace_ms;

    if (!*server)
        return;
    atomic_store(&(*server)->stopping, 1);
    lws_cancel_service((*server)->context);
    while (http_server_active(*server) && clock_now_ms() < until)
        usleep(5000);
    http_loop_stop(*server); /* abandons what is left */
    http_pool_stop(&(*server)->pool);
    http_loop_free(*server);
    pthread_mutex_destroy(&(*server)->waking_lock);
    free(*server);
    *server = NULL;
}
