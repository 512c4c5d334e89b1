#include "mesh/transport.h"

#include "mesh/deadline.h"
#include "mesh/ipc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define IPC_PREFIX "ipc://"
#define FDS_MAX (1 << 20)
#define WATCH_NS INT64_C(20000000) /* between looks at the monitor of a busy socket */

/* ---- opening --------------------------------------------------------------------------------- */

void mesh_transport_init(struct mesh_transport *transport,
                         const struct mesh_transport_options *options)
{
    *transport = (struct mesh_transport){.options = *options, .zmq_fd = -1, .uncertain = true};
}

/* The path of an endpoint that is our own engines'; NULL: libzmq's. It picks names for "*". */
static const char *own_path(const struct mesh_transport *transport, const char *endpoint)
{
    bool ours = !transport->options.security &&
                strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) == 0 &&
                endpoint[strlen(IPC_PREFIX)] != '*';

    return ours ? endpoint + strlen(IPC_PREFIX) : NULL;
}

static int open_ipc(struct mesh_transport *transport)
{
    if (transport->ipc)
        return 0;
    return mesh_ipc_create(transport->options.kind, transport->options.max_message_bytes,
                           &transport->ipc);
}

static int secure(struct mesh_transport *transport)
{
    const struct mesh_transport_options *options = &transport->options;

    if (options->kind == MESH_DEALER)
        return mesh_security_connect(options->security, transport->zmq);
    return mesh_security_bind(options->security, options->context, transport->zmq, options->domain,
                              options->keyring, &transport->zap);
}

static int open_zmq(struct mesh_transport *transport)
{
    const struct mesh_transport_options *options = &transport->options;
    size_t size = sizeof(transport->zmq_fd);
    int err;

    if (transport->zmq)
        return 0;
    transport->zmq = mesh_socket_open(options->context, options->kind, options->max_message_bytes);
    if (!transport->zmq)
        return -errno;
    err = secure(transport);
    if (err == 0)
        err = mesh_monitor_open(options->context, transport->zmq, &transport->monitor);
    if (err == 0)
        zmq_getsockopt(transport->zmq, ZMQ_FD, &transport->zmq_fd, &size);
    return err;
}

int mesh_transport_bind(struct mesh_transport *transport, const char *endpoint, char *bound,
                        size_t size)
{
    const char *path = own_path(transport, endpoint);
    int err = path ? open_ipc(transport) : open_zmq(transport);

    if (err < 0)
        return err;
    if (path) {
        snprintf(bound, size, "%s", endpoint);
        return mesh_ipc_bind(transport->ipc, path);
    }
    mesh_socket_prepare(transport->zmq, endpoint);
    if (zmq_bind(transport->zmq, endpoint) < 0)
        return errno == EPROTONOSUPPORT || errno == ENOCOMPATPROTO ? -EINVAL : -errno;
    return zmq_getsockopt(transport->zmq, ZMQ_LAST_ENDPOINT, bound, &size) < 0 ? -errno : 0;
}

int mesh_transport_connect(struct mesh_transport *transport, const char *endpoint)
{
    const char *path = own_path(transport, endpoint);
    int err = path ? open_ipc(transport) : open_zmq(transport);

    if (err < 0)
        return err;
    if (path)
        return mesh_ipc_connect(transport->ipc, path);
    mesh_socket_prepare(transport->zmq, endpoint);
    return zmq_connect(transport->zmq, endpoint) < 0 ? -errno : 0;
}

