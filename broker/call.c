#include "broker/state.h"
#include "broker/stats.h"

#include <stdlib.h>

struct call *call_create(struct broker_core *core, struct session *session,
                         const struct mesh_header *header, int64_t now_ns)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    call->header = *header;
    call->header.status = identity_number(session);
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

struct call *call_find(const struct broker_core *core, const struct session *session, uint64_t id)
{
    struct table_node *node = table_find(&core->by_caller, table_pair(session->serial, id));

    for (; node; node = table_next(node)) {
        struct call *call = container_of(node, struct call, by_caller);

        if (call->caller == session && call->caller_id == id)
            return call;
    }
    return NULL;
}

struct call *call_find_id(const struct broker_core *core, const struct worker *worker, uint64_t id)
{
    struct table_node *node = table_find(&core->by_id, id);
    struct call *call = node ? container_of(node, struct call, by_id) : NULL;

    return call && call->worker == worker ? call : NULL;
}

/* ---- it leaves ------------------------------------------------------------------------------- */

/* The caller has its END, or is gone: nothing more goes there. */
void call_leave_caller(struct broker_core *core, struct call *call, uint16_t status, int64_t now_ns)
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

void call_drop_open(struct broker_core *core, struct call *call)
{
    if (call->worker && call->open)
        core->kept_bytes -= mesh_message_bytes(&call->open->message);
    broker_core_recycle(core, call->open);
    call->open = NULL;
}

/* Take the call from its worker, whose slot is free then. */
void call_leave_worker(struct broker_core *core, struct call *call)
{
    call_drop_open(core, call);
    LIST_REMOVE(call, of_worker);
    table_remove(&core->by_id, &call->by_id);
    sick_unstuck(core, call);
    call->worker->running--;
    registry_standing(call->worker, core->now_ns);
    call->service->n_running--;
    call->worker = NULL;
    core->levels_stale = true;
}

void call_free(struct broker_core *core, struct call *call)
{
    struct service *service = call->service;

    if (call->entry.lane)
        queue_remove(&service->queue, &call->entry);
    call_drop_open(core, call);
    local_free(core, &call->local);
    if (call->entry.tenant)
        queue_tenant_put(&service->queue, call->entry.tenant);
    core->n_calls--;
    core->levels_stale = true;
    free(call);
    if (service)
        registry_forget(&core->registry, service);
}

/* ---- it ends --------------------------------------------------------------------------------- */

void call_cancel_at_worker(struct broker_core *core, struct call *call, enum status_code why)
{
    struct mesh_header header = {
        .kind = MESH_CANCEL,
        .call_id = call->id,
        .status = why == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED : STATUS_CANCELLED,
    };

    core_send(core, call->worker->session, &header, NULL, NULL, false);
    sick_watch(core, call, core->now_ns);
}

void call_end(struct broker_core *core, struct call *call, const struct verdict *verdict,
              int64_t now_ns)
{
    struct verdict said = *verdict;

    said.unprocessed &= call->header.attempt == 0; /* a first worker may have run it */
    if (call->caller) {
        core_send_end(core, call->caller, call->caller_id, &said);
        call_leave_caller(core, call, (uint16_t)verdict->code, now_ns);
    }
    if (!call->worker) {
        call_free(core, call);
        return;
    }
    call_drop_open(core, call); /* no second try */
    call_cancel_at_worker(core, call, verdict->code);
}

void call_done(struct broker_core *core, struct call *call, int64_t now_ns)
{
    call_leave_caller(core, call, STATUS_OK, now_ns);
    call_free(core, call);
}

bool call_fails(struct broker_core *core, struct call *call, enum status_code code, const char *why,
                int64_t now_ns)
{
    struct verdict verdict = verdict_make(code, false, "%s", why);

    call_end(core, call, &verdict, now_ns);
    return false;
}

void router_deadlines(struct broker_core *core, int64_t now_ns)
{
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->deadlines, now_ns))) {
        struct call *call = container_of(timer, struct call, timer);
        struct verdict verdict;

        if (!call->caller) {
            sick_stuck(core, call);
            continue;
        }
        verdict = verdict_make(STATUS_DEADLINE_EXCEEDED, call->worker == NULL && !call->local,
                               call->worker ? "the deadline passed while worker '%s' ran the call"
                                            : "the deadline passed in the queue%s",
                               call->worker ? call->worker->session->name : "");

        call_end(core, call, &verdict, now_ns);
    }
}
