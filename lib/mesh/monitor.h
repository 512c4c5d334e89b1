/*
 * monitor.h - hears from a ZeroMQ socket that a connection has closed
 *
 * A hint, earlier than the heartbeat: inproc:// says nothing. The file descriptor names the connection at a ROUTER (compare
 * ZMQ_SRCFD of a message). Read the monitor before the messages that tell whose it is: a number is used again.
 */
#ifndef MESH_MONITOR_H
#define MESH_MONITOR_H

#include <stddef.h>
#include <stdint.h>

enum mesh_handshake {
    MESH_HANDSHAKE_FINE,
    MESH_HANDSHAKE_BROKEN,   /* the peer broke off: what it got, it cannot read, or it died */
    MESH_HANDSHAKE_MISMATCH, /* one side speaks CURVE and the other does not */
    MESH_HANDSHAKE_REFUSED,  /* by the peer's ZAP handler */
};

struct mesh_monitor {
    void *socket; /* the watched one; NULL when not open */
    void *events;
    size_t n_connections; /* accepted and not closed, of a bound socket over tcp:// or ipc:// */
    enum mesh_handshake
        failed; /* the last one that mesh_monitor_next() came by; its reader resets it */
    int most_fd; /* a connection accepted with a greater one is closed at once: see mesh_monitor_next() */
    int64_t told_ns; /* when that was logged last */
};

/** The greatest descriptor that connections may have: the last few are for logs, keys, calls to other places. */
int mesh_descriptors_most(void);

/** Watch a socket, from the thread that owns it. @return 0; -errno */
int mesh_monitor_open(void *context, void *socket, struct mesh_monitor *monitor);
/** Before the socket is closed. */
void mesh_monitor_close(struct mesh_monitor *monitor);

/** To poll for reading, edge-triggered: read all with mesh_monitor_next(). */
int mesh_monitor_fd(const struct mesh_monitor *monitor);

/**
 * Close a bound socket and its monitor, after a BYE to all who are connected, and wait until it is gone.
 *
 * Peers get linger_ms to read what was sent and to leave, before their connection is closed: where libzmq hears at
 * once that messages have come and that a connection is lost, it drops the messages. To unbind first would lose them, too:
 * a listener takes its connections with it. Afterwards the socket's addresses are free.
 */
void mesh_monitor_end(struct mesh_monitor *monitor, void *socket, int linger_ms);

/**
 * Next connection that has closed.
 *
 * A process that runs out of descriptors cannot accept, and libzmq would try without end and without rest. So
 * connections that take one of the last few are closed here as they come: their peers try again later.
 *
 *  @return its file descriptor (closed; a name only); -1: none */
int mesh_monitor_next(struct mesh_monitor *monitor);

#endif
