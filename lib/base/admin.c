#include "base/admin.h"

#include "base/admin_request.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX                                                                            \
    32 /* one more pushes out the one that has been quiet longest; poll() takes no more than RLIMIT_NOFILE */
#define PAGE_MAX ((size_t)16 << 20) /* bytes of one answer */
#define REQUEST_MS 5000             /* for a whole request, and for taking some of an answer */
#define IDLE_MS 30000               /* between the requests of a connection */
#define DRY_MS 100                  /* without descriptors: let others close some */
#define REASON_MAX 256

struct connection {
    int fd; /* -1: a free place */
    char in[ADMIN_REQUEST_MAX];
    size_t n_in;
    struct buffer out;
    size_t sent;
    bool last;         /* close when the answer is out */
    bool waiting;      /* asks for the metrics, and it is not its turn */
    bool lingering;    /* it is out: wait for the peer to close, so that it reads it */
    int64_t quiet_ms;  /* since when nothing has been finished */
    int64_t expire_ms; /* close then */
};

struct admin {
    int listener;
    int port;
    int wake; /* eventfd */
    atomic_bool stopping;
    bool started;
    int64_t dry_ms; /* do not accept before this */
    bool
        rendered; /* the metrics, in this round: they take long, and health must not wait for many */
    size_t turn;  /* whose turn it is with them */
    pthread_t thread;
    struct connection connections[CONNECTIONS_MAX];
};

static pthread_mutex_t unready_lock = PTHREAD_MUTEX_INITIALIZER;
static char unready[REASON_MAX];

