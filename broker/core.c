#include "broker/core.h"

#include "base/log.h"
#include "broker/state.h"
#include "broker/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000
#define BLANKS_MAX 1024
#define HELLO_MAX 4096 /* bytes of its body */
#define REGISTER_MAX ((size_t)1 << 20)
#define LEVELS_NS (100 * (int64_t)NS_PER_MS)
#define WARNING_NS (100 * (int64_t)NS_PER_MS) /* between two: peers must not fill the log */
#define CAPACITY_PAUSED 0

/* ---- nodes ----------------------------------------------------------------------------------- */

struct broker_message *broker_core_blank(struct broker_core *core)
{
    struct broker_message *message = core->blanks;

    if (!message)
        return calloc(1, sizeof(*message));
    core->blanks = message->next;
    core->n_blanks--;
    message->next = NULL;
    message->filled = false;
    return message;
}

void broker_core_recycle(struct broker_core *core, struct broker_message *message)
{
    if (!message)
        return;
    if (message->filled)
        mesh_message_close(&message->message);
    if (core->n_blanks == BLANKS_MAX) {
        free(message);
        return;
    }
    message->next = core->blanks;
    core->blanks = message;
    core->n_blanks++;
}

static void act(struct broker_core *core, struct broker_message *message, enum broker_action action,
                enum broker_side side, uint32_t peer)
{
    message->action = action;
    message->side = side;
    message->message.peer = peer;
    message->next = NULL;
    *core->last_action = message;
    core->last_action = &message->next;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void send_to(struct broker_core *core, enum broker_action action, enum broker_side side,
                    uint32_t peer, const struct mesh_header *header, const mesh_meta *meta,
                    const ProtobufCMessage *body, bool compress)
{
    struct broker_message *message = broker_core_blank(core);

    if (!message || mesh_message_build(header, meta, body, compress, &message->message) < 0) {
        log_error("cannot send %s: out of memory", mesh_kind_name(header->kind));
        broker_core_recycle(core, message);
        return;
    }
    message->filled = true;
    act(core, message, action, side, peer);
}

void core_send(struct broker_core *core, struct session *session, const struct mesh_header *header,
               const mesh_meta *meta, const ProtobufCMessage *body, bool compress)
{
    send_to(core, BROKER_SEND, session->side, session->peer, header, meta, body, compress);
}

void core_pass(struct broker_core *core, struct broker_message *message, struct session *to,
               const struct mesh_header *header)
{
    mesh_message_set_header(&message->message, header);
    act(core, message, BROKER_SEND, to->side, to->peer);
}

void core_send_kind(struct broker_core *core, struct session *session, uint8_t kind,
                    uint64_t call_id)
{
    struct mesh_header header = {.kind = kind, .call_id = call_id};

    core_send(core, session, &header, NULL, NULL, false);
}

struct verdict verdict_make(enum status_code code, bool unprocessed, const char *fmt, ...)
{
    struct verdict verdict = {.code = code, .unprocessed = unprocessed};
    struct status status;
    va_list args;

    va_start(args, fmt);
    status_vset(&status, code, fmt, args);
    va_end(args);
    memcpy(verdict.message, status.message, sizeof(verdict.message));
    return verdict;
}

void core_send_end(struct broker_core *core, struct session *session, uint64_t call_id,
                   const struct verdict *verdict)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_END,
        .flags = verdict->unprocessed ? MESH_UNPROCESSED : 0,
        .call_id = call_id,
        .status = (uint16_t)verdict->code,
    };

    meta.status_message = (char *)verdict->message;
    meta.retry_delay_ms = verdict->retry_delay_ms;
    meta.status_origin = DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_BROKER;
    core_send(core, session, &header, &meta, NULL, false);
}

static void send_error(struct broker_core *core, enum broker_action action, enum broker_side side,
                       uint32_t peer, enum status_code code, const char *why)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_ERROR, .status = (uint16_t)code};

    meta.status_message = (char *)why;
    meta.status_origin = DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_BROKER;
    send_to(core, action, side, peer, &header, &meta, NULL, false);
}

