#include "mesh/channel_calls.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define BYE_LINGER_MS 200

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
    return atomic_load(&channel->n_taking) > 0;
}

const char *mesh_channel_trouble(const struct mesh_channel *channel)
{
    const char *trouble = NULL;

    for (size_t i = 0; i < channel->n_sessions && !trouble; i++)
        trouble = channel->sessions[i].link.trouble;
    return trouble;
}

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

/* ---- the thread ------------------------------------------------------------------------------ */

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
    bool pending = false;

    for (size_t i = 0; i < channel->n_sessions; i++)
        pending |= mesh_link_pending(&channel->sessions[i].link);
    return pending;
}

static void sleep_until(struct mesh_channel *channel, int64_t at_ns)
{
    struct pollfd fds[MESH_ENDPOINTS_MAX * MESH_LINK_FDS + 1] = {
        {.fd = channel->mailbox.fd, .events = POLLIN}};
    struct timespec timeout = {0};
    int64_t left = at_ns - clock_now_ns();
    int n = 1;

    for (size_t i = 0; i < channel->n_sessions; i++)
        n += mesh_link_fds(&channel->sessions[i].link, fds + n);
    if (left > 0) {
        timeout.tv_sec = left / (1000 * NS_PER_MS);
        timeout.tv_nsec = left % (1000 * NS_PER_MS);
    }
    if (!mesh_mailbox_may_sleep(&channel->mailbox))
        return;
    if (!atomic_load(&channel->stopping) && !is_pending(channel))
        ppoll(fds, (nfds_t)n, at_ns == MESH_NEVER ? NULL : &timeout, NULL);
    mesh_mailbox_awake(&channel->mailbox);
    n = 1;
    for (size_t i = 0; i < channel->n_sessions; i++) {
        mesh_link_polled(&channel->sessions[i].link, fds + n);
        n += channel->sessions[i].link.socket ? MESH_LINK_FDS : 0;
    }
}

static bool step(struct mesh_channel *channel)
{
    bool busy;

    channel->now_ns = clock_now_ns();
    for (size_t i = 0; i < channel->n_sessions; i++)
        channel->sessions[i].link.now_ns = channel->now_ns;
    busy = handle_posts(channel);
    for (size_t i = 0; i < channel->n_sessions; i++)
        busy |= mesh_session_step(&channel->sessions[i], channel->now_ns);
    mesh_calls_step(channel);
    return busy;
}

static void *run(void *arg)
{
    struct mesh_channel *channel = arg;

    pthread_setname_np(pthread_self(), "mesh-channel");
    while (!atomic_load(&channel->stopping)) {
        if (!step(channel))
            sleep_until(channel, next_ns(channel));
    }
    mesh_calls_end_all(channel);
    while (handle_posts(channel))
        ;
    for (size_t i = 0; i < channel->n_sessions; i++)
        mesh_session_fini(&channel->sessions[i], BYE_LINGER_MS);
    return NULL;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static void free_channel(struct mesh_channel *channel)
{
    mesh_mailbox_fini(&channel->mailbox);
    mesh_timers_fini(&channel->deadlines);
    mesh_timers_fini(&channel->delays);
    if (channel->own_context && channel->context)
        zmq_ctx_term(channel->context);
    mesh_endpoints_fini(&channel->endpoints);
    free(channel->sessions);
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

static int add_sessions(struct mesh_channel *channel, const struct mesh_channel_options *options)
{
    struct mesh_link_options link = {
        .context = channel->context,
        .name = channel->name,
        .max_message_bytes = channel->message_max_wish,
        .heartbeat_ms = options->heartbeat_ms,
        .security = options->security,
    };

    channel->n_sessions = channel->endpoints.count;
    channel->sessions = calloc(channel->n_sessions, sizeof(*channel->sessions));
    if (!channel->sessions)
        return -ENOMEM;
    for (unsigned i = 0; i < channel->n_sessions; i++) {
        link.endpoint = channel->endpoints.at[i];
        mesh_session_init(&channel->sessions[i], channel, i, &link);
    }
    return 0;
}

/* What the options say, before anything is made of it. */
static int take_options(struct mesh_channel *channel, const struct mesh_channel_options *options)
{
    int err = mesh_interceptors_init(&channel->interceptors, options->interceptors,
                                     options->n_interceptors);

    if (err == 0)
        err = mesh_retry_init(&channel->retry, options->retry);
    if (err == 0)
        err = mesh_endpoints_parse(options->endpoint, options->context, &channel->endpoints);
    channel->message_max_wish =
        options->max_message_bytes ? options->max_message_bytes : MESH_MESSAGE_BYTES_DEFAULT;
    atomic_init(&channel->message_max, channel->message_max_wish);
    return err;
}

static int start(struct mesh_channel *channel, const struct mesh_channel_options *options)
{
    int err = take_options(channel, options);

    if (err < 0)
        return err;
    channel->name = strdup(options->name ? options->name : "");
    channel->own_context = !options->context;
    channel->context = options->context ? options->context : zmq_ctx_new();
    channel->down_since = clock_now_ns();
    channel->late_frames =
        metrics_counter("mesh_late_frames_total", "Frames for calls that were over already", NULL);
    if (!channel->name || !channel->context)
        return -ENOMEM;
    err = add_sessions(channel, options);
    if (err == 0)
        err = mesh_mailbox_init(&channel->mailbox);
    return err < 0 ? err : start_thread(channel);
}

int mesh_channel_create(const struct mesh_channel_options *options, struct mesh_channel **out)
{
    struct mesh_channel *channel = calloc(1, sizeof(*channel));
    int err;

    if (!channel)
        return -ENOMEM;
    channel->mailbox.fd = -1;
    err = start(channel, options);
    if (err == 0)
        *out = channel;
    else
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
