/* When a call is sent again, and when it is not: gRPC's A6 rule by rule, against peers played by hand. */
#include "tests/mesh/raw.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "mesh/deadline.h"
#include "mesh/retry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)

static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

/* ---- the policy ------------------------------------------------------------------------------ */

static const struct status unavailable = {.code = STATUS_UNAVAILABLE};

static void options_out_of_range(void **state)
{
    static const struct mesh_retry_options wrong[] = {
        {.max_attempts = MESH_ATTEMPTS_MAX + 1},
        {.initial_backoff_ms = 2000, .max_backoff_ms = 1000},
        {.multiplier = 0.5},
        {.max_tokens = 1001},
        {.token_ratio = -1},
    };
    struct mesh_channel_options options = {.endpoint = "ipc:///tmp/dragoman-retry-nowhere"};
    struct mesh_channel *channel = NULL;
    struct mesh_retry retry;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(mesh_retry_init(&retry, &wrong[i]), -EINVAL);
        options.retry = &wrong[i];
        assert_int_equal(mesh_channel_create(&options, &channel), -EINVAL);
    }
    assert_int_equal(mesh_retry_init(&retry, NULL), 0);
    assert_int_equal(retry.options.max_attempts, 3);
}

/* min(initial * multiplier^n, max), a fifth more or less. */
static void backoff_grows_to_its_bound(void **state)
{
    static const struct mesh_retry_options options = {
        .max_attempts = 5, .initial_backoff_ms = 100, .max_backoff_ms = 350, .multiplier = 2};
    static const double want_ms[] = {100, 200, 350, 350};
    struct mesh_retry retry;
    double low = 10, high = 0;

    (void)state;
    for (int round = 0; round < 200; round++) {
        assert_int_equal(mesh_retry_init(&retry, &options), 0);
        for (uint32_t attempt = 0; attempt < 4; attempt++) {
            int64_t delay_ns = 0;
            double factor;

            assert_true(mesh_retry_next(&retry, &unavailable, attempt, 0, MESH_NEVER, &delay_ns));
            factor = (double)delay_ns / 1e6 / want_ms[attempt];
            low = factor < low ? factor : low;
            high = factor > high ? factor : high;
        }
        assert_false(mesh_retry_next(&retry, &unavailable, 4, 0, MESH_NEVER, &(int64_t){0}));
    }
    assert_true(low >= 0.799 && low < 0.85);
    assert_true(high <= 1.201 && high > 1.15);
}

static void only_some_codes(void **state)
{
    static const struct mesh_retry_options options = {.codes = 1u << STATUS_ABORTED};
    struct status aborted = {.code = STATUS_ABORTED};
    struct mesh_retry retry;
    int64_t delay_ns;

    (void)state;
    assert_int_equal(mesh_retry_init(&retry, NULL), 0);
    assert_false(mesh_retry_next(&retry, &aborted, 0, 0, MESH_NEVER, &delay_ns));
    assert_true(mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns));
    assert_int_equal(mesh_retry_init(&retry, &options), 0);
    assert_true(mesh_retry_next(&retry, &aborted, 0, 0, MESH_NEVER, &delay_ns));
    assert_false(mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns));
}

static void never_past_the_deadline(void **state)
{
    struct status later = {.code = STATUS_UNAVAILABLE, .retry_delay_ms = 300};
    struct mesh_retry retry;
    int64_t delay_ns = 0;

    (void)state;
    assert_int_equal(mesh_retry_init(&retry, NULL), 0);
    assert_true(mesh_retry_next(&retry, &later, 0, 0, 301 * NS_PER_MS, &delay_ns));
    assert_int_equal(delay_ns, 300 * NS_PER_MS); /* what the server asked for, not the backoff */
    assert_false(mesh_retry_next(&retry, &later, 0, 0, 300 * NS_PER_MS, &delay_ns));
}

