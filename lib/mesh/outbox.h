/*
 * outbox.h - what goes to one peer: small messages gather into bundles, what it does not take waits
 *
 * Belongs to the transport's owner, who puts whatever a pass of its loop has to say and flushes before it
 * waits. Order is kept. What waits is bounded.
 */
#ifndef MESH_OUTBOX_H
#define MESH_OUTBOX_H

#include "mesh/bundle.h"
#include "mesh/transport.h"

#define MESH_OUTBOX_MESSAGES 4096 /* that wait; a bundle counts as one */
#define MESH_OUTBOX_BYTES ((size_t)64 << 20)

struct mesh_outbox {
    /* Gathered since the last flush: one message as it is, more as a bundle. */
    bool has_lone;
    struct mesh_message lone;
    struct mesh_bundle bundle;

    /* Not taken by the transport. */
    struct mesh_message *first, **last;
    size_t count, bytes;
};

void mesh_outbox_init(struct mesh_outbox *outbox);
/** Drops what is in it. */
void mesh_outbox_fini(struct mesh_outbox *outbox);

/**
 * Put a message, for message->peer at a ROUTER; it is taken in any case.
 *
 * @param bundles  whether it may wait for the flush, to go in a bundle; else it goes at once
 * @return 0; -ENOBUFS: too much waits already; -ENOMEM; -EHOSTUNREACH, ...: what failed in the socket
 */
int mesh_outbox_put(struct mesh_outbox *outbox, struct mesh_transport *transport,
                    struct mesh_message *message, bool bundles);

/** Send what was gathered, or let it wait. @return as mesh_outbox_put() */
int mesh_outbox_flush(struct mesh_outbox *outbox, struct mesh_transport *transport);
/** Try again with what waits. @return 0: nothing does; -EAGAIN; what failed in the socket */
int mesh_outbox_retry(struct mesh_outbox *outbox, struct mesh_transport *transport);

/** Look at each message that has not left, also those in bundles: what the transport did not take, and of what it took
 *  that of which it knows. */
void mesh_outbox_each_unsent(const struct mesh_outbox *outbox,
                             const struct mesh_transport *transport,
                             void (*visit)(void *arg, const struct mesh_header *header), void *arg);

/** Whether the socket did not take something yet. */
static inline bool mesh_outbox_stuck(const struct mesh_outbox *outbox)
{
    return outbox->first != NULL;
}

/** Whether something was gathered. */
static inline bool mesh_outbox_gathers(const struct mesh_outbox *outbox)
{
    return outbox->has_lone || outbox->bundle.count > 0;
}

#endif
