#include "broker/state.h"
#include "broker/stats.h"

/* ---- the caller's frames --------------------------------------------------------------------- */

/* What comes for a call whose OPEN is still here changes that. */
static void change_open(struct call *call, const struct mesh_header *header)
{
    if (header->kind == MESH_CREDIT) {
        if (header->credit_messages > call->header.credit_messages)
            call->header.credit_messages = header->credit_messages;
        if (header->credit_bytes > call->header.credit_bytes)
            call->header.credit_bytes = header->credit_bytes;
    } else {
        call->header.flags |= header->flags & MESH_END_SEND;
    }
}

/* A call that waits is one OPEN. */
static void change_waiting(struct broker_core *core, struct call *call,
                           const struct mesh_header *header, int64_t now_ns)
{
    if (header->flags & MESH_MESSAGE)
        call_fails(core, call, STATUS_INTERNAL, "a message was sent without credit", now_ns);
    else
        change_open(call, header);
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
    struct call *call = call_find(core, session, header->call_id);

    if (!call)
        return stray(core, session, header->call_id);
    if (header->kind == MESH_CANCEL)
        return call_fails(core, call,
                          header->status == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED
                                                                     : STATUS_CANCELLED,
                          "the caller cancelled", now_ns);
    if (header->body_bytes > core->options.max_message_bytes)
        return call_fails(core, call, STATUS_RESOURCE_EXHAUSTED,
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
        return call_fails(core, call, STATUS_RESOURCE_EXHAUSTED,
                          "a message is larger than the worker takes", now_ns);
    if (call->open && header->flags & MESH_MESSAGE)
        call_drop_open(core, call); /* it is no longer the whole of the call */
    else if (call->open)
        change_open(call, header);
    header->call_id = call->id;
    core_pass(core, message, call->worker->session, header);
    return true;
}

/* ---- the worker's frames --------------------------------------------------------------------- */

static void slot_freed(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    if (worker->draining && worker->running == 0)
        core_send_kind(core, worker->session, MESH_DRAINED, 0);
    router_fill(core, worker, now_ns);
}

/* END: the slot is free. Returns whether the message was taken. */
static bool ended(struct broker_core *core, struct call *call, struct broker_message *message,
                  struct mesh_header *header, int64_t now_ns)
{
    struct service *service = call->service;
    struct worker *worker = call->worker;
    int64_t held_ns = now_ns - call->started_ns;
    bool pass = call->caller != NULL;

    if (lease_bounced(core, call, header, now_ns)) {
        slot_freed(core, worker, now_ns);
        return false;
    }
    if (pass) {
        header->call_id = call->caller_id;
        if (call->header.attempt > 0) /* a first worker may have run it */
            header->flags &= (uint16_t)~MESH_UNPROCESSED;
        core_pass(core, message, call->caller, header);
        call_leave_caller(core, call, header->status, now_ns);
    }
    queue_tenant_charge(call->entry.tenant, held_ns);
    if (header->status == STATUS_OK) /* those that fail at once say nothing of the others */
        durations_add(&service->held, held_ns);
    sick_judge(core, worker, header, now_ns);
    worker->n_ended++;
    call_leave_worker(core, call);
    call_free(core, call);
    slot_freed(core, worker, now_ns);
    return pass;
}

bool router_from_worker(struct broker_core *core, struct session *session,
                        struct broker_message *message, struct mesh_frame *frame, int64_t now_ns)
{
    struct mesh_header *header = &frame->header;
    struct call *call =
        session->worker ? call_find_id(core, session->worker, header->call_id) : NULL;
    bool large;

    if (!call)
        return stray(core, session, header->call_id);
    large = header->body_bytes > core->options.max_message_bytes ||
            (call->caller && header->body_bytes > call->caller->max_message_bytes);
    if (large && call->caller)
        call_fails(core, call, STATUS_RESOURCE_EXHAUSTED,
                   "an answer is larger than the caller takes", now_ns);
    if (header->kind == MESH_END) {
        load_report(session->worker, frame);
        return ended(core, call, message, header, now_ns);
    }
    if (!call->caller) {
        stats_dropped("late");
        return false;
    }
    call_drop_open(core, call); /* an answer has begun */
    header->call_id = call->caller_id;
    core_pass(core, message, call->caller, header);
    return true;
}
