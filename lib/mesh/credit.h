/*
 * credit.h - how much one direction of a call may send (docs/wire.md section 5)
 *
 * Limits are totals since the call began, so a lost or repeated CREDIT does no harm. A message may be
 * sent while both counts are below their limits: one may go over, and any size passes.
 */
#ifndef MESH_CREDIT_H
#define MESH_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#define MESH_WINDOW_MESSAGES 16u
#define MESH_WINDOW_BYTES (64u << 10)
#define MESH_WINDOW_MESSAGES_MAX 256u
#define MESH_WINDOW_BYTES_MAX (1u << 20)
#define MESH_WINDOW_FAST_NS 10000000 /* a reader that takes half a window in this time is fast */

/** The sender's half. */
struct mesh_credit_out {
    uint32_t messages, limit_messages;
    uint64_t bytes, limit_bytes;
};

bool mesh_credit_may_send(const struct mesh_credit_out *credit);
void mesh_credit_sent(struct mesh_credit_out *credit, uint64_t bytes);
/** What the receiver grants now. @return whether a sender that had none has some now */
bool mesh_credit_raise(struct mesh_credit_out *credit, uint32_t messages, uint64_t bytes);

/** The receiver's half. */
struct mesh_credit_in {
    uint32_t received_messages, taken_messages, limit_messages, window_messages;
    uint64_t received_bytes, taken_bytes, limit_bytes, window_bytes;
    int64_t granted_at; /* ns */
};

/** Start with the first window granted. */
void mesh_credit_in_init(struct mesh_credit_in *credit);
/** A message has arrived. @return false when it was sent without credit */
bool mesh_credit_received(struct mesh_credit_in *credit, uint64_t bytes);
/**
 * The application has taken a message.
 *
 * @param starving  nothing else is waiting for it: a window that a waiting reader uses up at once is
 *                  too small, and grows
 * @return whether the limits were raised by enough to tell the sender
 */
bool mesh_credit_taken(struct mesh_credit_in *credit, uint64_t bytes, bool starving,
                       int64_t now_ns);

#endif
