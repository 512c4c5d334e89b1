#include "mesh/driver.h"

#include "base/clock.h"
#include "mesh/channel_calls.h"

#include <signal.h>
#include <stdlib.h>

#define NS_PER_MS INT64_C(1000000)
#define BYE_LINGER_MS 200
#define FREE_NS (5 * NS_PER_MS) /* how long the role may be nobody's */
#define ALONE_MIN 4             /* rounds with a single call before its thread gets the role */

/* ---- what the application's threads ask for -------------------------------------------------- */

static void handle_post(struct mesh_channel *channel, struct stream_post *note)
{
    struct mesh_stream *stream = note->stream;

    switch ((enum stream_post_kind)note->post.kind) {
    case POST_OPEN:
        mesh_calls_open(channel, stream);
        return; /* the post's reference is the channel's now */
    case POST_SEND:
        mesh_session_send(stream, &((struct stream_send *)note)->message);
        free(note);
        break;
    case POST_CREDIT:
        mesh_session_credit(stream);
        break;
    case POST_CANCEL:
        mesh_calls_cancelled(channel, stream);
        break;
    }
    mesh_stream_release(stream);
}

/* Whether handling it may call the application's functions. */
static bool calls_back(const struct mesh_post *post)
{
    return post->kind == POST_OPEN && ((const struct stream_post *)post)->stream->done;
}

/* In order; from the first that is not for this thread on they wait for the channel's own. */
static void handle_list(struct mesh_channel *channel, struct mesh_post *post, bool own)
{
    while (post && (own || !calls_back(post))) {
        struct mesh_post *next = post->next;

        handle_post(channel, (struct stream_post *)post);
        post = next;
    }
    channel->driver.deferred = post;
}

static void handle_posts(struct mesh_channel *channel, bool own)
{
    handle_list(channel, channel->driver.deferred, own);
    if (!channel->driver.deferred)
        handle_list(channel, mesh_mailbox_take(&channel->mailbox), own);
}

/* ---- one round ------------------------------------------------------------------------------- */

static void send_off(struct mesh_channel *channel)
{
    for (size_t i = 0; i < channel->n_sessions; i++)
        mesh_link_flush(&channel->sessions[i].link);
}

/* @return whether messages came, and there may be more */
static bool step(struct mesh_channel *channel, bool own)
{
    bool busy = false;

    channel->now_ns = clock_now_ns();
    for (size_t i = 0; i < channel->n_sessions; i++)
        channel->sessions[i].link.now_ns = channel->now_ns;
    handle_posts(channel, own);
    mesh_calls_step(channel);
    send_off(
        channel); /* before receiving, which then notices an edge of the descriptor that sending took */
    for (size_t i = 0; i < channel->n_sessions; i++)
        busy |= mesh_session_step(&channel->sessions[i], channel->now_ns);
    return busy;
}

static int64_t next_ns(const struct mesh_channel *channel)
{
    int64_t next = mesh_calls_next_ns(channel);

    for (size_t i = 0; i < channel->n_sessions; i++) {
        int64_t link = mesh_link_next_ns(&channel->sessions[i].link);

        if (link < next)
            next = link;
    }
    return next;
}

static bool is_pending(struct mesh_channel *channel)
{
    bool pending = atomic_load(&channel->stopping);

    for (size_t i = 0; i < channel->n_sessions; i++)
        pending |= mesh_link_pending(&channel->sessions[i].link);
    return pending;
}

static struct timespec time_left(int64_t at_ns)
{
    int64_t left = at_ns - clock_now_ns();

    if (left < 0)
        left = 0;
    return (struct timespec){.tv_sec = left / (1000 * NS_PER_MS),
                             .tv_nsec = left % (1000 * NS_PER_MS)};
}

