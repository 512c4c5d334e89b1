/* gRPC's end-to-end tests, by their names: cancellation at each point, deadlines, limits, shutdown. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- cancellation ---------------------------------------------------------------------------- */

static void cancel_before_invoke(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);

    mesh_stream_cancel(stream); /* nothing was sent */
    stream_expect_end(stream, STATUS_CANCELLED);
    assert_int_equal(stream_ask(stream, 1, false, 0), -EPIPE);
    mesh_stream_destroy(&stream);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    assert_int_equal(world->workers[0].started, 1);
}

static void cancel_after_invoke(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;

    request.until_cancelled = true;
    for (int i = 0; i < 20; i++) { /* wherever it is by then */
        struct mesh_stream *stream = unary_open(world->channel, &request, NULL);

        mesh_stream_cancel(stream);
        stream_expect_end(stream, STATUS_CANCELLED);
        mesh_stream_destroy(&stream);
    }
    rig_wait(world->workers[0].running == 0);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
}

static void cancel_after_accept(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    simple_request request = SIMPLE_REQUEST;
    struct mesh_stream *stream;

    request.until_cancelled = true;
    stream = unary_open(world->channel, &request, NULL);
    rig_wait(worker->started == 1);
    mesh_stream_cancel(stream);
    stream_expect_end(stream, STATUS_CANCELLED);
    rig_wait(worker->cancelled == 1);
    mesh_stream_destroy(&stream);
}

static void cancel_after_client_done(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_stream *stream = stream_open(world->channel, "HalfDuplexCall", NULL);

    for (int i = 0; i < 3; i++) /* three answers that nobody reads: its credit is over */
        assert_int_equal(stream_ask(stream, 100000, false, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_wait(worker->sent >= 1);
    mesh_stream_cancel(stream);
    stream_expect_end(stream, STATUS_CANCELLED);
    rig_wait(worker->ended == 1);
    mesh_stream_destroy(&stream);
}

static void cancel_after_round_trip(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);

    assert_int_equal(stream_ask(stream, 10, false, 10), 0);
    stream_expect(stream, 10, false);
    mesh_stream_cancel(stream);
    stream_expect_end(stream, STATUS_CANCELLED);
    rig_wait(worker->ended == 1);
    assert_int_equal(worker->cancelled, 1);
    mesh_stream_destroy(&stream);
}

/* Cancelled, and destroyed, before there was anybody to send it to. */
static void cancel_in_a_vacuum(void **state)
{
    struct world *world = *state;
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.endpoint = "tcp://127.0.0.1:1"});
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 20000};
    struct mesh_stream *stream = stream_open(channel, "FullDuplexCall", &patient);

    assert_int_equal(stream_ask(stream, 1, false, 1), 0);
    mesh_stream_cancel(stream);
    stream_expect_end(stream, STATUS_CANCELLED);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&channel);
}

/* The handler is told that time is over. What it says then the caller gets only if it still listens. */
static void cancel_with_status(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.timeout_ms = 200};
    Dragoman__Interop__V1__EchoStatus wanted = DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT;
    simple_request request = SIMPLE_REQUEST;
    struct status status;

    wanted.code = STATUS_DATA_LOSS;
    wanted.message = (char *)"too late";
    request.response_status = &wanted;
    request.until_cancelled = true;
    assert_int_equal(ping(world->channel, NULL), STATUS_OK); /* it stands: the time is the call's */
    status = unary(world->channel, &request, &options, NULL);
    assert_true(status.code == STATUS_DEADLINE_EXCEEDED || status.code == STATUS_DATA_LOSS);
    rig_wait(world->workers[0].cancelled == 1);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static void negative_deadline(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.timeout_ms = -5};
    simple_request request = SIMPLE_REQUEST;

    assert_int_equal(unary(world->channel, &request, &options, NULL).code,
                     STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(world->workers[0].started, 0);
}

