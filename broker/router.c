#include "broker/state.h"
#include "broker/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000
#define PATIENCE_NS (30 * (int64_t)NS_PER_S) /* later calls pass no call that waits this long */
#define KEPT_MAX ((size_t)64 << 20)          /* bytes of copies for second tries */
#define SAMPLES_MIN 8                        /* calls before their average says anything */
#define RETRY_DELAY_MIN_MS 50
#define RETRY_DELAY_MAX_MS 5000
#define VICTIMS_MAX 8  /* that one newcomer may push out */
#define ATTEMPTS_MAX 1 /* second tries */

/* ---- a call ---------------------------------------------------------------------------------- */

struct call *router_call_create(struct broker_core *core, struct session *session,
                                const struct mesh_header *header, int64_t now_ns)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    call->header = *header;
    call->caller_id = header->call_id;
    call->arrived_ns = now_ns;
    call->deadline_ns = mesh_deadline_after(now_ns, header->timeout_ns);
    if (table_add(&core->by_caller, &call->by_caller,
                  table_pair(session->serial, call->caller_id)) < 0) {
        free(call);
        return NULL;
    }
    if (call->deadline_ns != MESH_NEVER &&
        mesh_timer_set(&core->deadlines, &call->timer, call->deadline_ns) < 0) {
        table_remove(&core->by_caller, &call->by_caller);
        free(call);
        return NULL;
    }
    call->caller = session;
    LIST_INSERT_HEAD(&session->calls, call, of_caller);
    core->n_calls++;
    core->n_started++;
    return call;
}

static struct call *find_by_caller(const struct broker_core *core, const struct session *session,
                                   uint64_t id)
{
    struct table_node *node = table_find(&core->by_caller, table_pair(session->serial, id));

    for (; node; node = table_next(node)) {
        struct call *call = container_of(node, struct call, by_caller);

        if (call->caller == session && call->caller_id == id)
            return call;
    }
    return NULL;
}

static struct call *find_by_id(const struct broker_core *core, const struct worker *worker,
                               uint64_t id)
{
    struct table_node *node = table_find(&core->by_id, id);
    struct call *call = node ? container_of(node, struct call, by_id) : NULL;

    return call && call->worker == worker ? call : NULL;
}

/* The caller has its END, or is gone: nothing more goes there. */
static void leave_caller(struct broker_core *core, struct call *call, uint16_t status,
                         int64_t now_ns)
{
    LIST_REMOVE(call, of_caller);
    table_remove(&core->by_caller, &call->by_caller);
    mesh_timer_cancel(&core->deadlines, &call->timer);
    call->caller = NULL;
    core->n_ended++;
    if (!call->service)
        return;
    call->service->n_failed += status != STATUS_OK;
    stats_ended(call->service->metrics, status, now_ns - call->arrived_ns);
}

static void drop_open(struct broker_core *core, struct call *call)
{
    if (call->worker && call->open)
        core->kept_bytes -= mesh_message_bytes(&call->open->message);
    broker_core_recycle(core, call->open);
    call->open = NULL;
}

/* Take the call from its worker, whose slot is free then. */
static void leave_worker(struct broker_core *core, struct call *call)
{
    drop_open(core, call);
    LIST_REMOVE(call, of_worker);
    table_remove(&core->by_id, &call->by_id);
    call->worker->running--;
    call->service->n_running--;
    call->worker = NULL;
    core->levels_stale = true;
}

void router_call_free(struct broker_core *core, struct call *call)
{
    struct service *service = call->service;

    if (call->entry.lane)
        queue_remove(&service->queue, &call->entry);
    drop_open(core, call);
    local_free(core, &call->local);
    if (call->entry.tenant)
        queue_tenant_put(&service->queue, call->entry.tenant);
    core->n_calls--;
    core->levels_stale = true;
    free(call);
    if (service)
        registry_forget(&core->registry, service);
}

/* ---- endings --------------------------------------------------------------------------------- */

static void cancel_at_worker(struct broker_core *core, struct call *call, enum status_code why)
{
    struct mesh_header header = {
        .kind = MESH_CANCEL,
        .call_id = call->id,
        .status = why == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED : STATUS_CANCELLED,
    };

    core_send(core, call->worker->session, &header, NULL, NULL, false);
}

