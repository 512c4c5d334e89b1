/* Bytes as a bundle: each frame lies within it, none twice, and each is read as one from a peer. */
#include "mesh/bundle.h"
#include "mesh/frame.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>

const unsigned fuzz_rounds = 300000;

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }
#define PING                                                                                       \
    "MSH\x01\x03\0\0\0"                                                                            \
    "\x07\0\0\0\0\0\0\0"                                                                           \
    "\0\0\0\0\0\0\0\0"                                                                             \
    "\0\0\0\0\0\0\0\0"                                                                             \
    "\0\0\0\0\0\0\0\0"                                                                             \
    "\0\0\0\0\0\0\0\0"                                                                             \
    "\0\0\0\0\0\0\0\0"                                                                             \
    "\0\0\0\0"                                                                                     \
    "\xb0\x27\xea\xa0"

/* clang-format off */
const struct fuzz_seed fuzz_seeds[] = {
    SEED("MSHB\x02\0\0\0" "\x02\0\0\0" "ab" "\x03\0\0\0" "cde"),
    SEED("MSHB\x02\0\0\0" "\x40\0\0\0" PING "\x40\0\0\0" PING),
    SEED("MSHB\x03\0\0\0" "\0\0\0\0" "\0\0\0\0" "\x01\0\0\0" "x"),
    {NULL, NULL, 0},
};
/* clang-format on */

void fuzz_one(const uint8_t *bytes, size_t size)
{
    const uint8_t *end = bytes + MESH_BUNDLE_HEADER_BYTES; /* of what was given so far */
    const uint8_t *frame;
    struct mesh_frame read;
    size_t at = 0;
    size_t frame_size = 0;

    if (mesh_bundle_check(bytes, size) < 0)
        return;
    while ((frame = mesh_bundle_next(bytes, size, &at, &frame_size)) != NULL) {
        if (frame != end + MESH_BUNDLE_PREFIX_BYTES || frame + frame_size > bytes + size)
            abort();
        end = frame + frame_size;
        mesh_frame_decode(frame, frame_size, NULL, 0, &read);
    }
    if (end != bytes + size)
        abort();
}
