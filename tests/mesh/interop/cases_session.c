/* Sessions: going away, dying at each point of a call, heartbeats, coming back. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const echo_request empty_echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

/* Between two calls the one who served the first goes: the caller notices nothing. */
static void goaway(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.wait_for_ready = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    uint32_t first;

    if (world->broker)
        world_start(world, 1, NULL);
    first = unary_ok(world->channel, &request, &options);
    assert_int_equal(mesh_server_drain(world->workers[first - 1].server, 5000), 0);
    if (world->broker) {
        assert_int_equal(unary_ok(world->channel, &request, NULL), 3 - first);
    } else {
        world_stop(world, 0);
        world_start(world, 0, NULL);
        assert_int_equal(unary_ok(world->channel, &request, &options), 1);
    }
}

/* ---- an answerer that dies ------------------------------------------------------------------- */

struct dying {
    struct raw *raw;
    struct mesh_stream *stream;
    uint64_t id;
};

/* A stream of answers, whose OPEN has come. */
static void dying_start(struct world *world, struct dying *dying)
{
    struct mesh_call_options options = {.wait_for_ready = true, .timeout_ms = 20000};

    dying->raw = world_raw_answerer(world);
    assert_int_equal(mesh_stream_open(world->channel, ECHO, "Expand", &options, &dying->stream), 0);
    assert_int_equal(mesh_stream_write(dying->stream, &empty_echo.base, 0), 0);
    assert_int_equal(mesh_stream_finish(dying->stream), 0);
    dying->id = raw_expect(dying->raw, MESH_OPEN)->header.call_id;
}

static void dying_answers(struct dying *dying, uint32_t n)
{
    for (uint32_t seq = 1; seq <= n; seq++) {
        struct mesh_header header = {.kind = MESH_DATA, .call_id = dying->id, .seq = seq};

        raw_send(dying->raw, &header, NULL, &empty_echo.base);
    }
}

/* What had been said arrives, then the end, which is no success. */
static void dying_dies(struct dying *dying, uint32_t answers)
{
    struct status status;

    raw_close(dying->raw);
    assert_int_equal(rig_read_all(dying->stream, &status), answers);
    if (status.code != STATUS_UNAVAILABLE)
        fail_msg("%s: %s", status_name(status.code), status.message);
}

static void rst_after_header(void **state)
{
    struct dying dying;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__MetadataEntry entry = DRAGOMAN__MESH__V1__METADATA_ENTRY__INIT;
    Dragoman__Mesh__V1__MetadataEntry *entries[] = {&entry};

    dying_start(*state, &dying);
    entry.key = (char *)"x-seen";
    entry.value = (ProtobufCBinaryData){3, (uint8_t *)"yes"};
    meta.metadata = entries;
    meta.n_metadata = 1;
    raw_send(dying.raw, &(struct mesh_header){.kind = MESH_INITIAL, .call_id = dying.id}, &meta,
             NULL);
    dying_dies(&dying, 0);
    assert_string_equal(mesh_metadata_get(mesh_stream_initial_metadata(dying.stream), "x-seen"),
                        "yes");
    mesh_stream_destroy(&dying.stream);
}

static void rst_during_data(void **state)
{
    struct dying dying;

    dying_start(*state, &dying);
    dying_answers(&dying, 2);
    dying_dies(&dying, 2);
    mesh_stream_destroy(&dying.stream);
}

