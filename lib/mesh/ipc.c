#include "mesh/ipc.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mesh/deadline.h"
#include "mesh/engine.h"
#include "mesh/listener.h"
#include "mesh/peer_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define HANDSHAKE_NS (3000 * NS_PER_MS)
#define PAUSE_NS (100 * NS_PER_MS)  /* without accepting, when descriptors are short */
#define TELL_NS (10000 * NS_PER_MS) /* between two lines about the same */
#define LISTENERS_MAX 16
#define ACCEPTS 64 /* at once */
#define EVENTS 64
#define READS 16 /* between looks at what else has happened, however much comes */
#define SLOT_BITS 20
#define FRAME_SLACK (64 << 10) /* header and Meta, beside the body */

struct connection {
    struct mesh_engine engine;
    uint64_t peer;
    bool is_ready; /* there may be something to read */
    bool armed;    /* to be told when it takes more */
    bool over;     /* it has ended, and is a DEALER's */
    bool greeting; /* it has not greeted yet */
    bool spared;   /* and its time was over once */
    int64_t greeted_by;
    TAILQ_ENTRY(connection) ready, newest;
};

TAILQ_HEAD(connections, connection);

struct mesh_ipc {
    enum mesh_socket_kind kind;
    size_t max_frame_bytes;
    int epoll; /* a ROUTER's; -1: none */
    struct mesh_listener listeners[LISTENERS_MAX];
    size_t n_listeners;
    bool paused; /* the listeners are not watched */
    int64_t paused_until;
    int64_t told_short_ns, told_broken_ns;

    struct connection **slots; /* (n_slots) NULL: free; a DEALER's is the first */
    uint32_t *spare;           /* (n_spare) of the slots, those that are free */
    size_t n_slots, n_spare, n_connections;
    uint64_t serial;
    struct connections
        greeting; /* those that have not greeted: whose time is over first is first */

    enum mesh_handshake failed; /* the last one that was not over */
    bool stirred;               /* poll() said that there is something */
    size_t n_reads;             /* since the last look */
    struct connections ready;
    struct connection *current; /* whose bytes the intake holds */
    struct mesh_intake intake;

    struct mesh_peer_list lost;
    struct metric *broken;
};

/* ---- connections ----------------------------------------------------------------------------- */

static struct connection *find(const struct mesh_ipc *ipc, uint64_t peer)
{
    size_t slot = ipc->kind == MESH_DEALER ? 0 : peer & ((1u << SLOT_BITS) - 1);
    struct connection *connection = slot < ipc->n_slots ? ipc->slots[slot] : NULL;

    return connection && (ipc->kind == MESH_DEALER || connection->peer == peer) ? connection : NULL;
}

/* Room for more connections. */
static int add_slots(struct mesh_ipc *ipc)
{
    size_t room = ipc->n_slots ? 2 * ipc->n_slots : 4;
    struct connection **slots;
    uint32_t *spare;

    if (room > (size_t)1 << SLOT_BITS)
        return -EMFILE;
    slots = realloc(ipc->slots, room * sizeof(struct connection *));
    if (!slots)
        return -ENOMEM;
    ipc->slots = slots;
    spare = realloc(ipc->spare, room * sizeof(*spare));
    if (!spare)
        return -ENOMEM;
    ipc->spare = spare;
    for (size_t slot = room; slot-- > ipc->n_slots;) { /* the first is taken first */
        slots[slot] = NULL;
        spare[ipc->n_spare++] = (uint32_t)slot;
    }
    ipc->n_slots = room;
    return 0;
}

