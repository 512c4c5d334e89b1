#include "broker/state.h"

#include <errno.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define PATIENCE_NS (30 * (int64_t)NS_PER_S) /* later calls pass no call that waits this long */
#define SAMPLES_MIN 8                        /* calls before their average says anything */
#define RETRY_DELAY_MIN_MS 50
#define RETRY_DELAY_MAX_MS 5000
#define VICTIMS_MAX 8 /* that one newcomer may push out */

/* ---- refusals -------------------------------------------------------------------------------- */

static uint32_t retry_delay_ms(const struct service *service, const struct selector *selector)
{
    uint64_t capacity = registry_capacity(service, selector);
    double wait_ms = (double)service->held_ns / NS_PER_MS * (double)service->queue.count /
                     (double)(capacity ? capacity : 1);

    if (!(wait_ms > RETRY_DELAY_MIN_MS))
        return RETRY_DELAY_MIN_MS;
    return wait_ms < RETRY_DELAY_MAX_MS ? (uint32_t)wait_ms : RETRY_DELAY_MAX_MS;
}

static struct verdict verdict_full(const struct service *service, const struct selector *selector)
{
    struct verdict verdict =
        verdict_make(STATUS_RESOURCE_EXHAUSTED, true,
                     "the queue of %s is full: %zu calls of at most %zu, %zu bytes of at most %zu",
                     service->name, service->queue.count, service->queue.limit,
                     service->queue.bytes, service->queue.bytes_limit);

    verdict.retry_delay_ms = retry_delay_ms(service, selector);
    return verdict;
}

struct verdict verdict_nobody(const struct service *service, const struct selector *selector)
{
    char wanted[STATUS_MESSAGE_MAX / 2];

    if (!service->known)
        return verdict_make(STATUS_UNIMPLEMENTED, true, "no worker has ever offered %s",
                            service->name);
    if (service->n_workers == 0)
        return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s is there at the moment",
                            service->name);
    selector_text(selector, wanted, sizeof(wanted));
    return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s serves %s", service->name,
                        wanted);
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* Whether calls before it alone will take longer than it has; only when averages say so clearly. */
static bool hopeless(const struct call *call, const struct selector *selector, int64_t now_ns)
{
    const struct service *service = call->service;
    uint64_t capacity = registry_capacity(service, selector);
    size_t ahead;

    if (call->deadline_ns == MESH_NEVER || capacity == 0 || service->n_held < SAMPLES_MIN)
        return false;
    ahead = queue_ahead(call->entry.tenant, selector, call->entry.due_ns);
    if (ahead < capacity)
        return false;
    return (double)ahead / (double)capacity * (double)service->held_ns >
           (double)(call->deadline_ns - now_ns);
}

static void push_out(struct broker_core *core, struct queue_entry *victim, int64_t now_ns)
{
    struct call *call = container_of(victim, struct call, entry);
    struct verdict verdict = verdict_full(call->service, queue_entry_selector(victim));

    call_end(core, call, &verdict, now_ns);
}

static int push_in(struct broker_core *core, struct call *call, struct selector **selector,
                   int64_t now_ns)
{
    struct queue *queue = &call->service->queue;
    int err = queue_push(queue, &call->entry, selector);

    for (int i = 0; err == -ENOSPC && i < VICTIMS_MAX; i++) {
        struct queue_entry *victim = queue_victim(queue, call->entry.tenant);

        if (!victim || call->entry.bytes > queue->bytes_limit)
            break;
        push_out(core, victim, now_ns);
        err = queue_push(queue, &call->entry, selector);
    }
    return err;
}

void admission_enqueue(struct broker_core *core, struct call *call, struct broker_message *message,
                       struct selector **selector, int64_t now_ns)
{
    int64_t patience = now_ns + PATIENCE_NS;
    struct verdict verdict;
    int err;

    call->entry.due_ns = call->deadline_ns < patience ? call->deadline_ns : patience;
    call->entry.bytes = mesh_message_bytes(&message->message);
    call->open = message;
    if (hopeless(call, *selector, now_ns)) {
        verdict = verdict_make(STATUS_DEADLINE_EXCEEDED, true,
                               "the deadline would pass in the queue of %s: %zu calls wait",
                               call->service->name, call->service->queue.count);
        call_end(core, call, &verdict, now_ns);
        return;
    }
    err = push_in(core, call, selector, now_ns);
    core->levels_stale = true;
    if (err == 0) {
        lease_wanted(core, call->service, queue_entry_selector(&call->entry), now_ns);
        return;
    }
    verdict = err == -ENOSPC
                  ? verdict_full(call->service, *selector)
                  : verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");
    call_end(core, call, &verdict, now_ns);
}

void admission_return(struct broker_core *core, struct call *call, struct broker_message *message,
                      struct selector **selector, int64_t now_ns)
{
    struct queue *queue = &call->service->queue;
    struct verdict verdict;

    call->open = message;
    call->entry.bytes = mesh_message_bytes(&message->message);
    core->levels_stale = true;
    if (!registry_serves(call->service, *selector) && !(call->header.flags & MESH_WAIT))
        verdict = verdict_nobody(call->service, *selector);
    else if (queue_return(queue, &call->entry, selector) < 0)
        verdict = verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");
    else {
        lease_wanted(core, call->service, queue_entry_selector(&call->entry), now_ns);
        return;
    }
    call_end(core, call, &verdict, now_ns);
}
