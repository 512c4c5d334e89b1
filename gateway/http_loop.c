#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "gateway/http_private.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX (64 << 10)
#define INPUT_MAX (HTTP_HEAD_MAX + READ_MAX) /* bytes ahead of what is being answered */
#define HEAD_TIME_MS 10000                   /* from a request's first byte to its last header */
#define BODY_GRACE_MS 30000 /* then a body must have come at BODY_RATE on the average */
#define BODY_RATE 8192      /* bytes a second */
#define TAKE_MIN 4096       /* bytes within the idle time, of a client that does not take all */
#define LINGER_MS 2000      /* after the last answer, for the client to read it */
#define LINGER_BYTES (64 << 20)
#define SWEEP_US (250 * LWS_US_PER_MS)
#define WOKEN_MAX 64 /* exchanges looked at in a row */
#define BACKLOG 1024
#define SPARE_DESCRIPTORS 64 /* not for clients: models, logs, the mesh */

struct http_connection {
    struct http_server *server;
    struct lws *wsi;
    int fd;
    struct http_connection *next, *previous;
    enum {
        READING_HEAD,
        READING_BODY,
        ANSWERING,
        LINGERING /* nothing more goes out; what still comes in is dropped */
    } state;
    struct buffer input;
    struct http_chunks chunks;
    struct http_exchange *exchange;
    int64_t since_ms;    /* in this state */
    int64_t progress_ms; /* the client last sent or took something */
    size_t taken;        /* bytes of the answer since then */
    uint64_t dropped;
    bool paused; /* not reading: too much has come ahead */
};

/* What a socket is read into, before it is known whose body it belongs to. */
static _Thread_local uint8_t scratch[READ_MAX];

static void set_state(struct http_connection *connection, int state)
{
    connection->state = state;
    connection->since_ms = connection->progress_ms = clock_now_ms();
}

static void pause_reading(struct http_connection *connection, bool pause)
{
    if (connection->paused == pause)
        return;
    connection->paused = pause;
    lws_rx_flow_control(connection->wsi, !pause);
}

/* The loop notices the end of the socket next time round and closes. */
static void kill_connection(struct http_connection *connection)
{
    shutdown(connection->fd, SHUT_RDWR);
    pause_reading(connection, false);
}

/* No more answers. Closing at once could lose the last one: the client may still be sending. */
static void linger(struct http_connection *connection)
{
    shutdown(connection->fd, SHUT_WR);
    set_state(connection, LINGERING);
    connection->input.size = 0;
    pause_reading(connection, false);
}

static void answer_done(struct http_connection *connection)
{
    bool close = connection->exchange->close || atomic_load(&connection->server->stopping);

    connection->exchange->connection = NULL;
    http_exchange_release(&connection->exchange);
    if (close) {
        linger(connection);
        return;
    }
    set_state(connection, READING_HEAD);
    pause_reading(connection, false);
}

/* Send what waits. @return 0; -EPIPE */
static int send_out(struct http_connection *connection, bool *finished)
{
    struct http_exchange *exchange = connection->exchange;
    int err = 0;

    pthread_mutex_lock(&exchange->lock);
    while (exchange->out_at < exchange->out.size) {
        ssize_t sent = send(connection->fd, exchange->out.data + exchange->out_at,
                            exchange->out.size - exchange->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                err = -EPIPE;
            break;
        }
        exchange->out_at += (size_t)sent;
        connection->taken += (size_t)sent;
        if (connection->taken >= TAKE_MIN || exchange->out_at == exchange->out.size) {
            connection->taken = 0;
            connection->progress_ms = clock_now_ms();
        }
    }
    if (exchange->out_at == exchange->out.size) {
        exchange->out_at = exchange->out.size = 0;
        *finished = exchange->ended;
    } else if (exchange->out_at > HTTP_OUT_MAX && exchange->out_at > exchange->out.size / 2) {
        buffer_consume(&exchange->out, exchange->out_at);
        exchange->out_at = 0;
    }
    if (exchange->out.size - exchange->out_at < HTTP_OUT_MAX)
        pthread_cond_signal(&exchange->drained);
    if (exchange->out.size && !err)
        lws_callback_on_writable(connection->wsi);
    pthread_mutex_unlock(&exchange->lock);
    return err;
}

