#include "broker/core.h"

#include "broker/state.h"
#include "broker/stats.h"

#include <errno.h>
#include <stdlib.h>

#define NS_PER_MS 1000000
#define LEVELS_NS (100 * (int64_t)NS_PER_MS)

/* ---- messages -------------------------------------------------------------------------------- */

static void on_unknown(struct broker_core *core, struct session *session,
                       const struct mesh_header *header)
{
    stats_dropped("unknown_kind");
    if (header->flags & MESH_CRITICAL)
        core_session_error(core, session, STATUS_UNIMPLEMENTED, "a critical kind is not known");
}

static bool known_kind(uint8_t kind)
{
    return (kind >= MESH_HELLO && kind <= MESH_ERROR) ||
           (kind >= MESH_REGISTER && kind <= MESH_IDENTITY) ||
           (kind >= MESH_OPEN && kind <= MESH_END);
}

static void on_ping(struct broker_core *core, struct session *session,
                    const struct mesh_frame *ping)
{
    struct mesh_header pong = {.kind = MESH_PONG, .call_id = ping->header.call_id};

    if (session->worker) {
        load_report(session->worker, ping);
        pong.credit_messages = lease_demand(session->worker);
    }
    core_send(core, session, &pong, NULL, NULL, false);
}

/* What both sides may send. @return false: not one of these */
static bool on_common(struct broker_core *core, struct session *session,
                      const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;

    switch (header->kind) {
    case MESH_PING:
        on_ping(core, session, frame);
        return true;
    case MESH_PONG:
        return true;
    case MESH_BYE:
        session_end(core, session, "it said goodbye");
        return true;
    case MESH_ERROR:
        session_end(core, session, "it found an error");
        return true;
    default:
        if (known_kind(header->kind))
            return false;
        on_unknown(core, session, header);
        return true;
    }
}

static bool on_front(struct broker_core *core, struct session *session,
                     const struct broker_event *event)
{
    struct mesh_frame *frame = event->frame;

    switch (frame->header.kind) {
    case MESH_OPEN:
        return router_open(core, session, event->message, frame, core->now_ns);
    case MESH_DATA:
    case MESH_CREDIT:
    case MESH_CANCEL:
        return router_from_caller(core, session, event->message, frame, core->now_ns);
    default:
        core_session_error(core, session, STATUS_INVALID_ARGUMENT,
                           "a caller must not send this kind");
        return false;
    }
}

static bool on_back(struct broker_core *core, struct session *session,
                    const struct broker_event *event)
{
    struct mesh_frame *frame = event->frame;
    uint8_t kind = frame->header.kind;

    if (kind == MESH_REGISTER) {
        worker_register(core, session, frame);
    } else if (kind == MESH_CAPACITY && session->worker) {
        worker_capacity(core, session, frame->header.credit_messages);
    } else if (kind == MESH_DRAIN && session->worker) {
        worker_drain(core, session);
    } else if (kind == MESH_ACCEPT || kind == MESH_INITIAL || kind == MESH_DATA ||
               kind == MESH_CREDIT || kind == MESH_END) {
        return router_from_worker(core, session, event->message, frame, core->now_ns);
    } else {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT,
                           "a worker must not send this kind, or not yet");
    }
    return false;
}

