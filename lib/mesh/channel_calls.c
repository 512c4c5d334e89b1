#include "mesh/channel_calls.h"

#include "mesh/meta.h"

#include <stddef.h>
#include <stdio.h>

#define NS_PER_MS INT64_C(1000000)
#define FAIL_FAST_MS 1000 /* how long a call that does not wait gives a connection to come */
#define RESENDS_MAX 8     /* of a call that no handler has seen */

/* ---- waiting for a session ------------------------------------------------------------------- */

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
    stream->place = PLACE_NONE;
}

/* Out of whatever it is in. */
static void take_out(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (stream->place == PLACE_WAITING)
        stop_waiting(channel, stream);
    mesh_session_leave(stream);
    mesh_timer_cancel(&channel->delays, &stream->again);
    stream->place = PLACE_NONE;
}

/* By everyone: that is not a matter of patience. */
static bool turned_away(const struct mesh_channel *channel)
{
    for (size_t i = 0; i < channel->n_sessions; i++)
        if (!channel->sessions[i].link.turned_away &&
            channel->sessions[i].link.state != LINK_RESTING)
            return false;
    return true;
}

static bool gives_no_hope(const struct mesh_channel *channel)
{
    return atomic_load(&channel->n_taking) == 0 &&
           (channel->now_ns - channel->down_since >= FAIL_FAST_MS * NS_PER_MS ||
            turned_away(channel));
}

static const char *why_nobody(const struct mesh_channel *channel)
{
    const char *trouble = mesh_channel_trouble(channel);

    return trouble ? trouble : "nobody answers at the channel's endpoint";
}

/* ---- the end --------------------------------------------------------------------------------- */

void mesh_calls_drop_request(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (stream->kept_bytes == 0)
        return;
    channel->kept_bytes -= stream->kept_bytes;
    stream->kept_bytes = 0;
    mesh_message_close(&stream->open);
    zmq_msg_init(&stream->open.first);
}

/* The channel lets go of it. */
static void forget(struct mesh_channel *channel, struct mesh_stream *stream)
{
    take_out(channel, stream);
    if (channel->driver.last == stream)
        channel->driver.last = NULL;
    mesh_timer_cancel(&channel->deadlines, &stream->timer);
    mesh_calls_drop_request(channel, stream);
    stream->place = PLACE_GONE;
    mesh_stream_release(stream);
}

/* The answer of a call without a thread that waits for it. */
static void complete(struct mesh_channel *channel, struct mesh_stream *stream)
{
    struct status status;
    ProtobufCMessage *response = mesh_stream_response(stream, &status);

    stream->done(stream->done_arg, &status, response);
    atomic_fetch_sub(&channel->driver.n_callbacks, 1);
    mesh_stream_release(stream);
}

/* After it has ended, by whomever. */
static void conclude(struct mesh_channel *channel, struct mesh_stream *stream)
{
    mesh_stream_wake(stream);
    if (stream->done)
        complete(channel, stream);
    forget(channel, stream);
}

void mesh_calls_end(struct mesh_channel *channel, struct mesh_stream *stream,
                    const struct status *status, bool drop_unread)
{
    mesh_stream_end(stream, status, drop_unread);
    conclude(channel, stream);
}

static void end(struct mesh_channel *channel, struct mesh_stream *stream, enum status_code code,
                const char *message)
{
    struct status status;

    status_set(&status, code, "%s", message);
    mesh_calls_end(channel, stream, &status, false);
}

void mesh_calls_give_up(struct mesh_channel *channel, struct mesh_stream *stream,
                        enum status_code code, const char *message)
{
    struct status status;

    mesh_session_cancel(stream, code == STATUS_DEADLINE_EXCEEDED ? STATUS_DEADLINE_EXCEEDED
                                                                 : STATUS_CANCELLED);
    status_set(&status, code, "%s", message);
    mesh_calls_end(channel, stream, &status, true);
}

void mesh_calls_cancelled(struct mesh_channel *channel, struct mesh_stream *stream)
{
    if (stream->place == PLACE_GONE)
        return;
    mesh_session_cancel(stream, STATUS_CANCELLED);
    conclude(channel, stream);
}

/* ---- which session --------------------------------------------------------------------------- */

static size_t collect(const struct mesh_channel *channel, unsigned avoid,
                      struct mesh_session **found)
{
    size_t n = 0;

    for (size_t i = 0; i < channel->n_sessions; i++) {
        struct mesh_session *session = &channel->sessions[i];

        if (mesh_session_takes_calls(session) && !(avoid & 1u << session->number))
            found[n++] = session;
    }
    return n;
}