/* It runs out while the call waits for a slot: no handler ever sees it. */
static void timeout_before_request_call(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.timeout_ms = 100};
    simple_request request = SIMPLE_REQUEST, quick = SIMPLE_REQUEST;
    struct mesh_stream *stream;
    int64_t begun;

    world_start(world, 0, &(struct world_worker){.capacity = 1});
    request.until_cancelled = true;
    stream = unary_open(world->channel, &request, NULL);
    rig_wait(world->workers[0].started == 1);
    begun = clock_now_ns();
    assert_int_equal(unary(world->channel, &quick, &options, NULL).code, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_now_ns() - begun >= 100 * INT64_C(1000000));
    mesh_stream_destroy(&stream);
    rig_wait(world->workers[0].running == 0);
    assert_int_equal(world->workers[0].started, 1);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void max_message_length(void **state)
{
    struct world *world = *state;
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.max_message_bytes = 100000});
    simple_request request = SIMPLE_REQUEST;
    struct status status;

    request.payload = payload_new(200000, false);
    status = unary(channel, &request, NULL, NULL); /* refused here */
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(status.message, "100000")); /* names the limit */
    assert_int_equal(world->workers[0].started, 0);
    payload_free(request.payload);
    request.payload = NULL;
    request.response_size = 200000;
    status = unary(channel, &request, NULL, NULL); /* and there */
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    request.response_size = 90000;
    unary_ok(channel, &request, NULL);
    mesh_channel_destroy(&channel);
}

/* What a server may have waiting is bounded: beyond that it says when to come back. */
static void resource_quota_server(void **state)
{
    enum { QUEUE = 1024, MORE = 50 };
    struct world *world = *state;
    struct mesh_stream **streams = calloc(1 + QUEUE + MORE, sizeof(*streams));
    simple_request request = SIMPLE_REQUEST;
    int refused = 0;

    world_start(world, 0, &(struct world_worker){.capacity = 1});
    rig_wait(mesh_channel_connected(world->channel));
    request.until_cancelled = true;
    for (int i = 0; i < 1 + QUEUE + MORE; i++)
        streams[i] = unary_open(world->channel, &request, NULL);
    for (int ms = 0; ms < 10000 && refused < MORE; ms += 10) {
        refused = 0;
        for (int i = 0; i < 1 + QUEUE + MORE; i++) {
            struct status status;

            if (!mesh_stream_status(streams[i], &status))
                continue;
            assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
            assert_true(status.retry_delay_ms > 0);
            refused++;
        }
        rig_sleep_ms(10);
    }
    assert_int_equal(refused, MORE);
    for (int i = 0; i < 1 + QUEUE + MORE; i++)
        mesh_stream_destroy(&streams[i]);
    free(streams);
    rig_wait(world->workers[0].running == 0);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
}

/* Ids of calls may be anything that rises, up to the last there is. */
static void high_initial_seqno(void **state)
{
    static const uint64_t ids[] = {UINT32_MAX,     (uint64_t)UINT32_MAX + 1,
                                   INT64_MAX,      (uint64_t)INT64_MAX + 1,
                                   UINT64_MAX - 1, UINT64_MAX};
    const echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct raw *raw;

    raw = world_raw_caller(*state);
    for (size_t i = 0; i < 6; i++) {
        raw_open_call(raw, ids[i], "Unary", MESH_END_SEND, &request);
        raw_expect_end(raw, ids[i], STATUS_OK);
    }
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &request); /* none is left: no way around */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    raw_close(raw);
}

/* ---- servers go ------------------------------------------------------------------------------ */

