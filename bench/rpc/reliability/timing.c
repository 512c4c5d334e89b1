#include "base/clock.h"
#include "bench/rpc/reliability/cases.h"
#include "bench/rpc/reliability/load.h"
#include "bench/rpc/reliability/stage.h"
#include "mesh/server.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

void case_deadline(bool quick)
{
    pid_t broker = stage_broker("deadline", NULL);
    pid_t worker = stage_worker(stage_endpoint("deadline", "back"), 64);
    struct mesh_channel *channel = stage_channel(stage_endpoint("deadline", "front"));
    struct mesh_call_options options = {.timeout_ms = 20};
    payload_message request = DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    struct samples late_ms = {0};
    int wrong = 0;

    request.work_us = 5000000;
    for (int i = 0; i < (quick ? 100 : 400); i++) {
        int64_t due_ns = clock_now_ns() + options.timeout_ms * 1000000;
        ProtobufCMessage *response = NULL;
        struct status status;

        mesh_unary(channel, ECHO, "Work", &request.base, &options, &response, &status);
        samples_add(&late_ms, (double)(clock_now_ns() - due_ns) * 1e-6);
        wrong += status.code != STATUS_DEADLINE_EXCEEDED;
    }
    figure("deadline_p50_ms", samples_quantile(&late_ms, 0.5));
    figure("deadline_p99_ms", samples_quantile(&late_ms, 0.99));
    figure("deadline_early_ms", -samples_quantile(&late_ms, 0));
    figure("deadline_wrong", wrong);
    samples_free(&late_ms);
    mesh_channel_destroy(&channel);
    stage_signal(worker, SIGKILL);
    stage_signal(broker, SIGKILL);
}

/* The worker of case_cancel lives in this process, so that one clock sees both ends. */
static struct {
    atomic_int waiting;
    atomic_llong seen_ns;
} handler;

static void wait__work(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                       Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    (void)self;
    (void)request;
    atomic_store(&handler.waiting, 1);
    while (!mesh_call_cancelled(call))
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    atomic_store(&handler.seen_ns, clock_now_ns());
    reply(NULL, call);
}

static void wait__quick(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                        Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    (void)self;
    reply(request, call);
}

static void wait__pooled(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                         Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    wait__quick(self, request, reply, call);
}

static void wait__chat(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                       Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    (void)self;
    (void)request;
    reply(NULL, call);
}

static struct mesh_server *waiting_server(const char *endpoint)
{
    static Dragoman__Bench__V1__Echo_Service service = DRAGOMAN__BENCH__V1__ECHO__INIT(wait__);
    static const enum mesh_kind KINDS[] = {MESH_UNARY, MESH_UNARY, MESH_BIDI_STREAMING, MESH_UNARY};
    struct mesh_server_options options = {.endpoint = endpoint, .name = "wait", .capacity = 4};
    struct mesh_server *server = NULL;

    if (mesh_server_create(&options, &server) < 0 ||
        mesh_server_add_service(server, &service.base, KINDS) < 0 || mesh_server_start(server) < 0)
        stage_die("cannot serve at '%s'", endpoint);
    return server;
}

/* @return milliseconds from the caller's cancel to the handler's flag */
static double cancel_once(struct mesh_channel *channel)
{
    payload_message request = DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    struct mesh_stream *stream = NULL;
    int64_t begun_ns;

    atomic_store(&handler.waiting, 0);
    atomic_store(&handler.seen_ns, 0);
    if (mesh_stream_open(channel, ECHO, "Work", NULL, &stream) < 0 ||
        mesh_stream_write(stream, &request.base, -1) < 0)
        stage_die("cannot open a stream");
    mesh_stream_finish(stream);
    while (!atomic_load(&handler.waiting))
        stage_sleep_ms(1);
    begun_ns = clock_now_ns();
    mesh_stream_cancel(stream);
    while (!atomic_load(&handler.seen_ns))
        stage_sleep_ms(1);
    mesh_stream_destroy(&stream);
    return (double)(atomic_load(&handler.seen_ns) - begun_ns) * 1e-6;
}

void case_cancel(bool quick)
{
    pid_t broker = stage_broker("cancel", NULL);
    struct mesh_server *server = waiting_server(stage_endpoint("cancel", "back"));
    struct mesh_channel *channel = stage_channel(stage_endpoint("cancel", "front"));
    struct samples after_ms = {0};

    for (int i = 0; i < (quick ? 200 : 1000); i++)
        samples_add(&after_ms, cancel_once(channel));
    figure("cancel_p50_ms", samples_quantile(&after_ms, 0.5));
    figure("cancel_p99_ms", samples_quantile(&after_ms, 0.99));
    samples_free(&after_ms);
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
    stage_signal(broker, SIGKILL);
}

#define OVERLOAD_CAPACITY 8
#define OVERLOAD_WORK_US 5000
#define OVERLOAD_TIMEOUT_MS 200

/* @return calls that ended well, a second; and what part of those begun did */
static double good_per_s(struct load *load, double seconds, double *part)
{
    const struct load_call *calls;
    size_t n, good = 0;

    stage_sleep_ms((int64_t)(seconds * 1000));
    calls = load_stop(load, &n);
    for (size_t i = 0; i < n; i++)
        good += calls[i].code == STATUS_OK;
    *part = n ? (double)good / (double)n : 0;
    load_free(load);
    return (double)good / seconds;
}

/* What fits is what a closed loop gets through that keeps every slot busy. */
void case_overload(bool quick)
{
    pid_t broker = stage_broker("overload", NULL);
    pid_t worker = stage_worker(stage_endpoint("overload", "back"), OVERLOAD_CAPACITY);
    struct mesh_channel *channel = stage_channel(stage_endpoint("overload", "front"));
    struct load_plan plan = {.channel = channel,
                             .in_flight = 2 * OVERLOAD_CAPACITY,
                             .work_us = OVERLOAD_WORK_US,
                             .options = {.timeout_ms = OVERLOAD_TIMEOUT_MS}};
    double fits, good, part, seconds = quick ? 2 : 6;

    fits = good_per_s(load_start(&plan), seconds / 2, &part);
    plan.in_flight = 0;
    plan.per_s = 2 * fits;
    good = good_per_s(load_start(&plan), seconds, &part);
    figure("overload_fits_per_s", fits);
    figure("overload_good_per_s", good);
    figure("overload_goodput", good / fits);
    figure("overload_part_good", part);
    mesh_channel_destroy(&channel);
    stage_signal(worker, SIGKILL);
    stage_signal(broker, SIGKILL);
}