void router_call_end(struct broker_core *core, struct call *call, const struct verdict *verdict,
                     int64_t now_ns)
{
    if (call->caller) {
        core_send_end(core, call->caller, call->caller_id, verdict);
        leave_caller(core, call, (uint16_t)verdict->code, now_ns);
    }
    if (!call->worker) {
        router_call_free(core, call);
        return;
    }
    drop_open(core, call); /* no second try */
    cancel_at_worker(core, call, verdict->code);
}

void router_call_done(struct broker_core *core, struct call *call, int64_t now_ns)
{
    leave_caller(core, call, STATUS_OK, now_ns);
    router_call_free(core, call);
}

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

static struct verdict verdict_nobody(const struct service *service, const struct selector *selector)
{
    char wanted[STATUS_MESSAGE_MAX / 2];

    if (!service->known)
        return verdict_make(STATUS_UNIMPLEMENTED, true, "no worker has ever offered %s",
                            service->name);
    if (service->n_workers == 0)
        return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s is there at the moment",
                            service->name);
    if (!selector)
        return verdict_make(STATUS_UNAVAILABLE, true,
                            "every worker of %s has set its capacity to 0", service->name);
    selector_text(selector, wanted, sizeof(wanted));
    return verdict_make(STATUS_UNAVAILABLE, true, "no worker of %s serves %s", service->name,
                        wanted);
}

/* ---- to a worker ----------------------------------------------------------------------------- */

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

    if (!may_try_again(call) || bytes > KEPT_MAX - core->kept_bytes)
        return;
    call->open = copy_open(core, message);
    if (call->open)
        core->kept_bytes += bytes;
}

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
        router_call_end(core, call, &verdict, now_ns);
        return;
    }
    call->worker = worker;
    LIST_INSERT_HEAD(&worker->calls, call, of_worker);
    worker->running++;
    worker->used_ns = now_ns;
    session->last_id = call->id;
    call->started_ns = now_ns;
    call->service->n_running++;
    call->service->n_started++;
    core->levels_stale = true;
    stats_started(call->service->metrics, now_ns - call->arrived_ns);
    keep_open(core, call, message);
    core_pass(core, message, session, &call->header);
}

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

    router_call_end(core, call, &verdict, now_ns);
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

static void enqueue(struct broker_core *core, struct call *call, struct broker_message *message,
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
        router_call_end(core, call, &verdict, now_ns);
        return;
    }
    err = push_in(core, call, selector, now_ns);
    core->levels_stale = true;
    if (err == 0)
        return;
    verdict = err == -ENOSPC
                  ? verdict_full(call->service, *selector)
                  : verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");
    router_call_end(core, call, &verdict, now_ns);
}

/* ---- OPEN ------------------------------------------------------------------------------------ */

/* "/package.Service/Method" to the service's part of it. */
static bool path_service(const char *path, const char **name, size_t *size)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;

    if (!slash)
        return false;
    *name = path + 1;
    *size = (size_t)(slash - path - 1);
    return true;
}

static bool refuse(struct broker_core *core, struct session *session, uint64_t call_id,
                   struct verdict verdict)
{
    core_send_end(core, session, call_id, &verdict);
    core->n_started++;
    core->n_ended++;
    return false;
}

/* What a call can be refused for before anything else is looked at. */
static bool acceptable(struct broker_core *core, struct session *session,
                       const struct mesh_header *header)
{
    if (core->draining)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_UNAVAILABLE, true, "the broker is shutting down"));
    if (header->timeout_ns < 0)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_DEADLINE_EXCEEDED, true,
                                   "the deadline had passed before the broker got the call"));
    if (header->body_bytes > core->options.max_message_bytes)
        return refuse(core, session, header->call_id,
                      verdict_make(STATUS_RESOURCE_EXHAUSTED, true,
                                   "a message of %u bytes: the broker takes at most %zu",
                                   header->body_bytes, core->options.max_message_bytes));
    return true;
}

/* Give the call to a worker, or let it wait, or refuse it. Takes the message. */
static void route(struct broker_core *core, struct call *call, struct broker_message *message,
                  struct selector **selector, int64_t now_ns)
{
    bool waits = (call->header.flags & MESH_WAIT) != 0;
    struct worker *worker = registry_pick(call->service, *selector);
    struct verdict verdict;

    if (worker) {
        dispatch(core, call, worker, message, now_ns);
        return;
    }
    if (!waits && registry_capacity(call->service, *selector) == 0) {
        broker_core_recycle(core, message);
        verdict = verdict_nobody(call->service, *selector);
        router_call_end(core, call, &verdict, now_ns);
        return;
    }
    enqueue(core, call, message, selector, now_ns);
}

