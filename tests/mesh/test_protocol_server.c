/* Callers that break the protocol: their call or session ends, the server serves on. docs/wire.md */
#include "tests/mesh/raw.h"

#include "base/log.h"
#include "mesh/credit.h"

#include <stdlib.h>
#include <string.h>

#define ENDPOINT "inproc://protocol"

static void *context;
static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
static struct mesh_server *server;
static struct raw caller;

static int setup(void **state)
{
    struct mesh_server_options options = {
        .endpoint = ENDPOINT, .bind = true, .context = NULL, .capacity = 4};

    (void)state;
    context = zmq_ctx_new();
    options.context = context;
    echo_reset();
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    raw_open(&caller, context, MESH_DEALER, ENDPOINT);
    return 0;
}

/* Whatever was done to it, it serves. */
static int teardown(void **state)
{
    struct mesh_channel_options options = {.endpoint = ENDPOINT, .context = context};
    struct mesh_channel *channel = NULL;

    (void)state;
    raw_close(&caller);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    assert_int_equal(rig_unary(channel, &empty, NULL, NULL).code, STATUS_OK);
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
    zmq_ctx_term(context);
    return 0;
}

static void send_kind(uint8_t kind, uint16_t flags, uint64_t call_id)
{
    raw_send(&caller, &(struct mesh_header){.kind = kind, .flags = flags, .call_id = call_id}, NULL,
             NULL);
}

static void hello_comes_first(void **state)
{
    (void)state;
    raw_open_call(&caller, 1, "Unary", MESH_END_SEND, &empty);
    raw_expect_error(&caller, STATUS_FAILED_PRECONDITION);
    send_kind(MESH_PONG, 0, 0); /* never answered with ERROR: two confused peers would not stop */
    send_kind(MESH_BYE, 0, 0);
    send_kind(MESH_ERROR, 0, 0);
    raw_expect_silence(&caller);
    raw_greet(&caller, 0);
}

static void versions_must_overlap(void **state)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;

    (void)state;
    hello.version_min = 2;
    hello.version_max = 9;
    raw_send(&caller, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    raw_expect_error(&caller, STATUS_UNIMPLEMENTED);
    hello.version_min = 0;
    raw_send(&caller, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    raw_expect(&caller, MESH_WELCOME);
}

static void hello_must_parse(void **state)
{
    (void)state;
    raw_send_body(&caller, (struct mesh_header){.kind = MESH_HELLO}, "\xff\xff\xff", 3);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
    send_kind(MESH_HELLO, 0, 0);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
}

static void garbage_ends_the_session(void **state)
{
    uint8_t frame[MESH_HEADER_BYTES];
    struct mesh_header header = {.kind = MESH_PING};

    (void)state;
    raw_greet(&caller, 0);
    raw_send_bytes(&caller, "hello", 5, NULL, 0);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
    send_kind(MESH_PING, 0, 0);
    raw_expect_error(&caller, STATUS_FAILED_PRECONDITION); /* there is none any more */

    raw_greet(&caller, 0);
    mesh_header_encode(&header, frame);
    frame[3] = 2; /* another major version */
    raw_send_bytes(&caller, frame, sizeof(frame), NULL, 0);
    raw_expect_error(&caller, STATUS_UNIMPLEMENTED);

    raw_greet(&caller, 0);
    frame[3] = 1;
    frame[20] ^= 1; /* crc */
    raw_send_bytes(&caller, frame, sizeof(frame), NULL, 0);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);

    raw_greet(&caller, 0);
    raw_send_bytes(&caller, "", 0, NULL, 0);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
}

