/*
 * Bytes as one message: a frame or two, and all that is read from them on their way to an application.
 *
 *   input = how split(2) first second      how: bit 0 repairs the crc, bit 1 says there is a second
 */
#include "mesh/flow.h"
#include "mesh/meta.h"
#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX (1 << 20)

const unsigned fuzz_rounds = 200000;

/* An END of a failed call: Meta with a message, a retry delay and a trailer; a body in line. */
#define HEADER_WITH(kind, flags, body, meta)                                                       \
    "MSH\x01" kind "\0" flags "\x01\0\0\0\0\0\0\0" /* call_id */                                   \
    "\x01\0\0\0" /* seq */ "\x10\0\0\0"                                                            \
    "\0\0\x01\0\0\0\0\0" /* credit */                                                              \
    "\0\xca\x9a\x3b\0\0\0\0" /* timeout */ body "\x0e\0\0\0"                                       \
    "\0\0\0\0\0\0\0\0" meta "\0\0\0\0"
#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

/* clang-format off */
const struct fuzz_seed fuzz_seeds[] = {
    SEED("\x01\0\0" HEADER_WITH("\x26", "\x06\0", "\x03\0\0\0", "\x1a\0\0\0") /* END */
         "\x1a\x0a" "\x0a\x03" "k-b" "\x12\x03" "abc" "\"\x04" "gone" "0d" ":\x04" "team" "abc"),
    SEED("\x03\x40\0" HEADER_WITH("\x23", "\x02\0", "\x05\0\0\0", "\0\0\0\0") /* DATA, two frames */
         "hello"),
    SEED("\x03\x40\0" HEADER_WITH("\x23", "\x0a\0", "\x25\0\0\0", "\0\0\0\0") /* DATA, lz4 */
         "\x1f" "a" "\x01\0\x0c" "P" "aaaaa"),
    SEED("\x01\0\0" HEADER_WITH("\x20", "\x11\0", "\0\0\0\0", "\x18\0\0\0") /* OPEN */
         "\x0a\x06/a.B/C" "\x12\x0a" "\x0a\x04" "lang" "\x12\x02" "en" ":\x02" "me"),
    {NULL, NULL, 0},
};
/* clang-format on */

static void repair_crc(uint8_t *first, size_t size)
{
    uint32_t crc;

    if (size < MESH_HEADER_BYTES)
        return;
    crc = mesh_crc32c(first, 60);
    for (int i = 0; i < 4; i++)
        first[60 + i] = (uint8_t)(crc >> (8 * i));
}

static void read_meta(const struct mesh_frame *frame)
{
    struct mesh_metadata *metadata = NULL;
    struct status status;
    mesh_meta *meta = NULL;

    if (mesh_meta_unpack(frame, &meta) < 0)
        return;
    mesh_status_read(frame->header.status, meta, &status);
    mesh_labels_match(meta->selector, meta->n_selector, meta->selector, meta->n_selector);
    if (mesh_metadata_take(meta, &metadata) == 0)
        mesh_metadata_destroy(&metadata);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

static void read_body(const struct mesh_frame *frame)
{
    ProtobufCMessage *body = NULL;

    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__register__descriptor, BODY_MAX, &body) == 0)
        protobuf_c_message_free_unpacked(body, NULL);
}

/* As a call would take it. */
static void read_in_call(const uint8_t *first, size_t first_size, const uint8_t *second,
                         size_t second_size)
{
    struct mesh_message message = {.has_body = second != NULL};
    struct mesh_message *arrived;
    struct mesh_frame frame;
    struct mesh_flow flow;
    const char *why;
    bool tell;

    zmq_msg_init_size(&message.first, first_size);
    memcpy(zmq_msg_data(&message.first), first, first_size);
    if (second) {
        zmq_msg_init_size(&message.body, second_size);
        memcpy(zmq_msg_data(&message.body), second, second_size);
    }
    mesh_message_frame(&message, &frame);
    mesh_flow_init(&flow);
    mesh_flow_receive(&flow, &message, &frame, BODY_MAX, &why);
    mesh_message_close(&message);
    while ((arrived = mesh_flow_take(&flow, &tell)) != NULL) {
        ProtobufCMessage *body = NULL;

        if (mesh_flow_unpack(arrived, &dragoman__mesh__v1__register__descriptor, &body) == 0)
            protobuf_c_message_free_unpacked(body, NULL);
        mesh_message_close(arrived);
        free(arrived);
    }
    mesh_flow_fini(&flow);
}

/* Copies of their exact sizes, for sanitizers. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    memcpy(copy, bytes, size);
    return copy;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct mesh_frame frame;
    uint8_t *first, *second;
    size_t split;
    bool two;

    if (size < 3)
        return;
    two = (bytes[0] & 2) != 0;
    split = (size_t)(bytes[1] | bytes[2] << 8);
    if (!two || split > size - 3)
        split = size - 3;
    first = copy_of(bytes + 3, split);
    second = two ? copy_of(bytes + 3 + split, size - 3 - split) : NULL;
    if (bytes[0] & 1)
        repair_crc(first, split);
    if (mesh_frame_decode(first, split, second, size - 3 - split, &frame) == 0) {
        uint8_t again[MESH_HEADER_BYTES];

        mesh_header_encode(&frame.header, again); /* what was read is what is written */
        if (memcmp(again, first, 5) != 0 || memcmp(again + 6, first + 6, 54) != 0)
            abort();
        read_meta(&frame);
        read_body(&frame);
        read_in_call(first, split, second, size - 3 - split);
    }
    free(first);
    free(second);
}
