/* The health service of a server with `bind`, as gRPC's health checking protocol has it. */
#include "tests/mesh/rig.h"

#include "base/log.h"
#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

typedef Dragoman__Mesh__V1__HealthCheckRequest health_request;
typedef Dragoman__Mesh__V1__HealthCheckResponse health_response;

#define HEALTH (&dragoman__mesh__v1__health__descriptor)
#define STATE(name) DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

static void *context;
static struct mesh_server *server;
static struct mesh_channel *channel;

static int setup(void **state)
{
    struct mesh_server_options options = {
        .endpoint = "inproc://health", .bind = true, .capacity = 1};
    struct mesh_channel_options to = {.endpoint = "inproc://health"};

    (void)state;
    options.context = to.context = context = zmq_ctx_new();
    echo_reset();
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    assert_int_equal(mesh_channel_create(&to, &channel), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
    zmq_ctx_term(context);
    return 0;
}

/* @return a serving status; minus the call's status code when that is not OK */
static int check(const char *service)
{
    health_request request = DRAGOMAN__MESH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;
    int result;

    request.service = (char *)service;
    mesh_unary(channel, HEALTH, "Check", &request.base, NULL, &response, &status);
    if (!response)
        return -(int)status.code;
    result = (int)((health_response *)response)->status;
    protobuf_c_message_free_unpacked(response, NULL);
    return result;
}

static struct mesh_stream *watch(const char *service)
{
    health_request request = DRAGOMAN__MESH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct mesh_stream *stream = NULL;

    request.service = (char *)service;
    assert_int_equal(mesh_stream_open(channel, HEALTH, "Watch", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    return stream;
}

static int next_state(struct mesh_stream *stream, int wait_ms)
{
    ProtobufCMessage *message = NULL;
    int err = mesh_stream_read(stream, &message, wait_ms);
    int result;

    if (err < 0)
        return err;
    result = (int)((health_response *)message)->status;
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}

static void check_names(void **state)
{
    (void)state;
    assert_int_equal(check(""), STATE(SERVING));
    assert_int_equal(check("dragoman.test.v1.Echo"), STATE(SERVING));
    assert_int_equal(check("dragoman.mesh.v1.Health"), STATE(SERVING));
    assert_int_equal(check("no.such.Service"), -STATUS_NOT_FOUND);
}

static void watch_tells_of_a_drain(void **state)
{
    struct mesh_stream *all = watch("");
    struct mesh_stream *unknown = watch("no.such.Service");
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *call = NULL;
    struct status status;

    (void)state;
    assert_int_equal(next_state(all, 5000), STATE(SERVING));
    assert_int_equal(next_state(unknown, 5000), STATE(SERVICE_UNKNOWN));
    assert_int_equal(next_state(all, 30), -EAGAIN); /* only changes */
    request.sleep_ms = 300;
    assert_int_equal(mesh_stream_open(channel, ECHO, "Unary", NULL, &call), 0);
    assert_int_equal(mesh_stream_write(call, &request.base, 0), 0);
    rig_wait(echo_counts.started == 1);
    assert_int_equal(mesh_server_drain(server, 20), -ETIMEDOUT);
    assert_int_equal(next_state(all, 5000), STATE(NOT_SERVING));
    assert_int_equal(mesh_server_drain(server, 5000), 0);
    mesh_server_destroy(&server);
    assert_int_equal(rig_read_all(all, &status), 0);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&all);
    mesh_stream_destroy(&unknown);
    mesh_stream_destroy(&call);
}

/* Watching takes none of the server's capacity, which is 1 here. */
static void watchers_are_free(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *streams[300];
    struct status status;

    (void)state;
    for (int i = 0; i < 300; i++)
        streams[i] = watch("");
    assert_int_equal(rig_unary(channel, &request, NULL, NULL).code, STATUS_OK);
    for (int i = 0; i < 256; i++)
        assert_int_equal(next_state(streams[i], 5000), STATE(SERVING));
    for (int i = 256; i < 300; i++) { /* but bounded */
        rig_read_all(streams[i], &status);
        assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    }
    for (int i = 0; i < 300; i++)
        mesh_stream_destroy(&streams[i]);
    streams[0] = watch(""); /* those who left make room */
    assert_int_equal(next_state(streams[0], 5000), STATE(SERVING));
    mesh_stream_destroy(&streams[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(check_names, setup, teardown),
        cmocka_unit_test_setup_teardown(watch_tells_of_a_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(watchers_are_free, setup, teardown),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
