/*
 * marian.h - weights of Marian's .bin files, version 1, f32 and intgemm's int8
 *
 * The file, little-endian:
 *
 *   u64 version, u64 n,
 *   n times u64 name length with its NUL, u64 type, u64 rank, u64 data bytes,
 *   the names, the shapes (i32 each), u64 padding, the padding, the data one after the other
 *
 * An int8 tensor ends with its multiplier as an f32. Marian stores int8 matrices transposed but for
 * embeddings ("...Wemb"), and writes the shape from before that. Here the shape is that of the bytes:
 * an int8 matrix from (in) to (out) has the shape (out, in), an f32 one (in, out).
 */
#ifndef COMPUTE_WEIGHTS_MARIAN_H
#define COMPUTE_WEIGHTS_MARIAN_H

#include "compute/weights/weights.h"

/**
 * Map a file and list its tensors.
 *
 * @param error   (size) what is wrong and where, when the return is not 0
 * @param out     weights_close() it
 * @param config  the text of "special:model.yml", "" when there is none; the caller's, free()
 * @return 0; -errno when it cannot be mapped; -EBADMSG damaged; -ENOTSUP another version or type;
 *         -ENOMEM
 */
int marian_open(const char *path, char *error, size_t size, struct weights *out, char **config);

/** The same from memory, which stays the caller's and must outlive `out`. */
int marian_read(const void *bytes, size_t n_bytes, char *error, size_t size, struct weights *out,
                char **config);

#endif
