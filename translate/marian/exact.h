/*
 * exact.h - the float arithmetic between the int8 products, the same bit by bit everywhere
 *
 * A student's activations are rounded to int8 some hundred thousand times a sentence, and a value
 * that lies next to a rounding's edge takes the last bit of a float sum to another integer. On hard
 * text that changes one line of twenty. So these functions fix what a compiler or a processor may do
 * otherwise: every operation is IEEE single or double in a stated order, fused only where it is said, and
 * the exponential is our own. A translation is then the same on every machine. The orders are those
 * that numpy and OpenBLAS have on processors with AVX-512, so that a plain numpy forward pass says the
 * same (docs/translate.md has the figures; on another processor it differs from itself as much).
 */
#ifndef TRANSLATE_MARIAN_EXACT_H
#define TRANSLATE_MARIAN_EXACT_H

#include "compute/compute.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXACT_LANES 16  /* floats of the widest vectors */
#define EXACT_QUERIES 4 /* that attention takes side by side */
#define EXACT_SMALL                                                                                \
    1200 /* scores, t_q * t_k: OpenBLAS's bound for its kernels for small products */

/** Length of a row of transposed keys: t rounded up to whole lanes. */
static inline size_t exact_padded(size_t t)
{
    return (t + EXACT_LANES - 1) / EXACT_LANES * EXACT_LANES;
}

/* One table for each width of vectors; their results are equal. */
struct exact {
    /** out = acc / divisor + bias, (rows, n); bias (n) or NULL; with relu what is negative becomes 0. */
    void (*dequantize)(const int32_t *acc, size_t rows, size_t n, float divisor, const float *bias,
                       bool relu, float *out);
    /** q = x * multiplier, rounded to even, within +-127. */
    void (*quantize)(const double *x, size_t n, float multiplier, int8_t *q);
    /** x = layer_norm((x + y) + shift) of (rows, n), in place; shift (n) or NULL. Moments by pairwise summation: eight lanes in blocks of 128. */
    void (*add_norm)(float *x, const float *y, const float *shift, size_t rows, size_t n,
                     const float *scale, const float *bias, float epsilon);
    /** The SSRU's cell: f = sigmoid(forget), c = f c + (1 - f) x, y = relu(c); y may be x. */
    void (*unit)(const float *forget, const float *x, size_t n, float *c, float *y);
    /**
     * Attention of all heads. Scores are float sums of fused products in lanes, dimension j in lane j mod
     * lanes: 8 for a single query, added (l, l + 4), then neighbours; 16 for up to EXACT_SMALL scores a
     * head, added by neighbours; 1 above. All that follows is in double.
     *
     * @param q       (t_q, heads * d), as out
     * @param k       (heads * d, exact_padded(t_k)) by exact_transpose()
     * @param v       (t_k, heads * d)
     * @param scores  (EXACT_QUERIES * exact_padded(t_k)) scratch
     */
    void (*attention)(const float *q, size_t t_q, const float *k, const float *v, size_t t_k,
                      size_t heads, size_t d, double *scores, double *out);
    /** log softmax of one row, the sum in double. */
    void (*log_softmax)(const float *x, size_t n, float *out);
};

extern const struct exact exact_portable;
#ifdef __x86_64__
extern const struct exact exact_avx2, exact_avx512;
#endif

/** The widest that a context's kernels may be. */
const struct exact *exact_for(enum compute_isa isa);

/** out (n, exact_padded(t)) = x (t, n) transposed, zeros at the rows' ends. */
void exact_transpose(const float *x, size_t t, size_t n, float *out);

#endif
