#include "base/clock.h"
#include "base/log.h"
#include "broker/broker.h"
#include "mesh/outbox.h"
#include "tests/mesh/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#define WORKERS_MAX 4
#ifdef __SANITIZE_THREAD__
#define BEAT_MS 700 /* what is slowed down ten times on a busy machine is not dead yet */
#else
#define BEAT_MS 200
#endif
#define CALLS_MAX 16

/* A broker, workers and one caller, over one transport; workers[i] may be absent. */
static struct {
    enum rig_transport transport;
    char folder[64];
    char front[128], back[128];
    void *context;
    struct broker *broker;
    struct mesh_server *workers[WORKERS_MAX];
    struct mesh_channel *channel;
    void *raw; /* a socket that says what the mesh would not */
} rig;

static const char *program; /* this one, for workers that are processes */

typedef Dragoman__Mesh__V1__DirectoryResponse directory_response;

/* ---- setting up ------------------------------------------------------------------------------ */

static void start_broker(uint32_t queue_limit)
{
    const char *front[] = {rig.front, NULL};
    const char *back[] = {rig.back, NULL};
    struct broker_options options = {
        .front = front,
        .back = back,
        .context = rig.context,
        .queue_limit = queue_limit,
        .heartbeat_ms = BEAT_MS,
    };

    for (int tries = 0; broker_start(&options, &rig.broker) < 0; tries++) {
        assert_true(tries < 100); /* the one before is still closing its listener */
        rig_sleep_ms(10);
    }
    snprintf(rig.front, sizeof(rig.front), "%s", broker_front_endpoint(rig.broker, 0));
    snprintf(rig.back, sizeof(rig.back), "%s", broker_back_endpoint(rig.broker, 0));
}

static struct mesh_server *make_worker(const char *endpoint, void *context, uint32_t capacity,
                                       const char *pair)
{
    struct mesh_server_options options = {
        .endpoint = endpoint, .name = "echo", .context = context, .capacity = capacity};
    struct mesh_server *server = NULL;

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    if (pair)
        assert_int_equal(mesh_server_add_label(server, "pair", pair), 0);
    assert_int_equal(mesh_server_start(server), 0);
    return server;
}

static void start_worker(int i, uint32_t capacity, const char *pair)
{
    rig.workers[i] = make_worker(rig.back, rig.context, capacity, pair);
    rig_wait(mesh_server_ready(rig.workers[i]));
}

static void start_channel(void)
{
    struct mesh_channel_options options = {
        .endpoint = rig.front, .name = "test", .context = rig.context};

    assert_int_equal(mesh_channel_create(&options, &rig.channel), 0);
    rig_wait(mesh_channel_connected(rig.channel));
}

static int setup(void **state)
{
    rig.transport = (enum rig_transport)(uintptr_t)*state;
    rig.context = zmq_ctx_new();
    snprintf(rig.folder, sizeof(rig.folder), P_tmpdir "/dragoman-broker-XXXXXX");
    if (!mkdtemp(rig.folder))
        return -1;
    if (rig.transport == RIG_INPROC) {
        snprintf(rig.front, sizeof(rig.front), "inproc://front");
        snprintf(rig.back, sizeof(rig.back), "inproc://back");
    } else if (rig.transport == RIG_IPC) {
        snprintf(rig.front, sizeof(rig.front), "ipc://%s/run/front", rig.folder);
        snprintf(rig.back, sizeof(rig.back), "ipc://%s/run/back", rig.folder);
    } else {
        snprintf(rig.front, sizeof(rig.front), "tcp://127.0.0.1:*");
        snprintf(rig.back, sizeof(rig.back), "tcp://127.0.0.1:*");
    }
    echo_reset();
    start_broker(4);
    start_channel();
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    if (rig.raw)
        zmq_close(rig.raw);
    rig.raw = NULL;
    mesh_channel_destroy(&rig.channel);
    for (int i = 0; i < WORKERS_MAX; i++)
        mesh_server_destroy(&rig.workers[i]);
    broker_stop(&rig.broker, 0);
    zmq_ctx_term(rig.context);
    snprintf(command, sizeof(command), "rm -rf '%s'", rig.folder);
    return system(command);
}

/* ---- calling --------------------------------------------------------------------------------- */

static struct status call(const echo_request *request, const struct mesh_call_options *options)
{
    return rig_unary(rig.channel, request, options, NULL);
}