static void flush(struct http_connection *connection)
{
    bool finished = false;

    if (!connection->exchange || connection->state == LINGERING)
        return;
    if (send_out(connection, &finished) < 0) {
        http_exchange_abandon(connection->exchange);
        kill_connection(connection);
        return;
    }
    if (!finished || connection->state != ANSWERING)
        return;
    if (connection->exchange->aborted) { /* no end of chunks, no polite close: it is not whole */
        const struct linger now = {.l_onoff = 1, .l_linger = 0};

        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        kill_connection(connection);
        return;
    }
    answer_done(connection);
}

/* Answer without a handler. What is still to come of the request is not wanted. */
static void refuse(struct http_connection *connection, int status, const char *why)
{
    struct http_exchange *exchange = connection->exchange;

    exchange->close |= exchange->head.chunked || exchange->head.content_length > 0;
    atomic_fetch_sub(&connection->server->buffered, exchange->reserved);
    exchange->reserved = 0;
    buffer_fini(&exchange->body);
    if (!exchange->begun)
        connection->server->options.fail(exchange, status, why);
    set_state(connection, ANSWERING);
    http_exchange_end(exchange);
}

/* A head that is none: there is no request to answer, so one is made up. */
static void refuse_head(struct http_connection *connection, int err, const char *why)
{
    struct http_head head = {.method = "GET", .path = "/", .query = "", .minor = 1};
    char message[160];
    int status = err == -EMSGSIZE          ? 431
                 : err == -EPROTONOSUPPORT ? 505
                 : err == -ENOTSUP         ? 501
                                           : 400;

    snprintf(message, sizeof(message), "malformed request: %s", why);
    connection->exchange = http_exchange_create(connection->server, &head);
    if (!connection->exchange) {
        kill_connection(connection);
        return;
    }
    connection->exchange->connection = connection;
    connection->exchange->close = true; /* who knows where the next one would begin */
    refuse(connection, status, message);
}

static bool path_matches(const char *pattern, const char *path)
{
    size_t n = strlen(pattern);

    if (n && pattern[n - 1] == '*')
        return !strncmp(pattern, path, n - 1) && path[n - 1];
    return !strcmp(pattern, path);
}

/* Find the route. @return its flags; -EINVAL when the path takes other methods; -ENOENT */
static int find_route(struct http_exchange *exchange)
{
    const char *method = exchange->no_body ? "GET" : exchange->head.method;
    bool known = false;

    for (const struct http_route *route = exchange->server->options.routes; route->method;
         route++) {
        if (!path_matches(route->path, exchange->head.path))
            continue;
        known = true;
        if (!strcmp(route->method, method)) {
            exchange->route = route;
            return (int)route->flags;
        }
    }
    return known ? -EINVAL : -ENOENT;
}

static void allow_methods(struct http_exchange *exchange, char *methods, size_t size)
{
    size_t n = 0;

    methods[0] = '\0';
    for (const struct http_route *route = exchange->server->options.routes; route->method;
         route++) {
        if (path_matches(route->path, exchange->head.path) && n < size)
            n += (size_t)snprintf(methods + n, size - n, "%s, ", route->method);
    }
    if (n < size)
        snprintf(methods + n, size - n, "OPTIONS");
}

/* CORS preflight, and plain OPTIONS. */
static void answer_options(struct http_connection *connection)
{
    struct http_exchange *exchange = connection->exchange;
    char methods[128];

    allow_methods(exchange, methods, sizeof(methods));
    http_add_header(exchange, "Allow", methods);
    if (connection->server->options.cors_origin) {
        http_add_header(exchange, "Access-Control-Allow-Methods", methods);
        http_add_header(exchange, "Access-Control-Allow-Headers",
                        "Authorization, Content-Type, X-Request-ID, traceparent");
        http_add_header(exchange, "Access-Control-Max-Age", "86400");
    }
    http_respond(exchange, 204, NULL, NULL, 0);
    set_state(connection, ANSWERING);
    http_exchange_end(exchange);
}

static void refuse_method(struct http_connection *connection)
{
    char methods[128], message[256];

    allow_methods(connection->exchange, methods, sizeof(methods));
    http_add_header(connection->exchange, "Allow", methods);
    snprintf(message, sizeof(message), "method %.16s is not allowed here: %s are",
             connection->exchange->head.method, methods);
    refuse(connection, 405, message);
}