static void disappearing_server(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;
    struct mesh_stream *waiting, *talking;

    request.until_cancelled = true;
    waiting = unary_open(world->channel, &request, NULL);
    talking = stream_open(world->channel, "FullDuplexCall", NULL);
    assert_int_equal(stream_ask(talking, 10, false, 10), 0);
    stream_expect(talking, 10, false);
    rig_wait(world->workers[0].started == 2);
    world_stop(world, 0);
    stream_expect_end(waiting, STATUS_UNAVAILABLE);
    stream_expect_end(talking, STATUS_UNAVAILABLE);
    assert_int_equal(world->workers[0].ended, 2); /* no handler outlives its server */
    mesh_stream_destroy(&waiting);
    mesh_stream_destroy(&talking);
    world_start(world, 0, NULL);
    unary_ok(world->channel, &(simple_request)SIMPLE_REQUEST,
             &(struct mesh_call_options){.wait_for_ready = true, .timeout_ms = 20000});
}

struct draining {
    struct mesh_server *server;
    int result;
};

static void *drain(void *arg)
{
    struct draining *draining = arg;

    draining->result = mesh_server_drain(draining->server, 10000);
    return NULL;
}

static void graceful_server_shutdown(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);
    struct draining draining = {.server = world->workers[0].server, .result = 1};
    pthread_t thread;

    assert_int_equal(stream_ask(stream, 10, false, 10), 0);
    stream_expect(stream, 10, false);
    assert_int_equal(pthread_create(&thread, NULL, drain, &draining), 0);
    rig_wait(!mesh_server_ready(world->workers[0].server));
    for (int i = 0; i < 3; i++) { /* what runs goes on */
        assert_int_equal(stream_ask(stream, 100, false, 100), 0);
        stream_expect(stream, 100, false);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_OK);
    pthread_join(thread, NULL);
    assert_int_equal(draining.result, 0);
    mesh_stream_destroy(&stream);
    assert_int_equal(ping(world->channel, NULL),
                     STATUS_UNAVAILABLE); /* what is new does not start */
}

/* A drain that is said to be over is over: nothing runs, nothing is cut off. */
static void drain_waits(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;
    struct mesh_stream *stream;
    struct status status;

    request.sleep_ms = 200;
    stream = unary_open(world->channel, &request, NULL);
    rig_wait(world->workers[0].started == 1);
    assert_int_equal(mesh_server_drain(world->workers[0].server, 10), -ETIMEDOUT);
    assert_int_equal(mesh_server_drain(world->workers[0].server, 10000), 0);
    assert_int_equal(world->workers[0].running, 0);
    assert_int_equal(rig_read_all(stream, &status), 1);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* Gone before it answered: exactly one end, and no wrong one. */
static void early_server_shutdown(void **state)
{
    struct world *world = *state;
    struct mesh_stream *streams[WORLD_CAPACITY];
    simple_request request = SIMPLE_REQUEST;

    request.sleep_ms = 50;
    for (int i = 0; i < WORLD_CAPACITY; i++)
        streams[i] = unary_open(world->channel, &request, NULL);
    rig_wait(world->workers[0].started == WORLD_CAPACITY);
    world_stop(world, 0);
    for (int i = 0; i < WORLD_CAPACITY; i++) {
        struct status status;

        rig_read_all(streams[i], &status);
        assert_true(status.code == STATUS_UNAVAILABLE || status.code == STATUS_CANCELLED ||
                    status.code == STATUS_OK);
        mesh_stream_destroy(&streams[i]);
    }
}

/* The caller goes, with calls at every stage: each ends, once, and the worker is told. */
static void shutdown_finishes_calls(void **state)
{
    struct world *world = *state;
    struct mesh_channel *channel = world_channel(world, NULL);
    struct mesh_stream *stream;
    simple_request request = SIMPLE_REQUEST;

    request.until_cancelled = true;
    stream = unary_open(channel, &request, NULL);
    rig_wait(world->workers[0].started == 1);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&channel);
    rig_wait(world->workers[0].cancelled == 1);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
}

