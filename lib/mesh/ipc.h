/*
 * ipc.h - a ROUTER or a DEALER over Unix sockets, without a thread: what libzmq's would do, for ipc:// without CURVE
 *
 * Why it is here: libzmq hands every message from thread to thread, twice in each process. On the wire it is ZMTP
 * (zmtp.h), so a peer that uses libzmq notices nothing. Belongs to one thread. Nothing blocks but mesh_ipc_destroy().
 */
#ifndef MESH_IPC_H
#define MESH_IPC_H

#include "mesh/message.h"
#include "mesh/monitor.h"

#include <poll.h>

struct mesh_ipc;

/** @return 0; -EMFILE and the like; -ENOMEM */
int mesh_ipc_create(enum mesh_socket_kind kind, size_t max_message_bytes, struct mesh_ipc **out);
/** Close. A ROUTER's peers get linger_ms to read what was sent and to leave; a DEALER waits that long until all is written. */
void mesh_ipc_destroy(struct mesh_ipc **ipc, int linger_ms);

/** Listen, at one name of several. @return as mesh_listener_open(); -ENOSPC: there are 16 */
int mesh_ipc_bind(struct mesh_ipc *ipc, const char *name);
/** Connect a DEALER, again when that is lost. @return 0; else as mesh_listener_connect(); -EISCONN */
int mesh_ipc_connect(struct mesh_ipc *ipc, const char *name);

/** Whether a peer is one of an mesh_ipc's: their numbers are none of libzmq's. */
static inline bool mesh_ipc_has_peer(uint64_t peer)
{
    return peer >> 62 != 0;
}

/** @return as mesh_message_send() */
int mesh_ipc_send(struct mesh_ipc *ipc, struct mesh_message *message);
/** @return as mesh_message_recv_any(); -EAGAIN: none, or none yet where mesh_ipc_is_ready(); -EBADMSG: message->peer sent
 *  more than two frames */
int mesh_ipc_recv(struct mesh_ipc *ipc, struct mesh_message *message);

/** As of an engine: a DEALER's. */
void mesh_ipc_each_unwritten(const struct mesh_ipc *ipc,
                             void (*visit)(void *arg, const void *first, size_t size), void *arg);

/** What to sleep on, unless mesh_ipc_is_ready(). */
struct pollfd mesh_ipc_fd(const struct mesh_ipc *ipc);
/** What poll() said of it. */
void mesh_ipc_polled(struct mesh_ipc *ipc, short revents);
/** Whether mesh_ipc_recv() may have something. */
bool mesh_ipc_is_ready(const struct mesh_ipc *ipc);
/** How the last handshake of a DEALER failed; MISMATCH: the peer's mechanism is not NULL. */
enum mesh_handshake mesh_ipc_failure(const struct mesh_ipc *ipc);
/** Whether a DEALER would take a message. */
bool mesh_ipc_takes(const struct mesh_ipc *ipc);

/** Now and then: end handshakes that take too long, accept again where descriptors were short. */
void mesh_ipc_tick(struct mesh_ipc *ipc, int64_t now_ns);
/** When that is due, so as not to sleep longer; MESH_NEVER. */
int64_t mesh_ipc_next_ns(const struct mesh_ipc *ipc);
/** Who has left, once all that he had sent was received; 0 at a DEALER. @return false: nobody else */
bool mesh_ipc_next_lost(struct mesh_ipc *ipc, uint64_t *peer);
/** End a peer's connection: it is lost as soon as what it had sent is received. */
void mesh_ipc_cut(struct mesh_ipc *ipc, uint64_t peer);

#endif
