/*
 * queue.h - calls of one service that wait for a worker: who is next, and when it is too many
 *
 * Tenants share the workers by weight: start-time fair queueing (Goyal, Vin, Cheng, 1996), where a call
 * costs what the tenant's calls lately held a worker for; so a tenant of long calls gets fewer of them,
 * not more of the workers. It gives the shares of deficit round robin, in O(log n) and in any order of
 * workers. Within a tenant the earliest deadline is first, equal ones as they came. Calls that the same
 * workers may serve stand in one line, those that demand others in another, so that none waits behind
 * one that nobody can serve.
 */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/heap.h"
#include "broker/table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define QUEUE_WEIGHT_MAX 1000 /* the least is 1, what a tenant that nobody names has */

struct queue_tenant;
struct queue_lane;
TAILQ_HEAD(queue_entries, queue_entry);

/** A waiting call's place; part of the call. */
struct queue_entry {
    struct queue_tenant *tenant; /* from queue_tenant_get(): whoever holds the entry puts it back */
    struct queue_lane *lane;     /* NULL while it does not wait */
    struct heap_node node;
    TAILQ_ENTRY(queue_entry) of_lane; /* as they came */
    int64_t since_ns;                 /* when it came */
    int64_t due_ns;                   /* what it is sorted by */
    uint64_t order;                   /* then by this */
    size_t bytes;
};

/** Calls that the same workers may serve: whose turn it is among the tenants. */
struct queue_line {
    struct heap lanes; /* one a tenant that waits here */
    size_t count;      /* of calls */
};

struct queue_weight {
    const char *tenant; /* borrowed */
    unsigned weight;
};

struct queue {
    size_t limit, bytes_limit;
    size_t count, bytes;
    const struct queue_weight *weights; /* (n_weights) borrowed */
    size_t n_weights;
    uint64_t next_order;
    double clock;         /* virtual: where the tenant served last stood before */
    uint64_t period;      /* counts the times that the queue was empty: clocks begin anew */
    struct heap greedy;   /* tenants with waiting calls, the one with most for its weight first */
    struct table tenants; /* all that something refers to */
};

void queue_init(struct queue *queue, size_t limit, size_t bytes_limit);
void queue_fini(struct queue *queue); /* empty by then */
void queue_line_init(struct queue_line *line);
void queue_line_fini(struct queue_line *line); /* empty by then */

/** The tenant of a name, made when there is none; "" is a tenant too. @return NULL without memory */
struct queue_tenant *queue_tenant_get(struct queue *queue, const char *name);
void queue_tenant_put(struct queue *queue, struct queue_tenant *tenant);
/** A call of the tenant has held a worker for so long. */
void queue_tenant_charge(struct queue_tenant *tenant, int64_t held_ns);
const char *queue_tenant_name(const struct queue_tenant *tenant);
unsigned queue_tenant_weight(const struct queue_tenant *tenant);

/**
 * Let a call wait. Its tenant, since_ns, due_ns and bytes are set.
 *
 * @return 0; -ENOSPC: full, by count or bytes; -ENOMEM
 */
int queue_push(struct queue *queue, struct queue_line *line, struct queue_entry *entry);

/** Put a call back that was taken, before all others of its tenant, however full the queue is.
 *  @return 0; -ENOMEM */
int queue_return(struct queue *queue, struct queue_line *line, struct queue_entry *entry);

/** Who has to make room in a full queue for a call of this tenant: the call that came last of the tenant
 *  that has the most waiting for its weight, unless the newcomer's has as many. NULL: nobody, refuse the
 *  newcomer. */
struct queue_entry *queue_victim(const struct queue *queue, const struct queue_tenant *newcomer);

void queue_remove(struct queue *queue, struct queue_entry *entry);

/** Who is next in a line; NULL when it is empty. */
struct queue_entry *queue_first(const struct queue_line *line);
/** Whether of the firsts of two lines a is next. */
bool queue_before(const struct queue_entry *a, const struct queue_entry *b);
/** Who is next instead of the first of a line: the one of its tenant that came first, when that was before a
 *  time; so that earlier deadlines do not pass it for ever. */
struct queue_entry *queue_aged(struct queue_entry *first, int64_t before_ns);
/** Take one of a line to be served: its tenant pays. */
void queue_take(struct queue *queue, struct queue_entry *entry);

/** The line that a waiting call stands in. */
struct queue_line *queue_entry_line(const struct queue_entry *entry);
/** Calls in the line that are likely to be served before one of the tenant that is due then: its own which are
 *  due before (of many: by a sample), and what other tenants get meanwhile. */
size_t queue_ahead(const struct queue *queue, const struct queue_line *line,
                   const struct queue_tenant *tenant, int64_t due_ns);

/** Visit every entry of the line, in no order. The visitor takes none away. */
void queue_each(const struct queue_line *line, void (*visit)(struct queue_entry *entry, void *arg),
                void *arg);

/** The tenants that wait, those with most for their weight among the first. @return how many were given */
size_t queue_tenants(const struct queue *queue, const struct queue_tenant **out, size_t room);
size_t queue_tenant_count(const struct queue_tenant *tenant); /* of its waiting calls */

#endif