void admin_set_unready(const char *reason)
{
    pthread_mutex_lock(&unready_lock);
    snprintf(unready, sizeof(unready), "%s", reason ? reason : "");
    pthread_mutex_unlock(&unready_lock);
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* Fill the body for a path; the HTTP status. */
static int page_fill(struct buffer *body, const char *path)
{
    int status = 200;

    if (strcmp(path, "/metrics") == 0)
        return metrics_render(body) < 0 ? 500 : status;
    if (strcmp(path, "/healthz") == 0) {
        buffer_printf(body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        pthread_mutex_lock(&unready_lock);
        if (unready[0])
            status = 503;
        buffer_printf(body, "%s\n", unready[0] ? unready : "ready");
        pthread_mutex_unlock(&unready_lock);
    } else {
        status = 404;
        buffer_printf(body, "no such page: /metrics, /healthz and /readyz are here\n");
    }
    return status;
}

static int answer(struct connection *connection, const struct admin_request *request)
{
    struct buffer body;
    int status = request->status;
    int err;

    buffer_init(&body, PAGE_MAX);
    if (status == 200)
        status = page_fill(&body, request->path);
    else
        buffer_printf(&body, status == 405 ? "only GET and HEAD are answered\n"
                                           : "this is no request of HTTP/1.1\n");
    if (status == 500)
        buffer_fini(&body);
    connection->last = !request->keep_alive;
    err = admin_answer_write(request, status, body.data, body.size, &connection->out);
    buffer_fini(&body);
    return err;
}

/* ---- connections ----------------------------------------------------------------------------- */

static void drop(struct connection *connection)
{
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    buffer_fini(&connection->out);
}

/* All of the answer is on its way. */
static void sent_all(struct connection *connection, int64_t now)
{
    buffer_fini(&connection->out);
    buffer_init(&connection->out, PAGE_MAX);
    connection->sent = 0;
    connection->quiet_ms = now;
    connection->expire_ms = now + IDLE_MS;
    if (!connection->last)
        return;
    shutdown(connection->fd, SHUT_WR);
    connection->lingering = true;
    connection->expire_ms = now + REQUEST_MS;
}

/* @return whether the connection stays */
static bool send_some(struct connection *connection, int64_t now)
{
    while (connection->sent < connection->out.size) {
        ssize_t n = send(connection->fd, connection->out.data + connection->sent,
                         connection->out.size - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        connection->sent += (size_t)n;
        connection->expire_ms = now + REQUEST_MS;
    }
    if (connection->out.size > 0)
        sent_all(connection, now);
    return true;
}

/* Whether the request has to wait for another round. */
static bool must_wait(struct admin *admin, const struct admin_request *request)
{
    bool metrics = request->status == 200 && strcmp(request->path, "/metrics") == 0;
    bool wait = metrics && admin->rendered;

    admin->rendered |= metrics;
    return wait;
}

/* Answer what has arrived whole, one after the other. @return whether the connection stays */
static bool work(struct admin *admin, struct connection *connection, int64_t now)
{
    struct admin_request request;
    bool stays = true;

    connection->waiting = false;
    while (stays && connection->out.size == 0 && !connection->lingering) {
        ssize_t used = admin_request_read(connection->in, connection->n_in, &request);

        if (used == 0)
            break;
        if (used < 0) {
            request.status = 400;
            used = (ssize_t)connection->n_in;
        } else if (must_wait(admin, &request)) {
            connection->waiting = true;
            break;
        }
        connection->n_in -= (size_t)used;
        memmove(connection->in, connection->in + used, connection->n_in);
        stays = answer(connection, &request) == 0 && send_some(connection, now);
    }
    return stays;
}

/* @return whether the connection stays */
static bool receive_some(struct admin *admin, struct connection *connection, int64_t now)
{
    char waste[ADMIN_REQUEST_MAX];
    char *to = connection->lingering ? waste : connection->in + connection->n_in;
    size_t room = connection->lingering ? sizeof(waste) : sizeof(connection->in) - connection->n_in;
    ssize_t n;

    n = recv(connection->fd, to, room, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0)
        return false;
    if (connection->lingering)
        return true;
    if (connection->n_in == 0) /* the first byte of a request: the rest must follow soon */
        connection->expire_ms = now + REQUEST_MS;
    connection->n_in += (size_t)n;
    return work(admin, connection, now);
}

static void attend(struct admin *admin, struct connection *connection, short events, int64_t now)
{
    bool stays = true;

    if (events & POLLOUT)
        stays = send_some(connection, now) && work(admin, connection, now);
    else if (events & (POLLIN | POLLHUP | POLLERR))
        stays = receive_some(admin, connection, now);
    if (!stays || now >= connection->expire_ms)
        drop(connection);
}

/* ---- the listener ---------------------------------------------------------------------------- */

/* A free place; else that of the connection that has been quiet longest: a crowd of the silent must
 * not keep out whoever asks. */
static struct connection *place_for(struct admin *admin)
{
    struct connection *oldest = &admin->connections[0];

    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &admin->connections[i];

        if (connection->fd < 0)
            return connection;
        if (connection->quiet_ms < oldest->quiet_ms)
            oldest = connection;
    }
    drop(oldest);
    return oldest;
}

static void accept_some(struct admin *admin, int64_t now)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        int fd = accept4(admin->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *connection;

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                admin->dry_ms = now + DRY_MS;
            return;
        }
        connection = place_for(admin);
        memset(connection, 0, sizeof(*connection));
        buffer_init(&connection->out, PAGE_MAX);
        connection->fd = fd;
        connection->quiet_ms = now;
        connection->expire_ms = now + REQUEST_MS;
        attend(admin, connection, POLLIN, now); /* most bring their request along */
    }
}

/* "host:port", "[v6]:port", ":port" into its halves. */
static int address_split(const char *address, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    bool bracketed = n >= 2 && address[0] == '[' && address[n - 1] == ']';

    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return -EINVAL;
    if (bracketed) {
        address++;
        n -= 2;
    }
    if (n >= size || strlen(colon + 1) > 5 || atol(colon + 1) > 65535)
        return -EINVAL;
    memcpy(host, address, n);
    host[n] = '\0';
    *port = colon + 1;
    return 0;
}

static int listen_on(const struct addrinfo *info, int *out)
{
    int yes = 1;
    int err = 0;
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0)
        err = -errno;
    if (err < 0)
        close(fd);
    else
        *out = fd;
    return err;
}

static int socket_port(int fd)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);

    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    return ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                            : ((struct sockaddr_in *)&name)->sin_port);
}