static void a_thousand_parts(void **state)
{
    (void)state;
    raw_greet(&caller, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(zmq_send(caller.socket, "x", 1, i < 999 ? ZMQ_SNDMORE : 0) >= 0);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
}

static void unknown_kinds(void **state)
{
    (void)state;
    raw_greet(&caller, 0);
    send_kind(99, 0, 0);
    send_kind(MESH_PING, 0, 12345);
    assert_int_equal(raw_expect(&caller, MESH_PONG)->header.call_id, 12345);
    send_kind(99, MESH_CRITICAL, 0);
    raw_expect_error(&caller, STATUS_UNIMPLEMENTED);
}

static void kinds_from_the_wrong_side(void **state)
{
    static const uint8_t kinds[] = {MESH_WELCOME,    MESH_PONG,  MESH_GOAWAY,  MESH_REGISTER,
                                    MESH_REGISTERED, MESH_DRAIN, MESH_DRAINED, MESH_CAPACITY,
                                    MESH_ACCEPT,     MESH_END,   MESH_INITIAL};

    (void)state;
    for (size_t i = 0; i < sizeof(kinds); i++) {
        raw_greet(&caller, 0);
        send_kind(kinds[i], 0, 0);
        raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
    }
}

static void ids_must_rise(void **state)
{
    (void)state;
    raw_greet(&caller, 0);
    raw_open_call(&caller, 7, "Unary", MESH_END_SEND, &empty);
    raw_expect_end(&caller, 7, STATUS_OK);
    send_kind(MESH_CANCEL, 0, 7); /* late: nothing happens */
    send_kind(MESH_CANCEL, 0, 3);
    raw_expect_silence(&caller);
    raw_open_call(&caller, 7, "Unary", MESH_END_SEND, &empty);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
    assert_int_equal(echo_counts.started, 1); /* at most once */

    raw_greet(&caller, 0);
    send_kind(MESH_CANCEL, 0, 1); /* a call that was never opened */
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
}

static void a_second_hello_ends_what_ran(void **state)
{
    echo_request request = empty;

    (void)state;
    request.until_cancelled = true;
    raw_greet(&caller, 0);
    raw_open_call(&caller, 1, "Unary", MESH_END_SEND, &request);
    rig_wait(echo_counts.started == 1);
    raw_greet(&caller, 0);
    rig_wait(echo_counts.cancelled == 1);
    raw_open_call(&caller, 1, "Unary", MESH_END_SEND, &empty); /* ids begin anew */
    raw_expect_end(&caller, 1, STATUS_OK);
}

static void send_data(uint64_t call_id, uint32_t seq, uint16_t flags)
{
    raw_send(
        &caller,
        &(struct mesh_header){.kind = MESH_DATA, .call_id = call_id, .seq = seq, .flags = flags},
        NULL, &empty.base);
}

static void answers_are_numbered(void **state)
{
    const struct mesh_frame *frame;

    (void)state;
    raw_greet(&caller, 0);
    raw_open_call(&caller, 1, "Chat", 0, NULL);
    frame = raw_expect(&caller, MESH_ACCEPT);
    assert_int_equal(frame->header.credit_messages, MESH_WINDOW_MESSAGES);
    assert_int_equal(frame->header.credit_bytes, MESH_WINDOW_BYTES);
    for (uint32_t i = 1; i <= 3; i++) {
        send_data(1, i, i == 3 ? MESH_END_SEND : 0);
        frame = raw_expect(&caller, MESH_DATA);
        assert_int_equal(frame->header.seq, i);
    }
    frame = raw_expect(&caller, MESH_END);
    assert_int_equal(frame->header.seq, 3);
    assert_int_equal(frame->header.status, STATUS_OK);
}

static void sequence_breaks(void **state)
{
    static const uint32_t second[] = {1, 3, 0, UINT32_MAX};

    (void)state;
    raw_greet(&caller, 0);
    for (uint64_t i = 0; i < 4; i++) {
        raw_open_call(&caller, i + 1, "Collect", 0, NULL);
        raw_expect(&caller, MESH_ACCEPT);
        send_data(i + 1, 1, 0);
        send_data(i + 1, second[i], 0);
        raw_expect_end(&caller, i + 1, STATUS_INTERNAL);
    }
    rig_wait(echo_counts.ended == 4);
    raw_open_call(&caller, 5, "Collect", 0, NULL); /* a half-close that knows of more */
    raw_expect(&caller, MESH_ACCEPT);
    raw_send(
        &caller,
        &(struct mesh_header){.kind = MESH_DATA, .call_id = 5, .seq = 2, .flags = MESH_END_SEND},
        NULL, NULL);
    raw_expect_end(&caller, 5, STATUS_INTERNAL);
    raw_open_call(&caller, 6, "Collect", 0, NULL); /* a message after the last */
    raw_expect(&caller, MESH_ACCEPT);
    send_data(6, 1, MESH_END_SEND);
    send_data(6, 2, 0);
    assert_int_equal(raw_expect(&caller, MESH_END)->header.call_id, 6); /* OK or INTERNAL: a race */
}

static void credit_is_exceeded(void **state)
{
    echo_request request = empty;

    (void)state;
    request.sleep_ms = 200;
    raw_greet(&caller, 0);
    raw_open_call(&caller, 1, "Collect", 0, &request);
    raw_expect(&caller, MESH_ACCEPT);
    rig_wait(echo_counts.received == 1); /* and sits on it */
    for (uint32_t i = 2; i < 2 + MESH_WINDOW_MESSAGES + 1; i++)
        send_data(1, i, 0);
    raw_expect_end(&caller, 1, STATUS_INTERNAL);
}

static void data_before_accept_is_in_credit_of_nobody(void **state)
{
    (void)state;
    raw_greet(&caller, 0);
    for (uint64_t id = 1; id <= 4; id++) { /* all slots busy */
        echo_request request = empty;

        request.sleep_ms = 100;
        raw_open_call(&caller, id, "Unary", MESH_END_SEND, &request);
    }
    raw_open_call(&caller, 5, "Collect", 0, NULL); /* waits */
    for (uint32_t i = 1; i <= MESH_WINDOW_MESSAGES + 1; i++)
        send_data(5, i, 0);
    raw_expect_end(&caller, 5, STATUS_INTERNAL);
}

static void bodies_that_are_none(void **state)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = 1, .seq = 1};
    uint8_t small[400];
    uint8_t *zeros = calloc(1, 60000);
    size_t size = mesh_body_compress(zeros, 60000, small);

    (void)state;
    free(zeros);
    raw_greet(&caller, 0);
    raw_open_call(&caller, 1, "Collect", 0, NULL);
    raw_expect(&caller, MESH_ACCEPT);
    raw_send_body(&caller, header, "\x0a\xff", 2); /* not an EchoRequest */
    raw_expect_end(&caller, 1, STATUS_INTERNAL);

    header.call_id = 2;
    header.flags = MESH_LZ4;
    header.body_bytes = 100;
    raw_open_call(&caller, 2, "Collect", 0, NULL);
    raw_expect(&caller, MESH_ACCEPT);
    raw_send_body(&caller, header, "not lz4", 7);
    raw_expect_end(&caller, 2, STATUS_INTERNAL);

    header.call_id = 3;
    header.body_bytes = 59999; /* it holds one more */
    raw_open_call(&caller, 3, "Collect", 0, NULL);
    raw_expect(&caller, MESH_ACCEPT);
    raw_send_body(&caller, header, small, size);
    raw_expect_end(&caller, 3, STATUS_INTERNAL);

    header.call_id = 4;
    header.body_bytes = UINT32_MAX; /* a bomb, by its own words */
    raw_open_call(&caller, 4, "Collect", 0, NULL);
    raw_expect(&caller, MESH_ACCEPT);
    raw_send_body(&caller, header, small, size);
    raw_expect_end(&caller, 4, STATUS_RESOURCE_EXHAUSTED);

    header = (struct mesh_header){
        .kind = MESH_OPEN,
        .call_id = 5,
        .flags = MESH_END_SEND | MESH_LZ4,
        .seq = 1,
        .body_bytes = UINT32_MAX,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };
    raw_send_body(&caller, header, small, size);
    raw_expect_end(&caller, 5, STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(echo_counts.running, 0);
}

