/*
 * wire.h - one side of the broker: a bound ROUTER, who is behind it, and what waits to be sent
 *
 * Nothing here blocks. What a peer does not take at once waits in a list of bounded bytes; a peer whose
 * list is full, or whose connection is gone, is reported as lost. Owned by the broker's thread.
 */
#ifndef BROKER_WIRE_H
#define BROKER_WIRE_H

#include "broker/core.h"
#include "broker/table.h"
#include "mesh/inbox.h"

#include <poll.h>
#include <sys/queue.h>

#define WIRE_CUT_NS 500000000 /* for the last word to leave before a connection is cut */

struct wire_lost {
    uint64_t peer;
    const char *why;
};

struct outgoing;
LIST_HEAD(outgoing_list, outgoing);

struct wire {
    enum broker_side side;
    struct broker_core *core; /* borrowed: whose nodes the messages are */
    struct mesh_transport transport;
    struct mesh_keyring *keyring; /* borrowed: who may connect; NULL: no CURVE */
    char **endpoints;             /* (n_endpoints) as bound */
    size_t n_endpoints;
    int64_t warned_ns;   /* of a broken handshake; 0: never */
    uint64_t *condemned; /* (n_condemned) peers that are let in no longer, */
    size_t n_condemned;
    int64_t cut_ns; /* and when they are cut off; 0: none is to be */
    struct mesh_inbox inbox;
    struct table outgoing_by_peer;
    struct outgoing_list gathering; /* peers for whom something was put since the last flush */
    struct outgoing_list stuck;     /* and those that do not take all they are sent */
    struct outgoing_list spare;     /* (n_spare) for the next peers */
    size_t n_spare;
    struct wire_lost *lost; /* (n_lost) to be told to the core */
    size_t n_lost, lost_room;
};

/**
 * Bind. Folders of ipc:// endpoints are made, for this user alone.
 *
 * @param endpoints  ended by NULL
 * @param security   borrowed until wire_close(); NULL: no CURVE
 * @return 0; -EINVAL: no endpoint; -EADDRINUSE, also for an ipc:// that somebody listens on; ...
 */
int wire_open(struct wire *wire, enum broker_side side, void *context, const char *const *endpoints,
              size_t max_message_bytes, const struct mesh_security *security);
void wire_close(struct wire *wire, int linger_ms);

/** Who sent a message. */
struct wire_sender {
    uint16_t number; /* 0: no keys are asked for */
    bool known;      /* of HELLO: whether `who` is filled */
    struct mesh_identity who;
};

/** Receive one message. @return as mesh_message_recv() */
int wire_recv(struct wire *wire, struct broker_message *message, struct mesh_frame *frame,
              struct wire_sender *sender);

/** Carry an action out, with the next flush; the node goes back to the core when it is done with. */
void wire_act(struct wire *wire, struct broker_message *action);

/** Send what was put. */
void wire_flush(struct wire *wire);
/** Try again with what peers did not take. @return whether something still waits */
bool wire_retry(struct wire *wire);

/** See who has gone, after all that they had sent was received: they go to `lost`. */
void wire_watch(struct wire *wire, int64_t now_ns);
/** When that has something to do that no descriptor tells; MESH_NEVER. */
int64_t wire_next_ns(const struct wire *wire);

#endif
