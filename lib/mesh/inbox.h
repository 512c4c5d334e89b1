/*
 * inbox.h - what comes out of a transport, message by message: bundles are taken apart here
 *
 * Belongs to the transport's owner. The messages of a bundle are given one at a time, before anything that
 * came after it.
 */
#ifndef MESH_INBOX_H
#define MESH_INBOX_H

#include "mesh/transport.h"

struct mesh_inbox {
    struct mesh_transport *transport; /* borrowed */
    bool opened;                      /* there is a bundle, not yet read to its end */
    uint64_t peer;
    zmq_msg_t bundle;
    size_t at;
    bool asks;       /* there is CURVE: who has sent what was received last is wanted, */
    bool let_in;     /* whether it came through ZAP, or from this process, */
    uint16_t sender; /* and the number of its key; 0: of this process */
};

void mesh_inbox_init(struct mesh_inbox *inbox, struct mesh_transport *transport);
/** Fill `let_in` and `sender` from now on. */
void mesh_inbox_ask(struct mesh_inbox *inbox);
/** Drop what is left of a bundle. */
void mesh_inbox_fini(struct mesh_inbox *inbox);

/** The next message. @return as mesh_message_recv(); -EAGAIN only when no bundle is open either */
int mesh_inbox_recv(struct mesh_inbox *inbox, struct mesh_message *out, struct mesh_frame *frame);

#endif
