/*
 * schema.h - message types and services that are known only at run time, from descriptor sets
 *
 * What reflection gives (a google.protobuf.FileDescriptorSet) becomes protobuf-c descriptors, so that
 * protobuf-c itself packs and unpacks such messages. The set may come from anyone: names, numbers and
 * sizes are checked, and what does not fit is refused with a reason.
 *
 * Not supported, and refused: groups, editions. Left out: extensions, defaults of proto2.
 */
#ifndef MESH_SCHEMA_H
#define MESH_SCHEMA_H

#include "base/buffer.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#define MESH_SCHEMA_BYTES_MAX ((size_t)4 << 20) /* of a set */
#define MESH_SCHEMA_TYPES_MAX 4096
#define MESH_SCHEMA_FIELDS_MAX 32768 /* and values of enums, and methods */
#define MESH_SCHEMA_DEPTH_MAX 32     /* of types within types */
#define MESH_DEPTH_MAX 100           /* of messages within a message */
#define MESH_SCHEMA_WHY 256          /* bytes of a reason */

struct mesh_schema;

struct mesh_schema_method {
    const char *name;
    const ProtobufCMessageDescriptor *input, *output;
    bool client_streams, server_streams;
};

struct mesh_schema_service {
    const char *name; /* "package.Service" */
    const char *short_name;
    const struct mesh_schema_method *methods; /* (n_methods) in the .proto's order */
    size_t n_methods;
    /** For mesh_stream_open(): its messages are opaque bytes, mesh_opaque_wrap() and _bytes(). */
    const ProtobufCServiceDescriptor *opaque;
};

/**
 * Build from a packed FileDescriptorSet. Files that come twice (by name) count once.
 *
 * @param why  filled on error with what is wrong where
 * @return 0; -EBADMSG; -EMSGSIZE for one over the limits above; -ENOMEM
 */
int mesh_schema_create(const void *set, size_t size, struct mesh_schema **out,
                       char why[MESH_SCHEMA_WHY]);
void mesh_schema_destroy(struct mesh_schema **schema);

/** By full name, without a leading dot. Borrowed from the schema; NULL: not in it. */
const ProtobufCMessageDescriptor *mesh_schema_message(const struct mesh_schema *schema,
                                                      const char *name);
const ProtobufCEnumDescriptor *mesh_schema_enum(const struct mesh_schema *schema, const char *name);
const struct mesh_schema_service *mesh_schema_service(const struct mesh_schema *schema,
                                                      const char *name);
/** Service i, in the sets' order; NULL past the last. */
const struct mesh_schema_service *mesh_schema_service_at(const struct mesh_schema *schema,
                                                         size_t i);
const struct mesh_schema_method *mesh_schema_method(const struct mesh_schema_service *service,
                                                    const char *name);

/**
 * Write a service (with every type that its methods reach), a message or an enum as .proto text.
 *
 * @return 0; -ENOENT: no such name; -EMSGSIZE; -ENOMEM
 */
int mesh_schema_print(const struct mesh_schema *schema, const char *name, struct buffer *out);

/** Whether a type is the entry of a map: {key, value}. Known of schemas' types only. */
bool mesh_schema_is_map_entry(const ProtobufCMessageDescriptor *type);

/** Bytes of one value of a type where protobuf-c keeps it. */
size_t mesh_schema_value_size(ProtobufCType type);

/**
 * Unpack bytes from anyone: nested at most MESH_DEPTH_MAX deep, and no larger in memory than max_bytes.
 *
 * @param out  freed with protobuf_c_message_free_unpacked()
 * @return 0; -EBADMSG; -EMSGSIZE: too deep, too large; -ENOMEM
 */
int mesh_message_read(const ProtobufCMessageDescriptor *type, const void *data, size_t size,
                      size_t max_bytes, ProtobufCMessage **out);

/* A message whose fields are all unknown: what carries packed bytes through an interface of messages. */
extern const ProtobufCMessageDescriptor mesh_opaque_descriptor;
/** @return 0, *out freed with protobuf_c_message_free_unpacked(); -EBADMSG; -ENOMEM */
int mesh_opaque_wrap(const void *data, size_t size, ProtobufCMessage **out);
/** The bytes again, free(). NULL when memory is out. */
void *mesh_opaque_bytes(const ProtobufCMessage *message, size_t *size);

#endif
