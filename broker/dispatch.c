#include "broker/state.h"
#include "broker/stats.h"
#include "broker/traces.h"

#include <string.h>

#define KEPT_MAX ((size_t)64 << 20) /* bytes of copies for second tries */
#define ATTEMPTS_MAX 1              /* second tries */
#define WAITED_SHARE 8              /* how much one call says of the average */

/* ---- to be sent again ---------------------------------------------------------------------------- */

/* A copy for a second try: the first frame anew, since headers are rewritten in place; the body by
 * reference. */
static struct broker_message *copy_open(struct broker_core *core, struct broker_message *message)
{
    struct broker_message *copy = broker_core_blank(core);
    struct mesh_message *to = copy ? &copy->message : NULL;
    struct mesh_message *from = &message->message;

    if (!copy)
        return NULL;
    to->has_body = false;
    if (zmq_msg_init_size(&to->first, zmq_msg_size(&from->first)) < 0) {
        broker_core_recycle(core, copy);
        return NULL;
    }
    memcpy(zmq_msg_data(&to->first), zmq_msg_data(&from->first), zmq_msg_size(&from->first));
    copy->filled = true;
    if (from->has_body) {
        zmq_msg_init(&to->body);
        to->has_body = true;
        if (zmq_msg_copy(&to->body, &from->body) < 0) {
            broker_core_recycle(core, copy);
            return NULL;
        }
    }
    return copy;
}

static bool may_try_again(const struct call *call)
{
    const uint16_t needed = MESH_IDEMPOTENT | MESH_END_SEND;

    return (call->header.flags & needed) == needed && call->header.attempt < ATTEMPTS_MAX;
}

static void keep_open(struct broker_core *core, struct call *call, struct broker_message *message)
{
    size_t bytes = mesh_message_bytes(&message->message);

    if (!(call->worker->lends || may_try_again(call)) || bytes > KEPT_MAX - core->kept_bytes)
        return;
    call->open = copy_open(core, message);
    if (call->open)
        core->kept_bytes += bytes;
}

