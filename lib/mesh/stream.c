#include "mesh/stream.h"

#include "base/clock.h"
#include "mesh/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
int mesh_stream_create(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
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

void mesh_stream_put(struct mesh_stream *stream, struct stream_post *note,
                     enum stream_post_kind kind)
{
    note->post.kind = kind;
    note->stream = stream;
    mesh_stream_hold(stream);
    mesh_mailbox_put(mesh_channel_mailbox(stream->channel), &note->post);
}

void mesh_stream_post(struct mesh_stream *stream, struct stream_post *note,
                      enum stream_post_kind kind)
{
    struct mesh_channel *channel = stream->channel;

    mesh_stream_put(stream, note, kind);
    mesh_driver_attend(channel); /* the stream may be gone: an answer without a waiter ends it */
}

static bool at_once(const struct mesh_stream *stream)
{
    (void)stream;
    return true;
}

/* Without the stream's lock: sent off by this thread, if nobody else drives. */
void mesh_stream_post_and_send(struct mesh_stream *stream, struct stream_post *note,
                               enum stream_post_kind kind)
{
    mesh_stream_put(stream, note, kind);
    if (mesh_driver_take(stream->channel))
        mesh_driver_lead(stream->channel, stream, at_once, MESH_NEVER);
    else
        mesh_driver_attend(stream->channel);
}

int mesh_stream_open(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                     const char *method, const struct mesh_call_options *options,
                     struct mesh_stream **out)
{
    if (options && options->answer_meta)
        return -EINVAL;
    return mesh_stream_create(channel, service, method, NULL, options, out);
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
void mesh_stream_abandon(struct mesh_stream *stream, enum status_code code, const char *message)
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
        mesh_stream_post(stream, &stream->cancel_post, POST_CANCEL);
}

void mesh_stream_cancel(struct mesh_stream *stream)
{
    mesh_stream_abandon(stream, STATUS_CANCELLED, "cancelled by the caller");
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

void mesh_stream_read_status(const struct mesh_stream *stream, struct status *status)
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
        mesh_stream_read_status(self, status);
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
