/*
 * reflect.h - what a service looks like, for those who were not built with its .proto
 *
 * protobuf-c keeps enough at run time to write google.protobuf.FileDescriptorSet again: names, numbers,
 * types, labels, nesting, enums, streaming. What it does not keep is made up: files (one a package,
 * "dragoman/asr/v1.proto"), names of oneofs ("oneof_1"), the order of fields (by number); comments, custom
 * json names and most options are lost, and so are messages that no method leads to unless they are named.
 */
#ifndef MESH_REFLECT_H
#define MESH_REFLECT_H

#include "mesh/server.h"

#define MESH_DESCRIPTOR_SET_MAX ((size_t)64 << 10) /* bytes, of one service */

/**
 * Describe a service and all the messages it leads to.
 *
 * @param kinds  (n_methods) as for mesh_server_add_service(); NULL: all unary
 * @param types  (n_types) messages that no method leads to, described as well
 * @param out    the bytes, the caller's to free()
 * @return 0; -EMSGSIZE over MESH_DESCRIPTOR_SET_MAX; -ENOMEM
 */
int mesh_reflect(const ProtobufCServiceDescriptor *service, const enum mesh_kind *kinds,
                 const ProtobufCMessageDescriptor *const *types, size_t n_types, uint8_t **out,
                 size_t *size);

/** The kinds of the mesh's own services (Health, Directory, Reflection), whose streams are the Watch methods. */
int mesh_reflect_own(const ProtobufCServiceDescriptor *service, uint8_t **out, size_t *size);

/** The service in "package.Service" or "package.Service/Method". @return its size */
size_t mesh_reflect_service(const char *symbol);

#endif