/* The pool of a call, read from its OPEN again. */
static int open_pool(struct call *call, struct broker_message *message, struct pool **out)
{
    struct selector *selector = NULL;
    mesh_meta *meta = NULL;
    struct mesh_frame frame;
    int err = 0;

    mesh_message_frame(&message->message, &frame);
    if (frame.header.flags & MESH_ROUTE)
        err = mesh_meta_unpack(&frame, &meta);
    if (err == 0 && meta)
        err = selector_create(meta->selector, meta->n_selector, &selector);
    if (err == 0)
        err = pool_get(call->service, &selector, out);
    selector_destroy(&selector);
    if (meta)
        dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

bool dispatch_take_back(struct broker_core *core, struct call *call)
{
    struct broker_message *message = call->open;

    if (!call->caller || !message)
        return false;
    core->kept_bytes -= mesh_message_bytes(&message->message);
    call->open = NULL;
    call_leave_worker(core, call);
    call->open = message;
    return true;
}

bool dispatch_again(struct broker_core *core, struct call *call, int64_t now_ns)
{
    struct broker_message *message = call->open;
    struct pool *pool = NULL;

    if (!may_try_again(call) || !message || open_pool(call, message, &pool) < 0 ||
        !dispatch_take_back(core, call))
        return false;
    call->open = NULL;
    call->header.attempt++;
    stats_retried();
    router_route(core, call, message, pool, now_ns);
    return true;
}

/* ---- to a worker ----------------------------------------------------------------------------- */

static void dispatch(struct broker_core *core, struct call *call, struct worker *worker,
                     struct broker_message *message, int64_t now_ns)
{
    struct session *session = worker->session;

    call->id = ++core->next_id;
    call->header.call_id = call->id;
    call->header.timeout_ns = mesh_deadline_left(call->deadline_ns, now_ns);
    if (table_add(&core->by_id, &call->by_id, call->id) < 0) {
        struct verdict verdict =
            verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");

        broker_core_recycle(core, message);
        call_end(core, call, &verdict, now_ns);
        return;
    }
    call->worker = worker;
    LIST_INSERT_HEAD(&worker->calls, call, of_worker);
    worker->running++;
    registry_turn(&core->registry, worker);
    registry_standing(worker, now_ns);
    session->last_id = call->id;
    call->started_ns = now_ns;
    call->service->n_running++;
    call->service->n_started++;
    core->levels_stale = true;
    stats_started(call->service->metrics, now_ns - call->arrived_ns);
    traces_queued(&message->message, call->service->name, session->name, call->arrived_ns);
    keep_open(core, call, message);
    identity_tell(core, worker, call);
    core_pass(core, message, session, &call->header);
}

/* A call from the queue to a worker with a free slot. */
static void start_waiting(struct broker_core *core, struct call *call, struct worker *worker,
                          int64_t now_ns)
{
    struct service *service = call->service;
    struct broker_message *message = call->open;

    if (admission_too_late(call, now_ns)) {
        struct verdict verdict = verdict_make(STATUS_DEADLINE_EXCEEDED, true,
                                              "too little time was left after the queue");

        call_end(core, call, &verdict, now_ns);
        return;
    }
    call->open = NULL;
    service->waited_ns += (now_ns - call->arrived_ns - service->waited_ns) / WAITED_SHARE;
    if (call->header.body_bytes > worker->session->max_message_bytes) {
        broker_core_recycle(core, message);
        call_fails(core, call, STATUS_RESOURCE_EXHAUSTED,
                   "a message is larger than the worker takes", now_ns);
        return;
    }
    dispatch(core, call, worker, message, now_ns);
}

void router_fill(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    size_t fruitless = 0; /* services in a row that had nothing for it */

    while (!worker->draining && worker->running < worker->capacity &&
           fruitless < worker->n_services) {
        size_t i = worker->turn++ % worker->n_services;
        struct queue_entry *entry = pool_next(&worker->places[i]);

        fruitless = entry ? 0 : fruitless + 1;
        if (!entry)
            continue;
        entry = queue_aged(entry, admission_aged_ns(worker->services[i], now_ns));
        queue_take(&worker->services[i]->queue, entry);
        start_waiting(core, container_of(entry, struct call, entry), worker, now_ns);
    }
}

void router_settle(struct broker_core *core, struct service *service, int64_t now_ns)
{
    struct pool *pool = NULL;

    LIST_FOREACH (pool, &service->pools, of_service)
        while (pool->waiting.count > 0 && pool_pick(pool, 0))
            router_fill(core, pool_pick(pool, 0), now_ns);
}

void router_route(struct broker_core *core, struct call *call, struct broker_message *message,
                  struct pool *pool, int64_t now_ns)
{
    struct worker *worker = pool_pick(pool, call->affinity);
    struct verdict verdict;

    if (worker) {
        dispatch(core, call, worker, message, now_ns);
        return;
    }
    if (pool->n_members == 0 && !core_waits(core, &call->header)) {
        broker_core_recycle(core, message);
        verdict = verdict_nobody(pool);
        call_end(core, call, &verdict, now_ns);
        return;
    }
    admission_enqueue(core, call, message, pool, now_ns);
}

void dispatch_return(struct broker_core *core, struct call *call, int64_t now_ns)
{
    struct broker_message *message = call->open;
    struct worker *worker = NULL;
    struct pool *pool = NULL;

    if (open_pool(call, message, &pool) < 0) {
        call_fails(core, call, STATUS_RESOURCE_EXHAUSTED, "too many calls wait", now_ns);
        return;
    }
    call->open = NULL;
    worker = pool_pick(pool, call->affinity);
    if (worker)
        dispatch(core, call, worker, message, now_ns);
    else
        admission_return(core, call, message, pool, now_ns);
}