static void dispatch(struct http_connection *connection)
{
    struct http_exchange *exchange = connection->exchange;
    struct http_server *server = connection->server;

    set_state(connection, ANSWERING);
    if (exchange->route->flags & HTTP_INLINE) {
        exchange->route->handle(exchange, server->options.context);
        http_exchange_end(exchange);
    } else if (http_pool_submit(&server->pool, exchange) < 0) {
        http_add_header(exchange, "Retry-After", "1");
        server->options.fail(exchange, 429,
                             "too many requests at once: the queue is full, try again later");
        http_exchange_end(exchange);
    }
}

/* Bytes of body that the request's route takes. */
static size_t body_limit(const struct http_connection *connection)
{
    const struct http_server_options *options = &connection->server->options;

    return connection->exchange->route->flags & HTTP_UPLOAD ? options->max_body_bytes
                                                            : options->max_small_bytes;
}

static void refuse_size(struct http_connection *connection)
{
    char message[160];

    snprintf(message, sizeof(message), "the request's body is larger than the limit of %zu bytes",
             body_limit(connection));
    refuse(connection, 413, message);
}

/* The head has come: decide before a byte of the body is kept. */
static void head_read(struct http_connection *connection)
{
    struct http_exchange *exchange = connection->exchange;
    const struct http_server_options *options = &connection->server->options;
    const struct http_head *head = &exchange->head;
    bool body = head->chunked || head->content_length > 0;
    int flags = find_route(exchange);

    if (!strcmp(head->method, "OPTIONS") && !body) {
        answer_options(connection);
    } else if (flags == -EINVAL) {
        refuse_method(connection);
    } else if (flags < 0) {
        char message[HTTP_PATH_MAX + 80];

        snprintf(message, sizeof(message), "nothing is served at %s: see docs/api.md", head->path);
        refuse(connection, 404, message);
    } else if (atomic_load(&connection->server->stopping)) {
        refuse(connection, 503, "the server is stopping: try again in a moment");
    } else if (options->admit && !(flags & HTTP_OPEN) &&
               !options->admit(exchange, options->context)) {
        refuse(connection, 401, "not allowed");
    } else if (head->content_length > (int64_t)body_limit(connection)) {
        refuse_size(connection);
    } else if (body) {
        set_state(connection, READING_BODY);
        connection->chunks = (struct http_chunks){0};
        if (head->expects_continue) {
            static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

            send(connection->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    } else {
        dispatch(connection);
    }
}

static size_t take_head(struct http_connection *connection, const uint8_t *data, size_t size)
{
    struct http_head head;
    const char *why = NULL;
    size_t blank = 0;
    ssize_t used;

    while (blank < size && (data[blank] == '\r' || data[blank] == '\n'))
        blank++; /* empty lines between requests (RFC 9112, 2.2) */
    if (blank == size)
        return size;
    used = http_head_parse(data + blank, size - blank, &head, &why);
    if (used == 0)
        return blank;
    if (used < 0) {
        refuse_head(connection, (int)used, why);
        return size;
    }
    connection->exchange = http_exchange_create(connection->server, &head);
    if (!connection->exchange) {
        http_head_fini(&head);
        kill_connection(connection);
        return size;
    }
    connection->exchange->connection = connection;
    head_read(connection);
    return blank + (size_t)used;
}

/* Keep a piece of the body, within this request's limit and that of all together. */
static bool keep(struct http_connection *connection, const uint8_t *data, size_t size)
{
    struct http_exchange *exchange = connection->exchange;
    struct http_server *server = connection->server;

    if (size > body_limit(connection) - exchange->body.size) {
        refuse_size(connection);
        return false;
    }
    if (atomic_fetch_add(&server->buffered, size) + size > server->options.max_buffered_bytes ||
        buffer_append(&exchange->body, data, size) < 0) {
        atomic_fetch_sub(&server->buffered, size);
        http_add_header(exchange, "Retry-After", "5");
        refuse(connection, 429, "too many uploads at once: memory for them is used up, try later");
        return false;
    }
    exchange->reserved += size;
    return true;
}

static size_t take_body(struct http_connection *connection, const uint8_t *data, size_t size)
{
    struct http_exchange *exchange = connection->exchange;
    size_t used = 0, n = 0;
    const uint8_t *piece = data;
    int done;

    if (exchange->head.chunked) {
        done = http_chunks_next(&connection->chunks, data, size, &used, &piece, &n);
        if (done < 0) {
            refuse(connection, 400, "malformed request: a chunk that is none");
            return size;
        }
    } else {
        size_t left = (size_t)exchange->head.content_length - exchange->body.size;

        used = n = size < left ? size : left;
        done = n == left;
    }
    if (n && !keep(connection, piece, n))
        return size;
    connection->progress_ms = clock_now_ms();
    if (done)
        dispatch(connection);
    return used;
}

/* Take from data what the state allows. @return bytes used; the rest waits */
static size_t take(struct http_connection *connection, const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t used = 0;

        if (connection->state == READING_HEAD)
            used = take_head(connection, data + at, size - at);
        else if (connection->state == READING_BODY)
            used = take_body(connection, data + at, size - at);
        else if (connection->state == LINGERING)
            used = size - at;
        at += used;
        if (connection->state == ANSWERING)
            flush(connection); /* a short answer may leave at once, and the next request begin */
        if (!used || connection->state == ANSWERING)
            break;
    }
    return at;
}

static void read_on(struct http_connection *connection, const uint8_t *data, size_t size)
{
    size_t used;

    if (connection->state == LINGERING) {
        connection->dropped += size;
        if (connection->dropped > LINGER_BYTES)
            kill_connection(connection);
        return;
    }
    if (!connection->input.size) {
        if (connection->state == READING_HEAD)
            set_state(connection, READING_HEAD); /* the clock of a head starts at its first byte */
        used = take(connection, data, size);
        data += used;
        size -= used;
    }
    if (size && connection->state != LINGERING &&
        buffer_append(&connection->input, data, size) < 0) {
        kill_connection(connection);
        return;
    }
    if (connection->input.size) {
        used = take(connection, connection->input.data, connection->input.size);
        buffer_consume(&connection->input,
                       used < connection->input.size ? used : connection->input.size);
    }
    if (connection->state == ANSWERING && connection->input.size > HTTP_HEAD_MAX)
        pause_reading(connection, true);
}

/* @return 0; -1: close */
static int readable(struct http_connection *connection)
{
    ssize_t n = recv(connection->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0)
        return -1;
    if (connection->state != ANSWERING)
        connection->progress_ms = clock_now_ms();
    read_on(connection, scratch, (size_t)n);
    return 0;
}

static void closed(struct http_connection *connection)
{
    struct http_server *server = connection->server;

    if (connection->exchange) {
        struct http_exchange *exchange = connection->exchange;
        bool answering = connection->state == ANSWERING;

        exchange->connection = NULL;
        http_exchange_abandon(exchange);
        if (!answering)
            http_exchange_end(exchange); /* never handled: account for it */
        http_exchange_release(&connection->exchange);
    }
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    server->n_connections--;
    metric_set(metrics_gauge("dragoman_http_connections", "Open client connections.", NULL),
               server->n_connections);
    buffer_fini(&connection->input);
    free(connection);
}

static int adopt(struct http_server *server, int fd)
{
    struct http_connection *connection = calloc(1, sizeof(*connection));
    lws_sock_file_fd_type descriptor = {.filefd = fd};
    lws_adopt_desc_t info = {.vh = server->vhost,
                             .type = LWS_ADOPT_RAW_FILE_DESC,
                             .fd = descriptor,
                             .vh_prot_name = "http",
                             .opaque = connection};
    int on = 1;

    if (!connection)
        return -ENOMEM;
    connection->server = server;
    connection->fd = fd;
    buffer_init(&connection->input, INPUT_MAX);
    set_state(connection, READING_HEAD);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->n_connections++;
    connection->wsi = lws_adopt_descriptor_vhost_via_info(&info);
    if (!connection->wsi) {
        closed(connection);
        return -ENOMEM;
    }
    metric_set(metrics_gauge("dragoman_http_connections", "Open client connections.", NULL),
               server->n_connections);
    return 0;
}

/* Too many already: say so in one breath and close. */
static void turn_away(int fd)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";

    send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static void accept_all(struct http_server *server, int listener)
{
    for (int i = 0; i < 64; i++) { /* then the others get their turn */
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE) && server->spare_fd >= 0) {
            /* Out of descriptors: without this the loop would spin on a client it cannot take. */
            close(server->spare_fd);
            fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0)
                turn_away(fd);
            server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
            continue;
        }
        if (fd < 0)
            return;
        if (server->n_connections >= server->options.max_connections)
            turn_away(fd);
        else if (adopt(server, fd) < 0)
            close(fd);
    }
}

