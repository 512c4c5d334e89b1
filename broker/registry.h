/*
 * registry.h - who offers what: services, their workers, labels and capacity
 *
 * A service is known from the first registration on, for as long as the broker lives. Everything a
 * worker says is checked before it is kept.
 */
#ifndef BROKER_REGISTRY_H
#define BROKER_REGISTRY_H

#include "broker/queue.h"
#include "broker/table.h"
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
    char **methods; /* (n_methods) all that were ever offered */
    size_t n_methods;
    ProtobufCBinaryData descriptor_set; /* what Reflection says of it; empty: nothing */
    struct queue queue;
    uint64_t n_running, n_started, n_failed;
    uint64_t n_held; /* calls that held_ns is the average of */
    int64_t held_ns; /* moving average of the time that a call holds its worker */
    struct service_metrics *metrics;
};

struct worker {
    LIST_ENTRY(worker) link;
    struct session *session; /* borrowed: the worker dies with it */
    uint64_t id;
    mesh_register *offer;      /* labels and services as registered */
    struct service **services; /* (n_services) */
    size_t n_services;
    size_t turn; /* which service's queue its next free slot looks at first */
    uint32_t capacity, running;
    bool draining;
    bool lends;      /* it has other brokers: an OPEN may cross a CAPACITY and come back */
    int64_t used_ns; /* when it was last given a call */
    int64_t told_ns; /* when it last heard unasked that calls wait */
    uint64_t n_ended;
    struct calls calls;
};

struct registry {
    size_t queue_limit, queue_bytes;
    struct table services; /* by name */
    struct table methods;  /* by the hash of "/service/method" */
    struct service *first, **last;
    struct workers workers;
    uint64_t next_id;
    uint64_t version; /* counts changes that callers of the directory may care about */
};

void registry_init(struct registry *registry, size_t queue_limit, size_t queue_bytes,
                   uint64_t seed);
void registry_fini(struct registry *registry); /* without workers and waiting calls by then */

struct service *registry_find(const struct registry *registry, const char *name, size_t size);
/** The service of a method's hash; NULL when no worker has offered it. */
struct service *registry_find_method(const struct registry *registry, uint64_t hash);
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
                 struct worker **out, const char **why);
/** No more calls for it. */
void registry_drain(struct registry *registry, struct worker *worker);
/** Its calls are gone by then. */
void registry_remove(struct registry *registry, struct worker **worker);

/** The least loaded worker with a free slot; of equal ones who has been idle longest. NULL: none. */
struct worker *registry_pick(const struct service *service, const struct selector *selector);
/** Whether any worker would match. */
bool registry_serves(const struct service *service, const struct selector *selector);
/** Calls at once that all matching workers together take; 0 also while all is lent to other brokers. */
uint64_t registry_capacity(const struct service *service, const struct selector *selector);

#endif
