/* Several messages in one frame: the bytes, who sends them, and what they may not hold. */
#include "mesh/bundle.h"

#include "base/log.h"
#include "broker/broker.h"
#include "mesh/inbox.h"
#include "mesh/outbox.h"
#include "tests/mesh/raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINT "inproc://bundle"
#define BACK "inproc://bundle.back"
#define N_CALLS 40

/* Written down by hand from docs/wire.md. */
static const uint8_t golden[] = {
    0x4d, 0x53, 0x48, 0x42,           /* "MSHB" */
    0x02, 0x00, 0x00, 0x00,           /* two frames */
    0x02, 0x00, 0x00, 0x00, 'a', 'b', /* their lengths and bytes */
    0x03, 0x00, 0x00, 0x00, 'c', 'd', 'e',
};

/* ---- bytes ----------------------------------------------------------------------------------- */

static void bundle_is_as_documented(void **state)
{
    struct mesh_bundle bundle = {0};
    const uint8_t *frame;
    size_t at = 0, size = 0;

    (void)state;
    assert_int_equal(mesh_bundle_add(&bundle, "ab", 2), 0);
    assert_int_equal(mesh_bundle_add(&bundle, "cde", 3), 0);
    assert_int_equal(bundle.size, sizeof(golden));
    assert_memory_equal(bundle.bytes, golden, sizeof(golden));
    mesh_bundle_fini(&bundle);

    assert_true(mesh_bundle_is(golden, sizeof(golden)));
    assert_int_equal(mesh_bundle_check(golden, sizeof(golden)), 0);
    frame = mesh_bundle_next(golden, sizeof(golden), &at, &size);
    assert_int_equal(size, 2);
    assert_memory_equal(frame, "ab", 2);
    frame = mesh_bundle_next(golden, sizeof(golden), &at, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(frame, "cde", 3);
    assert_null(mesh_bundle_next(golden, sizeof(golden), &at, &size));
}

static void bundle_grows(void **state)
{
    struct mesh_bundle bundle = {0};
    uint8_t frame[1000];
    const uint8_t *got;
    size_t at = 0, size = 0;

    (void)state;
    for (uint8_t i = 0; i < 60; i++) {
        memset(frame, i, sizeof(frame));
        assert_int_equal(mesh_bundle_add(&bundle, frame, sizeof(frame) - i), 0);
    }
    assert_int_equal(mesh_bundle_check(bundle.bytes, bundle.size), 0);
    for (uint8_t i = 0; i < 60; i++) {
        memset(frame, i, sizeof(frame));
        got = mesh_bundle_next(bundle.bytes, bundle.size, &at, &size);
        assert_int_equal(size, sizeof(frame) - i);
        assert_memory_equal(got, frame, size);
    }
    mesh_bundle_fini(&bundle);
}

static void lengths_must_agree(void **state)
{
    uint8_t bytes[sizeof(golden) + 1];
    uint8_t *large = calloc(1, MESH_BUNDLE_MAX + 8);

    (void)state;
    for (size_t size = 0; size < sizeof(golden); size++)
        assert_int_equal(mesh_bundle_check(golden, size), -EBADMSG);
    memcpy(bytes, golden, sizeof(golden));
    bytes[sizeof(golden)] = 0;
    assert_int_equal(mesh_bundle_check(bytes, sizeof(bytes)), -EBADMSG); /* something is left */
    bytes[4] = 1;
    assert_int_equal(mesh_bundle_check(bytes, sizeof(golden)), -EBADMSG);
    bytes[4] = 3;
    assert_int_equal(mesh_bundle_check(bytes, sizeof(golden)), -EBADMSG);
    bytes[4] = 2;
    memset(bytes + 8, 0xff, 4); /* a length that wraps around */
    assert_int_equal(mesh_bundle_check(bytes, sizeof(golden)), -EBADMSG);

    memcpy(large, golden, 4);
    large[4] = 1;
    large[8] = 0xfc; /* 65532 bytes: 65544 in all */
    large[9] = 0xff;
    assert_int_equal(mesh_bundle_check(large, MESH_BUNDLE_MAX + 8), -EBADMSG);
    large[8] = 0xf4; /* 65536 in all */
    assert_int_equal(mesh_bundle_check(large, MESH_BUNDLE_MAX), 0);
    free(large);
}

/* ---- out and in ------------------------------------------------------------------------------ */

static void *context;
static struct mesh_transport from, to;

static int pair_setup(void **state)
{
    struct mesh_transport_options options = {.kind = MESH_DEALER, .max_message_bytes = 1 << 20};
    char bound[64];

    (void)state;
    options.context = context = zmq_ctx_new();
    mesh_transport_init(&from, &options);
    mesh_transport_init(&to, &options);
    assert_int_equal(mesh_transport_bind(&to, ENDPOINT, bound, sizeof(bound)), 0);
    return mesh_transport_connect(&from, ENDPOINT);
}

static int pair_teardown(void **state)
{
    (void)state;
    mesh_transport_close(&from, 0);
    mesh_transport_close(&to, 0);
    zmq_ctx_term(context);
    return 0;
}

/* A DATA with so many bytes; the call tells them apart. */
static struct mesh_message data(uint64_t call_id, size_t size)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call_id};
    struct mesh_message message;
    uint8_t *bytes = calloc(1, size + 1);

    request.payload = (ProtobufCBinaryData){.len = size, .data = bytes};
    assert_int_equal(mesh_message_build(&header, NULL, &request.base, false, &message), 0);
    free(bytes);
    return message;
}

