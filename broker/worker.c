#include "base/log.h"
#include "broker/state.h"
#include "broker/stats.h"

#define REGISTER_MAX ((size_t)1 << 20)

void worker_register(struct broker_core *core, struct session *session, struct mesh_frame *frame)
{
    ProtobufCMessage *body = NULL;
    const char *why = NULL;

    if (session->worker) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT, "REGISTER came twice");
        return;
    }
    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__register__descriptor, REGISTER_MAX, &body) <
        0) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT, "REGISTER does not parse");
        return;
    }
    if (!identity_may_offer(session, (const mesh_register *)body)) {
        protobuf_c_message_free_unpacked(body, NULL);
        core_session_error(core, session, STATUS_PERMISSION_DENIED,
                           "your certificate does not allow one of these services");
        return;
    }
    if (registry_add(&core->registry, session, (mesh_register *)body, core->now_ns,
                     &session->worker, &why) < 0) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT, why ? why : "out of memory");
        return;
    }
    log_info("worker '%s' (%llu) serves %s%s with %u calls at once", session->name,
             (unsigned long long)session->worker->id, session->worker->services[0]->name,
             session->worker->n_services > 1 ? " and others" : "", session->worker->capacity);
    core_send_kind(core, session, MESH_REGISTERED, 0);
    core->levels_stale = true;
    router_fill(core, session->worker, core->now_ns);
}

void worker_capacity(struct broker_core *core, struct session *session, uint32_t capacity)
{
    struct worker *worker = session->worker;
    int64_t difference;

    if (capacity > REGISTRY_CAPACITY_MAX) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT, "capacity must be 0 to 65536");
        return;
    }
    difference = (int64_t)capacity - worker->capacity;
    worker->capacity = capacity;
    worker->lends = true;
    pool_resize(worker, difference);
    registry_standing(worker, core->now_ns);
    core->registry.version++;
    core->levels_stale = true;
    router_fill(core, worker, core->now_ns);
}

void worker_drain(struct broker_core *core, struct session *session)
{
    struct worker *worker = session->worker;

    if (worker->draining)
        return;
    registry_drain(&core->registry, worker);
    core->levels_stale = true;
    if (worker->running == 0)
        core_send_kind(core, session, MESH_DRAINED, 0);
    router_orphans(core, worker, core->now_ns);
}

void worker_lost(struct broker_core *core, struct session *session, const char *why)
{
    struct worker *worker = session->worker;

    if (worker->draining && worker->running == 0) {
        log_info("worker '%s' (%llu) has left", session->name, (unsigned long long)worker->id);
    } else {
        stats_worker_lost();
        log_warn("worker '%s' (%llu) is gone with %u calls: %s", session->name,
                 (unsigned long long)worker->id, worker->running, why);
    }
    mesh_timer_cancel(&core->healings, &worker->heal);
    registry_drain(&core->registry, worker);
    router_worker_lost(core, worker, why, core->now_ns);
    registry_remove(&core->registry, &session->worker);
}
