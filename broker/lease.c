#include "broker/state.h"
#include "broker/stats.h"

#define NS_PER_MS 1000000
#define TOLD_NS (100 * (int64_t)NS_PER_MS) /* between two PONGs that a worker did not ask for */
#define TOLD_MAX 8                         /* workers that one waiting call is told to */
#define BOUNCES_MAX 3

uint32_t lease_demand(const struct worker *worker)
{
    const struct member *member = NULL;
    size_t demand = 0;

    for (size_t i = 0; i < worker->n_services; i++)
        LIST_FOREACH (member, &worker->places[i], of_worker)
            demand += member->pool->waiting.count;
    return demand < UINT32_MAX ? (uint32_t)demand : UINT32_MAX;
}

static void tell(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    struct mesh_header pong = {.kind = MESH_PONG, .credit_messages = lease_demand(worker)};

    worker->told_ns = now_ns;
    core_send(core, worker->session, &pong, NULL, NULL, false);
}

void lease_wanted(struct broker_core *core, const struct pool *pool, int64_t now_ns)
{
    const struct member *member = NULL;
    unsigned n_told = 0;

    if (pool->capacity > 0)
        return;
    LIST_FOREACH (member, &pool->members, of_pool) {
        if (now_ns - member->worker->told_ns < TOLD_NS)
            continue;
        tell(core, member->worker, now_ns);
        if (++n_told == TOLD_MAX)
            return;
    }
}

bool lease_bounced(struct broker_core *core, struct call *call, const struct mesh_header *end,
                   int64_t now_ns)
{
    bool unprocessed = end->status == STATUS_RESOURCE_EXHAUSTED && end->flags & MESH_UNPROCESSED;

    if (!unprocessed || call->n_bounced == BOUNCES_MAX || !dispatch_take_back(core, call))
        return false;
    call->n_bounced++;
    call->service->n_started--; /* it has not */
    stats_bounced();
    dispatch_return(core, call, now_ns);
    return true;
}
