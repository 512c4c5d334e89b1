/*
 * int8.c - products of 8-bit integers, exact in 32 bits
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct compute_weights_s8 {
    size_t n, k;
    int8_t *data; /* (n, k) */
};

void compute_quantize(const float *x, size_t n, float multiplier, int8_t *q)
{
    kernels_get()->quantize(x, n, multiplier, q);
}

void compute_dequantize(const int32_t *acc, size_t rows, size_t n, float factor, const float *bias,
                        float *out)
{
    for (size_t row = 0; row < rows; row++)
        kernels_get()->dequantize(acc + row * n, n, factor, bias, out + row * n);
}

int compute_pack_s8(struct compute *c, const int8_t *w, size_t n, size_t k,
                    struct compute_weights_s8 **out)
{
    struct compute_weights_s8 *weights = calloc(1, sizeof(*weights));

    (void)c;
    if (!weights)
        return -ENOMEM;
    weights->n = n;
    weights->k = k;
    weights->data = compute_alloc(n * k);
    if (!weights->data) {
        compute_weights_s8_destroy(&weights);
        return -ENOMEM;
    }
    memcpy(weights->data, w, n * k);
    *out = weights;
    return 0;
}

void compute_weights_s8_destroy(struct compute_weights_s8 **weights)
{
    if (!*weights)
        return;
    free((*weights)->data);
    free(*weights);
    *weights = NULL;
}

static int32_t dot(const int8_t *a, const int8_t *b, size_t k)
{
    int32_t sum = 0;

    for (size_t i = 0; i < k; i++)
        sum += a[i] * b[i];
    return sum;
}

void compute_gemm_s8(struct compute *c, const int8_t *q, size_t rows,
                     const struct compute_weights_s8 *w, int32_t *acc)
{
    (void)c;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < w->n; i++)
            acc[row * w->n + i] = dot(q + row * w->k, w->data + i * w->k, w->k);
}

void compute_gemm_s8_select(struct compute *c, const int8_t *q, size_t rows,
                            const struct compute_weights_s8 *w, const uint32_t *ids, size_t n_ids,
                            int32_t *acc)
{
    (void)c;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < n_ids; i++)
            acc[row * n_ids + i] = dot(q + row * w->k, w->data + ids[i] * w->k, w->k);
}
