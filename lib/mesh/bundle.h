/*
 * bundle.h - several small messages of one session in one ZeroMQ frame (docs/wire.md section 2)
 *
 * What a message costs in libzmq, it costs once for all of them. Pure functions over bytes, as frame.h.
 */
#ifndef MESH_BUNDLE_H
#define MESH_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_BUNDLE_HEADER_BYTES 8 /* magic, count */
#define MESH_BUNDLE_PREFIX_BYTES 4 /* a frame's length, before each */
#define MESH_BUNDLE_MAX 65536u     /* bytes of all */
#define MESH_BUNDLE_FRAME_MAX 8192 /* bytes; larger frames go alone, and are not copied */

/** One that is being written. All zero: empty. */
struct mesh_bundle {
    uint8_t *bytes; /* (size, of room allocated) */
    size_t size, room;
    uint32_t count;
};

/** Copy a frame to the end; its owner has seen to it that MESH_BUNDLE_MAX holds them all. @return 0; -ENOMEM: as before */
int mesh_bundle_add(struct mesh_bundle *bundle, const void *frame, size_t size);
void mesh_bundle_fini(struct mesh_bundle *bundle);

/** Whether a first frame is a bundle rather than a message: look at its magic. */
bool mesh_bundle_is(const void *first, size_t size);
/** Whether it holds what it says: at least one frame, and nothing is left over. @return 0; -EBADMSG */
int mesh_bundle_check(const void *first, size_t size);
/**
 * The frame at *at, which starts at 0 and moves on, of a bundle that was checked.
 *
 * @param size  bytes of it
 * @return borrowed from the bundle; NULL after the last
 */
const uint8_t *mesh_bundle_next(const void *first, size_t first_size, size_t *at, size_t *size);

#endif