static int put(struct mesh_outbox *outbox, uint64_t call_id, size_t size, bool bundles)
{
    struct mesh_message message = data(call_id, size);

    return mesh_outbox_put(outbox, &from, &message, bundles);
}

/* What comes as one ZeroMQ message. @return frames in a bundle; 0: none, a message alone; -1: nothing */
static int next_count(void)
{
    struct mesh_message message;
    int count = 0;

    if (mesh_transport_recv(&to, &message) < 0)
        return -1;
    if (mesh_bundle_is(zmq_msg_data(&message.first), zmq_msg_size(&message.first)))
        count = ((const uint8_t *)zmq_msg_data(&message.first))[4];
    mesh_message_close(&message);
    return count;
}

static void small_messages_go_together(void **state)
{
    struct mesh_outbox outbox;

    (void)state;
    mesh_outbox_init(&outbox);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(put(&outbox, i, 10, true), 0);
    assert_int_equal(next_count(), -1); /* not before the flush, or one that cannot join */
    assert_int_equal(put(&outbox, 4, 100000, true), 0);
    assert_int_equal(next_count(), 3);
    assert_int_equal(next_count(), 0);
    assert_int_equal(put(&outbox, 5, 10, true), 0);
    assert_true(mesh_outbox_gathers(&outbox));
    assert_int_equal(mesh_outbox_flush(&outbox, &from), 0);
    assert_int_equal(next_count(), 0); /* alone, as it is */
    assert_int_equal(put(&outbox, 6, 10, false), 0);
    assert_int_equal(next_count(), 0); /* at once */
    assert_false(mesh_outbox_gathers(&outbox) || mesh_outbox_stuck(&outbox));
    mesh_outbox_fini(&outbox);
}

static void bundles_have_an_end(void **state)
{
    struct mesh_inbox inbox;
    struct mesh_outbox outbox;
    struct mesh_message message;
    struct mesh_frame frame;

    (void)state;
    mesh_outbox_init(&outbox);
    mesh_inbox_init(&inbox, &to);
    for (uint64_t i = 1; i <= 100; i++)
        assert_int_equal(put(&outbox, i, i * 80, true), 0);
    assert_int_equal(mesh_outbox_flush(&outbox, &from), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(mesh_inbox_recv(&inbox, &message, &frame), 0);
        assert_int_equal(frame.header.call_id, i);
        mesh_message_close(&message);
    }
    assert_int_equal(mesh_inbox_recv(&inbox, &message, &frame), -EAGAIN);
    mesh_inbox_fini(&inbox);
    mesh_outbox_fini(&outbox);
}

