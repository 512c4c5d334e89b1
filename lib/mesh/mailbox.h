/*
 * mailbox.h - how other threads reach the one that owns a socket
 *
 * Any thread puts, the owner takes all at once, in order. Lock-free; the eventfd is written only when
 * the owner sleeps, so a burst costs one system call. What bounds the mailbox is what its users may
 * have outstanding: one OPEN, CANCEL and END a call, and its credit of messages.
 */
#ifndef MESH_MAILBOX_H
#define MESH_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>

struct mesh_post {
    struct mesh_post *next;
    int kind; /* the owner's own numbering */
};

struct mesh_mailbox {
    _Atomic(struct mesh_post *) newest;
    atomic_int asleep;
    int fd; /* becomes readable when a sleeper has post */
};

/** @return 0; -errno */
int mesh_mailbox_init(struct mesh_mailbox *box);
void mesh_mailbox_fini(struct mesh_mailbox *box);

void mesh_mailbox_put(struct mesh_mailbox *box, struct mesh_post *post);
/** Wake the owner without a post. */
void mesh_mailbox_ring(struct mesh_mailbox *box);

/** The owner: everything put so far, the oldest first; NULL when there is nothing. */
struct mesh_post *mesh_mailbox_take(struct mesh_mailbox *box);
/** Any thread: whether something was put and not yet taken. */
bool mesh_mailbox_has_post(struct mesh_mailbox *box);
/** Before sleeping on fd. @return false when there is post already: do not sleep */
bool mesh_mailbox_may_sleep(struct mesh_mailbox *box);
void mesh_mailbox_awake(struct mesh_mailbox *box);

#endif
