#include "tests/mesh/rig.h"

#include "base/clock.h"
#include "base/log.h"
#include "broker/broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static const char *const transport_names[] = {"inproc", "ipc", "tcp", "tcp with CURVE"};

void rig_sleep_ms(int ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* NULL unless it is CURVE's turn. */
static const struct mesh_security *security(const struct rig *rig,
                                            const struct mesh_security *whose)
{
    return rig->transport == RIG_CURVE ? whose : NULL;
}

void rig_start_server(struct rig *rig)
{
    struct mesh_server_options options = {
        .endpoint = rig->broker ? rig->worker_endpoint : rig->endpoint,
        .bind = !rig->broker,
        .name = "echo",
        .context = rig->context,
        .capacity = RIG_CAPACITY,
        .security = security(rig, rig->broker ? &rig->keys.worker : &rig->keys.broker),
    };

    assert_int_equal(mesh_server_create(&options, &rig->server), 0);
    assert_int_equal(echo_add(rig->server), 0);
    assert_int_equal(mesh_server_add_label(rig->server, "lang", "en"), 0);
    assert_int_equal(mesh_server_add_label(rig->server, "lang", "pt"), 0);
    assert_int_equal(mesh_server_start(rig->server), 0);
    if (!rig->broker)
        snprintf(rig->endpoint, sizeof(rig->endpoint), "%s", mesh_server_endpoint(rig->server));
    rig_wait(mesh_server_ready(rig->server));
}

const struct mesh_security *rig_security(const struct rig *rig)
{
    return security(rig, &rig->keys.caller);
}

struct mesh_channel *rig_channel(const struct rig *rig)
{
    struct mesh_channel_options options = {
        .endpoint = rig->endpoint,
        .name = "test",
        .context = rig->context,
        .security = rig_security(rig),
    };
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return channel;
}

static void name_endpoint(enum rig_transport transport, const char *name, char *out, size_t size)
{
    static int serial;

    if (transport == RIG_INPROC)
        snprintf(out, size, "inproc://%s", name);
    else if (transport == RIG_IPC)
        snprintf(out, size, "ipc:///tmp/dragoman-test-%d-%d", (int)getpid(), ++serial);
    else
        snprintf(out, size, "tcp://127.0.0.1:*");
}

static void start_broker(struct rig *rig)
{
    char front[128], back[128];
    const char *const fronts[] = {front, NULL};
    const char *const backs[] = {back, NULL};
    struct broker_options options = {
        .front = fronts,
        .back = backs,
        .context = rig->context,
        .security = security(rig, &rig->keys.broker),
    };

    name_endpoint(rig->transport, "front", front, sizeof(front));
    name_endpoint(rig->transport, "back", back, sizeof(back));
    assert_int_equal(broker_start(&options, &rig->broker), 0);
    snprintf(rig->endpoint, sizeof(rig->endpoint), "%s", broker_front_endpoint(rig->broker, 0));
    snprintf(rig->worker_endpoint, sizeof(rig->worker_endpoint), "%s",
             broker_back_endpoint(rig->broker, 0));
}

static int setup(void **state, bool with_broker)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    rig->transport = (enum rig_transport)(uintptr_t)*state;
    rig->context = zmq_ctx_new();
    if (rig->transport == RIG_CURVE)
        keys_create(&rig->keys);
    echo_reset();
    if (with_broker)
        start_broker(rig);
    else
        name_endpoint(rig->transport, "echo", rig->endpoint, sizeof(rig->endpoint));
    rig_start_server(rig);
    rig->channel = rig_channel(rig);
    *state = rig;
    return 0;
}

static int setup_direct(void **state)
{
    return setup(state, false);
}

static int setup_brokered(void **state)
{
    return setup(state, true);
}

