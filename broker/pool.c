#include "broker/pool.h"

#include "broker/registry.h"

#include <errno.h>
#include <stdlib.h>

static struct member *member_at(const struct heap_node *node)
{
    return container_of(node, struct member, node);
}

static bool better(const struct heap_node *a, const struct heap_node *b)
{
    const struct standing *one = &member_at(a)->worker->standing;
    const struct standing *other = &member_at(b)->worker->standing;

    if (one->load != other->load)
        return one->load < other->load;
    if (one->reported != other->reported)
        return one->reported < other->reported;
    return one->turn < other->turn;
}

/* ---- members --------------------------------------------------------------------------------- */

static void place(struct member *member)
{
    const struct worker *worker = member->worker;
    bool ready = worker->running < worker->capacity && !member->avoided;

    if (!ready)
        heap_remove(&member->pool->ready, &member->node);
    else if (member->node.place > 0)
        heap_moved(&member->pool->ready, &member->node);
    else
        heap_push(&member->pool->ready, &member->node); /* there is room for all members */
}

/* Of the ill ones at most half of all are avoided: a pool that is ill as a whole still serves. */
static void review(struct pool *pool)
{
    size_t left = pool->n_members / 2;
    struct member *member = NULL;

    LIST_FOREACH (member, &pool->members, of_pool) {
        bool avoided = member->worker->ill != 0 && left > 0;

        left -= avoided;
        if (avoided == member->avoided)
            continue;
        member->avoided = avoided;
        place(member);
    }
}

static int admit(struct pool *pool, struct worker *worker, struct members *places)
{
    struct member *member = calloc(1, sizeof(*member));

    if (!member || heap_reserve(&pool->ready, pool->n_members + 1) < 0) {
        free(member);
        return -ENOMEM;
    }
    member->pool = pool;
    member->worker = worker;
    LIST_INSERT_HEAD(&pool->members, member, of_pool);
    LIST_INSERT_HEAD(places, member, of_worker);
    pool->n_members++;
    pool->capacity += worker->capacity;
    pool->n_ill += worker->ill != 0;
    place(member);
    if (pool->n_ill > 0)
        review(pool);
    return 0;
}

static void dismiss(struct member *member)
{
    struct pool *pool = member->pool;

    heap_remove(&pool->ready, &member->node);
    LIST_REMOVE(member, of_pool);
    LIST_REMOVE(member, of_worker);
    pool->n_members--;
    pool->capacity -= member->worker->capacity;
    pool->n_ill -= member->worker->ill != 0;
    if (pool->n_ill > 0)
        review(pool);
    free(member);
}

int pool_join(struct service *service, struct worker *worker, struct members *places)
{
    struct pool *pool = NULL;
    int err = 0;

    LIST_FOREACH (pool, &service->pools, of_service)
        if (err == 0 &&
            selector_matches(pool->selector, worker->offer->labels, worker->offer->n_labels))
            err = admit(pool, worker, places);
    return err;
}

void pool_leave(struct members *places)
{
    while (!LIST_EMPTY(places))
        dismiss(LIST_FIRST(places));
}

void pool_changed(struct worker *worker)
{
    struct member *member = NULL;

    for (size_t i = 0; i < worker->n_services; i++)
        LIST_FOREACH (member, &worker->places[i], of_worker)
            place(member);
}

void pool_resize(struct worker *worker, int64_t difference)
{
    struct member *member = NULL;

    for (size_t i = 0; i < worker->n_services; i++)
        LIST_FOREACH (member, &worker->places[i], of_worker)
            member->pool->capacity += (uint64_t)difference;
    pool_changed(worker);
}

void pool_review(struct worker *worker)
{
    struct member *member = NULL;

    for (size_t i = 0; i < worker->n_services; i++)
        LIST_FOREACH (member, &worker->places[i], of_worker) {
            member->pool->n_ill += worker->ill != 0;
            member->pool->n_ill -= worker->ill == 0;
            review(member->pool);
        }
}

/* ---- pools ----------------------------------------------------------------------------------- */

