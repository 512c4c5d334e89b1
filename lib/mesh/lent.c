#include "mesh/lent.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Of tags and lengths protobuf-c reads no more. */
#define SHORT_BYTES 5
#define LONG_BYTES 10

/* A place in the packed bytes. */
struct reader {
    const uint8_t *at, *end;
};

/* A field as it lies there: tag, length and all. */
struct found {
    const uint8_t *begin, *end;
    const uint8_t *data;
    size_t size;
    const ProtobufCFieldDescriptor *field;
};

static bool read_varint(struct reader *in, unsigned max_bytes, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < max_bytes && in->at < in->end; i++) {
        uint8_t byte = *in->at++;

        *value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool skip(struct reader *in, uint64_t n)
{
    if (n > (uint64_t)(in->end - in->at))
        return false;
    in->at += n;
    return true;
}

/* @return false: it does not parse, or nobody knows how: protobuf-c decides */
static bool read_field(struct reader *in, uint64_t *number, struct found *out)
{
    uint64_t tag, value;

    *out = (struct found){.begin = in->at};
    if (!read_varint(in, SHORT_BYTES, &tag))
        return false;
    *number = tag >> 3;
    switch (tag & 7) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        return read_varint(in, LONG_BYTES, &value);
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        return skip(in, 8);
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        return skip(in, 4);
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        if (!read_varint(in, SHORT_BYTES, &value))
            return false;
        out->data = in->at;
        out->size = value;
        return skip(in, value);
    default:
        return false;
    }
}

static bool may_be_lent(const ProtobufCFieldDescriptor *field)
{
    return field && field->type == PROTOBUF_C_TYPE_BYTES && field->label == PROTOBUF_C_LABEL_NONE &&
           !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
}

/* The one large field; a second of its number, before or behind it, spoils it: the last one counts then. */
static bool find(const ProtobufCMessageDescriptor *type, const uint8_t *packed, size_t size,
                 struct found *large)
{
    struct reader in = {packed, packed + size};
    uint64_t number, wanted = 0;
    struct found found;
    unsigned n = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (in.at = packed; in.at < in.end;) {
            if (!read_field(&in, &number, &found))
                return false;
            found.end = in.at;
            if (pass == 1 && number == wanted)
                n++;
            if (pass == 1 || wanted || found.size < MESH_LENT_MIN || number > UINT32_MAX)
                continue;
            found.field = protobuf_c_message_descriptor_get_field(type, (unsigned)number);
            if (may_be_lent(found.field)) {
                wanted = number;
                *large = found;
            }
        }
        if (wanted == 0)
            return false;
    }
    return n == 1;
}

/* The message without that field. */
static ProtobufCMessage *unpack_rest(const ProtobufCMessageDescriptor *type, const uint8_t *packed,
                                     size_t size, const struct found *large)
{
    size_t before = (size_t)(large->begin - packed);
    size_t after = (size_t)(packed + size - large->end);
    uint8_t *rest = malloc(before + after + 1);
    ProtobufCMessage *message;

    if (!rest)
        return NULL;
    memcpy(rest, packed, before);
    memcpy(rest + before, large->end, after);
    message = protobuf_c_message_unpack(type, NULL, before + after, rest);
    free(rest);
    return message;
}

int mesh_lent_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *packed, size_t size,
                     struct mesh_lent *out)
{
    struct found large;
    bool lends = size >= MESH_LENT_MIN && find(type, packed, size, &large);

    *out = (struct mesh_lent){NULL, NULL};
    out->message = lends ? unpack_rest(type, packed, size, &large)
                         : protobuf_c_message_unpack(type, NULL, size, packed);
    if (!out->message)
        return -EBADMSG;
    if (lends) {
        out->field = (ProtobufCBinaryData *)(void *)((char *)out->message + large.field->offset);
        *out->field = (ProtobufCBinaryData){large.size, (uint8_t *)(uintptr_t)large.data};
    }
    return 0;
}

void mesh_lent_free(struct mesh_lent *lent)
{
    if (lent->field)
        *lent->field = (ProtobufCBinaryData){0, NULL};
    if (lent->message)
        protobuf_c_message_free_unpacked(lent->message, NULL);
    *lent = (struct mesh_lent){NULL, NULL};
}
