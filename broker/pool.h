/*
 * pool.h - the workers of a service that may serve the same calls, and the calls that wait for them
 *
 * A pool is made when a selector first comes, and kept for the next call with the same one. It has those of
 * its workers that would take a call now in a heap, the least loaded first, so that giving a call away or
 * waiting costs O(log n) however many workers there are.
 */
#ifndef BROKER_POOL_H
#define BROKER_POOL_H

#include "broker/queue.h"
#include "broker/selector.h"

#include <sys/queue.h>

#define POOLS_MAX 256 /* of one service; more different selectors than that cannot wait at once */

struct service;
struct worker;
LIST_HEAD(members, member);
LIST_HEAD(pools, pool);

struct pool {
    struct table_node by_selector;
    LIST_ENTRY(pool) of_service;
    struct service *service;
    struct selector *selector; /* NULL: any worker */
    struct members members;
    size_t n_members, n_ill;
    uint64_t capacity; /* of all members together */
    uint64_t used;     /* when it was last asked for, counted in such */
    struct heap ready; /* members with a free slot that are not to be avoided */
    struct queue_line waiting;
};

/** A worker's place in a pool. */
struct member {
    LIST_ENTRY(member) of_pool, of_worker;
    struct heap_node node; /* in pool.ready */
    struct pool *pool;
    struct worker *worker;
    bool avoided; /* ill, and not the last one: at most half of a pool's members are */
};

/** How much there is of a worker, for those who have to choose one. */
struct standing {
    double load;  /* running calls by slots, weight and warmth: who has least is next */
    int reported; /* eighths of its own capacity, as it says itself; then this */
    double turn;  /* virtual time, by weight; then this */
};

/** The pool of a selector. @param selector  taken on success. @return 0; -ENOSPC; -ENOMEM */
int pool_get(struct service *service, struct selector **selector, struct pool **out);
/** Likewise without making one. NULL when there is none */
struct pool *pool_find(const struct service *service, const struct selector *selector);
void pool_free_all(struct service *service); /* nothing waits in them */

/** A worker comes to a service, takes its place in every pool that it matches; -ENOMEM: leave again. */
int pool_join(struct service *service, struct worker *worker, struct members *places);
void pool_leave(struct members *places);

/** Its slots, load or health have changed. */
void pool_changed(struct worker *worker);
/** Its capacity has, by so much. */
void pool_resize(struct worker *worker, int64_t difference);
/** Whether it is ill has: others of its pools may be needed now, or it may be avoided. */
void pool_review(struct worker *worker);

/** A worker for a call: the least loaded, or the one that a session's calls prefer.
 *  @param affinity  0: none. @return NULL: all are full */
struct worker *pool_pick(const struct pool *pool, uint64_t affinity);
/** The next call for a worker with a free slot, of one service. NULL: none */
struct queue_entry *pool_next(const struct members *places);

static inline struct pool *pool_of_entry(const struct queue_entry *entry)
{
    return container_of(queue_entry_line(entry), struct pool, waiting);
}

#endif
