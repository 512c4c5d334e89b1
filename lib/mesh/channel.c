#include "base/clock.h"
#include "base/log.h"
#include "mesh/link.h"
#include "mesh/meta.h"
#include "mesh/stream.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define FAIL_FAST_MS 1000 /* how long a call that does not wait gives a connection to come */
#define SLOT_BITS 16
#define SLOTS_MAX (1u << SLOT_BITS) /* calls at once */
#define BYE_LINGER_MS 200

struct mesh_channel {
    char *endpoint, *name;
    void *context; /* ours to end when own_context */
    bool own_context;
    pthread_t thread;
    struct mesh_mailbox mailbox;
    atomic_bool stopping, connected;
    atomic_size_t message_max;
    struct mesh_interceptors interceptors;

    /* The thread's own. */
    struct mesh_link link;
    bool going;         /* the peer takes no new calls on this session */
    int64_t down_since; /* ns */
    struct mesh_timers timers;
    struct mesh_stream *waiting, *last_waiting; /* OPEN not sent: no session; in order */
    struct mesh_stream **slots; /* (n_slots) calls by the low bits of their id; NULL: free */
    uint32_t *free_slots;       /* (n_free) */
    uint32_t n_slots, n_free, n_open;
    uint64_t serial; /* the high bits: no id is ever used again */
    struct metric *late_frames;
};

struct mesh_mailbox *mesh_channel_mailbox(struct mesh_channel *channel)
{
    return &channel->mailbox;
}

size_t mesh_channel_message_max(const struct mesh_channel *channel)
{
    return atomic_load_explicit(&channel->message_max, memory_order_relaxed);
}

const struct mesh_interceptors *mesh_channel_interceptors(const struct mesh_channel *channel)
{
    return &channel->interceptors;
}

bool mesh_channel_connected(const struct mesh_channel *channel)
{
    return atomic_load(&channel->connected);
}

/* ---- ids ------------------------------------------------------------------------------------- */

static int grow_slots(struct mesh_channel *channel)
{
    uint32_t n = channel->n_slots ? 2 * channel->n_slots : 64;
    struct mesh_stream **slots;
    uint32_t *free_slots;

    if (n > SLOTS_MAX)
        return -ENOBUFS;
    slots = realloc(channel->slots, n * sizeof(struct mesh_stream *));
    if (slots)
        channel->slots = slots;
    free_slots = realloc(channel->free_slots, n * sizeof(uint32_t));
    if (free_slots)
        channel->free_slots = free_slots;
    if (!slots || !free_slots)
        return -ENOMEM;
    for (uint32_t i = n; i-- > channel->n_slots;) {
        slots[i] = NULL;
        free_slots[channel->n_free++] = i;
    }
    channel->n_slots = n;
    return 0;
}

static int give_id(struct mesh_channel *channel, struct mesh_stream *stream)
{
    uint32_t slot;
    int err = 0;

    if (channel->n_free == 0)
        err = grow_slots(channel);
    if (err < 0)
        return err;
    slot = channel->free_slots[--channel->n_free];
    channel->slots[slot] = stream;
    channel->n_open++;
    stream->id = ++channel->serial << SLOT_BITS | slot;
    return 0;
}

static struct mesh_stream *find(const struct mesh_channel *channel, uint64_t id)
{
    uint32_t slot = id & (SLOTS_MAX - 1);
    struct mesh_stream *stream = slot < channel->n_slots ? channel->slots[slot] : NULL;

    return stream && stream->id == id ? stream : NULL;
}

/* ---- a stream comes and goes ----------------------------------------------------------------- */

static void wait_for_session(struct mesh_channel *channel, struct mesh_stream *stream)
{
    stream->place = PLACE_WAITING;
    stream->next_waiting = NULL;
    stream->previous_waiting = channel->last_waiting;
    if (channel->last_waiting)
        channel->last_waiting->next_waiting = stream;
    else
        channel->waiting = stream;
    channel->last_waiting = stream;
}

static void stop_waiting(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (stream->previous_waiting)
        stream->previous_waiting->next_waiting = stream->next_waiting;
    else
        channel->waiting = stream->next_waiting;
    if (stream->next_waiting)
        stream->next_waiting->previous_waiting = stream->previous_waiting;
    else
        channel->last_waiting = stream->previous_waiting;
}