static void pool_free(struct pool *pool)
{
    while (!LIST_EMPTY(&pool->members))
        dismiss(LIST_FIRST(&pool->members));
    LIST_REMOVE(pool, of_service);
    table_remove(&pool->service->by_selector, &pool->by_selector);
    selector_destroy(&pool->selector);
    queue_line_fini(&pool->waiting);
    heap_fini(&pool->ready);
    free(pool);
}

void pool_free_all(struct service *service)
{
    while (!LIST_EMPTY(&service->pools))
        pool_free(LIST_FIRST(&service->pools));
    table_fini(&service->by_selector);
}

/* The one that nobody has asked for the longest, and nobody waits in, goes. */
static int make_room(struct service *service)
{
    struct pool *oldest = NULL;
    struct pool *pool = NULL;

    if (service->by_selector.count < POOLS_MAX)
        return 0;
    LIST_FOREACH (pool, &service->pools, of_service)
        if (pool->waiting.count == 0 && pool->selector && (!oldest || pool->used < oldest->used))
            oldest = pool;
    if (!oldest)
        return -ENOSPC;
    pool_free(oldest);
    return 0;
}

static int fill(struct pool *pool)
{
    const struct service *service = pool->service;
    int err = 0;

    for (size_t i = 0; err == 0 && i < service->n_workers; i++) {
        struct worker *worker = service->workers[i];

        if (selector_matches(pool->selector, worker->offer->labels, worker->offer->n_labels))
            err = admit(pool, worker, registry_places(worker, service));
    }
    return err;
}

static int pool_make(struct service *service, struct selector **selector, struct pool **out)
{
    struct pool *pool = NULL;
    int err = make_room(service);

    if (err < 0)
        return err;
    pool = calloc(1, sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    if (table_add(&service->by_selector, &pool->by_selector, selector_hash(*selector)) < 0) {
        free(pool);
        return -ENOMEM;
    }
    pool->service = service;
    heap_init(&pool->ready, better);
    queue_line_init(&pool->waiting);
    LIST_INIT(&pool->members);
    LIST_INSERT_HEAD(&service->pools, pool, of_service);
    pool->selector = *selector;
    err = fill(pool);
    if (err < 0)
        pool->selector = NULL; /* still the caller's */
    else
        *selector = NULL;
    if (err < 0)
        pool_free(pool);
    else
        *out = pool;
    return err;
}

struct pool *pool_find(const struct service *service, const struct selector *selector)
{
    struct table_node *node = table_find(&service->by_selector, selector_hash(selector));

    for (; node; node = table_next(node)) {
        struct pool *pool = container_of(node, struct pool, by_selector);

        if (selector_equal(pool->selector, selector))
            return pool;
    }
    return NULL;
}

int pool_get(struct service *service, struct selector **selector, struct pool **out)
{
    struct pool *pool = *selector ? pool_find(service, *selector) : service->any;
    int err = 0;

    if (pool)
        selector_destroy(selector);
    else
        err = pool_make(service, selector, &pool);
    if (err < 0)
        return err;
    pool->used = ++service->n_asked;
    *out = pool;
    return 0;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* Rendezvous hashing (Thaler, Ravishankar, 1996): each session ranks the workers in an order of its own,
 * which the others' coming and going leaves as it is. */
static struct worker *pick_preferred(const struct pool *pool, uint64_t affinity)
{
    struct worker *best = NULL;
    uint64_t highest = 0;

    for (size_t i = 0; i < pool->ready.count; i++) {
        struct worker *worker = member_at(pool->ready.nodes[i])->worker;
        uint64_t rank = table_mix(affinity ^ table_mix(worker->id));

        if (!best || rank > highest) {
            best = worker;
            highest = rank;
        }
    }
    return best;
}

struct worker *pool_pick(const struct pool *pool, uint64_t affinity)
{
    const struct heap_node *first = heap_first(&pool->ready);

    if (affinity != 0)
        return pick_preferred(pool, affinity);
    return first ? member_at(first)->worker : NULL;
}

struct queue_entry *pool_next(const struct members *places)
{
    struct queue_entry *next = NULL;
    const struct member *member = NULL;

    LIST_FOREACH (member, places, of_worker) {
        struct queue_entry *first = member->avoided ? NULL : queue_first(&member->pool->waiting);

        if (first && (!next || queue_before(first, next)))
            next = first;
    }
    return next;
}
