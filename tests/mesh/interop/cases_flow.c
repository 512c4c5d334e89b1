/* Flow control, many calls at once, many connections, long lives. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"
#include "mesh/credit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- many at once ---------------------------------------------------------------------------- */

struct crowd {
    struct mesh_channel *channel;
    uint32_t ask, answer;
    int calls;
    int64_t slowest_ns;
    int failures;
    struct status last;
};

static void *crowd_member(void *arg)
{
    struct crowd *crowd = arg;
    struct mesh_call_options options = {.timeout_ms = 60000};
    simple_request request = SIMPLE_REQUEST;

    request.payload = payload_new(crowd->ask, false);
    request.response_size = crowd->answer;
    for (int i = 0; i < crowd->calls; i++) {
        int64_t begun = clock_now_ns(), took;
        simple_response *response = NULL;
        struct status status = unary(crowd->channel, &request, &options, &response);

        took = clock_now_ns() - begun;
        if (status.code != STATUS_OK || response->payload->body.len != crowd->answer) {
            crowd->failures++;
            crowd->last = status;
        }
        if (response)
            protobuf_c_message_free_unpacked(&response->base, NULL);
        crowd->slowest_ns = took > crowd->slowest_ns ? took : crowd->slowest_ns;
    }
    payload_free(request.payload);
    return NULL;
}

/* Each member makes `calls` calls of large_unary. @return the slowest call's time */
static int64_t run_crowd(struct mesh_channel *channel, int members, int calls, uint32_t ask,
                         uint32_t answer)
{
    struct crowd *crowds = calloc((size_t)members, sizeof(*crowds));
    pthread_t *threads = calloc((size_t)members, sizeof(*threads));
    int64_t slowest_ns = 0;

    for (int i = 0; i < members; i++) {
        crowds[i] = (struct crowd){channel, ask, answer, calls, 0, 0, {.code = STATUS_OK}};
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, &crowds[i]), 0);
    }
    for (int i = 0; i < members; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < members; i++) {
        if (crowds[i].failures > 0)
            fail_msg("%d of %d failed, the last %s: %s", crowds[i].failures, calls,
                     status_name(crowds[i].last.code), crowds[i].last.message);
        if (crowds[i].slowest_ns > slowest_ns)
            slowest_ns = crowds[i].slowest_ns;
    }
    free(crowds);
    free(threads);
    return slowest_ns;
}

static void concurrent_large_unary(void **state)
{
    struct world *world = *state;
    int members = world_count(world, 50, 4), calls = world_count(world, 20, 2);
    size_t rss = rig_rss_bytes();

    run_crowd(world->channel, members, calls, 271828, 314159);
    assert_int_equal(world->workers[0].ended, members * calls);
    assert_in_range(world->workers[0].most_running, 1, WORLD_CAPACITY);
    assert_in_range(rig_rss_bytes(), 0, rss + RIG_RSS_SLACK + (size_t)members * 3 * 600000);
}

static void rpc_soak(void **state)
{
    struct world *world = *state;
    int calls = world_count(world, 200, 5);
    int64_t slowest_ns = run_crowd(world->channel, 1, calls, 271828, 314159);

    print_message("rpc_soak: %d calls, the slowest %.1f ms\n", calls, (double)slowest_ns / 1e6);
    assert_int_equal(world->workers[0].ended, calls);
}

/* A connection of its own for each call leaves nothing behind. */
static void channel_soak(void **state)
{
    struct world *world = *state;
    int calls = world_count(world, 60, 6), fds = 0;

    for (int i = 0; i < calls; i++) {
        struct mesh_channel *channel = world_channel(world, NULL);

        assert_int_equal(ping(channel, NULL), STATUS_OK);
        mesh_channel_destroy(&channel);
        if (i == calls / 2)
            fds = count_fds();
    }
    rig_wait(count_fds() <= fds + 8); /* libzmq closes on a thread of its own */
}

static void long_lived_channel(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(ping(world->channel, NULL), STATUS_OK);
        for (int ms = 0; ms < 400; ms += 5) { /* four heartbeats: three of silence are death */
            assert_true(mesh_channel_connected(world->channel));
            rig_sleep_ms(5);
        }
    }
}

static void max_streams(void **state)
{
    struct world *world = *state;

    world_start(world, 0, &(struct world_worker){.capacity = 1});
    rig_wait(mesh_channel_connected(world->channel));
    run_crowd(world->channel, 10, world_count(world, 50, 3), 1000, 1000);
    assert_int_equal(world->workers[0].most_running, 1);
}

/* More connections and calls than can be served at once: they wait, none fails. */
static void max_concurrent_streams_connection_scaling(void **state)
{
    enum { CHANNELS = 5, CALLS = 20 };
    struct world *world = *state;
    struct mesh_channel *channels[CHANNELS];
    struct mesh_stream *streams[CHANNELS][CALLS];

    world_start(world, 0, &(struct world_worker){.capacity = 2});
    for (int i = 0; i < CHANNELS; i++) {
        simple_request request = SIMPLE_REQUEST;

        channels[i] = world_channel(world, NULL);
        request.sleep_ms = 2;
        for (int j = 0; j < CALLS; j++)
            streams[i][j] = unary_open(channels[i], &request, NULL);
    }
    for (int i = 0; i < CHANNELS; i++) {
        for (int j = 0; j < CALLS; j++) {
            struct status status;

            assert_int_equal(rig_read_all(streams[i][j], &status), 1);
            assert_int_equal(status.code, STATUS_OK);
            mesh_stream_destroy(&streams[i][j]);
        }
        mesh_channel_destroy(&channels[i]);
    }
    assert_int_equal(world->workers[0].most_running, 2);
    assert_int_equal(world->workers[0].ended, CHANNELS * CALLS);
}