/* The thread lets go of it. */
static void forget(struct mesh_channel *channel, struct mesh_stream *stream)
{
    uint32_t slot = stream->id & (SLOTS_MAX - 1);

    if (stream->place == PLACE_WAITING)
        stop_waiting(channel, stream);
    if (stream->place == PLACE_OPEN) {
        channel->slots[slot] = NULL;
        channel->free_slots[channel->n_free++] = slot;
        channel->n_open--;
    }
    mesh_timer_cancel(&channel->timers, &stream->timer);
    stream->place = PLACE_GONE;
    mesh_stream_release(stream);
}

/* The answer of a call without a thread that waits for it. */
static void complete(struct mesh_stream *stream)
{
    struct status status;
    ProtobufCMessage *response = mesh_stream_response(stream, &status);

    stream->done(stream->done_arg, &status, response);
    mesh_stream_release(stream);
}

/* After it has ended, by whomever. */
static void conclude(struct mesh_channel *channel, struct mesh_stream *stream)
{
    mesh_stream_wake(stream);
    if (stream->done)
        complete(stream);
    forget(channel, stream);
}

static void end(struct mesh_channel *channel, struct mesh_stream *stream, enum status_code code,
                bool drop_unread, const char *message)
{
    struct status status;

    status_set(&status, code, "%s", message);
    mesh_stream_end(stream, &status, drop_unread);
    conclude(channel, stream);
}

static void send_cancel(struct mesh_channel *channel, const struct mesh_stream *stream,
                        enum status_code code)
{
    struct mesh_header header = {
        .kind = MESH_CANCEL, .call_id = stream->id, .status = (uint16_t)code};
    struct mesh_message message;

    if (stream->place == PLACE_OPEN &&
        mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(&channel->link, &message);
}

/* End it here, and tell the answerer to stop. */
static void give_up(struct mesh_channel *channel, struct mesh_stream *stream, enum status_code code,
                    const char *message)
{
    send_cancel(channel, stream,
                code == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED : STATUS_CANCELLED);
    end(channel, stream, code, true, message);
}

/* ---- sending --------------------------------------------------------------------------------- */

static void address(struct mesh_message *message, uint64_t id)
{
    struct mesh_header header;

    mesh_header_read(zmq_msg_data(&message->first), &header);
    header.call_id = id;
    mesh_message_set_header(message, &header);
}

/* Who has said all by now, which before ACCEPT is one message at most, need not say so again. */
static void address_open(struct mesh_channel *channel, struct mesh_stream *stream)
{
    uint8_t *first = zmq_msg_data(&stream->open.first);
    uint8_t before[MESH_TRACEPARENT_BYTES];
    struct mesh_header header;

    mesh_header_read(first, &header);
    memcpy(before, stream->seen.traceparent, sizeof(before));
    pthread_mutex_lock(&stream->lock);
    stream->end_sent = stream->flow.ended_out;
    if (!stream->over)
        mesh_stream_attempt(stream);
    pthread_mutex_unlock(&stream->lock);
    if (memcmp(before, stream->seen.traceparent, sizeof(before)) != 0)
        mesh_traceparent_replace(first + MESH_HEADER_BYTES, header.meta_bytes,
                                 stream->seen.traceparent);
    header.call_id = stream->id;
    header.timeout_ns = mesh_deadline_left(stream->deadline_ns, channel->link.now_ns);
    if (stream->end_sent)
        header.flags |= MESH_END_SEND;
    mesh_message_set_header(&stream->open, &header);
}

static void send_open(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (stream->place == PLACE_WAITING)
        stop_waiting(channel, stream);
    stream->place = PLACE_NONE;
    if (give_id(channel, stream) < 0) {
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, false, "too many calls on this channel");
        return;
    }
    stream->place = PLACE_OPEN;
    address_open(channel, stream);
    mesh_link_send(&channel->link, &stream->open); /* a link that breaks here ends it in `down` */
    zmq_msg_init(&stream->open.first);
}

static bool has_session(const struct mesh_channel *channel)
{
    return channel->link.state == LINK_UP && !channel->going;
}

static bool gives_no_hope(const struct mesh_channel *channel)
{
    return !has_session(channel) &&
           channel->link.now_ns - channel->down_since >= FAIL_FAST_MS * NS_PER_MS;
}

