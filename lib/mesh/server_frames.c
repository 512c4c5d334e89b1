#include "base/metrics.h"
#include "mesh/server_state.h"

#include <string.h>

#define QUEUE_MAX 1024                 /* calls that wait for a thread, of a server with `bind` */
#define QUEUE_BYTES ((size_t)64 << 20) /* and what they hold together */
#define WATCHES_MAX 256
#define RETRY_DELAY_MS 100

/* ---- OPEN ------------------------------------------------------------------------------------ */

/* Name the method as the caller did, if it did. */
static void status_unimplemented(const struct mesh_frame *frame, struct status *status)
{
    mesh_meta *meta = NULL;

    if (mesh_meta_unpack(frame, &meta) < 0) {
        status_set(status, STATUS_INTERNAL, "malformed metadata");
        return;
    }
    status_set(status, STATUS_UNIMPLEMENTED, "no method '%s' here", meta->method);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

/* What a broker would ask of the selector. */
static enum status_code check_selector(const struct mesh_server *server,
                                       const struct mesh_frame *frame, struct status *status)
{
    mesh_meta *meta = NULL;
    bool match;

    status_set(status, STATUS_OK, "%s", "");
    if (mesh_meta_unpack(frame, &meta) < 0) {
        status_set(status, STATUS_INTERNAL, "malformed metadata");
        return status->code;
    }
    match = mesh_labels_match(meta->selector, meta->n_selector, server->labels, server->n_labels);
    if (!match)
        status_set(status, STATUS_UNAVAILABLE, "no worker of '%s' matches the selector",
                   meta->method);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return status->code;
}

static bool is_full(const struct mesh_server *server, size_t bytes)
{
    if (!server->peers)
        return server->n_listed >= server->options.capacity; /* those of a lost session end soon */
    return server->n_calls >= server->options.capacity + QUEUE_MAX ||
           server->queued_bytes + bytes > QUEUE_BYTES + server->options.max_message_bytes;
}

/* Whether a call may start; if not, how it ends. */
static bool admit(struct mesh_server *server, const struct server_method *method,
                  const struct mesh_frame *frame, size_t bytes, struct status *status)
{
    const struct mesh_header *header = &frame->header;
    bool own = method && (method->own || method->watch);

    if (!method) {
        status_unimplemented(frame, status);
        return false;
    }
    if (header->flags & MESH_MESSAGE && header->body_bytes > server->options.max_message_bytes) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "a request of %u bytes, more than %zu",
                   header->body_bytes, server->options.max_message_bytes);
        return false;
    }
    if (header->timeout_ns < 0) {
        status_set(status, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
        return false;
    }
    if (server->peers && header->flags & MESH_ROUTE && !own &&
        check_selector(server, frame, status) != STATUS_OK)
        return false;
    if (server->peers && server->draining && !own) {
        status_set(status, STATUS_UNAVAILABLE, "the server stops");
        return false;
    }
    if (own ? server->n_watches >= WATCHES_MAX : is_full(server, bytes)) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "too many calls are waiting");
        status->retry_delay_ms = RETRY_DELAY_MS;
        return false;
    }
    return true;
}

/* What the certificate of a caller that is connected to us allows; a broker has seen to that of its callers. */
static bool permitted(const struct mesh_source *source, const struct server_method *method,
                      struct status *status)
{
    const struct mesh_identity *identity = source->peer ? source->peer->identity : NULL;
    const char *service = method ? method->method->path + 1 : "";
    size_t size = strcspn(service, "/");

    if (!identity || !method || method->own || method->watch ||
        mesh_services_match(identity->services, service, size))
        return true;
    status_set(status, STATUS_PERMISSION_DENIED,
               "the certificate '%s' does not allow calls of %.*s", identity->name, (int)size,
               service);
    return false;
}

/* By its certificate; NULL: not known. */
static const char *caller_name(const struct mesh_source *source, const struct mesh_header *open)
{
    if (source->peer)
        return source->peer->identity ? source->peer->identity->name : NULL;
    return mesh_identities_name(&source->identities, open->status);
}

static void start_call(struct mesh_server *server, struct mesh_call *call)
{
    call->open_bytes = mesh_message_bytes(&call->open);
    server->queued_bytes += call->open_bytes;
    server->n_calls++;
    atomic_store_explicit(&server->n_busy, server->n_calls, memory_order_relaxed);
    metric_set(server->running, server->n_calls);
    mesh_call_hold(call); /* the handler's */
    call->job.next = NULL;
    if (call->method->kind == MESH_UNARY_QUICK && !call->open_read) {
        *server->quick_last = &call->job;
        server->quick_last = &call->job.next;
    } else {
        *server->fresh_last = &call->job;
        server->fresh_last = &call->job.next;
    }
}