static int watch(const struct mesh_ipc *ipc, int operation, int fd, uint32_t events, uint64_t what)
{
    struct epoll_event event = {.events = events, .data = {.u64 = what}};

    if (ipc->epoll < 0)
        return 0;
    return epoll_ctl(ipc->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

static void expect_greeting(struct mesh_ipc *ipc, struct connection *connection, int64_t now_ns)
{
    connection->greeting = true;
    connection->greeted_by = now_ns + HANDSHAKE_NS;
    TAILQ_INSERT_TAIL(&ipc->greeting, connection, newest);
}

static void end_greeting(struct mesh_ipc *ipc, struct connection *connection)
{
    if (connection->greeting)
        TAILQ_REMOVE(&ipc->greeting, connection, newest);
    connection->greeting = false;
}

/* Takes the descriptor. */
static int adopt(struct mesh_ipc *ipc, int fd, int64_t now_ns)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int err = connection ? 0 : -ENOMEM;
    uint32_t slot;

    if (err == 0 && ipc->n_spare == 0)
        err = add_slots(ipc);
    if (err < 0) {
        free(connection);
        close(fd);
        return err;
    }
    slot = ipc->spare[ipc->n_spare - 1];
    connection->peer = (uint64_t)1 << 62 | ++ipc->serial << SLOT_BITS | slot;
    err = mesh_engine_init(&connection->engine, fd, ipc->kind, ipc->max_frame_bytes);
    if (err == 0) {
        err = watch(ipc, EPOLL_CTL_ADD, fd, EPOLLIN, connection->peer);
        if (err < 0)
            mesh_engine_fini(&connection->engine);
    }
    if (err < 0) {
        free(connection);
        return err;
    }
    ipc->n_spare--;
    ipc->slots[slot] = connection;
    ipc->n_connections++;
    expect_greeting(ipc, connection, now_ns);
    return 0;
}

/* Tell the owner. Nobody has heard of one that never greeted. */
static void note_lost(struct mesh_ipc *ipc, const struct connection *connection)
{
    if (ipc->kind == MESH_ROUTER && connection->engine.state != ENGINE_OPEN)
        return;
    mesh_peer_list_add(&ipc->lost, ipc->kind == MESH_ROUTER ? connection->peer : 0);
}

static void set_ready(struct mesh_ipc *ipc, struct connection *connection, bool ready)
{
    if (connection->is_ready == ready)
        return;
    connection->is_ready = ready;
    if (ready)
        TAILQ_INSERT_TAIL(&ipc->ready, connection, ready);
    else
        TAILQ_REMOVE(&ipc->ready, connection, ready);
}

static void listen_again(struct mesh_ipc *ipc)
{
    ipc->paused = false;
    for (size_t i = 0; i < ipc->n_listeners; i++)
        watch(ipc, EPOLL_CTL_MOD, ipc->listeners[i].fd, EPOLLIN, i);
}

static void drop(struct mesh_ipc *ipc, struct connection *connection)
{
    uint32_t slot = connection->peer & ((1u << SLOT_BITS) - 1);

    set_ready(ipc, connection, false);
    if (ipc->current == connection)
        ipc->current = NULL;
    end_greeting(ipc, connection);
    watch(ipc, EPOLL_CTL_DEL, connection->engine.fd, 0, 0); /* a child may have it open, too */
    mesh_engine_fini(&connection->engine);
    ipc->slots[slot] = NULL;
    ipc->spare[ipc->n_spare++] = slot;
    ipc->n_connections--;
    free(connection);
    if (ipc->paused)
        listen_again(ipc);
}

/* It is over. A DEALER's stays until the socket is closed: what was not written may be asked for. */
static void end(struct mesh_ipc *ipc, struct connection *connection)
{
    struct mesh_engine *engine = &connection->engine;

    if (!connection->over)
        note_lost(ipc, connection);
    if (engine->state != ENGINE_OPEN)
        ipc->failed =
            mesh_engine_is_mismatched(engine) ? MESH_HANDSHAKE_MISMATCH : MESH_HANDSHAKE_BROKEN;
    connection->over = engine->mute = true;
    set_ready(ipc, connection, false);
    end_greeting(ipc, connection);
    if (ipc->current == connection)
        ipc->current = NULL;
    if (ipc->kind == MESH_ROUTER)
        drop(ipc, connection);
}

/* Be told when more can be written, as long as something waits. */
static void arm(struct mesh_ipc *ipc, struct connection *connection)
{
    bool waits = mesh_engine_waits(&connection->engine);

    if (waits == connection->armed)
        return;
    connection->armed = waits;
    watch(ipc, EPOLL_CTL_MOD, connection->engine.fd, waits ? EPOLLIN | EPOLLOUT : EPOLLIN,
          connection->peer);
}

/* ---- listening ------------------------------------------------------------------------------- */

/* Whether it is time for a line about the same again. */
static bool may_tell(int64_t *told_ns, int64_t now_ns)
{
    bool may = *told_ns == 0 || now_ns - *told_ns > TELL_NS;

    if (may)
        *told_ns = now_ns;
    return may;
}

static void tell_short(struct mesh_ipc *ipc, int64_t now_ns)
{
    if (may_tell(&ipc->told_short_ns, now_ns))
        log_warn("too many connections for the limit of open files: new ones wait, or are closed; "
                 "raise it (ulimit -n)");
}

/* The listeners stay readable: not to be woken by them all the time. */
static void pause_listening(struct mesh_ipc *ipc, int64_t now_ns)
{
    tell_short(ipc, now_ns);
    ipc->paused = true;
    ipc->paused_until = now_ns + PAUSE_NS;
    for (size_t i = 0; i < ipc->n_listeners; i++)
        watch(ipc, EPOLL_CTL_MOD, ipc->listeners[i].fd, 0, i);
}

static void accept_some(struct mesh_ipc *ipc, const struct mesh_listener *listener)
{
    int64_t now_ns = clock_now_ns();

    for (int i = 0; i < ACCEPTS; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN)
                pause_listening(ipc, now_ns);
            return;
        }
        if (fd >=
            mesh_descriptors_most()) { /* the last few are for other things; he tries again later */
            tell_short(ipc, now_ns);
            close(fd);
        } else if (adopt(ipc, fd, now_ns) < 0) {
            pause_listening(ipc, now_ns);
            return;
        }
    }
}

