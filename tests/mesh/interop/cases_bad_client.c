/* Clients that break the protocol: their call or session ends with the right status, nobody else notices. */
#include "tests/mesh/interop/world.h"

#include "mesh/credit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const echo_request empty_echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

/* HELLO again: a session that has ended may begin anew. */
static void greet_again(struct raw *raw)
{
    raw_greet(raw, 60000);
}

static void send_kind(struct raw *raw, uint8_t kind, uint16_t flags, uint64_t call_id)
{
    raw_send(raw, &(struct mesh_header){.kind = kind, .flags = flags, .call_id = call_id}, NULL,
             NULL);
}

static void send_data(struct raw *raw, uint64_t call_id, uint32_t seq, uint16_t flags)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call_id, .seq = seq, .flags = flags};

    raw_send(raw, &header, NULL, &empty_echo.base);
}

/* A call of another caller, and one more of this one. */
static void others_unaffected(struct world *world, struct raw *raw, uint64_t next_id)
{
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    raw_open_call(raw, next_id, "Unary", MESH_END_SEND, &empty_echo);
    raw_expect_end(raw, next_id, STATUS_OK);
    raw_close(raw);
}

static void badreq(void **state)
{
    static const char *const requests[] = {"hello", "GET / HTTP/1.1\r\n\r\n", "",
                                           "MSH\x01 and so on, for more than sixty-four bytes, as "
                                           "long as a header, but without its sum"};
    struct raw *raw;

    raw = world_raw_caller(*state);
    for (size_t i = 0; i < 4; i++) {
        raw_send_bytes(raw, requests[i], strlen(requests[i]), NULL, 0);
        raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
        greet_again(raw);
    }
    others_unaffected(*state, raw, 1);
}

static void bad_streaming_id(void **state)
{
    struct raw *raw;

    raw = world_raw_caller(*state);
    raw_open_call(raw, 7, "Unary", MESH_END_SEND, &empty_echo);
    raw_expect_end(raw, 7, STATUS_OK);
    raw_open_call(raw, 6, "Unary", MESH_END_SEND, &empty_echo); /* less than one before */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    send_data(raw, 9, 1, 0); /* DATA before its OPEN */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    raw_open_call(raw, 0, "Unary", MESH_END_SEND, &empty_echo);
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    assert_int_equal(echo_counts.started, 1);
    others_unaffected(*state, raw, 1);
}

/* @return a socket connected to where callers are awaited, without ZeroMQ; -1: there is none such */
static int bare_connection(const struct world *world)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *endpoint = world->front;
    int fd = -1;

    if (strncmp(endpoint, "ipc://", 6) == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        memcpy(path.sun_path, endpoint + 6, strlen(endpoint + 6) + 1);
        assert_int_equal(connect(fd, (struct sockaddr *)&path, sizeof(path)), 0);
    } else if (strncmp(endpoint, "tcp://", 6) == 0) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        port.sin_port = htons((uint16_t)strtol(strrchr(endpoint, ':') + 1, NULL, 10));
        assert_int_equal(connect(fd, (struct sockaddr *)&port, sizeof(port)), 0);
    }
    return fd;
}

#define PREFIX(bytes) bytes, sizeof(bytes) - 1
#define SIGNATURE "\xff\0\0\0\0\0\0\0\x01\x7f"
#define ZEROS_15 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define ZEROS_16 "\0" ZEROS_15

