#include "base/clock.h"
#include "mesh/server_state.h"

#define LINGER_MS 500
#define FDS_MAX (MESH_ENDPOINTS_MAX * MESH_LINK_FDS + 1)

_Static_assert(MESH_PEERS_FDS <= MESH_LINK_FDS, "room for either side's descriptors");

/* ---- work ------------------------------------------------------------------------------------ */

/* Their ENDs lie in the mailbox after this. */
static void run_quick(struct mesh_server *server)
{
    struct mesh_job *job = server->quick;

    server->quick = NULL;
    server->quick_last = &server->quick;
    while (job) {
        struct mesh_job *next = job->next;

        mesh_call_run(job);
        job = next;
    }
}

static void hand_out(struct mesh_server *server)
{
    struct mesh_job *jobs = server->fresh;

    server->fresh = NULL;
    server->fresh_last = &server->fresh;
    mesh_pool_add(server->pool, jobs);
}

void server_begin_drain(struct mesh_server *server)
{
    if (server->draining)
        return;
    server->draining = true;
    atomic_store(&server->ready, false);
    server->callers_until = server->now_ns + PARTING_MS * NS_PER_MS;
    if (server->peers) {
        mesh_peers_goaway(server->peers);
        server_health_tell_all(server);
    }
}

/* Callers leave on GOAWAY as their calls end: after their BYE no OPEN of theirs is under way. */
static bool callers_stay(const struct mesh_server *server)
{
    return server->peers && mesh_peers_count(server->peers) > 0 &&
           server->now_ns < server->callers_until;
}

/* A worker is done when its brokers say so: until then an OPEN may be under way. */
static void look_at_drain(struct mesh_server *server)
{
    if (!server->draining || !server_brokers_drained(server) || server->n_calls > 0 ||
        callers_stay(server))
        return;
    pthread_mutex_lock(&server->lock);
    server->drained = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* What this step had to say. */
static void flush(struct mesh_server *server)
{
    if (server->peers)
        mesh_peers_flush(server->peers);
    for (size_t i = 0; i < server->n_brokers; i++)
        mesh_link_flush(&server->brokers[i].link);
}

static bool step(struct mesh_server *server)
{
    int64_t now = server->now_ns = clock_now_ns();
    bool busy;

    for (size_t i = 0; i < server->n_brokers; i++)
        server->brokers[i].link.now_ns = now;
    busy = server_calls_post(server);
    busy |= server->peers ? mesh_peers_step(server->peers, now) : server_brokers_step(server);
    hand_out(server);
    run_quick(server);
    busy |= server_calls_post(server);
    flush(server);
    server_cancel_late_calls(server, now);
    server_brokers_share(server);
    look_at_drain(server);
    return busy;
}

/* ---- sleep ----------------------------------------------------------------------------------- */

static int collect_fds(const struct mesh_server *server, struct pollfd *fds)
{
    int n = 0;

    if (server->peers)
        return mesh_peers_fds(server->peers, fds);
    for (size_t i = 0; i < server->n_brokers; i++)
        n += mesh_link_fds(&server->brokers[i].link, &fds[n]);
    return n;
}

static void polled(struct mesh_server *server, const struct pollfd *fds)
{
    if (server->peers)
        mesh_peers_polled(server->peers, fds);
    for (size_t i = 0; i < server->n_brokers; i++)
        fds += mesh_link_polled(&server->brokers[i].link, fds);
}

static bool pending(struct mesh_server *server)
{
    bool any = server->peers && mesh_peers_pending(server->peers);

    for (size_t i = 0; i < server->n_brokers && !any; i++)
        any = mesh_link_pending(&server->brokers[i].link);
    return any;
}

static int64_t next_ns(const struct mesh_server *server)
{
    int64_t next = mesh_timers_next_ns(&server->timers);
    int64_t at = server->peers ? mesh_peers_next_ns(server->peers) : MESH_NEVER;

    next = at < next ? at : next;
    if (server->draining && callers_stay(server) && server->callers_until < next)
        next = server->callers_until;
    if (server->n_brokers > 1 && !server->draining && server->share_at < next)
        next = server->share_at;
    for (size_t i = 0; i < server->n_brokers; i++) {
        at = mesh_link_next_ns(&server->brokers[i].link);
        next = at < next ? at : next;
    }
    return next;
}

/* @param unless  set: there is no time to sleep; NULL: there is */
static void sleep_until(struct mesh_server *server, int64_t at_ns, atomic_bool *unless)
{
    struct pollfd fds[FDS_MAX];
    int64_t left = at_ns - clock_now_ns();
    struct timespec timeout = {0};

    if (left > 0) {
        timeout.tv_sec = left / (1000 * NS_PER_MS);
        timeout.tv_nsec = left % (1000 * NS_PER_MS);
    }
    if (!mesh_mailbox_may_sleep(&server->mailbox))
        return;
    if (!(unless && atomic_load(unless)) && !pending(server)) {
        int n = collect_fds(server, fds);

        fds[n++] = (struct pollfd){.fd = server->mailbox.fd, .events = POLLIN};
        ppoll(fds, (nfds_t)n, at_ns == MESH_NEVER ? NULL : &timeout, NULL);
        polled(server, fds);
    }
    mesh_mailbox_awake(&server->mailbox);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Handlers that are left are told to stop, and waited for. */
static void wind_up(struct mesh_server *server)
{
    server_begin_drain(server);
    server_health_end_all(server);
    for (size_t i = 0; i < SERVER_CALL_BUCKETS; i++) {
        for (struct mesh_call *call = server->calls[i], *next; call; call = next) {
            next = call->next_in_bucket;
            server_call_cancel(server, call, STATUS_UNAVAILABLE, "the server stops");
        }
    }
    while (server->n_calls > 0) {
        step(server);
        sleep_until(server, clock_now_ns() + 10 * NS_PER_MS, NULL);
    }
}

void *server_run(void *arg)
{
    struct mesh_server *server = arg;

    pthread_setname_np(pthread_self(), "mesh-server");
    while (!atomic_load(&server->stopping)) {
        if (!step(server))
            sleep_until(server, next_ns(server), &server->stopping);
    }
    wind_up(server);
    mesh_peers_destroy(&server->peers, LINGER_MS);
    server_brokers_fini(server, LINGER_MS);
    return NULL;
}
