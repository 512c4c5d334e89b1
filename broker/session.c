#include "base/log.h"
#include "broker/state.h"
#include "broker/stats.h"

#include <stdio.h>
#include <stdlib.h>

#define NS_PER_MS 1000000
#define HELLO_MAX 4096 /* bytes of its body */

static uint64_t peer_key(enum broker_side side, uint64_t peer)
{
    return (uint64_t)side << 63 | peer;
}

struct session *session_find(const struct broker_core *core, enum broker_side side, uint64_t peer)
{
    struct table_node *node = table_find(&core->by_peer, peer_key(side, peer));

    return node ? container_of(node, struct session, by_peer) : NULL;
}

static const char *peer_kind(enum broker_side side)
{
    return side == BROKER_FRONT ? "caller" : "worker";
}

/* ---- endings --------------------------------------------------------------------------------- */

/* The session is over and with it all its calls. */
void session_end(struct broker_core *core, struct session *session, const char *why)
{
    log_debug("%s '%s' is gone: %s", peer_kind(session->side), session->name, why);
    if (session->worker)
        worker_lost(core, session, why);
    router_caller_lost(core, session, core->now_ns);
    mesh_timer_cancel(&core->beats, &session->timer);
    mesh_timer_cancel(&core->ages, &session->age);
    table_remove(&core->by_peer, &session->by_peer);
    LIST_REMOVE(session, link);
    core->n_sessions[session->side]--;
    core->levels_stale = true;
    free(session->identity);
    free(session);
}

void core_session_error(struct broker_core *core, struct session *session, enum status_code code,
                        const char *why)
{
    stats_protocol_error();
    if (core_may_warn(core))
        log_warn("%s '%s' broke the protocol: %s", peer_kind(session->side), session->name, why);
    core_send_error(core, BROKER_SEND, session->side, session->peer, code, why);
    session_end(core, session, why);
}

static void forget_peer(struct broker_core *core, enum broker_side side, uint64_t peer)
{
    struct broker_message *message = broker_core_blank(core);

    if (message)
        core_act(core, message, BROKER_FORGET, side, peer);
}

void session_lost(struct broker_core *core, enum broker_side side, uint64_t peer, const char *why)
{
    struct session *session = session_find(core, side, peer);

    if (session)
        session_end(core, session, why);
    forget_peer(core, side, peer);
}

/* ---- ages ------------------------------------------------------------------------------------ */

/* A tenth more or less, so that callers which came together do not leave together. Without memory it stays. */
static void set_age(struct broker_core *core, struct session *session)
{
    int64_t age = core->options.max_session_age_ms * NS_PER_MS;
    int64_t part;

    if (session->side != BROKER_FRONT || age == 0)
        return;
    part = (int64_t)(table_mix(core->options.seed ^ session->serial) % 2001) - 1000;
    age += age / 10 * part / 1000;
    mesh_timer_set(&core->ages, &session->age, core->now_ns + age);
}

void session_ages(struct broker_core *core)
{
    const struct mesh_header header = {.kind = MESH_GOAWAY, .flags = MESH_RETURN};
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->ages, core->now_ns))) {
        struct session *session = container_of(timer, struct session, age);

        if (core->draining) /* it has been asked to go */
            continue;
        log_debug("caller '%s' has stayed for long: it is asked to come anew", session->name);
        core_send(core, session, &header, NULL, NULL, false);
    }
}

/* ---- beginnings ------------------------------------------------------------------------------ */

