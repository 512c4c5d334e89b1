/*
 * Bytes as what a hostile broker says to a caller with three calls: each record is a frame (with a right checksum, so
 * that what lies behind it is reached), what is left over is no frame at all.
 *
 *   record = kind flags(2) call seq status credit size bytes
 *
 * `call` 0 to 2 are the caller's own, others are near them. Every call must end once, whatever was said.
 */
#include "base/log.h"
#include "mesh/channel.h"
#include "mesh/message.h"
#include "tests/fuzz/replay.h"
#include "tests/mesh/echo.pb-c.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINT "inproc://fuzz-channel"
#define ECHO (&dragoman__test__v1__echo__descriptor)
#define RECORD_BYTES 8
#define CALLS 3

static void *context, *router;
static uint32_t peer;
static uint64_t ids[CALLS];

static void start(void)
{
    log_init("fuzz", LOG_ERROR + 1, LOG_FORMAT_TEXT);
    context = zmq_ctx_new();
    router = mesh_socket_open(context, MESH_ROUTER, 1 << 20);
    if (!router || zmq_bind(router, ENDPOINT) < 0)
        abort();
}

static void say(const void *bytes, size_t size)
{
    uint8_t id[5] = {0};

    memcpy(id + 1, &peer, sizeof(peer));
    if (zmq_send(router, id, sizeof(id), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send(router, bytes, size, ZMQ_DONTWAIT);
}

static void welcome(void)
{
    Dragoman__Mesh__V1__Welcome body = DRAGOMAN__MESH__V1__WELCOME__INIT;
    struct mesh_header header = {.kind = MESH_WELCOME};
    struct mesh_message message;

    body.version = MESH_VERSION;
    if (mesh_message_build(&header, NULL, &body.base, false, &message) < 0)
        abort();
    message.peer = peer;
    if (mesh_message_send(router, MESH_ROUTER, &message) < 0)
        mesh_message_close(&message);
}

/* HELLO is answered, until the calls have come. Frames of the channel before are thrown away. */
static void greet(void)
{
    struct mesh_message message;
    struct mesh_frame frame;
    zmq_pollitem_t item = {.socket = router, .events = ZMQ_POLLIN};

    for (size_t n = 0; n < CALLS;) {
        if (zmq_poll(&item, 1, 10000) <= 0)
            abort(); /* it must try */
        if (mesh_message_recv(router, MESH_ROUTER, &message, &frame) < 0)
            continue;
        if (frame.header.kind == MESH_HELLO) {
            peer = message.peer;
            welcome();
        } else if (frame.header.kind == MESH_OPEN && message.peer == peer) {
            ids[n++] = frame.header.call_id;
        }
        mesh_message_close(&message);
    }
}

static void say_record(const uint8_t *record, const uint8_t *bytes, size_t size)
{
    uint8_t first[MESH_HEADER_BYTES + 255];
    struct mesh_header header = {
        .kind = record[0],
        .flags = (uint16_t)(record[1] | record[2] << 8),
        .call_id = record[3] < CALLS ? ids[record[3]] : ids[0] + record[3] - 128,
        .seq = record[4],
        .status = record[5],
        .credit_messages = record[6],
        .credit_bytes = (uint64_t)record[6] * 1000,
    };

    memcpy(first + MESH_HEADER_BYTES, bytes, size);
    if (header.flags & MESH_MESSAGE) {
        header.flags |= MESH_INLINE;
        header.body_bytes = header.flags & MESH_LZ4 ? record[6] * 100u : (uint32_t)size;
    } else {
        header.meta_bytes = (uint32_t)size;
    }
    mesh_header_encode(&header, first);
    say(first, MESH_HEADER_BYTES + size);
}

static void count_end(void *arg, const struct status *status, ProtobufCMessage *response)
{
    (void)status;
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void talk(const uint8_t *bytes, size_t size)
{
    greet();
    while (size >= RECORD_BYTES) {
        size_t rest = bytes[7] < size - RECORD_BYTES ? bytes[7] : size - RECORD_BYTES;

        say_record(bytes, bytes + RECORD_BYTES, rest);
        bytes += RECORD_BYTES + rest;
        size -= RECORD_BYTES + rest;
    }
    if (size > 0)
        say(bytes, size);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    const Dragoman__Test__V1__EchoRequest request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options again = {.idempotent = true, .compress = true, .wait_for_ready = true};
    struct mesh_call_options wait = {.wait_for_ready = true};
    struct mesh_channel_options options = {.endpoint = ENDPOINT};
    struct mesh_channel *channel = NULL;
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    atomic_int ends[2];

    if (!router)
        start();
    options.context = context;
    atomic_init(&ends[0], 0);
    atomic_init(&ends[1], 0);
    if (mesh_channel_create(&options, &channel) < 0 ||
        mesh_unary_start(channel, ECHO, "Unary", &request.base, &wait, count_end, &ends[0]) < 0 ||
        mesh_unary_start(channel, ECHO, "Unary", &request.base, &again, count_end, &ends[1]) < 0 ||
        mesh_stream_open(channel, ECHO, "Chat", &wait, &stream) < 0 ||
        mesh_stream_write(stream, &request.base, 0) < 0)
        abort();
    talk(bytes, size);
    while (mesh_stream_read(stream, &message, 1) == 0)
        protobuf_c_message_free_unpacked(message, NULL);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&channel);
    if (ends[0] != 1 || ends[1] != 1)
        abort();
}

/* kind flags(2) call seq status credit size | bytes */
#define ACCEPT(call) "\x21\0\0" call "\0\0\x20\0"
#define INITIAL(call) "\x22\0\0" call "\0\0\0\x08\x1A\x06\x0A\x01x\x12\x01y"
#define DATA(call, seq) "\x23\x06\0" call seq "\0\0\x04\x0A\x02hi"
#define CREDIT(call) "\x24\0\0" call "\0\0\xFF\0"
#define END(call, seq) "\x26\x06\0" call seq "\0\0\x04\x0A\x02ok"
#define FAIL(call, status) "\x26\0\0" call "\0" status "\0\x04\x22\x02no"
#define GOAWAY "\x05\0\0\0\0\0\0\0"
#define RETURN "\x05\0\x02\0\0\0\0\0"
#define BYE "\x06\0\0\0\0\0\0\0"
#define ERROR "\x07\0\0\0\0\x03\0\x04\x22\x02no"
#define PACKED(call) "\x23\x0E\0" call "\1\0\x03\x08\x1F\x0A\1\0\xFF\x50\x0A\x0A"

static const char CALLS_WELL[] = ACCEPT("\2") INITIAL("\2") DATA("\2", "\1") END("\0", "\1")
    CREDIT("\2") DATA("\2", "\2") END("\1", "\1") "\x26\0\0\2\2\0\0\0";
static const char CALLS_ILL[] =
    FAIL("\0", "\x0E") FAIL("\1", "\x08") DATA("\2", "\1") FAIL("\2", "\x0D") END("\2", "\1") BYE;
static const char SESSIONS[] = GOAWAY DATA("\2", "\1") FAIL("\1", "\x0E") ERROR END("\0", "\1");
static const char TURNS[] = RETURN DATA("\2", "\1") RETURN FAIL("\1", "\x0E") GOAWAY RETURN BYE;
static const char LIES[] = END("\x81", "\1") DATA("\0", "\1") DATA("\0", "\1") PACKED("\2")
    END("\0", "\2") ACCEPT("\1") INITIAL("\1") INITIAL("\1") "rubbish";

const struct fuzz_seed fuzz_seeds[] = {
    {NULL, CALLS_WELL, sizeof(CALLS_WELL) - 1},
    {NULL, CALLS_ILL, sizeof(CALLS_ILL) - 1},
    {NULL, SESSIONS, sizeof(SESSIONS) - 1},
    {NULL, TURNS, sizeof(TURNS) - 1},
    {NULL, LIES, sizeof(LIES) - 1},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 8000;
