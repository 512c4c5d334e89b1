/*
 * metadata.h - key/value pairs that travel with a call, both ways
 *
 * Keys are lower case [a-z0-9._-], at most 64 bytes; a key ending in "-bin" takes any bytes, others
 * printable UTF-8. All entries of one call and direction fit MESH_METADATA_MAX packed bytes: the Meta
 * block that carries them has 8192, and the method, selector and status message need room as well.
 */
#ifndef MESH_METADATA_H
#define MESH_METADATA_H

#include <stddef.h>
#include <stdint.h>

#define MESH_METADATA_MAX 7168
#define MESH_TRACEPARENT_BYTES 25 /* trace id (16), span id (8), flags (1) */

struct mesh_metadata; /* NULL is the empty list wherever a const one is taken */

/** Add an entry; *metadata may be NULL and is made then. Keys may repeat. @return 0; -EINVAL: a bad key or
 *  text, or no room; -ENOMEM */
int mesh_metadata_add(struct mesh_metadata **metadata, const char *key, const void *value,
                      size_t size);
int mesh_metadata_add_text(struct mesh_metadata **metadata, const char *key, const char *value);

size_t mesh_metadata_count(const struct mesh_metadata *metadata);
/** Entry i; the value is NUL-terminated past its size. Borrowed until the next add or destroy. */
const char *mesh_metadata_at(const struct mesh_metadata *metadata, size_t i, const void **value,
                             size_t *size);
/** First value of a key as text; NULL when there is none. */
const char *mesh_metadata_get(const struct mesh_metadata *metadata, const char *key);

void mesh_metadata_destroy(struct mesh_metadata **metadata);

#endif