/* Wait for what the links' descriptors say, or for post. */
static void wait_for_news(struct mesh_channel *channel, int64_t at_ns)
{
    struct pollfd fds[2 * MESH_ENDPOINTS_MAX * MESH_LINK_FDS + 1] = {
        {.fd = channel->mailbox.fd, .events = POLLIN}};
    struct timespec timeout = time_left(at_ns);
    int n = 1;

    for (size_t i = 0; i < channel->n_sessions; i++)
        n += mesh_link_fds(&channel->sessions[i].link, fds + n);
    ppoll(fds, (nfds_t)n, at_ns == MESH_NEVER ? NULL : &timeout, NULL);
    n = 1;
    for (size_t i = 0; i < channel->n_sessions; i++)
        n += mesh_link_polled(&channel->sessions[i].link, fds + n);
}

static void sleep_until(struct mesh_channel *channel, int64_t at_ns)
{
    if (!mesh_mailbox_may_sleep(&channel->mailbox))
        return;
    if (!is_pending(channel))
        wait_for_news(channel, at_ns);
    mesh_mailbox_awake(&channel->mailbox);
}

/* ---- the role -------------------------------------------------------------------------------- */

/* Calls that whoever waits for this one would leave behind. */
static bool others_under_way(const struct mesh_channel *channel, const struct mesh_stream *stream)
{
    size_t n = channel->delays.count;

    for (size_t i = 0; i < channel->n_sessions; i++)
        n += channel->sessions[i].slots.n_used;
    return channel->waiting || n > (stream->place == PLACE_OPEN ? 1u : 0u);
}

static void let_go(struct mesh_channel *channel, bool needed)
{
    struct mesh_driver *driver = &channel->driver;

    send_off(channel);
    pthread_mutex_lock(&driver->lock);
    driver->left_at = channel->now_ns;
    atomic_store(&driver->held, false);
    driver->needed |= needed || mesh_mailbox_has_post(&channel->mailbox);
    if (driver->needed || driver->long_waiter || atomic_load(&channel->stopping))
        pthread_cond_signal(&driver->free);
    pthread_mutex_unlock(&driver->lock);
}

void mesh_driver_attend(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;

    if (atomic_load(&driver->held))
        return;
    pthread_mutex_lock(&driver->lock);
    if (!atomic_load(&driver->held)) {
        driver->needed = true;
        pthread_cond_signal(&driver->free);
    }
    pthread_mutex_unlock(&driver->lock);
}

bool mesh_driver_take(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;
    bool taken;

    if (atomic_load(&driver->held) || atomic_load(&driver->n_callbacks) > 0)
        return false;
    pthread_mutex_lock(&driver->lock);
    taken = !atomic_load(&driver->held) && !atomic_load(&channel->stopping);
    if (taken)
        atomic_store(&driver->held, true);
    pthread_mutex_unlock(&driver->lock);
    return taken;
}

static bool is_as_it_should_be(struct mesh_stream *stream,
                               bool (*can)(const struct mesh_stream *stream))
{
    bool it_is;

    pthread_mutex_lock(&stream->lock);
    it_is = can(stream);
    pthread_mutex_unlock(&stream->lock);
    return it_is;
}

/* Whether an application's thread must not go on driving. */
static bool must_leave(const struct mesh_channel *channel)
{
    return atomic_load(&channel->stopping) || channel->driver.deferred ||
           atomic_load(&channel->driver.n_callbacks) > 0;
}

void mesh_driver_lead(struct mesh_channel *channel, struct mesh_stream *stream,
                      bool (*can)(const struct mesh_stream *stream), int64_t until)
{
    bool leave = false;

    for (bool busy = true; !leave;) {
        if (!busy) {
            int64_t next = next_ns(channel);

            sleep_until(channel, next < until ? next : until);
        }
        busy = step(channel, false);
        leave = is_as_it_should_be(stream, can) || channel->now_ns >= until || must_leave(channel);
    }
    let_go(channel, must_leave(channel) || others_under_way(channel, stream));
}

/* ---- the channel's own thread ---------------------------------------------------------------- */