/* Take one exchange off the list of those that have woken the loop. */
static struct http_exchange *next_woken(struct http_server *server)
{
    struct http_exchange *exchange;

    pthread_mutex_lock(&server->waking_lock);
    exchange = server->waking;
    if (exchange) {
        server->waking = exchange->next_waking;
        exchange->waking = false; /* from here on it may wake again */
    }
    pthread_mutex_unlock(&server->waking_lock);
    return exchange;
}

/* Exchanges whose output or end waits for the loop. */
static void look_at_woken(struct http_server *server)
{
    for (int i = 0; i < WOKEN_MAX; i++) {
        struct http_exchange *exchange = next_woken(server);
        struct http_connection *connection = exchange ? exchange->connection : NULL;

        if (!exchange)
            return;
        if (connection) {
            flush(connection);
            if (connection->state == READING_HEAD && connection->input.size)
                read_on(connection, NULL, 0); /* the next request came ahead */
        }
        http_exchange_release(&exchange);
    }
    lws_cancel_service(server->context); /* the sockets get their turn first */
}

void http_loop_wake(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    bool first;

    pthread_mutex_lock(&server->waking_lock);
    first = !exchange->waking;
    if (first) {
        exchange->waking = true;
        atomic_fetch_add(&exchange->references, 1);
        exchange->next_waking = server->waking;
        server->waking = exchange;
    }
    pthread_mutex_unlock(&server->waking_lock);
    if (first && atomic_load(&server->stopping) < 2)
        lws_cancel_service(server->context);
}

