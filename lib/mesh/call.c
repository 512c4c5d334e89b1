#include "mesh/call.h"

#include "base/clock.h"
#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define TAG_METHOD 0x0a      /* field 1, a string */
#define TAG_TRACEPARENT 0x42 /* field 8, bytes */

/* ---- making one ------------------------------------------------------------------------------ */

void mesh_call_hold(struct mesh_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

void mesh_call_release(struct mesh_call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) != 1)
        return;
    mesh_message_close(&call->open);
    if (call->has_response)
        mesh_message_close(&call->response);
    mesh_flow_fini(&call->flow);
    mesh_metadata_destroy(&call->metadata);
    mesh_metadata_destroy(&call->initial);
    mesh_metadata_destroy(&call->trailers);
    mesh_metadata_destroy(&call->seen.added);
    pthread_cond_destroy(&call->changed);
    pthread_mutex_destroy(&call->lock);
    if (call->cancel_fd >= 0)
        close(call->cancel_fd);
    free(call->details.data);
    free(call->tenant);
    free(call->watched);
    free(call->peer_name);
    free(call);
}

struct mesh_call *mesh_call_create(struct mesh_server *server, const struct server_method *method,
                                   struct mesh_message *open, const struct mesh_frame *frame,
                                   int64_t now_ns)
{
    const struct mesh_header *header = &frame->header;
    size_t n_states = mesh_server_interceptors(server)->n;
    struct mesh_call *call = calloc(1, sizeof(*call) + n_states * sizeof(call->states[0]));
    pthread_condattr_t clock;

    if (!call)
        return NULL;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->changed, &clock);
    pthread_condattr_destroy(&clock);
    atomic_init(&call->refs, 1);
    mesh_flow_init(&call->flow);
    mesh_credit_raise(&call->flow.out, header->credit_messages, header->credit_bytes);
    call->flow.seq_in = header->flags & MESH_MESSAGE ? 1 : 0;
    call->flow.ended_in = (header->flags & MESH_END_SEND) != 0;
    call->open_read = !(header->flags & MESH_MESSAGE);
    call->cancel_fd = -1;
    call->server = server;
    call->method = method;
    call->id = header->call_id;
    call->arrived_ns = now_ns;
    call->deadline_ns = mesh_deadline_after(now_ns, header->timeout_ns);
    call->compress = (header->flags & MESH_COMPRESS) != 0;
    mesh_message_move(&call->open, open);
    return call;
}

void mesh_call_set_peer(struct mesh_call *call, const char *name)
{
    call->peer_name = name ? strdup(name) : NULL;
}

/* ---- posting --------------------------------------------------------------------------------- */

void mesh_call_post(struct mesh_call *call, struct call_post *note, enum call_post_kind kind)
{
    note->post.kind = kind;
    note->call = call;
    mesh_call_hold(call);
    mesh_mailbox_put(mesh_server_mailbox(call->server), &note->post);
}

int mesh_call_post_frame(struct mesh_call *call, const struct mesh_header *header,
                         const mesh_meta *meta, const ProtobufCMessage *body)
{
    struct call_send *note = malloc(sizeof(*note));
    int err = -ENOMEM;

    if (note)
        err = mesh_message_build(header, meta, body, call->compress, &note->message);
    if (err == 0)
        mesh_call_post(call, &note->post, POST_FRAME);
    else
        free(note);
    return err;
}

int mesh_call_send_initial(struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_INITIAL, .call_id = call->id};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    if (call->initial_sent)
        return 0;
    call->initial_sent = true;
    if (!call->initial)
        return 0;
    mesh_metadata_lend(call->initial, &meta);
    return mesh_call_post_frame(call, &header, &meta, NULL);
}

static void send_accept(struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_ACCEPT, .call_id = call->id};

    pthread_mutex_lock(&call->lock);
    header.credit_messages = call->flow.in.limit_messages;
    header.credit_bytes = call->flow.in.limit_bytes;
    pthread_mutex_unlock(&call->lock);
    mesh_call_post_frame(call, &header, NULL, NULL);
}

/* ---- the end --------------------------------------------------------------------------------- */

bool mesh_call_cancel(struct mesh_call *call, enum status_code code, const char *why)
{
    bool over;

    pthread_mutex_lock(&call->lock);
    over = !call->started && !call->ended;
    if (!call->cancelled) {
        if (!call->failed)
            status_set(&call->status, code, "%s", why);
        __atomic_store_n(&call->cancelled, 1, __ATOMIC_RELEASE);
        if (call->cancel_fd >= 0)
            eventfd_write(call->cancel_fd, 1);
        pthread_cond_broadcast(&call->changed);
    }
    if (over)
        call->ended = true;
    pthread_mutex_unlock(&call->lock);
    return over;
}

