#include "base/clock.h"
#include "base/metrics.h"
#include "mesh/server_state.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct mesh_mailbox *mesh_server_mailbox(struct mesh_server *server)
{
    return &server->mailbox;
}

const struct mesh_interceptors *mesh_server_interceptors(const struct mesh_server *server)
{
    return &server->interceptors;
}

void mesh_server_set_load(struct mesh_server *server, float load)
{
    atomic_store(&server->load, load > 1 ? 1 : load > 0 ? load : 0);
}

float mesh_server_load(const struct mesh_server *server, bool call_ends)
{
    float said = atomic_load_explicit(&server->load, memory_order_relaxed);
    unsigned busy = atomic_load_explicit(&server->n_busy, memory_order_relaxed);
    float share;

    if (said <= 0 && server->endpoints.count < 2)
        return -1;
    busy -= call_ends && busy > 0;
    share = (float)busy / (float)server->options.capacity;
    share = share > 1 ? 1 : share;
    return share > said ? share : said;
}

int mesh_server_create(const struct mesh_server_options *options, struct mesh_server **out)
{
    struct mesh_interceptors interceptors;
    struct mesh_endpoints endpoints;
    struct mesh_server *server;
    pthread_condattr_t clock;
    int err = mesh_endpoints_parse(options->endpoint, options->context, &endpoints);

    if (err < 0)
        return err;
    err = mesh_interceptors_init(&interceptors, options->interceptors, options->n_interceptors);
    if (options->bind && endpoints.count > 1)
        err = -EINVAL;
    server = err == 0 ? calloc(1, sizeof(*server)) : NULL;
    if (!server) {
        mesh_endpoints_fini(&endpoints);
        return err < 0 ? err : -ENOMEM;
    }
    server->endpoints = endpoints;
    server->interceptors = interceptors;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, &clock);
    pthread_condattr_destroy(&clock);
    server->mailbox.fd = -1;
    server->fresh_last = &server->fresh;
    server->quick_last = &server->quick;
    server->options = *options;
    if (server->options.capacity == 0)
        server->options.capacity = 1;
    if (server->options.max_message_bytes == 0)
        server->options.max_message_bytes = MESH_MESSAGE_BYTES_DEFAULT;
    server->name = strdup(options->name ? options->name : "");
    server->own_context = !options->context;
    server->context = options->context ? options->context : zmq_ctx_new();
    server->late_frames =
        metrics_counter("mesh_late_frames_total", "Frames for calls that were over already", NULL);
    server->running =
        metrics_gauge("mesh_worker_outstanding", "Calls received and not ended", NULL);
    server->deaf = metrics_counter("mesh_cancel_ignored_total",
                                   "Handlers that ran on for 5 s after a cancel", NULL);
    if (!server->name || !server->context) {
        mesh_server_destroy(&server);
        return -ENOMEM;
    }
    *out = server;
    return 0;
}

static int start_threads(struct mesh_server *server)
{
    sigset_t all, before;
    int err = mesh_pool_create(server->options.capacity, mesh_call_run, &server->pool);

    if (err < 0)
        return err;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&server->thread, NULL, server_run, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    server->started = err == 0;
    return err;
}

int mesh_server_start(struct mesh_server *server)
{
    int err = mesh_mailbox_init(&server->mailbox);

    if (err < 0)
        return err;
    if (server->options.bind)
        err = server_callers_listen(server);
    else
        err = server_brokers_init(server);
    return err < 0 ? err : start_threads(server);
}

const char *mesh_server_endpoint(const struct mesh_server *server)
{
    return server->peers ? mesh_peers_endpoint(server->peers) : NULL;
}

bool mesh_server_ready(const struct mesh_server *server)
{
    return atomic_load(&server->ready);
}

const char *mesh_server_trouble(const struct mesh_server *server)
{
    const char *trouble = NULL;

    for (size_t i = 0; i < server->n_brokers && !trouble; i++)
        trouble = server->brokers[i].link.trouble;
    return trouble;
}

int mesh_server_drain(struct mesh_server *server, int64_t grace_ms)
{
    int64_t at = clock_now_ns() + grace_ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};
    bool drained;
    int err = 0;

    if (!server->started)
        return 0;
    pthread_mutex_lock(&server->lock);
    if (!server->drain_asked) {
        server->drain_asked = true;
        server->drain_post.post.kind = POST_DRAIN;
        mesh_mailbox_put(&server->mailbox, &server->drain_post.post);
    }
    while (!server->drained && err == 0)
        err = pthread_cond_timedwait(&server->changed, &server->lock, &until);
    drained = server->drained;
    pthread_mutex_unlock(&server->lock);
    return drained ? 0 : -ETIMEDOUT;
}

void mesh_server_destroy(struct mesh_server **server)
{
    struct mesh_server *self = *server;

    if (!self)
        return;
    if (self->started) {
        atomic_store(&self->stopping, true);
        mesh_mailbox_ring(&self->mailbox);
        pthread_join(self->thread, NULL);
    }
    mesh_pool_destroy(&self->pool);
    mesh_peers_destroy(&self->peers, 0); /* of one that did not start */
    server_brokers_fini(self, 0);
    mesh_mailbox_fini(&self->mailbox);
    mesh_timers_fini(&self->timers);
    if (self->own_context && self->context)
        zmq_ctx_term(self->context);
    server_offer_fini(self);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    mesh_endpoints_fini(&self->endpoints);
    free(self->name);
    free(self);
    *server = NULL;
}