static void close_zmq(struct mesh_transport *transport, int linger_ms)
{
    if (transport->options.kind == MESH_ROUTER) {
        mesh_monitor_end(&transport->monitor, transport->zmq, linger_ms);
    } else {
        mesh_monitor_close(&transport->monitor);
        zmq_setsockopt(transport->zmq, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
        zmq_close(transport->zmq);
    }
    mesh_zap_leave(&transport->zap);
}

void mesh_transport_close(struct mesh_transport *transport, int linger_ms)
{
    const struct mesh_transport_options options = transport->options;

    mesh_ipc_destroy(&transport->ipc, linger_ms);
    if (transport->zmq)
        close_zmq(transport, linger_ms);
    free(transport->peer_by_fd);
    mesh_peer_list_fini(&transport->lost);
    mesh_transport_init(transport, &options);
}

/* ---- messages -------------------------------------------------------------------------------- */

int mesh_transport_send(struct mesh_transport *transport, struct mesh_message *message)
{
    if (transport->ipc && (!transport->zmq || mesh_ipc_has_peer(message->peer)))
        return mesh_ipc_send(transport->ipc, message);
    transport->uncertain = true;
    return mesh_message_send(transport->zmq, transport->options.kind, message);
}

static int recv_zmq(struct mesh_transport *transport, struct mesh_message *message)
{
    int err = mesh_message_recv_any(transport->zmq, transport->options.kind, message);

    if (err == -EAGAIN)
        transport->uncertain = false;
    return err;
}

int mesh_transport_recv(struct mesh_transport *transport, struct mesh_message *message)
{
    int err = -EAGAIN;

    if (!transport->ipc)
        return recv_zmq(transport, message);
    if (!transport->zmq)
        return mesh_ipc_recv(transport->ipc, message);
    transport->ipc_first = !transport->ipc_first;
    if (transport->ipc_first)
        err = mesh_ipc_recv(transport->ipc, message);
    if (err == -EAGAIN)
        err = recv_zmq(transport, message);
    if (err == -EAGAIN && !transport->ipc_first)
        err = mesh_ipc_recv(transport->ipc, message);
    return err;
}

void mesh_transport_each_unwritten(const struct mesh_transport *transport,
                                   void (*visit)(void *arg, const void *first, size_t size),
                                   void *arg)
{
    if (transport->ipc)
        mesh_ipc_each_unwritten(transport->ipc, visit, arg);
}

/* ---- who is lost ----------------------------------------------------------------------------- */

static void read_monitor(struct mesh_transport *transport)
{
    bool router = transport->options.kind == MESH_ROUTER;
    int fd;

    while ((fd = mesh_monitor_next(&transport->monitor)) >= 0) {
        if (!router) {
            mesh_peer_list_add(&transport->lost, 0);
        } else if ((size_t)fd < transport->n_fds && transport->peer_by_fd[fd].known) {
            transport->peer_by_fd[fd].known = false;
            mesh_peer_list_add(&transport->lost, transport->peer_by_fd[fd].peer);
        }
    }
}

void mesh_transport_note(struct mesh_transport *transport, struct mesh_message *hello)
{
    int fd = mesh_ipc_has_peer(hello->peer) ? -1 : zmq_msg_get(&hello->first, ZMQ_SRCFD);

    if (fd < 0 || fd >= FDS_MAX)
        return;
    read_monitor(transport); /* of whoever had this descriptor before */
    if ((size_t)fd >= transport->n_fds) {
        size_t n = (size_t)fd + 64;
        struct mesh_transport_peer *peers = realloc(transport->peer_by_fd, n * sizeof(*peers));

        if (!peers)
            return;
        memset(peers + transport->n_fds, 0, (n - transport->n_fds) * sizeof(*peers));
        transport->peer_by_fd = peers;
        transport->n_fds = n;
    }
    transport->peer_by_fd[fd] = (struct mesh_transport_peer){.peer = hello->peer, .known = true};
}

void mesh_transport_watch(struct mesh_transport *transport, int64_t now_ns)
{
    if (transport->ipc)
        mesh_ipc_tick(transport->ipc, now_ns);
    if (!transport->zmq || now_ns - transport->watched_ns < WATCH_NS)
        return;
    transport->watched_ns = now_ns;
    read_monitor(transport);
}

enum mesh_handshake mesh_transport_failure(struct mesh_transport *transport)
{
    enum mesh_handshake failed = transport->monitor.failed;

    transport->monitor.failed = MESH_HANDSHAKE_FINE;
    if (transport->ipc)
        failed = mesh_ipc_failure(transport->ipc);
    return failed;
}

bool mesh_transport_next_lost(struct mesh_transport *transport, uint64_t *peer)
{
    if (mesh_peer_list_take(&transport->lost, peer))
        return true;
    return transport->ipc && mesh_ipc_next_lost(transport->ipc, peer);
}

void mesh_transport_cut(struct mesh_transport *transport, uint64_t peer)
{
    if (transport->ipc && mesh_ipc_has_peer(peer)) {
        mesh_ipc_cut(transport->ipc, peer);
        return;
    }
    read_monitor(transport); /* who has gone meanwhile, and whose number may be another's */
    /* libzmq offers no way to end one connection of a ROUTER: its descriptor does. */
    for (size_t fd = 0; fd < transport->n_fds; fd++)
        if (transport->peer_by_fd[fd].known && transport->peer_by_fd[fd].peer == peer)
            shutdown((int)fd, SHUT_RDWR);
}

/* ---- sleeping -------------------------------------------------------------------------------- */

int mesh_transport_fds(const struct mesh_transport *transport, struct pollfd *fds)
{
    int n = 0;

    if (transport->ipc)
        fds[n++] = mesh_ipc_fd(transport->ipc);
    if (transport->zmq) {
        fds[n++] = (struct pollfd){.fd = transport->zmq_fd, .events = POLLIN};
        fds[n++] = (struct pollfd){.fd = mesh_monitor_fd(&transport->monitor), .events = POLLIN};
    }
    return n;
}

int mesh_transport_polled(struct mesh_transport *transport, const struct pollfd *fds)
{
    int n = 0;

    if (transport->ipc)
        mesh_ipc_polled(transport->ipc, fds[n++].revents);
    if (transport->zmq) {
        transport->uncertain |= fds[n++].revents != 0;
        if (fds[n++].revents)
            transport->watched_ns = 0;
    }
    return n;
}

int64_t mesh_transport_next_ns(const struct mesh_transport *transport)
{
    return transport->ipc ? mesh_ipc_next_ns(transport->ipc) : MESH_NEVER;
}

bool mesh_transport_is_uncertain(const struct mesh_transport *transport)
{
    return (transport->zmq && transport->uncertain) ||
           (transport->ipc && mesh_ipc_is_ready(transport->ipc));
}

short mesh_transport_events(struct mesh_transport *transport)
{
    int events = 0;
    size_t size = sizeof(events);
    short found = 0;

    if (transport->zmq && zmq_getsockopt(transport->zmq, ZMQ_EVENTS, &events, &size) == 0) {
        found |= events & ZMQ_POLLIN ? POLLIN : 0;
        found |= events & ZMQ_POLLOUT ? POLLOUT : 0;
    }
    if (transport->ipc) {
        found |= mesh_ipc_is_ready(transport->ipc) ? POLLIN : 0;
        found |= mesh_ipc_takes(transport->ipc) ? POLLOUT : 0;
    }
    return found;
}