static void unlink_ipc(const char *endpoint)
{
    if (strncmp(endpoint, "ipc://", 6) == 0)
        unlink(endpoint + 6);
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    mesh_channel_destroy(&rig->channel);
    mesh_server_destroy(&rig->server);
    broker_stop(&rig->broker, 0);
    zmq_ctx_term(rig->context);
    if (rig->transport == RIG_CURVE)
        keys_destroy(&rig->keys);
    unlink_ipc(rig->endpoint);
    unlink_ipc(rig->worker_endpoint);
    free(rig);
    return 0;
}

static int run_over(const char *name, enum rig_transport transport, bool with_broker,
                    const struct CMUnitTest *tests, size_t n_tests)
{
    struct CMUnitTest *group = calloc(n_tests, sizeof(*group));
    char group_name[128];
    int failures;

    for (size_t i = 0; i < n_tests; i++) {
        group[i] = tests[i];
        group[i].setup_func = with_broker ? setup_brokered : setup_direct;
        group[i].teardown_func = teardown;
        group[i].initial_state = (void *)(uintptr_t)transport;
    }
    snprintf(group_name, sizeof(group_name), "%s %s %s", name,
             with_broker ? "through a broker over" : "directly over", transport_names[transport]);
    print_message("%s\n", group_name);
    failures = _cmocka_run_group_tests(group_name, group, n_tests, NULL, NULL);
    free(group);
    return failures;
}

int rig_run(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    int failures = 0;

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    for (int with_broker = 0; with_broker < 2; with_broker++) {
        for (int transport = RIG_INPROC; transport <= RIG_CURVE; transport++)
            failures += run_over(name, (enum rig_transport)transport, with_broker, tests, n_tests);
    }
    return failures;
}

struct status rig_unary(struct mesh_channel *channel, const echo_request *request,
                        const struct mesh_call_options *options, echo_response **response)
{
    struct status status;
    ProtobufCMessage *message = NULL;
    int err = mesh_unary(channel, ECHO, "Unary", &request->base, options, &message, &status);

    assert_int_equal(err == 0, status.code == STATUS_OK);
    assert_int_equal(err == 0, message != NULL);
    if (response)
        *response = (echo_response *)message;
    else if (message)
        protobuf_c_message_free_unpacked(message, NULL);
    return status;
}

size_t rig_read_all(struct mesh_stream *stream, struct status *status)
{
    ProtobufCMessage *message = NULL;
    size_t n = 0;
    int err;

    while ((err = mesh_stream_read(stream, &message, 5000)) == 0) {
        protobuf_c_message_free_unpacked(message, NULL);
        n++;
    }
    assert_int_equal(err, -ENODATA);
    assert_true(mesh_stream_status(stream, status));
    return n;
}

struct mesh_stream *rig_stream_open(const struct rig *rig, const char *method,
                                    const struct mesh_call_options *options)
{
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(rig->channel, ECHO, method, options, &stream), 0);
    return stream;
}

void rig_expect_end(struct mesh_stream *stream, enum status_code code)
{
    struct status status;

    rig_read_all(stream, &status);
    if (status.code != code)
        fail_msg("%s: %s", status_name(status.code), status.message);
}

struct burst {
    struct mesh_channel *channel;
    atomic_int left, ok, ended;
};

/* A call has ended, or none has begun: begin the next. Counts it last, for then the burst may be gone. */
static void burst_next(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct burst *burst = arg;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    if (status)
        atomic_fetch_add(&burst->ok, status->code == STATUS_OK && response);
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    if (atomic_fetch_sub(&burst->left, 1) > 0 &&
        mesh_unary_start(burst->channel, ECHO, "Unary", &request.base, NULL, burst_next, burst) < 0)
        atomic_fetch_add(&burst->ended, 1); /* not well */
    if (status)
        atomic_fetch_add(&burst->ended, 1);
}

void rig_burst(const struct rig *rig, int calls, int at_once)
{
    struct burst burst = {.channel = rig->channel};

    atomic_init(&burst.left, calls);
    for (int i = 0; i < at_once; i++)
        burst_next(&burst, NULL, NULL);
    rig_wait(burst.ended == calls);
    assert_int_equal(burst.ok, calls);
}

size_t rig_rss_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (!file || fscanf(file, "%*s %lu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}
