#include "mesh/meta.h"
#include "mesh/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void mesh_answer_meta_fini(struct mesh_answer_meta *meta)
{
    mesh_metadata_destroy(&meta->initial);
    mesh_metadata_destroy(&meta->trailers);
    *meta = (struct mesh_answer_meta){0};
}

/* Nobody else looks at the lists of a call that is over. */
static void hand_over(struct mesh_stream *stream)
{
    struct mesh_answer_meta *meta = stream->answer_meta;

    meta->initial = stream->initial;
    meta->trailers = stream->trailers;
    meta->details = mesh_metadata_details(meta->trailers, &meta->details_size);
    stream->initial = stream->trailers = NULL;
}

ProtobufCMessage *mesh_stream_response(struct mesh_stream *stream, struct status *status)
{
    ProtobufCMessage *response = NULL;
    struct mesh_message *arrived;
    bool tell;

    if (stream->answer_meta)
        hand_over(stream);
    mesh_stream_read_status(stream, status);
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

static bool is_over(const struct mesh_stream *stream)
{
    return stream->over;
}

static int unary_open(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                      const char *method, const ProtobufCMessage *request,
                      const struct mesh_call_options *options, struct mesh_stream **out)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    struct mesh_answer_meta *meta = options ? options->answer_meta : NULL;
    int err;

    if (meta)
        *meta = (struct mesh_answer_meta){0};
    if (size > mesh_channel_message_max(channel))
        return -EMSGSIZE;
    err = mesh_stream_create(channel, service, method, request, options, out);
    if (err < 0)
        return err;
    (*out)->answer_meta = meta;
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
    mesh_stream_put(stream, &stream->open_post, POST_OPEN);
    pthread_mutex_lock(&stream->lock);
    mesh_stream_wait(stream, is_over, -1);
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
    mesh_stream_post(stream, &stream->open_post, POST_OPEN);
    return 0;
}
