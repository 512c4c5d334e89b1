#include "mesh/stream.h"

#include "base/clock.h"
#include "mesh/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)

/* ---- making one ------------------------------------------------------------------------------ */

void mesh_stream_hold(struct mesh_stream *stream)
{
    atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
}

void mesh_stream_release(struct mesh_stream *stream)
{
    if (atomic_fetch_sub(&stream->refs, 1) != 1)
        return;
    mesh_message_close(&stream->open);
    mesh_flow_fini(&stream->flow);
    mesh_metadata_destroy(&stream->initial);
    mesh_metadata_destroy(&stream->trailers);
    free(stream->status_message);
    mesh_metadata_destroy(&stream->seen.added);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
    pthread_mutex_destroy(&stream->notify_lock);
    free(stream);
}

static uint16_t open_flags(const struct mesh_call_options *options)
{
    return (uint16_t)((options->wait_for_ready ? MESH_WAIT : 0) |
                      (options->idempotent ? MESH_IDEMPOTENT : 0) |
                      (options->compress ? MESH_COMPRESS : 0) |
                      (options->selector || options->tenant || options->affinity ? MESH_ROUTE : 0));
}

/* The OPEN, complete but for its call_id and timeout. */
static int build_open(struct mesh_stream *stream, const struct mesh_call_options *options,
                      const ProtobufCMessage *request)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_selector *selector = NULL;
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .flags = open_flags(options),
        .seq = request ? 1 : 0,
        .credit_messages = stream->flow.in.limit_messages,
        .credit_bytes = stream->flow.in.limit_bytes,
        .method_hash = stream->method->hash,
    };
    int err = mesh_selector_parse(options->selector, &selector);

    if (err < 0)
        return err;
    if (request)
        header.flags |= MESH_END_SEND;
    meta.method = stream->method->path;
    meta.traceparent.data = stream->seen.traceparent;
    meta.traceparent.len = MESH_TRACEPARENT_BYTES;
    if (options->tenant)
        meta.tenant = (char *)options->tenant;
    if (options->affinity)
        meta.affinity = (char *)options->affinity;
    mesh_selector_lend(selector, &meta);
    mesh_metadata_lend(stream->seen.metadata, &meta);
    err = mesh_message_build(&header, &meta, request, options->compress, &stream->open);
    mesh_selector_destroy(&selector);
    return err;
}

static void init_locks(struct mesh_stream *stream)
{
    pthread_condattr_t clock;

    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&stream->lock, NULL);
    pthread_mutex_init(&stream->notify_lock, NULL);
    pthread_cond_init(&stream->changed, &clock);
    pthread_condattr_destroy(&clock);
}

/* What the application gave, and what interceptors added. */
static int join_metadata(struct mesh_stream *stream)
{
    const void *value;
    size_t size;

    if (!stream->seen.added)
        return 0;
    for (size_t i = 0; i < mesh_metadata_count(stream->seen.metadata); i++) {
        const char *key = mesh_metadata_at(stream->seen.metadata, i, &value, &size);
        int err = mesh_metadata_add(&stream->seen.added, key, value, size);

        if (err < 0)
            return err == -EINVAL ? -EMSGSIZE : err;
    }
    stream->seen.metadata = stream->seen.added;
    return 0;
}

/* @return 0, also when it was refused: it is over then; -EINVAL: a bad trace id; -EMSGSIZE; -ENOMEM */
static int start(struct mesh_stream *stream, const struct mesh_call_options *options)
{
    struct mesh_intercepted *seen = &stream->seen;
    struct status refusal;
    int err = mesh_traceparent_make(options->trace_id, seen->traceparent);

    if (err < 0)
        return err;
    seen->has_parent = err > 0;
    seen->method = stream->method;
    seen->begun_ns = clock_now_ns();
    seen->deadline_ns = stream->deadline_ns =
        mesh_deadline_after(seen->begun_ns, options->timeout_ms * NS_PER_MS);
    seen->metadata = options->metadata;
    seen->tenant = options->tenant;
    if (!mesh_intercept_start(mesh_channel_interceptors(stream->channel), stream->states, seen,
                              &stream->n_started, &refusal))
        mesh_stream_end(stream, &refusal, true);
    return join_metadata(stream);
}

