#include "mesh/call.h"

#include "base/clock.h"
#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    pthread_cond_destroy(&call->changed);
    pthread_mutex_destroy(&call->lock);
    free(call->watched);
    free(call);
}

struct mesh_call *mesh_call_create(struct mesh_server *server, const struct server_method *method,
                                   struct mesh_message *open, const struct mesh_frame *frame,
                                   int64_t now_ns)
{
    const struct mesh_header *header = &frame->header;
    struct mesh_call *call = calloc(1, sizeof(*call));
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
    call->server = server;
    call->method = method;
    call->id = header->call_id;
    call->arrived_ns = now_ns;
    call->deadline_ns = mesh_deadline_after(now_ns, header->timeout_ns);
    call->compress = (header->flags & MESH_COMPRESS) != 0;
    mesh_message_move(&call->open, open);
    return call;
}

/* ---- posting --------------------------------------------------------------------------------- */

static void post(struct mesh_call *call, struct call_post *note, enum call_post_kind kind)
{
    note->post.kind = kind;
    note->call = call;
    mesh_call_hold(call);
    mesh_mailbox_put(mesh_server_mailbox(call->server), &note->post);
}

static int post_frame(struct mesh_call *call, const struct mesh_header *header,
                      const mesh_meta *meta, const ProtobufCMessage *body)
{
    struct call_send *note = malloc(sizeof(*note));
    int err = -ENOMEM;

    if (note)
        err = mesh_message_build(header, meta, body, call->compress, &note->message);
    if (err == 0)
        post(call, &note->post, POST_FRAME);
    else
        free(note);
    return err;
}

/* Before anything else that answers. */
static int send_initial(struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_INITIAL, .call_id = call->id};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    if (call->initial_sent)
        return 0;
    call->initial_sent = true;
    if (!call->initial)
        return 0;
    mesh_metadata_lend(call->initial, &meta);
    return post_frame(call, &header, &meta, NULL);
}

static void send_accept(struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_ACCEPT, .call_id = call->id};

    pthread_mutex_lock(&call->lock);
    header.credit_messages = call->flow.in.limit_messages;
    header.credit_bytes = call->flow.in.limit_bytes;
    pthread_mutex_unlock(&call->lock);
    post_frame(call, &header, NULL, NULL);
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

static bool has_one_answer(const struct mesh_call *call)
{
    enum mesh_kind kind = call->method->kind;

    return kind == MESH_UNARY || kind == MESH_UNARY_QUICK || kind == MESH_CLIENT_STREAMING;
}

/* How it ended: what the handler said first, else cancellation, else whether it answered. */
static void verdict(struct mesh_call *call, struct status *status)
{
    pthread_mutex_lock(&call->lock);
    if (call->failed || call->cancelled)
        *status = call->status;
    else if (call->deadline_ns != MESH_NEVER && clock_now_ns() >= call->deadline_ns)
        status_set(status, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    else if (has_one_answer(call) && !call->has_response)
        status_set(status, STATUS_INTERNAL, "the handler gave no response");
    else
        mesh_status_read(STATUS_OK, NULL, status);
    pthread_mutex_unlock(&call->lock);
    if (call->retry_delay_ms > 0 &&
        (status->code == STATUS_RESOURCE_EXHAUSTED || status->code == STATUS_UNAVAILABLE))
        status->retry_delay_ms = call->retry_delay_ms;
}

/* The response, which is an END already, with trailers put in when there are any. */
static int end_with_response(struct mesh_call *call, struct mesh_message *out)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;

    call->has_response = false;
    mesh_message_move(out, &call->response);
    if (!call->trailers)
        return 0;
    mesh_metadata_lend(call->trailers, &meta);
    return mesh_message_set_meta(out, &meta);
}

static int end_without_response(struct mesh_call *call, const struct status *status,
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
    fill_end_meta(status,
                  call->failed ? DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_HANDLER
                               : DRAGOMAN__MESH__V1__STATUS_ORIGIN__STATUS_ORIGIN_WORKER,
                  &meta);
    return mesh_message_build(&header, &meta, NULL, false, out);
}

