/*
 * transport.h - a ROUTER or a DEALER with its connections: libzmq's, and for ipc:// without CURVE our own (ipc.h)
 *
 * Belongs to one thread. Nothing blocks but mesh_transport_close(). Its owner steps:
 *
 *     mesh_transport_watch()                       who has gone, by what libzmq tells
 *     while (mesh_transport_recv() == 0) ...       until -EAGAIN
 *     while (mesh_transport_next_lost()) ...       all that they had sent has been received
 *     unless (mesh_transport_is_uncertain())       sending takes notice of what has come: descriptors may fall silent
 *         poll(mesh_transport_fds()) until mesh_transport_next_ns(), mesh_transport_polled()
 */
#ifndef MESH_TRANSPORT_H
#define MESH_TRANSPORT_H

#include "mesh/message.h"
#include "mesh/monitor.h"
#include "mesh/peer_list.h"
#include "mesh/security.h"

#include <poll.h>

#define MESH_TRANSPORT_FDS 3

struct mesh_ipc;

struct mesh_transport_options {
    void *context; /* borrowed */
    enum mesh_socket_kind kind;
    size_t max_message_bytes;
    const struct mesh_security *security; /* borrowed; NULL: no CURVE */
    /* Of a ROUTER with CURVE: the ZAP domain, and who may connect; borrowed. */
    const char *domain;
    struct mesh_keyring *keyring;
};

/** Of a ROUTER: which of libzmq's peers is behind a descriptor. */
struct mesh_transport_peer {
    uint64_t peer;
    bool known;
};

struct mesh_transport {
    struct mesh_transport_options options;
    void *zmq; /* libzmq's socket; NULL: none */
    int zmq_fd;
    struct mesh_monitor monitor;
    struct mesh_zap *zap;
    struct mesh_ipc *ipc; /* NULL: none */
    bool uncertain;       /* libzmq may have seen a message, and its descriptor does not tell */
    bool ipc_first;       /* whose turn it is */
    int64_t watched_ns;   /* when the monitor was last read; 0: it has something */
    struct mesh_transport_peer *peer_by_fd; /* (n_fds) */
    size_t n_fds;
    struct mesh_peer_list lost;
};

/** All but close() follow a bind or a connect. */
void mesh_transport_init(struct mesh_transport *transport,
                         const struct mesh_transport_options *options);
/** Say what is to be said before: peers get linger_ms to read it and leave. */
void mesh_transport_close(struct mesh_transport *transport, int linger_ms);
/** Whether something is open. */
static inline bool mesh_transport_is_open(const struct mesh_transport *transport)
{
    return transport->zmq || transport->ipc;
}

/** A ROUTER's; several may follow each other. @param bound  (size) where it listens really. @return 0; -errno */
int mesh_transport_bind(struct mesh_transport *transport, const char *endpoint, char *bound,
                        size_t size);
/** A DEALER's. @return 0: it may stand by now, or later; -ECONNREFUSED, -ENOENT, -EAGAIN: nobody listens yet, try again;
 *  -errno */
int mesh_transport_connect(struct mesh_transport *transport, const char *endpoint);

/** @return as mesh_message_send() */
int mesh_transport_send(struct mesh_transport *transport, struct mesh_message *message);
/** @return as mesh_message_recv_any() */
int mesh_transport_recv(struct mesh_transport *transport, struct mesh_message *message);

/** Look at the first frame of each message that was taken and is known not to have left, not a byte of it. libzmq does
 *  not tell. */
void mesh_transport_each_unwritten(const struct mesh_transport *transport,
                                   void (*visit)(void *arg, const void *first, size_t size),
                                   void *arg);

/** At a HELLO, whose message this is: from now on its connection's end is noticed. */
void mesh_transport_note(struct mesh_transport *transport, struct mesh_message *hello);
/** Look who has gone. libzmq is asked now and then: each time is a system call. */
void mesh_transport_watch(struct mesh_transport *transport, int64_t now_ns);
/** How the last handshake failed that did, since this was asked last. */
enum mesh_handshake mesh_transport_failure(struct mesh_transport *transport);
/** Who has gone; 0 at a DEALER. @return false: nobody else */
bool mesh_transport_next_lost(struct mesh_transport *transport, uint64_t *peer);
/** End the connection of one who was noted. */
void mesh_transport_cut(struct mesh_transport *transport, uint64_t peer);

/** What to sleep on. @return how many, always the same while it is open */
int mesh_transport_fds(const struct mesh_transport *transport, struct pollfd *fds);
/** What poll() said of them. @return how many they are */
int mesh_transport_polled(struct mesh_transport *transport, const struct pollfd *fds);
/** When mesh_transport_watch() has something to do that no descriptor tells; MESH_NEVER. */
int64_t mesh_transport_next_ns(const struct mesh_transport *transport);
/** Whether mesh_transport_recv() may have something though no descriptor tells. */
bool mesh_transport_is_uncertain(const struct mesh_transport *transport);
/** Ask: POLLIN, mesh_transport_recv() has something; POLLOUT, a DEALER takes a message. */
short mesh_transport_events(struct mesh_transport *transport);

#endif