static int prepare(struct mesh_stream *stream, const struct mesh_call_options *options,
                   const ProtobufCMessage *request)
{
    int err = start(stream, options);
    struct status status;

    if (err == 0)
        err = build_open(stream, options, request);
    stream->seen.metadata = NULL; /* the application's, and gone soon */
    stream->seen.tenant = NULL;
    if (err < 0) {
        status_set(&status, status_from_errno(err), "the call cannot be packed");
        mesh_stream_end(stream, &status, true);
    }
    return err;
}

/* request: the only one, of a unary call; NULL: they will be written. */
static int stream_create(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                         const char *name, const ProtobufCMessage *request,
                         const struct mesh_call_options *options, struct mesh_stream **out)
{
    static const struct mesh_call_options defaults;
    const ProtobufCMethodDescriptor *descriptor =
        protobuf_c_service_descriptor_get_method_by_name(service, name);
    struct mesh_stream *stream;
    int err;

    if (!descriptor)
        return -EINVAL;
    if (!options)
        options = &defaults;
    stream = calloc(1, sizeof(*stream) +
                           mesh_channel_interceptors(channel)->n * sizeof(stream->states[0]));
    if (!stream)
        return -ENOMEM;
    init_locks(stream);
    atomic_init(&stream->refs, 1);
    mesh_flow_init(&stream->flow);
    zmq_msg_init(&stream->open.first);
    stream->channel = channel;
    stream->wait_for_ready = options->wait_for_ready;
    stream->idempotent = options->idempotent;
    stream->compress = options->compress;
    stream->method = mesh_method_of(service, descriptor, MESH_CALLER);
    err = stream->method ? prepare(stream, options, request) : -ENOMEM;
    if (err == 0)
        *out = stream;
    else
        mesh_stream_release(stream);
    return err;
}

static void put(struct mesh_stream *stream, struct stream_post *note, enum stream_post_kind kind)
{
    note->post.kind = kind;
    note->stream = stream;
    mesh_stream_hold(stream);
    mesh_mailbox_put(mesh_channel_mailbox(stream->channel), &note->post);
}

static void post(struct mesh_stream *stream, struct stream_post *note, enum stream_post_kind kind)
{
    struct mesh_channel *channel = stream->channel;

    put(stream, note, kind);
    mesh_driver_attend(channel); /* the stream may be gone: an answer without a waiter ends it */
}

static bool at_once(const struct mesh_stream *stream)
{
    (void)stream;
    return true;
}

/* Without the stream's lock: sent off by this thread, if nobody else drives. */
static void post_and_send(struct mesh_stream *stream, struct stream_post *note,
                          enum stream_post_kind kind)
{
    put(stream, note, kind);
    if (mesh_driver_take(stream->channel))
        mesh_driver_lead(stream->channel, stream, at_once, MESH_NEVER);
    else
        mesh_driver_attend(stream->channel);
}

int mesh_stream_open(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                     const char *method, const struct mesh_call_options *options,
                     struct mesh_stream **out)
{
    return stream_create(channel, service, method, NULL, options, out);
}

/* ---- the end --------------------------------------------------------------------------------- */

void mesh_stream_wake(struct mesh_stream *stream)
{
    pthread_mutex_lock(&stream->notify_lock);
    if (stream->notify)
        stream->notify(stream->notify_arg);
    pthread_mutex_unlock(&stream->notify_lock);
}

void mesh_stream_attempt(struct mesh_stream *stream)
{
    stream->attempting = true;
    mesh_intercept_attempt(mesh_channel_interceptors(stream->channel), stream->states,
                           &stream->seen);
}