static void fill_end_meta(const struct status *status, Dragoman__Mesh__V1__StatusOrigin origin,
                          mesh_meta *meta)
{
    meta->status_message = (char *)status->message;
    meta->retry_delay_ms = status->retry_delay_ms;
    meta->status_origin = status->code == STATUS_OK
                              ? DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_UNSPECIFIED
                              : origin;
}

int mesh_call_build_end(uint64_t id, const struct status *status, bool unprocessed,
                        struct mesh_message *out)
{
    struct mesh_header header = {
        .kind = MESH_END,
        .call_id = id,
        .flags = unprocessed ? MESH_UNPROCESSED : 0,
        .status = (uint16_t)status->code,
    };
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    fill_end_meta(status, DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_WORKER, &meta);
    return mesh_message_build(&header, &meta, NULL, false, out);
}

/* How it ended: what the handler said first, else cancellation, else whether it answered. */
static void verdict(struct mesh_call *call, struct status *status)
{
    pthread_mutex_lock(&call->lock);
    if (call->failed || call->cancelled)
        *status = call->status;
    else if (call->deadline_ns != MESH_NEVER && clock_now_ns() >= call->deadline_ns)
        status_set(status, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    else if (mesh_call_has_one_answer(call) && !call->has_response)
        status_set(status, STATUS_INTERNAL, "the handler gave no response");
    else
        mesh_status_read(STATUS_OK, NULL, status);
    pthread_mutex_unlock(&call->lock);
    if (call->retry_delay_ms > 0 &&
        (status->code == STATUS_RESOURCE_EXHAUSTED || status->code == STATUS_UNAVAILABLE))
        status->retry_delay_ms = call->retry_delay_ms;
}

/* The response, which is an END already; a Meta is put in only when it says something. */
static int end_with_response(struct mesh_call *call, float load, struct mesh_message *out)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    call->has_response = false;
    mesh_message_move(out, &call->response);
    if (!call->trailers && load < 0)
        return 0;
    mesh_metadata_lend(call->trailers, &meta);
    meta.load = load < 0 ? 0 : load;
    return mesh_message_set_meta(out, &meta);
}

static int end_without_response(struct mesh_call *call, const struct status *status, float load,
                                struct mesh_message *out)
{
    struct mesh_header header = {
        .kind = MESH_END,
        .call_id = call->id,
        .seq = call->flow.seq_out,
        .status = (uint16_t)status->code,
    };
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    mesh_metadata_lend(call->trailers, &meta);
    meta.load = load < 0 ? 0 : load;
    if (status->code != STATUS_OK)
        meta.status_details = call->details;
    fill_end_meta(status,
                  call->failed ? DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_HANDLER
                               : DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_WORKER,
                  &meta);
    return mesh_message_build(&header, &meta, NULL, false, out);
}

/* The last that its interceptors hear. */
static void intercept_end(struct mesh_call *call, const struct status *status)
{
    pthread_mutex_lock(&call->lock);
    call->ended = true;
    call->intercepted = false;
    mesh_intercept_end(mesh_server_interceptors(call->server), call->states, &call->seen,
                       call->n_intercepting, status, clock_now_ns());
    pthread_mutex_unlock(&call->lock);
}

static void finish(struct mesh_call *call)
{
    float load = mesh_server_load(call->server, true);
    struct mesh_message *end = &call->end_post.message;
    struct status status;
    int err;

    verdict(call, &status);
    if (status.code == STATUS_OK || call->failed)
        mesh_call_send_initial(call);
    if (status.code == STATUS_OK && call->has_response)
        err = end_with_response(call, load, end);
    else
        err = end_without_response(call, &status, load, end);
    if (err < 0) {
        status_set(&status, STATUS_RESOURCE_EXHAUSTED, "no room for the end of the call");
        err = mesh_call_build_end(call->id, &status, false, end);
    }
    if (err < 0)
        zmq_msg_init(&end->first); /* the server's thread cuts the session */
    intercept_end(call, &status);
    mesh_call_post(call, &call->end_post.post, POST_END);
}

/* ---- what came with OPEN ----------------------------------------------------------------------- */

/* The Meta of almost every call: path and traceparent, as build_open() of a channel packs them. */
static const uint8_t *plain_traceparent(const struct mesh_call *call,
                                        const struct mesh_frame *frame)
{
    const struct mesh_method *method = call->method->method;
    const uint8_t *meta = frame->meta;
    size_t size = method->path_size;

    if (size > 127 || frame->header.meta_bytes != 2 + size + 2 + MESH_TRACEPARENT_BYTES ||
        meta[0] != TAG_METHOD || meta[1] != size || memcmp(meta + 2, method->path, size) != 0 ||
        meta[2 + size] != TAG_TRACEPARENT || meta[3 + size] != MESH_TRACEPARENT_BYTES)
        return NULL;
    return meta + 2 + size + 2;
}