static void meta_that_is_none(void **state)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__MetadataEntry entry = DRAGOMAN__MESH__V1__METADATA_ENTRY__INIT;
    Dragoman__Mesh__V1__MetadataEntry *entries[] = {&entry};
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = 1,
        .seq = 1,
        .flags = MESH_END_SEND,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };
    uint8_t frame[MESH_HEADER_BYTES + 2];

    (void)state;
    raw_greet(&caller, 0);
    raw_send(&caller, &header, NULL, &empty.base); /* no method to compare with the hash */
    raw_expect_end(&caller, 1, STATUS_INTERNAL);
    header.call_id = 2;
    meta.method = (char *)"/dragoman.test.v1.Echo/Collect"; /* not what the hash says */
    raw_send(&caller, &header, &meta, &empty.base);
    raw_expect_end(&caller, 2, STATUS_INTERNAL);
    header.call_id = 3;
    meta.method = (char *)"/dragoman.test.v1.Echo/Unary";
    meta.n_metadata = 1;
    meta.metadata = entries;
    entry.key = (char *)"Not A Key";
    raw_send(&caller, &header, &meta, &empty.base);
    raw_expect_end(&caller, 3, STATUS_INTERNAL);

    header = (struct mesh_header){.kind = MESH_OPEN, .call_id = 4, .meta_bytes = 2};
    mesh_header_encode(&header, frame); /* a method nobody knows, in a Meta that does not parse */
    memcpy(frame + MESH_HEADER_BYTES, "\xff\xff", 2);
    raw_send_bytes(&caller, frame, sizeof(frame), NULL, 0);
    raw_expect_end(&caller, 4, STATUS_INTERNAL);
    assert_int_equal(echo_counts.started, 0);
}