void mesh_stream_attempt_end(struct mesh_stream *stream, const struct status *status,
                             enum mesh_attempt_next next, int64_t delay_ms)
{
    if (!stream->attempting)
        return;
    stream->attempting = false;
    mesh_intercept_attempt_end(mesh_channel_interceptors(stream->channel), stream->states,
                               &stream->seen, status, next, delay_ms);
}

bool mesh_stream_end(struct mesh_stream *stream, const struct status *status, bool drop_unread)
{
    bool first;

    pthread_mutex_lock(&stream->lock);
    first = !stream->over;
    if (first) {
        stream->over = true;
        stream->code = status->code;
        stream->retry_delay_ms = status->retry_delay_ms;
        if (status->message[0])
            stream->status_message = strdup(status->message); /* without memory there is none */
        if (drop_unread)
            mesh_flow_drop_unread(&stream->flow);
        mesh_stream_attempt_end(stream, status, MESH_LAST, 0);
        mesh_intercept_end(mesh_channel_interceptors(stream->channel), stream->states,
                           &stream->seen, stream->n_started, status, clock_now_ns());
        pthread_cond_broadcast(&stream->changed);
    }
    pthread_mutex_unlock(&stream->lock);
    return first;
}

/* End it on the application's side, and tell the other. */
static void abandon(struct mesh_stream *stream, enum status_code code, const char *message)
{
    struct status status;
    bool tell;

    status_set(&status, code, "%s", message);
    if (!mesh_stream_end(stream, &status, true))
        return;
    pthread_mutex_lock(&stream->lock);
    tell = stream->open_posted && !stream->cancel_posted;
    stream->cancel_posted = true;
    pthread_mutex_unlock(&stream->lock);
    if (tell)
        post(stream, &stream->cancel_post, POST_CANCEL);
}

void mesh_stream_cancel(struct mesh_stream *stream)
{
    abandon(stream, STATUS_CANCELLED, "cancelled by the caller");
}

void mesh_stream_destroy(struct mesh_stream **stream)
{
    if (!*stream)
        return;
    mesh_stream_on_event(*stream, NULL, NULL);
    mesh_stream_cancel(*stream);
    mesh_stream_release(*stream);
    *stream = NULL;
}

static void read_status(const struct mesh_stream *stream, struct status *status)
{
    status->code = stream->code;
    status->retry_delay_ms = stream->retry_delay_ms;
    status->message[0] = '\0';
    if (stream->status_message)
        snprintf(status->message, sizeof(status->message), "%s", stream->status_message);
}

bool mesh_stream_status(const struct mesh_stream *stream, struct status *status)
{
    struct mesh_stream *self = (struct mesh_stream *)stream; /* its lock is no part of its value */
    bool over;

    pthread_mutex_lock(&self->lock);
    over = self->over;
    if (over && status)
        read_status(self, status);
    pthread_mutex_unlock(&self->lock);
    return over;
}