/* The server ends a call whose caller still writes. */
static void server_finishes_request(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "UnaryCall", NULL);
    Dragoman__Interop__V1__EchoStatus wanted = DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT;
    simple_request request = SIMPLE_REQUEST;

    wanted.code = STATUS_FAILED_PRECONDITION;
    wanted.message = (char *)"enough";
    request.response_status = &wanted;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    stream_expect_end(stream, STATUS_FAILED_PRECONDITION); /* no finish was said */
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), -EPIPE);
    mesh_stream_destroy(&stream);
}

static void streaming_error_response(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);
    Dragoman__Interop__V1__EchoStatus wanted = DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT;
    output_request request = OUTPUT_REQUEST;
    Dragoman__Interop__V1__ResponseParameters one =
        DRAGOMAN__INTEROP__V1__RESPONSE_PARAMETERS__INIT;
    Dragoman__Interop__V1__ResponseParameters *responses[] = {&one, &one};

    one.size = 100;
    wanted.code = STATUS_ABORTED;
    wanted.message = (char *)"after two";
    request.responses = responses;
    request.n_responses = 2;
    request.response_status = &wanted;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    stream_expect(stream, 100, false); /* what was answered is not lost */
    stream_expect(stream, 100, false);
    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_ABORTED);
    mesh_stream_destroy(&stream);
}

/* ---- metadata -------------------------------------------------------------------------------- */

static struct mesh_stream *echo_metadata(struct world *world, const void *value, size_t size)
{
    struct mesh_metadata *metadata = NULL;
    struct mesh_call_options options = {.timeout_ms = 20000};
    struct mesh_stream *stream;
    ProtobufCMessage *message = NULL;
    simple_request request = SIMPLE_REQUEST;

    assert_int_equal(mesh_metadata_add(&metadata, INTEROP_TRAILING, value, size), 0);
    options.metadata = metadata;
    stream = unary_open(world->channel, &request, &options);
    assert_int_equal(mesh_stream_read(stream, &message, 20000), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    stream_expect_end(stream, STATUS_OK);
    mesh_metadata_destroy(&metadata);
    return stream;
}

static void trailing_metadata(void **state)
{
    struct mesh_stream *stream = echo_metadata(*state, "after all", 9);

    assert_int_equal(mesh_metadata_count(mesh_stream_trailers(stream)), 1);
    assert_int_equal(mesh_metadata_count(mesh_stream_initial_metadata(stream)), 0);
    mesh_stream_destroy(&stream);
}

static void binary_metadata(void **state)
{
    uint8_t bytes[256];
    struct mesh_stream *stream;
    const void *value;
    size_t size;

    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    stream = echo_metadata(*state, bytes, sizeof(bytes));
    mesh_metadata_at(mesh_stream_trailers(stream), 0, &value, &size);
    assert_int_equal(size, sizeof(bytes));
    assert_memory_equal(value, bytes, sizeof(bytes));
    mesh_stream_destroy(&stream);
}

const struct interop_case end_to_end_cases[] = {
    CASE(cancel_before_invoke, 0),
    CASE(cancel_after_invoke, 0),
    CASE(cancel_after_accept, 0),
    CASE(cancel_after_client_done, 0),
    CASE(cancel_after_round_trip, 0),
    CASE(cancel_in_a_vacuum, 0),
    CASE(cancel_with_status, 0),
    CASE(negative_deadline, 0),
    CASE(timeout_before_request_call, BARE),
    CASE(max_message_length, 0),
    CASE(resource_quota_server, BARE),
    CASE(high_initial_seqno, 0),
    CASE(disappearing_server, 0),
    CASE(graceful_server_shutdown, 0),
    CASE(drain_waits, 0),
    CASE(early_server_shutdown, 0),
    CASE(shutdown_finishes_calls, 0),
    CASE(server_finishes_request, 0),
    CASE(streaming_error_response, 0),
    CASE(trailing_metadata, 0),
    CASE(binary_metadata, 0),
    {NULL, NULL, 0},
};