/* Of two at random the one with fewer calls under way. `avoid`: a bit for each session that was tried. */
static struct mesh_session *pick(const struct mesh_channel *channel, unsigned avoid)
{
    struct mesh_session *found[2 * MESH_ENDPOINTS_MAX];
    size_t n = collect(channel, avoid, found);
    size_t one, other;

    if (n < 2)
        return n == 1 ? found[0] : NULL;
    one = mesh_random() % n;
    other = (one + 1 + mesh_random() % (n - 1)) % n;
    return found[other]->slots.n_used < found[one]->slots.n_used ? found[other] : found[one];
}

/* One that has not failed it yet, if there is. */
static struct mesh_session *pick_for(const struct mesh_channel *channel,
                                     const struct mesh_stream *stream)
{
    struct mesh_session *session = pick(channel, stream->tried);

    return session || stream->tried == 0 ? session : pick(channel, 0);
}

/* ---- sending --------------------------------------------------------------------------------- */

static void send_open(struct mesh_channel *channel, struct mesh_stream *stream,
                      struct mesh_session *session)
{
    int err = mesh_session_open(session, stream);

    if (err == -ENOBUFS)
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, "too many calls on this channel");
    else if (err < 0)
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, "no memory for a call");
}

static void dispatch(struct mesh_channel *channel, struct mesh_stream *stream)
{
    struct mesh_session *session = pick_for(channel, stream);

    if (session)
        send_open(channel, stream, session);
    else if (!stream->wait_for_ready && gives_no_hope(channel))
        end(channel, stream, STATUS_UNAVAILABLE, why_nobody(channel));
    else
        wait_for_session(channel, stream);
}

void mesh_calls_open(struct mesh_channel *channel, struct mesh_stream *stream)
{
    channel->driver.last = stream;
    if (mesh_stream_status(stream, NULL)) /* cancelled or refused before it began */
        conclude(channel, stream);
    else if (atomic_load(&channel->stopping))
        end(channel, stream, STATUS_CANCELLED, "the channel was destroyed");
    else if (stream->deadline_ns != MESH_NEVER &&
             mesh_timer_set(&channel->deadlines, &stream->timer, stream->deadline_ns) < 0)
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, "no memory for a deadline");
    else
        dispatch(channel, stream);
}

void mesh_calls_resume(struct mesh_channel *channel)
{
    struct mesh_session *session;

    while (channel->waiting && (session = pick_for(channel, channel->waiting)) != NULL) {
        struct mesh_stream *stream = channel->waiting;

        stop_waiting(channel, stream);
        send_open(channel, stream, session);
    }
}

/* ---- again ----------------------------------------------------------------------------------- */

/* Whether another session may do what this one has not. */
static bool elsewhere(const struct mesh_channel *channel, const struct mesh_stream *stream)
{
    return pick(channel, stream->tried) != NULL;
}

/* No handler has seen it: somewhere else it may still go well. */
static bool may_resend(const struct mesh_channel *channel, const struct mesh_stream *stream,
                       enum status_code code, enum call_fate fate)
{
    if (stream->resends >= RESENDS_MAX)
        return false;
    if (fate == FATE_UNWRITTEN || fate == FATE_UNSEEN)
        return true;
    if (fate != FATE_UNPROCESSED || stream->accepted)
        return false;
    if (code == STATUS_UNAVAILABLE && stream->session->going)
        return true; /* OPEN and GOAWAY have crossed */
    return (code == STATUS_UNAVAILABLE || code == STATUS_RESOURCE_EXHAUSTED ||
            code == STATUS_UNIMPLEMENTED) &&
           elsewhere(channel, stream);
}

/* It may have run. A lost session costs no token: what it did not do, another does instead. */
static bool may_retry(struct mesh_channel *channel, const struct mesh_stream *stream,
                      const struct status *status, enum call_fate fate, int64_t *delay_ns)
{
    struct mesh_retry *retry = &channel->retry;
    uint32_t attempt = stream->seen.attempt;

    if (!stream->idempotent)
        return false;
    if (fate == FATE_LOST && elsewhere(channel, stream))
        return mesh_retry_may(retry, status->code, attempt);
    return mesh_retry_next(retry, status, attempt, channel->now_ns, stream->deadline_ns, delay_ns);
}

/* As if nothing had been sent: nothing has come. Under the lock. */
static void start_over(struct mesh_stream *stream, const struct status *status,
                       enum mesh_attempt_next next, int64_t delay_ns)
{
    mesh_stream_attempt_end(stream, status, next, delay_ns / NS_PER_MS);
    stream->flow.out = (struct mesh_credit_out){0};
    if (next == MESH_RETRY)
        stream->seen.attempt++;
    else
        stream->resends++;
}