static void the_budget_runs_out_and_fills(void **state)
{
    static const struct mesh_retry_options options = {.max_tokens = 10, .token_ratio = 0.5};
    struct mesh_retry retry;
    int64_t delay_ns;
    int n = 0;

    (void)state;
    assert_int_equal(mesh_retry_init(&retry, &options), 0);
    while (mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns))
        n++;
    assert_int_equal(n, 4); /* 9, 8, 7, 6; at half there is none */
    for (int i = 0; i < 2; i++)
        mesh_retry_succeeded(&retry);
    assert_false(mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns));
    for (int i = 0; i < 4; i++)
        mesh_retry_succeeded(&retry);
    assert_true(mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns));
    for (int i = 0; i < 1000; i++)
        mesh_retry_succeeded(&retry);
    for (n = 0; mesh_retry_next(&retry, &unavailable, 0, 0, MESH_NEVER, &delay_ns); n++)
        ;
    assert_int_equal(n, 4); /* full is full */
}

/* ---- calls, against one or two answerers ------------------------------------------------------ */

static void *context;
static struct raw answerers[2];
static struct mesh_channel *channel;
static const char *const endpoints[] = {"inproc://one", "inproc://other"};

struct outcome {
    atomic_int ended;
    struct status status;
};

static void on_done(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct outcome *outcome = arg;

    outcome->status = *status;
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    atomic_fetch_add(&outcome->ended, 1);
}

static void connect_to(size_t n, const struct mesh_retry_options *retry)
{
    struct mesh_channel_options options = {
        .endpoint = n == 1 ? endpoints[0] : "inproc://one,inproc://other",
        .context = context,
        .retry = retry,
    };

    for (size_t i = 0; i < n; i++)
        raw_open(&answerers[i], context, MESH_ROUTER, endpoints[i]);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    for (size_t i = 0; i < n; i++)
        raw_greet(&answerers[i], 60000);
}

static int setup(void **state)
{
    (void)state;
    context = zmq_ctx_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    for (size_t i = 0; i < 2; i++)
        raw_close(&answerers[i]);
    zmq_ctx_term(context);
    return 0;
}

static void start_with(struct outcome *outcome, const struct mesh_call_options *options)
{
    echo_request request = empty;

    atomic_init(&outcome->ended, 0);
    request.sleep_ms = 7; /* something to recognise it by */
    assert_int_equal(
        mesh_unary_start(channel, ECHO, "Unary", &request.base, options, on_done, outcome), 0);
}

static void start(struct outcome *outcome, bool idempotent)
{
    start_with(outcome, &(struct mesh_call_options){.idempotent = idempotent});
}

/* The OPEN, whole, as often as it is sent. @return its id */
static uint64_t expect_open(struct raw *raw, uint8_t attempt)
{
    const struct mesh_frame *frame = raw_expect(raw, MESH_OPEN);
    uint64_t id = frame->header.call_id;
    mesh_meta *meta = NULL;

    assert_int_equal(frame->header.attempt, attempt);
    assert_int_equal(frame->body_size, 2);
    assert_memory_equal(frame->body, "\x28\x07", 2);
    assert_true(frame->header.flags & MESH_END_SEND);
    assert_int_equal(mesh_meta_unpack(frame, &meta), 0);
    assert_string_equal(meta->method, "/dragoman.test.v1.Echo/Unary");
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return id;
}

static void end_with(struct raw *raw, uint64_t id, enum status_code code, uint16_t flags,
                     uint32_t retry_delay_ms)
{
    struct mesh_header header = {
        .kind = MESH_END, .call_id = id, .flags = flags, .status = (uint16_t)code};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    static const Dragoman__Test__V1__EchoResponse response =
        DRAGOMAN__TEST__V1__ECHO_RESPONSE__INIT;

    header.seq = code == STATUS_OK ? 1 : 0;
    meta.retry_delay_ms = retry_delay_ms;
    raw_send(raw, &header, &meta, code == STATUS_OK ? &response.base : NULL);
}

static void expect_outcome(struct outcome *outcome, enum status_code code)
{
    rig_wait(atomic_load(&outcome->ended) == 1);
    if (outcome->status.code != code)
        fail_msg("%s: %s", status_name(outcome->status.code), outcome->status.message);
}

static double counted(const char *name)
{
    struct buffer page;
    const char *at;
    double value = 0;

    buffer_init(&page, (size_t)1 << 20);
    assert_int_equal(metrics_render(&page), 0);
    assert_int_equal(buffer_append(&page, "", 1), 0);
    at = strstr((const char *)page.data, name);
    if (at)
        value = strtod(strchr(at, '}') + 1, NULL);
    buffer_fini(&page);
    return value;
}

