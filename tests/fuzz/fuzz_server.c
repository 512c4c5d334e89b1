/*
 * Bytes as what a caller says to a server with `bind`: frames with a right crc, so that what lies behind
 * it is reached. Another caller's call must go through after each.
 *
 *   input  = *record
 *   record = kind flags(2) call seq status credit body-size body
 *
 * Of kind 255 it is no frame: the next `call` of them go as a bundle, whose count and last length are off by `seq` and `status`.
 */
#include "base/log.h"
#include "mesh/bundle.h"
#include "mesh/channel.h"
#include "mesh/message.h"
#include "tests/fuzz/replay.h"
#include "tests/mesh/echo.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES 8
#define BUNDLE 255
#define ENDPOINT "inproc://fuzz"

const unsigned fuzz_rounds = 20000;

#define CHAT "\x20\0\0\x01\0\0\xff\0" /* OPEN, no message */
const struct fuzz_seed fuzz_seeds[] = {
    {NULL,
     "\x01\0\0\0\0\0\0\0"
     "\x20\x03\0\x01\x01\0\xff\x02"
     "\x0a\0" CHAT,
     26},
    {NULL,
     "\x01\0\0\0\0\0\0\0" CHAT "\x23\x02\0\x01\x01\0\0\0"
     "\x23\x01\0\x01\x01\0\0\0",
     32},
    {NULL,
     "\x01\0\0\0\0\0\0\0" CHAT "\x24\0\0\x01\0\0\x20\0"
     "\x25\0\0\x01\0\x01\0\0",
     32},
    {NULL,
     "\x01\0\0\0\0\0\0\0"
     "\x03\0\0\x07\0\0\0\0"
     "\x06\0\0\0\0\0\0\0",
     24},
    {NULL,
     "\x01\0\0\0\0\0\0\0"
     "\x20\x03\0\x01\x01\x04\xff\x17"
     "\x0a\x15"
     "dragoman.test.v1.Echo"
     "\x20\x03\0\x02\x01\x05\xff\0"
     "\x20\x03\0\x03\x01\x03\xff\0",
     8 + 8 + 23 + 8 + 8},
    {NULL, /* HELLO that takes bundles; OPEN, DATA and CANCEL in one */
     "\x01\x01\0\0\0\0\0\0"
     "\xff\0\0\x03\0\0\0\0" CHAT "\x23\x02\0\x01\x01\0\0\0"
     "\x25\0\0\x01\0\x01\0\0",
     40},
    {NULL, /* one that says of itself what is not so */
     "\x01\0\0\0\0\0\0\0"
     "\xff\0\0\x02\x01\x01\0\0" CHAT CHAT,
     32},
    {NULL, NULL, 0},
};

static struct {
    struct mesh_bundle bundle;
    unsigned left; /* frames that it still gets */
    size_t last;   /* bytes of its last */
    uint8_t count_off, length_off;
} gathering;

static void *context;
static struct mesh_server *server;
static struct mesh_channel *channel;

static void start(void)
{
    struct mesh_server_options options = {.endpoint = ENDPOINT, .bind = true, .capacity = 4};
    struct mesh_channel_options to = {.endpoint = ENDPOINT};

    log_init("fuzz", LOG_ERROR, LOG_FORMAT_TEXT);
    options.context = to.context = context = zmq_ctx_new();
    if (mesh_server_create(&options, &server) < 0 || echo_add(server) < 0 ||
        mesh_server_start(server) < 0 || mesh_channel_create(&to, &channel) < 0)
        abort();
}

/* What an OPEN asks for, by its status byte, which OPEN does not use. */
static const char *const paths[] = {
    "/dragoman.test.v1.Echo/Chat",           "/dragoman.test.v1.Echo/Missing",
    "/dragoman.mesh.v1.Health/Check",        "/dragoman.mesh.v1.Health/Watch",
    "/dragoman.mesh.v1.Reflection/Describe", "/dragoman.mesh.v1.Reflection/List",
};