void mesh_stream_on_event(struct mesh_stream *stream, void (*notify)(void *arg), void *arg)
{
    struct mesh_driver *driver = mesh_channel_driver(stream->channel);

    pthread_mutex_lock(&stream->notify_lock);
    if (notify && !stream->notify)
        atomic_fetch_add(&driver->n_callbacks, 1);
    else if (!notify && stream->notify)
        atomic_fetch_sub(&driver->n_callbacks, 1);
    stream->notify = notify;
    stream->notify_arg = arg;
    pthread_mutex_unlock(&stream->notify_lock);
    if (!notify)
        return;
    mesh_mailbox_ring(
        mesh_channel_mailbox(stream->channel)); /* whoever drives, if it must not now */
    mesh_driver_attend(stream->channel);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool can_write(const struct mesh_stream *stream)
{
    return stream->over || mesh_flow_may_send(&stream->flow);
}

static bool can_read(const struct mesh_stream *stream)
{
    return stream->over || stream->flow.first;
}

static bool is_over(const struct mesh_stream *stream)
{
    return stream->over;
}

/* Under the lock: until something changes. @return 0; ETIMEDOUT */
static int wait_for_change(struct mesh_stream *stream, int64_t until)
{
    struct timespec time = {.tv_sec = until / (1000 * NS_PER_MS),
                            .tv_nsec = until % (1000 * NS_PER_MS)};
    int err;

    stream->n_waiters++;
    if (until == MESH_NEVER)
        err = pthread_cond_wait(&stream->changed, &stream->lock);
    else
        err = pthread_cond_timedwait(&stream->changed, &stream->lock, &time);
    stream->n_waiters--;
    return err;
}

/*
 * Under the lock, which is let go of meanwhile. Drives the channel itself if nobody does: while the call is
 * not over, or has not been destroyed, there is a channel. @return what `can` says in the end
 */
static bool wait_until(struct mesh_stream *stream, bool (*can)(const struct mesh_stream *),
                       int wait_ms)
{
    int64_t until = MESH_NEVER;
    int err = 0;

    if (can == can_write && !can(stream))
        mesh_flow_stalled();
    if (wait_ms > 0)
        until = clock_now_ns() + wait_ms * NS_PER_MS;
    while (!can(stream) && wait_ms != 0 && err == 0) {
        if (mesh_driver_take(stream->channel)) {
            pthread_mutex_unlock(&stream->lock);
            mesh_driver_lead(stream->channel, stream, can, until);
            pthread_mutex_lock(&stream->lock);
            err = until != MESH_NEVER && clock_now_ns() >= until ? ETIMEDOUT : 0;
        } else {
            mesh_driver_attend(stream->channel);
            err = wait_for_change(stream, until);
        }
    }
    return can(stream);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The first message rides on OPEN. The Meta is the one built already. */
static int put_first_message(struct mesh_stream *stream, const ProtobufCMessage *message)
{
    struct mesh_message full;
    struct mesh_frame frame;
    int err;

    mesh_message_frame(&stream->open, &frame);
    frame.header.seq = 1;
    err = mesh_message_build_packed(&frame.header, frame.meta, frame.header.meta_bytes, message,
                                    stream->compress, &full);
    if (err < 0)
        return err;
    mesh_message_close(&stream->open);
    mesh_message_move(&stream->open, &full);
    return 0;
}

static int put_message(struct mesh_stream *stream, const ProtobufCMessage *message, uint32_t seq)
{
    struct mesh_header header = {.kind = MESH_DATA, .seq = seq};
    struct stream_send *note = malloc(sizeof(*note));
    int err = -ENOMEM;

    if (note)
        err = mesh_message_build(&header, NULL, message, stream->compress, &note->message);
    if (err == 0)
        post_and_send(stream, &note->post, POST_SEND);
    else
        free(note);
    return err;
}

/* Claim the right to send one message. @return 0 and how it goes; -EPIPE, -EINVAL, -EAGAIN */
static int claim_write(struct mesh_stream *stream, size_t size, int wait_ms, bool *on_open,
                       uint32_t *seq)
{
    int err = 0;

    pthread_mutex_lock(&stream->lock);
    *on_open = !stream->open_posted;
    if (stream->over)
        err = -EPIPE;
    else if (stream->flow.ended_out)
        err = -EINVAL;
    else if (!*on_open && !wait_until(stream, can_write, wait_ms))
        err = -EAGAIN;
    else if (stream->over)
        err = -EPIPE;
    if (err == 0) {
        stream->open_posted = true; /* by whoever claimed it, shortly */
        stream->committed |= !*on_open;
        *seq = mesh_flow_sent(&stream->flow, !*on_open, size);
        mesh_intercept_message(mesh_channel_interceptors(stream->channel), stream->states,
                               &stream->seen, MESH_OUTBOUND, size);
    }
    pthread_mutex_unlock(&stream->lock);
    return err;
}

int mesh_stream_write(struct mesh_stream *stream, const ProtobufCMessage *message, int wait_ms)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    bool on_open;
    uint32_t seq;
    int err;

    if (size > mesh_channel_message_max(stream->channel))
        return -EMSGSIZE;
    err = claim_write(stream, size, wait_ms, &on_open, &seq);
    if (err < 0)
        return err;
    err = on_open ? put_first_message(stream, message) : put_message(stream, message, seq);
    if (err < 0) {
        abandon(stream, STATUS_RESOURCE_EXHAUSTED, "no memory for a message");
        return -EPIPE;
    }
    if (on_open)
        post_and_send(stream, &stream->open_post, POST_OPEN);
    return 0;
}

static void set_end_send(struct mesh_message *open)
{
    struct mesh_frame frame;

    mesh_message_frame(open, &frame);
    frame.header.flags |= MESH_END_SEND;
    mesh_message_set_header(open, &frame.header);
}

/* @return whether OPEN was not under way, and is the caller's to post now */
static bool claim_open(struct mesh_stream *stream)
{
    bool mine = !stream->open_posted && !stream->over;

    if (mine)
        stream->open_posted = true;
    return mine;
}

int mesh_stream_finish(struct mesh_stream *stream)
{
    struct mesh_header header = {.kind = MESH_DATA, .flags = MESH_END_SEND};
    struct stream_send *note = malloc(sizeof(*note));
    bool had, on_open;

    if (!note)
        return -ENOMEM;
    pthread_mutex_lock(&stream->lock);
    had = stream->flow.ended_out || stream->over;
    stream->flow.ended_out = true;
    header.seq = stream->flow.seq_out;
    on_open = claim_open(stream);
    pthread_mutex_unlock(&stream->lock);

    if (on_open) {
        set_end_send(&stream->open);
        post_and_send(stream, &stream->open_post, POST_OPEN);
    } else if (!had && mesh_message_build(&header, NULL, NULL, false, &note->message) == 0) {
        post_and_send(stream, &note->post, POST_SEND);
        return 0;
    }
    free(note);
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

int mesh_stream_read(struct mesh_stream *stream, ProtobufCMessage **message, int wait_ms)
{
    struct mesh_message *arrived;
    bool tell = false;
    int err;

    pthread_mutex_lock(&stream->lock);
    if (claim_open(stream))
        post(stream, &stream->open_post, POST_OPEN);
    wait_until(stream, can_read, wait_ms);
    arrived = mesh_flow_take(&stream->flow, &tell);
    err = arrived ? 0 : stream->over ? -ENODATA : -EAGAIN;
    tell = tell && !stream->over && !stream->credit_posted;
    if (tell)
        stream->credit_posted = true;
    pthread_mutex_unlock(&stream->lock);

    if (tell)
        post_and_send(stream, &stream->credit_post, POST_CREDIT);
    if (!arrived)
        return err;
    err = mesh_flow_unpack(arrived, stream->method->descriptor->output, message);
    mesh_message_close(arrived);
    free(arrived);
    if (err == 0)
        return 0;
    abandon(stream, STATUS_INTERNAL, "an answer does not parse");
    return -ENODATA;
}

const struct mesh_metadata *mesh_stream_initial_metadata(struct mesh_stream *stream)
{
    const struct mesh_metadata *metadata;

    pthread_mutex_lock(&stream->lock);
    metadata = stream->initial;
    pthread_mutex_unlock(&stream->lock);
    return metadata;
}

const struct mesh_metadata *mesh_stream_trailers(struct mesh_stream *stream)
{
    const struct mesh_metadata *metadata;

    pthread_mutex_lock(&stream->lock);
    metadata = stream->trailers;
    pthread_mutex_unlock(&stream->lock);
    return metadata;
}

const void *mesh_stream_details(struct mesh_stream *stream, size_t *size)
{
    const struct mesh_metadata *trailers = mesh_stream_trailers(stream);
    const void *value;

    for (size_t i = mesh_metadata_count(trailers); i-- > 0;) { /* the mesh's own comes last */
        if (strcmp(mesh_metadata_at(trailers, i, &value, size), MESH_DETAILS_KEY) == 0)
            return value;
    }
    *size = 0;
    return NULL;
}

/* ---- unary calls ----------------------------------------------------------------------------- */

ProtobufCMessage *mesh_stream_response(struct mesh_stream *stream, struct status *status)
{
    ProtobufCMessage *response = NULL;
    struct mesh_message *arrived;
    bool tell;

    read_status(stream, status);
    if (status->code != STATUS_OK)
        return NULL;
    arrived = mesh_flow_take(&stream->flow, &tell);
    if (!arrived) {
        status_set(status, STATUS_INTERNAL, "the call ended well without a response");
    } else if (stream->flow.first) {
        status_set(status, STATUS_INTERNAL, "more than one response to a unary call");
    } else if (mesh_flow_unpack(arrived, stream->method->descriptor->output, &response) < 0) {
        response = NULL;
        status_set(status, STATUS_INTERNAL, "the response does not parse");
    }
    if (arrived) {
        mesh_message_close(arrived);
        free(arrived);
    }
    return response;
}

static int unary_open(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                      const char *method, const ProtobufCMessage *request,
                      const struct mesh_call_options *options, struct mesh_stream **out)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    int err;

    if (size > mesh_channel_message_max(channel))
        return -EMSGSIZE;
    err = stream_create(channel, service, method, request, options, out);
    if (err < 0)
        return err;
    if (!(*out)->over)
        mesh_intercept_message(mesh_channel_interceptors(channel), (*out)->states, &(*out)->seen,
                               MESH_OUTBOUND, size);
    (*out)->flow.seq_out = 1;
    (*out)->flow.ended_out = true;
    (*out)->open_posted = true;
    return 0;
}

static void why_not_opened(const struct mesh_channel *channel, const char *method,
                           const ProtobufCMessage *request, int err, struct status *status)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    size_t most = mesh_channel_message_max(channel);

    if (err != -EMSGSIZE)
        status_set(status, status_from_errno(err), "cannot call '%s': %s", method, strerror(-err));
    else if (size > most)
        status_set(status, STATUS_RESOURCE_EXHAUSTED,
                   "cannot call '%s': its request has %zu bytes, and at most %zu can be sent",
                   method, size, most);
    else
        status_set(status, STATUS_RESOURCE_EXHAUSTED,
                   "cannot call '%s': its metadata needs more than %d bytes", method,
                   MESH_META_MAX);
}

