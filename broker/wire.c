#include "broker/wire.h"

#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_MAX (1 << 20)
#define IPC_PREFIX "ipc://"
#define INPROC_PREFIX "inproc://"
#define FOLDER_MODE 0700
#define WATCH_NS 20000000 /* between looks at the monitor of a busy socket: each is a system call */

struct wire_peer {
    uint32_t peer;
    bool known;
};

/* What waits for one peer, in order. */
struct backlog {
    struct table_node by_peer;
    LIST_ENTRY(backlog) link;
    uint32_t peer;
    struct broker_message *first, **last;
    size_t count, bytes;
};

/* ---- endpoints ------------------------------------------------------------------------------- */

/* Make the folders of a path that are missing. */
static int make_folders(const char *path)
{
    char folder[PATH_MAX];

    if (snprintf(folder, sizeof(folder), "%s", path) >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, FOLDER_MODE) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

/* libzmq takes the file away from whoever listens there: look first. */
static bool somebody_listens(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes;

    if (fd < 0)
        return false;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    yes = connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 || errno == EAGAIN;
    close(fd);
    return yes;
}

static int prepare_ipc(const char *path)
{
    struct sockaddr_un name;
    int err;

    if (*path == '@' || *path == '*') /* no file, or one that libzmq picks */
        return 0;
    if (strlen(path) >= sizeof(name.sun_path))
        return -ENAMETOOLONG;
    err = make_folders(path);
    if (err < 0)
        return err;
    return somebody_listens(path) ? -EADDRINUSE : 0;
}

static int bind_one(struct wire *wire, const char *endpoint)
{
    char bound[PATH_MAX];
    size_t size = sizeof(bound);
    int ipv6 = strchr(endpoint, '[') != NULL;
    int err = 0;

    if (strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) == 0)
        err = prepare_ipc(endpoint + strlen(IPC_PREFIX));
    if (err < 0)
        return err;
    zmq_setsockopt(wire->socket, ZMQ_IPV6, &ipv6, sizeof(ipv6));
    if (zmq_bind(wire->socket, endpoint) < 0)
        return errno == EPROTONOSUPPORT || errno == ENOCOMPATPROTO ? -EINVAL : -errno;
    if (zmq_getsockopt(wire->socket, ZMQ_LAST_ENDPOINT, bound, &size) < 0)
        return -errno;
    wire->endpoints[wire->n_endpoints] = strdup(bound);
    if (!wire->endpoints[wire->n_endpoints])
        return -ENOMEM;
    wire->n_endpoints++;
    return 0;
}

