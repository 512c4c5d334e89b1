/*
 * details.h - what a status says for programs: a message with the name of its type (StatusDetails, proto/mesh.proto)
 *
 * Details may be any bytes, and come from anyone. Those that a service gave with mesh_call_set_details_message()
 * are read here.
 */
#ifndef MESH_DETAILS_H
#define MESH_DETAILS_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#define MESH_DETAILS_TYPE_MAX 256 /* bytes with the NUL */

struct mesh_details {
    char type[MESH_DETAILS_TYPE_MAX]; /* "package.Message" */
    const void *value;                /* (size) the message, packed; borrowed from the details */
    size_t size;
};

/** Whose message it is. @return 0; -EBADMSG for bytes of another form */
int mesh_details_open(const void *details, size_t size, struct mesh_details *out);

/** The message, if it is of this type, freed with protobuf_c_message_free_unpacked(); else NULL. */
ProtobufCMessage *mesh_details_read(const void *details, size_t size,
                                    const ProtobufCMessageDescriptor *type);

/** A message as details, the caller's to free(). @return 0; -ENOMEM */
int mesh_details_pack(const ProtobufCMessage *message, void **out, size_t *size);

#endif