int mesh_unary(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
               const char *method, const ProtobufCMessage *request,
               const struct mesh_call_options *options, ProtobufCMessage **response,
               struct status *status)
{
    struct mesh_stream *stream = NULL;
    int err = unary_open(channel, service, method, request, options, &stream);

    *response = NULL;
    if (err < 0) {
        why_not_opened(channel, method, request, err, status);
        return err == -EINVAL ? -EINVAL : -EREMOTEIO;
    }
    put(stream, &stream->open_post, POST_OPEN);
    pthread_mutex_lock(&stream->lock);
    wait_until(stream, is_over, -1);
    pthread_mutex_unlock(&stream->lock);
    *response = mesh_stream_response(stream, status);
    mesh_stream_release(stream);
    return status->code == STATUS_OK ? 0 : -EREMOTEIO;
}

int mesh_unary_start(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                     const char *method, const ProtobufCMessage *request,
                     const struct mesh_call_options *options, mesh_unary_done *done, void *arg)
{
    struct mesh_stream *stream = NULL;
    int err = unary_open(channel, service, method, request, options, &stream);

    if (err < 0)
        return err;
    stream->done = done;
    stream->done_arg = arg;
    atomic_fetch_add(&mesh_channel_driver(channel)->n_callbacks, 1);
    post(stream, &stream->open_post, POST_OPEN);
    return 0;
}