/* Whether a connection has outstayed its welcome. */
static bool overdue(const struct http_connection *connection, int64_t now)
{
    const int64_t idle = now - connection->progress_ms, since = now - connection->since_ms;
    const int64_t limit = connection->server->options.idle_timeout_ms;
    struct http_exchange *exchange = connection->exchange;
    bool waiting;

    switch (connection->state) {
    case READING_HEAD:
        return connection->input.size ? since > HEAD_TIME_MS || since > limit : idle > limit;
    case READING_BODY:
        return idle > limit ||
               (since > BODY_GRACE_MS &&
                exchange->body.size < (uint64_t)(since - BODY_GRACE_MS) / 1000 * BODY_RATE);
    case ANSWERING:
        pthread_mutex_lock(&exchange->lock);
        waiting = exchange->out.size > exchange->out_at;
        pthread_mutex_unlock(&exchange->lock);
        return waiting && idle > limit;
    case LINGERING:
        return since > LINGER_MS;
    }
    return false;
}

static void sweep(lws_sorted_usec_list_t *timer)
{
    struct http_server *server = lws_container_of(timer, struct http_server, sweep);
    int64_t now = clock_now_ms();
    struct http_connection *next;

    for (struct http_connection *connection = server->connections; connection; connection = next) {
        next = connection->next;
        if (!overdue(connection, now))
            continue;
        if (connection->state == READING_BODY)
            refuse(connection, 408, "the request's body came too slowly");
        else if (connection->state == READING_HEAD && connection->input.size)
            refuse_head(connection, -EBADMSG, "the head came too slowly");
        else
            kill_connection(connection);
    }
    lws_sul_schedule(server->context, 0, &server->sweep, sweep, SWEEP_US);
}

