/*
 * queue.h - calls of one service that wait for a worker: who is next, and when it is too many
 *
 * Tenants take turns by deficit round robin; what a turn costs is the worker's time that a tenant's
 * calls have taken lately, so a tenant of long calls gets fewer of them, not more of the workers.
 * Within a tenant the earliest deadline is first (equal ones as they came). Calls that want
 * different workers stand in different lanes, so that none waits behind one that nobody can serve.
 */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/selector.h"
#include "broker/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_tenant;
struct queue_lane;

/** A waiting call's place; part of the call. */
struct queue_entry {
    struct queue_tenant *tenant; /* from queue_tenant_get(): whoever holds the entry puts it back */
    struct queue_lane *lane;     /* NULL while it does not wait */
    size_t place;                /* in the lane's heap */
    int64_t due_ns;              /* what it is sorted by */
    uint64_t order;              /* then by this */
    size_t bytes;
};

struct queue {
    size_t limit, bytes_limit;
    size_t count, bytes;
    size_t n_tenants; /* with waiting calls */
    uint64_t next_order;
    struct queue_tenant *turn; /* ring of tenants with waiting calls */
    bool turn_begins;          /* and has not been given its quantum yet */
    struct table tenants;      /* all that something refers to */
};

void queue_init(struct queue *queue, size_t limit, size_t bytes_limit);
void queue_fini(struct queue *queue); /* empty by then */

/** The tenant of a name, made when there is none; "" is a tenant too. @return NULL without memory */
struct queue_tenant *queue_tenant_get(struct queue *queue, const char *name);
void queue_tenant_put(struct queue *queue, struct queue_tenant *tenant);
/** A call of the tenant has held a worker for so long. */
void queue_tenant_charge(struct queue_tenant *tenant, int64_t held_ns);

/**
 * Let a call wait. Its tenant, due_ns and bytes are set.
 *
 * @param selector  taken when 0 is returned (and set to NULL)
 * @return 0; -ENOSPC: full, by count or bytes; -ENOMEM
 */
int queue_push(struct queue *queue, struct queue_entry *entry, struct selector **selector);

/** Put a call back that was taken, before all others of its tenant, however full the queue is.
 *  @param selector  as for queue_push(). @return 0; -ENOMEM */
int queue_return(struct queue *queue, struct queue_entry *entry, struct selector **selector);

/** Who has to make room in a full queue for a call of this tenant: the last call of the tenant that has the
 *  most waiting, unless the newcomer's has as many. NULL: nobody, refuse the newcomer. */
struct queue_entry *queue_victim(const struct queue *queue, const struct queue_tenant *newcomer);

void queue_remove(struct queue *queue, struct queue_entry *entry);

/** Take the next call that a worker with these labels may serve; NULL when there is none. */
struct queue_entry *queue_take(struct queue *queue, Dragoman__Mesh__V1__Label *const *labels,
                               size_t n_labels);

/** Whatever the call demands; NULL: anything. */
const struct selector *queue_entry_selector(const struct queue_entry *entry);
/** Waiting calls of the tenant that demand the same and are due before. */
size_t queue_ahead(const struct queue_tenant *tenant, const struct selector *selector,
                   int64_t due_ns);

/** Waiting calls that a worker with these labels may serve. */
size_t queue_wanting(const struct queue *queue, Dragoman__Mesh__V1__Label *const *labels,
                     size_t n_labels);

/** Any entry that `wanted` says yes to; NULL: none. */
struct queue_entry *queue_find(const struct queue *queue,
                               bool (*wanted)(const struct queue_entry *entry, void *arg),
                               void *arg);

#endif
