/* Compiled with -ffp-contract=off. Loops over lanes vectorize without changing any order of sums. */
#include "translate/marian/exact.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONED /* sanitizers start too late for the clones' resolvers */
#endif
#define INLINE static inline __attribute__((always_inline))

#define LANES 16
#define DOUBLE_LANES 8

/*
 * e^x for x <= 0 in double, relative error under 1e-15; 0 below -700. Range: x = n ln 2 + r with
 * |r| <= ln 2 / 2, by adding 1.5 * 2^52, which rounds to an integer; e^r by its series.
 */
INLINE double exp_of(double x)
{
    static const double factors[] = {1.0 / 6227020800,
                                     1.0 / 479001600,
                                     1.0 / 39916800,
                                     1.0 / 3628800,
                                     1.0 / 362880,
                                     1.0 / 40320,
                                     1.0 / 5040,
                                     1.0 / 720,
                                     1.0 / 120,
                                     1.0 / 24,
                                     1.0 / 6,
                                     0.5,
                                     1.0,
                                     1.0};
    const double rounder = 6755399441055744.0;
    double within = x < -700 ? -700 : x, shifted = within * 1.4426950408889634 + rounder;
    double n = shifted - rounder, r, sum, power;
    int64_t bits;

    r = (within - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    sum = factors[0];
#pragma GCC unroll 13
    for (size_t i = 1; i < sizeof(factors) / sizeof(factors[0]); i++)
        sum = sum * r + factors[i];
    memcpy(&bits, &shifted, sizeof(bits)); /* its low bits are n */
    bits = (int64_t)((uint64_t)(bits + 1023) << 52);
    memcpy(&power, &bits, sizeof(power));
    return x < -700 ? 0 : sum * power;
}

CLONED void exact_dequantize(const int32_t *acc, size_t rows, size_t n, float factor,
                             const float *bias, bool relu, float *out)
{
    for (size_t row = 0; row < rows; row++, acc += n, out += n) {
        if (!bias)
            for (size_t i = 0; i < n; i++)
                out[i] = (float)acc[i] * factor;
        else if (!relu)
            for (size_t i = 0; i < n; i++)
                out[i] = (float)acc[i] * factor + bias[i];
        else
            for (size_t i = 0; i < n; i++) {
                float value = (float)acc[i] * factor + bias[i];

                out[i] = value > 0 ? value : 0;
            }
    }
}

INLINE double sum_lanes(const double *lanes)
{
    double sum = 0;

    for (size_t j = 0; j < DOUBLE_LANES; j++)
        sum += lanes[j];
    return sum;
}

INLINE double sum_of(const float *x, size_t n)
{
    double lanes[DOUBLE_LANES] = {0}, sum;
    size_t i = 0;

    for (; i + DOUBLE_LANES <= n; i += DOUBLE_LANES)
        for (size_t j = 0; j < DOUBLE_LANES; j++)
            lanes[j] += (double)x[i + j];
    for (sum = sum_lanes(lanes); i < n; i++)
        sum += (double)x[i];
    return sum;
}

INLINE double sum_of_squares(const float *x, size_t n, double mean)
{
    double lanes[DOUBLE_LANES] = {0}, sum;
    size_t i = 0;

    for (; i + DOUBLE_LANES <= n; i += DOUBLE_LANES)
        for (size_t j = 0; j < DOUBLE_LANES; j++) {
            double distance = (double)x[i + j] - mean;

            lanes[j] += distance * distance;
        }
    for (sum = sum_lanes(lanes); i < n; i++)
        sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sum;
}

CLONED void exact_add_norm(float *restrict x, const float *restrict y, size_t rows, size_t n,
                           const float *restrict scale, const float *restrict bias, double epsilon)
{
    for (size_t row = 0; row < rows; row++, x += n, y += n) {
        double mean, factor;

        for (size_t i = 0; i < n; i++)
            x[i] += y[i];
        mean = sum_of(x, n) / (double)n;
        factor = 1 / sqrt(sum_of_squares(x, n, mean) / (double)n + epsilon);
        for (size_t i = 0; i < n; i++)
            x[i] = (float)(((double)x[i] - mean) * factor * (double)scale[i] + (double)bias[i]);
    }
}

CLONED void exact_unit(const float *forget, const float *x, size_t n, float *c, float *y)
{
    for (size_t i = 0; i < n; i++) {
        double e = exp_of(-fabs((double)forget[i]));
        double f = (forget[i] < 0 ? e : 1) / (1 + e);
        double cell = f * (double)c[i] + (1 - f) * (double)x[i];

        c[i] = (float)cell;
        y[i] = c[i] > 0 ? c[i] : 0;
    }
}

INLINE float dot(const float *a, const float *b, size_t d)
{
    float lanes[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= d; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < d; j++)
        lanes[j] += a[i + j] * b[i + j];
#pragma GCC unroll 4
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++)
            lanes[j] += lanes[j + width];
    return lanes[0];
}

INLINE float largest(const float *x, size_t n)
{
    float most = x[0];

    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

INLINE void softmax(float *x, size_t n)
{
    float most = largest(x, n);
    double sum;

    for (size_t i = 0; i < n; i++)
        x[i] = (float)exp_of((double)(x[i] - most));
    sum = sum_of(x, n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sum);
}

/* Columns of the values, so few at a time that their sums stay in registers. */
INLINE void mix(const float *weights, const float *v, size_t ld, size_t t, size_t n, float *out)
{
    float sums[2 * LANES] = {0};

    for (size_t i = 0; i < t; i++)
        for (size_t j = 0; j < n; j++)
            sums[j] += weights[i] * v[i * ld + j];
    memcpy(out, sums, sizeof(*out) * n);
}

INLINE void head(const float *q, const float *k, const float *v, size_t ld, size_t t, size_t d,
                 float *scores, float *out)
{
    float scale = 1.0f / sqrtf((float)d);
    size_t j = 0;

    if (d == 2 * LANES)
        for (size_t i = 0; i < t; i++)
            scores[i] = dot(q, k + i * ld, 2 * LANES) * scale;
    else
        for (size_t i = 0; i < t; i++)
            scores[i] = dot(q, k + i * ld, d) * scale;
    softmax(scores, t);
    for (; j + 2 * LANES <= d; j += 2 * LANES)
        mix(scores, v + j, ld, t, 2 * LANES, out + j);
    if (j < d)
        mix(scores, v + j, ld, t, d - j, out + j);
}

CLONED void exact_attention(const float *q, size_t t_q, const float *k, const float *v, size_t t_k,
                            size_t heads, size_t d, float *scores, float *out)
{
    size_t ld = heads * d;

    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < t_q; i++)
            head(q + i * ld + h * d, k + h * d, v + h * d, ld, t_k, d, scores,
                 out + i * ld + h * d);
}

CLONED void exact_log_softmax(const float *x, size_t n, float *out)
{
    float most = largest(x, n);
    double sum, log_sum;

    for (size_t i = 0; i < n; i++)
        out[i] = (float)exp_of((double)(x[i] - most));
    sum = sum_of(out, n);
    log_sum = log(sum);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)(x[i] - most) - log_sum);
}