int mesh_ipc_bind(struct mesh_ipc *ipc, const char *name)
{
    struct mesh_listener *listener = &ipc->listeners[ipc->n_listeners];
    int err;

    if (ipc->n_listeners == LISTENERS_MAX)
        return -ENOSPC;
    err = mesh_listener_open(listener, name);
    if (err < 0)
        return err;
    err = watch(ipc, EPOLL_CTL_ADD, listener->fd, EPOLLIN, ipc->n_listeners);
    if (err < 0)
        mesh_listener_close(listener);
    else
        ipc->n_listeners++;
    return err;
}

static void stop_listening(struct mesh_ipc *ipc)
{
    while (ipc->n_listeners > 0)
        mesh_listener_close(&ipc->listeners[--ipc->n_listeners]);
}

int mesh_ipc_connect(struct mesh_ipc *ipc, const char *name)
{
    struct connection *before = find(ipc, 0);
    int fd = before && !before->over ? -EISCONN : mesh_listener_connect(name);

    if (fd < 0)
        return fd;
    if (before)
        drop(ipc, before);
    ipc->failed = MESH_HANDSHAKE_FINE;
    return adopt(ipc, fd, clock_now_ns());
}

/* ---- sleeping -------------------------------------------------------------------------------- */

struct pollfd mesh_ipc_fd(const struct mesh_ipc *ipc)
{
    const struct connection *connection = find(ipc, 0);
    struct pollfd fd = {.fd = ipc->epoll, .events = POLLIN};

    if (ipc->kind == MESH_DEALER) {
        fd.fd = connection && !connection->over ? connection->engine.fd : -1;
        if (connection && mesh_engine_waits(&connection->engine))
            fd.events |= POLLOUT;
    }
    return fd;
}

static void hear_dealer(struct mesh_ipc *ipc, short revents)
{
    struct connection *connection = find(ipc, 0);

    if (!connection)
        return;
    if (revents & POLLOUT)
        mesh_engine_flush(&connection->engine);
    if (revents & ~POLLOUT)
        set_ready(ipc, connection, true);
}

void mesh_ipc_polled(struct mesh_ipc *ipc, short revents)
{
    if (ipc->kind == MESH_DEALER)
        hear_dealer(ipc, revents);
    else if (revents)
        ipc->stirred = true;
}

bool mesh_ipc_is_ready(const struct mesh_ipc *ipc)
{
    return ipc->current || ipc->stirred || !TAILQ_EMPTY(&ipc->ready) || ipc->lost.n > 0;
}

enum mesh_handshake mesh_ipc_failure(const struct mesh_ipc *ipc)
{
    return ipc->kind == MESH_DEALER ? ipc->failed : MESH_HANDSHAKE_FINE;
}

bool mesh_ipc_takes(const struct mesh_ipc *ipc)
{
    const struct connection *connection = find(ipc, 0);

    return connection && mesh_engine_takes(&connection->engine);
}

