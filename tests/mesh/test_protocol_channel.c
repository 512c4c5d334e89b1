/* Servers that break the protocol, fall silent or are not there: what a channel makes of it. docs/wire.md */
#include "tests/mesh/raw.h"

#include "base/clock.h"
#include "base/log.h"
#include "mesh/credit.h"

#include <errno.h>

#define ENDPOINT "inproc://protocol"

static void *context;
static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
static struct raw answerer;
static struct mesh_channel *channel;

static int setup(void **state)
{
    struct mesh_channel_options options = {.endpoint = ENDPOINT};

    (void)state;
    context = zmq_ctx_new();
    options.context = context;
    raw_open(&answerer, context, MESH_ROUTER, ENDPOINT);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    raw_close(&answerer);
    zmq_ctx_term(context);
    return 0;
}

/* A stream whose OPEN has come. */
static struct mesh_stream *opened(const char *method, const struct mesh_call_options *options,
                                  uint64_t *id)
{
    struct mesh_stream *stream = NULL;
    const struct mesh_frame *frame;

    assert_int_equal(mesh_stream_open(channel, ECHO, method, options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    frame = raw_expect(&answerer, MESH_OPEN);
    assert_int_equal(frame->header.seq, 1);
    *id = frame->header.call_id;
    return stream;
}

static void answer(uint8_t kind, uint64_t id, uint32_t seq, enum status_code status, bool message)
{
    raw_send(
        &answerer,
        &(struct mesh_header){.kind = kind, .call_id = id, .seq = seq, .status = (uint16_t)status},
        NULL, message ? &empty.base : NULL);
}

static void answers_out_of_sequence(void **state)
{
    static const uint32_t seqs[] = {2, 0, UINT32_MAX};
    struct mesh_stream *stream;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    for (int i = 0; i < 3; i++) {
        stream = opened("Chat", NULL, &id);
        answer(MESH_DATA, id, seqs[i], STATUS_OK, true);
        rig_expect_end(stream, STATUS_INTERNAL);
        assert_int_equal(raw_expect(&answerer, MESH_CANCEL)->header.call_id, id);
        answer(MESH_END, id, 0, STATUS_CANCELLED, false); /* late */
        mesh_stream_destroy(&stream);
    }
    stream = opened("Chat", NULL, &id); /* one answer is missing at the end */
    answer(MESH_DATA, id, 1, STATUS_OK, true);
    answer(MESH_END, id, 2, STATUS_OK, false);
    rig_expect_end(stream, STATUS_INTERNAL);
    mesh_stream_destroy(&stream);
    stream = opened("Chat", NULL, &id); /* who did not make it well need not know */
    answer(MESH_DATA, id, 1, STATUS_OK, true);
    answer(MESH_END, id, 0, STATUS_ABORTED, false);
    rig_expect_end(stream, STATUS_ABORTED);
    mesh_stream_destroy(&stream);
    assert_true(mesh_channel_connected(channel));
}

static void answers_without_credit(void **state)
{
    struct mesh_stream *stream;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    stream = opened("Chat", NULL, &id);
    for (uint32_t i = 1; i <= MESH_WINDOW_MESSAGES + 1; i++)
        answer(MESH_DATA, id, i, STATUS_OK, true);
    raw_expect(&answerer, MESH_CANCEL);
    rig_expect_end(stream, STATUS_INTERNAL);
    mesh_stream_destroy(&stream);
}

static void unary_calls_have_one_response(void **state)
{
    struct mesh_stream *stream;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    stream = opened("Unary", NULL, &id);
    answer(MESH_END, id, 1, STATUS_OK, true);
    rig_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
    stream = opened("Unary", NULL, &id);
    answer(MESH_END, id, 0, (enum status_code)99, false); /* a code of the future */
    rig_expect_end(stream, STATUS_UNKNOWN);
    mesh_stream_destroy(&stream);
}

struct unary_end {
    struct status status;
    bool has_response;
    atomic_bool done;
};

static void unary_ended(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct unary_end *end = arg;

    end->status = *status;
    end->has_response = response != NULL;
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    atomic_store(&end->done, true);
}

static void unary_responses_are_checked(void **state)
{
    static const struct {
        bool data, again, end;
        enum status_code want;
    } cases[] = {
        {false, false, true, STATUS_OK},        /* on END */
        {true, false, false, STATUS_OK},        /* on DATA before it */
        {false, false, false, STATUS_INTERNAL}, /* none */
        {true, true, false, STATUS_INTERNAL},   /* two */
        {true, false, true, STATUS_INTERNAL},
    };

    (void)state;
    raw_greet(&answerer, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct unary_end end = {.has_response = false};
        uint32_t seq = 0;
        uint64_t id;

        assert_int_equal(
            mesh_unary_start(channel, ECHO, "Unary", &empty.base, NULL, unary_ended, &end), 0);
        id = raw_expect(&answerer, MESH_OPEN)->header.call_id;
        if (cases[i].data)
            answer(MESH_DATA, id, ++seq, STATUS_OK, true);
        if (cases[i].again)
            answer(MESH_DATA, id, ++seq, STATUS_OK, true);
        seq += cases[i].end;
        answer(MESH_END, id, seq, STATUS_OK, cases[i].end);
        rig_wait(atomic_load(&end.done));
        assert_int_equal(end.status.code, cases[i].want);
        assert_int_equal(end.has_response, cases[i].want == STATUS_OK);
    }
}

static void malformed_answers_end_the_session(void **state)
{
    struct mesh_stream *stream;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    stream = opened("Chat", NULL, &id);
    raw_send_bytes(&answerer, "rubbish", 7, NULL, 0);
    rig_expect_end(stream, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    raw_expect_error(&answerer, STATUS_INVALID_ARGUMENT);
    raw_greet(&answerer, 0); /* and it comes back */
    stream = opened("Chat", NULL, &id);
    answer(MESH_END, id + (1 << 16), 0, STATUS_OK, false); /* a call that was never made */
    rig_expect_end(stream, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    raw_expect_error(&answerer, STATUS_INVALID_ARGUMENT);
    raw_greet(&answerer, 0);
    stream = opened("Chat", NULL, &id);
    answer(MESH_OPEN, id, 0, STATUS_OK, false); /* not a server's to send */
    rig_expect_end(stream, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
}

static void bad_welcomes(void **state)
{
    Dragoman__Mesh__V1__Welcome welcome = DRAGOMAN__MESH__V1__WELCOME__INIT;

    (void)state;
    raw_expect(&answerer, MESH_HELLO);
    raw_send_body(&answerer, (struct mesh_header){.kind = MESH_WELCOME}, "\xff", 1);
    raw_expect(&answerer, MESH_HELLO); /* tries again */
    welcome.version = 2;
    raw_send(&answerer, &(struct mesh_header){.kind = MESH_WELCOME}, NULL, &welcome.base);
    raw_greet(&answerer, 0);
    rig_wait(mesh_channel_connected(channel));
}

static void a_silent_server_is_given_up(void **state)
{
    struct mesh_stream *stream;
    uint64_t id;
    int64_t begun = clock_now_ms();

    (void)state;
    raw_greet(&answerer, 20);
    stream = opened("Chat", NULL, &id);
    rig_expect_end(stream, STATUS_UNAVAILABLE);
    assert_in_range(clock_now_ms() - begun, 50, 4000);
    mesh_stream_destroy(&stream);
}

static void goaway_lets_running_calls_finish(void **state)
{
    struct mesh_call_options options = {.wait_for_ready = true};
    struct mesh_stream *running, *later = NULL;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    running = opened("Chat", NULL, &id);
    answer(MESH_GOAWAY, 0, 0, STATUS_OK, false);
    rig_wait(!mesh_channel_connected(channel));
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &later), 0);
    assert_int_equal(mesh_stream_write(later, &empty.base, 0), 0);
    raw_expect_silence(&answerer); /* not on this session */
    answer(MESH_DATA, id, 1, STATUS_OK, true);
    answer(MESH_END, id, 1, STATUS_OK, false);
    rig_expect_end(running, STATUS_OK);
    raw_expect(&answerer, MESH_BYE);
    raw_greet(&answerer, 0);
    id = raw_expect(&answerer, MESH_OPEN)->header.call_id;
    answer(MESH_END, id, 0, STATUS_OK, false);
    rig_expect_end(later, STATUS_OK);
    mesh_stream_destroy(&running);
    mesh_stream_destroy(&later);
}

static void deadlines_travel_as_time_left(void **state)
{
    struct mesh_call_options options = {.timeout_ms = 50};
    struct mesh_stream *stream;
    uint64_t id;

    (void)state;
    raw_greet(&answerer, 0);
    stream = opened("Chat", &options, &id);
    assert_in_range(answerer.frame.header.timeout_ns, 1, 50000000);
    rig_expect_end(stream, STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(raw_expect(&answerer, MESH_CANCEL)->header.status, STATUS_DEADLINE_EXCEEDED);
    mesh_stream_destroy(&stream);
}

static void a_call_that_waits_is_one_open(void **state)
{
    struct mesh_call_options options = {
        .wait_for_ready = true, .idempotent = true, .selector = "lang=en"};
    struct mesh_stream *stream = NULL;
    const struct mesh_frame *frame;
    mesh_meta *meta = NULL;

    (void)state;
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 0), 0);
    assert_int_equal(mesh_stream_write(stream, &empty.base, 10),
                     -EAGAIN); /* no credit before ACCEPT */
    assert_int_equal(mesh_stream_finish(stream), 0);
    raw_greet(&answerer, 0);
    frame = raw_expect(&answerer, MESH_OPEN);
    assert_int_equal(frame->header.flags, MESH_MESSAGE | MESH_INLINE | MESH_END_SEND | MESH_WAIT |
                                              MESH_IDEMPOTENT | MESH_ROUTE);
    assert_int_equal(mesh_meta_unpack(frame, &meta), 0);
    assert_string_equal(meta->method, "/dragoman.test.v1.Echo/Chat");
    assert_string_equal(meta->selector[0]->key, "lang");
    assert_int_equal(meta->traceparent.len, MESH_TRACEPARENT_BYTES);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    mesh_stream_destroy(&stream);
    raw_expect(&answerer, MESH_CANCEL);
}

static void nobody_there(void **state)
{
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 1500};
    struct mesh_channel_options options = {.endpoint = "tcp://127.0.0.1:1"};
    struct mesh_channel *lonely = NULL;
    int64_t begun = clock_now_ms();

    (void)state;
    assert_int_equal(mesh_channel_create(&options, &lonely), 0);
    assert_int_equal(rig_unary(lonely, &empty, NULL, NULL).code, STATUS_UNAVAILABLE);
    assert_in_range(clock_now_ms() - begun, 500, 5000); /* a moment for the connection to come */
    begun = clock_now_ms();
    assert_int_equal(rig_unary(lonely, &empty, NULL, NULL).code, STATUS_UNAVAILABLE);
    assert_in_range(clock_now_ms() - begun, 0, 400); /* and none once it has not */
    assert_int_equal(rig_unary(lonely, &empty, &patient, NULL).code, STATUS_DEADLINE_EXCEEDED);
    mesh_channel_destroy(&lonely);
}

/* long_lived_channel: idle for longer than three heartbeats. */
static void an_idle_session_stands(void **state)
{
    struct mesh_server_options serve = {
        .endpoint = "inproc://idle", .bind = true, .context = context, .heartbeat_ms = 100};
    struct mesh_channel_options to = {.endpoint = "inproc://idle", .context = context};
    struct mesh_server *idle = NULL;
    struct mesh_channel *lonely = NULL;

    (void)state;
    assert_int_equal(mesh_server_create(&serve, &idle), 0);
    assert_int_equal(echo_add(idle), 0);
    assert_int_equal(mesh_server_start(idle), 0);
    assert_int_equal(mesh_channel_create(&to, &lonely), 0);
    rig_wait(mesh_channel_connected(lonely));
    for (int i = 0; i < 600; i++) {
        rig_sleep_ms(1);
        assert_true(mesh_channel_connected(lonely));
    }
    assert_int_equal(rig_unary(lonely, &empty, NULL, NULL).code, STATUS_OK);
    mesh_channel_destroy(&lonely);
    mesh_server_destroy(&idle);
}

static void endpoints_that_lead_nowhere(void **state)
{
    struct mesh_channel_options to = {.endpoint = "localhost:5601"};
    struct mesh_server_options serve = {.endpoint = "inproc://x"};
    struct mesh_server *none = NULL;
    struct mesh_channel *lonely = NULL;

    (void)state;
    assert_int_equal(mesh_channel_create(&to, &lonely), -EINVAL);
    to.endpoint = "inproc://x"; /* in no context but its own */
    assert_int_equal(mesh_channel_create(&to, &lonely), -EINVAL);
    assert_int_equal(mesh_server_create(&serve, &none), -EINVAL);
    serve = (struct mesh_server_options){.endpoint = "tcp://999.1.1.1:1", .bind = true};
    assert_int_equal(mesh_server_create(&serve, &none), 0);
    assert_true(mesh_server_start(none) < 0);
    mesh_server_destroy(&none);
}

static void count_unavailable(void *arg, const struct status *status, ProtobufCMessage *response)
{
    assert_null(response);
    atomic_fetch_add((atomic_int *)arg, status->code == STATUS_UNAVAILABLE);
}

static void a_server_that_does_not_read(void **state)
{
    enum { CALLS = 20000 };
    atomic_int ended;
    int n = 0;

    (void)state;
    atomic_init(&ended, 0);
    raw_greet(&answerer, 60000);
    rig_wait(mesh_channel_connected(channel));
    while (n < CALLS && ended == 0) {
        assert_int_equal(
            mesh_unary_start(channel, ECHO, "Unary", &empty.base, NULL, count_unavailable, &ended),
            0);
        n++;
    }
    rig_wait(ended == n); /* all of them, when the session was given up */
}

static void destroy_ends_calls(void **state)
{
    struct unary_end end = {.has_response = false};

    (void)state;
    raw_greet(&answerer, 0);
    assert_int_equal(mesh_unary_start(channel, ECHO, "Unary", &empty.base, NULL, unary_ended, &end),
                     0);
    raw_expect(&answerer, MESH_OPEN);
    mesh_channel_destroy(&channel);
    assert_true(end.done);
    assert_int_equal(end.status.code, STATUS_CANCELLED);
    raw_expect(&answerer, MESH_CANCEL);
    raw_expect(&answerer, MESH_BYE);
}

/* Each with a fresh one. */
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(answers_out_of_sequence),
        CASE(answers_without_credit),
        CASE(unary_calls_have_one_response),
        CASE(unary_responses_are_checked),
        CASE(malformed_answers_end_the_session),
        CASE(bad_welcomes),
        CASE(a_silent_server_is_given_up),
        CASE(goaway_lets_running_calls_finish),
        CASE(deadlines_travel_as_time_left),
        CASE(a_call_that_waits_is_one_open),
        CASE(nobody_there),
        CASE(a_server_that_does_not_read),
        CASE(an_idle_session_stands),
        CASE(endpoints_that_lead_nowhere),
        CASE(destroy_ends_calls),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("protocol: a channel", tests, NULL, NULL);
}
