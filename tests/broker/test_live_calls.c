/* Calls through a broker that runs: whole, in streams, more than fit; who serves them; how they end. */
#include "base/clock.h"
#include "broker/broker.h"
#include "tests/broker/live.h"

#include <string.h>

static void unary_calls(void **state)
{
    static uint8_t payload[300000];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    static const size_t SIZES[] = {0, 1, 5000, 8192, 9000, 300000};

    (void)state;
    live_worker_start(0, 2, NULL);
    echo_fill(payload, sizeof(payload));
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
        echo_response *response = NULL;

        request.payload = (ProtobufCBinaryData){.len = SIZES[i], .data = payload};
        assert_int_equal(rig_unary(live.channel, &request, NULL, &response).code, STATUS_OK);
        assert_int_equal(response->payload.len, SIZES[i]);
        if (SIZES[i] > 0)
            assert_memory_equal(response->payload.data, payload, SIZES[i]);
        dragoman__test__v1__echo_response__free_unpacked(response, NULL);
    }
    request.payload.len = 0;
    request.status_code = STATUS_NOT_FOUND;
    request.status_message = (char *)"\t\ntest ☺ 😈\r\n";
    assert_string_equal(live_call(&request, NULL).message, request.status_message);
    assert_int_equal(live_call(&request, NULL).code, STATUS_NOT_FOUND);
}

static void streams(void **state)
{
    static uint8_t payload[60000];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    struct status status;

    (void)state;
    live_worker_start(0, 2, NULL);
    request.payload = (ProtobufCBinaryData){.len = sizeof(payload), .data = payload};
    assert_int_equal(mesh_stream_open(live.channel, ECHO, "Collect", NULL, &stream), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    assert_int_equal(((echo_response *)message)->bytes, 50 * sizeof(payload));
    protobuf_c_message_free_unpacked(message, NULL);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);

    assert_int_equal(mesh_stream_open(live.channel, ECHO, "Chat", NULL, &stream), 0);
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
    live_worker_start(0, 2, NULL);
    for (size_t i = 0; i < 400; i++)
        sizes[i] = 200000; /* 80 MB in all */
    request.sizes = sizes;
    request.n_sizes = 400;
    assert_int_equal(mesh_stream_open(live.channel, ECHO, "Expand", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_sleep_ms(300);
    assert_true(rig_rss_bytes() < before + (24 << 20));
    assert_int_equal(live_simple_call(NULL), STATUS_OK); /* others are not held back */
    assert_int_equal(rig_read_all(stream, &status), 400);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void more_calls_than_slots(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    (void)state;
    broker_stop(&live.broker, 0);
    live_broker_start(1000);
    live_worker_start(0, 2, NULL);
    live_worker_start(1, 1, NULL);
    rig_wait(mesh_channel_connected(live.channel));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(mesh_unary_start(live.channel, ECHO, "Unary", &request.base, NULL,
                                          live_count_answer, NULL),
                         0);
    rig_wait(atomic_load(&live.answered) + atomic_load(&live.failed) == 1000);
    assert_int_equal(atomic_load(&live.failed), 0);
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
    live_worker_start(0, 1, "en-pt");
    live_worker_start(1, 1, "pt-en");
    stream = live_long_call(0, "pair=en-pt");
    rig_wait(atomic_load(&echo_counts.running) == 1);
    assert_int_equal(live_simple_call("pair=pt-en"), STATUS_OK); /* the other one is free */
    status = live_call(&request, &options);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_string_equal(status.message, "no worker of dragoman.test.v1.Echo serves pair=en-xx");
    mesh_stream_destroy(&stream);
}

static void two_workers_share_the_load(void **state)
{
    struct mesh_stream *streams[8];

    (void)state;
    live_worker_start(0, 4, NULL);
    live_worker_start(1, 4, NULL);
    for (int i = 0; i < 4; i++)
        streams[i] = live_long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 4);
    assert_int_equal(live_running_of(0), 2);
    assert_int_equal(live_running_of(1), 2);
    for (int i = 4; i < 8; i++)
        streams[i] = live_long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 8);
    assert_int_equal(live_running_of(0), 4);
    for (int i = 0; i < 8; i++)
        mesh_stream_destroy(&streams[i]);
    rig_wait(live_running_of(0) + live_running_of(1) == 0);
}

static void nobody_serves(void **state)
{
    (void)state;
    assert_int_equal(live_simple_call(NULL), STATUS_UNIMPLEMENTED);
    live_worker_start(0, 1, NULL);
    mesh_server_destroy(&live.workers[0]);
    assert_int_equal(live_simple_call(NULL), STATUS_UNAVAILABLE);
}

static void full_queue_says_when_to_come_back(void **state)
{
    struct mesh_stream *streams[6];
    struct status status;

    (void)state;
    live_worker_start(0, 1, NULL);
    for (int i = 0; i < 5; i++) /* one runs, four wait */
        streams[i] = live_long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    streams[5] = live_long_call(0, NULL);
    status = live_wait_status(streams[5]);
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    assert_true(status.retry_delay_ms > 0);
    for (int i = 0; i < 6; i++)
        mesh_stream_destroy(&streams[i]);
    rig_wait(atomic_load(&echo_counts.running) == 0);
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void cancelled_call_frees_its_worker(void **state)
{
    struct mesh_stream *stream = NULL;
    int64_t at = 0;

    (void)state;
    live_worker_start(0, 1, NULL);
    stream = live_long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    at = clock_now_ns();
    mesh_stream_cancel(stream);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_true(atomic_load(&echo_counts.cancelled_at_ns) - at < 100 * 1000000);
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void deadline_reaches_the_worker(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.timeout_ms = 50};
    int64_t at = clock_now_ns();

    (void)state;
    live_worker_start(0, 1, NULL);
    request.until_cancelled = true;
    assert_int_equal(live_call(&request, &options).code, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_now_ns() - at >= 50 * 1000000);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
}

static void lost_caller_frees_its_worker(void **state)
{
    struct mesh_channel_options options = {
        .endpoint = live.front, .name = "other", .context = live.context};
    struct mesh_channel *mine = live.channel;
    struct mesh_stream *stream = NULL;

    (void)state;
    live_worker_start(0, 1, NULL);
    assert_int_equal(mesh_channel_create(&options, &live.channel), 0);
    stream = live_long_call(0, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&live.channel);
    live.channel = mine;
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
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
    };

    return live_run(argc, argv, "calls", tests, sizeof(tests) / sizeof(tests[0]));
}
