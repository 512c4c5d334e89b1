#include "mesh/channel_calls.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mesh_driver *mesh_channel_driver(struct mesh_channel *channel)
{
    return &channel->driver;
}

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

    for (size_t i = 0; i < 2 * channel->endpoints.count && !trouble; i++)
        trouble = channel->sessions[i].link.trouble;
    return trouble;
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

static int add_sessions(struct mesh_channel *channel, const struct mesh_channel_options *options)
{
    struct mesh_link_options link = {
        .context = channel->context,
        .name = channel->name,
        .max_message_bytes = channel->message_max_wish,
        .heartbeat_ms = options->heartbeat_ms,
        .security = options->security,
    };
    unsigned n = (unsigned)channel->endpoints.count;

    channel->n_sessions = n;
    channel->sessions = calloc((size_t)2 * n, sizeof(*channel->sessions));
    if (!channel->sessions)
        return -ENOMEM;
    for (unsigned i = 0; i < 2 * n; i++) {
        link.endpoint = channel->endpoints.at[i % n];
        mesh_session_init(&channel->sessions[i], channel, i % n, &link);
        if (i >= n)
            mesh_link_rest(&channel->sessions[i].link);
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
    channel->turns =
        metrics_counter("mesh_session_turns_total",
                        "Sessions that another took the place of, as the peer asked", NULL);
    if (!channel->name || !channel->context)
        return -ENOMEM;
    err = add_sessions(channel, options);
    if (err == 0)
        err = mesh_mailbox_init(&channel->mailbox);
    return err < 0 ? err : mesh_driver_start(channel);
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
    mesh_driver_stop(*channel);
    free_channel(*channel);
    *channel = NULL;
}