static enum status_code simple_call(const char *selector)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = selector, .timeout_ms = 5000};

    return call(&request, &options).code;
}

/* A call that waits for its cancellation, or sleeps. */
static struct mesh_stream *long_call(uint32_t sleep_ms, const char *selector)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = selector};
    struct mesh_stream *stream = NULL;

    request.sleep_ms = sleep_ms;
    request.until_cancelled = sleep_ms == 0;
    assert_int_equal(mesh_stream_open(rig.channel, ECHO, "Unary", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    return stream;
}

static struct status wait_status(struct mesh_stream *stream)
{
    struct status status;

    rig_wait(mesh_stream_status(stream, &status));
    assert_true(mesh_stream_status(stream, &status));
    return status;
}

static directory_response *directory(void)
{
    Dragoman__Mesh__V1__DirectoryRequest request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;

    assert_int_equal(mesh_unary(rig.channel, &dragoman__mesh__v1__directory__descriptor, "List",
                                &request.base, NULL, &response, &status),
                     0);
    return (directory_response *)response;
}

static uint32_t running_of(size_t i)
{
    directory_response *response = directory();
    uint32_t running = i < response->n_workers ? response->workers[i]->running : UINT32_MAX;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return running;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void unary_calls(void **state)
{
    static uint8_t payload[300000];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    static const size_t SIZES[] = {0, 1, 5000, 8192, 9000, 300000};

    (void)state;
    start_worker(0, 2, NULL);
    echo_fill(payload, sizeof(payload));
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
        echo_response *response = NULL;

        request.payload = (ProtobufCBinaryData){.len = SIZES[i], .data = payload};
        assert_int_equal(rig_unary(rig.channel, &request, NULL, &response).code, STATUS_OK);
        assert_int_equal(response->payload.len, SIZES[i]);
        if (SIZES[i] > 0)
            assert_memory_equal(response->payload.data, payload, SIZES[i]);
        dragoman__test__v1__echo_response__free_unpacked(response, NULL);
    }
    request.payload.len = 0;
    request.status_code = STATUS_NOT_FOUND;
    request.status_message = (char *)"\t\ntest ☺ 😈\r\n";
    assert_string_equal(call(&request, NULL).message, request.status_message);
    assert_int_equal(call(&request, NULL).code, STATUS_NOT_FOUND);
}

static void streams(void **state)
{
    static uint8_t payload[60000];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    struct status status;

    (void)state;
    start_worker(0, 2, NULL);
    request.payload = (ProtobufCBinaryData){.len = sizeof(payload), .data = payload};
    assert_int_equal(mesh_stream_open(rig.channel, ECHO, "Collect", NULL, &stream), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    assert_int_equal(((echo_response *)message)->bytes, 50 * sizeof(payload));
    protobuf_c_message_free_unpacked(message, NULL);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);

    assert_int_equal(mesh_stream_open(rig.channel, ECHO, "Chat", NULL, &stream), 0);
    for (size_t i = 1; i < 50; i++) { /* ping-pong */
        request.payload.len = i * 1000;
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
        assert_int_equal(((echo_response *)message)->payload.len, i * 1000);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void slow_reader_holds_its_writer_back(void **state)
{
    static uint32_t sizes[400];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    struct status status;
    size_t before = rig_rss_bytes();

    (void)state;
    start_worker(0, 2, NULL);
    for (size_t i = 0; i < 400; i++)
        sizes[i] = 200000; /* 80 MB in all */
    request.sizes = sizes;
    request.n_sizes = 400;
    assert_int_equal(mesh_stream_open(rig.channel, ECHO, "Expand", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_sleep_ms(300);
    assert_true(rig_rss_bytes() < before + (24 << 20));
    assert_int_equal(simple_call(NULL), STATUS_OK); /* others are not held back */
    assert_int_equal(rig_read_all(stream, &status), 400);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static atomic_int answered, failed;

static void count_answer(void *arg, const struct status *status, ProtobufCMessage *response)
{
    (void)arg;
    if (status->code == STATUS_OK)
        atomic_fetch_add(&answered, 1);
    else
        atomic_fetch_add(&failed, 1);
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
}

static void more_calls_than_slots(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    (void)state;
    broker_stop(&rig.broker, 0);
    start_broker(1000);
    start_worker(0, 2, NULL);
    start_worker(1, 1, NULL);
    atomic_store(&answered, 0);
    atomic_store(&failed, 0);
    rig_wait(mesh_channel_connected(rig.channel));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(
            mesh_unary_start(rig.channel, ECHO, "Unary", &request.base, NULL, count_answer, NULL),
            0);
    rig_wait(atomic_load(&answered) + atomic_load(&failed) == 1000);
    assert_int_equal(atomic_load(&failed), 0);
    assert_true(atomic_load(&echo_counts.most_running) <= 3);
    assert_int_equal(atomic_load(&echo_counts.started), 1000);
}

/* ---- who serves ------------------------------------------------------------------------------ */

static void selector_finds_its_worker(void **state)
{
    struct mesh_stream *stream = NULL;
    struct status status;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = "pair=en-xx"};

    (void)state;
    start_worker(0, 1, "en-pt");
    start_worker(1, 1, "pt-en");
    stream = long_call(0, "pair=en-pt");
    rig_wait(atomic_load(&echo_counts.running) == 1);
    assert_int_equal(simple_call("pair=pt-en"), STATUS_OK); /* the other one is free */
    status = call(&request, &options);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_string_equal(status.message, "no worker of dragoman.test.v1.Echo serves pair=en-xx");
    mesh_stream_destroy(&stream);
}

static void two_workers_share_the_load(void **state)
{
    struct mesh_stream *streams[8];

    (void)state;
    start_worker(0, 4, NULL);
    start_worker(1, 4, NULL);
    for (int i = 0; i < 4; i++)
        streams[i] = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 4);
    assert_int_equal(running_of(0), 2);
    assert_int_equal(running_of(1), 2);
    for (int i = 4; i < 8; i++)
        streams[i] = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 8);
    assert_int_equal(running_of(0), 4);
    for (int i = 0; i < 8; i++)
        mesh_stream_destroy(&streams[i]);
    rig_wait(running_of(0) + running_of(1) == 0);
}

static void nobody_serves(void **state)
{
    (void)state;
    assert_int_equal(simple_call(NULL), STATUS_UNIMPLEMENTED);
    start_worker(0, 1, NULL);
    mesh_server_destroy(&rig.workers[0]);
    assert_int_equal(simple_call(NULL), STATUS_UNAVAILABLE);
}

static void full_queue_says_when_to_come_back(void **state)
{
    struct mesh_stream *streams[6];
    struct status status;

    (void)state;
    start_worker(0, 1, NULL);
    for (int i = 0; i < 5; i++) /* one runs, four wait */
        streams[i] = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    streams[5] = long_call(0, NULL);
    status = wait_status(streams[5]);
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    assert_true(status.retry_delay_ms > 0);
    for (int i = 0; i < 6; i++)
        mesh_stream_destroy(&streams[i]);
    rig_wait(atomic_load(&echo_counts.running) == 0);
    assert_int_equal(simple_call(NULL), STATUS_OK);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void cancelled_call_frees_its_worker(void **state)
{
    struct mesh_stream *stream = NULL;
    int64_t at = 0;

    (void)state;
    start_worker(0, 1, NULL);
    stream = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    at = clock_now_ns();
    mesh_stream_cancel(stream);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_true(atomic_load(&echo_counts.cancelled_at_ns) - at < 100 * 1000000);
    assert_int_equal(simple_call(NULL), STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void deadline_reaches_the_worker(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.timeout_ms = 50};
    int64_t at = clock_now_ns();

    (void)state;
    start_worker(0, 1, NULL);
    request.until_cancelled = true;
    assert_int_equal(call(&request, &options).code, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_now_ns() - at >= 50 * 1000000);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_int_equal(simple_call(NULL), STATUS_OK);
}

static void lost_caller_frees_its_worker(void **state)
{
    struct mesh_channel_options options = {
        .endpoint = rig.front, .name = "other", .context = rig.context};
    struct mesh_channel *mine = rig.channel;
    struct mesh_stream *stream = NULL;

    (void)state;
    start_worker(0, 1, NULL);
    assert_int_equal(mesh_channel_create(&options, &rig.channel), 0);
    stream = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&rig.channel);
    rig.channel = mine;
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_int_equal(simple_call(NULL), STATUS_OK);
}

/* This program again, as a worker of a process of its own. */
static pid_t spawn_worker(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl(program, program, "--worker", rig.back, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static bool worker_registered(void)
{
    directory_response *response = directory();
    bool yes = response->n_workers > 0;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return yes;
}

static void killed_worker_is_noticed_at_once(void **state)
{
    struct mesh_stream *stream = NULL;
    struct status status;
    int64_t at = 0;
    int64_t took_ms = 0;
    pid_t pid;

    (void)state;
    if (rig.transport == RIG_INPROC) /* another process has no way in */
        return;
    pid = spawn_worker();
    rig_wait(worker_registered());
    stream = long_call(0, NULL);
    rig_wait(running_of(0) == 1);
    at = clock_now_ns();
    kill(pid, SIGKILL);
    status = wait_status(stream);
    took_ms = (clock_now_ns() - at) / 1000000;
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_true(took_ms < 100);
    mesh_stream_destroy(&stream);
    waitpid(pid, NULL, 0);
    assert_int_equal(simple_call(NULL), STATUS_UNAVAILABLE);
}

static void stopped_worker_is_dead_after_three_beats(void **state)
{
    struct mesh_stream *stream = NULL;
    int64_t at = 0;
    pid_t pid;

    (void)state;
    if (rig.transport == RIG_INPROC)
        return;
    pid = spawn_worker();
    rig_wait(worker_registered());
    stream = long_call(0, NULL);
    rig_wait(running_of(0) == 1);
    at = clock_now_ns();
    kill(pid, SIGSTOP);
    assert_int_equal(wait_status(stream).code, STATUS_UNAVAILABLE);
    assert_true(clock_now_ns() - at > 300 * (int64_t)1000000); /* beats of 200 ms */
    assert_true(clock_now_ns() - at < BEAT_MS * 10 * (int64_t)1000000);
    mesh_stream_destroy(&stream);
    kill(pid, SIGCONT);
    rig_wait(worker_registered()); /* it comes back by itself */
    assert_int_equal(simple_call(NULL), STATUS_OK);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void idempotent_call_survives_its_worker(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.idempotent = true};
    pid_t pid;

    (void)state;
    if (rig.transport == RIG_INPROC)
        return;
    atomic_store(&answered, 0);
    atomic_store(&failed, 0);
    pid = spawn_worker();
    rig_wait(worker_registered());
    request.sleep_ms = 300;
    assert_int_equal(
        mesh_unary_start(rig.channel, ECHO, "Unary", &request.base, &options, count_answer, NULL),
        0);
    rig_wait(running_of(0) == 1);
    start_worker(0, 1, NULL);
    kill(pid, SIGKILL);
    rig_wait(atomic_load(&answered) + atomic_load(&failed) == 1);
    assert_int_equal(atomic_load(&answered), 1);
    assert_int_equal(atomic_load(&echo_counts.started), 1); /* here, after there */
    waitpid(pid, NULL, 0);
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void *keep_calling(void *arg)
{
    while (!atomic_load((atomic_bool *)arg))
        if (simple_call(NULL) == STATUS_OK)
            atomic_fetch_add(&answered, 1);
        else
            atomic_fetch_add(&failed, 1);
    return NULL;
}

static void rolling_restart_loses_nothing(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;

    (void)state;
    atomic_store(&answered, 0);
    atomic_store(&failed, 0);
    start_worker(0, 2, NULL);
    start_worker(1, 2, NULL);
    pthread_create(&thread, NULL, keep_calling, &stop);
    for (int i = 0; i < 6; i++) {
        int before = atomic_load(&answered);

        assert_int_equal(mesh_server_drain(rig.workers[i % 2], 5000), 0);
        mesh_server_destroy(&rig.workers[i % 2]);
        rig_wait(atomic_load(&answered) > before);
        start_worker(i % 2, 2, NULL);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&failed), 0);
    assert_true(atomic_load(&answered) > 6);
}

static void restarted_broker_is_found_again(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.wait_for_ready = true, .timeout_ms = 5000};

    (void)state;
    start_worker(0, 1, NULL);
    for (int i = 0; i < 3; i++) {
        broker_stop(&rig.broker, 0);
        rig_wait(!mesh_channel_connected(rig.channel)); /* else the call may be on its way there */
        start_broker(4);
        assert_int_equal(call(&request, &options).code, STATUS_OK);
    }
}

static void *stop_slowly(void *arg)
{
    broker_stop(&rig.broker, *(int *)arg);
    return NULL;
}

static void stopping_broker_waits_for_running_calls(void **state)
{
    struct mesh_stream *stream = NULL;
    pthread_t thread;
    int grace_ms = 5000;

    (void)state;
    start_worker(0, 1, NULL);
    stream = long_call(300, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    pthread_create(&thread, NULL, stop_slowly, &grace_ms);
    assert_int_equal(wait_status(stream).code, STATUS_OK);
    pthread_join(thread, NULL);
    mesh_stream_destroy(&stream);
}

static void stopping_broker_ends_the_rest(void **state)
{
    struct mesh_stream *stream = NULL;
    pthread_t thread;
    int grace_ms = 50;

    (void)state;
    start_worker(0, 1, NULL);
    stream = long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    pthread_create(&thread, NULL, stop_slowly, &grace_ms);
    assert_int_equal(wait_status(stream).code, STATUS_UNAVAILABLE);
    pthread_join(thread, NULL);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    mesh_stream_destroy(&stream);
}

/* ---- the shell ------------------------------------------------------------------------------- */

static void hostile_peer_hurts_nobody(void **state)
{
    void *peer = rig.raw = mesh_socket_open(rig.context, MESH_DEALER, 1 << 20);
    uint8_t bytes[300];
    unsigned seed = 3;

    (void)state;
    start_worker(0, 1, NULL);
    assert_int_equal(zmq_connect(peer, rig.front), 0);
    for (int i = 0; i < 500; i++) {
        for (size_t j = 0; j < sizeof(bytes); j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        zmq_send(peer, bytes, (size_t)rand_r(&seed) % sizeof(bytes),
                 rand_r(&seed) % 3 ? 0 : ZMQ_SNDMORE);
    }
    zmq_send(peer, "", 0, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(simple_call(NULL), STATUS_OK);
}

/* The kind of the next message that a raw peer gets; 0: none. */
static int raw_next(void *peer)
{
    struct mesh_message message;
    struct mesh_frame frame;

    if (mesh_message_recv(peer, MESH_DEALER, &message, &frame) != 0)
        return 0;
    mesh_message_close(&message);
    return frame.header.kind;
}

static void raw_send(void *peer, uint8_t kind, const ProtobufCMessage *body)
{
    struct mesh_header header = {.kind = kind};
    struct mesh_message message;

    assert_int_equal(mesh_message_build(&header, NULL, body, false, &message), 0);
    for (int tries = 0; mesh_message_send(peer, MESH_DEALER, &message) < 0; tries++) {
        assert_true(tries < 5000);
        rig_sleep_ms(1);
    }
}

#define PINGS 300000 /* more than the buffers of TCP take, too */

/* It asks and asks and never reads an answer. */
static void deaf_peer_is_cut_off(void **state)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    void *peer = rig.raw = mesh_socket_open(rig.context, MESH_DEALER, 1 << 20);
    int seen[256] = {0};
    int kind = 0, sent = PINGS;

    (void)state;
    start_worker(0, 1, NULL);
    hello.version_min = hello.version_max = 1;
    assert_int_equal(zmq_connect(peer, rig.front), 0);
    raw_send(peer, MESH_HELLO, &hello.base);
    for (int i = 0; i < PINGS; i++)
        raw_send(peer, MESH_PING, NULL);
    assert_int_equal(simple_call(NULL), STATUS_OK); /* others are not held back */
    while (kind != MESH_ERROR) {
        if ((kind = raw_next(peer)) == 0) {
            raw_send(peer, MESH_PING, NULL);
            sent++; /* a slow broker may still be answering those before */
        }
        seen[kind]++;
    }
    assert_int_equal(seen[MESH_WELCOME], 1);
    assert_true(seen[MESH_PONG] > MESH_OUTBOX_MESSAGES && seen[MESH_PONG] < sent);
}

static uint64_t id_of_first_worker(void)
{
    directory_response *response = directory();
    uint64_t id = response->n_workers > 0 ? response->workers[0]->id : 0;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return id;
}

#define FLOODED 100 /* frames in a bundle: who sends them has less to do than who reads them */

/* PONGs, which nobody answers: their sender need not stop to read. */
static struct mesh_bundle pongs(void)
{
    struct mesh_header header = {.kind = MESH_PONG};
    struct mesh_bundle bundle = {0};
    uint8_t bytes[MESH_HEADER_BYTES];

    mesh_header_encode(&header, bytes);
    for (int i = 0; i < FLOODED; i++)
        assert_int_equal(mesh_bundle_add(&bundle, bytes, sizeof(bytes)), 0);
    return bundle;
}

/* Keep the front busy, never once idle, for more than three of a worker's heartbeats. */
static void *flood(void *arg)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    void *peer = mesh_socket_open(rig.context, MESH_DEALER, 1 << 20);
    int64_t until = clock_now_ns() + BEAT_MS * 9 / 2 * (int64_t)1000000;
    struct mesh_bundle bundle = pongs();
    int timeout_ms = 1000;

    hello.version_min = hello.version_max = 1;
    zmq_setsockopt(peer, ZMQ_SNDTIMEO, &timeout_ms, sizeof(timeout_ms));
    zmq_connect(peer, rig.front);
    raw_send(peer, MESH_HELLO, &hello.base);
    while (clock_now_ns() < until)
        zmq_send(peer, bundle.bytes, bundle.size, 0);
    mesh_bundle_fini(&bundle);
    zmq_close(peer);
    return arg;
}

static void floods_drown_nobody(void **state)
{
    pthread_t threads[2];

    (void)state;
    start_worker(0, 1, NULL);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, flood, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(id_of_first_worker(), 1); /* not a second registration */
    assert_int_equal(simple_call(NULL), STATUS_OK);
}

static void endpoints_are_checked(void **state)
{
    const char *front[] = {rig.front, NULL};
    const char *back[] = {"inproc://unused", NULL};
    const char *bad[] = {"carrier-pigeon://x", NULL};
    const char *none[] = {NULL};
    struct broker_options options = {.front = front, .back = back, .context = rig.context};
    struct broker *broker = NULL;
    struct stat st;
    char path[128];

    (void)state;
    assert_int_equal(broker_start(&options, &broker), -EADDRINUSE);
    options.front = bad;
    assert_int_equal(broker_start(&options, &broker), -EINVAL);
    options.front = none;
    assert_int_equal(broker_start(&options, &broker), -EINVAL);
    assert_null(broker);
    if (rig.transport != RIG_IPC)
        return;
    snprintf(path, sizeof(path), "%s/run", rig.folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static _Noreturn void worker_main(const char *endpoint)
{
    log_init("worker", LOG_ERROR, LOG_FORMAT_TEXT);
    make_worker(endpoint, NULL, 1, NULL);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_calls),
        cmocka_unit_test(streams),
        cmocka_unit_test(slow_reader_holds_its_writer_back),
        cmocka_unit_test(more_calls_than_slots),
        cmocka_unit_test(selector_finds_its_worker),
        cmocka_unit_test(two_workers_share_the_load),
        cmocka_unit_test(nobody_serves),
        cmocka_unit_test(full_queue_says_when_to_come_back),
        cmocka_unit_test(cancelled_call_frees_its_worker),
        cmocka_unit_test(deadline_reaches_the_worker),
        cmocka_unit_test(lost_caller_frees_its_worker),
        cmocka_unit_test(killed_worker_is_noticed_at_once),
        cmocka_unit_test(stopped_worker_is_dead_after_three_beats),
        cmocka_unit_test(idempotent_call_survives_its_worker),
        cmocka_unit_test(rolling_restart_loses_nothing),
        cmocka_unit_test(restarted_broker_is_found_again),
        cmocka_unit_test(stopping_broker_waits_for_running_calls),
        cmocka_unit_test(stopping_broker_ends_the_rest),
        cmocka_unit_test(hostile_peer_hurts_nobody),
        cmocka_unit_test(deaf_peer_is_cut_off),
        cmocka_unit_test(floods_drown_nobody),
        cmocka_unit_test(endpoints_are_checked),
    };
    static const char *const NAMES[] = {"broker inproc", "broker ipc", "broker tcp"};
    int failures = 0;

    if (argc == 3 && strcmp(argv[1], "--worker") == 0)
        worker_main(argv[2]);
    program = argv[0];
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    for (uintptr_t transport = RIG_INPROC; transport <= RIG_TCP; transport++) {
        struct CMUnitTest group[sizeof(tests) / sizeof(tests[0])];

        memcpy(group, tests, sizeof(tests));
        for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
            group[i].setup_func = setup;
            group[i].teardown_func = teardown;
            group[i].initial_state = (void *)transport;
        }
        failures += _cmocka_run_group_tests(NAMES[transport], group,
                                            sizeof(tests) / sizeof(tests[0]), NULL, NULL);
    }
    return failures;
}