static int listener_open(const char *address, struct admin *admin)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const char *port = NULL;
    char host[256];
    int err = address_split(address, host, sizeof(host), &port);

    if (err < 0)
        return err;
    if (getaddrinfo(*host ? host : NULL, port, &hints, &found) != 0)
        return -EINVAL;
    err = listen_on(found, &admin->listener);
    freeaddrinfo(found);
    if (err == 0)
        admin->port = socket_port(admin->listener);
    return err;
}

/* ---- the thread ------------------------------------------------------------------------------ */

enum { N_FDS = CONNECTIONS_MAX + 2 };

/* Fill what to poll for. @return how long at most, in ms */
static int64_t prepare(struct admin *admin, struct pollfd fds[N_FDS], int64_t now)
{
    bool dry = now < admin->dry_ms;
    int64_t next = dry ? admin->dry_ms : now + IDLE_MS;

    fds[CONNECTIONS_MAX] = (struct pollfd){.fd = dry ? -1 : admin->listener, .events = POLLIN};
    fds[CONNECTIONS_MAX + 1] = (struct pollfd){.fd = admin->wake, .events = POLLIN};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &admin->connections[i];

        fds[i] = (struct pollfd){.fd = connection->fd, .events = POLLIN};
        if (connection->out.size > 0)
            fds[i].events = POLLOUT;
        else if (connection->waiting) /* what it has sent is enough for now */
            fds[i].events = 0;
        if (connection->fd >= 0 && connection->waiting)
            next = now;
        if (connection->fd >= 0 && connection->expire_ms < next)
            next = connection->expire_ms;
    }
    return next > now ? next - now : 0;
}

/* One of those that wait for the metrics, in turn. */
static void serve_waiting(struct admin *admin, int64_t now)
{
    for (size_t i = 0; i < CONNECTIONS_MAX && !admin->rendered; i++) {
        struct connection *connection = &admin->connections[(admin->turn + i) % CONNECTIONS_MAX];

        if (connection->fd < 0 || !connection->waiting)
            continue;
        if (!work(admin, connection, now))
            drop(connection);
        admin->turn += i + 1;
        return;
    }
}

static void *serve(void *arg)
{
    struct admin *admin = arg;
    struct pollfd fds[N_FDS];

    pthread_setname_np(pthread_self(), "admin");
    while (!atomic_load(&admin->stopping)) {
        int64_t wait = prepare(admin, fds, clock_now_ms());
        int n = poll(fds, N_FDS, (int)wait);
        int64_t now = clock_now_ms();

        admin->rendered = false;
        serve_waiting(admin, now);
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            if (fds[i].fd >= 0 && fds[i].fd == admin->connections[i].fd)
                attend(admin, &admin->connections[i], n > 0 ? fds[i].revents : 0, now);
        if (n > 0 && fds[CONNECTIONS_MAX].revents)
            accept_some(admin, now);
    }
    return NULL;
}

/* Every signal is another thread's. */
static int thread_start(struct admin *admin)
{
    sigset_t all;
    sigset_t before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&admin->thread, NULL, serve, admin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    admin->started = err == 0;
    return -err;
}

int admin_start(const char *address, struct admin **out)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    int err = -ENOMEM;

    if (!admin)
        return err;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        admin->connections[i].fd = -1;
    admin->listener = -1;
    admin->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = admin->wake < 0 ? -errno : listener_open(address, admin);
    if (err == 0)
        err = thread_start(admin);
    if (err == 0) {
        log_info("admin: /metrics, /healthz and /readyz on port %d", admin->port);
        *out = admin;
        admin = NULL; /* the caller's now */
    }
    admin_stop(&admin);
    return err;
}

void admin_stop(struct admin **admin)
{
    struct admin *self = *admin;

    if (!self)
        return;
    *admin = NULL;
    if (self->started) {
        atomic_store(&self->stopping, true);
        eventfd_write(self->wake, 1);
        pthread_join(self->thread, NULL);
    }
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        drop(&self->connections[i]);
    if (self->listener >= 0)
        close(self->listener);
    if (self->wake >= 0)
        close(self->wake);
    free(self);
}

int admin_port(const struct admin *admin)
{
    return admin->port;
}
