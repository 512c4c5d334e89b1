/*
 * core.h - the broker as a pure state machine: step(state, event, now) gives actions
 *
 * No sockets, no clock, no threads: broker.c is the shell that has them, and a simulation in
 * tests/broker/ is another. Messages pass through by reference: the node that an event brings is,
 * with a rewritten header, the node that an action sends.
 */
#ifndef BROKER_CORE_H
#define BROKER_CORE_H

#include "mesh/keyring.h"
#include "mesh/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum broker_side { BROKER_FRONT, BROKER_BACK }; /* callers, workers */

enum broker_action {
    BROKER_SEND,   /* message, to message.peer of that side */
    BROKER_ANSWER, /* likewise, to a peer without a session: drop it when it cannot be sent at once */
    BROKER_CUT,    /* let go of message.peer's connection, soon: it has been told why */
    BROKER_FORGET, /* nothing more for message.peer: drop what still waits to be sent to it */
};

/** A message that comes in or goes out, or an action without one. */
struct broker_message {
    struct broker_message *next;
    enum broker_side side;
    enum broker_action action;
    bool filled;  /* whether there is a message besides its peer */
    bool bundles; /* BROKER_SEND: the peer takes bundles (docs/wire.md section 2) */
    struct mesh_message message;
};

enum broker_event_kind {
    BROKER_MESSAGE, /* message arrived; frame is its parts */
    BROKER_RUBBISH, /* peer sent something that is no frame; error as from mesh_message_recv() */
    BROKER_LOST,    /* the connection to peer is gone, or it does not read */
    BROKER_REVOKED, /* nobody with the number `identity` is let in on that side any more */
    BROKER_TICK,    /* broker_core_next_ns() has come */
    BROKER_DRAIN,   /* take no new calls */
    BROKER_STOP,    /* end every call and session */
};

struct broker_event {
    enum broker_event_kind kind;
    enum broker_side side;
    uint64_t peer;
    struct broker_message *message; /* BROKER_MESSAGE: from broker_core_blank(), taken */
    struct mesh_frame *frame;       /* BROKER_MESSAGE: may be changed */
    int error;                      /* BROKER_RUBBISH */
    uint16_t identity; /* BROKER_MESSAGE: whose key sent it; 0: nobody asked for keys */
    const struct mesh_identity
        *who;        /* BROKER_MESSAGE of HELLO: who that is; NULL: not let in, unless 0 */
    const char *why; /* BROKER_LOST: for people, "connection closed" */
};

struct queue_weight;

struct broker_core_options {
    size_t queue_limit;       /* calls, of one service */
    size_t queue_bytes;       /* their messages together */
    size_t max_message_bytes; /* of a body */
    uint32_t heartbeat_ms;
    const struct queue_weight
        *weights; /* (n_weights) tenants that are more than others; borrowed */
    size_t n_weights;
    int64_t
        settle_ms; /* after its start: workers may still come, so nothing is refused for want of one; 0: none */
    int64_t
        max_session_age_ms; /* callers that have stayed so long, a tenth more or less, shall come anew; 0: never */
    uint64_t seed; /* of hash tables, call ids and ages: random, except in tests */
};

struct broker_core;

int broker_core_create(const struct broker_core_options *options, int64_t now_ns,
                       struct broker_core **out);
void broker_core_destroy(struct broker_core **core);

/**
 * Digest one event.
 *
 * @param now_ns  monotonic, never less than before
 * @return actions in their order, the caller's: each goes back through broker_core_recycle()
 */
struct broker_message *broker_core_step(struct broker_core *core, const struct broker_event *event,
                                        int64_t now_ns);

/** When the next BROKER_TICK is due; MESH_NEVER (deadline.h) when nothing is. */
int64_t broker_core_next_ns(const struct broker_core *core);

/** Whether no call waits or runs (those that watch the directory do not count). */
bool broker_core_idle(const struct broker_core *core);

/** How many callers have a session. */
size_t broker_core_callers(const struct broker_core *core);

/** A node to receive into; NULL without memory. */
struct broker_message *broker_core_blank(struct broker_core *core);
/** Give a node back; closes the message unless `filled` is false. NULL is fine. */
void broker_core_recycle(struct broker_core *core, struct broker_message *message);

#endif