/* What epoll has to say. */
static void hear(struct mesh_ipc *ipc)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(ipc->epoll, events, EVENTS, 0);

    ipc->stirred = n == EVENTS;
    for (int i = 0; i < n; i++) {
        uint64_t what = events[i].data.u64;
        struct connection *connection = find(ipc, what);

        if (!mesh_ipc_has_peer(what) && what < ipc->n_listeners)
            accept_some(ipc, &ipc->listeners[what]);
        if (!connection)
            continue;
        if (events[i].events & EPOLLOUT) {
            mesh_engine_flush(&connection->engine);
            arm(ipc, connection);
        }
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            set_ready(ipc, connection, true);
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

int mesh_ipc_send(struct mesh_ipc *ipc, struct mesh_message *message)
{
    struct connection *connection = find(ipc, message->peer);
    int err;

    if (!connection)
        return ipc->kind == MESH_DEALER ? -EAGAIN : -EHOSTUNREACH;
    err = mesh_engine_send(&connection->engine, message);
    arm(ipc, connection);
    return err;
}

static const char *what_broke(int err)
{
    if (err == -EPROTO)
        return "what came is no ZMTP, or wants CURVE";
    return err == -EMSGSIZE ? "a message is over the limit" : strerror(-err);
}

static void end_broken(struct mesh_ipc *ipc, struct connection *connection, int err)
{
    metric_add(ipc->broken, 1);
    if (may_tell(&ipc->told_broken_ns, clock_now_ns()))
        log_warn("a connection was closed: %s", what_broke(err));
    end(ipc, connection);
}

/* Who never stops sending must not keep the others from being heard, nor what waits from being written. */
static void look_around(struct mesh_ipc *ipc)
{
    struct connection *connection = find(ipc, 0);

    ipc->n_reads = 0;
    if (ipc->kind == MESH_ROUTER)
        hear(ipc);
    else if (connection)
        mesh_engine_flush(&connection->engine);
}

void mesh_ipc_each_unwritten(const struct mesh_ipc *ipc,
                             void (*visit)(void *arg, const void *first, size_t size), void *arg)
{
    const struct connection *connection = find(ipc, 0);

    if (connection)
        mesh_engine_each_unwritten(&connection->engine, visit, arg);
}

/* Read of whoever is first in line. @return false: nobody is */
static bool read_next(struct mesh_ipc *ipc)
{
    struct connection *connection;
    bool drained = false;
    int err;

    if ((ipc->stirred && TAILQ_EMPTY(&ipc->ready)) || ipc->n_reads == READS)
        look_around(ipc);
    connection = TAILQ_FIRST(&ipc->ready);
    if (!connection)
        return false;
    ipc->n_reads++;
    ipc->intake.at = ipc->intake.end = 0;
    err = mesh_engine_read(&connection->engine, &ipc->intake, &drained);
    if (err < 0 && err != -EAGAIN) {
        end(ipc, connection);
        return true;
    }
    set_ready(ipc, connection, false);
    set_ready(ipc, connection, !drained); /* after the others */
    if (err == 0)
        ipc->current = connection;
    return true;
}

/* A message of the current connection. @return as mesh_ipc_recv() */
static int take(struct mesh_ipc *ipc, struct mesh_message *message)
{
    struct connection *connection = ipc->current;
    int err = mesh_engine_next(&connection->engine, &ipc->intake, message);

    if (connection->engine.state == ENGINE_OPEN)
        end_greeting(ipc, connection);
    arm(ipc, connection); /* it may have been answered */
    message->peer = ipc->kind == MESH_ROUTER ? connection->peer : 0;
    if (err == -EAGAIN)
        ipc->current = NULL;
    if (err == 0 || err == -EBADMSG || err == -EAGAIN)
        return err;
    end_broken(ipc, connection, err);
    return -EAGAIN;
}

int mesh_ipc_recv(struct mesh_ipc *ipc, struct mesh_message *message)
{
    int err = -EAGAIN;

    /* What comes may be no message without end: the owner has other things to do, too. */
    for (int reads = 0; err == -EAGAIN && (ipc->current || (reads++ < READS && read_next(ipc)));)
        if (ipc->current)
            err = take(ipc, message);
    return err;
}

bool mesh_ipc_next_lost(struct mesh_ipc *ipc, uint64_t *peer)
{
    return mesh_peer_list_take(&ipc->lost, peer);
}

/* Whether it has said something that was not looked at, as the owner has slept: once it gets more time for that. */
static bool spare(struct mesh_ipc *ipc, struct connection *connection, int64_t now_ns)
{
    uint8_t byte;

    if (connection->spared ||
        recv(connection->engine.fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) <= 0)
        return false;
    connection->spared = true;
    end_greeting(ipc, connection);
    expect_greeting(ipc, connection, now_ns);
    return true;
}

void mesh_ipc_tick(struct mesh_ipc *ipc, int64_t now_ns)
{
    struct connection *connection;

    if (ipc->paused && now_ns >= ipc->paused_until)
        listen_again(ipc);
    while ((connection = TAILQ_FIRST(&ipc->greeting)) && now_ns >= connection->greeted_by)
        if (!spare(ipc, connection, now_ns))
            end(ipc, connection);
}

int64_t mesh_ipc_next_ns(const struct mesh_ipc *ipc)
{
    const struct connection *first = TAILQ_FIRST(&ipc->greeting);
    int64_t next = first ? first->greeted_by : MESH_NEVER;

    return ipc->paused && ipc->paused_until < next ? ipc->paused_until : next;
}

void mesh_ipc_cut(struct mesh_ipc *ipc, uint64_t peer)
{
    const struct connection *connection = find(ipc, peer);

    if (connection)
        shutdown(connection->engine.fd, SHUT_RDWR);
}

/* ---- life ------------------------------------------------------------------------------------ */

int mesh_ipc_create(enum mesh_socket_kind kind, size_t max_message_bytes, struct mesh_ipc **out)
{
    struct mesh_ipc *ipc = calloc(1, sizeof(*ipc));

    if (!ipc)
        return -ENOMEM;
    ipc->kind = kind;
    ipc->max_frame_bytes = max_message_bytes + FRAME_SLACK;
    ipc->epoll = -1;
    TAILQ_INIT(&ipc->ready);
    TAILQ_INIT(&ipc->greeting);
    ipc->broken = metrics_counter("mesh_broken_connections_total",
                                  "Connections closed for what came over them", NULL);
    if (kind == MESH_ROUTER) {
        ipc->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (ipc->epoll < 0) {
            int err = -errno;

            free(ipc);
            return err;
        }
    }
    *out = ipc;
    return 0;
}

/* What has come is not looked at any more. */
static void read_and_forget(struct mesh_ipc *ipc)
{
    struct connection *connection;
    bool drained;

    ipc->current = NULL;
    while ((connection = TAILQ_FIRST(&ipc->ready))) {
        ssize_t got =
            recv(connection->engine.fd, ipc->intake.bytes, sizeof(ipc->intake.bytes), MSG_DONTWAIT);

        drained = got < 0 && (errno == EAGAIN || errno == EINTR);
        if (got <= 0 && !drained)
            end(ipc, connection);
        else
            set_ready(ipc, connection, false);
    }
}

static bool all_done(const struct mesh_ipc *ipc)
{
    const struct connection *connection = find(ipc, 0);

    if (ipc->kind == MESH_ROUTER)
        return ipc->n_connections == 0;
    return !connection || !mesh_engine_waits(&connection->engine);
}

static void linger(struct mesh_ipc *ipc, int linger_ms)
{
    int64_t until_ms = clock_now_ms() + linger_ms;
    int64_t left_ms = linger_ms;

    while (!all_done(ipc) && left_ms > 0) {
        struct pollfd fd = mesh_ipc_fd(ipc);

        fd.events = ipc->kind == MESH_DEALER ? POLLOUT : POLLIN;
        if (poll(&fd, 1, (int)left_ms) > 0)
            mesh_ipc_polled(ipc, fd.revents);
        if (ipc->stirred)
            hear(ipc);
        read_and_forget(ipc);
        left_ms = until_ms - clock_now_ms();
    }
}

void mesh_ipc_destroy(struct mesh_ipc **ipc, int linger_ms)
{
    struct mesh_ipc *self = *ipc;

    if (!self)
        return;
    stop_listening(self);
    linger(self, linger_ms);
    for (size_t i = 0; i < self->n_slots; i++)
        if (self->slots[i])
            drop(self, self->slots[i]);
    if (self->epoll >= 0)
        close(self->epoll);
    free(self->slots);
    free(self->spare);
    mesh_peer_list_fini(&self->lost);
    free(self);
    *ipc = NULL;
}
