#include "mesh/session.h"

#include "mesh/channel_calls.h"
#include "mesh/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sending --------------------------------------------------------------------------------- */

bool mesh_session_takes_calls(const struct mesh_session *session)
{
    return session->link.state == LINK_UP && !session->going;
}

/* Whoever receives over inproc:// has the very bytes that were sent, and rewrites the header. */
static bool shares_memory(const struct mesh_session *session)
{
    return strncmp(session->link.options.endpoint, "inproc:", 7) == 0;
}

static int copy_bytes(zmq_msg_t *to, zmq_msg_t *from)
{
    zmq_msg_close(to);
    if (zmq_msg_init_size(to, zmq_msg_size(from)) < 0) {
        zmq_msg_init(to);
        return -ENOMEM;
    }
    memcpy(zmq_msg_data(to), zmq_msg_data(from), zmq_msg_size(from));
    return 0;
}

/* A copy to be sent, with a first frame that may be written to; a large body is shared. */
static int copy_request(struct mesh_stream *stream, struct mesh_message *out)
{
    *out = (struct mesh_message){.has_body = stream->open.has_body};
    zmq_msg_init(&out->first);
    if (copy_bytes(&out->first, &stream->open.first) < 0)
        return -ENOMEM;
    if (out->has_body) {
        zmq_msg_init(&out->body);
        zmq_msg_copy(&out->body, &stream->open.body);
    }
    return 0;
}

/* The request itself, and a reference to it stays. */
static void share_request(struct mesh_stream *stream, struct mesh_message *out)
{
    *out = (struct mesh_message){.has_body = stream->open.has_body};
    zmq_msg_init(&out->first);
    zmq_msg_copy(&out->first, &stream->open.first);
    if (out->has_body) {
        zmq_msg_init(&out->body);
        zmq_msg_copy(&out->body, &stream->open.body);
    }
}

/* Who has said all by now, which before ACCEPT is one message at most, need not say so again. */
static void address(struct mesh_session *session, struct mesh_stream *stream,
                    struct mesh_message *message)
{
    uint8_t *first = zmq_msg_data(&message->first);
    uint8_t before[MESH_TRACEPARENT_BYTES];
    struct mesh_header header;

    mesh_header_read(first, &header);
    memcpy(before, stream->seen.traceparent, sizeof(before));
    pthread_mutex_lock(&stream->lock);
    stream->end_sent = stream->flow.ended_out;
    if (!stream->over)
        mesh_stream_attempt(stream);
    pthread_mutex_unlock(&stream->lock);
    if (stream->resends + stream->seen.attempt > 0 ||
        memcmp(before, stream->seen.traceparent, sizeof(before)) != 0)
        mesh_traceparent_replace(first + MESH_HEADER_BYTES, header.meta_bytes,
                                 stream->seen.traceparent);
    header.call_id = stream->id;
    header.timeout_ns = mesh_deadline_left(stream->deadline_ns, session->channel->now_ns);
    header.attempt = (uint8_t)stream->seen.attempt;
    if (stream->end_sent)
        header.flags |= MESH_END_SEND;
    mesh_message_set_header(message, &header);
}

/* Whether the request stays here; the first time it is sent that is decided. */
static bool keep_request(struct mesh_channel *channel, struct mesh_stream *stream)
{
    size_t bytes = mesh_message_bytes(&stream->open);

    if (stream->kept_bytes == 0 && !stream->sent &&
        channel->kept_bytes + bytes <= channel->retry.options.buffer_bytes) {
        stream->kept_bytes = bytes;
        channel->kept_bytes += bytes;
    }
    return stream->kept_bytes > 0;
}

static int send_request(struct mesh_session *session, struct mesh_stream *stream)
{
    bool keep = keep_request(session->channel, stream);
    struct mesh_message message;

    if (keep && (stream->sent || shares_memory(session))) {
        if (copy_request(stream, &message) < 0)
            return -ENOMEM;
        address(session, stream, &message);
    } else {
        address(session, stream, &stream->open);
        if (keep) {
            share_request(stream, &message);
        } else {
            mesh_message_move(&message, &stream->open);
            zmq_msg_init(&stream->open.first);
        }
    }
    stream->sent = true;
    /* A link that breaks here ends it in `down`. */
    stream->unwritten = mesh_link_send(&session->link, &message) < 0;
    return 0;
}