static int bind_all(struct wire *wire, const char *const *endpoints)
{
    size_t n = 0;
    int err = 0;

    while (endpoints && endpoints[n])
        n++;
    if (n == 0)
        return -EINVAL;
    wire->endpoints = calloc(n, sizeof(*wire->endpoints));
    if (!wire->endpoints)
        return -ENOMEM;
    for (size_t i = 0; err == 0 && i < n; i++) {
        err = bind_one(wire, endpoints[i]);
        if (err < 0)
            log_error("cannot listen on '%s': %s", endpoints[i],
                      err == -EINVAL ? "give tcp://HOST:PORT, ipc://PATH or inproc://NAME"
                                     : strerror(-err));
    }
    return err;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool all_inside(const char *const *endpoints)
{
    bool inside = true;

    for (size_t i = 0; endpoints && endpoints[i]; i++)
        inside = inside && strncmp(endpoints[i], INPROC_PREFIX, strlen(INPROC_PREFIX)) == 0;
    return inside;
}

int wire_open(struct wire *wire, enum broker_side side, void *context, const char *const *endpoints,
              size_t max_message_bytes, const struct mesh_security *security)
{
    int err;

    *wire = (struct wire){.side = side, .unsure = true};
    LIST_INIT(&wire->backlogs);
    table_init(&wire->backlog_by_peer, 0); /* keys are random already */
    wire->socket = mesh_socket_open(context, MESH_ROUTER, max_message_bytes);
    if (!wire->socket)
        return -errno;
    if (all_inside(endpoints)) /* where CURVE has no meaning */
        security = NULL;
    if (security)
        wire->keyring = side == BROKER_FRONT ? security->callers : security->workers;
    err = mesh_security_bind(security, context, wire->socket,
                             side == BROKER_FRONT ? "mesh.client" : "mesh.worker", wire->keyring,
                             &wire->zap);
    if (err == 0)
        err = mesh_monitor_open(context, wire->socket, &wire->monitor);
    return err < 0 ? err : bind_all(wire, endpoints);
}

static void backlog_free(struct wire *wire, struct backlog *backlog)
{
    while (backlog->first) {
        struct broker_message *message = backlog->first;

        backlog->first = message->next;
        broker_core_recycle(wire->core, message);
    }
    table_remove(&wire->backlog_by_peer, &backlog->by_peer);
    LIST_REMOVE(backlog, link);
    free(backlog);
}

void wire_close(struct wire *wire, int linger_ms)
{
    while (!LIST_EMPTY(&wire->backlogs))
        backlog_free(wire, LIST_FIRST(&wire->backlogs));
    table_fini(&wire->backlog_by_peer);
    mesh_monitor_close(&wire->monitor);
    for (size_t i = 0; i < wire->n_endpoints; i++)
        zmq_unbind(wire->socket, wire->endpoints[i]); /* inproc:// is free again at once */
    if (wire->socket) {
        zmq_setsockopt(wire->socket, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
        zmq_close(wire->socket);
    }
    mesh_zap_leave(&wire->zap);
    for (size_t i = 0; i < wire->n_endpoints; i++)
        free(wire->endpoints[i]);
    free(wire->endpoints);
    free(wire->peer_by_fd);
    free(wire->lost);
    *wire = (struct wire){.side = wire->side};
}

/* ---- who is lost ----------------------------------------------------------------------------- */

static void lose(struct wire *wire, uint32_t peer, const char *why)
{
    for (size_t i = 0; i < wire->n_lost; i++)
        if (wire->lost[i].peer == peer)
            return;
    if (wire->n_lost == wire->lost_room) {
        size_t room = wire->lost_room ? 2 * wire->lost_room : 16;
        struct wire_lost *lost = realloc(wire->lost, room * sizeof(*lost));

        if (!lost)
            return; /* its heartbeats will tell */
        wire->lost = lost;
        wire->lost_room = room;
    }
    wire->lost[wire->n_lost++] = (struct wire_lost){.peer = peer, .why = why};
}

/* Remember which connection a peer's session began on. */
static void note_fd(struct wire *wire, uint32_t peer, int fd)
{
    if (fd < 0 || fd >= FDS_MAX)
        return;
    if ((size_t)fd >= wire->n_fds) {
        size_t n = (size_t)fd + 64;
        struct wire_peer *peers = realloc(wire->peer_by_fd, n * sizeof(*peers));

        if (!peers)
            return;
        memset(peers + wire->n_fds, 0, (n - wire->n_fds) * sizeof(*peers));
        wire->peer_by_fd = peers;
        wire->n_fds = n;
    }
    wire->peer_by_fd[fd] = (struct wire_peer){.peer = peer, .known = true};
}

static void read_monitor(struct wire *wire)
{
    int fd;

    while ((fd = mesh_monitor_next(&wire->monitor)) >= 0) {
        if ((size_t)fd >= wire->n_fds || !wire->peer_by_fd[fd].known)
            continue;
        wire->peer_by_fd[fd].known = false;
        lose(wire, wire->peer_by_fd[fd].peer, "its connection was closed");
    }
}

void wire_watch(struct wire *wire, int64_t now_ns)
{
    if (now_ns - wire->watched_ns < WATCH_NS)
        return;
    wire->watched_ns = now_ns;
    read_monitor(wire);
}

/* ---- sleeping -------------------------------------------------------------------------------- */

void wire_fds(const struct wire *wire, struct pollfd *fds)
{
    size_t size = sizeof(fds[0].fd);

    fds[0] = (struct pollfd){.fd = -1, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = mesh_monitor_fd(&wire->monitor), .events = POLLIN};
    zmq_getsockopt(wire->socket, ZMQ_FD, &fds[0].fd, &size);
}

void wire_polled(struct wire *wire, const struct pollfd *fds)
{
    if (fds[0].revents)
        wire->unsure = true;
    if (fds[1].revents)
        wire->watched_ns = 0;
}

/* ---- receiving ------------------------------------------------------------------------------- */

int wire_recv(struct wire *wire, struct broker_message *message, struct mesh_frame *frame)
{
    int err = mesh_message_recv(wire->socket, MESH_ROUTER, &message->message, frame);

    message->filled = err == 0;
    if (err == -EAGAIN)
        wire->unsure = false;
    if (err == 0 && frame->header.kind == MESH_HELLO) {
        read_monitor(wire); /* of whoever had this descriptor before */
        note_fd(wire, message->message.peer, zmq_msg_get(&message->message.first, ZMQ_SRCFD));
    }
    return err;
}

/* ---- sending --------------------------------------------------------------------------------- */

static struct backlog *backlog_find(const struct wire *wire, uint32_t peer)
{
    struct table_node *node = table_find(&wire->backlog_by_peer, peer);

    return node ? container_of(node, struct backlog, by_peer) : NULL;
}

static struct backlog *backlog_make(struct wire *wire, uint32_t peer)
{
    struct backlog *backlog = calloc(1, sizeof(*backlog));

    if (!backlog || table_add(&wire->backlog_by_peer, &backlog->by_peer, peer) < 0) {
        free(backlog);
        return NULL;
    }
    backlog->peer = peer;
    backlog->last = &backlog->first;
    LIST_INSERT_HEAD(&wire->backlogs, backlog, link);
    return backlog;
}

/* The message waits. What its peer does not read has an end. */
static void put_off(struct wire *wire, struct backlog *backlog, struct broker_message *message)
{
    uint32_t peer = message->message.peer;

    if (!backlog)
        backlog = backlog_make(wire, peer);
    if (!backlog || backlog->count >= WIRE_BACKLOG_MESSAGES ||
        backlog->bytes >= WIRE_BACKLOG_BYTES) {
        broker_core_recycle(wire->core, message);
        lose(wire, peer, "it does not read what it is sent");
        return;
    }
    message->next = NULL;
    *backlog->last = message;
    backlog->last = &message->next;
    backlog->count++;
    backlog->bytes += mesh_message_bytes(&message->message);
}

/* @return 0: sent or given up, the node is back; -EAGAIN: not now */
static int send_now(struct wire *wire, struct broker_message *message)
{
    uint32_t peer = message->message.peer;
    int err = mesh_message_send(wire->socket, MESH_ROUTER, &message->message);

    wire->unsure =
        true; /* sending takes notice of what has come, and the descriptor falls silent */
    if (err == -EAGAIN)
        return err;
    message->filled = err < 0; /* what was sent is gone */
    broker_core_recycle(wire->core, message);
    if (err < 0)
        lose(wire, peer, "its connection is gone");
    return 0;
}

void wire_act(struct wire *wire, struct broker_message *action)
{
    struct backlog *backlog = NULL;

    if (!LIST_EMPTY(&wire->backlogs))
        backlog = backlog_find(wire, action->message.peer);
    switch (action->action) {
    case BROKER_SEND:
        if (backlog || send_now(wire, action) == -EAGAIN)
            put_off(wire, backlog, action);
        break;
    case BROKER_ANSWER:
        wire->unsure = true;
        if (backlog || mesh_message_send(wire->socket, MESH_ROUTER, &action->message) < 0)
            broker_core_recycle(wire->core, action);
        else {
            action->filled = false;
            broker_core_recycle(wire->core, action);
        }
        break;
    case BROKER_FORGET:
        if (backlog)
            backlog_free(wire, backlog);
        broker_core_recycle(wire->core, action);
        break;
    }
}

static void backlog_flush(struct wire *wire, struct backlog *backlog)
{
    while (backlog->first) {
        struct broker_message *message = backlog->first;
        struct broker_message *next = message->next;
        size_t bytes = mesh_message_bytes(&message->message);

        if (send_now(wire, message) == -EAGAIN)
            return;
        backlog->first = next;
        backlog->count--;
        backlog->bytes -= bytes;
    }
    backlog_free(wire, backlog);
}

bool wire_flush(struct wire *wire)
{
    for (struct backlog *backlog = LIST_FIRST(&wire->backlogs), *next; backlog; backlog = next) {
        next = LIST_NEXT(backlog, link);
        backlog_flush(wire, backlog);
    }
    return !LIST_EMPTY(&wire->backlogs);
}
