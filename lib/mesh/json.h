/*
 * json.h - protobuf messages as JSON and back, by their descriptors: proto3's JSON mapping
 *
 * Works on compiled descriptors and on those of schema.h; only the latter know maps, oneofs of proto2
 * and json_name. 64-bit numbers are strings, bytes base64, enums names, floats may be "NaN" and
 * "Infinity"; google.protobuf.Timestamp, Duration and the wrappers have their own forms. Struct, Any and
 * FieldMask are plain messages here.
 */
#ifndef MESH_JSON_H
#define MESH_JSON_H

#include "base/buffer.h"
#include "mesh/schema.h"

#include <stdbool.h>

#define MESH_JSON_WHY 512 /* bytes of a reason */

/** What JSON is read with. Zero: strict. */
struct mesh_json_reading {
    bool ignore_unknown; /* fields that the type does not have; else they are an error */
};

/** What JSON is written with. Zero: one line, only fields that are set. */
struct mesh_json_writing {
    bool defaults;       /* also fields with their default value: 0, "", [] */
    bool original_names; /* "sample_rate" instead of "sampleRate" */
    bool pretty;         /* several lines, indented by two */
};

/**
 * Read one JSON object as a message. Names are taken as in the .proto or in lowerCamelCase.
 *
 * @param why  filled on error: the path, what is expected there and what was found
 * @param out  freed with protobuf_c_message_free_unpacked()
 * @return 0; -EINVAL: not JSON or not of this type; -EMSGSIZE: too deep; -ENOMEM
 */
int mesh_json_read(const ProtobufCMessageDescriptor *type, const char *text, size_t size,
                   const struct mesh_json_reading *how, ProtobufCMessage **out,
                   char why[MESH_JSON_WHY]);

/** Append a message as JSON, without a line's end. @return 0; -EMSGSIZE: past the buffer's limit, too deep;
 *  -ENOMEM; -ERANGE: a Timestamp or Duration outside of its range */
int mesh_json_write(const ProtobufCMessage *message, const struct mesh_json_writing *how,
                    struct buffer *out);

#endif
