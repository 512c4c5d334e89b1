/*
 * reflect_fields.h - the fields of one message, as google.protobuf.FieldDescriptorProto; inside reflect.c
 */
#ifndef MESH_REFLECT_FIELDS_H
#define MESH_REFLECT_FIELDS_H

#include "proto/descriptor.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

typedef Google__Protobuf__DescriptorProto reflect_message;

/* Everything that is made for one set; freed at once. */
struct reflect_arena {
    struct reflect_block *blocks;
};

void reflect_arena_fini(struct reflect_arena *arena);
/** An initialised message. NULL when memory is out, as of the next. */
void *reflect_make(struct reflect_arena *arena, const ProtobufCMessageDescriptor *type);
char *reflect_text(struct reflect_arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/** Put a pointer behind the others. `list` is the address of the pointer to their array. */
bool reflect_append(struct reflect_arena *arena, void *list, size_t *n, void *item);

/** Describe the fields of a type. @return false when memory is out */
bool reflect_fields(struct reflect_arena *arena, reflect_message *message,
                    const ProtobufCMessageDescriptor *type, bool proto3);
/** The package of a field's message or enum; NULL for other fields. */
const char *reflect_package_of(const ProtobufCFieldDescriptor *field);

#endif
