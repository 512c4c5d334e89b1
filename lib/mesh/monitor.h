/*
 * monitor.h - hears from a ZeroMQ socket that a connection has closed
 *
 * A hint, earlier than the heartbeat: inproc:// says nothing. The file descriptor names the connection at a ROUTER (compare
 * ZMQ_SRCFD of a message). Read the monitor before the messages that tell whose it is: a number is used again.
 */
#ifndef MESH_MONITOR_H
#define MESH_MONITOR_H

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
    enum mesh_handshake
        failed; /* the last one that mesh_monitor_next() came by; its reader resets it */
};

/** Watch a socket, from the thread that owns it. @return 0; -errno */
int mesh_monitor_open(void *context, void *socket, struct mesh_monitor *monitor);
/** Before the socket is closed. */
void mesh_monitor_close(struct mesh_monitor *monitor);

/** To poll for reading, edge-triggered: read all with mesh_monitor_next(). */
int mesh_monitor_fd(const struct mesh_monitor *monitor);

/**
 * Stop listening, and wait until that is so: libzmq closes listeners on a thread of its own, and who
 * binds the same address too soon is told that it is in use.
 */
void mesh_monitor_unbind(struct mesh_monitor *monitor, const char *endpoint);

/** Next connection that has closed. @return its file descriptor (closed; a name only); -1: none */
int mesh_monitor_next(struct mesh_monitor *monitor);

#endif