/* ---- credit ---------------------------------------------------------------------------------- */

/* Who writes to one that does not read is stopped, and goes on when it reads. */
static void flow_control_push_back_client(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_call_options options = {.timeout_ms = 60000};
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", &options);
    output_request request = OUTPUT_REQUEST;
    int n = 2, err, more = world_count(world, 2000, 50);
    size_t rss;

    /* The first answer takes all credit, in the second the handler sits: nobody reads, so it does not either. */
    for (int i = 0; i < n; i++)
        assert_int_equal(stream_ask(stream, 100000, false, 0), 0);
    rig_wait(worker->received == 2 && worker->sent == 1);
    request.payload = payload_new(16384, false);
    rss = rig_rss_bytes();
    while ((err = mesh_stream_write(stream, &request.base, 100)) == 0 && n < 1000)
        n++;
    assert_int_equal(err, -EAGAIN);
    assert_in_range(n, 2, 2 + MESH_WINDOW_MESSAGES);
    assert_int_equal(worker->received, 2);
    for (int i = 0; i < 2; i++) /* now it may answer, and read */
        stream_expect(stream, 100000, false);
    for (int i = 0; i < more; i++)
        assert_int_equal(mesh_stream_write(stream, &request.base, 10000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_OK);
    assert_int_equal(worker->received, n + more);
    assert_in_range(rig_rss_bytes(), 0, rss + RIG_RSS_SLACK); /* of 32 MB */
    payload_free(request.payload);
    mesh_stream_destroy(&stream);
}

/* `n` answers of `size` bytes each, asked for at once. */
static struct mesh_stream *ask_many(struct world *world, uint32_t n, uint32_t size)
{
    struct mesh_call_options options = {.timeout_ms = 60000};
    struct mesh_stream *stream = stream_open(world->channel, "StreamingOutputCall", &options);
    Dragoman__Interop__V1__ResponseParameters one =
        DRAGOMAN__INTEROP__V1__RESPONSE_PARAMETERS__INIT;
    output_request request = OUTPUT_REQUEST;

    one.size = size;
    request.n_responses = n;
    request.responses = malloc(n * sizeof(*request.responses));
    for (uint32_t i = 0; i < n; i++)
        request.responses[i] = &one;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    free(request.responses);
    return stream;
}

static void flow_control_push_back_server(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    uint32_t n = (uint32_t)world_count(world, 500, 30);
    size_t rss = rig_rss_bytes();
    struct mesh_stream *stream = ask_many(world, n, 100000);
    struct status status;

    rig_wait(worker->sent >= 1);
    rig_sleep_ms(150);
    assert_in_range(worker->sent, 1, MESH_WINDOW_MESSAGES); /* the handler stands still */
    assert_int_equal(worker->ended, 0);
    assert_in_range(rig_rss_bytes(), 0, rss + RIG_RSS_SLACK); /* of 50 MB */
    assert_int_equal(rig_read_all(stream, &status), n);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void slow_consumer(void **state)
{
    struct world *world = *state;
    uint32_t n = (uint32_t)world_count(world, 100, 20);
    struct mesh_stream *stream = ask_many(world, n, 31415);

    for (uint32_t i = 0; i < n; i++) {
        stream_expect(stream, 31415, false);
        assert_in_range(world->workers[0].sent, i, i + 1 + 2 * MESH_WINDOW_MESSAGES);
        if (i % 10 == 0) { /* and it slows nobody else */
            assert_int_equal(ping(world->channel, NULL), STATUS_OK);
            rig_sleep_ms(5);
        }
    }
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* A large answer in messages of 5 bytes: credit counts messages too, and leaks none. */
static void data_frame_padding(void **state)
{
    struct world *world = *state;
    uint32_t n = (uint32_t)world_count(world, 314159 / 5, 1000);
    struct mesh_stream *stream = ask_many(world, n, 5);
    struct status status;

    assert_int_equal(rig_read_all(stream, &status), n);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* The same in one piece. */
static void no_df_padding_sanity_test(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = ask_many(world, 1, 314159);

    stream_expect(stream, 314159, false);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

const struct interop_case flow_cases[] = {
    CASE(concurrent_large_unary, 0),
    CASE(flow_control_push_back_client, 0),
    CASE(flow_control_push_back_server, 0),
    CASE(slow_consumer, 0),
    CASE(rpc_soak, 0),
    CASE(channel_soak, 0),
    CASE(long_lived_channel, BEATS),
    CASE(max_streams, BARE),
    CASE(max_concurrent_streams_connection_scaling, BARE),
    CASE(data_frame_padding, 0),
    CASE(no_df_padding_sanity_test, 0),
    {NULL, NULL, 0},
};
