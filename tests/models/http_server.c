#include "tests/models/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECE 16384

struct seen {
    int requests;
    size_t sent;
    char range[64];
};

struct connection {
    struct http_server *server;
    struct connection *next;
    pthread_t thread;
    int socket;
};

struct http_server {
    struct http_route routes[HTTP_ROUTES_MAX];
    struct seen seen[HTTP_ROUTES_MAX];
    size_t n_routes;
    char url[64];
    struct connection *connections;
    pthread_mutex_t mutex;
    pthread_t thread;
    int socket;
};

static bool send_all(int socket, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t put = send(socket, data, size, MSG_NOSIGNAL);

        if (put <= 0)
            return false;
        data += put;
        size -= (size_t)put;
    }
    return true;
}

static bool send_pieces(struct http_server *server, size_t r, int socket, const char *data,
                        size_t size)
{
    int pause_ms = server->routes[r].pause_ms;
    struct timespec pause = {.tv_sec = pause_ms / 1000, .tv_nsec = pause_ms % 1000 * 1000000L};
    bool alive = true;

    while (size > 0 && alive) {
        size_t piece = size < PIECE ? size : PIECE;

        alive = send_all(socket, data, piece);
        pthread_mutex_lock(&server->mutex);
        server->seen[r].sent += piece;
        pthread_mutex_unlock(&server->mutex);
        data += piece;
        size -= piece;
        if (pause_ms > 0)
            nanosleep(&pause, NULL);
    }
    return alive;
}

/* @return whether the connection goes on */
static bool answer(struct http_server *server, size_t r, int socket, const char *range)
{
    struct http_route *route = &server->routes[r];
    unsigned long long from = 0;
    size_t length;
    int status;
    char head[512];
    bool fails, cuts;

    pthread_mutex_lock(&server->mutex);
    server->seen[r].requests++;
    snprintf(server->seen[r].range, sizeof(server->seen[r].range), "%s", range);
    fails = route->fail_first > 0 && route->fail_first--;
    cuts = route->cut_at > 0 && route->cut_times > 0 && route->cut_times--;
    pthread_mutex_unlock(&server->mutex);

    if (!route->ignore_range)
        sscanf(range, "bytes=%llu-", &from);
    status = fails ? 503 : route->moved ? 302 : route->status;
    if (!status)
        status = from == 0 ? 200 : from < route->size ? 206 : 416;
    length = status < 300 ? route->size - from : 0;
    snprintf(head, sizeof(head),
             "HTTP/1.1 %d x\r\nContent-Length: %zu\r\nContent-Type: %s\r\n%s%s%s\r\n", status,
             length, route->type ? route->type : "application/octet-stream",
             route->moved ? "Location: " : "", route->moved ? route->moved : "",
             route->moved ? "\r\n" : "");
    if (!send_all(socket, head, strlen(head)))
        return false;
    if (cuts && length > route->cut_at) {
        send_pieces(server, r, socket, route->body + from, route->cut_at);
        return false;
    }
    return length == 0 || send_pieces(server, r, socket, route->body + from, length);
}

/* The value of a header in a request. */
static void header(const char *request, const char *name, char *out, size_t size)
{
    const char *at = strcasestr(request, name);

    out[0] = '\0';
    if (at)
        snprintf(out, size, "%.*s", (int)strcspn(at + strlen(name), "\r\n"), at + strlen(name));
}

static bool handle(struct http_server *server, int socket, const char *request)
{
    static const char missing[] = "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n";
    char path[256] = "", range[64];
    size_t n, r;

    sscanf(request, "GET %255s", path);
    header(request, "\r\nRange: ", range, sizeof(range));
    pthread_mutex_lock(&server->mutex);
    n = server->n_routes;
    pthread_mutex_unlock(&server->mutex);
    for (r = 0; r < n; r++)
        if (strcmp(server->routes[r].path, path) == 0)
            return answer(server, r, socket, range);
    return send_all(socket, missing, strlen(missing));
}

static void *serve_connection(void *arg)
{
    struct connection *connection = arg;
    char request[4096];
    size_t size = 0;
    ssize_t got;
    bool alive = true;

    while (alive &&
           (got = recv(connection->socket, request + size, sizeof(request) - 1 - size, 0)) > 0) {
        size += (size_t)got;
        request[size] = '\0';
        if (!strstr(request, "\r\n\r\n"))
            continue;
        alive = handle(connection->server, connection->socket, request);
        size = 0;
    }
    shutdown(connection->socket, SHUT_RDWR); /* closed when the server stops */
    return NULL;
}

static void *serve(void *arg)
{
    struct http_server *server = arg;
    int socket;

    while ((socket = accept(server->socket, NULL, NULL)) >= 0) {
        struct connection *connection = malloc(sizeof(*connection));

        *connection =
            (struct connection){.server = server, .socket = socket, .next = server->connections};
        server->connections = connection; /* read again when this thread has ended */
        pthread_create(&connection->thread, NULL, serve_connection, connection);
    }
    return NULL;
}

struct http_server *http_server_start(void)
{
    struct http_server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);

    assert_non_null(server);
    server->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->socket >= 0);
    assert_return_code(bind(server->socket, (struct sockaddr *)&address, size), 0);
    assert_return_code(listen(server->socket, 16), 0);
    assert_return_code(getsockname(server->socket, (struct sockaddr *)&address, &size), 0);
    snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    pthread_mutex_init(&server->mutex, NULL);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    return server;
}

static void stop_connections(struct http_server *server)
{
    struct connection *connection;

    while ((connection = server->connections)) {
        server->connections = connection->next;
        shutdown(connection->socket, SHUT_RDWR);
        pthread_join(connection->thread, NULL);
        close(connection->socket);
        free(connection);
    }
}

void http_server_stop(struct http_server **server)
{
    if (!*server)
        return;
    shutdown((*server)->socket, SHUT_RDWR);
    pthread_join((*server)->thread, NULL);
    close((*server)->socket);
    stop_connections(*server);
    pthread_mutex_destroy(&(*server)->mutex);
    free(*server);
    *server = NULL;
}

void http_server_add(struct http_server *server, const struct http_route *route)
{
    assert_true(server->n_routes < HTTP_ROUTES_MAX);
    pthread_mutex_lock(&server->mutex);
    server->routes[server->n_routes++] = *route;
    pthread_mutex_unlock(&server->mutex);
}

const char *http_server_url(const struct http_server *server)
{
    return server->url;
}

static struct seen *find(struct http_server *server, const char *path)
{
    for (size_t r = 0; r < server->n_routes; r++)
        if (strcmp(server->routes[r].path, path) == 0)
            return &server->seen[r];
    fail_msg("no route '%s'", path);
    return NULL;
}

int http_server_requests(struct http_server *server, const char *path)
{
    int n;

    pthread_mutex_lock(&server->mutex);
    n = find(server, path)->requests;
    pthread_mutex_unlock(&server->mutex);
    return n;
}

const char *http_server_range(struct http_server *server, const char *path)
{
    return find(server, path)->range;
}

size_t http_server_sent(struct http_server *server, const char *path)
{
    size_t n;

    pthread_mutex_lock(&server->mutex);
    n = find(server, path)->sent;
    pthread_mutex_unlock(&server->mutex);
    return n;
}
