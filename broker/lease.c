#include "broker/state.h"
#include "broker/stats.h"

#define NS_PER_MS 1000000
#define TOLD_NS (100 * (int64_t)NS_PER_MS) /* between two PONGs that a worker did not ask for */
#define TOLD_MAX 8                         /* workers that one waiting call is told to */
#define BOUNCES_MAX 3

uint32_t lease_demand(const struct worker *worker)
{
    size_t demand = 0;

    for (size_t i = 0; i < worker->n_services; i++)
        demand += queue_wanting(&worker->services[i]->queue, worker->offer->labels,
                                worker->offer->n_labels);
    return demand < UINT32_MAX ? (uint32_t)demand : UINT32_MAX;
}

static void tell(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    struct mesh_header pong = {.kind = MESH_PONG, .credit_messages = lease_demand(worker)};

    worker->told_ns = now_ns;
    core_send(core, worker->session, &pong, NULL, NULL, false);
}

void lease_wanted(struct broker_core *core, const struct service *service,
                  const struct selector *selector, int64_t now_ns)
{
    unsigned n_told = 0;

    if (registry_capacity(service, selector) > 0)
        return;
    for (size_t i = 0; i < service->n_workers && n_told < TOLD_MAX; i++) {
        struct worker *worker = service->workers[i];

        if (now_ns - worker->told_ns < TOLD_NS ||
            !selector_matches(selector, worker->offer->labels, worker->offer->n_labels))
            continue;
        tell(core, worker, now_ns);
        n_told++;
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
