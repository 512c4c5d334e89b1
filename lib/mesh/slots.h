/*
 * slots.h - calls under way on one session, found by their ids
 *
 * An id is a slot in its low bits and a serial number above: greater than every one before it, and never
 * used again (docs/wire.md section 5). Owned by one thread.
 */
#ifndef MESH_SLOTS_H
#define MESH_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#define MESH_SLOT_BITS 16
#define MESH_SLOTS_MAX (1u << MESH_SLOT_BITS) /* calls at once */

struct mesh_slot {
    uint64_t id;
    void *call; /* borrowed; NULL: free */
};

struct mesh_slots {
    struct mesh_slot *all; /* (n) by the low bits of the id */
    uint32_t *free;        /* (n_free) */
    uint32_t n, n_free, n_used;
    uint64_t serial;
};

/** Zero-initialised is empty. */
void mesh_slots_fini(struct mesh_slots *slots);
/** @return 0; -ENOBUFS for too many; -ENOMEM */
int mesh_slots_add(struct mesh_slots *slots, void *call, uint64_t *id);
void mesh_slots_remove(struct mesh_slots *slots, uint64_t id);
/** NULL when it is over. */
void *mesh_slots_find(const struct mesh_slots *slots, uint64_t id);
/** Whether it was given to any call so far. */
bool mesh_slots_gave(const struct mesh_slots *slots, uint64_t id);

#endif