static void begin_bundle(const uint8_t *record)
{
    gathering.left = record[3] % 8;
    gathering.count_off = record[4];
    gathering.length_off = record[5];
}

static void send_bundle(void *socket)
{
    struct mesh_bundle *bundle = &gathering.bundle;

    gathering.left = 0;
    if (bundle->count == 0)
        return;
    bundle->bytes[4] ^= gathering.count_off;
    bundle->bytes[bundle->size - gathering.last - MESH_BUNDLE_PREFIX_BYTES] ^= gathering.length_off;
    zmq_send(socket, bundle->bytes, bundle->size, ZMQ_DONTWAIT);
    mesh_bundle_fini(bundle);
}

static void send_first(void *socket, const uint8_t *first, size_t size)
{
    if (gathering.left == 0) {
        zmq_send(socket, first, size, ZMQ_DONTWAIT);
        return;
    }
    if (mesh_bundle_add(&gathering.bundle, first, size) < 0)
        abort();
    gathering.last = size;
    if (--gathering.left == 0)
        send_bundle(socket);
}

static void send_record(void *socket, const uint8_t *record, const uint8_t *body, size_t body_size)
{
    const char *path = paths[record[5] % (sizeof(paths) / sizeof(paths[0]))];
    uint8_t first[MESH_HEADER_BYTES + 255];
    struct mesh_header header = {
        .kind = record[0],
        .flags = (uint16_t)(record[1] | record[2] << 8),
        .call_id = record[3],
        .seq = record[4],
        .status = record[5],
        .credit_messages = record[6],
        .credit_bytes = (uint64_t)record[6] * 1000,
        .method_hash = mesh_method_hash(path, strlen(path)),
    };

    if (header.kind == MESH_HELLO) {
        Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;

        hello.version_min = hello.version_max = 1;
        hello.features = record[1] & 1;
        body_size = dragoman__mesh__v1__hello__pack(&hello, first + MESH_HEADER_BYTES);
        header.flags |= MESH_MESSAGE | MESH_INLINE;
    } else {
        memcpy(first + MESH_HEADER_BYTES, body, body_size);
        if (header.flags & MESH_MESSAGE)
            header.flags |= MESH_INLINE;
        else
            header.meta_bytes = (uint32_t)body_size;
    }
    header.body_bytes = header.flags & MESH_MESSAGE ? (uint32_t)body_size : 0;
    mesh_header_encode(&header, first);
    send_first(socket, first, MESH_HEADER_BYTES + body_size);
}

static void others_are_served(void)
{
    Dragoman__Test__V1__EchoRequest request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.timeout_ms = 20000, .wait_for_ready = true};
    ProtobufCMessage *response = NULL;
    struct status status;

    if (mesh_unary(channel, &dragoman__test__v1__echo__descriptor, "Unary", &request.base, &options,
                   &response, &status) < 0) {
        log_error("the server is lost: %s", status.message);
        abort();
    }
    protobuf_c_message_free_unpacked(response, NULL);
}

/* A context has room for so many sockets, and gives a closed one's place back a little later. */
static void *open_socket(void)
{
    void *socket;

    while (!(socket = mesh_socket_open(context, MESH_DEALER, 1 << 20)) && errno == EMFILE)
        usleep(1000);
    return socket;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    void *socket;

    if (!server)
        start();
    socket = open_socket();
    if (!socket || zmq_connect(socket, ENDPOINT) < 0)
        abort();
    while (size >= RECORD_BYTES) {
        size_t body_size = bytes[7] < size - RECORD_BYTES ? bytes[7] : size - RECORD_BYTES;

        if (bytes[0] == BUNDLE)
            begin_bundle(bytes);
        else
            send_record(socket, bytes, bytes + RECORD_BYTES, body_size);
        bytes += RECORD_BYTES + body_size;
        size -= RECORD_BYTES + body_size;
    }
    send_bundle(socket); /* what it got so far */
    if (size > 0)
        zmq_send(socket, bytes, size, ZMQ_DONTWAIT);
    others_are_served(); /* which is after what was sent here */
    zmq_close(socket);
}