#define STARTED "\ngrpc_client_attempt_started_total{grpc_method=\"dragoman.test.v1.Echo/Unary\""
#define RETRIES "\ngrpc_client_call_retries_total{"
#define RESENDS "\ngrpc_client_call_transparent_retries_total{"

static void idempotent_calls_are_tried_again(void **state)
{
    struct outcome outcome;
    double before = counted(RETRIES);
    int64_t begun;
    uint64_t first;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, true);
    first = expect_open(&answerers[0], 0);
    begun = clock_now_ns();
    end_with(&answerers[0], first, STATUS_UNAVAILABLE, 0, 0);
    assert_true(expect_open(&answerers[0], 1) > first); /* never an id twice */
    assert_true(clock_now_ns() - begun >= 40 * NS_PER_MS);
    end_with(&answerers[0], answerers[0].frame.header.call_id, STATUS_OK, 0, 0);
    expect_outcome(&outcome, STATUS_OK);
    assert_true(counted(RETRIES) == before + 1);
}

static void attempts_are_bounded(void **state)
{
    static const struct mesh_retry_options retry = {.max_attempts = 4, .initial_backoff_ms = 1};
    struct outcome outcome;

    (void)state;
    connect_to(1, &retry);
    start(&outcome, true);
    for (uint8_t attempt = 0; attempt < 4; attempt++)
        end_with(&answerers[0], expect_open(&answerers[0], attempt), STATUS_UNAVAILABLE, 0, 0);
    expect_outcome(&outcome, STATUS_UNAVAILABLE);
    raw_expect_silence(&answerers[0]);
}

static void others_are_not(void **state)
{
    struct outcome outcome;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, false);
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_UNAVAILABLE, 0, 0);
    expect_outcome(&outcome, STATUS_UNAVAILABLE);
    start(&outcome, true);
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_INTERNAL, 0, 0);
    expect_outcome(&outcome, STATUS_INTERNAL);
    raw_expect_silence(&answerers[0]);
}

/* Once an answer has reached the application, or may have, there is no going back. */
static void a_begun_answer_commits(void **state)
{
    struct outcome outcome;
    uint64_t id;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, true);
    id = expect_open(&answerers[0], 0);
    raw_send(&answerers[0], &(struct mesh_header){.kind = MESH_INITIAL, .call_id = id}, NULL, NULL);
    end_with(&answerers[0], id, STATUS_UNAVAILABLE, 0, 0);
    expect_outcome(&outcome, STATUS_UNAVAILABLE);
    raw_expect_silence(&answerers[0]);
}

static void a_second_message_commits(void **state)
{
    struct mesh_call_options options = {.idempotent = true};
    struct mesh_stream *stream = NULL;
    struct status status;
    uint64_t id;

    (void)state;
    connect_to(1, NULL);
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    id = raw_expect(&answerers[0], MESH_OPEN)->header.call_id;
    raw_send(&answerers[0],
             &(struct mesh_header){
                 .kind = MESH_ACCEPT, .call_id = id, .credit_messages = 16, .credit_bytes = 65536},
             NULL, NULL);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 5000), 0);
    raw_expect(&answerers[0], MESH_DATA);
    end_with(&answerers[0], id, STATUS_UNAVAILABLE, 0, 0);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    raw_expect_silence(&answerers[0]);
}