/* @return whether the message was taken */
static bool on_message(struct broker_core *core, const struct broker_event *event)
{
    struct session *session = NULL;

    if (event->frame->header.kind == MESH_HELLO) {
        session_hello(core, event);
        return false;
    }
    session = session_find(core, event->side, event->peer);
    if (!session) {
        session_stranger(core, event);
        return false;
    }
    if (event->identity != identity_number(session)) { /* a routing id is no proof of who it is */
        identity_refuse(core, event->side, event->peer, "this session is another key's");
        return false;
    }
    mesh_heartbeat_heard(&session->beat, core->now_ns);
    if (session->worker && session->worker->ill & ILL_QUIET)
        sick_listen(core, session->worker, core->now_ns);
    if (on_common(core, session, event->frame))
        return false;
    return event->side == BROKER_FRONT ? on_front(core, session, event)
                                       : on_back(core, session, event);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void set_levels(struct broker_core *core)
{
    core->levels_stale = false;
    core->levels_ns = core->now_ns;
    stats_sessions(core->n_sessions[BROKER_FRONT], core->n_sessions[BROKER_BACK]);
    for (struct service *service = core->registry.first; service; service = service->next) {
        if (!service->metrics && service->known)
            service->metrics = stats_service(service->name);
        stats_levels(service->metrics, service->queue.count, service->queue.bytes,
                     service->n_running, service->n_workers, service->any->capacity,
                     service->any->n_ill);
    }
}

static void on_tick(struct broker_core *core)
{
    router_deadlines(core, core->now_ns);
    session_beats(core);
    session_ages(core);
    sick_heal(core, core->now_ns);
    if (core->levels_stale && core->now_ns - core->levels_ns >= LEVELS_NS)
        set_levels(core);
    if (core->settled_ns > 0 && core->now_ns >= core->settled_ns) {
        core->settled_ns = 0;
        router_all_orphans(core, core->now_ns);
    }
}

bool core_waits(const struct broker_core *core, const struct mesh_header *open)
{
    return open->flags & MESH_WAIT || core->settled_ns > 0;
}

int64_t broker_core_next_ns(const struct broker_core *core)
{
    int64_t next = mesh_timers_next_ns(&core->beats);
    int64_t age = mesh_timers_next_ns(&core->ages);
    int64_t deadline = mesh_timers_next_ns(&core->deadlines);
    int64_t healing = mesh_timers_next_ns(&core->healings);
    int64_t push = local_next_ns(core);

    if (age < next)
        next = age;
    if (deadline < next)
        next = deadline;
    if (healing < next)
        next = healing;
    if (push < next)
        next = push;
    if (core->levels_stale && core->levels_ns + LEVELS_NS < next)
        next = core->levels_ns + LEVELS_NS;
    if (core->settled_ns > 0 && core->settled_ns < next)
        next = core->settled_ns;
    return next;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void on_drain_all(struct broker_core *core)
{
    struct session *session = NULL;

    if (core->draining)
        return;
    core->draining = true;
    core->registry.version++;
    LIST_FOREACH (session, &core->sessions, link)
        if (session->side == BROKER_FRONT)
            core_send_kind(core, session, MESH_GOAWAY, 0);
    router_all_orphans(core, core->now_ns);
}

/* What crosses it was never read: the caller may send that elsewhere. */
static void say_bye(struct broker_core *core, struct session *session)
{
    struct mesh_header header = {
        .kind = MESH_BYE, .flags = MESH_UNPROCESSED, .call_id = session->last_id};

    core_send(core, session, &header, NULL, NULL, false);
}

static void on_stop(struct broker_core *core)
{
    struct session *session = NULL;

    core->draining = true;
    LIST_FOREACH (session, &core->sessions, link)
        while (!LIST_EMPTY(&session->calls)) {
            struct verdict verdict =
                verdict_make(STATUS_UNAVAILABLE, false, "the broker is shutting down");

            call_end(core, LIST_FIRST(&session->calls), &verdict, core->now_ns);
        }
    while ((session = LIST_FIRST(&core->sessions))) {
        say_bye(core, session);
        if (session->worker) /* no word in the log: it is us who leave */
            session->worker->draining = session->worker->running == 0;
        session_end(core, session, "the broker is shutting down");
    }
}

struct broker_message *broker_core_step(struct broker_core *core, const struct broker_event *event,
                                        int64_t now_ns)
{
    core->actions = NULL;
    core->last_action = &core->actions;
    core->now_ns = now_ns;
    switch (event->kind) {
    case BROKER_MESSAGE:
        if (!on_message(core, event))
            broker_core_recycle(core, event->message);
        break;
    case BROKER_RUBBISH:
        session_rubbish(core, event);
        break;
    case BROKER_LOST:
        session_lost(core, event->side, event->peer, event->why);
        break;
    case BROKER_REVOKED:
        identity_revoke(core, event->side, event->identity);
        break;
    case BROKER_TICK:
        on_tick(core);
        break;
    case BROKER_DRAIN:
        on_drain_all(core);
        break;
    case BROKER_STOP:
        on_stop(core);
        break;
    }
    local_push(core, now_ns);
    return core->actions;
}

bool broker_core_idle(const struct broker_core *core)
{
    return core->n_calls == core->n_locals;
}

size_t broker_core_callers(const struct broker_core *core)
{
    return core->n_sessions[BROKER_FRONT];
}

/* ---- life ------------------------------------------------------------------------------------ */

int broker_core_create(const struct broker_core_options *options, int64_t now_ns,
                       struct broker_core **out)
{
    struct broker_core *core = calloc(1, sizeof(*core));

    if (!core)
        return -ENOMEM;
    core->options = *options;
    core->epoch = (uint32_t)(options->seed & 0xFFFF) + 1;
    core->next_id = (uint64_t)core->epoch << 40; /* a log's ids tell brokers and runs apart */
    core->born_ns = core->now_ns = now_ns;
    core->settled_ns = options->settle_ms > 0 ? now_ns + options->settle_ms * NS_PER_MS : 0;
    core->warned_ns = core->levels_ns = core->pushed_ns = now_ns - LEVELS_NS;
    table_init(&core->by_peer, options->seed);
    table_init(&core->by_caller, options->seed);
    table_init(&core->by_id, options->seed);
    registry_init(&core->registry, options->queue_limit, options->queue_bytes, options->seed);
    registry_weights(&core->registry, options->weights, options->n_weights);
    LIST_INIT(&core->sessions);
    LIST_INIT(&core->locals);
    *out = core;
    return 0;
}

void broker_core_destroy(struct broker_core **core)
{
    struct broker_core *self = *core;
    struct broker_event stop = {.kind = BROKER_STOP};

    if (!self)
        return;
    *core = NULL;
    for (struct broker_message *action = broker_core_step(self, &stop, self->now_ns), *next; action;
         action = next) {
        next = action->next;
        broker_core_recycle(self, action);
    }
    registry_fini(&self->registry);
    table_fini(&self->by_peer);
    table_fini(&self->by_caller);
    table_fini(&self->by_id);
    mesh_timers_fini(&self->beats);
    mesh_timers_fini(&self->ages);
    mesh_timers_fini(&self->deadlines);
    mesh_timers_fini(&self->healings);
    while (self->blanks) {
        struct broker_message *message = self->blanks;

        self->blanks = message->next;
        free(message);
    }
    free(self);
}
