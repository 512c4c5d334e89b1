#include "mesh/slots.h"

#include <errno.h>
#include <stdlib.h>

void mesh_slots_fini(struct mesh_slots *slots)
{
    free(slots->all);
    free(slots->free);
    *slots = (struct mesh_slots){.serial = slots->serial};
}

static int grow(struct mesh_slots *slots)
{
    uint32_t n = slots->n ? 2 * slots->n : 64;
    struct mesh_slot *all;
    uint32_t *list;

    if (n > MESH_SLOTS_MAX)
        return -ENOBUFS;
    all = realloc(slots->all, n * sizeof(*all));
    if (all)
        slots->all = all;
    list = realloc(slots->free, n * sizeof(*list));
    if (list)
        slots->free = list;
    if (!all || !list)
        return -ENOMEM;
    for (uint32_t i = n; i-- > slots->n;) {
        all[i] = (struct mesh_slot){0};
        list[slots->n_free++] = i;
    }
    slots->n = n;
    return 0;
}

int mesh_slots_add(struct mesh_slots *slots, void *call, uint64_t *id)
{
    uint32_t slot;
    int err = 0;

    if (slots->n_free == 0)
        err = grow(slots);
    if (err < 0)
        return err;
    slot = slots->free[--slots->n_free];
    slots->n_used++;
    *id = ++slots->serial << MESH_SLOT_BITS | slot;
    slots->all[slot] = (struct mesh_slot){.id = *id, .call = call};
    return 0;
}

void mesh_slots_remove(struct mesh_slots *slots, uint64_t id)
{
    uint32_t slot = id & (MESH_SLOTS_MAX - 1);

    slots->all[slot].call = NULL;
    slots->free[slots->n_free++] = slot;
    slots->n_used--;
}

void *mesh_slots_find(const struct mesh_slots *slots, uint64_t id)
{
    uint32_t slot = id & (MESH_SLOTS_MAX - 1);

    return slot < slots->n && slots->all[slot].id == id ? slots->all[slot].call : NULL;
}

bool mesh_slots_gave(const struct mesh_slots *slots, uint64_t id)
{
    return id >> MESH_SLOT_BITS <= slots->serial;
}