static void open_call(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (mesh_stream_status(stream, NULL)) { /* cancelled before it began */
        conclude(channel, stream);
        return;
    }
    if (atomic_load(&channel->stopping)) {
        end(channel, stream, STATUS_CANCELLED, false, "the channel was destroyed");
        return;
    }
    if (stream->deadline_ns != MESH_NEVER &&
        mesh_timer_set(&channel->timers, &stream->timer, stream->deadline_ns) < 0) {
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, false, "no memory for a deadline");
        return;
    }
    if (has_session(channel)) {
        send_open(channel, stream);
    } else if (!stream->wait_for_ready && gives_no_hope(channel)) {
        end(channel, stream, STATUS_UNAVAILABLE, false, "nobody answers at the channel's endpoint");
    } else {
        wait_for_session(channel, stream);
    }
}

static void send_credit(struct mesh_channel *channel, struct mesh_stream *stream)
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
        mesh_link_send(&channel->link, &message);
}

/* A message, or END_SEND alone, which may have gone with OPEN, or will. */
static void send_message(struct mesh_channel *channel, struct mesh_stream *stream,
                         struct mesh_message *message)
{
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
    address(message, stream->id);
    mesh_link_send(&channel->link, message);
}

static void handle_post(struct mesh_channel *channel, struct stream_post *note)
{
    struct mesh_stream *stream = note->stream;

    switch ((enum stream_post_kind)note->post.kind) {
    case POST_OPEN:
        open_call(channel, stream);
        return; /* the post's reference is the thread's now */
    case POST_SEND:
        send_message(channel, stream, &((struct stream_send *)note)->message);
        free(note);
        break;
    case POST_CREDIT:
        send_credit(channel, stream);
        break;
    case POST_CANCEL:
        send_cancel(channel, stream, STATUS_CANCELLED);
        if (stream->place == PLACE_WAITING || stream->place == PLACE_OPEN)
            conclude(channel, stream);
        break;
    }
    mesh_stream_release(stream);
}

static bool handle_posts(struct mesh_channel *channel)
{
    struct mesh_post *post = mesh_mailbox_take(&channel->mailbox);
    bool any = post != NULL;

    while (post) {
        struct mesh_post *next = post->next;

        handle_post(channel, (struct stream_post *)post);
        post = next;
    }
    return any;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void take_credit(struct mesh_stream *stream, const struct mesh_header *header)
{
    bool raised;

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
    }
    if (err == 0)
        mesh_status_read(frame->header.status, meta, status);
    if (meta)
        dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return err;
}

static void take_initial(struct mesh_channel *channel, struct mesh_stream *stream,
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
    pthread_mutex_unlock(&stream->lock);
    if (err < 0) {
        if (metadata != stream->initial)
            mesh_metadata_destroy(&metadata);
        give_up(channel, stream, STATUS_INTERNAL, "malformed initial metadata");
    }
}

/* Under the stream's lock. */
static enum status_code receive_message(struct mesh_channel *channel, struct mesh_stream *stream,
                                        struct mesh_message *message,
                                        const struct mesh_frame *frame, const char **why)
{
    enum status_code code;

    if (stream->over)
        return STATUS_OK;
    code = mesh_flow_receive(&stream->flow, message, frame, channel->link.options.max_message_bytes,
                             why);
    if (code == STATUS_OK && (frame->header.flags & MESH_MESSAGE))
        mesh_intercept_message(&channel->interceptors, stream->states, &stream->seen, MESH_INBOUND,
                               frame->header.body_bytes);
    return code;
}

static void take_data(struct mesh_channel *channel, struct mesh_stream *stream,
                      struct mesh_message *message, const struct mesh_frame *frame)
{
    const char *why = "";
    enum status_code code;

    pthread_mutex_lock(&stream->lock);
    code = receive_message(channel, stream, message, frame, &why);
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    if (code != STATUS_OK)
        give_up(channel, stream, code, why);
    else
        mesh_stream_wake(stream);
}

static void take_end(struct mesh_channel *channel, struct mesh_stream *stream,
                     struct mesh_message *message, const struct mesh_frame *frame)
{
    struct mesh_metadata *trailers = NULL;
    struct status status;
    const char *why = "";
    enum status_code code;

    if (read_meta(frame, &trailers, &status) < 0) {
        end(channel, stream, STATUS_INTERNAL, false, "malformed trailers");
        return;
    }
    pthread_mutex_lock(&stream->lock);
    stream->trailers = trailers;
    code = receive_message(channel, stream, message, frame, &why);
    pthread_mutex_unlock(&stream->lock);
    if (code != STATUS_OK)
        status_set(&status, code, "%s", why);
    mesh_stream_end(stream, &status, false);
    conclude(channel, stream);
}

