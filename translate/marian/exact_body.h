/*
 * exact_body.h - the functions of exact.h over vectors of FLOATS floats, 4, 8 or 16
 *
 * Compiled with -ffp-contract=off. What is done to each element alone has one result whatever the
 * vectors' width; the sums have eight lanes of doubles in all.
 */
#include "translate/marian/exact.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define DOUBLES (FLOATS / 2)
#define SUMS (8 / DOUBLES) /* vectors that make the eight lanes */

typedef float floats __attribute__((vector_size(FLOATS * 4), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(FLOATS * 4), aligned(4), may_alias));
typedef float half_floats __attribute__((vector_size(FLOATS * 2), aligned(4), may_alias));
typedef double doubles __attribute__((vector_size(FLOATS * 4), aligned(8), may_alias));
typedef int64_t bits __attribute__((vector_size(FLOATS * 4), aligned(8), may_alias));

INLINE floats load(const float *x)
{
    return *(const floats *)x;
}

INLINE void store(float *x, floats value)
{
    *(floats *)x = value;
}

/* Floats as doubles, and back. */
INLINE doubles widen(const float *x)
{
    return __builtin_convertvector(*(const half_floats *)x, doubles);
}

INLINE void narrow(doubles value, float *x)
{
    *(half_floats *)x = __builtin_convertvector(value, half_floats);
}

INLINE doubles choose(bits which, doubles yes, doubles no)
{
    return (doubles)(((bits)yes & which) | ((bits)no & ~which));
}

/*
 * e^x for x <= 0, relative error under 1e-15; 0 below -700. x = n ln 2 + r with |r| <= ln 2 / 2, by
 * adding 1.5 * 2^52, which rounds to an integer; e^r by its series.
 */
INLINE doubles exponential(doubles x)
{
    static const double series[] = {1.0 / 479001600,
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
    bits tiny = x < -700.0, power;
    doubles within = choose(tiny, (doubles){0} - 700.0, x);
    doubles shifted = within * 1.4426950408889634 + rounder, n = shifted - rounder;
    doubles r = (within - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    doubles sum = (doubles){0} + 1.0 / 6227020800;

#pragma GCC unroll 13
    for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++)
        sum = sum * r + series[i];
    power = ((bits)shifted + 1023) << 52; /* the low bits of shifted are n */
    return choose(tiny, (doubles){0}, sum * (doubles)power);
}

static void dequantize(const int32_t *acc, size_t rows, size_t n, float factor, const float *bias,
                       bool relu, float *out)
{
    for (size_t row = 0; row < rows; row++, acc += n, out += n) {
        size_t i = 0;

        for (; i + FLOATS <= n; i += FLOATS) {
            floats value = __builtin_convertvector(*(const integers *)(acc + i), floats) * factor;

            if (bias)
                value += load(bias + i);
            if (relu)
                value = (floats)((integers)value & (value > 0.0f));
            store(out + i, value);
        }
        for (; i < n; i++) {
            float value = (float)acc[i] * factor;

            if (bias)
                value += bias[i];
            out[i] = relu && !(value > 0) ? 0 : value;
        }
    }
}

INLINE double sum_lanes(const doubles sums[SUMS])
{
    double sum = 0;

    for (size_t i = 0; i < SUMS; i++)
        for (size_t j = 0; j < DOUBLES; j++)
            sum += sums[i][j];
    return sum;
}

INLINE double sum_of(const float *x, size_t n)
{
    doubles sums[SUMS] = {{0}};
    double sum;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t part = 0; part < SUMS; part++)
            sums[part] += widen(x + i + part * DOUBLES);
    for (sum = sum_lanes(sums); i < n; i++)
        sum += (double)x[i];
    return sum;
}

INLINE double sum_of_squares(const float *x, size_t n, double mean)
{
    doubles sums[SUMS] = {{0}};
    double sum;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t part = 0; part < SUMS; part++) {
            doubles distance = widen(x + i + part * DOUBLES) - mean;

            sums[part] += distance * distance;
        }
    for (sum = sum_lanes(sums); i < n; i++)
        sum += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sum;
}

static void add_norm(float *x, const float *y, size_t rows, size_t n, const float *scale,
                     const float *bias, double epsilon)
{
    for (size_t row = 0; row < rows; row++, x += n, y += n) {
        double mean, factor;
        size_t i = 0;

        for (; i + FLOATS <= n; i += FLOATS)
            store(x + i, load(x + i) + load(y + i));
        for (; i < n; i++)
            x[i] += y[i];
        mean = sum_of(x, n) / (double)n;
        factor = 1 / sqrt(sum_of_squares(x, n, mean) / (double)n + epsilon);
        for (i = 0; i + DOUBLES <= n; i += DOUBLES)
            narrow((widen(x + i) - mean) * factor * widen(scale + i) + widen(bias + i), x + i);
        for (; i < n; i++)
            x[i] = (float)(((double)x[i] - mean) * factor * (double)scale[i] + (double)bias[i]);
    }
}

/* DOUBLES cells. */
INLINE void cells(const float *forget, const float *x, float *c, float *y)
{
    doubles gate = widen(forget), e, f;
    bits negative = gate < 0.0;

    e = exponential(choose(negative, gate, -gate));
    f = choose(negative, e, (doubles){0} + 1.0) / (1.0 + e);
    narrow(f * widen(c) + (1.0 - f) * widen(x), c);
    for (size_t i = 0; i < DOUBLES; i++)
        y[i] = c[i] > 0 ? c[i] : 0;
}

