/*
 * zap.h - asks the keyring about everyone who wants to connect with CURVE (ZeroMQ RFC 27)
 *
 * libzmq knows one place to ask in a context: inproc://zeromq.zap.01. A thread of its own answers
 * there for all sockets of the context that have joined, and never blocks: handshakes wait for it. Without it
 * libzmq would let everyone in, so sockets join before they bind, and leave after they are closed.
 */
#ifndef MESH_ZAP_H
#define MESH_ZAP_H

#include "mesh/keyring.h"

struct mesh_zap;

/**
 * Have a keyring asked about who connects to a socket, which is not bound yet: sets its ZAP domain.
 *
 * @param domain   "mesh.client": for the log and the metric
 * @param keyring  borrowed until mesh_zap_leave()
 * @return 0; -EADDRINUSE: the context has another ZAP handler; -ENOMEM, ...
 */
int mesh_zap_join(void *context, void *socket, const char *domain, struct mesh_keyring *keyring,
                  struct mesh_zap **out);
/** After the socket's zmq_close(), before zmq_ctx_term(). The last one ends the thread. */
void mesh_zap_leave(struct mesh_zap **zap);

#endif