/* The service that a path names; waiting callers may be before its first worker. */
static struct service *service_named(struct broker_core *core, struct session *session,
                                     const struct mesh_header *header, const char *path)
{
    struct service *service = NULL;
    const char *name = NULL;
    size_t size = 0;
    int err = 0;

    if (!path_service(path, &name, &size)) {
        refuse(core, session, header->call_id,
               verdict_make(STATUS_UNIMPLEMENTED, true, "'%s' is no method's name", path));
        return NULL;
    }
    service = registry_find(&core->registry, name, size);
    if (!service && (header->flags & MESH_WAIT))
        err = registry_expect(&core->registry, name, size, &service);
    if (err < 0)
        refuse(core, session, header->call_id,
               verdict_make(err == -EINVAL ? STATUS_UNIMPLEMENTED : STATUS_RESOURCE_EXHAUSTED, true,
                            "cannot wait for %.*s: %s", (int)size, name,
                            err == -EINVAL ? "no service has such a name" : "too many are known"));
    else if (!service)
        refuse(core, session, header->call_id,
               verdict_make(STATUS_UNIMPLEMENTED, true, "no worker has ever offered %.*s",
                            (int)size, name));
    return service;
}

static void open_call(struct broker_core *core, struct session *session, struct service *service,
                      struct broker_message *message, const struct mesh_header *header,
                      const char *tenant, struct selector **selector, int64_t now_ns)
{
    struct call *call = router_call_create(core, session, header, now_ns);

    if (!service->metrics)
        service->metrics = stats_service(service->name);
    if (call)
        call->entry.tenant = queue_tenant_get(&service->queue, tenant);
    if (call && call->entry.tenant) {
        call->service = service;
        route(core, call, message, selector, now_ns);
        return;
    }
    broker_core_recycle(core, message);
    if (call) {
        leave_caller(core, call, STATUS_RESOURCE_EXHAUSTED, now_ns);
        router_call_free(core, call);
    }
    refuse(core, session, header->call_id,
           verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory"));
    registry_forget(&core->registry, service);
}

/* An OPEN whose Meta has to be read: a selector, a tenant, a method not seen before. */
static bool open_by_meta(struct broker_core *core, struct session *session,
                         struct broker_message *message, struct mesh_frame *frame, int64_t now_ns)
{
    struct selector *selector = NULL;
    struct service *service = NULL;
    const char *name = NULL;
    mesh_meta *meta = NULL;
    size_t size = 0;
    bool taken = false;

    if (mesh_meta_unpack(frame, &meta) < 0)
        return refuse(core, session, frame->header.call_id,
                      verdict_make(STATUS_INTERNAL, true, "the call's Meta does not parse"));
    if (path_service(meta->method, &name, &size) && local_serves(name, size)) {
        local_open(core, session, frame, meta->method, now_ns);
        goto done;
    }
    if (selector_create(meta->selector, meta->n_selector, &selector) < 0) {
        refuse(core, session, frame->header.call_id,
               verdict_make(STATUS_INTERNAL, true, "the call's selector has a key without values"));
        goto done;
    }
    service = service_named(core, session, &frame->header, meta->method);
    if (!service)
        goto done;
    open_call(core, session, service, message, &frame->header, meta->tenant, &selector, now_ns);
    taken = true;
done:
    selector_destroy(&selector);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return taken;
}

bool router_open(struct broker_core *core, struct session *session, struct broker_message *message,
                 struct mesh_frame *frame, int64_t now_ns)
{
    struct selector *any = NULL;
    struct service *service = NULL;

    if (frame->header.call_id <= session->last_id) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT,
                           "a call id that is not greater than those before");
        return false;
    }
    session->last_id = frame->header.call_id;
    if (!acceptable(core, session, &frame->header))
        return false;
    if (!(frame->header.flags & MESH_ROUTE))
        service = registry_find_method(&core->registry, frame->header.method_hash);
    if (!service)
        return open_by_meta(core, session, message, frame, now_ns);
    open_call(core, session, service, message, &frame->header, "", &any, now_ns);
    return true;
}

/* ---- the caller's frames --------------------------------------------------------------------- */

static bool fails(struct broker_core *core, struct call *call, enum status_code code,
                  const char *why, int64_t now_ns)
{
    struct verdict verdict = verdict_make(code, false, "%s", why);

    router_call_end(core, call, &verdict, now_ns);
    return false;
}