static void unit(const float *forget, const float *x, size_t n, float *c, float *y)
{
    float rest[4][DOUBLES] = {{0}};
    size_t i = 0;

    for (; i + DOUBLES <= n; i += DOUBLES)
        cells(forget + i, x + i, c + i, y + i);
    if (i == n)
        return;
    memcpy(rest[0], forget + i, sizeof(float) * (n - i));
    memcpy(rest[1], x + i, sizeof(float) * (n - i));
    memcpy(rest[2], c + i, sizeof(float) * (n - i));
    cells(rest[0], rest[1], rest[2], rest[3]);
    memcpy(c + i, rest[2], sizeof(float) * (n - i));
    memcpy(y + i, rest[3], sizeof(float) * (n - i));
}

INLINE float largest(const float *x, size_t n)
{
    float most = x[0];
    floats best = (floats){0} + most;
    size_t i = 0;

    for (; i + FLOATS <= n; i += FLOATS) {
        floats next = load(x + i);
        integers more = next > best;

        best = (floats)(((integers)next & more) | ((integers)best & ~more));
    }
    for (size_t j = 0; j < FLOATS; j++)
        most = best[j] > most ? best[j] : most;
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* out = e^(x - most), the difference in f32; x may be out. @return their sum */
INLINE double exponentials(const float *x, size_t n, float most, float *out)
{
    float below[DOUBLES] = {0};
    size_t i = 0;

    for (; i + DOUBLES <= n; i += DOUBLES) {
        half_floats differences = *(const half_floats *)(x + i) - most;

        narrow(exponential(__builtin_convertvector(differences, doubles)), out + i);
    }
    if (i < n) {
        for (size_t j = 0; i + j < n; j++)
            below[j] = x[i + j] - most;
        narrow(exponential(widen(below)), below);
        memcpy(out + i, below, sizeof(float) * (n - i));
    }
    return sum_of(out, n);
}

/* One block of the queries' scores: a vector a query, so that four sums run side by side. */
INLINE void score_block(const float *q, size_t ld_q, size_t n_q, const float *k, size_t ld_k,
                        size_t d, float scale, float *scores)
{
    floats sums[EXACT_QUERIES] = {{0}};

    for (size_t j = 0; j < d; j++) {
        floats keys = load(k + j * ld_k);

        for (size_t i = 0; i < n_q; i++)
            sums[i] += q[i * ld_q + j] * keys;
    }
    for (size_t i = 0; i < n_q; i++)
        store(scores + i * ld_k, sums[i] * scale);
}

/* n is whole lanes; -INFINITY becomes 0. */
INLINE void softmax(float *x, size_t n)
{
    double sum = exponentials(x, n, largest(x, n), x);

    for (size_t i = 0; i < n; i += DOUBLES)
        narrow(widen(x + i) / sum, x + i);
}

/* 16 columns of one head's values for each query. */
INLINE void mix_block(const float *weights, size_t ld_w, size_t n_q, const float *v, size_t ld_v,
                      size_t t, float *out)
{
    floats sums[EXACT_QUERIES][16 / FLOATS] = {{{0}}};

    for (size_t i = 0; i < t; i++)
        for (size_t query = 0; query < n_q; query++)
            for (size_t part = 0; part < 16 / FLOATS; part++)
                sums[query][part] += weights[query * ld_w + i] * load(v + i * ld_v + part * FLOATS);
    for (size_t query = 0; query < n_q; query++)
        for (size_t part = 0; part < 16 / FLOATS; part++)
            store(out + query * ld_v + part * FLOATS, sums[query][part]);
}

/* n_q queries of one head; scores (n_q, exact_padded(t)) */
INLINE void head(const float *q, size_t n_q, const float *k, const float *v, size_t t, size_t ld,
                 size_t d, float *scores, float *out)
{
    float scale = 1.0f / sqrtf((float)d);
    size_t ld_k = exact_padded(t), j = 0;

    for (size_t i = 0; i < ld_k; i += FLOATS)
        score_block(q, ld, n_q, k + i, ld_k, d, scale, scores + i);
    for (size_t i = 0; i < n_q; i++) {
        for (size_t rest = t; rest < ld_k; rest++)
            scores[i * ld_k + rest] = -INFINITY;
        softmax(scores + i * ld_k, ld_k);
    }
    for (; j + 16 <= d; j += 16)
        mix_block(scores, ld_k, n_q, v + j, ld, t, out + j);
    for (; j < d; j++)
        for (size_t i = 0; i < n_q; i++) {
            float sum = 0;

            for (size_t key = 0; key < t; key++)
                sum += scores[i * ld_k + key] * v[key * ld + j];
            out[i * ld + j] = sum;
        }
}

static void attention(const float *q, size_t t_q, const float *k, const float *v, size_t t_k,
                      size_t heads, size_t d, float *scores, float *out)
{
    size_t ld = heads * d, ld_k = exact_padded(t_k);

    for (size_t h = 0; h < heads; h++, q += d, k += d * ld_k, v += d, out += d) {
        size_t i = 0;

        for (; i + EXACT_QUERIES <= t_q; i += EXACT_QUERIES)
            head(q + i * ld, EXACT_QUERIES, k, v, t_k, ld, d, scores, out + i * ld);
        for (; i < t_q; i++)
            head(q + i * ld, 1, k, v, t_k, ld, d, scores, out + i * ld);
    }
}

static void log_softmax(const float *x, size_t n, float *out)
{
    float most = largest(x, n);
    double log_sum = log(exponentials(x, n, most, out));

    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)(x[i] - most) - log_sum);
}

#define EXACT_TABLE                                                                                \
    {                                                                                              \
        .dequantize = dequantize, .add_norm = add_norm, .unit = unit, .attention = attention,      \
        .log_softmax = log_softmax                                                                 \
    }