/* What the socket does not take waits, in order, up to a bound. */
static void what_is_not_taken_waits(void **state)
{
    struct mesh_inbox inbox;
    struct mesh_outbox outbox;
    struct mesh_message message;
    struct mesh_frame frame;
    uint64_t sent = 0, got = 0;
    int err = 0;

    (void)state;
    mesh_outbox_init(&outbox);
    mesh_inbox_init(&inbox, &to);
    while (err == 0) {
        err = put(&outbox, ++sent, 1, true);
        if (err == 0 && sent % 2 == 0)
            err = mesh_outbox_flush(&outbox, &from);
    }
    assert_int_equal(err, -ENOBUFS);
    assert_int_equal(outbox.count, MESH_OUTBOX_MESSAGES);
    sent -= 2; /* those that did not fit */
    do {
        err = mesh_inbox_recv(&inbox, &message, &frame);
        if (err == -EAGAIN) {
            err = mesh_outbox_retry(&outbox, &from);
            continue;
        }
        assert_int_equal(err, 0);
        assert_int_equal(frame.header.call_id, ++got);
        mesh_message_close(&message);
    } while (got < sent);
    assert_false(mesh_outbox_stuck(&outbox));
    mesh_inbox_fini(&inbox);
    mesh_outbox_fini(&outbox);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static struct mesh_server *server;
static struct broker *broker;
static struct raw caller;

/* A server with `bind`, or one behind a broker: the same to a caller. */
static int session_setup(void **state)
{
    bool brokered = *state != NULL;
    const char *front[] = {ENDPOINT, NULL}, *back[] = {BACK, NULL};
    struct mesh_server_options options = {
        .endpoint = brokered ? BACK : ENDPOINT, .bind = !brokered, .capacity = N_CALLS};

    options.context = context = zmq_ctx_new();
    if (brokered)
        assert_int_equal(
            broker_start(&(struct broker_options){.front = front, .back = back, .context = context},
                         &broker),
            0);
    echo_reset();
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    rig_wait(mesh_server_ready(server));
    raw_open(&caller, context, MESH_DEALER, ENDPOINT);
    return 0;
}

static int session_teardown(void **state)
{
    (void)state;
    raw_close(&caller);
    mesh_server_destroy(&server);
    broker_stop(&broker, 0);
    zmq_ctx_term(context);
    return 0;
}

static void greet(uint64_t features)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;

    hello.version_min = hello.version_max = MESH_VERSION;
    hello.features = features;
    raw_send(&caller, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    raw_expect(&caller, MESH_WELCOME);
}

static void add_open(struct mesh_bundle *bundle, uint64_t call_id)
{
    static char path[] = "/dragoman.test.v1.Echo/Quick";
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_OPEN,
                                 .call_id = call_id,
                                 .flags = MESH_END_SEND,
                                 .seq = 1,
                                 .method_hash = mesh_method_hash(path, strlen(path))};
    struct mesh_message message;

    meta.method = path;
    assert_int_equal(mesh_message_build(&header, &meta, &request.base, false, &message), 0);
    assert_int_equal(
        mesh_bundle_add(bundle, zmq_msg_data(&message.first), zmq_msg_size(&message.first)), 0);
    mesh_message_close(&message);
}

static void add_header(struct mesh_bundle *bundle, const struct mesh_header *header)
{
    uint8_t bytes[MESH_HEADER_BYTES];

    mesh_header_encode(header, bytes);
    assert_int_equal(mesh_bundle_add(bundle, bytes, sizeof(bytes)), 0);
}

static void send_bundle(struct mesh_bundle *bundle)
{
    raw_send_bytes(&caller, bundle->bytes, bundle->size, NULL, 0);
    mesh_bundle_fini(bundle);
}

static void open_many(void)
{
    struct mesh_bundle bundle = {0};

    for (uint64_t i = 1; i <= N_CALLS; i++)
        add_open(&bundle, i);
    send_bundle(&bundle);
}

