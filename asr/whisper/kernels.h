/*
 * kernels.h - the decoder's inner loops, which no general operation does
 *
 * A decoder step is bound by memory: every weight is read once for a handful of rows. So the weights
 * stay as they are in the file, 16-bit and unaligned, and are widened in registers, which is exact.
 */
#ifndef ASR_WHISPER_KERNELS_H
#define ASR_WHISPER_KERNELS_H

#include "compute/compute.h"

#include <stdint.h>

#define KERNELS_MAX_ROWS 8
#define KERNELS_STEP 16 /* what k and the size of a head must be a multiple of */

struct whisper_kernels {
    /**
     * out[r][i] = x[r] . w[i] + bias[i] for i in [begin, end).
     *
     * @param x     (rows, k), rows <= KERNELS_MAX_ROWS, k % KERNELS_STEP == 0
     * @param w     (n, k) half precision, unaligned
     * @param bias  (n) or NULL
     * @param out   (rows, n)
     */
    void (*linear_f16)(const float *x, size_t rows, const void *w, const float *bias, size_t begin,
                       size_t end, size_t n, size_t k, float *out);

    /**
     * scores[h][t] = q[h] . keys[h] of row[t], over a cache whose rows are picked one by one.
     *
     * @param q       (heads * d), d % KERNELS_STEP == 0
     * @param cache   rows of heads * d
     * @param rows    (n) which row holds position t
     * @param scores  (heads, n)
     */
    void (*pick_dot)(const float *q, const float *cache, const uint32_t *rows, size_t n,
                     size_t heads, size_t d, float *scores);

    /**
     * out (rows, n) = a (rows, k) b (k, n), all row-major with the strides ld*.
     * rows <= KERNELS_MAX_ROWS: each value of b is read once for all of them.
     */
    void (*few_rows)(const float *a, size_t ld_a, size_t rows, const float *b, size_t ld_b,
                     size_t k, size_t n, float *out, size_t ld_out);

    /** out[h] = sum over t of weights[h][t] * values[h] of row[t]; arguments as above. */
    void (*pick_sum)(const float *weights, const float *cache, const uint32_t *rows, size_t n,
                     size_t heads, size_t d, float *out);
};

/** The best for this instruction set. Static. */
const struct whisper_kernels *whisper_kernels_for(enum compute_isa isa);

#endif