static bool may_warn(struct broker_core *core)
{
    if (core->now_ns - core->warned_ns < WARNING_NS)
        return false;
    core->warned_ns = core->now_ns;
    return true;
}

/* ---- sessions -------------------------------------------------------------------------------- */

static uint64_t peer_key(enum broker_side side, uint32_t peer)
{
    return (uint64_t)side << 32 | peer;
}

static struct session *find_session(const struct broker_core *core, enum broker_side side,
                                    uint32_t peer)
{
    struct table_node *node = table_find(&core->by_peer, peer_key(side, peer));

    return node ? container_of(node, struct session, by_peer) : NULL;
}

static const char *peer_kind(enum broker_side side)
{
    return side == BROKER_FRONT ? "caller" : "worker";
}

static void lose_worker(struct broker_core *core, struct session *session, const char *why)
{
    struct worker *worker = session->worker;

    if (worker->draining && worker->running == 0) {
        log_info("worker '%s' (%llu) has left", session->name, (unsigned long long)worker->id);
    } else {
        stats_worker_lost();
        log_warn("worker '%s' (%llu) is gone with %u calls: %s", session->name,
                 (unsigned long long)worker->id, worker->running, why);
    }
    registry_drain(&core->registry, worker);
    router_worker_lost(core, worker, why, core->now_ns);
    registry_remove(&core->registry, &session->worker);
}

/* The session is over and with it all its calls. */
static void session_end(struct broker_core *core, struct session *session, const char *why)
{
    log_debug("%s '%s' is gone: %s", peer_kind(session->side), session->name, why);
    if (session->worker)
        lose_worker(core, session, why);
    router_caller_lost(core, session, core->now_ns);
    mesh_timer_cancel(&core->beats, &session->timer);
    table_remove(&core->by_peer, &session->by_peer);
    LIST_REMOVE(session, link);
    core->n_sessions[session->side]--;
    core->levels_stale = true;
    free(session);
}

void core_session_error(struct broker_core *core, struct session *session, enum status_code code,
                        const char *why)
{
    stats_protocol_error();
    if (may_warn(core))
        log_warn("%s '%s' broke the protocol: %s", peer_kind(session->side), session->name, why);
    send_error(core, BROKER_SEND, session->side, session->peer, code, why);
    session_end(core, session, why);
}

static void forget_peer(struct broker_core *core, enum broker_side side, uint32_t peer)
{
    struct broker_message *message = broker_core_blank(core);

    if (message)
        act(core, message, BROKER_FORGET, side, peer);
}

static void on_lost(struct broker_core *core, enum broker_side side, uint32_t peer, const char *why)
{
    struct session *session = find_session(core, side, peer);

    if (session)
        session_end(core, session, why);
    forget_peer(core, side, peer);
}

static struct session *session_make(struct broker_core *core, enum broker_side side, uint32_t peer,
                                    const Dragoman__Mesh__V1__Hello *hello)
{
    struct session *session = calloc(1, sizeof(*session));
    uint32_t beat_ms = mesh_heartbeat_agree(core->options.heartbeat_ms, hello->heartbeat_ms);

    if (!session)
        return NULL;
    mesh_heartbeat_init(&session->beat, beat_ms, core->now_ns);
    if (mesh_timer_set(&core->beats, &session->timer, core->now_ns + session->beat.interval_ns) <
        0) {
        free(session);
        return NULL;
    }
    if (table_add(&core->by_peer, &session->by_peer, peer_key(side, peer)) < 0) {
        mesh_timer_cancel(&core->beats, &session->timer);
        free(session);
        return NULL;
    }
    session->side = side;
    session->peer = peer;
    session->serial = ++core->next_serial;
    session->max_message_bytes = core->options.max_message_bytes;
    if (hello->max_message_bytes > 0 && hello->max_message_bytes < session->max_message_bytes)
        session->max_message_bytes = (size_t)hello->max_message_bytes;
    snprintf(session->name, sizeof(session->name), "%s", hello->name);
    snprintf(session->build, sizeof(session->build), "%s", hello->build);
    LIST_INIT(&session->calls);
    LIST_INSERT_HEAD(&core->sessions, session, link);
    core->n_sessions[side]++;
    core->levels_stale = true;
    return session;
}

