/* gRPC's A9: a broker asks callers that have stayed for long to come anew, and no call notices. */
#include "tests/mesh/interop/world.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000

/* How often a channel of this process has changed its session. */
static int turns(void)
{
    struct buffer page;
    const char *at;
    int n = 0;

    buffer_init(&page, (size_t)1 << 20);
    assert_int_equal(metrics_render(&page), 0);
    assert_int_equal(buffer_append(&page, "", 1), 0);
    at = strstr((const char *)page.data, "\nmesh_session_turns_total ");
    if (at)
        n = (int)strtol(strchr(at, ' '), NULL, 10);
    buffer_fini(&page);
    return n;
}

/* Calls one after the other, each of which may run once only, until that many turns. @return how many */
static int call_until(struct world *world, int n_turns)
{
    int64_t until = clock_now_ms() + PATIENCE_MS;
    simple_request request = SIMPLE_REQUEST;
    int n = 0;

    for (; turns() < n_turns; n++) {
        assert_true(clock_now_ms() < until);
        unary_ok(world->channel, &request, NULL);
    }
    return n;
}

static int call_for(struct world *world, int64_t ms)
{
    int64_t until = clock_now_ms() + ms;
    simple_request request = SIMPLE_REQUEST;
    int n = 0;

    for (; clock_now_ms() < until; n++)
        unary_ok(world->channel, &request, NULL);
    return n;
}

static void answers(struct mesh_stream *stream)
{
    assert_int_equal(stream_ask(stream, 100, false, 100), 0);
    stream_expect(stream, 100, false);
}

/* A long call stays where it is; new ones go to the next session, without a pause. */
static void max_connection_age(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);
    int before = turns(), n = 1;

    answers(stream);
    n += call_until(world, before + 1);
    answers(stream);
    n += call_for(world, 3 * WORLD_AGE_MS);
    assert_int_equal(turns(), before + 1); /* the session before is still needed */
    answers(stream);
    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
    n += call_until(world, before + 4);
    assert_true(mesh_channel_connected(world->channel));
    assert_int_equal(world->workers[0].started, n); /* none twice */
}

static void note_end(void *arg, const struct status *status, ProtobufCMessage *response)
{
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    if (status->code != STATUS_OK)
        fprintf(stderr, "%s: %s\n", status_name(status->code), status->message);
    atomic_fetch_add((atomic_int *)arg, status->code == STATUS_OK ? 1 : 1000000);
}

/* Many at once, so that some are under way whenever the session changes. */
static void max_connection_age_under_load(void **state)
{
    struct world *world = *state;
    const empty_message empty = DRAGOMAN__INTEROP__V1__EMPTY__INIT;
    int64_t until = clock_now_ms() + PATIENCE_MS;
    int before = turns(), started = 0;
    atomic_int ended;

    atomic_init(&ended, 0);
    while (turns() < before + 4) {
        assert_true(clock_now_ms() < until);
        for (; started < ended + WORLD_CAPACITY; started++)
            assert_int_equal(mesh_unary_start(world->channel, TEST_SERVICE, "EmptyCall",
                                              &empty.base, NULL, note_end, &ended),
                             0);
        rig_sleep_ms(1);
    }
    rig_wait(ended >= started);
    assert_int_equal(ended, started);
    assert_int_equal(world->workers[0].started, started);
}

/* Who does not heed it is not sent away. */
static void max_connection_age_ignored(void **state)
{
    struct world *world = *state;
    const empty_message empty = DRAGOMAN__INTEROP__V1__EMPTY__INIT;
    struct raw *raw = world_raw_caller(world);
    const struct mesh_frame *frame = raw_expect(raw, MESH_GOAWAY);

    assert_int_equal(frame->header.flags, MESH_RETURN);
    raw_open_path(raw, 1, TEST_PATH("EmptyCall"), MESH_END_SEND, &empty.base);
    raw_expect_end(raw, 1, STATUS_OK);
    rig_sleep_ms(2 * WORLD_AGE_MS);
    raw_expect_silence(raw); /* nor asked again */
    raw_open_path(raw, 2, TEST_PATH("EmptyCall"), MESH_END_SEND, &empty.base);
    raw_expect_end(raw, 2, STATUS_OK);
    raw_close(raw);
}

const struct interop_case age_cases[] = {
    CASE(max_connection_age, BROKERED | AGES),
    CASE(max_connection_age_under_load, BROKERED | AGES),
    CASE(max_connection_age_ignored, BROKERED | AGES),
    {NULL, NULL, 0},
};
