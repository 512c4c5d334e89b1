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
 * e^x for x <= 0, relative error under 1e-12, which a float hardly sees; 0 below -700. x = n ln 2 + r
 * with |r| <= ln 2 / 2, by adding 1.5 * 2^52, which rounds to an integer; e^r by its series.
 */
INLINE doubles exponential(doubles x)
{
    static const double series[] = {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                                    1.0 / 24,     1.0 / 6,     0.5,        1.0,       1.0};
    const double rounder = 6755399441055744.0;
    bits tiny = x < -700.0, power;
    doubles within = choose(tiny, (doubles){0} - 700.0, x);
    doubles shifted = within * 1.4426950408889634 + rounder, n = shifted - rounder;
    doubles r = (within - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    doubles sum = (doubles){0} + 1.0 / 3628800;

#pragma GCC unroll 10
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

/* n is whole lanes; -INFINITY becomes 0. */
INLINE void softmax(float *x, size_t n)
{
    double factor = 1 / exponentials(x, n, largest(x, n), x);

    for (size_t i = 0; i < n; i += DOUBLES)
        narrow(widen(x + i) * factor, x + i);
}

/*
 * Up to EXACT_QUERIES of them side by side, so that a processor has several sums to go on with: queries
 * of one head, which share its keys and values (both strides 0), or heads of one query.
 */
struct side_by_side {
    size_t n;
    const float *q, *k, *v;        /* of the first */
    size_t next_q, next_k, next_v; /* from one to the next */
    size_t t, ld_k, ld_v, d;
    float *scores; /* (n, ld_k) */
    float *out;    /* as q */
};

INLINE void score_block(const struct side_by_side *s, size_t n, size_t key, float scale)
{
    floats sums[EXACT_QUERIES] = {{0}};

    for (size_t j = 0; j < s->d; j++)
        for (size_t i = 0; i < n; i++)
            sums[i] += s->q[i * s->next_q + j] * load(s->k + i * s->next_k + j * s->ld_k + key);
    for (size_t i = 0; i < n; i++)
        store(s->scores + i * s->ld_k + key, sums[i] * scale);
}

/* 16 columns of the values. */
INLINE void mix_block(const struct side_by_side *s, size_t n, size_t column)
{
    floats sums[EXACT_QUERIES][16 / FLOATS] = {{{0}}};

    for (size_t key = 0; key < s->t; key++)
        for (size_t i = 0; i < n; i++)
            for (size_t part = 0; part < 16 / FLOATS; part++)
                sums[i][part] +=
                    s->scores[i * s->ld_k + key] *
                    load(s->v + i * s->next_v + key * s->ld_v + column + part * FLOATS);
    for (size_t i = 0; i < n; i++)
        for (size_t part = 0; part < 16 / FLOATS; part++)
            store(s->out + i * s->next_q + column + part * FLOATS, sums[i][part]);
}

INLINE void mix_column(const struct side_by_side *s, size_t n, size_t column)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0;

        for (size_t key = 0; key < s->t; key++)
            sum += s->scores[i * s->ld_k + key] * s->v[i * s->next_v + key * s->ld_v + column];
        s->out[i * s->next_q + column] = sum;
    }
}

/* n is s->n, but constant wherever this is inlined. */
INLINE void attend(const struct side_by_side *s, size_t n)
{
    float scale = 1.0f / sqrtf((float)s->d);
    size_t column = 0;

    for (size_t key = 0; key < s->ld_k; key += FLOATS)
        score_block(s, n, key, scale);
    for (size_t i = 0; i < n; i++) {
        for (size_t rest = s->t; rest < s->ld_k; rest++)
            s->scores[i * s->ld_k + rest] = -INFINITY;
        softmax(s->scores + i * s->ld_k, s->ld_k);
    }
    for (; column + 16 <= s->d; column += 16)
        mix_block(s, n, column);
    for (; column < s->d; column++)
        mix_column(s, n, column);
}

static void attend_some(const struct side_by_side *s)
{
    if (s->n == EXACT_QUERIES)
        attend(s, EXACT_QUERIES);
    else
        attend(s, s->n);
}

static void attention(const float *q, size_t t_q, const float *k, const float *v, size_t t_k,
                      size_t heads, size_t d, float *scores, float *out)
{
    struct side_by_side s = {
        .t = t_k, .ld_k = exact_padded(t_k), .ld_v = heads * d, .d = d, .scores = scores};
    bool one = t_q == 1; /* then heads stand side by side */
    size_t n = one ? heads : t_q, rounds = one ? 1 : heads;

    s.next_q = one ? d : heads * d;
    s.next_k = one ? d * s.ld_k : 0;
    s.next_v = one ? d : 0;
    for (size_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < n; i += EXACT_QUERIES) {
            s.n = n - i < EXACT_QUERIES ? n - i : EXACT_QUERIES;
            s.q = q + round * d + i * s.next_q;
            s.k = k + round * d * s.ld_k + i * s.next_k;
            s.v = v + round * d + i * s.next_v;
            s.out = out + round * d + i * s.next_q;
            attend_some(&s);
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
