/*
 * peers.h - the binding side of sessions: who has said HELLO at a ROUTER, and is alive
 *
 * Belongs to one thread, which steps it. The counterpart of link.h; what a server with `bind` listens
 * with.
 */
#ifndef MESH_PEERS_H
#define MESH_PEERS_H

#include "mesh/link.h"
#include "mesh/source.h"

#define MESH_PEERS_FDS MESH_TRANSPORT_FDS

struct mesh_peer {
    struct mesh_peer *next; /* of the same bucket */
    uint64_t id;
    struct mesh_heartbeat beat;
    struct mesh_outbox outbox;
    bool bundles; /* it takes them */
    bool gathers; /* in the list of those to flush */
    struct mesh_peer *next_gathering;
    size_t max_message_bytes;       /* the smaller of both sides' */
    char broken[64];                /* why the session ends with this step */
    struct mesh_identity *identity; /* owned; NULL: nobody in particular */

    struct mesh_source source; /* the owner's */
};

struct mesh_peers_handler {
    void (*gone)(void *arg, struct mesh_peer *peer, const char *why);
    /** A frame for the owner, who takes the message. */
    void (*frame)(void *arg, struct mesh_peer *peer, struct mesh_message *message,
                  const struct mesh_frame *frame);
};

struct mesh_peers_options {
    void *context; /* borrowed */
    const char *endpoint;
    size_t max_message_bytes;
    uint32_t heartbeat_ms;                /* 0: the default */
    const struct mesh_security *security; /* borrowed; NULL: no CURVE */
};

struct mesh_peers;

/** Bind. @return 0; -EADDRINUSE, -EINVAL, ...; -ENOMEM */
int mesh_peers_create(const struct mesh_peers_options *options,
                      const struct mesh_peers_handler *handler, void *arg, struct mesh_peers **out);
/** Say BYE to all, give what was sent linger_ms to leave. */
void mesh_peers_destroy(struct mesh_peers **peers, int linger_ms);
/** Where it listens really ("tcp://127.0.0.1:*" gets its port); borrowed. */
const char *mesh_peers_endpoint(const struct mesh_peers *peers);

/* As of a link. */
bool mesh_peers_step(struct mesh_peers *peers, int64_t now_ns);
int mesh_peers_fds(const struct mesh_peers *peers, struct pollfd *fds);
void mesh_peers_polled(struct mesh_peers *peers, const struct pollfd *fds);
bool mesh_peers_pending(struct mesh_peers *peers);
int64_t mesh_peers_next_ns(const struct mesh_peers *peers);

/** As of a link: gathered until the next flush. */
int mesh_peers_send(struct mesh_peers *peers, struct mesh_peer *peer, struct mesh_message *message);
void mesh_peers_reject(struct mesh_peers *peers, struct mesh_peer *peer, enum status_code code,
                       const char *why);
void mesh_peers_flush(struct mesh_peers *peers);
/** How many have a session. */
size_t mesh_peers_count(const struct mesh_peers *peers);
/** Ask all, and whoever comes later, for no new calls. */
void mesh_peers_goaway(struct mesh_peers *peers);

#endif