static int read_full_meta(struct mesh_call *call, const struct mesh_frame *frame)
{
    mesh_meta *meta = NULL;
    int err = mesh_meta_unpack(frame, &meta);

    if (err < 0)
        return err;
    if (strcmp(meta->method, call->method->method->path) != 0)
        err = -EBADMSG;
    else
        err = mesh_metadata_take(meta, &call->metadata);
    if (err == 0 && meta->traceparent.len == MESH_TRACEPARENT_BYTES)
        memcpy(call->seen.traceparent, meta->traceparent.data, MESH_TRACEPARENT_BYTES);
    if (err == 0 && meta->tenant[0] != '\0')
        call->tenant = strdup(meta->tenant);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

static int read_meta(struct mesh_call *call)
{
    const uint8_t *traceparent;
    struct mesh_frame frame;

    mesh_message_frame(&call->open, &frame);
    call->seen.attempt = frame.header.attempt;
    traceparent = plain_traceparent(call, &frame);
    if (!traceparent)
        return read_full_meta(call, &frame);
    memcpy(call->seen.traceparent, traceparent, MESH_TRACEPARENT_BYTES);
    return 0;
}

/* ---- interceptors ---------------------------------------------------------------------------- */

void mesh_call_intercept_message(struct mesh_call *call, enum mesh_direction direction,
                                 size_t bytes)
{
    if (call->intercepted)
        mesh_intercept_message(mesh_server_interceptors(call->server), call->states, &call->seen,
                               direction, bytes);
}

/* The message on OPEN has come before they knew of the call. */
static void tell_first_message(struct mesh_call *call)
{
    struct mesh_header header;

    mesh_header_read(zmq_msg_data(&call->open.first), &header);
    pthread_mutex_lock(&call->lock);
    call->intercepted = true;
    if (header.flags & MESH_MESSAGE)
        mesh_call_intercept_message(call, MESH_INBOUND, header.body_bytes);
    pthread_mutex_unlock(&call->lock);
}

/* @return whether its handler may run */
static bool intercept_start(struct mesh_call *call)
{
    struct status refusal = {.code = STATUS_UNKNOWN};

    call->seen.method = call->method->method;
    call->seen.begun_ns = call->arrived_ns;
    call->seen.deadline_ns = call->deadline_ns;
    call->seen.metadata = call->metadata;
    call->seen.tenant = call->tenant;
    call->seen.peer = call->peer_name;
    if (!mesh_intercept_start(mesh_server_interceptors(call->server), call->states, &call->seen,
                              &call->n_intercepting, &refusal)) {
        mesh_call_fail(call, refusal.code, "%s", refusal.message);
        if (refusal.retry_delay_ms > 0)
            mesh_call_set_retry_delay(call, refusal.retry_delay_ms);
        return false;
    }
    tell_first_message(call);
    trace_set_current(mesh_call_trace(call)); /* a span of this call's own, maybe */
    return true;
}

/* ---- running --------------------------------------------------------------------------------- */

static void invoke(struct mesh_call *call, bool has_more)
{
    const struct server_method *method = call->method;
    bool streams = method->kind == MESH_CLIENT_STREAMING || method->kind == MESH_BIDI_STREAMING;
    struct mesh_lent request = {NULL, NULL};
    int err = 0;

    if (has_more)
        send_accept(call);
    if (!streams)
        err = mesh_call_request(call, &request);
    if (err == -ENODATA)
        mesh_call_fail(call, STATUS_INTERNAL, "the call has no request");
    if (err == 0)
        method->service->invoke(method->service, method->index, request.message, mesh_call_answer,
                                call);
    mesh_lent_free(&request);
}

void mesh_call_run(struct mesh_job *job)
{
    struct mesh_call *call = (struct mesh_call *)job;
    bool dead, has_more;

    pthread_mutex_lock(&call->lock);
    dead = call->ended;
    call->started = true;
    has_more = !call->flow.ended_in;
    pthread_mutex_unlock(&call->lock);
    if (!dead) {
        if (read_meta(call) < 0)
            mesh_call_fail(call, STATUS_INTERNAL, "malformed metadata");
        trace_set_current(mesh_call_trace(call));
        if (intercept_start(call) && !call->failed)
            invoke(call, has_more);
        finish(call);
        trace_set_current(NULL);
    }
    mesh_call_release(call);
}
