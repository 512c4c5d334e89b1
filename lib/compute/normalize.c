/*
 * normalize.c - softmax, layer norm, argmax: what looks at a whole row
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <math.h>

/* Elements below which a row operation is over before another thread wakes. */
#define GRAIN 32768

struct rows {
    const struct kernels *kernels;
    float *y;
    const float *x, *scale, *bias;
    size_t n;
    float epsilon;
};

static size_t rows_grain(size_t n)
{
    return GRAIN / (n + 1) + 1;
}

static void softmax_rows(void *arg, size_t begin, size_t end)
{
    const struct rows *rows = arg;

    for (size_t row = begin; row < end; row++) {
        float *x = rows->y + row * rows->n;
        float sum = rows->kernels->exp_minus(x, rows->n, rows->kernels->max(x, rows->n));

        rows->kernels->scale(x, 1.0f / sum, rows->n);
    }
}

void compute_softmax(struct compute *c, float *x, size_t n_rows, size_t n)
{
    struct rows rows = {.kernels = kernels_get(), .y = x, .n = n};

    compute_parallel_for(c, n_rows, rows_grain(n), softmax_rows, &rows);
}

void compute_log_softmax(const float *x, size_t n, float *out)
{
    const struct kernels *kernels = kernels_get();
    float max = kernels->max(x, n);
    float log_sum = logf(kernels->sum_exp(x, n, max));

    for (size_t i = 0; i < n; i++)
        out[i] = (x[i] - max) - log_sum;
}

size_t compute_argmax(const float *x, size_t n)
{
    float max = kernels_get()->max(x, n);

    for (size_t i = 0; i < n; i++)
        if (x[i] == max)
            return i;
    return 0; /* nothing but NaN */
}

static void layer_norm_rows(void *arg, size_t begin, size_t end)
{
    const struct rows *rows = arg;

    for (size_t row = begin; row < end; row++)
        rows->kernels->layer_norm(rows->x + row * rows->n, rows->n, rows->scale, rows->bias,
                                  rows->epsilon, rows->y + row * rows->n);
}

void compute_layer_norm(struct compute *c, const float *x, size_t n_rows, size_t n,
                        const float *scale, const float *bias, float epsilon, float *y)
{
    struct rows rows = {kernels_get(), y, x, scale, bias, n, epsilon};

    compute_parallel_for(c, n_rows, rows_grain(n), layer_norm_rows, &rows);
}
