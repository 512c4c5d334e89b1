#include "base/log.h"
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#define BLANKS_MAX 1024
#define NS_PER_MS 1000000
#define WARNING_NS (100 * (int64_t)NS_PER_MS) /* between two: peers must not fill the log */

/* ---- nodes ----------------------------------------------------------------------------------- */

struct broker_message *broker_core_blank(struct broker_core *core)
{
    struct broker_message *message = core->blanks;

    if (!message)
        return calloc(1, sizeof(*message));
    core->blanks = message->next;
    core->n_blanks--;
    message->next = NULL;
    message->filled = message->bundles = false;
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

void core_act(struct broker_core *core, struct broker_message *message, enum broker_action action,
              enum broker_side side, uint64_t peer)
{
    message->action = action;
    message->side = side;
    message->message.peer = peer;
    message->next = NULL;
    *core->last_action = message;
    core->last_action = &message->next;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* NULL when memory is out. */
static struct broker_message *build(struct broker_core *core, const struct mesh_header *header,
                                    const mesh_meta *meta, const ProtobufCMessage *body,
                                    bool compress)
{
    struct broker_message *message = broker_core_blank(core);

    if (!message || mesh_message_build(header, meta, body, compress, &message->message) < 0) {
        log_error("cannot send %s: out of memory", mesh_kind_name(header->kind));
        broker_core_recycle(core, message);
        return NULL;
    }
    message->filled = true;
    return message;
}

void core_send(struct broker_core *core, struct session *session, const struct mesh_header *header,
               const mesh_meta *meta, const ProtobufCMessage *body, bool compress)
{
    struct broker_message *message = build(core, header, meta, body, compress);

    if (!message)
        return;
    message->bundles = session->bundles;
    core_act(core, message, BROKER_SEND, session->side, session->peer);
}

void core_pass(struct broker_core *core, struct broker_message *message, struct session *to,
               const struct mesh_header *header)
{
    mesh_message_set_header(&message->message, header);
    message->bundles = to->bundles;
    core_act(core, message, BROKER_SEND, to->side, to->peer);
}

void core_send_kind(struct broker_core *core, struct session *session, uint8_t kind,
                    uint64_t call_id)
{
    struct mesh_header header = {.kind = kind, .call_id = call_id};

    core_send(core, session, &header, NULL, NULL, false);
}

void core_send_error(struct broker_core *core, enum broker_action action, enum broker_side side,
                     uint64_t peer, enum status_code code, const char *why)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_ERROR, .status = (uint16_t)code};
    struct broker_message *message;

    meta.status_message = (char *)why;
    meta.status_origin = DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_BROKER;
    message = build(core, &header, &meta, NULL, false);
    if (message)
        core_act(core, message, action, side, peer);
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

bool core_may_warn(struct broker_core *core)
{
    if (core->now_ns - core->warned_ns < WARNING_NS)
        return false;
    core->warned_ns = core->now_ns;
    return true;
}
