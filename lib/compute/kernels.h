/*
 * kernels.h - what each instruction set offers the operations: one table, chosen by CPUID
 *
 * kernels_portable.c is plain C and the measure of the others.
 */
#ifndef COMPUTE_KERNELS_H
#define COMPUTE_KERNELS_H

#include "compute/compute.h"

#include <stdint.h>

struct kernels {
    enum compute_isa isa;

    void (*add)(float *x, const float *y, size_t n); /* x += y */
    void (*scale)(float *x, float factor, size_t n);
    void (*leaky_relu)(float *x, float slope, size_t n);
    void (*gelu)(float *x, size_t n);
    void (*sigmoid)(float *x, size_t n);
    void (*tanh)(float *x, size_t n);

    float (*max)(const float *x, size_t n);
    /** x = exp(x - max); the sum of them */
    float (*exp_minus)(float *x, size_t n, float max);
    /** the sum of exp(x - max) */
    float (*sum_exp)(const float *x, size_t n, float max);
    void (*layer_norm)(const float *x, size_t n, const float *scale, const float *bias,
                       float epsilon, float *y);

    /** out (rows, n) with stride ld_out = x (rows, k) W^T + bias; rows at most KERNELS_DOT_ROWS */
    void (*dot_rows)(const float *x, size_t ld_x, size_t rows, const float *w, size_t ld_w,
                     size_t n, size_t k, const float *bias, float *out, size_t ld_out);

    /*
     * 8-bit weights are packed in panels of `s8_panel` outputs: for each `s8_group` of inputs, the
     * outputs' groups one after another, padded with anything to whole groups and panels. Weights
     * are stored with `s8_offset` added.
     */
    size_t s8_panel, s8_group;
    uint8_t s8_offset;
    /** out (rows, n) with stride ld_out = q (rows, k) W^T; w: panels that hold n outputs */
    void (*gemm_s8)(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t n, int32_t *out,
                    size_t ld_out);

    void (*quantize)(const float *x, size_t n, float multiplier, int8_t *q);
    void (*dequantize)(const int32_t *acc, size_t n, float factor, const float *bias, float *out);
    void (*f16_to_f32)(const void *src, size_t n, float *out);
    void (*bf16_to_f32)(const void *src, size_t n, float *out);
};

#define KERNELS_DOT_ROWS 8

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512_vnni;
#endif

/** The best table that this CPU runs, below the limit that was set. */
const struct kernels *kernels_get(void);

#endif
