#include "broker/state.h"

#include <errno.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define PATIENCE_NS (30 * (int64_t)NS_PER_S) /* calls that come later than this pass nobody */
#define AGED_MIN_NS ((int64_t)NS_PER_S)      /* whoever waits longer is next, unless all do */
#define AGED_WAITS 4                         /* times the average wait */
#define RETRY_DELAY_MIN_MS 50
#define RETRY_DELAY_MAX_MS 5000
#define VICTIMS_MAX 8 /* that one newcomer may push out */

/* ---- refusals -------------------------------------------------------------------------------- */

static uint32_t retry_delay_ms(const struct pool *pool)
{
    const struct service *service = pool->service;
    double wait_ms = (double)service->held.average_ns / NS_PER_MS * (double)service->queue.count /
                     (double)(pool->capacity ? pool->capacity : 1);

    if (!(wait_ms > RETRY_DELAY_MIN_MS))
        return RETRY_DELAY_MIN_MS;
    return wait_ms < RETRY_DELAY_MAX_MS ? (uint32_t)wait_ms : RETRY_DELAY_MAX_MS;
}

static struct verdict verdict_full(const struct pool *pool)
{
    const struct service *service = pool->service;
    struct verdict verdict =
        verdict_make(STATUS_RESOURCE_EXHAUSTED, true,
                     "the queue of %s is full: %zu calls of at most %zu, %zu bytes of at most %zu",
                     service->name, service->queue.count, service->queue.limit,
                     service->queue.bytes, service->queue.bytes_limit);

    verdict.retry_delay_ms = retry_delay_ms(pool);
    return verdict;
}

struct verdict verdict_nobody(const struct pool *pool)
{
    const struct service *service = pool->service;
    char wanted[STATUS_MESSAGE_MAX / 2];

    if (!service->known)
        return verdict_make(STATUS_UNIMPLEMENTED, true, "no worker has ever offered %s",
                            service->name);
    if (service->n_workers == 0)
        return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s is there at the moment",
                            service->name);
    selector_text(pool->selector, wanted, sizeof(wanted));
    return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s serves %s", service->name,
                        wanted);
}

static struct verdict verdict_memory(void)
{
    return verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");
}

/* ---- the queue ------------------------------------------------------------------------------- */

bool admission_too_late(const struct call *call, int64_t now_ns)
{
    const struct durations *held = &call->service->held;

    return call->deadline_ns != MESH_NEVER && durations_known(held) &&
           call->deadline_ns - now_ns < held->half_ns;
}

/* Whether it will not end in time, going by those before: what is ahead of it, and then itself. */
static bool hopeless(const struct call *call, const struct pool *pool, int64_t now_ns)
{
    const struct service *service = call->service;
    const struct durations *held = &service->held;
    size_t ahead;
    double wait_ns;

    if (call->deadline_ns == MESH_NEVER || pool->capacity == 0 || !durations_known(held))
        return false;
    if (admission_too_late(call, now_ns))
        return true;
    ahead = queue_ahead(&service->queue, &pool->waiting, call->entry.tenant, call->entry.due_ns);
    if (ahead < pool->capacity)
        return false;
    wait_ns = (double)ahead / (double)pool->capacity * (double)held->average_ns;
    return wait_ns + (double)held->most_ns > (double)(call->deadline_ns - now_ns);
}

int64_t admission_aged_ns(const struct service *service, int64_t now_ns)
{
    int64_t aged = AGED_WAITS * service->waited_ns;

    return now_ns - (aged > AGED_MIN_NS ? aged : AGED_MIN_NS);
}

static int push_in(struct broker_core *core, struct call *call, struct pool *pool, int64_t now_ns)
{
    struct queue *queue = &call->service->queue;
    int err = queue_push(queue, &pool->waiting, &call->entry);

    for (int i = 0; err == -ENOSPC && i < VICTIMS_MAX; i++) {
        struct queue_entry *victim = queue_victim(queue, call->entry.tenant);
        struct verdict verdict;

        if (!victim || call->entry.bytes > queue->bytes_limit)
            break;
        verdict = verdict_full(pool_of_entry(victim));
        call_end(core, container_of(victim, struct call, entry), &verdict, now_ns);
        err = queue_push(queue, &pool->waiting, &call->entry);
    }
    return err;
}

void admission_enqueue(struct broker_core *core, struct call *call, struct broker_message *message,
                       struct pool *pool, int64_t now_ns)
{
    int64_t patience = now_ns + PATIENCE_NS;
    struct verdict verdict;
    int err;

    call->entry.since_ns = now_ns;
    call->entry.due_ns = call->deadline_ns < patience ? call->deadline_ns : patience;
    call->entry.bytes = mesh_message_bytes(&message->message);
    call->open = message;
    if (hopeless(call, pool, now_ns)) {
        verdict = verdict_make(STATUS_DEADLINE_EXCEEDED, true,
                               "the deadline would pass in the queue of %s: %zu calls wait",
                               call->service->name, call->service->queue.count);
        call_end(core, call, &verdict, now_ns);
        return;
    }
    err = push_in(core, call, pool, now_ns);
    core->levels_stale = true;
    if (err == 0) {
        lease_wanted(core, pool, now_ns);
        return;
    }
    verdict = err == -ENOSPC ? verdict_full(pool) : verdict_memory();
    call_end(core, call, &verdict, now_ns);
}

void admission_return(struct broker_core *core, struct call *call, struct broker_message *message,
                      struct pool *pool, int64_t now_ns)
{
    struct verdict verdict;

    call->open = message;
    call->entry.bytes = mesh_message_bytes(&message->message);
    core->levels_stale = true;
    if (pool->n_members == 0 && !core_waits(core, &call->header))
        verdict = verdict_nobody(pool);
    else if (queue_return(&call->service->queue, &pool->waiting, &call->entry) < 0)
        verdict = verdict_memory();
    else {
        lease_wanted(core, pool, now_ns);
        return;
    }
    call_end(core, call, &verdict, now_ns);
}