/* What other protocols begin with, and beginnings of ZeroMQ's that go wrong. */
static void connection_prefix(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } prefixes[] = {
        {PREFIX("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
        {PREFIX("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
        {PREFIX("\x16\x03\x01\x02\x00\x01\x00")}, /* TLS */
        /* A greeting, then a command of 2^64 - 1 bytes. */
        {PREFIX(SIGNATURE "\x03\0NULL" ZEROS_16 "\0" ZEROS_16 ZEROS_15
                          "\x06\xff\xff\xff\xff\xff\xff\xff\xff")},
        {PREFIX(SIGNATURE "\x03\0CURVE" ZEROS_15)}, /* half a greeting */
        {PREFIX(SIGNATURE "\x01")},                 /* of long ago */
    };
    struct world *world = *state;
    struct mesh_header header = {.kind = MESH_PING};
    uint8_t frame[MESH_HEADER_BYTES];
    int fds[6];
    struct raw *raw;

    for (size_t i = 0; i < 6; i++) {
        fds[i] = bare_connection(world);
        if (fds[i] >= 0)
            assert_int_equal(send(fds[i], prefixes[i].bytes, prefixes[i].size, MSG_NOSIGNAL),
                             prefixes[i].size);
    }
    raw = world_raw_caller(world);
    mesh_header_encode(&header, frame);
    frame[3] = 2; /* our own next version */
    raw_send_bytes(raw, frame, sizeof(frame), NULL, 0);
    raw_expect_error(raw, STATUS_UNIMPLEMENTED);
    greet_again(raw);
    others_unaffected(world, raw, 1);
    for (size_t i = 0; i < 6; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static void duplicate_header(void **state)
{
    echo_request request = empty_echo;
    struct raw *raw;

    request.until_cancelled = true;
    raw = world_raw_caller(*state);
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &request);
    rig_wait(echo_counts.started == 1);
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &request); /* while it runs */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    rig_wait(echo_counts.cancelled == 1); /* the session is over, and its calls */
    greet_again(raw);
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &empty_echo);
    raw_expect_end(raw, 1, STATUS_OK);
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &empty_echo); /* and when it is over */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    assert_int_equal(echo_counts.started, 2);
    others_unaffected(*state, raw, 1);
}

/* A stream nobody reads does not stand in the way of others on the same connection. */
static void head_of_line_blocking(void **state)
{
    uint32_t sizes[200];
    echo_request request = empty_echo;
    struct raw *raw;

    for (int i = 0; i < 200; i++)
        sizes[i] = 10000;
    request.sizes = sizes;
    request.n_sizes = 200;
    raw = world_raw_caller(*state);
    raw_open_call(raw, 1, "Expand", MESH_END_SEND, &request);
    rig_wait(echo_counts.started == 1);
    rig_sleep_ms(100);
    assert_int_equal(echo_counts.ended, 0); /* without credit it waits */
    raw_open_call(raw, 2, "Unary", MESH_END_SEND, &empty_echo);
    for (;;) {
        const struct mesh_frame *frame = raw_receive(raw, 5000);

        assert_non_null(frame);
        if (frame->header.kind == MESH_END)
            break;
        assert_int_equal(frame->header.kind, MESH_DATA);
    }
    assert_int_equal(raw->frame.header.call_id, 2);
    send_kind(raw, MESH_CANCEL, 0, 1);
    rig_wait(echo_counts.ended == 2);
    raw_close(raw);
    assert_int_equal(ping(((struct world *)*state)->channel, NULL), STATUS_OK);
}

/* Meta as it must not be. */
static void headers(void **state)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__MetadataEntry entry = DRAGOMAN__MESH__V1__METADATA_ENTRY__INIT;
    Dragoman__Mesh__V1__MetadataEntry *entries[] = {&entry};
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .seq = 1,
        .flags = MESH_END_SEND,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };
    static const char *const keys[] = {"Not A Key", "", "x\x01y", "UPPER"};
    uint8_t frame[MESH_HEADER_BYTES + 2];
    struct raw *raw;
    uint64_t id = 0;

    raw = world_raw_caller(*state);
    meta.method = (char *)"/dragoman.test.v1.Echo/Unary";
    meta.n_metadata = 1;
    meta.metadata = entries;
    for (size_t i = 0; i < 4; i++) {
        header.call_id = ++id;
        entry.key = (char *)keys[i];
        raw_send(raw, &header, &meta, &empty_echo.base);
        raw_expect_end(raw, id, STATUS_INTERNAL);
    }
    entry.key = (char *)"x-text";
    entry.value = (ProtobufCBinaryData){4, (uint8_t *)"a\0\xff\n"}; /* not text */
    header.call_id = ++id;
    raw_send(raw, &header, &meta, &empty_echo.base);
    raw_expect_end(raw, id, STATUS_INTERNAL);
    header.call_id = ++id; /* no protobuf, in a Meta that must be read */
    header.flags |= MESH_ROUTE;
    header.meta_bytes = 2;
    mesh_header_encode(&header, frame);
    memcpy(frame + MESH_HEADER_BYTES, "\xff\xff", 2);
    raw_send_bytes(raw, frame, sizeof(frame), NULL, 0);
    raw_expect_end(raw, id, STATUS_INTERNAL);
    assert_int_equal(echo_counts.started, 0);
    others_unaffected(*state, raw, ++id);
}