static void call_frame(struct mesh_channel *channel, struct mesh_message *message,
                       const struct mesh_frame *frame)
{
    struct mesh_stream *stream = find(channel, frame->header.call_id);

    if (!stream) {
        if (frame->header.call_id >> SLOT_BITS > channel->serial)
            mesh_link_reject(&channel->link, STATUS_INVALID_ARGUMENT, "a call that was never made");
        metric_add(channel->late_frames, 1);
        return;
    }
    switch (frame->header.kind) {
    case MESH_ACCEPT:
    case MESH_CREDIT:
        take_credit(stream, &frame->header);
        break;
    case MESH_INITIAL:
        take_initial(channel, stream, frame);
        break;
    case MESH_DATA:
        take_data(channel, stream, message, frame);
        break;
    default:
        take_end(channel, stream, message, frame);
    }
}

static void on_frame(void *arg, struct mesh_message *message, const struct mesh_frame *frame)
{
    struct mesh_channel *channel = arg;

    switch (frame->header.kind) {
    case MESH_ACCEPT:
    case MESH_CREDIT:
    case MESH_INITIAL:
    case MESH_DATA:
    case MESH_END:
        call_frame(channel, message, frame);
        break;
    default:
        if (mesh_kind_name(frame->header.kind)[0] != '?')
            mesh_link_reject(&channel->link, STATUS_INVALID_ARGUMENT, "a kind from the wrong side");
        else if (frame->header.flags & MESH_CRITICAL)
            mesh_link_reject(&channel->link, STATUS_UNIMPLEMENTED, "an unknown kind");
        else
            mesh_ignored_frame();
    }
    mesh_message_close(message);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void on_up(void *arg)
{
    struct mesh_channel *channel = arg;

    channel->going = false;
    atomic_store(&channel->message_max, channel->link.max_message_bytes);
    atomic_store(&channel->connected, true);
    while (channel->waiting)
        send_open(channel, channel->waiting);
}

static void on_down(void *arg, const char *why)
{
    struct mesh_channel *channel = arg;

    atomic_store(&channel->connected, false);
    channel->going = false;
    channel->down_since = channel->link.now_ns;
    for (uint32_t i = 0; i < channel->n_slots; i++) {
        if (channel->slots[i])
            end(channel, channel->slots[i], STATUS_UNAVAILABLE, false, why);
    }
}

static void on_going(void *arg)
{
    struct mesh_channel *channel = arg;

    channel->going = true;
    channel->down_since = channel->link.now_ns;
    atomic_store(&channel->connected, false);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void end_late_calls(struct mesh_channel *channel, int64_t now_ns)
{
    struct mesh_timer *timer;

    while ((timer = mesh_timers_pop(&channel->timers, now_ns)) != NULL) {
        struct mesh_stream *stream =
            (struct mesh_stream *)((char *)timer - offsetof(struct mesh_stream, timer));

        give_up(channel, stream, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    }
}

static void end_hopeless_calls(struct mesh_channel *channel)
{
    struct mesh_stream *next;

    if (!channel->waiting || !gives_no_hope(channel))
        return;
    for (struct mesh_stream *stream = channel->waiting; stream; stream = next) {
        next = stream->next_waiting;
        if (!stream->wait_for_ready)
            end(channel, stream, STATUS_UNAVAILABLE, false,
                "nobody answers at the channel's endpoint");
    }
}

static int64_t next_ns(const struct mesh_channel *channel)
{
    int64_t next = mesh_link_next_ns(&channel->link);
    int64_t timer = mesh_timers_next_ns(&channel->timers);
    int64_t hope = channel->down_since + FAIL_FAST_MS * NS_PER_MS;

    if (timer < next)
        next = timer;
    if (channel->waiting && hope > channel->link.now_ns && hope < next)
        next = hope;
    return next;
}

static void sleep_until(struct mesh_channel *channel, int64_t at_ns)
{
    struct pollfd fds[MESH_LINK_FDS + 1];
    int n = mesh_link_fds(&channel->link, fds);
    struct timespec timeout = {0};
    int64_t left = at_ns - clock_now_ns();

    fds[n++] = (struct pollfd){.fd = channel->mailbox.fd, .events = POLLIN};
    if (left > 0) {
        timeout.tv_sec = left / (1000 * NS_PER_MS);
        timeout.tv_nsec = left % (1000 * NS_PER_MS);
    }
    if (!mesh_mailbox_may_sleep(&channel->mailbox))
        return;
    if (!atomic_load(&channel->stopping) && !mesh_link_pending(&channel->link))
        ppoll(fds, (nfds_t)n, at_ns == MESH_NEVER ? NULL : &timeout, NULL);
    mesh_mailbox_awake(&channel->mailbox);
    mesh_link_polled(&channel->link, fds);
}

static bool step(struct mesh_channel *channel)
{
    int64_t now = clock_now_ns();
    bool busy;

    channel->link.now_ns = now;
    busy = handle_posts(channel);
    busy |= mesh_link_step(&channel->link, now);
    end_late_calls(channel, now);
    end_hopeless_calls(channel);
    if (channel->going && channel->n_open == 0)
        mesh_link_restart(&channel->link);
    return busy;
}

static void end_all(struct mesh_channel *channel)
{
    while (channel->waiting)
        end(channel, channel->waiting, STATUS_CANCELLED, false, "the channel was destroyed");
    for (uint32_t i = 0; i < channel->n_slots; i++) {
        if (channel->slots[i])
            give_up(channel, channel->slots[i], STATUS_CANCELLED, "the channel was destroyed");
    }
}

static void *run(void *arg)
{
    struct mesh_channel *channel = arg;

    pthread_setname_np(pthread_self(), "mesh-channel");
    while (!atomic_load(&channel->stopping)) {
        if (!step(channel))
            sleep_until(channel, next_ns(channel));
    }
    end_all(channel);
    while (handle_posts(channel))
        ;
    mesh_link_fini(&channel->link, BYE_LINGER_MS);
    return NULL;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static void free_channel(struct mesh_channel *channel)
{
    mesh_mailbox_fini(&channel->mailbox);
    mesh_timers_fini(&channel->timers);
    if (channel->own_context && channel->context)
        zmq_ctx_term(channel->context);
    free(channel->slots);
    free(channel->free_slots);
    free(channel->endpoint);
    free(channel->name);
    free(channel);
}

static int start_thread(struct mesh_channel *channel)
{
    sigset_t all, before;
    int err;

    /* Signals are the application's threads'. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&channel->thread, NULL, run, channel);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

int mesh_channel_create(const struct mesh_channel_options *options, struct mesh_channel **out)
{
    static const struct mesh_link_handler handler = {
        .up = on_up, .down = on_down, .going = on_going, .frame = on_frame};
    size_t max =
        options->max_message_bytes ? options->max_message_bytes : MESH_MESSAGE_BYTES_DEFAULT;
    struct mesh_channel *channel;
    int err = -ENOMEM;

    if (!mesh_endpoint_is_valid(options->endpoint, options->context))
        return -EINVAL;
    channel = calloc(1, sizeof(*channel));
    if (!channel)
        return -ENOMEM;
    channel->mailbox.fd = -1;
    if (mesh_interceptors_init(&channel->interceptors, options->interceptors,
                               options->n_interceptors) < 0) {
        free(channel);
        return -EINVAL;
    }
    channel->endpoint = strdup(options->endpoint);
    channel->name = strdup(options->name ? options->name : "");
    channel->own_context = !options->context;
    channel->context = options->context ? options->context : zmq_ctx_new();
    channel->down_since = clock_now_ns();
    channel->late_frames =
        metrics_counter("mesh_late_frames_total", "Frames for calls that were over already", NULL);
    atomic_init(&channel->message_max, max);
    if (!channel->endpoint || !channel->name || !channel->context)
        goto fail;
    mesh_link_init(&channel->link,
                   &(struct mesh_link_options){.context = channel->context,
                                               .endpoint = channel->endpoint,
                                               .name = channel->name,
                                               .max_message_bytes = max,
                                               .heartbeat_ms = options->heartbeat_ms},
                   &handler, channel);
    err = mesh_mailbox_init(&channel->mailbox);
    if (err == 0)
        err = start_thread(channel);
    if (err < 0)
        goto fail;
    *out = channel;
    return 0;
fail:
    free_channel(channel);
    return err;
}

void mesh_channel_destroy(struct mesh_channel **channel)
{
    if (!*channel)
        return;
    atomic_store(&(*channel)->stopping, true);
    mesh_mailbox_ring(&(*channel)->mailbox);
    pthread_join((*channel)->thread, NULL);
    free_channel(*channel);
    *channel = NULL;
}
