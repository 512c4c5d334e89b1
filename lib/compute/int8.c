/*
 * int8.c - products of 8-bit integers, exact in 32 bits
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Multiply-adds below which a product is over before another thread wakes. */
#define GRAIN 4000000

struct compute_weights_s8 {
    const struct kernels *kernels; /* that they are packed for */
    size_t n, k;
    size_t ld_panel; /* bytes of one panel */
    int8_t *panels;
};

void compute_quantize(const float *x, size_t n, float multiplier, int8_t *q)
{
    kernels_get()->quantize(x, n, multiplier, q);
}

void compute_dequantize(const int32_t *acc, size_t rows, size_t n, float factor, const float *bias,
                        float *out)
{
    const struct kernels *kernels = kernels_get();

    for (size_t row = 0; row < rows; row++)
        kernels->dequantize(acc + row * n, n, factor, bias, out + row * n);
}

/* One output's inputs into its place in its panel, `width` groups apart. Constant `group` wherever this
 * is inlined, so that a whole group is one store. */
static inline __attribute__((always_inline)) void pack_row(const int8_t *w, size_t k, size_t width,
                                                           size_t group, uint8_t offset, int8_t *to)
{
    size_t j = 0;

    for (; j + group <= k; j += group, to += width * group)
        for (size_t at = 0; at < group; at++)
            to[at] = (int8_t)((uint8_t)w[j + at] + offset);
    for (; j < k; j++)
        *to++ = (int8_t)((uint8_t)w[j] + offset);
}

static void pack_rows(const struct compute_weights_s8 *weights, const int8_t *w)
{
    size_t width = weights->kernels->s8_panel, group = weights->kernels->s8_group, k = weights->k;
    uint8_t offset = weights->kernels->s8_offset;

    for (size_t i = 0; i < weights->n; i++) {
        int8_t *to = weights->panels + i / width * weights->ld_panel + i % width * group;

        if (group == 4)
            pack_row(w + i * k, k, width, 4, offset, to);
        else if (group == 2)
            pack_row(w + i * k, k, width, 2, offset, to);
        else
            pack_row(w + i * k, k, width, 1, offset, to);
    }
}

int compute_pack_s8(struct compute *c, const int8_t *w, size_t n, size_t k,
                    struct compute_weights_s8 **out)
{
    struct compute_weights_s8 *weights = calloc(1, sizeof(*weights));
    size_t bytes;

    (void)c;
    if (!weights)
        return -ENOMEM;
    weights->kernels = kernels_get();
    weights->n = n;
    weights->k = k;
    weights->ld_panel = (k + weights->kernels->s8_group - 1) / weights->kernels->s8_group *
                        weights->kernels->s8_group * weights->kernels->s8_panel;
    bytes = (n + weights->kernels->s8_panel - 1) / weights->kernels->s8_panel * weights->ld_panel;
    weights->panels = compute_alloc(bytes);
    if (!weights->panels) {
        compute_weights_s8_destroy(&weights);
        return -ENOMEM;
    }
    if (n % weights->kernels->s8_panel || k % weights->kernels->s8_group)
        memset(weights->panels, 0, bytes);
    pack_rows(weights, w);
    *out = weights;
    return 0;
}

void compute_weights_s8_destroy(struct compute_weights_s8 **weights)
{
    if (!*weights)
        return;
    free((*weights)->panels);
    free(*weights);
    *weights = NULL;
}

struct product {
    const struct compute_weights_s8 *weights;
    const int8_t *q;
    size_t rows;
    int32_t *acc;
};

static void multiply_panels(void *arg, size_t begin, size_t end)
{
    const struct product *product = arg;
    const struct compute_weights_s8 *w = product->weights;
    size_t width = w->kernels->s8_panel, last = end * width < w->n ? end * width : w->n;

    w->kernels->gemm_s8(product->q, product->rows, w->k, w->panels + begin * w->ld_panel,
                        last - begin * width, product->acc + begin * width, w->n);
}

void compute_gemm_s8(struct compute *c, const int8_t *q, size_t rows,
                     const struct compute_weights_s8 *w, int32_t *acc)
{
    struct product product = {w, q, rows, acc};
    size_t width = w->kernels->s8_panel, work = rows * w->k * width + 1;

    compute_parallel_for(c, (w->n + width - 1) / width, GRAIN / work + 1, multiply_panels,
                         &product);
}
