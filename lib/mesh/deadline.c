#include "mesh/deadline.h"

#include <errno.h>
#include <stdlib.h>

static void put(struct mesh_timers *timers, size_t place, struct mesh_timer *timer)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

static struct mesh_timer *at(const struct mesh_timers *timers, size_t place)
{
    return timers->heap[place - 1];
}

static void sift_up(struct mesh_timers *timers, struct mesh_timer *timer, size_t place)
{
    while (place > 1 && at(timers, place / 2)->at_ns > timer->at_ns) {
        put(timers, place, at(timers, place / 2));
        place /= 2;
    }
    put(timers, place, timer);
}

static void sift_down(struct mesh_timers *timers, struct mesh_timer *timer, size_t place)
{
    for (size_t child; (child = 2 * place) <= timers->count; place = child) {
        if (child < timers->count && at(timers, child + 1)->at_ns < at(timers, child)->at_ns)
            child++;
        if (at(timers, child)->at_ns >= timer->at_ns)
            break;
        put(timers, place, at(timers, child));
    }
    put(timers, place, timer);
}

void mesh_timers_fini(struct mesh_timers *timers)
{
    free(timers->heap);
    *timers = (struct mesh_timers){0};
}

static int reserve(struct mesh_timers *timers)
{
    size_t capacity = timers->capacity ? 2 * timers->capacity : 64;
    struct mesh_timer **heap;

    if (timers->count < timers->capacity)
        return 0;
    heap = realloc(timers->heap, capacity * sizeof(*heap));
    if (!heap)
        return -ENOMEM;
    timers->heap = heap;
    timers->capacity = capacity;
    return 0;
}

int mesh_timer_set(struct mesh_timers *timers, struct mesh_timer *timer, int64_t at_ns)
{
    mesh_timer_cancel(timers, timer);
    if (reserve(timers) < 0)
        return -ENOMEM;
    timer->at_ns = at_ns;
    timers->count++;
    sift_up(timers, timer, timers->count);
    return 0;
}

void mesh_timer_cancel(struct mesh_timers *timers, struct mesh_timer *timer)
{
    size_t place = timer->place;
    struct mesh_timer *last;

    if (place == 0)
        return;
    timer->place = 0;
    last = at(timers, timers->count--);
    if (last == timer)
        return;
    if (place > 1 && at(timers, place / 2)->at_ns > last->at_ns)
        sift_up(timers, last, place);
    else
        sift_down(timers, last, place);
}

int64_t mesh_timers_next_ns(const struct mesh_timers *timers)
{
    return timers->count > 0 ? at(timers, 1)->at_ns : MESH_NEVER;
}

struct mesh_timer *mesh_timers_pop(struct mesh_timers *timers, int64_t now_ns)
{
    struct mesh_timer *timer;

    if (mesh_timers_next_ns(timers) > now_ns || timers->count == 0)
        return NULL;
    timer = at(timers, 1);
    mesh_timer_cancel(timers, timer);
    return timer;
}

int64_t mesh_deadline_after(int64_t now_ns, int64_t timeout_ns)
{
    if (timeout_ns == 0)
        return MESH_NEVER;
    if (timeout_ns < 0)
        return now_ns;
    return timeout_ns > MESH_NEVER - 1 - now_ns ? MESH_NEVER - 1 : now_ns + timeout_ns;
}

int64_t mesh_deadline_left(int64_t deadline_ns, int64_t now_ns)
{
    if (deadline_ns == MESH_NEVER)
        return 0;
    return deadline_ns > now_ns ? deadline_ns - now_ns : -1;
}