static void finish(struct mesh_call *call)
{
    struct status status;
    int err;

    verdict(call, &status);
    if (status.code == STATUS_OK || call->failed)
        send_initial(call);
    if (status.code == STATUS_OK && call->has_response)
        err = end_with_response(call, &call->end_post.message);
    else
        err = end_without_response(call, &status, &call->end_post.message);
    if (err < 0) {
        status_set(&status, STATUS_RESOURCE_EXHAUSTED, "no room for the end of the call");
        err = mesh_call_build_end(call->id, &status, false, &call->end_post.message);
    }
    if (err < 0)
        zmq_msg_init(&call->end_post.message.first); /* the server's thread cuts the session */
    pthread_mutex_lock(&call->lock);
    call->ended = true;
    pthread_mutex_unlock(&call->lock);
    post(call, &call->end_post.post, POST_END);
    mesh_method_ended(call->method->method, status.code, call->arrived_ns, clock_now_ns());
}

/* ---- running --------------------------------------------------------------------------------- */

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
        memcpy(&call->trace, meta->traceparent.data, MESH_TRACEPARENT_BYTES);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

static int read_meta(struct mesh_call *call)
{
    const uint8_t *traceparent;
    struct mesh_frame frame;

    mesh_message_frame(&call->open, &frame);
    traceparent = plain_traceparent(call, &frame);
    if (!traceparent)
        return read_full_meta(call, &frame);
    memcpy(&call->trace, traceparent, MESH_TRACEPARENT_BYTES);
    return 0;
}

/* A handler's answer. It is packed, and has credit, before this returns. */
static void answer(const ProtobufCMessage *message, void *closure_data);

static void invoke(struct mesh_call *call)
{
    const struct server_method *method = call->method;
    bool streams = method->kind == MESH_CLIENT_STREAMING || method->kind == MESH_BIDI_STREAMING;
    ProtobufCMessage *request = NULL;
    int err = 0;

    if (!streams)
        err = mesh_call_read(call, &request, -1);
    if (err == -ENODATA)
        mesh_call_fail(call, STATUS_INTERNAL, "the call has no request");
    if (err == 0)
        method->service->invoke(method->service, method->index, request, answer, call);
    if (request)
        protobuf_c_message_free_unpacked(request, NULL);
}

void mesh_call_run(struct mesh_job *job)
{
    struct mesh_call *call = (struct mesh_call *)job;
    bool dead, streams;

    pthread_mutex_lock(&call->lock);
    dead = call->ended;
    call->started = true;
    streams = !call->flow.ended_in;
    pthread_mutex_unlock(&call->lock);
    if (!dead) {
        if (streams)
            send_accept(call);
        if (read_meta(call) < 0)
            mesh_call_fail(call, STATUS_INTERNAL, "malformed metadata");
        trace_set_current(&call->trace);
        if (!call->failed)
            invoke(call);
        trace_set_current(NULL);
        finish(call);
    }
    mesh_call_release(call);
}

/* ---- what handlers say ----------------------------------------------------------------------- */

static bool may_answer(const struct mesh_call *call)
{
    return call->cancelled || call->failed || mesh_flow_may_send(&call->flow);
}

/* Wait for credit. @return the message's seq; 0: the call is over */
static uint32_t claim_answer(struct mesh_call *call, size_t size)
{
    uint32_t seq = 0;

    pthread_mutex_lock(&call->lock);
    if (!may_answer(call))
        mesh_flow_stalled();
    while (!may_answer(call))
        pthread_cond_wait(&call->changed, &call->lock);
    if (!call->cancelled && !call->failed)
        seq = mesh_flow_sent(&call->flow, true, size);
    pthread_mutex_unlock(&call->lock);
    return seq;
}

static void answer_one_of_many(struct mesh_call *call, const ProtobufCMessage *message, size_t size)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call->id};

    if (send_initial(call) < 0) {
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for initial metadata");
        return;
    }
    header.seq = claim_answer(call, size);
    if (header.seq > 0 && post_frame(call, &header, NULL, message) < 0)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for an answer");
}

static void answer_the_only(struct mesh_call *call, const ProtobufCMessage *message)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = call->id, .seq = 1};

    if (call->has_response)
        mesh_call_fail(call, STATUS_INTERNAL, "the handler gave more than one response");
    else if (mesh_message_build(&header, NULL, message, call->compress, &call->response) < 0)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for the response");
    else
        call->has_response = true;
}

static void answer(const ProtobufCMessage *message, void *closure_data)
{
    struct mesh_call *call = closure_data;
    size_t size;

    if (!message || call->failed || __atomic_load_n(&call->cancelled, __ATOMIC_ACQUIRE))
        return;
    size = protobuf_c_message_get_packed_size(message);
    if (size > call->message_max)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                       "an answer of %zu bytes is larger than the %zu that the caller takes", size,
                       call->message_max);
    else if (has_one_answer(call))
        answer_the_only(call, message);
    else
        answer_one_of_many(call, message, size);
}