static struct session *session_make(struct broker_core *core, const struct broker_event *event,
                                    const Dragoman__Mesh__V1__Hello *hello)
{
    enum broker_side side = event->side;
    uint64_t peer = event->peer;
    struct session *session = calloc(1, sizeof(*session));
    uint32_t beat_ms = mesh_heartbeat_agree(core->options.heartbeat_ms, hello->heartbeat_ms);

    if (!session)
        return NULL;
    if (identity_take(session, event->who) < 0) {
        free(session);
        return NULL;
    }
    mesh_heartbeat_init(&session->beat, beat_ms, core->now_ns);
    if (mesh_timer_set(&core->beats, &session->timer, core->now_ns + session->beat.interval_ns) <
        0) {
        free(session->identity);
        free(session);
        return NULL;
    }
    if (table_add(&core->by_peer, &session->by_peer, peer_key(side, peer)) < 0) {
        mesh_timer_cancel(&core->beats, &session->timer);
        free(session->identity);
        free(session);
        return NULL;
    }
    session->side = side;
    session->peer = peer;
    session->serial = ++core->next_serial;
    set_age(core, session);
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

static void welcome(struct broker_core *core, struct session *session, uint64_t features)
{
    Dragoman__Mesh__V1__Welcome body = DRAGOMAN__MESH__V1__WELCOME__INIT;
    struct mesh_header header = {.kind = MESH_WELCOME};

    body.version = MESH_VERSION;
    body.epoch = core->epoch;
    body.heartbeat_ms = (uint32_t)(session->beat.interval_ns / NS_PER_MS);
    body.max_message_bytes = core->options.max_message_bytes;
    body.features = MESH_FEATURES;
    core_send(core, session, &header, NULL, &body.base, false);
    session->bundles = (features & MESH_FEATURE_BUNDLES) != 0;
    if (core->draining)
        core_send_kind(core, session, MESH_GOAWAY, 0);
}

void session_hello(struct broker_core *core, const struct broker_event *event)
{
    struct session *session = session_find(core, event->side, event->peer);
    ProtobufCMessage *body = NULL;
    const Dragoman__Mesh__V1__Hello *hello = NULL;

    if (session)
        session_end(core, session, "it began another session");
    if (event->identity && !event->who) {
        identity_refuse(core, event->side, event->peer, "your certificate was withdrawn");
        return;
    }
    if (mesh_frame_unpack(event->frame, &dragoman__mesh__v1__hello__descriptor, HELLO_MAX, &body) <
        0) {
        stats_protocol_error();
        core_send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_INVALID_ARGUMENT,
                        "HELLO does not parse");
        return;
    }
    hello = (const Dragoman__Mesh__V1__Hello *)body;
    if (hello->version_min > MESH_VERSION || hello->version_max < MESH_VERSION) {
        core_send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_UNIMPLEMENTED,
                        "this broker speaks version 1 of the protocol only");
    } else {
        session = session_make(core, event, hello);
        if (session)
            welcome(core, session, hello->features);
        else
            core_send_error(core, BROKER_ANSWER, event->side, event->peer,
                            STATUS_RESOURCE_EXHAUSTED, "the broker is out of memory");
    }
    protobuf_c_message_free_unpacked(body, NULL);
}

/* ---- peers that make no sense ---------------------------------------------------------------- */

void session_stranger(struct broker_core *core, const struct broker_event *event)
{
    uint8_t kind = event->frame->header.kind;

    stats_dropped("no_session");
    if (kind != MESH_PONG && kind != MESH_BYE && kind != MESH_ERROR)
        core_send_error(core, BROKER_ANSWER, event->side, event->peer, STATUS_FAILED_PRECONDITION,
                        "say HELLO first");
}

void session_rubbish(struct broker_core *core, const struct broker_event *event)
{
    struct session *session = session_find(core, event->side, event->peer);
    bool version = event->error == -EPROTONOSUPPORT;
    enum status_code code = version ? STATUS_UNIMPLEMENTED : STATUS_INVALID_ARGUMENT;
    const char *why = version ? "this broker speaks version 1 of the protocol only"
                              : "what came is no message of this protocol";

    stats_dropped("rubbish");
    if (session)
        core_session_error(core, session, code, why);
    else
        core_send_error(core, BROKER_ANSWER, event->side, event->peer, code, why);
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

void session_beats(struct broker_core *core)
{
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->beats, core->now_ns))) {
        struct session *session = container_of(timer, struct session, timer);

        if (mesh_heartbeat_alive(&session->beat, core->now_ns)) {
            mesh_timer_set(&core->beats, timer, mesh_heartbeat_look_ns(&session->beat));
            if (session->worker)
                sick_listen(core, session->worker, core->now_ns);
            continue;
        }
        forget_peer(core, session->side, session->peer);
        session_end(core, session, "no sign of life for three heartbeats");
    }
}