static void welcome(struct broker_core *core, struct session *session)
{
    Dragoman__Mesh__V1__Welcome body = DRAGOMAN__MESH__V1__WELCOME__INIT;
    struct mesh_header header = {.kind = MESH_WELCOME};

    body.version = MESH_VERSION;
    body.epoch = core->epoch;
    body.heartbeat_ms = (uint32_t)(session->beat.interval_ns / NS_PER_MS);
    body.max_message_bytes = core->options.max_message_bytes;
    core_send(core, session, &header, NULL, &body.base, false);
    if (core->draining)
        core_send_kind(core, session, MESH_GOAWAY, 0);
}

static void on_hello(struct broker_core *core, const struct broker_event *event)
{
    struct session *session = find_session(core, event->side, event->peer);
    ProtobufCMessage *body = NULL;
    const Dragoman__Mesh__V1__Hello *hello = NULL;

    if (session)
        session_end(core, session, "it began another session");
    if (mesh_frame_unpack(event->frame, &dragoman__mesh__v1__hello__descriptor, HELLO_MAX, &body) <
        0) {
        stats_protocol_error();
        send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_INVALID_ARGUMENT,
                   "HELLO does not parse");
        return;
    }
    hello = (const Dragoman__Mesh__V1__Hello *)body;
    if (hello->version_min > MESH_VERSION || hello->version_max < MESH_VERSION) {
        send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_UNIMPLEMENTED,
                   "this broker speaks version 1 of the protocol only");
    } else {
        session = session_make(core, event->side, event->peer, hello);
        if (session)
            welcome(core, session);
        else
            send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_RESOURCE_EXHAUSTED,
                       "the broker is out of memory");
    }
    protobuf_c_message_free_unpacked(body, NULL);
}

/* ---- workers --------------------------------------------------------------------------------- */

static void on_register(struct broker_core *core, struct session *session, struct mesh_frame *frame)
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
    if (registry_add(&core->registry, session, (mesh_register *)body, &session->worker, &why) < 0) {
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

static void on_capacity(struct broker_core *core, struct session *session, uint32_t capacity)
{
    if (capacity > REGISTRY_CAPACITY_MAX) {
        core_session_error(core, session, STATUS_INVALID_ARGUMENT, "capacity must be 0 to 65536");
        return;
    }
    session->worker->capacity = capacity;
    core->registry.version++;
    core->levels_stale = true;
    if (capacity == CAPACITY_PAUSED)
        router_orphans(core, session->worker, core->now_ns);
    router_fill(core, session->worker, core->now_ns);
}

static void on_drain(struct broker_core *core, struct session *session)
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

/* ---- messages -------------------------------------------------------------------------------- */

static void on_stranger(struct broker_core *core, const struct broker_event *event)
{
    uint8_t kind = event->frame->header.kind;

    stats_dropped("no_session");
    if (kind != MESH_PONG && kind != MESH_BYE && kind != MESH_ERROR)
        send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_FAILED_PRECONDITION,
                   "say HELLO first");
}

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
           (kind >= MESH_REGISTER && kind <= MESH_DRAINED) ||
           (kind >= MESH_OPEN && kind <= MESH_END);
}

/* What both sides may send. @return false: not one of these */
static bool on_common(struct broker_core *core, struct session *session,
                      const struct mesh_header *header)
{
    switch (header->kind) {
    case MESH_PING:
        core_send_kind(core, session, MESH_PONG, header->call_id);
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
        on_register(core, session, frame);
    } else if (kind == MESH_CAPACITY && session->worker) {
        on_capacity(core, session, frame->header.credit_messages);
    } else if (kind == MESH_DRAIN && session->worker) {
        on_drain(core, session);
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
        on_hello(core, event);
        return false;
    }
    session = find_session(core, event->side, event->peer);
    if (!session) {
        on_stranger(core, event);
        return false;
    }
    mesh_heartbeat_heard(&session->beat, core->now_ns);
    if (on_common(core, session, &event->frame->header))
        return false;
    return event->side == BROKER_FRONT ? on_front(core, session, event)
                                       : on_back(core, session, event);
}