/* A stream that has got no further than its OPEN is like a unary call; END_SEND said meanwhile goes along. */
static void a_stream_before_its_second_message(void **state)
{
    struct mesh_call_options options = {.idempotent = true};
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    struct status status;
    uint64_t id;

    (void)state;
    connect_to(1, NULL);
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    id = raw_expect(&answerers[0], MESH_OPEN)->header.call_id;
    end_with(&answerers[0], id, STATUS_UNAVAILABLE, 0, 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5), -EAGAIN);
    assert_int_equal(mesh_stream_finish(stream), 0);
    raw_expect(&answerers[0], MESH_OPEN);
    assert_int_equal(answerers[0].frame.header.attempt, 1);
    assert_int_equal(answerers[0].frame.header.flags & (MESH_END_SEND | MESH_MESSAGE),
                     MESH_END_SEND | MESH_MESSAGE);
    end_with(&answerers[0], answerers[0].frame.header.call_id, STATUS_OK, 0, 0);
    assert_int_equal(rig_read_all(stream, &status), 1);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void the_servers_delay_holds(void **state)
{
    struct mesh_call_options short_of_time = {.idempotent = true, .timeout_ms = 400};
    struct outcome outcome;
    int64_t begun;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, true);
    begun = clock_now_ns();
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_UNAVAILABLE, 0, 200);
    end_with(&answerers[0], expect_open(&answerers[0], 1), STATUS_OK, 0, 0);
    assert_true(clock_now_ns() - begun >= 200 * NS_PER_MS);
    expect_outcome(&outcome, STATUS_OK);

    start_with(&outcome, &short_of_time); /* which it would outlast: the status as it is, now */
    begun = clock_now_ns();
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_UNAVAILABLE, 0, 500);
    expect_outcome(&outcome, STATUS_UNAVAILABLE);
    assert_true(clock_now_ns() - begun < 390 * NS_PER_MS);
    assert_int_equal(outcome.status.retry_delay_ms, 500);
}

static void the_deadline_ends_the_wait(void **state)
{
    static const struct mesh_retry_options retry = {.initial_backoff_ms = 1000};
    struct mesh_call_options options = {.idempotent = true, .timeout_ms = 1500};
    struct outcome outcome;
    int64_t begun;

    (void)state;
    connect_to(1, &retry);
    start_with(&outcome, &options);
    begun = clock_now_ns();
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_UNAVAILABLE, 0, 0);
    expect_open(&answerers[0], 1);
    assert_in_range(answerers[0].frame.header.timeout_ns, 1, 700 * NS_PER_MS); /* what is left */
    expect_outcome(&outcome, STATUS_DEADLINE_EXCEEDED);
    assert_in_range((clock_now_ns() - begun) / NS_PER_MS, 1400, 4000);
}

static void cancelled_between_tries(void **state)
{
    static const struct mesh_retry_options retry = {.initial_backoff_ms = 300};
    struct mesh_call_options options = {.idempotent = true};
    struct mesh_stream *stream = NULL;
    struct status status;

    (void)state;
    connect_to(1, &retry);
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &stream), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    end_with(&answerers[0], raw_expect(&answerers[0], MESH_OPEN)->header.call_id,
             STATUS_UNAVAILABLE, 0, 0);
    rig_sleep_ms(20);
    mesh_stream_cancel(stream);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_CANCELLED);
    mesh_stream_destroy(&stream);
    assert_null(raw_receive(&answerers[0], 500));
}

static void requests_past_the_buffer_are_not_kept(void **state)
{
    static const struct mesh_retry_options retry = {.initial_backoff_ms = 1, .buffer_bytes = 1000};
    struct mesh_call_options options = {.idempotent = true};
    struct outcome outcomes[6];
    int retried = 0, ended = 0;

    (void)state;
    connect_to(1, &retry);
    for (int i = 0; i < 6; i++)
        start_with(&outcomes[i], &options);
    while (ended < 6) {
        const struct mesh_frame *frame = raw_expect(&answerers[0], MESH_OPEN);
        bool again = frame->header.attempt > 0;

        retried += again;
        end_with(&answerers[0], frame->header.call_id, again ? STATUS_OK : STATUS_UNAVAILABLE, 0,
                 0);
        rig_sleep_ms(3);
        ended = 0;
        for (int i = 0; i < 6; i++)
            ended += atomic_load(&outcomes[i].ended);
    }
    assert_in_range(retried, 5, 6); /* of some 130 bytes each, freed as they end */
}

/* No handler has seen it: another broker may have one. */
static void unprocessed_goes_elsewhere(void **state)
{
    static const enum status_code codes[] = {STATUS_UNAVAILABLE, STATUS_RESOURCE_EXHAUSTED,
                                             STATUS_UNIMPLEMENTED};
    struct outcome outcome;
    double before = counted(RESENDS);

    (void)state;
    connect_to(2, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct raw *first, *second;

        start(&outcome, false);
        first = raw_receive(&answerers[0], 100) ? &answerers[0] : &answerers[1];
        second = first == &answerers[0] ? &answerers[1] : &answerers[0];
        if (first == &answerers[1])
            assert_non_null(raw_receive(first, 100));
        end_with(first, first->frame.header.call_id, codes[i], MESH_UNPROCESSED, 0);
        end_with(second, expect_open(second, 0), i == 2 ? codes[i] : STATUS_OK,
                 i == 2 ? MESH_UNPROCESSED : 0, 0);
        expect_outcome(&outcome, i == 2 ? codes[i] : STATUS_OK); /* all have said so */
    }
    assert_true(counted(RESENDS) == before + 3);
}

