/*
 * registry.h - who offers what: services, their workers, labels and capacity
 *
 * A service is known from the first registration on, for as long as the broker lives. Everything a
 * worker says is checked before it is kept.
 */
#ifndef BROKER_REGISTRY_H
#define BROKER_REGISTRY_H

#include "broker/durations.h"
#include "broker/pool.h"
#include "broker/table.h"
#include "mesh/deadline.h"
#include "mesh/message.h"

#include <sys/queue.h>

#define REGISTRY_SERVICES_MAX 1024
#define REGISTRY_CAPACITY_MAX 65536               /* calls at once, one worker */
#define REGISTRY_HEALTH "dragoman.mesh.v1.Health" /* answered by the broker, never registered */
#define REGISTRY_DIRECTORY "dragoman.mesh.v1.Directory"
#define REGISTRY_REFLECTION "dragoman.mesh.v1.Reflection"

typedef Dragoman__Mesh__V1__Register mesh_register;

struct call;
struct session;
struct worker;
struct service_metrics;
LIST_HEAD(calls, call);
LIST_HEAD(workers, worker);

struct service {
    struct table_node by_name;
    struct service *next; /* of all, the oldest first */
    char *name;
    bool known;              /* a worker has offered it; else calls only wait for one */
    struct worker **workers; /* (n_workers) those that take calls: not the draining ones */
    size_t n_workers, room;
    int64_t manned_ns; /* since when there has been one */
    char **methods;    /* (n_methods) all that were ever offered */
    size_t n_methods;
    ProtobufCBinaryData descriptor_set; /* what Reflection says of it; empty: nothing */
    struct queue queue;
    struct pools pools; /* by what calls demand of their workers */
    struct table by_selector;
    struct pool *any; /* the one of calls that demand nothing */
    uint64_t n_asked; /* times that a pool was looked for */
    uint64_t n_running, n_started, n_failed;
    struct durations held; /* what calls hold a worker for */
    int64_t waited_ns;     /* moving average of the time in the queue */
    struct service_metrics *metrics;
};

struct worker {
    LIST_ENTRY(worker) link;
    struct session *session; /* borrowed: the worker dies with it */
    uint64_t id;
    mesh_register *offer;      /* labels and services as registered */
    struct service **services; /* (n_services) */
    struct members *places;    /* (n_services) in the pools of each, until it drains */
    size_t n_services;
    size_t turn; /* which service's queue its next free slot looks at first */
    uint32_t capacity, running;
    struct standing standing;
    float load;        /* its busy share, as it said last */
    unsigned weight;   /* its label of that name */
    int64_t joined_ns; /* when it came to others: it is given calls slowly at first */
    bool draining;
    bool lends;             /* it has other brokers: an OPEN may cross a CAPACITY and come back */
    unsigned ill;           /* why it should get no calls, enum illness; 0: it is well */
    unsigned n_stuck;       /* calls that have ignored their CANCEL for too long */
    unsigned n_failures;    /* ENDs in a row that say it cannot serve */
    unsigned n_ejections;   /* in a row; each lasts longer than the one before */
    struct mesh_timer heal; /* when its ejection is over */
    int64_t told_ns;        /* when it last heard unasked that calls wait */
    uint64_t n_ended;
    uint8_t *told; /* (n_told) a bit for each caller's number that it has heard the name of */
    size_t n_told;
    struct calls calls;
};

struct registry {
    size_t queue_limit, queue_bytes;
    struct table services; /* by name */
    struct table methods;  /* by the hash of "/service/method" */
    struct service *first, **last;
    struct workers workers;
    const struct queue_weight *weights; /* (n_weights) of tenants; borrowed */
    size_t n_weights;
    double turn; /* of the worker that was given a call last */
    uint64_t next_id;
    uint64_t version; /* counts changes that callers of the directory may care about */
};

void registry_init(struct registry *registry, size_t queue_limit, size_t queue_bytes,
                   uint64_t seed);
void registry_fini(struct registry *registry); /* without workers and waiting calls by then */

struct service *registry_find(const struct registry *registry, const char *name, size_t size);
/** The service of a method's hash; NULL when no worker has offered it. */
struct service *registry_find_method(const struct registry *registry, uint64_t hash);
/** Weights of tenants, for every service's queue. Before any service is known. */
void registry_weights(struct registry *registry, const struct queue_weight *weights, size_t n);
/** A service that callers wait for before any worker has offered it. @return 0; -ENOSPC; -ENOMEM */
int registry_expect(struct registry *registry, const char *name, size_t size, struct service **out);
/** Forget one that was only waited for, when nothing waits any more. */
void registry_forget(struct registry *registry, struct service *service);

/**
 * Take up a worker.
 *
 * @param offer  taken in any case
 * @param why    on error: what is wrong, for the worker
 * @return 0; -EINVAL; -ENOSPC; -ENOMEM
 */
int registry_add(struct registry *registry, struct session *session, mesh_register *offer,
                 int64_t now_ns, struct worker **out, const char **why);
/** No more calls for it. */
void registry_drain(struct registry *registry, struct worker *worker);
/** Its calls are gone by then. */
void registry_remove(struct registry *registry, struct worker **worker);

/** Its places in the pools of one of its services. */
struct members *registry_places(struct worker *worker, const struct service *service);

/** The worker has been given a call, or lost one, or its capacity has changed: who is next may be another. */
void registry_standing(struct worker *worker, int64_t now_ns);
/** It is given a call: of equal ones the others are next. */
void registry_turn(struct registry *registry, struct worker *worker);

#endif