static void on_rubbish(struct broker_core *core, const struct broker_event *event)
{
    struct session *session = find_session(core, event->side, event->peer);
    bool version = event->error == -EPROTONOSUPPORT;
    enum status_code code = version ? STATUS_UNIMPLEMENTED : STATUS_INVALID_ARGUMENT;
    const char *why = version ? "this broker speaks version 1 of the protocol only"
                              : "what came is no message of this protocol";

    stats_dropped("rubbish");
    if (session)
        core_session_error(core, session, code, why);
    else
        send_error(core, BROKER_ANSWER, event->side, event->peer, code, why);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void check_beats(struct broker_core *core)
{
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->beats, core->now_ns))) {
        struct session *session = container_of(timer, struct session, timer);

        if (mesh_heartbeat_alive(&session->beat, core->now_ns)) {
            mesh_timer_set(&core->beats, timer, core->now_ns + session->beat.interval_ns);
            continue;
        }
        forget_peer(core, session->side, session->peer);
        session_end(core, session, "no sign of life for three heartbeats");
    }
}

static void set_levels(struct broker_core *core)
{
    core->levels_stale = false;
    core->levels_ns = core->now_ns;
    stats_sessions(core->n_sessions[BROKER_FRONT], core->n_sessions[BROKER_BACK]);
    for (struct service *service = core->registry.first; service; service = service->next) {
        if (!service->metrics && service->known)
            service->metrics = stats_service(service->name);
        stats_levels(service->metrics, service->queue.count, service->queue.bytes,
                     service->n_running, service->n_workers, registry_capacity(service, NULL));
    }
}

static void on_tick(struct broker_core *core)
{
    router_deadlines(core, core->now_ns);
    check_beats(core);
    if (core->levels_stale && core->now_ns - core->levels_ns >= LEVELS_NS)
        set_levels(core);
}

int64_t broker_core_next_ns(const struct broker_core *core)
{
    int64_t next = mesh_timers_next_ns(&core->beats);
    int64_t deadline = mesh_timers_next_ns(&core->deadlines);
    int64_t push = local_next_ns(core);

    if (deadline < next)
        next = deadline;
    if (push < next)
        next = push;
    if (core->levels_stale && core->levels_ns + LEVELS_NS < next)
        next = core->levels_ns + LEVELS_NS;
    return next;
}

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

static void on_stop(struct broker_core *core)
{
    struct session *session = NULL;

    core->draining = true;
    LIST_FOREACH (session, &core->sessions, link)
        while (!LIST_EMPTY(&session->calls)) {
            struct verdict verdict =
                verdict_make(STATUS_UNAVAILABLE, false, "the broker is shutting down");

            router_call_end(core, LIST_FIRST(&session->calls), &verdict, core->now_ns);
        }
    while ((session = LIST_FIRST(&core->sessions))) {
        core_send_kind(core, session, MESH_BYE, 0);
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
        on_rubbish(core, event);
        break;
    case BROKER_LOST:
        on_lost(core, event->side, event->peer, event->why);
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
    core->warned_ns = core->levels_ns = core->pushed_ns = now_ns - LEVELS_NS;
    table_init(&core->by_peer, options->seed);
    table_init(&core->by_caller, options->seed);
    table_init(&core->by_id, options->seed);
    registry_init(&core->registry, options->queue_limit, options->queue_bytes, options->seed);
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
    mesh_timers_fini(&self->deadlines);
    while (self->blanks) {
        struct broker_message *message = self->blanks;

        self->blanks = message->next;
        free(message);
    }
    free(self);
}