/* Once stopping: no new clients, idle ones are let go. */
static void wind_down(struct http_server *server)
{
    struct http_connection *next;

    if (server->listener) {
        lws_set_timeout(server->listener, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        server->listener = NULL;
    }
    for (struct http_connection *connection = server->connections; connection; connection = next) {
        next = connection->next;
        if (connection->state == READING_HEAD && !connection->input.size)
            kill_connection(connection);
    }
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    struct http_server *server;
    struct http_connection *connection;

    (void)user, (void)in, (void)size;
    if (!wsi)
        return 0;
    server = lws_context_user(lws_get_context(wsi));
    connection = lws_get_opaque_user_data(wsi);
    switch (reason) {
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        look_at_woken(server);
        if (atomic_load(&server->stopping))
            wind_down(server);
        return 0;
    case LWS_CALLBACK_RAW_RX_FILE:
        if (!connection) {
            accept_all(server, (int)lws_get_socket_fd(wsi));
            return 0;
        }
        return readable(connection);
    case LWS_CALLBACK_RAW_WRITEABLE_FILE:
        if (connection) {
            flush(connection);
            if (connection->state == READING_HEAD && connection->input.size)
                read_on(connection, NULL, 0);
        }
        return 0;
    case LWS_CALLBACK_RAW_CLOSE_FILE:
        if (connection)
            closed(connection);
        return 0;
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {{.name = "http", .callback = callback},
                                                 {.name = NULL}};

/* "host:port", "[v6]:port" -> a listening socket. @return its descriptor; -errno */
static int listen_on(const char *address)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(address, ':');
    struct addrinfo *found = NULL;
    char host[256];
    size_t n;
    int fd = -1, on = 1, err = -EINVAL;

    if (!colon || !colon[1] || (size_t)(colon - address) >= sizeof(host))
        return -EINVAL;
    n = (size_t)(colon - address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']')
        snprintf(host, sizeof(host), "%.*s", (int)n - 2, address + 1);
    else
        snprintf(host, sizeof(host), "%.*s", (int)n, address);
    if (getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found) != 0)
        return -EINVAL;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
            err = 0;
        else
            err = -errno;
    } else {
        err = -errno;
    }
    freeaddrinfo(found);
    if (err < 0 && fd >= 0)
        close(fd);
    return err < 0 ? err : fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static void *loop(void *arg)
{
    struct http_server *server = arg;

    while (atomic_load(&server->stopping) < 2 && lws_service(server->context, 0) >= 0)
        ;
    return NULL;
}

/* Clients never take the last descriptors. */
static void bound_connections(struct http_server *server)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    if (limit.rlim_cur < server->options.max_connections + SPARE_DESCRIPTORS)
        server->options.max_connections = limit.rlim_cur > 2 * SPARE_DESCRIPTORS
                                              ? (uint32_t)limit.rlim_cur - SPARE_DESCRIPTORS
                                              : SPARE_DESCRIPTORS;
}

static void lws_says(int level, const char *line)
{
    (void)level;
    log_warn("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

static int create_context(struct http_server *server, int fd)
{
    struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN_SERVER,
                                             .protocols = protocols,
                                             .user = server,
                                             .options = LWS_SERVER_OPTION_NO_LWS_SYSTEM_STATES |
                                                        LWS_SERVER_OPTION_EXPLICIT_VHOSTS};
    lws_adopt_desc_t listener = {
        .type = LWS_ADOPT_RAW_FILE_DESC, .fd = {.filefd = fd}, .vh_prot_name = "http"};

    lws_set_log_level(LLL_ERR, lws_says);
    server->context = lws_create_context(&info);
    if (!server->context)
        return -ENOMEM;
    server->vhost = lws_create_vhost(server->context, &info);
    if (!server->vhost)
        return -ENOMEM;
    listener.vh = server->vhost;
    server->listener = lws_adopt_descriptor_vhost_via_info(&listener);
    return server->listener ? 0 : -ENOMEM;
}

int http_loop_start(struct http_server *server)
{
    int fd = listen_on(server->options.listen);
    int err = fd;

    if (fd < 0)
        return err;
    server->port = port_of(fd);
    bound_connections(server);
    err = create_context(server, fd);
    if (!server->listener)
        close(fd); /* else the context's */
    if (!err) {
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        lws_sul_schedule(server->context, 0, &server->sweep, sweep, SWEEP_US);
        err = -pthread_create(&server->loop, NULL, loop, server);
        server->loop_runs = !err;
    }
    if (err)
        http_loop_free(server);
    return err;
}

void http_loop_stop(struct http_server *server)
{
    atomic_store(&server->stopping, 2);
    lws_cancel_service(server->context);
    pthread_join(server->loop, NULL);
    server->loop_runs = false;
    for (struct http_connection *connection = server->connections; connection;
         connection = connection->next) {
        if (connection->exchange)
            http_exchange_abandon(connection->exchange);
    }
}

/* The loop is over: only give back the references. */
static void drop_woken(struct http_server *server)
{
    struct http_exchange *exchange;

    while ((exchange = next_woken(server)))
        http_exchange_release(&exchange);
}

void http_loop_free(struct http_server *server)
{
    if (!server->context)
        return;
    drop_woken(server);
    lws_sul_schedule(server->context, 0, &server->sweep, NULL, LWS_SET_TIMER_USEC_CANCEL);
    lws_context_destroy(server->context); /* closes every connection */
    server->context = NULL;
    drop_woken(server);
    if (server->spare_fd >= 0)
        close(server->spare_fd);
}
