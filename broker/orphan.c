#include "broker/state.h"

struct orphans {
    const struct broker_core *core;
    struct calls calls;
};

/* Nobody is there to serve it, and it does not wait for somebody who may come. */
static void gather(struct queue_entry *entry, void *arg)
{
    struct orphans *orphans = arg;
    struct call *call = container_of(entry, struct call, entry);

    if (orphans->core->draining || !core_waits(orphans->core, &call->header))
        LIST_INSERT_HEAD(&orphans->calls, call, of_worker); /* it has none */
}

/* The service may be gone afterwards: one that was only waited for is forgotten with its last call. */
static void end_orphans(struct broker_core *core, struct service *service, int64_t now_ns)
{
    struct orphans orphans = {.core = core};
    struct pool *pool = NULL;
    struct call *call = NULL;

    LIST_FOREACH (pool, &service->pools, of_service)
        if (pool->n_members == 0)
            queue_each(&pool->waiting, gather, &orphans);
    while ((call = LIST_FIRST(&orphans.calls))) {
        struct verdict verdict = verdict_nobody(pool_of_entry(&call->entry));

        LIST_REMOVE(call, of_worker);
        call_end(core, call, &verdict, now_ns);
    }
}

void router_orphans(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    for (size_t i = 0; i < worker->n_services; i++) {
        end_orphans(core, worker->services[i], now_ns);
        router_settle(core, worker->services[i], now_ns);
    }
}

void router_all_orphans(struct broker_core *core, int64_t now_ns)
{
    struct service *next = NULL;

    for (struct service *service = core->registry.first; service; service = next) {
        next = service->next;
        end_orphans(core, service, now_ns);
    }
}

void router_caller_lost(struct broker_core *core, struct session *session, int64_t now_ns)
{
    struct call *call = NULL;

    while ((call = LIST_FIRST(&session->calls))) {
        call_leave_caller(core, call, STATUS_CANCELLED, now_ns);
        if (!call->worker) {
            call_free(core, call);
            continue;
        }
        call_drop_open(core, call);
        call_cancel_at_worker(core, call, STATUS_CANCELLED);
    }
}

void router_worker_lost(struct broker_core *core, struct worker *worker, const char *why,
                        int64_t now_ns)
{
    struct call *call = NULL;

    while ((call = LIST_FIRST(&worker->calls))) {
        struct verdict verdict;

        if (dispatch_again(core, call, now_ns))
            continue;
        verdict = verdict_make(STATUS_UNAVAILABLE, false, "worker '%s' of %s is gone: %s",
                               worker->session->name, call->service->name, why);
        call_leave_worker(core, call);
        call_end(core, call, &verdict, now_ns);
    }
    router_orphans(core, worker, now_ns);
}
