#include "tests/broker/live.h"

#include "base/log.h"
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

struct live live;

static const char *program; /* this one, for workers that are processes */

/* ---- setting up ------------------------------------------------------------------------------ */

void live_broker_start(uint32_t queue_limit)
{
    const char *front[] = {live.front, NULL};
    const char *back[] = {live.back, NULL};
    struct broker_options options = {
        .front = front,
        .back = back,
        .context = live.context,
        .queue_limit = queue_limit,
        .heartbeat_ms = LIVE_BEAT_MS,
    };

    for (int tries = 0; broker_start(&options, &live.broker) < 0; tries++) {
        assert_true(tries < 100); /* the one before is still closing its listener */
        rig_sleep_ms(10);
    }
    snprintf(live.front, sizeof(live.front), "%s", broker_front_endpoint(live.broker, 0));
    snprintf(live.back, sizeof(live.back), "%s", broker_back_endpoint(live.broker, 0));
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

void live_worker_start(int i, uint32_t capacity, const char *pair)
{
    live.workers[i] = make_worker(live.back, live.context, capacity, pair);
    rig_wait(mesh_server_ready(live.workers[i]));
}

static void start_channel(void)
{
    struct mesh_channel_options options = {
        .endpoint = live.front, .name = "test", .context = live.context};

    assert_int_equal(mesh_channel_create(&options, &live.channel), 0);
    rig_wait(mesh_channel_connected(live.channel));
}

static int setup(void **state)
{
    live.transport = (enum rig_transport)(uintptr_t)*state;
    live.context = zmq_ctx_new();
    snprintf(live.folder, sizeof(live.folder), P_tmpdir "/dragoman-broker-XXXXXX");
    if (!mkdtemp(live.folder))
        return -1;
    if (live.transport == RIG_INPROC) {
        snprintf(live.front, sizeof(live.front), "inproc://front");
        snprintf(live.back, sizeof(live.back), "inproc://back");
    } else if (live.transport == RIG_IPC) {
        snprintf(live.front, sizeof(live.front), "ipc://%s/run/front", live.folder);
        snprintf(live.back, sizeof(live.back), "ipc://%s/run/back", live.folder);
    } else {
        snprintf(live.front, sizeof(live.front), "tcp://127.0.0.1:*");
        snprintf(live.back, sizeof(live.back), "tcp://127.0.0.1:*");
    }
    echo_reset();
    atomic_store(&live.answered, 0);
    atomic_store(&live.failed, 0);
    live_broker_start(LIVE_QUEUE);
    start_channel();
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    if (live.raw)
        zmq_close(live.raw);
    live.raw = NULL;
    mesh_channel_destroy(&live.channel);
    for (int i = 0; i < LIVE_WORKERS_MAX; i++)
        mesh_server_destroy(&live.workers[i]);
    broker_stop(&live.broker, 0);
    zmq_ctx_term(live.context);
    snprintf(command, sizeof(command), "rm -rf '%s'", live.folder);
    return system(command);
}

/* ---- calling --------------------------------------------------------------------------------- */

struct status live_call(const echo_request *request, const struct mesh_call_options *options)
{
    return rig_unary(live.channel, request, options, NULL);
}

enum status_code live_simple_call(const char *selector)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = selector, .timeout_ms = 5000};

    return live_call(&request, &options).code;
}

/* A call that waits for its cancellation, or sleeps. */
struct mesh_stream *live_long_call(uint32_t sleep_ms, const char *selector)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = selector};
    struct mesh_stream *stream = NULL;

    request.sleep_ms = sleep_ms;
    request.until_cancelled = sleep_ms == 0;
    assert_int_equal(mesh_stream_open(live.channel, ECHO, "Unary", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    return stream;
}

struct status live_wait_status(struct mesh_stream *stream)
{
    struct status status;

    rig_wait(mesh_stream_status(stream, &status));
    assert_true(mesh_stream_status(stream, &status));
    return status;
}

directory_response *live_directory(void)
{
    Dragoman__Mesh__V1__DirectoryRequest request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;

    assert_int_equal(mesh_unary(live.channel, &dragoman__mesh__v1__directory__descriptor, "List",
                                &request.base, NULL, &response, &status),
                     0);
    return (directory_response *)response;
}

uint32_t live_running_of(size_t i)
{
    directory_response *response = live_directory();
    uint32_t running = i < response->n_workers ? response->workers[i]->running : UINT32_MAX;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return running;
}

void live_count_answer(void *arg, const struct status *status, ProtobufCMessage *response)
{
    (void)arg;
    if (status->code == STATUS_OK)
        atomic_fetch_add(&live.answered, 1);
    else
        atomic_fetch_add(&live.failed, 1);
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
}

/* ---- workers that are processes -------------------------------------------------------------- */

/* This program again, as a worker of a process of its own. */
pid_t live_worker_spawn(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl(program, program, "--worker", live.back, (char *)NULL);
        _exit(127);
    }
    return pid;
}

bool live_worker_registered(void)
{
    directory_response *response = live_directory();
    bool yes = response->n_workers > 0;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return yes;
}

static _Noreturn void worker_main(const char *endpoint)
{
    log_init("worker", LOG_ERROR, LOG_FORMAT_TEXT);
    make_worker(endpoint, NULL, 1, NULL);
    for (;;)
        pause();
}

/* ---- running --------------------------------------------------------------------------------- */

int live_run(int argc, char **argv, const char *name, const struct CMUnitTest *tests,
             size_t n_tests)
{
    static const char *const TRANSPORTS[] = {"inproc", "ipc", "tcp"};
    int failures = 0;

    if (argc == 3 && strcmp(argv[1], "--worker") == 0)
        worker_main(argv[2]);
    program = argv[0];
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    for (uintptr_t transport = RIG_INPROC; transport <= RIG_TCP; transport++) {
        struct CMUnitTest *group = calloc(n_tests, sizeof(*group));
        char group_name[64];

        for (size_t i = 0; i < n_tests; i++) {
            group[i] = tests[i];
            group[i].setup_func = setup;
            group[i].teardown_func = teardown;
            group[i].initial_state = (void *)transport;
        }
        snprintf(group_name, sizeof(group_name), "%s over %s", name, TRANSPORTS[transport]);
        failures += _cmocka_run_group_tests(group_name, group, n_tests, NULL, NULL);
        free(group);
    }
    return failures;
}