static void accept_call(struct mesh_server *server, struct mesh_source *source,
                        const struct server_method *method, struct mesh_message *message,
                        const struct mesh_frame *frame)
{
    const char *name = caller_name(source, &frame->header);
    struct mesh_call *call = mesh_call_create(server, method, message, frame, server->now_ns);
    struct mesh_frame moved;

    if (!call)
        return; /* its caller's deadline must do: there is no memory even for an answer */
    call->message_max =
        source->peer ? source->peer->max_message_bytes : source->link->max_message_bytes;
    mesh_call_set_peer(call, name);
    server_call_list(server, call, source);
    if (method->watch) {
        mesh_message_frame(&call->open, &moved);
        server_health_watch(server, call, &moved);
        return;
    }
    start_call(server, call);
    if (call->deadline_ns != MESH_NEVER)
        mesh_timer_set(&server->timers, &call->timer, call->deadline_ns);
}

static void on_open(struct mesh_server *server, struct mesh_source *source,
                    struct mesh_message *message, const struct mesh_frame *frame)
{
    const struct server_method *method = server_method_find(server, frame->header.method_hash);
    struct status status;

    if (frame->header.call_id <= source->last_call) {
        server_reject(server, source, STATUS_INVALID_ARGUMENT, "a call_id that was used before");
        return;
    }
    source->last_call = frame->header.call_id;
    if (!permitted(source, method, &status) ||
        !admit(server, method, frame, mesh_message_bytes(message), &status))
        server_refuse(server, source, frame->header.call_id, &status);
    else if (method->own)
        method->own(server, source, frame);
    else
        accept_call(server, source, method, message, frame);
}

/* ---- other frames ---------------------------------------------------------------------------- */

static void on_credit(struct mesh_server *server, struct mesh_call *call,
                      const struct mesh_header *header)
{
    pthread_mutex_lock(&call->lock);
    if (mesh_credit_raise(&call->flow.out, header->credit_messages, header->credit_bytes))
        pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (server_call_is_watch(call))
        server_health_tell(server, call);
}

static void on_data(struct mesh_server *server, struct mesh_call *call,
                    struct mesh_message *message, const struct mesh_frame *frame)
{
    bool has_message = (frame->header.flags & MESH_MESSAGE) != 0;
    enum status_code code = STATUS_OK;
    const char *why = "";

    pthread_mutex_lock(&call->lock);
    if (!call->cancelled) {
        code =
            mesh_flow_receive(&call->flow, message, frame, server->options.max_message_bytes, &why);
        if (code == STATUS_OK && has_message)
            mesh_call_intercept_message(call, MESH_INBOUND, frame->header.body_bytes);
    }
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (code != STATUS_OK)
        server_call_cancel(server, call, code, why);
}

static void on_cancel(struct mesh_server *server, struct mesh_call *call,
                      const struct mesh_header *header)
{
    if (header->status == STATUS_DEADLINE_EXCEEDED)
        server_call_cancel(server, call, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    else
        server_call_cancel(server, call, STATUS_CANCELLED, "cancelled by the caller");
}

static void on_call_frame(struct mesh_server *server, struct mesh_source *source,
                          struct mesh_message *message, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct mesh_call *call = server_call_find(server, source, header->call_id);

    if (!call) {
        if (header->call_id > source->last_call)
            server_reject(server, source, STATUS_INVALID_ARGUMENT, "a call that was never opened");
        metric_add(server->late_frames, 1);
    } else if (header->kind == MESH_CREDIT) {
        on_credit(server, call, header);
    } else if (header->kind == MESH_CANCEL) {
        on_cancel(server, call, header);
    } else {
        on_data(server, call, message, frame);
    }
}

void server_frame(struct mesh_server *server, struct mesh_source *source,
                  struct mesh_message *message, const struct mesh_frame *frame)
{
    switch (frame->header.kind) {
    case MESH_OPEN:
        on_open(server, source, message, frame);
        break;
    case MESH_DATA:
    case MESH_CREDIT:
    case MESH_CANCEL:
        on_call_frame(server, source, message, frame);
        break;
    case MESH_IDENTITY:
    case MESH_REGISTERED:
    case MESH_DRAINED:
        if (source->link) {
            server_brokers_frame(server, source, frame);
            break;
        }
        __attribute__((fallthrough));
    default:
        if (mesh_kind_name(frame->header.kind)[0] != '?')
            server_reject(server, source, STATUS_INVALID_ARGUMENT, "a kind from the wrong side");
        else if (frame->header.flags & MESH_CRITICAL)
            server_reject(server, source, STATUS_UNIMPLEMENTED, "an unknown kind");
        else
            mesh_ignored_frame();
    }
    mesh_message_close(message);
}
