/*
 * deadline.h - a heap of points in time, the earliest first
 *
 * A timer is a field of whatever it belongs to. Owned by one thread.
 */
#ifndef MESH_DEADLINE_H
#define MESH_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_NEVER INT64_MAX

struct mesh_timer {
    int64_t at_ns;
    size_t place; /* 1, 2, ... in the heap; 0: not set */
};

struct mesh_timers {
    struct mesh_timer **heap; /* (count) owned, its timers borrowed */
    size_t count, capacity;
};

void mesh_timers_fini(struct mesh_timers *timers);
/** Set, or set anew. @return 0; -ENOMEM */
int mesh_timer_set(struct mesh_timers *timers, struct mesh_timer *timer, int64_t at_ns);
void mesh_timer_cancel(struct mesh_timers *timers, struct mesh_timer *timer);
/** When the earliest is due; MESH_NEVER without any. */
int64_t mesh_timers_next_ns(const struct mesh_timers *timers);
/** Take the earliest one that is due; NULL when none is. */
struct mesh_timer *mesh_timers_pop(struct mesh_timers *timers, int64_t now_ns);

/** now + timeout without overflow; a timeout of 0 is none: MESH_NEVER. Negative ones have passed. */
int64_t mesh_deadline_after(int64_t now_ns, int64_t timeout_ns);
/** For the wire: what is left; 0 for MESH_NEVER, -1 when it has passed. */
int64_t mesh_deadline_left(int64_t deadline_ns, int64_t now_ns);

#endif
