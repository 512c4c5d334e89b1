/*
 * flow.h - the messages of one call as one end sees them: order, credit, and those not yet read
 *
 * Both ends have one, under the lock of their call. docs/wire.md section 5.
 */
#ifndef MESH_FLOW_H
#define MESH_FLOW_H

#include "base/status.h"
#include "mesh/credit.h"
#include "mesh/message.h"

struct mesh_flow {
    struct mesh_credit_in in;
    struct mesh_credit_out out;
    uint32_t seq_in, seq_out;           /* messages so far */
    uint32_t unsent;                    /* DATA on its way to the thread of the socket: a peer */
    uint64_t unsent_bytes;              /* that grants without end does not fill our memory */
    bool ended_in, ended_out;           /* no more will come, or go */
    struct mesh_message *first, **last; /* arrived and not read; owned */
};

void mesh_flow_init(struct mesh_flow *flow);
void mesh_flow_drop_unread(struct mesh_flow *flow);
void mesh_flow_fini(struct mesh_flow *flow);

/**
 * Take what a frame of this call brings: its message if it has one, its seq, the end.
 *
 * @param message  taken (left empty) when it holds a body; in any case the caller closes it
 * @param max      bytes of a message before compression
 * @param why      what was wrong
 * @return STATUS_OK, or how the call must end
 */
enum status_code mesh_flow_receive(struct mesh_flow *flow, struct mesh_message *message,
                                   const struct mesh_frame *frame, size_t max, const char **why);

/** The oldest unread message, free() after mesh_message_close(); NULL when there is none. *tell: send CREDIT. */
struct mesh_message *mesh_flow_take(struct mesh_flow *flow, bool *tell);

/** Count a writer that has to wait for credit. */
void mesh_flow_stalled(void);

/** Whether a message may go as DATA now: there is credit, and what went before has left. */
bool mesh_flow_may_send(const struct mesh_flow *flow);

/** A message has reached the thread of the socket. @return whether a writer that had to wait may go on */
bool mesh_flow_left(struct mesh_flow *flow, const struct mesh_message *message);

/** Number the next message, and charge it if it goes as DATA. @return its seq */
uint32_t mesh_flow_sent(struct mesh_flow *flow, bool charged, size_t bytes);

/** A message as the application's type. @return 0; -EBADMSG; -ENOMEM */
int mesh_flow_unpack(struct mesh_message *message, const ProtobufCMessageDescriptor *type,
                     ProtobufCMessage **out);

#endif