static void answers_come_in_bundles(void **state)
{
    struct mesh_transport raw = {.options.kind = MESH_DEALER, .zmq = caller.socket};
    struct mesh_inbox inbox;
    struct mesh_message message;
    struct mesh_frame frame;
    int bundled = 0;

    (void)state;
    greet(MESH_FEATURE_BUNDLES);
    open_many();
    mesh_inbox_init(&inbox, &raw);
    for (int ended = 0; ended < N_CALLS;) {
        int err = mesh_inbox_recv(&inbox, &message, &frame);

        if (err == -EAGAIN) {
            rig_sleep_ms(1);
            continue;
        }
        assert_int_equal(err, 0);
        ended += frame.header.kind == MESH_END && frame.header.status == STATUS_OK;
        bundled += inbox.opened;
        mesh_message_close(&message);
    }
    assert_true(bundled >= N_CALLS / 2);
    mesh_inbox_fini(&inbox);
}

static void who_takes_none_gets_none(void **state)
{
    (void)state;
    greet(0);
    open_many();
    for (int i = 0; i < N_CALLS; i++)
        assert_int_equal(raw_expect(&caller, MESH_END)->header.status, STATUS_OK);
    raw_expect_silence(&caller);
}

static void expect_cut_off(struct mesh_bundle *bundle, enum status_code code)
{
    greet(0);
    send_bundle(bundle);
    raw_expect_error(&caller, code);
    raw_expect_silence(&caller); /* nor is the rest of the bundle looked at */
    assert_int_equal(atomic_load(&echo_counts.started), 0);
}

static void one_bad_frame_ends_the_session(void **state)
{
    struct mesh_bundle bundle = {0};

    (void)state;
    assert_int_equal(mesh_bundle_add(&bundle, "hello", 5), 0);
    add_open(&bundle, 1);
    expect_cut_off(&bundle, STATUS_INVALID_ARGUMENT);
}

static void sessions_do_not_begin_in_bundles(void **state)
{
    struct mesh_bundle bundle = {0};

    (void)state;
    add_header(&bundle, &(struct mesh_header){.kind = MESH_HELLO});
    add_open(&bundle, 1);
    expect_cut_off(&bundle, STATUS_INVALID_ARGUMENT);
}

static void bundles_hold_no_bundles(void **state)
{
    struct mesh_bundle inner = {0}, bundle = {0};

    (void)state;
    for (uint64_t i = 1; i <= 3; i++)
        add_open(&inner, i);
    assert_int_equal(mesh_bundle_add(&bundle, inner.bytes, inner.size), 0);
    mesh_bundle_fini(&inner);
    expect_cut_off(&bundle, STATUS_UNIMPLEMENTED); /* by its magic, another version */
}

static void bundled_bodies_are_in_line(void **state)
{
    struct mesh_bundle bundle = {0};

    (void)state;
    add_header(&bundle, &(struct mesh_header){.kind = MESH_OPEN, .flags = MESH_MESSAGE});
    add_open(&bundle, 1);
    expect_cut_off(&bundle, STATUS_INVALID_ARGUMENT);
}

static void bundles_have_one_frame(void **state)
{
    struct mesh_bundle bundle = {0};

    (void)state;
    greet(0);
    add_open(&bundle, 1);
    raw_send_bytes(&caller, bundle.bytes, bundle.size, "more", 4);
    mesh_bundle_fini(&bundle);
    raw_expect_error(&caller, STATUS_INVALID_ARGUMENT);
    raw_expect_silence(&caller);
}

#define SESSION(test, name, brokered)                                                              \
    {                                                                                              \
        name #test, test, session_setup, session_teardown, brokered                                \
    }
#define BOTH(test) SESSION(test, "direct: ", NULL), SESSION(test, "broker: ", (void *)1)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bundle_is_as_documented),
        cmocka_unit_test(bundle_grows),
        cmocka_unit_test(lengths_must_agree),
        cmocka_unit_test_setup_teardown(small_messages_go_together, pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(bundles_have_an_end, pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_taken_waits, pair_setup, pair_teardown),
        BOTH(answers_come_in_bundles),
        BOTH(who_takes_none_gets_none),
        BOTH(one_bad_frame_ends_the_session),
        BOTH(sessions_do_not_begin_in_bundles),
        BOTH(bundles_hold_no_bundles),
        BOTH(bundled_bodies_are_in_line),
        BOTH(bundles_have_one_frame),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