/* Under the driver's lock: until somebody lets go of the role, or for as long as it may be nobody's. */
static void wait_for_role(struct mesh_driver *driver, int64_t *seen)
{
    int64_t at = clock_now_ns() + FREE_NS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};

    if (atomic_load(&driver->held) && *seen == driver->left_at) { /* somebody's, for longer */
        driver->long_waiter = true;
        pthread_cond_wait(&driver->free, &driver->lock);
        driver->long_waiter = false;
    } else {
        *seen = driver->left_at;
        pthread_cond_timedwait(&driver->free, &driver->lock, &until);
    }
}

static void take_in_background(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;
    int64_t seen = -1;

    pthread_mutex_lock(&driver->lock);
    while (atomic_load(&driver->held) || (!atomic_load(&channel->stopping) && !driver->needed &&
                                          clock_now_ns() - driver->left_at < FREE_NS))
        wait_for_role(driver, &seen);
    atomic_store(&driver->held, true);
    driver->needed = false;
    pthread_mutex_unlock(&driver->lock);
}

/*
 * The only call under way has a thread that waits for it, and so had those before: let it drive.
 * @return whether the role is free now
 */
static bool hand_over(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;
    struct mesh_stream *stream = driver->last;
    bool waits;

    if (stream ? others_under_way(channel, stream) : channel->waiting != NULL)
        driver->n_alone = 0;
    else if (driver->n_alone < ALONE_MIN)
        driver->n_alone++;
    if (driver->n_alone < ALONE_MIN || !stream || stream->place != PLACE_OPEN ||
        must_leave(channel))
        return false;
    mesh_stream_hold(stream);
    pthread_mutex_lock(&stream->lock);
    waits = stream->n_waiters > 0;
    if (waits) {
        let_go(channel, false);
        pthread_cond_broadcast(&stream->changed);
    }
    pthread_mutex_unlock(&stream->lock);
    mesh_stream_release(stream);
    return waits;
}

/* Until it has handed the role over, or the channel ends. */
static void drive(struct mesh_channel *channel)
{
    while (!atomic_load(&channel->stopping)) {
        bool busy = step(channel, true);

        if (hand_over(channel)) {
            take_in_background(channel);
            continue;
        }
        if (!busy)
            sleep_until(channel, next_ns(channel));
    }
}

static void *run(void *arg)
{
    struct mesh_channel *channel = arg;
    const struct mesh_driver *driver = &channel->driver;

    pthread_setname_np(pthread_self(), "mesh-channel");
    take_in_background(channel);
    drive(channel);
    mesh_calls_end_all(channel);
    while (mesh_mailbox_has_post(&channel->mailbox) || driver->deferred)
        handle_posts(channel, true);
    for (size_t i = 0; i < 2 * channel->endpoints.count; i++)
        mesh_session_fini(&channel->sessions[i], BYE_LINGER_MS);
    return NULL;
}

int mesh_driver_start(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;
    pthread_condattr_t clock;
    sigset_t all, before;
    int err;

    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&driver->lock, NULL);
    pthread_cond_init(&driver->free, &clock);
    pthread_condattr_destroy(&clock);
    driver->needed = true; /* there is a connection to make */
    /* Signals are the application's threads'. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&channel->thread, NULL, run, channel);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0) {
        pthread_cond_destroy(&driver->free);
        pthread_mutex_destroy(&driver->lock);
    }
    return -err;
}

void mesh_driver_stop(struct mesh_channel *channel)
{
    struct mesh_driver *driver = &channel->driver;

    atomic_store(&channel->stopping, true);
    mesh_mailbox_ring(&channel->mailbox); /* whoever drives */
    pthread_mutex_lock(&driver->lock);
    pthread_cond_signal(&driver->free);
    pthread_mutex_unlock(&driver->lock);
    pthread_join(channel->thread, NULL);
    pthread_cond_destroy(&driver->free);
    pthread_mutex_destroy(&driver->lock);
}