static void initial_settings_frame(void **state)
{
    struct world *world = *state;
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct raw *raw;

    raw = world_raw(world);
    raw_open_call(raw, 1, "Unary", MESH_END_SEND, &empty_echo); /* HELLO comes first */
    raw_expect_error(raw, STATUS_FAILED_PRECONDITION);
    send_kind(raw, MESH_HELLO, 0, 0); /* and says something */
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    raw_send_body(raw, (struct mesh_header){.kind = MESH_HELLO}, "\xff\xff\xff", 3);
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    hello.version_min = 2;
    hello.version_max = 9;
    raw_send(raw, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    raw_expect_error(raw, STATUS_UNIMPLEMENTED);
    hello.version_min = 1;
    hello.heartbeat_ms = UINT32_MAX;
    hello.max_message_bytes = UINT64_MAX;
    hello.features = UINT64_MAX & ~UINT64_C(0xffff); /* of the future */
    raw_send(raw, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    raw_expect(raw, MESH_WELCOME);
    others_unaffected(world, raw, 1);
}

/* As much metadata as fits passes; more is refused, by the caller itself and by who gets it. */
static void large_metadata(void **state)
{
    struct world *world = *state;
    struct mesh_metadata *metadata = NULL;
    struct mesh_call_options options = {.timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    struct mesh_header header = {.kind = MESH_OPEN, .call_id = 1, .flags = MESH_END_SEND};
    uint8_t first[MESH_HEADER_BYTES + MESH_META_MAX + 1] = {0};
    char value[1000];
    struct raw *raw;
    int n = 0;

    memset(value, 'v', sizeof(value));
    while (mesh_metadata_add(&metadata, "x-large", value, sizeof(value)) == 0)
        n++; /* refuses what would not fit with the rest of a Meta */
    assert_in_range(n, 7, 8);
    options.metadata = metadata;
    unary_ok(world->channel, &request, &options);
    mesh_metadata_destroy(&metadata);

    raw = world_raw_caller(world);
    header.meta_bytes = MESH_META_MAX + 1;
    mesh_header_encode(&header, first);
    raw_send_bytes(raw, first, sizeof(first), NULL, 0);
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    others_unaffected(world, raw, 1);
}

/* Lengths that do not agree with what came. */
static void out_of_bounds(void **state)
{
    static const struct {
        uint32_t meta_bytes, body_bytes;
        uint16_t flags;
        size_t sent, second;
    } cases[] = {
        {100, 0, 0, 64, 0},                             /* Meta past the frame */
        {UINT32_MAX, 0, 0, 128, 0},                     /* far past it */
        {0, 0, 0, 63, 0},                               /* half a header */
        {0, 0, 0, 1, 0},                                /* a byte */
        {0, 10, MESH_MESSAGE | MESH_INLINE, 64, 0},     /* a body that is not there */
        {0, 9, MESH_MESSAGE | MESH_INLINE, 74, 0},      /* one longer than it says */
        {0, UINT32_MAX, MESH_MESSAGE, 64, 10},          /* and one shorter */
        {0, 10, MESH_MESSAGE, 64, 0},                   /* no second frame */
        {0, 0, 0, 64, 10},                              /* one too many */
        {0, 8193, MESH_MESSAGE | MESH_INLINE, 8257, 0}, /* too long to be in line */
    };
    static uint8_t bytes[9000];
    struct raw *raw;

    raw = world_raw_caller(*state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mesh_header header = {.kind = MESH_OPEN,
                                     .call_id = 1,
                                     .flags = cases[i].flags,
                                     .meta_bytes = cases[i].meta_bytes,
                                     .body_bytes = cases[i].body_bytes};

        mesh_header_encode(&header, bytes);
        raw_send_bytes(raw, bytes, cases[i].sent, cases[i].second ? bytes : NULL, cases[i].second);
        raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
        greet_again(raw);
    }
    for (int i = 0; i < 1000; i++) /* more than two parts */
        assert_true(zmq_send(raw->socket, "x", 1, i < 999 ? ZMQ_SNDMORE : 0) >= 0);
    raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
    greet_again(raw);
    others_unaffected(*state, raw, 1);
}

/* A method must be one that is offered, and the one its hash says. */
static void server_registered_method(void **state)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = 3,
        .seq = 1,
        .flags = MESH_END_SEND,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };
    struct raw *raw;

    raw = world_raw_caller(*state);
    raw_open_call(raw, 1, "Missing", MESH_END_SEND, &empty_echo);
    raw_expect_end(raw, 1, STATUS_UNIMPLEMENTED);
    raw_open_path(raw, 2, "no path at all", MESH_END_SEND, &empty_echo.base);
    raw_expect_end(raw, 2, STATUS_UNIMPLEMENTED);
    meta.method = (char *)"/dragoman.test.v1.Echo/Collect";
    raw_send(raw, &header, &meta, &empty_echo.base);
    raw_expect_end(raw, 3, STATUS_INTERNAL);
    assert_int_equal(echo_counts.started, 0);
    others_unaffected(*state, raw, 4);
}

static void simple_request_works(void **state)
{
    struct raw *raw;

    raw = world_raw_caller(*state);
    for (uint64_t id = 1; id <= 3; id++) {
        raw_open_call(raw, id, "Unary", MESH_END_SEND, &empty_echo);
        raw_expect_end(raw, id, STATUS_OK);
        assert_int_equal(raw->frame.header.seq, 1);
    }
    others_unaffected(*state, raw, 4);
}

static void unknown_frame(void **state)
{
    static const uint8_t kinds[] = {MESH_WELCOME,  MESH_REGISTER, MESH_REGISTERED, MESH_DRAIN,
                                    MESH_CAPACITY, MESH_ACCEPT,   MESH_INITIAL,    MESH_END};
    struct raw *raw;

    raw = world_raw_caller(*state);
    send_kind(raw, 99, 0, 0); /* may be left alone */
    send_kind(raw, MESH_PING, 0, 5);
    assert_int_equal(raw_expect(raw, MESH_PONG)->header.call_id, 5);
    send_kind(raw, 99, MESH_CRITICAL, 0); /* must not be */
    raw_expect_error(raw, STATUS_UNIMPLEMENTED);
    greet_again(raw);
    for (size_t i = 0; i < sizeof(kinds); i++) { /* known, but not a caller's to send */
        send_kind(raw, kinds[i], 0, 0);
        raw_expect_error(raw, STATUS_INVALID_ARGUMENT);
        greet_again(raw);
    }
    others_unaffected(*state, raw, 1);
}

/* More than was granted. */
static void window_overflow(void **state)
{
    echo_request request = empty_echo;
    struct raw *raw;

    request.sleep_ms = 300;
    raw = world_raw_caller(*state);
    raw_open_call(raw, 1, "Collect", 0, &request);
    raw_expect(raw, MESH_ACCEPT);
    rig_wait(echo_counts.received == 1); /* and it sits on that */
    for (uint32_t seq = 2; seq <= 2 + MESH_WINDOW_MESSAGES; seq++)
        send_data(raw, 1, seq, 0);
    raw_expect_end(raw, 1, STATUS_INTERNAL);
    for (uint32_t seq = 20; seq < 30; seq++) /* late: nobody minds */
        send_data(raw, 1, seq, 0);
    others_unaffected(*state, raw, 2);
}

/* Credit that is more than can be, and less than before. */
static void window_update_overflow(void **state)
{
    struct mesh_header credit = {.kind = MESH_CREDIT,
                                 .call_id = 1,
                                 .credit_messages = UINT32_MAX,
                                 .credit_bytes = UINT64_MAX};
    uint32_t sizes[64] = {0};
    echo_request request = empty_echo;
    struct raw *raw;

    request.sizes = sizes;
    request.n_sizes = 64;
    raw = world_raw_caller(*state);
    raw_open_call(raw, 1, "Chat", 0, NULL);
    raw_expect(raw, MESH_ACCEPT);
    raw_send(raw, &credit, NULL, NULL);
    raw_send(raw, &credit, NULL, NULL);
    credit.credit_messages = credit.credit_bytes = 0; /* what is granted stays granted */
    raw_send(raw, &credit, NULL, NULL);
    raw_send(
        raw,
        &(struct mesh_header){.kind = MESH_DATA, .call_id = 1, .seq = 1, .flags = MESH_END_SEND},
        NULL, &request.base);
    for (uint32_t seq = 1; seq <= 64; seq++)
        assert_int_equal(raw_expect(raw, MESH_DATA)->header.seq, seq);
    raw_expect_end(raw, 1, STATUS_OK);
    others_unaffected(*state, raw, 2);
}

static void bad_timeout(void **state)
{
    static const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX};
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .seq = 1,
        .flags = MESH_END_SEND,
        .method_hash = mesh_method_hash("/dragoman.test.v1.Echo/Unary", 28),
    };
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct raw *raw;

    raw = world_raw_caller(*state);
    meta.method = (char *)"/dragoman.test.v1.Echo/Unary";
    for (int i = 0; i < 3; i++) {
        header.call_id = (uint64_t)i + 1;
        header.timeout_ns = timeouts[i];
        raw_send(raw, &header, &meta, &empty_echo.base);
        raw_expect_end(raw, header.call_id, i < 2 ? STATUS_DEADLINE_EXCEEDED : STATUS_OK);
    }
    others_unaffected(*state, raw, 4);
}

const struct interop_case bad_client_cases[] = {
    CASE(badreq, 0),
    CASE(bad_streaming_id, 0),
    CASE(connection_prefix, 0),
    CASE(duplicate_header, 0),
    CASE(head_of_line_blocking, 0),
    CASE(headers, 0),
    CASE(initial_settings_frame, 0),
    CASE(large_metadata, 0),
    CASE(out_of_bounds, 0),
    CASE(server_registered_method, 0),
    {"simple_request", simple_request_works, 0},
    CASE(unknown_frame, 0),
    CASE(window_overflow, 0),
    CASE(window_update_overflow, 0),
    CASE(bad_timeout, 0),
    {NULL, NULL, 0},
};
