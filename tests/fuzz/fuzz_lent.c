/*
 * Bytes around a large field: lent or copied, the message is the same.
 *
 *   input = how before after      how: how many large fields, and which
 */
#include "mesh/lent.h"
#include "proto/mesh.pb-c.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

#define LARGE (MESH_LENT_MIN + 77)

const unsigned fuzz_rounds = 20000;

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

/* Of a ServiceOffer: name, methods, a small descriptor_set; and numbers that it does not know. */
const struct fuzz_seed fuzz_seeds[] = {
    SEED("\x01"),
    SEED("\x01\x0a\x03"
         "abc\x12\x02"
         "de"),
    SEED("\x02\x0a\x03"
         "abc\x1a\x02"
         "de\x12\x01"
         "f"),
    SEED("\x03\x1a\x02"
         "de\x38\x96\x01\x39"
         "12345678\x3d"
         "1234"),
    SEED("\x05\x0a\x03"
         "abc\x12\x02"
         "de\x12\x01"
         "f"),
    {NULL, NULL, 0},
};

struct packed {
    uint8_t *bytes;
    size_t size;
};

static void add(struct packed *packed, const void *bytes, size_t size)
{
    packed->bytes = realloc(packed->bytes, packed->size + size + 1);
    if (!packed->bytes)
        abort();
    if (size > 0)
        memcpy(packed->bytes + packed->size, bytes, size);
    packed->size += size;
}

static void add_large(struct packed *packed, uint8_t tag, uint8_t fill)
{
    const uint8_t head[] = {tag, (LARGE & 0x7f) | 0x80, (LARGE >> 7 & 0x7f) | 0x80, LARGE >> 14};
    uint8_t data[LARGE];

    memset(data, fill, sizeof(data));
    add(packed, head, sizeof(head));
    add(packed, data, sizeof(data));
}

static struct packed pack(const ProtobufCMessage *message)
{
    struct packed packed = {malloc(protobuf_c_message_get_packed_size(message) + 1), 0};

    if (!packed.bytes)
        abort();
    packed.size = protobuf_c_message_pack(message, packed.bytes);
    return packed;
}

static void compare(const struct packed *packed)
{
    const ProtobufCMessageDescriptor *type = &dragoman__mesh__v1__service_offer__descriptor;
    ProtobufCMessage *copied = protobuf_c_message_unpack(type, NULL, packed->size, packed->bytes);
    struct mesh_lent lent;
    int err = mesh_lent_unpack(type, packed->bytes, packed->size, &lent);

    if ((err == 0) != (copied != NULL))
        abort();
    if (copied) {
        struct packed one = pack(copied), other = pack(lent.message);

        if (one.size != other.size || memcmp(one.bytes, other.bytes, one.size) != 0)
            abort();
        free(one.bytes);
        free(other.bytes);
        protobuf_c_message_free_unpacked(copied, NULL);
    }
    mesh_lent_free(&lent);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct packed packed = {NULL, 0};
    uint8_t how = size > 0 ? bytes[0] : 0;
    size_t half = size / 2;

    if (size > 1)
        add(&packed, bytes + 1, half);
    for (int i = 0; i < (how & 3); i++)
        add_large(&packed, how & 4 ? 0x12 : how & 8 ? 0x3a : 0x1a, how);
    if (size > 1)
        add(&packed, bytes + 1 + half, size - 1 - half);
    if (packed.bytes)
        compare(&packed);
    free(packed.bytes);
}
