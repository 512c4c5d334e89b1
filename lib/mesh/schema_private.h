/*
 * schema_private.h - a schema's parts; between schema.c, schema_types.c and schema_text.c
 */
#ifndef MESH_SCHEMA_PRIVATE_H
#define MESH_SCHEMA_PRIVATE_H

#include "mesh/schema.h"
#include "proto/descriptor.pb-c.h"

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;
typedef Google__Protobuf__MethodDescriptorProto method_proto;

/* A message or an enum, found in the set; exactly one of the two is not NULL. */
struct schema_type {
    const char *name; /* full */
    const message_proto *message;
    const enum_proto *enumeration;
    bool proto3;
    ProtobufCMessageDescriptor *message_out;
    ProtobufCEnumDescriptor *enum_out;
};

struct schema_block;

struct mesh_schema {
    struct schema_block *blocks; /* everything below */
    file_set *set;               /* names are borrowed from it */
    struct schema_type *types;   /* (n_types) by name */
    size_t n_types;
    struct mesh_schema_service *services; /* (n_services) */
    size_t n_services;
    size_t n_fields; /* counted against the limit */
    char *why;       /* of the caller, while building */
};

/** Zeroed memory that lives as long as the schema. NULL when there is none. */
void *schema_alloc(struct mesh_schema *schema, size_t n, size_t size);

/** Say why it is refused. @return -EBADMSG */
int schema_refuse(struct mesh_schema *schema, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Count parts against MESH_SCHEMA_FIELDS_MAX. @return 0; -EMSGSIZE */
int schema_count(struct mesh_schema *schema, size_t n);

/** [A-Za-z_][A-Za-z0-9_]*, at most 255 bytes. */
bool schema_is_name(const char *name);

/** By the name that fields use, ".package.Type". NULL: not there. */
const struct schema_type *schema_find(const struct mesh_schema *schema, const char *name);

/** Fill the descriptor of a type that was found. @return 0; -EBADMSG; -EMSGSIZE; -ENOMEM */
int schema_build_message(struct mesh_schema *schema, const struct schema_type *type);
int schema_build_enum(struct mesh_schema *schema, const struct schema_type *type);

#endif