static enum mesh_attempt_next what_next(struct mesh_channel *channel, struct mesh_stream *stream,
                                        const struct status *status, enum call_fate fate,
                                        int64_t *delay_ns)
{
    enum mesh_attempt_next next = MESH_LAST;

    if (stream->kept_bytes == 0)
        return MESH_LAST;
    pthread_mutex_lock(&stream->lock);
    if (!stream->over && !stream->committed) {
        if (may_resend(channel, stream, status->code, fate))
            next = MESH_RESEND;
        else if (may_retry(channel, stream, status, fate, delay_ns))
            next = MESH_RETRY;
    }
    if (next != MESH_LAST)
        start_over(stream, status, next, *delay_ns);
    pthread_mutex_unlock(&stream->lock);
    return next;
}

bool mesh_calls_try_again(struct mesh_channel *channel, struct mesh_stream *stream,
                          const struct status *status, enum call_fate fate)
{
    int64_t delay_ns = 0;
    enum mesh_attempt_next next = what_next(channel, stream, status, fate, &delay_ns);

    if (next == MESH_LAST)
        return false;
    if (next == MESH_RETRY)
        stream->tried = 1u << stream->session->number;
    take_out(channel, stream);
    if (delay_ns == 0) {
        dispatch(channel, stream);
        return true;
    }
    stream->place = PLACE_DELAYED;
    if (mesh_timer_set(&channel->delays, &stream->again, channel->now_ns + delay_ns) < 0)
        end(channel, stream, STATUS_RESOURCE_EXHAUSTED, "no memory for a retry");
    return true;
}

/* ---- time ------------------------------------------------------------------------------------ */

static void end_late_calls(struct mesh_channel *channel)
{
    struct mesh_timer *timer;

    while ((timer = mesh_timers_pop(&channel->deadlines, channel->now_ns)) != NULL) {
        struct mesh_stream *stream =
            (struct mesh_stream *)((char *)timer - offsetof(struct mesh_stream, timer));

        const char *trouble = stream->place == PLACE_WAITING ? mesh_channel_trouble(channel) : NULL;
        char why[STATUS_MESSAGE_MAX];

        snprintf(why, sizeof(why), "the deadline has passed%s%s", trouble ? ": " : "",
                 trouble ? trouble : "");
        mesh_calls_give_up(channel, stream, STATUS_DEADLINE_EXCEEDED, why);
    }
}

static void send_delayed_calls(struct mesh_channel *channel)
{
    struct mesh_timer *timer;

    while ((timer = mesh_timers_pop(&channel->delays, channel->now_ns)) != NULL) {
        struct mesh_stream *stream =
            (struct mesh_stream *)((char *)timer - offsetof(struct mesh_stream, again));

        stream->place = PLACE_NONE;
        dispatch(channel, stream);
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
            end(channel, stream, STATUS_UNAVAILABLE, why_nobody(channel));
    }
}

void mesh_calls_step(struct mesh_channel *channel)
{
    end_late_calls(channel);
    send_delayed_calls(channel);
    end_hopeless_calls(channel);
}

int64_t mesh_calls_next_ns(const struct mesh_channel *channel)
{
    int64_t next = mesh_timers_next_ns(&channel->deadlines);
    int64_t delay = mesh_timers_next_ns(&channel->delays);
    int64_t hope = channel->down_since + FAIL_FAST_MS * NS_PER_MS;

    if (delay < next)
        next = delay;
    if (channel->waiting && hope > channel->now_ns && hope < next)
        next = hope;
    return next;
}

void mesh_calls_end_all(struct mesh_channel *channel)
{
    static const char why[] = "the channel was destroyed";

    while (channel->waiting)
        end(channel, channel->waiting, STATUS_CANCELLED, why);
    while (channel->delays.count > 0) {
        struct mesh_timer *timer = mesh_timers_pop(&channel->delays, MESH_NEVER);

        end(channel, (struct mesh_stream *)((char *)timer - offsetof(struct mesh_stream, again)),
            STATUS_CANCELLED, why);
    }
    for (size_t n = 0; n < channel->n_sessions; n++) {
        const struct mesh_slots *slots = &channel->sessions[n].slots;

        for (uint32_t i = 0; i < slots->n; i++) {
            if (slots->all[i].call)
                mesh_calls_give_up(channel, slots->all[i].call, STATUS_CANCELLED, why);
        }
    }
}