static void unprocessed_by_the_only_one_is_the_answer(void **state)
{
    struct outcome outcome;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, false);
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_UNAVAILABLE, MESH_UNPROCESSED, 0);
    expect_outcome(&outcome, STATUS_UNAVAILABLE);
    raw_expect_silence(&answerers[0]);
}

/* OPEN and GOAWAY cross: the next session has it, and the caller does not notice. */
static void goaway_is_not_noticed(void **state)
{
    struct outcome outcome;
    uint64_t id;

    (void)state;
    connect_to(1, NULL);
    start(&outcome, false);
    id = expect_open(&answerers[0], 0);
    raw_send(&answerers[0], &(struct mesh_header){.kind = MESH_GOAWAY}, NULL, NULL);
    end_with(&answerers[0], id, STATUS_UNAVAILABLE, MESH_UNPROCESSED, 0);
    raw_expect(&answerers[0], MESH_BYE);
    raw_greet(&answerers[0], 60000);
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_OK, 0, 0);
    expect_outcome(&outcome, STATUS_OK);
}

/* A BYE says which calls it has read: the others are sent again, idempotent or not. */
static void calls_that_cross_a_bye(void **state)
{
    struct outcome read, crossed;
    uint64_t first;

    (void)state;
    connect_to(1, NULL);
    start(&read, false);
    first = expect_open(&answerers[0], 0);
    start(&crossed, false);
    expect_open(&answerers[0], 0);
    raw_send(&answerers[0],
             &(struct mesh_header){.kind = MESH_BYE, .flags = MESH_UNPROCESSED, .call_id = first},
             NULL, NULL);
    expect_outcome(&read, STATUS_UNAVAILABLE);
    raw_greet(&answerers[0], 60000);
    end_with(&answerers[0], expect_open(&answerers[0], 0), STATUS_OK, 0, 0);
    expect_outcome(&crossed, STATUS_OK);
}

static void a_lost_session_is_made_up_for(void **state)
{
    struct outcome may, must_not;
    struct raw *lost, *left;

    (void)state;
    connect_to(2, NULL);
    start(&may, true);
    lost = raw_receive(&answerers[0], 100) ? &answerers[0] : &answerers[1];
    left = lost == &answerers[0] ? &answerers[1] : &answerers[0];
    if (lost == &answerers[1])
        assert_non_null(raw_receive(lost, 100));
    raw_send(lost, &(struct mesh_header){.kind = MESH_BYE}, NULL, NULL);
    end_with(left, expect_open(left, 1), STATUS_OK, 0, 0);
    expect_outcome(&may, STATUS_OK);

    start(&must_not, false); /* it may have run */
    expect_open(left, 0);
    raw_send(left, &(struct mesh_header){.kind = MESH_BYE}, NULL, NULL);
    expect_outcome(&must_not, STATUS_UNAVAILABLE);
}

/* What never left is sent again whatever it is. More than the socket takes, to a peer that does not read. */
static void unwritten_calls_are_sent_again(void **state)
{
    enum { CALLS = 12000 };
    struct outcome *outcomes = calloc(CALLS, sizeof(*outcomes));
    double before = counted(STARTED);
    int ok = 0, opened = 0;

    (void)state;
    connect_to(1, NULL);
    for (int i = 0; i < CALLS; i++)
        start(&outcomes[i], false);
    rig_wait(counted(STARTED) >= before + CALLS); /* all have been given to the link */
    zmq_unbind(answerers[0].socket, endpoints[0]);
    raw_send(&answerers[0], &(struct mesh_header){.kind = MESH_BYE}, NULL, NULL);
    rig_wait(!mesh_channel_connected(channel));
    raw_close(&answerers[0]);
    raw_open(&answerers[0], context, MESH_ROUTER, endpoints[0]);
    raw_greet(&answerers[0], 60000);
    while (raw_receive(&answerers[0], 300)) {
        if (answerers[0].frame.header.kind != MESH_OPEN)
            continue;
        assert_int_equal(answerers[0].frame.header.attempt, 0);
        end_with(&answerers[0], answerers[0].frame.header.call_id, STATUS_OK, 0, 0);
        opened++;
    }
    for (int i = 0; i < CALLS; i++) {
        rig_wait(atomic_load(&outcomes[i].ended) == 1);
        assert_true(outcomes[i].status.code == STATUS_OK ||
                    outcomes[i].status.code == STATUS_UNAVAILABLE);
        ok += outcomes[i].status.code == STATUS_OK;
    }
    assert_int_equal(ok, opened);
    assert_in_range(ok, 1, CALLS - 4096);
    free(outcomes);
}

