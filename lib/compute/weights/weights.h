/*
 * weights.h - named tensors of a weight file, mapped and not copied
 *
 * Readers (ct2.h, marian.h, onnx.h) check every size against the file before they use it: a damaged
 * or hostile file is -EBADMSG and a message, never a crash.
 */
#ifndef COMPUTE_WEIGHTS_WEIGHTS_H
#define COMPUTE_WEIGHTS_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

enum weights_type {
    WEIGHTS_F32,
    WEIGHTS_F16,
    WEIGHTS_BF16,
    WEIGHTS_S8,
    WEIGHTS_S16,
    WEIGHTS_S32,
    WEIGHTS_S64
};

#define WEIGHTS_MAX_RANK 4

struct weights_tensor {
    const char *name;
    enum weights_type type;
    size_t rank;
    size_t shape[WEIGHTS_MAX_RANK];
    size_t count;     /* elements */
    const void *data; /* into the mapping, may be unaligned */
    float multiplier; /* WEIGHTS_S8: stored = round(value * multiplier); else 0 */
};

struct weights {
    struct weights_tensor *tensors; /* (n_tensors) sorted by name */
    size_t n_tensors;
    void *map; /* the file; NULL when it was not mapped */
    size_t map_bytes;
    void *owned; /* names and what else the reader allocated */
};

/** Aliases resolve. NULL when there is no such tensor. */
const struct weights_tensor *weights_find(const struct weights *weights, const char *name);
/** Convert any type to f32 (S8 divided by its multiplier). out (count) */
void weights_to_f32(const struct weights_tensor *tensor, float *out);
void weights_close(struct weights *weights);

/** Map a whole file read-only. @return 0; -errno */
int weights_map_file(const char *path, void **map, size_t *bytes);

#endif
