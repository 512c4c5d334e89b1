/*
 * exact.h - the float arithmetic between the int8 products, the same bit by bit everywhere
 *
 * A student's activations are rounded to int8 some hundred thousand times a sentence, and a value
 * that lies next to a rounding's edge takes the last bit of a float sum to another integer. On hard
 * text that changes one line of ten. So these functions fix what a compiler or a processor may do
 * otherwise: every operation is IEEE single or double in a stated order, none is contracted to a fused
 * one, sums that are long are made in double, and the exponential is our own. A translation is then the
 * same on every machine, and tests/translate/golden/make_translate.py can say it in advance.
 */
#ifndef TRANSLATE_MARIAN_EXACT_H
#define TRANSLATE_MARIAN_EXACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** out = acc * factor + bias, (rows, n); bias (n) or NULL; with relu what is negative becomes 0. */
void exact_dequantize(const int32_t *acc, size_t rows, size_t n, float factor, const float *bias,
                      bool relu, float *out);

/** x = layer_norm(x + y) of (rows, n), in place; moments and quotient in double. */
void exact_add_norm(float *x, const float *y, size_t rows, size_t n, const float *scale,
                    const float *bias, double epsilon);

/** The SSRU's cell: f = sigmoid(forget), c = f c + (1 - f) x, y = relu(c); y may be x. */
void exact_unit(const float *forget, const float *x, size_t n, float *c, float *y);

/**
 * Attention of all heads.
 *
 * q and out (t_q, heads * d), k and v (t_k, heads * d). A score's products are summed in sixteen lanes,
 * halved until one is left; the values in the order of the keys.
 * @param scores  (t_k) scratch
 */
void exact_attention(const float *q, size_t t_q, const float *k, const float *v, size_t t_k,
                     size_t heads, size_t d, float *scores, float *out);

/** log softmax of one row, the sum in double. */
void exact_log_softmax(const float *x, size_t n, float *out);

#endif