/* A call that waits is one OPEN: what comes for it changes that. */
static void change_waiting(struct broker_core *core, struct call *call,
                           const struct mesh_header *header, int64_t now_ns)
{
    if (header->kind == MESH_CREDIT) {
        if (header->credit_messages > call->header.credit_messages)
            call->header.credit_messages = header->credit_messages;
        if (header->credit_bytes > call->header.credit_bytes)
            call->header.credit_bytes = header->credit_bytes;
    } else if (header->flags & MESH_MESSAGE) {
        fails(core, call, STATUS_INTERNAL, "a message was sent without credit", now_ns);
    } else {
        call->header.flags |= header->flags & MESH_END_SEND;
    }
}

/* A frame for an id that is not alive: late, unless nobody has drawn that id yet. */
static bool stray(struct broker_core *core, struct session *session, uint64_t call_id)
{
    if (call_id > session->last_id)
        core_session_error(core, session, STATUS_INVALID_ARGUMENT,
                           "a frame for a call that was never opened");
    else
        stats_dropped("late");
    return false;
}

bool router_from_caller(struct broker_core *core, struct session *session,
                        struct broker_message *message, struct mesh_frame *frame, int64_t now_ns)
{
    struct mesh_header *header = &frame->header;
    struct call *call = find_by_caller(core, session, header->call_id);

    if (!call)
        return stray(core, session, header->call_id);
    if (header->kind == MESH_CANCEL)
        return fails(core, call,
                     header->status == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED
                                                                : STATUS_CANCELLED,
                     "the caller cancelled", now_ns);
    if (header->body_bytes > core->options.max_message_bytes)
        return fails(core, call, STATUS_RESOURCE_EXHAUSTED,
                     "a message is larger than the broker takes", now_ns);
    if (call->local) {
        local_frame(core, call, frame, now_ns);
        return false;
    }
    if (!call->worker) {
        change_waiting(core, call, header, now_ns);
        return false;
    }
    if (header->body_bytes > call->worker->session->max_message_bytes)
        return fails(core, call, STATUS_RESOURCE_EXHAUSTED,
                     "a message is larger than the worker takes", now_ns);
    header->call_id = call->id;
    core_pass(core, message, call->worker->session, header);
    return true;
}

/* ---- the worker's frames --------------------------------------------------------------------- */

/* END: the slot is free. Returns whether the message was taken. */
static bool ended(struct broker_core *core, struct call *call, struct broker_message *message,
                  struct mesh_header *header, int64_t now_ns)
{
    struct service *service = call->service;
    struct worker *worker = call->worker;
    int64_t held_ns = now_ns - call->started_ns;
    bool pass = call->caller != NULL;

    if (pass) {
        header->call_id = call->caller_id;
        core_pass(core, message, call->caller, header);
        leave_caller(core, call, header->status, now_ns);
    }
    queue_tenant_charge(call->entry.tenant, held_ns);
    service->held_ns += service->n_held ? (held_ns - service->held_ns) / 8 : held_ns;
    service->n_held++;
    worker->n_ended++;
    leave_worker(core, call);
    router_call_free(core, call);
    if (worker->draining && worker->running == 0)
        core_send_kind(core, worker->session, MESH_DRAINED, 0);
    router_fill(core, worker, now_ns);
    return pass;
}

bool router_from_worker(struct broker_core *core, struct session *session,
                        struct broker_message *message, struct mesh_frame *frame, int64_t now_ns)
{
    struct mesh_header *header = &frame->header;
    struct call *call = session->worker ? find_by_id(core, session->worker, header->call_id) : NULL;
    bool large;

    if (!call)
        return stray(core, session, header->call_id);
    large = header->body_bytes > core->options.max_message_bytes ||
            (call->caller && header->body_bytes > call->caller->max_message_bytes);
    if (large && call->caller)
        fails(core, call, STATUS_RESOURCE_EXHAUSTED, "an answer is larger than the caller takes",
              now_ns);
    if (header->kind == MESH_END)
        return ended(core, call, message, header, now_ns);
    if (!call->caller) {
        stats_dropped("late");
        return false;
    }
    drop_open(core, call); /* an answer has begun */
    header->call_id = call->caller_id;
    core_pass(core, message, call->caller, header);
    return true;
}

/* ---- workers come and go --------------------------------------------------------------------- */