void mesh_call_fail(void *data, enum status_code code, const char *fmt, ...)
{
    struct mesh_call *call = data;
    va_list args;

    va_start(args, fmt);
    pthread_mutex_lock(&call->lock);
    if (!call->failed && !call->cancelled) {
        status_vset(&call->status, code, fmt, args);
        __atomic_store_n(&call->failed, true, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&call->lock);
    va_end(args);
}

void mesh_call_set_retry_delay(void *call, uint32_t ms)
{
    ((struct mesh_call *)call)->retry_delay_ms = ms;
}

int mesh_call_add_initial_metadata(void *data, const char *key, const void *value, size_t size)
{
    struct mesh_call *call = data;

    return call->initial_sent ? -EINVAL : mesh_metadata_add(&call->initial, key, value, size);
}

int mesh_call_add_trailer(void *call, const char *key, const void *value, size_t size)
{
    return mesh_metadata_add(&((struct mesh_call *)call)->trailers, key, value, size);
}

/* ---- what handlers ask ----------------------------------------------------------------------- */

static bool can_read(const struct mesh_call *call)
{
    return call->cancelled || call->flow.first || call->flow.ended_in;
}

static void wait_for_message(struct mesh_call *call, int wait_ms)
{
    int64_t at = clock_now_ns() + wait_ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};
    int err = 0;

    while (!can_read(call) && wait_ms != 0 && err == 0) {
        if (wait_ms < 0)
            err = pthread_cond_wait(&call->changed, &call->lock);
        else
            err = pthread_cond_timedwait(&call->changed, &call->lock, &until);
    }
}

/* The next message that is not OPEN's. */
static int next_message(struct mesh_call *call, int wait_ms, struct mesh_message **out)
{
    bool tell = false;
    int err = 0;

    pthread_mutex_lock(&call->lock);
    if (!can_read(call))
        wait_for_message(call, wait_ms);
    *out = call->cancelled ? NULL : mesh_flow_take(&call->flow, &tell);
    if (call->cancelled)
        err = -ECANCELED;
    else if (!*out)
        err = call->flow.ended_in ? -ENODATA : -EAGAIN;
    if (tell && !call->credit_posted) {
        call->credit_posted = true;
        post(call, &call->credit_post, POST_MORE_CREDIT);
    }
    pthread_mutex_unlock(&call->lock);
    return err;
}

static int unpack_request(struct mesh_call *call, struct mesh_message *from,
                          ProtobufCMessage **message)
{
    int err = mesh_flow_unpack(from, call->method->method->descriptor->input, message);

    if (err == 0)
        return 0;
    mesh_call_fail(call, STATUS_INTERNAL, "a request does not parse");
    return -ECANCELED;
}

int mesh_call_read(void *data, ProtobufCMessage **message, int wait_ms)
{
    struct mesh_call *call = data;
    struct mesh_message *arrived;
    int err;

    if (mesh_call_cancelled(call))
        return -ECANCELED;
    if (!call->open_read) {
        call->open_read = true;
        return unpack_request(call, &call->open, message);
    }
    err = next_message(call, wait_ms, &arrived);
    if (err < 0)
        return err;
    err = unpack_request(call, arrived, message);
    mesh_message_close(arrived);
    free(arrived);
    return err;
}

bool mesh_call_cancelled(const void *data)
{
    const struct mesh_call *call = data;

    return __atomic_load_n(&call->cancelled, __ATOMIC_ACQUIRE) ||
           __atomic_load_n(&call->failed, __ATOMIC_ACQUIRE) ||
           (call->deadline_ns != MESH_NEVER && clock_now_ns() >= call->deadline_ns);
}

const volatile int *mesh_call_cancel_flag(const void *call)
{
    return &((const struct mesh_call *)call)->cancelled;
}

int64_t mesh_call_remaining_ms(const void *data)
{
    const struct mesh_call *call = data;

    if (call->deadline_ns == MESH_NEVER)
        return INT64_MAX;
    return (call->deadline_ns - clock_now_ns()) / NS_PER_MS;
}

const struct mesh_metadata *mesh_call_metadata(const void *call)
{
    return ((const struct mesh_call *)call)->metadata;
}

const char *mesh_call_trace_id(const void *data)
{
    struct mesh_call *call = (struct mesh_call *)data; /* the text is no part of its value */

    if (!call->trace_id[0])
        trace_id_format(&call->trace, call->trace_id);
    return call->trace_id;
}