/* All answers, but no END: who says it was all? */
static void rst_after_data(void **state)
{
    struct dying dying;
    ProtobufCMessage *message = NULL;

    dying_start(*state, &dying);
    dying_answers(&dying, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mesh_stream_read(dying.stream, &message, 10000), 0);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_false(mesh_stream_status(dying.stream, &(struct status){0}));
    dying_dies(&dying, 0);
    mesh_stream_destroy(&dying.stream);
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

static void expect_pong(struct raw *raw, uint64_t token)
{
    const struct mesh_frame *frame;

    raw_send(raw, &(struct mesh_header){.kind = MESH_PING, .call_id = token}, NULL, NULL);
    while ((frame = raw_receive(raw, 5000)) && frame->header.kind != MESH_PONG) {
    }
    assert_non_null(frame);
    assert_int_equal(frame->header.call_id, token);
}

/* At every point of a call; what is not a PONG is thrown away here, so END comes last. */
static void ping_at_every_point(void **state)
{
    struct world *world = *state;
    const struct mesh_header half_close = {
        .kind = MESH_DATA, .call_id = 1, .seq = 1, .flags = MESH_END_SEND};
    struct raw *raw;

    raw = world_raw_caller(world);
    expect_pong(raw, 11);
    raw_open_call(raw, 1, "Collect", 0, NULL);
    raw_expect(raw, MESH_ACCEPT);
    expect_pong(raw, 12);
    raw_send(raw, &(struct mesh_header){.kind = MESH_DATA, .call_id = 1, .seq = 1}, NULL,
             &empty_echo.base);
    expect_pong(raw, 13);
    raw_send(raw, &half_close, NULL, NULL);
    raw_expect_end(raw, 1, STATUS_OK);
    expect_pong(raw, 14);
    raw_expect_silence(raw); /* none is outstanding */
    raw_close(raw);
}

/* A caller that falls silent is given up; what it called is told. */
static void keepalive_timeout(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    simple_request request = SIMPLE_REQUEST;
    struct raw *raw;

    request.until_cancelled = true;
    raw = world_raw(world);
    raw_greet(raw, 100);
    raw_open_path(raw, 1, TEST_PATH("UnaryCall"), MESH_END_SEND, &request.base);
    rig_wait(worker->started == 1);
    rig_wait(worker->cancelled == 1);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    raw_close(raw);
}

/* ---- coming back ----------------------------------------------------------------------------- */

/* A port that closes each connection at once. */
static int closing_port(char endpoint[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 16), 0);
    getsockname(listener, (struct sockaddr *)&at, &size);
    snprintf(endpoint, 64, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
    return listener;
}

/* Tries of reconnecting: further and further apart, up to a second, and not in step. */
static void connection_backoff(void **state)
{
    enum { FOR_MS = 5000, TRIES_MAX = 64 };
    struct world *world = *state;
    char endpoint[64];
    int listener = closing_port(endpoint);
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.endpoint = endpoint});
    int64_t begun = clock_now_ms(), last = begun, apart[TRIES_MAX] = {0}, longest = 0;
    int n = 0, odd = 0;

    while (clock_now_ms() - begun < FOR_MS && n < TRIES_MAX) {
        struct pollfd poll_for = {.fd = listener, .events = POLLIN};

        if (poll(&poll_for, 1, 20) > 0) {
            close(accept(listener, NULL, NULL));
            apart[n++] = clock_now_ms() - last;
            last = clock_now_ms();
        }
    }
    mesh_channel_destroy(&channel);
    close(listener);
    assert_in_range(n, 4, 25); /* every 50 ms would be a hundred */
    for (int i = 1; i < n; i++) {
        assert_in_range(apart[i], 0, 3000);
        longest = apart[i] > longest ? apart[i] : longest;
        odd += apart[i] % 50 > 5 && apart[i] % 50 < 45;
    }
    assert_in_range(longest, 400, 3000);
    assert_true(odd > 0); /* jitter */
}

static void connectivity(void **state)
{
    struct world *world = *state;

    bool brokered = world->broker != NULL;

    rig_wait(mesh_channel_connected(world->channel));
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    if (brokered)
        world_stop_broker(world, 0);
    else
        world_stop(world, 0);
    rig_wait(!mesh_channel_connected(world->channel));
    if (brokered)
        world_start_broker(world);
    else
        world_start(world, 0, NULL);
    rig_wait(mesh_channel_connected(world->channel));
    rig_wait(mesh_server_ready(world->workers[0].server));
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
}

const struct interop_case session_cases[] = {
    CASE(goaway, 0),
    CASE(rst_after_header, BARE | BEATS),
    CASE(rst_during_data, BARE | BEATS),
    CASE(rst_after_data, BARE | BEATS),
    {"ping", ping_at_every_point, 0},
    CASE(keepalive_timeout, 0),
    CASE(connection_backoff, ONCE),
    CASE(connectivity, 0),
    {NULL, NULL, 0},
};
