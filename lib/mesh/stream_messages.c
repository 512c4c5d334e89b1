#include "mesh/stream.h"

#include "base/clock.h"
#include "mesh/meta.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)

/* ---- waiting --------------------------------------------------------------------------------- */

static bool can_write(const struct mesh_stream *stream)
{
    return stream->over || mesh_flow_may_send(&stream->flow);
}

static bool can_read(const struct mesh_stream *stream)
{
    return stream->over || stream->flow.first;
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

bool mesh_stream_wait(struct mesh_stream *stream, bool (*can)(const struct mesh_stream *),
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
        mesh_stream_post_and_send(stream, &note->post, POST_SEND);
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
    else if (!*on_open && !mesh_stream_wait(stream, can_write, wait_ms))
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
        mesh_stream_abandon(stream, STATUS_RESOURCE_EXHAUSTED, "no memory for a message");
        return -EPIPE;
    }
    if (on_open)
        mesh_stream_post_and_send(stream, &stream->open_post, POST_OPEN);
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
        mesh_stream_post_and_send(stream, &stream->open_post, POST_OPEN);
    } else if (!had && mesh_message_build(&header, NULL, NULL, false, &note->message) == 0) {
        mesh_stream_post_and_send(stream, &note->post, POST_SEND);
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
        mesh_stream_post(stream, &stream->open_post, POST_OPEN);
    mesh_stream_wait(stream, can_read, wait_ms);
    arrived = mesh_flow_take(&stream->flow, &tell);
    err = arrived ? 0 : stream->over ? -ENODATA : -EAGAIN;
    tell = tell && !stream->over && !stream->credit_posted;
    if (tell)
        stream->credit_posted = true;
    pthread_mutex_unlock(&stream->lock);

    if (tell)
        mesh_stream_post_and_send(stream, &stream->credit_post, POST_CREDIT);
    if (!arrived)
        return err;
    err = mesh_flow_unpack(arrived, stream->method->descriptor->output, message);
    mesh_message_close(arrived);
    free(arrived);
    if (err == 0)
        return 0;
    mesh_stream_abandon(stream, STATUS_INTERNAL, "an answer does not parse");
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
    return mesh_metadata_details(mesh_stream_trailers(stream), size);
}