static void refusals_say_that_nothing_ran(void **state)
{
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = 1,
        .seq = 1,
        .flags = MESH_END_SEND,
        .timeout_ns = -1,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };

    (void)state;
    raw_greet(&caller, 0);
    raw_send(&caller, &header, NULL, &empty.base);
    raw_expect_end(&caller, 1, STATUS_DEADLINE_EXCEEDED);
    assert_true(caller.frame.header.flags & MESH_UNPROCESSED);
    raw_open_call(&caller, 2, "Missing", MESH_END_SEND, &empty);
    raw_expect_end(&caller, 2, STATUS_UNIMPLEMENTED);
    assert_true(caller.frame.header.flags & MESH_UNPROCESSED);
}

static void a_full_queue_refuses_at_once(void **state)
{
    enum { CAPACITY = 4, QUEUE = 1024 };
    echo_request request = empty;
    mesh_meta *meta = NULL;

    (void)state;
    request.until_cancelled = true;
    raw_greet(&caller, 0);
    for (uint64_t id = 1; id <= CAPACITY + QUEUE + 1; id++)
        raw_open_call(&caller, id, "Unary", MESH_END_SEND, &request);
    raw_expect_end(&caller, CAPACITY + QUEUE + 1, STATUS_RESOURCE_EXHAUSTED);
    assert_true(caller.frame.header.flags & MESH_UNPROCESSED);
    assert_int_equal(mesh_meta_unpack(&caller.frame, &meta), 0);
    assert_true(meta->retry_delay_ms > 0);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    rig_wait(echo_counts.started == CAPACITY);
    send_kind(MESH_CANCEL, 0, CAPACITY + 1); /* one that waits ends at once */
    raw_expect_end(&caller, CAPACITY + 1, STATUS_CANCELLED);
    assert_true(caller.frame.header.flags & MESH_UNPROCESSED);
    assert_int_equal(echo_counts.started, CAPACITY);
    send_kind(MESH_BYE, 0, 0);
    rig_wait(echo_counts.running == 0);
}

static void silent_callers_are_given_up(void **state)
{
    echo_request request = empty;

    (void)state;
    request.until_cancelled = true;
    raw_greet(&caller, 20);
    raw_open_call(&caller, 1, "Unary", MESH_END_SEND, &request);
    rig_wait(echo_counts.started == 1);
    rig_wait(echo_counts.cancelled == 1); /* after 60 ms */
}

/* One that grants any credit and reads nothing: what waits for it is bounded. */
static void a_caller_that_does_not_read(void **state)
{
    enum { ANSWERS = 20000 };
    static uint32_t sizes[ANSWERS];
    echo_request request = empty;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = 1,
        .seq = 1,
        .flags = MESH_END_SEND,
        .credit_messages = UINT32_MAX,
        .credit_bytes = UINT64_MAX,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Expand", 29),
    };

    (void)state;
    for (int i = 0; i < ANSWERS; i++)
        sizes[i] = 1;
    request.n_sizes = ANSWERS;
    request.sizes = sizes;
    meta.method = (char *)"/dragoman.test.v1.Echo/Expand";
    raw_greet(&caller, 60000); /* nor is its silence what ends it */
    raw_send(&caller, &header, &meta, &request.base);
    rig_wait(echo_counts.cancelled == 1); /* cut off: its call is over */
}

/* Each with a fresh one. */
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(hello_comes_first),
        CASE(versions_must_overlap),
        CASE(hello_must_parse),
        CASE(garbage_ends_the_session),
        CASE(a_thousand_parts),
        CASE(unknown_kinds),
        CASE(kinds_from_the_wrong_side),
        CASE(ids_must_rise),
        CASE(a_second_hello_ends_what_ran),
        CASE(answers_are_numbered),
        CASE(sequence_breaks),
        CASE(credit_is_exceeded),
        CASE(data_before_accept_is_in_credit_of_nobody),
        CASE(bodies_that_are_none),
        CASE(meta_that_is_none),
        CASE(refusals_say_that_nothing_ran),
        CASE(a_full_queue_refuses_at_once),
        CASE(silent_callers_are_given_up),
        CASE(a_caller_that_does_not_read),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("protocol: a server", tests, NULL, NULL);
}
