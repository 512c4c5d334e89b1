/*
 * ct2.h - weights of CTranslate2's model.bin, binary versions 4 to 6
 *
 * The file, little-endian and without padding:
 *
 *   u32 version, text spec, u32 revision,
 *   u32 n, then n times: text name, u8 rank, u32 dims[rank], u8 type, u32 bytes, data,
 *   u32 n, then n times: text alias, text name
 *
 * A text is a u16 length that counts its NUL, then the bytes. Data lies wherever the texts before it
 * end, so tensors are not aligned: load from them with memcpy or unaligned instructions.
 */
#ifndef COMPUTE_WEIGHTS_CT2_H
#define COMPUTE_WEIGHTS_CT2_H

#include "compute/weights/weights.h"

/**
 * Map a file and list its tensors; aliases become tensors of their own over the same data.
 *
 * @param spec   what kind of model it must be, "WhisperSpec"; NULL: any
 * @param error  (size) what is wrong and where, when the return is not 0
 * @param out    weights_close() it
 * @return 0; -errno when it cannot be mapped; -EBADMSG damaged; -ENOTSUP another version, spec or
 *         type; -ENOMEM
 */
int ct2_open(const char *path, const char *spec, char *error, size_t size, struct weights *out);

/** The same from memory, which stays the caller's and must outlive `out`. */
int ct2_read(const void *bytes, size_t n_bytes, const char *spec, char *error, size_t size,
             struct weights *out);

#endif