/* A Unix socket that is full, to a peer that does not read, and dies: what was not written is known. */
static void a_full_unix_socket_is_made_up_for(void **state)
{
    enum { CALLS = 2000, BYTES = 4096, WRITTEN = 400 /* at most: what sockets and libzmq hold */ };
    static struct outcome outcomes[CALLS];
    static uint8_t payload[BYTES];
    char endpoint[128];
    struct mesh_channel_options options = {.endpoint = endpoint, .context = context};
    echo_request request = empty;
    double before = counted(STARTED);
    int one = 1, ok = 0;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc:///tmp/dragoman-retry-%d", (int)getpid());
    answerers[0] = (struct raw){.kind = MESH_ROUTER};
    answerers[0].socket = mesh_socket_open(context, MESH_ROUTER, 1 << 20);
    zmq_setsockopt(answerers[0].socket, ZMQ_RCVHWM, &one, sizeof(one));
    assert_int_equal(zmq_bind(answerers[0].socket, endpoint), 0);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    raw_greet(&answerers[0], 60000);
    request.payload = (ProtobufCBinaryData){.len = BYTES, .data = payload};
    for (int i = 0; i < CALLS; i++) {
        atomic_init(&outcomes[i].ended, 0);
        assert_int_equal(
            mesh_unary_start(channel, ECHO, "Unary", &request.base, NULL, on_done, &outcomes[i]),
            0);
    }
    rig_wait(counted(STARTED) >= before + CALLS);
    raw_close(&answerers[0]);
    rig_wait(!mesh_channel_connected(channel));
    raw_open(&answerers[0], context, MESH_ROUTER, endpoint);
    raw_greet(&answerers[0], 60000);
    while (raw_receive(&answerers[0], 300))
        if (answerers[0].frame.header.kind == MESH_OPEN)
            end_with(&answerers[0], answerers[0].frame.header.call_id, STATUS_OK, 0, 0);
    for (int i = 0; i < CALLS; i++) {
        rig_wait(atomic_load(&outcomes[i].ended) == 1);
        ok += outcomes[i].status.code == STATUS_OK;
    }
    assert_in_range(ok, CALLS - WRITTEN, CALLS - 1);
    unlink(endpoint + strlen("ipc://"));
}

#define TEST(test)                                                                                 \
    {                                                                                              \
        .name = #test, .test_func = test, .setup_func = setup, .teardown_func = teardown           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range),
        cmocka_unit_test(backoff_grows_to_its_bound),
        cmocka_unit_test(only_some_codes),
        cmocka_unit_test(never_past_the_deadline),
        cmocka_unit_test(the_budget_runs_out_and_fills),
        TEST(idempotent_calls_are_tried_again),
        TEST(attempts_are_bounded),
        TEST(others_are_not),
        TEST(a_begun_answer_commits),
        TEST(a_second_message_commits),
        TEST(a_stream_before_its_second_message),
        TEST(the_servers_delay_holds),
        TEST(the_deadline_ends_the_wait),
        TEST(cancelled_between_tries),
        TEST(requests_past_the_buffer_are_not_kept),
        TEST(unprocessed_goes_elsewhere),
        TEST(unprocessed_by_the_only_one_is_the_answer),
        TEST(goaway_is_not_noticed),
        TEST(calls_that_cross_a_bye),
        TEST(a_lost_session_is_made_up_for),
        TEST(unwritten_calls_are_sent_again),
        TEST(a_full_unix_socket_is_made_up_for),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
