#include "mesh/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mesh_mailbox_init(struct mesh_mailbox *box)
{
    atomic_init(&box->newest, NULL);
    atomic_init(&box->asleep, 0);
    box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return box->fd < 0 ? -errno : 0;
}

void mesh_mailbox_fini(struct mesh_mailbox *box)
{
    if (box->fd >= 0)
        close(box->fd);
    box->fd = -1;
}

void mesh_mailbox_ring(struct mesh_mailbox *box)
{
    uint64_t one = 1;

    /* A full counter is as awake as it gets: nothing to do about a failure here. */
    if (atomic_load(&box->asleep) && atomic_exchange(&box->asleep, 0) &&
        write(box->fd, &one, sizeof(one)) < 0)
        return;
}

void mesh_mailbox_put(struct mesh_mailbox *box, struct mesh_post *post)
{
    struct mesh_post *newest = atomic_load(&box->newest);

    do
        post->next = newest;
    while (!atomic_compare_exchange_weak(&box->newest, &newest, post));
    mesh_mailbox_ring(box);
}

struct mesh_post *mesh_mailbox_take(struct mesh_mailbox *box)
{
    struct mesh_post *post = NULL;
    struct mesh_post *oldest = NULL;

    if (atomic_load(&box->newest))
        post = atomic_exchange(&box->newest, NULL);
    while (post) {
        struct mesh_post *next = post->next;

        post->next = oldest;
        oldest = post;
        post = next;
    }
    return oldest;
}

bool mesh_mailbox_has_post(struct mesh_mailbox *box)
{
    return atomic_load(&box->newest) != NULL;
}

bool mesh_mailbox_may_sleep(struct mesh_mailbox *box)
{
    atomic_store(&box->asleep, 1);
    if (!atomic_load(&box->newest))
        return true;
    mesh_mailbox_awake(box);
    return false;
}

void mesh_mailbox_awake(struct mesh_mailbox *box)
{
    uint64_t count;

    /* Only who finds the flag taken has been rung; the read tells nothing more. */
    if (!atomic_exchange(&box->asleep, 0) && read(box->fd, &count, sizeof(count)) < 0)
        return;
}
