/*
 * lent.h - a request that is read where it lies: its one large field is lent, not copied
 *
 * protobuf-c copies every bytes field out of a packed message. For a unary handler that is waste: its
 * request lives no longer than the frame it came in.
 */
#ifndef MESH_LENT_H
#define MESH_LENT_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_LENT_MIN 16384 /* bytes; copying less costs less than looking for it */

struct mesh_lent {
    ProtobufCMessage *message;
    ProtobufCBinaryData *field; /* that points into the packed bytes; NULL: all is copied */
};

/**
 * Unpack; a bytes field of its own (not repeated, not in a oneof) with MESH_LENT_MIN bytes or more, of which
 * there is just one, points into `packed`.
 *
 * @param packed  (size) must outlive *out
 * @return 0: mesh_lent_free() ends it; -EBADMSG
 */
int mesh_lent_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *packed, size_t size,
                     struct mesh_lent *out);
void mesh_lent_free(struct mesh_lent *lent);

#endif