/* A call from the queue to a worker with a free slot. */
static void start_waiting(struct broker_core *core, struct call *call, struct worker *worker,
                          int64_t now_ns)
{
    struct broker_message *message = call->open;

    call->open = NULL;
    if (call->header.body_bytes > worker->session->max_message_bytes) {
        broker_core_recycle(core, message);
        fails(core, call, STATUS_RESOURCE_EXHAUSTED, "a message is larger than the worker takes",
              now_ns);
        return;
    }
    dispatch(core, call, worker, message, now_ns);
}

void router_fill(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    size_t fruitless = 0; /* services in a row that had nothing for it */

    while (!worker->draining && worker->running < worker->capacity &&
           fruitless < worker->n_services) {
        struct service *service = worker->services[worker->turn++ % worker->n_services];
        struct queue_entry *entry =
            queue_take(&service->queue, worker->offer->labels, worker->offer->n_labels);

        fruitless = entry ? 0 : fruitless + 1;
        if (entry)
            start_waiting(core, container_of(entry, struct call, entry), worker, now_ns);
    }
}

/* Nobody is there to serve it, and it does not wait for somebody who may come. */
static bool is_orphan(const struct queue_entry *entry, void *arg)
{
    const struct broker_core *core = arg;
    const struct call *call = container_of(entry, struct call, entry);

    return (core->draining || !(call->header.flags & MESH_WAIT)) &&
           registry_capacity(call->service, queue_entry_selector(entry)) == 0;
}

/* The service may be gone afterwards: one that was only waited for is forgotten with its last call. */
static void end_orphans(struct broker_core *core, struct service *service, int64_t now_ns)
{
    bool left = service->queue.count > 0;

    while (left) {
        struct queue_entry *entry = queue_find(&service->queue, is_orphan, core);
        struct call *call = entry ? container_of(entry, struct call, entry) : NULL;
        struct verdict verdict;

        if (!call)
            return;
        left = service->queue.count > 1;
        verdict = verdict_nobody(service, queue_entry_selector(entry));
        router_call_end(core, call, &verdict, now_ns);
    }
}

void router_orphans(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    for (size_t i = 0; i < worker->n_services; i++)
        end_orphans(core, worker->services[i], now_ns);
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
        leave_caller(core, call, STATUS_CANCELLED, now_ns);
        if (!call->worker) {
            router_call_free(core, call);
            continue;
        }
        drop_open(core, call);
        cancel_at_worker(core, call, STATUS_CANCELLED);
    }
}

/* What a call demands, read from its OPEN again. */
static int open_selector(struct broker_message *message, struct selector **out)
{
    mesh_meta *meta = NULL;
    struct mesh_frame frame;
    int err;

    mesh_message_frame(&message->message, &frame);
    if (!(frame.header.flags & MESH_ROUTE))
        return 0;
    err = mesh_meta_unpack(&frame, &meta);
    if (err < 0)
        return err;
    err = selector_create(meta->selector, meta->n_selector, out);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

/* Once more, by another worker. */
static bool try_again(struct broker_core *core, struct call *call, int64_t now_ns)
{
    struct broker_message *message = call->open;
    struct selector *selector = NULL;

    if (!call->caller || !message || open_selector(message, &selector) < 0)
        return false;
    core->kept_bytes -= mesh_message_bytes(&message->message);
    call->open = NULL;
    leave_worker(core, call);
    call->header.attempt++;
    stats_retried();
    route(core, call, message, &selector, now_ns);
    selector_destroy(&selector);
    return true;
}

void router_worker_lost(struct broker_core *core, struct worker *worker, const char *why,
                        int64_t now_ns)
{
    struct call *call = NULL;

    while ((call = LIST_FIRST(&worker->calls))) {
        struct verdict verdict;

        if (try_again(core, call, now_ns))
            continue;
        verdict = verdict_make(STATUS_UNAVAILABLE, false, "worker '%s' of %s is gone: %s",
                               worker->session->name, call->service->name, why);
        leave_worker(core, call);
        router_call_end(core, call, &verdict, now_ns);
    }
    router_orphans(core, worker, now_ns);
}

void router_deadlines(struct broker_core *core, int64_t now_ns)
{
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->deadlines, now_ns))) {
        struct call *call = container_of(timer, struct call, timer);
        struct verdict verdict =
            verdict_make(STATUS_DEADLINE_EXCEEDED, call->worker == NULL && !call->local,
                         call->worker ? "the deadline passed while worker '%s' ran the call"
                                      : "the deadline passed in the queue%s",
                         call->worker ? call->worker->session->name : "");

        router_call_end(core, call, &verdict, now_ns);
    }
}
