/* Trying again (gRPC's A6), by the names of its end-to-end tests. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"
#include "mesh/retry.h"

#include <errno.h>
#include <string.h>

static const struct mesh_call_options may_repeat = {.idempotent = true, .timeout_ms = 20000};

/* Fails so many times, then not. */
static struct status call_failing(struct mesh_channel *channel, uint32_t times, uint64_t secret,
                                  const struct mesh_call_options *options)
{
    simple_request request = SIMPLE_REQUEST;

    request.fail_first = times;
    request.secret = secret;
    return unary(channel, &request, options, NULL);
}

static void retry(void **state)
{
    struct world *world = *state;

    assert_int_equal(call_failing(world->channel, 2, 1, &may_repeat).code, STATUS_OK);
    assert_int_equal(world->workers[0].started, 3);
}

static void retry_disabled(void **state)
{
    struct world *world = *state;

    assert_int_equal(call_failing(world->channel, 1, 1, NULL).code, STATUS_UNAVAILABLE);
    assert_int_equal(world->workers[0].started, 1); /* it may not run twice */
}

static void retry_exceeds_attempts(void **state)
{
    struct world *world = *state;
    struct mesh_retry_options options = {.max_attempts = 4, .initial_backoff_ms = 5};
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.retry = &options});

    assert_int_equal(call_failing(channel, 10, 1, &may_repeat).code, STATUS_UNAVAILABLE);
    assert_int_equal(world->workers[0].started, 4);
    mesh_channel_destroy(&channel);
}

static void retry_non_retriable_status(void **state)
{
    struct world *world = *state;
    Dragoman__Interop__V1__EchoStatus wanted = DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT;
    simple_request request = SIMPLE_REQUEST;

    wanted.code = STATUS_ABORTED;
    wanted.message = (char *)"no";
    request.response_status = &wanted;
    assert_int_equal(unary(world->channel, &request, &may_repeat, NULL).code, STATUS_ABORTED);
    assert_int_equal(world->workers[0].started, 1);
}

/* Never past the deadline. */
static void retry_cancel_during_delay(void **state)
{
    struct world *world = *state;
    struct mesh_retry_options options = {
        .max_attempts = 5, .initial_backoff_ms = 400, .max_backoff_ms = 10000};
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.retry = &options});
    struct mesh_call_options hasty = {.idempotent = true, .timeout_ms = 150};
    int64_t begun = clock_now_ms();

    assert_true(call_failing(channel, 10, 1, &hasty).code != STATUS_OK);
    assert_in_range(clock_now_ms() - begun, 0, 2000);
    assert_in_range(world->workers[0].started, 1, 2);
    mesh_channel_destroy(&channel);
}

/* When much fails, nothing is tried again. */
static void retry_throttled(void **state)
{
    struct world *world = *state;
    struct mesh_retry_options options = {
        .max_attempts = 5, .initial_backoff_ms = 1, .max_tokens = 4, .token_ratio = 0.1};
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.retry = &options});
    int started;

    call_failing(channel, 10, 1, &may_repeat); /* takes the tokens */
    started = world->workers[0].started;
    assert_in_range(started, 1, 3);
    assert_int_equal(call_failing(channel, 10, 2, &may_repeat).code, STATUS_UNAVAILABLE);
    assert_int_equal(world->workers[0].started, started + 1);
    mesh_channel_destroy(&channel);
}

static void keep_code(void *arg, const struct status *status, ProtobufCMessage *response)
{
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    atomic_store((atomic_int *)arg, (int)status->code);
}

/* One that no handler has seen is sent again unasked, also when it may not run twice: by the broker when a worker had no
 * slot for it, by the caller when it crossed a GOAWAY. */
static void retry_transparent(void **state)
{
    struct world *world = *state;
    const echo_request echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct raw *raw = world_raw_answerer(world);
    struct mesh_header end = {.kind = MESH_END,
                              .flags = MESH_UNPROCESSED,
                              .status =
                                  world->broker ? STATUS_RESOURCE_EXHAUSTED : STATUS_UNAVAILABLE};
    /* A broker keeps what it may have to send again; of a worker with other brokers all of it. */
    struct mesh_call_options options = {.idempotent = world->broker != NULL};
    atomic_int code;

    atomic_init(&code, -1);
    rig_wait(mesh_channel_connected(world->channel));
    assert_int_equal(
        mesh_unary_start(world->channel, ECHO, "Unary", &echo.base, &options, keep_code, &code), 0);
    end.call_id = raw_expect(raw, MESH_OPEN)->header.call_id;
    if (!world->broker)
        raw_send(raw, &(struct mesh_header){.kind = MESH_GOAWAY}, NULL, NULL);
    raw_send(raw, &end, NULL, NULL);
    if (!world->broker) {
        raw_expect(raw, MESH_BYE); /* that session is over, here is the next */
        raw_greet(raw, 0);
    }
    end.call_id = raw_expect(raw, MESH_OPEN)->header.call_id;
    end.flags = 0;
    end.status = STATUS_ABORTED; /* as a handler would */
    raw_send(raw, &end, NULL, NULL);
    rig_wait(code >= 0);
    assert_int_equal(code, STATUS_ABORTED);
}

const struct interop_case retry_cases[] = {
    CASE(retry, 0),
    CASE(retry_disabled, 0),
    CASE(retry_exceeds_attempts, 0),
    CASE(retry_non_retriable_status, 0),
    CASE(retry_cancel_during_delay, 0),
    CASE(retry_throttled, 0),
    CASE(retry_transparent, BARE),
    {NULL, NULL, 0},
};
