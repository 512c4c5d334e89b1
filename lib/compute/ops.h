/*
 * ops.h - the operations of the engines, in f32. Row-major, last index fastest.
 *
 * Every fast path has a portable twin and a test that compares them. Unless said otherwise outputs
 * may not overlap inputs; "in place" functions say so.
 */
#ifndef COMPUTE_OPS_H
#define COMPUTE_OPS_H

#include "compute/compute.h"

#include <stdint.h>

/** C = alpha * op(A) op(B) + beta * C; op(A) (m, k), op(B) (k, n), C (m, n); ld* are row strides. */
void compute_gemm(struct compute *c, bool trans_a, bool trans_b, size_t m, size_t n, size_t k,
                  float alpha, const float *a, size_t lda, const float *b, size_t ldb, float beta,
                  float *out, size_t ldc);

/** out (rows, n) = x (rows, k) W^T + bias; W (n, k); bias (n) or NULL. Chooses matrix-vector kernels
 *  for few rows, OpenBLAS for many. */
void compute_linear(struct compute *c, const float *x, size_t rows, const float *w,
                    const float *bias, size_t n, size_t k, float *out);

/** Softmax over the last dimension of (rows, n), in place. */
void compute_softmax(struct compute *c, float *x, size_t rows, size_t n);
/** log softmax of one row. */
void compute_log_softmax(const float *x, size_t n, float *out);
size_t compute_argmax(const float *x, size_t n);

/** y = (x - mean) / sqrt(var + epsilon) * scale + bias over the last dimension of (rows, n); x == y allowed. */
void compute_layer_norm(struct compute *c, const float *x, size_t rows, size_t n,
                        const float *scale, const float *bias, float epsilon, float *y);

void compute_add(float *x, const float *y, size_t n); /* x += y */
void compute_add_bias(float *x, const float *bias, size_t rows, size_t n);
void compute_scale(float *x, float factor, size_t n);
void compute_relu(float *x, size_t n);
void compute_leaky_relu(float *x, float slope, size_t n);
void compute_gelu(float *x, size_t n); /* exact: x/2 (1 + erf(x / sqrt 2)) */
void compute_sigmoid(float *x, size_t n);
void compute_tanh(float *x, size_t n);

/**
 * 1-D convolution, channels first: x (c_in, t_in) -> out (c_out, t_out).
 * t_out = (t_in + pad_left + pad_right - dilation * (kernel - 1) - 1) / stride + 1
 * w (c_out, c_in / groups, kernel); bias (c_out) or NULL. Blocked so that large outputs stay in cache.
 */
struct compute_conv1d {
    size_t c_in, c_out, kernel, stride, dilation, pad_left, pad_right, groups;
    const float *w, *bias; /* borrowed */
};
size_t compute_conv1d_length(const struct compute_conv1d *conv, size_t t_in);
int compute_conv1d(struct compute *c, const struct compute_conv1d *conv, const float *x,
                   size_t t_in, float *out); /* 0; -ENOMEM */

/**
 * Scaled dot-product attention of all heads.
 * q (t_q, heads * d), k and v (t_k, heads * d) with row strides ld_q, ld_kv; out (t_q, heads * d).
 * scale multiplies the scores. mask (t_q, t_k) is added to them, or NULL.
 */
int compute_attention(struct compute *c, const float *q, size_t ld_q, size_t t_q, const float *k,
                      const float *v, size_t ld_kv, size_t t_k, size_t heads, size_t d, float scale,
                      const float *mask, float *out); /* 0; -ENOMEM */

/* int8 (symmetric): exact 32-bit accumulation on every path. */

/** q = clamp(round-half-even(x * multiplier), -127, 127); NaN gives -127. */
void compute_quantize(const float *x, size_t n, float multiplier, int8_t *q);

/** Weights packed for this context's kernels. */
struct compute_weights_s8;
/** @param w  (n, k) int8, row i belongs to output i. @return 0; -ENOMEM */
int compute_pack_s8(struct compute *c, const int8_t *w, size_t n, size_t k,
                    struct compute_weights_s8 **out);
void compute_weights_s8_destroy(struct compute_weights_s8 **weights);
/** acc (rows, n) = q (rows, k) W^T, int32. */
void compute_gemm_s8(struct compute *c, const int8_t *q, size_t rows,
                     const struct compute_weights_s8 *w, int32_t *acc);
/** out = acc * factor + bias, (rows, n); bias (n) or NULL. */
void compute_dequantize(const int32_t *acc, size_t rows, size_t n, float factor, const float *bias,
                        float *out);

/* Conversions. */
void compute_f16_to_f32(const void *src, size_t n, float *out); /* src may be unaligned */
void compute_bf16_to_f32(const void *src, size_t n, float *out);

#endif
