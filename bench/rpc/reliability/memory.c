#include "bench/rpc/echo_service.h"
#include "bench/rpc/reliability/cases.h"
#include "bench/rpc/reliability/load.h"
#include "bench/rpc/reliability/stage.h"

#include <signal.h>
#include <stdlib.h>
#include <zmq.h>

#define IDLE_PEERS 2000
#define WORKERS 1000
#define QUEUED 10000
#define SOCKETS_MAX 20000

static const char *const PATIENT[] = {"--heartbeat-ms", "20000", "--queue-limit", "20000", NULL};

static void *roomy_context(void)
{
    void *context = zmq_ctx_new();

    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    return context;
}

static struct mesh_channel *caller(void *context, const char *endpoint)
{
    struct mesh_channel_options options = {
        .endpoint = endpoint, .name = "idle", .context = context};
    struct mesh_channel *channel = NULL;

    if (mesh_channel_create(&options, &channel) < 0)
        stage_die("cannot connect to '%s'", endpoint);
    return channel;
}

void case_idle(bool quick)
{
    pid_t broker = stage_broker("idle", PATIENT);
    void *context = roomy_context();
    int n = quick ? IDLE_PEERS / 4 : IDLE_PEERS;
    struct mesh_channel **channels = calloc((size_t)n, sizeof(struct mesh_channel *));
    size_t alone;

    stage_sleep_ms(300);
    alone = stage_resident(broker);
    for (int i = 0; i < n; i++)
        channels[i] = caller(context, stage_endpoint("idle", "front"));
    for (int i = 0; i < n; i++) {
        while (!mesh_channel_connected(channels[i]))
            stage_sleep_ms(1);
    }
    stage_sleep_ms(200);
    figure("idle_broker_mib", (double)alone / 1048576);
    figure("idle_peers", n);
    figure("idle_peer_kib", (double)(stage_resident(broker) - alone) / 1024 / n);
    for (int i = 0; i < n; i++)
        mesh_channel_destroy(&channels[i]);
    free(channels);
    zmq_ctx_term(context);
    stage_signal(broker, SIGKILL);
}

static struct mesh_server *one_worker(void *context, const char *endpoint)
{
    struct mesh_server_options options = {
        .endpoint = endpoint, .name = "one", .capacity = 1, .context = context};
    struct mesh_server *server = NULL;

    if (echo_service_start(&options, &server) < 0)
        exit(1);
    return server;
}

/* Calls that last until everything is torn down: one runs at each worker, the others wait. */
void case_queued(bool quick)
{
    pid_t broker = stage_broker("queued", PATIENT);
    void *context = roomy_context();
    int n = quick ? WORKERS / 4 : WORKERS, n_calls = quick ? QUEUED / 4 : QUEUED;
    struct mesh_server **servers = calloc((size_t)n, sizeof(struct mesh_server *));
    struct load_plan plan = {.in_flight = n + n_calls, .work_us = 60000000};
    double mib;
    size_t ended;
    struct load *load;

    for (int i = 0; i < n; i++)
        servers[i] = one_worker(context, stage_endpoint("queued", "back"));
    for (int i = 0; i < n; i++) {
        while (!mesh_server_ready(servers[i]))
            stage_sleep_ms(1);
    }
    plan.channel = stage_channel(stage_endpoint("queued", "front"));
    load = load_start(&plan);
    stage_sleep_ms(2000);
    mib = (double)stage_resident(broker) / 1048576;
    figure("queued_workers", n);
    figure("queued_calls", n_calls);
    figure("queued_mib", mib - (double)(n + n_calls) * 64 / 1048576);
    stage_signal(broker, SIGKILL);
    load_stop(load, &ended);
    load_free(load);
    mesh_channel_destroy(&plan.channel);
    for (int i = 0; i < n; i++)
        mesh_server_destroy(&servers[i]);
    free(servers);
    zmq_ctx_term(context);
}