int mesh_session_open(struct mesh_session *session, struct mesh_stream *stream)
{
    int err = mesh_slots_add(&session->slots, stream, &stream->id);

    if (err < 0)
        return err;
    stream->session = session;
    stream->place = PLACE_OPEN;
    stream->accepted = false;
    stream->tried |= 1u << session->number;
    err = send_request(session, stream);
    if (err < 0)
        mesh_session_leave(stream);
    return err;
}

void mesh_session_leave(struct mesh_stream *stream)
{
    if (stream->place != PLACE_OPEN)
        return;
    mesh_slots_remove(&stream->session->slots, stream->id);
    stream->session = NULL;
    stream->place = PLACE_NONE;
}

void mesh_session_cancel(struct mesh_stream *stream, enum status_code code)
{
    struct mesh_header header = {
        .kind = MESH_CANCEL, .call_id = stream->id, .status = (uint16_t)code};
    struct mesh_message message;

    if (stream->place == PLACE_OPEN &&
        mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(&stream->session->link, &message);
}

void mesh_session_credit(struct mesh_stream *stream)
{
    struct mesh_header header = {.kind = MESH_CREDIT, .call_id = stream->id};
    struct mesh_message message;

    pthread_mutex_lock(&stream->lock);
    stream->credit_posted = false;
    header.credit_messages = stream->flow.in.limit_messages;
    header.credit_bytes = stream->flow.in.limit_bytes;
    pthread_mutex_unlock(&stream->lock);
    if (stream->place == PLACE_OPEN &&
        mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(&stream->session->link, &message);
}

/* A message, or END_SEND alone, which may have gone with OPEN, or will. */
void mesh_session_send(struct mesh_stream *stream, struct mesh_message *message)
{
    struct mesh_header header;
    bool may_go_on;

    pthread_mutex_lock(&stream->lock);
    may_go_on = mesh_flow_left(&stream->flow, message);
    if (may_go_on)
        pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    if (may_go_on)
        mesh_stream_wake(stream);
    if (stream->place != PLACE_OPEN || stream->end_sent) {
        mesh_message_close(message);
        return;
    }
    mesh_header_read(zmq_msg_data(&message->first), &header);
    header.call_id = stream->id;
    mesh_message_set_header(message, &header);
    mesh_link_send(&stream->session->link, message);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void take_credit(struct mesh_session *session, struct mesh_stream *stream,
                        const struct mesh_header *header)
{
    bool raised;

    if (header->kind == MESH_ACCEPT) {
        stream->accepted = true;
        if (!stream->idempotent)
            mesh_calls_drop_request(session->channel, stream);
    }
    pthread_mutex_lock(&stream->lock);
    raised = mesh_credit_raise(&stream->flow.out, header->credit_messages, header->credit_bytes);
    if (raised)
        pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    if (raised)
        mesh_stream_wake(stream);
}

/* Metadata and, of an END, status. @return 0; -EBADMSG; -ENOMEM */
static int read_meta(const struct mesh_frame *frame, struct mesh_metadata **metadata,
                     struct status *status)
{
    mesh_meta *meta = NULL;
    int err = 0;

    if (frame->header.meta_bytes > 0) {
        err = mesh_meta_unpack(frame, &meta);
        if (err == 0)
            err = mesh_metadata_take(meta, metadata);
        if (err == 0 && frame->header.kind == MESH_END && frame->header.status != STATUS_OK)
            err = mesh_metadata_take_details(meta, metadata);
    }
    if (err == 0)
        mesh_status_read(frame->header.status, meta, status);
    else
        mesh_metadata_destroy(metadata);
    if (meta)
        dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

static void take_initial(struct mesh_session *session, struct mesh_stream *stream,
                         const struct mesh_frame *frame)
{
    struct mesh_metadata *metadata = NULL;
    struct status ignored;
    int err = read_meta(frame, &metadata, &ignored);

    pthread_mutex_lock(&stream->lock);
    if (stream->initial || stream->flow.seq_in > 0)
        err = -EBADMSG;
    else if (err == 0)
        stream->initial = metadata;
    stream->committed = true;
    pthread_mutex_unlock(&stream->lock);
    mesh_calls_drop_request(session->channel, stream);
    if (err < 0) {
        if (metadata != stream->initial)
            mesh_metadata_destroy(&metadata);
        mesh_calls_give_up(session->channel, stream, STATUS_INTERNAL, "malformed initial metadata");
    }
}

/* Under the stream's lock. @return whether it is well; else *problem is how the call ends */
static bool receive_message(struct mesh_session *session, struct mesh_stream *stream,
                            struct mesh_message *message, const struct mesh_frame *frame,
                            struct status *problem)
{
    size_t max = session->link.options.max_message_bytes;
    const char *why = "";
    enum status_code code;

    if (stream->over)
        return true;
    code = mesh_flow_receive(&stream->flow, message, frame, max, &why);
    if (code == STATUS_OK && (frame->header.flags & MESH_MESSAGE))
        mesh_intercept_message(&session->channel->interceptors, stream->states, &stream->seen,
                               MESH_INBOUND, frame->header.body_bytes);
    if (code == STATUS_RESOURCE_EXHAUSTED && frame->header.body_bytes > max)
        status_set(problem, code,
                   "an answer of %u bytes is larger than the %zu that are taken here",
                   frame->header.body_bytes, max);
    else if (code != STATUS_OK)
        status_set(problem, code, "%s", why);
    return code == STATUS_OK;
}

static void take_data(struct mesh_session *session, struct mesh_stream *stream,
                      struct mesh_message *message, const struct mesh_frame *frame)
{
    struct status problem;
    bool well;

    pthread_mutex_lock(&stream->lock);
    well = receive_message(session, stream, message, frame, &problem);
    stream->committed = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    mesh_calls_drop_request(session->channel, stream);
    if (well)
        mesh_stream_wake(stream);
    else
        mesh_calls_give_up(session->channel, stream, problem.code, problem.message);
}

static void take_end(struct mesh_session *session, struct mesh_stream *stream,
                     struct mesh_message *message, const struct mesh_frame *frame)
{
    struct mesh_channel *channel = session->channel;
    bool unprocessed = (frame->header.flags & MESH_UNPROCESSED) != 0;
    struct mesh_metadata *trailers = NULL;
    struct status status;

    if (read_meta(frame, &trailers, &status) < 0) {
        status_set(&status, STATUS_INTERNAL, "malformed trailers");
        mesh_calls_end(channel, stream, &status, false);
        return;
    }
    if (status.code == STATUS_OK) {
        mesh_retry_succeeded(&channel->retry);
    } else if (mesh_calls_try_again(channel, stream, &status,
                                    unprocessed ? FATE_UNPROCESSED : FATE_FAILED)) {
        mesh_metadata_destroy(&trailers);
        return;
    }
    pthread_mutex_lock(&stream->lock);
    stream->trailers = trailers;
    receive_message(session, stream, message, frame, &status);
    pthread_mutex_unlock(&stream->lock);
    mesh_calls_end(channel, stream, &status, false);
}

static void call_frame(struct mesh_session *session, struct mesh_message *message,
                       const struct mesh_frame *frame)
{
    struct mesh_stream *stream = mesh_slots_find(&session->slots, frame->header.call_id);

    if (!stream) {
        if (!mesh_slots_gave(&session->slots, frame->header.call_id))
            mesh_link_reject(&session->link, STATUS_INVALID_ARGUMENT, "a call that was never made");
        metric_add(session->channel->late_frames, 1);
        return;
    }
    switch (frame->header.kind) {
    case MESH_ACCEPT:
    case MESH_CREDIT:
        take_credit(session, stream, &frame->header);
        break;
    case MESH_INITIAL:
        take_initial(session, stream, frame);
        break;
    case MESH_DATA:
        take_data(session, stream, message, frame);
        break;
    default:
        take_end(session, stream, message, frame);
    }
}

static void on_frame(void *arg, struct mesh_message *message, const struct mesh_frame *frame)
{
    struct mesh_session *session = arg;

    switch (frame->header.kind) {
    case MESH_ACCEPT:
    case MESH_CREDIT:
    case MESH_INITIAL:
    case MESH_DATA:
    case MESH_END:
        call_frame(session, message, frame);
        break;
    default:
        if (mesh_kind_name(frame->header.kind)[0] != '?')
            mesh_link_reject(&session->link, STATUS_INVALID_ARGUMENT, "a kind from the wrong side");
        else if (frame->header.flags & MESH_CRITICAL)
            mesh_link_reject(&session->link, STATUS_UNIMPLEMENTED, "an unknown kind");
        else
            mesh_ignored_frame();
    }
    mesh_message_close(message);
}

/* ---- the session itself ---------------------------------------------------------------------- */

/* What calls may bring: the least that any session takes. */
static void agree_on_size(struct mesh_channel *channel)
{
    size_t max = channel->message_max_wish;

    for (size_t i = 0; i < channel->n_sessions; i++) {
        const struct mesh_session *session = &channel->sessions[i];

        if (mesh_session_takes_calls(session) && session->link.max_message_bytes < max)
            max = session->link.max_message_bytes;
    }
    atomic_store(&channel->message_max, max);
}

static void count(struct mesh_session *session, bool takes_calls)
{
    struct mesh_channel *channel = session->channel;

    if (session->counted == takes_calls)
        return;
    session->counted = takes_calls;
    if (takes_calls)
        atomic_fetch_add(&channel->n_taking, 1);
    else if (atomic_fetch_sub(&channel->n_taking, 1) == 1)
        channel->down_since = session->link.now_ns;
    if (takes_calls)
        agree_on_size(channel);
}

static struct mesh_session *twin_of(const struct mesh_session *session)
{
    struct mesh_channel *channel = session->channel;
    size_t n = channel->endpoints.count, i = (size_t)(session - channel->sessions);

    return &channel->sessions[i < n ? i + n : i - n];
}

static bool rests(const struct mesh_session *session)
{
    return session->link.state == LINK_RESTING;
}

/* A twin that still has calls of its own does it when these have ended. */
static void wake_twin(struct mesh_session *session)
{
    struct mesh_session *twin = twin_of(session);

    session->channel->n_sessions = 2 * session->channel->endpoints.count;
    mesh_link_wake(&twin->link, session->link.now_ns);
}

/* It stands: new calls are its own from now on. */
static void relieve_twin(struct mesh_session *session)
{
    struct mesh_session *twin = twin_of(session);

    if (!twin->leaving)
        return;
    twin->leaving = false;
    twin->going = true;
    count(twin, false);
    metric_add(session->channel->turns, 1);
}

static void on_up(void *arg)
{
    struct mesh_session *session = arg;

    session->going = false;
    count(session, true);
    relieve_twin(session);
    mesh_calls_resume(session->channel);
}

static void on_returning(void *arg)
{
    struct mesh_session *session = arg;

    if (session->going)
        return;
    session->leaving = true;
    wake_twin(session);
}

/* One of the two seeks a session, or has one that takes calls. */
static void rest_beside_twin(struct mesh_session *session)
{
    struct mesh_session *twin = twin_of(session);

    if (rests(twin) || twin->going)
        return;
    mesh_link_rest(&session->link);
    if (twin->leaving)
        wake_twin(twin);
}

static enum call_fate fate_of(const struct mesh_session *session, const struct mesh_stream *stream)
{
    if (stream->unwritten)
        return FATE_UNWRITTEN;
    return stream->id > session->link.last_seen_call ? FATE_UNSEEN : FATE_LOST;
}

static void on_down(void *arg, const char *why)
{
    struct mesh_session *session = arg;
    struct mesh_channel *channel = session->channel;
    struct status status;

    session->going = session->leaving = false;
    count(session, false);
    rest_beside_twin(session);
    status_set(&status, STATUS_UNAVAILABLE, "%s", why);
    for (uint32_t i = 0; i < session->slots.n; i++) {
        struct mesh_stream *stream = session->slots.all[i].call;

        if (stream && !mesh_calls_try_again(channel, stream, &status, fate_of(session, stream)))
            mesh_calls_end(channel, stream, &status, false);
    }
}

static void on_going(void *arg)
{
    struct mesh_session *session = arg;

    session->going = true;
    session->leaving = false;
    count(session, false);
}

static void on_unsent(void *arg, uint64_t call_id)
{
    struct mesh_session *session = arg;
    struct mesh_stream *stream = mesh_slots_find(&session->slots, call_id);

    if (stream)
        stream->unwritten = true;
}

void mesh_session_init(struct mesh_session *session, struct mesh_channel *channel, unsigned number,
                       const struct mesh_link_options *options)
{
    static const struct mesh_link_handler handler = {.up = on_up,
                                                     .down = on_down,
                                                     .going = on_going,
                                                     .returning = on_returning,
                                                     .unsent = on_unsent,
                                                     .frame = on_frame};

    *session = (struct mesh_session){.channel = channel, .number = number};
    mesh_link_init(&session->link, options, &handler, session);
}

void mesh_session_fini(struct mesh_session *session, int linger_ms)
{
    mesh_link_fini(&session->link, linger_ms);
    mesh_slots_fini(&session->slots);
}

bool mesh_session_step(struct mesh_session *session, int64_t now_ns)
{
    bool busy = mesh_link_step(&session->link, now_ns);

    if (session->going && session->slots.n_used == 0)
        mesh_link_restart(&session->link, rests(twin_of(session))
                                              ? "the peer takes no new calls"
                                              : "another one has taken its place");
    return busy;
}
