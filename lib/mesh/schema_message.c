/* Messages of foreign types from foreign bytes; and opaque ones, that only carry bytes. */
#include "mesh/schema.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* ---- the check before unpacking -------------------------------------------------------------- */

struct cursor {
    const uint8_t *at, *end;
};

static bool read_varint(struct cursor *from, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;

        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The bytes of one field's value. */
static bool read_value(struct cursor *from, unsigned wire_type, struct cursor *value)
{
    uint64_t n = 0;

    value->at = from->at;
    if (wire_type == PROTOBUF_C_WIRE_TYPE_VARINT) {
        if (!read_varint(from, &n))
            return false;
    } else {
        if (wire_type == PROTOBUF_C_WIRE_TYPE_64BIT)
            n = 8;
        else if (wire_type == PROTOBUF_C_WIRE_TYPE_32BIT)
            n = 4;
        else if (wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED || !read_varint(from, &n))
            return false;
        if (n > (uint64_t)(from->end - from->at))
            return false;
        value->at = from->at;
        from->at += n;
    }
    value->end = from->at;
    return true;
}

static const ProtobufCMessageDescriptor *submessage(const ProtobufCMessageDescriptor *type,
                                                    uint64_t id)
{
    const ProtobufCFieldDescriptor *field =
        id > 0 && id < (1u << 29) ? protobuf_c_message_descriptor_get_field(type, (unsigned)id)
                                  : NULL;

    return field && field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
}

/* protobuf-c follows messages as deep as they go, and a byte or two may cost a whole structure. */
static int check(const ProtobufCMessageDescriptor *type, struct cursor from, int depth,
                 size_t *budget)
{
    if (depth > MESH_DEPTH_MAX || type->sizeof_message > *budget)
        return -EMSGSIZE;
    *budget -= type->sizeof_message;
    while (from.at < from.end) {
        const ProtobufCMessageDescriptor *inner;
        struct cursor value;
        uint64_t tag;
        int err;

        if (!read_varint(&from, &tag) || !read_value(&from, tag & 7, &value))
            return -EBADMSG;
        inner = submessage(type, tag >> 3);
        if (!inner || (tag & 7) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
            continue;
        err = check(inner, value, depth + 1, budget);
        if (err < 0)
            return err;
    }
    return 0;
}

int mesh_message_read(const ProtobufCMessageDescriptor *type, const void *data, size_t size,
                      size_t max_bytes, ProtobufCMessage **out)
{
    struct cursor from = {data, (const uint8_t *)data + size};
    size_t budget = max_bytes;
    int err = size > 0 ? check(type, from, 1, &budget) : 0;

    if (err < 0)
        return err;
    *out = protobuf_c_message_unpack(type, NULL, size, size > 0 ? data : (const uint8_t *)"");
    return *out ? 0 : -EBADMSG;
}

/* ---- opaque messages ------------------------------------------------------------------------- */

static void opaque_init(ProtobufCMessage *message)
{
    *message = (ProtobufCMessage){.descriptor = &mesh_opaque_descriptor};
}

const ProtobufCMessageDescriptor mesh_opaque_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "opaque",
    .short_name = "opaque",
    .c_name = "opaque",
    .package_name = "",
    .sizeof_message = sizeof(ProtobufCMessage),
    .message_init = opaque_init,
};

int mesh_opaque_wrap(const void *data, size_t size, ProtobufCMessage **out)
{
    return mesh_message_read(&mesh_opaque_descriptor, data, size, SIZE_MAX, out);
}

void *mesh_opaque_bytes(const ProtobufCMessage *message, size_t *size)
{
    uint8_t *bytes;

    *size = protobuf_c_message_get_packed_size(message);
    bytes = malloc(*size + 1);
    if (bytes)
        protobuf_c_message_pack(message, bytes);
    return bytes;
}
