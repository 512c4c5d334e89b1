/*
 * exact_body.h - the functions of exact.h over vectors of FLOATS floats, 4, 8 or 16
 *
 * Compiled with -ffp-contract=off. What is done to each element alone has one result whatever the
 * vectors' width; sums have a number of lanes that does not depend on it.
 */
#include "translate/marian/exact.h"

#if FLOATS > 4
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define DOUBLES (FLOATS / 2)
#define SUMS (8 / DOUBLES)         /* vectors that make the eight lanes */
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to an integer, in the low bits */

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

/* a b + c, rounded once. */
INLINE floats fused(floats a, floats b, floats c)
{
#if FLOATS == 16
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif FLOATS == 8
    return (floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    for (size_t i = 0; i < FLOATS; i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

INLINE doubles choose(bits which, doubles yes, doubles no)
{
    return (doubles)(((bits)yes & which) | ((bits)no & ~which));
}

/*
 * e^x for x <= 0, relative error under 1e-12, which a float hardly sees; 0 below -700. x = n ln 2 + r
 * with |r| <= ln 2 / 2, by adding ROUNDER; e^r by its series.
 */
INLINE doubles exponential(doubles x)
{
    static const double series[] = {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                                    1.0 / 24,     1.0 / 6,     0.5,        1.0,       1.0};
    bits tiny = x < -700.0, power;
    doubles within = choose(tiny, (doubles){0} - 700.0, x);
    doubles shifted = within * 1.4426950408889634 + ROUNDER, n = shifted - ROUNDER;
    doubles r = (within - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    doubles sum = (doubles){0} + 1.0 / 3628800;

#pragma GCC unroll 10
    for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++)
        sum = sum * r + series[i];
    power = ((bits)shifted + 1023) << 52; /* the low bits of shifted are n */
    return choose(tiny, (doubles){0}, sum * (doubles)power);
}

static void dequantize(const int32_t *acc, size_t rows, size_t n, float divisor, const float *bias,
                       bool relu, float *out)
{
    for (size_t row = 0; row < rows; row++, acc += n, out += n) {
        size_t i = 0;

        for (; i + FLOATS <= n; i += FLOATS) {
            floats value = __builtin_convertvector(*(const integers *)(acc + i), floats) / divisor;

            if (bias)
                value += load(bias + i);
            if (relu)
                value = (floats)((integers)value & (value > 0.0f));
            store(out + i, value);
        }
        for (; i < n; i++) {
            float value = (float)acc[i] / divisor;

            if (bias)
                value += bias[i];
            out[i] = relu && !(value > 0) ? 0 : value;
        }
    }
}

static void quantize(const double *x, size_t n, float multiplier, int8_t *q)
{
    size_t i = 0;

    for (; i + DOUBLES <= n; i += DOUBLES) {
        doubles value = *(const doubles *)(x + i) * (double)multiplier;
        bits rounded;

        value = choose(value > 127.0, (doubles){0} + 127.0, value);
        value = choose(value < -127.0, (doubles){0} - 127.0, value);
        rounded = (bits)(value + ROUNDER);
        for (size_t j = 0; j < DOUBLES; j++)
            q[i + j] = (int8_t)rounded[j];
    }
    for (; i < n; i++) {
        double value = x[i] * (double)multiplier;

        q[i] = (int8_t)rint(value > 127 ? 127 : value < -127 ? -127 : value);
    }
}

INLINE float tree(const float *r)
{
    return ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
}

/* Of (x - mean)^2, or of x itself: at most 128 of them in eight lanes, what is left one by one. */
INLINE float sum_block(const float *x, size_t n, float mean, bool square)
{
    float lanes[8] = {0}, sum;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++) {
            float distance = x[i + j] - mean;

            lanes[j] += square ? distance * distance : x[i + j];
        }
    for (sum = n < 8 ? 0 : tree(lanes); i < n; i++)
        sum += square ? (x[i] - mean) * (x[i] - mean) : x[i];
    return sum;
}

/* Pairwise summation as numpy has it: halves, of whole lanes, until a block is small enough. */
static float sum_pairwise(const float *x, size_t n, float mean, bool square)
{
    size_t half = n / 2 / 8 * 8;

    if (n <= 128)
        return square ? sum_block(x, n, mean, true) : sum_block(x, n, 0, false);
    return sum_pairwise(x, half, mean, square) + sum_pairwise(x + half, n - half, mean, square);
}

static void add_norm(float *x, const float *y, const float *shift, size_t rows, size_t n,
                     const float *scale, const float *bias, float epsilon)
{
    for (size_t row = 0; row < rows; row++, x += n, y += n) {
        float mean, divisor;
        size_t i = 0;

        for (; i + FLOATS <= n; i += FLOATS)
            store(x + i, load(x + i) + load(y + i));
        for (; i < n; i++)
            x[i] += y[i];
        for (i = 0; shift && i < n; i++)
            x[i] += shift[i];
        mean = sum_pairwise(x, n, 0, false) / (float)n;
        divisor = sqrtf(sum_pairwise(x, n, mean, true) / (float)n + epsilon);
        for (i = 0; i + FLOATS <= n; i += FLOATS)
            store(x + i, (load(x + i) - mean) / divisor * load(scale + i) + load(bias + i));
        for (; i < n; i++)
            x[i] = (x[i] - mean) / divisor * scale[i] + bias[i];
    }
}

/* DOUBLES cells. */
INLINE void cells(const float *forget, const float *x, float *c, float *y)
{
    doubles gate = widen(forget), small = exponential(choose(gate < 0.0, gate, -gate));
    half_floats f, cell;
    float e[DOUBLES];

    narrow(choose(gate < 0.0, 1.0 / small, small), e);
    f = 1.0f / (1.0f + *(half_floats *)e);
    cell = f * *(const half_floats *)c + (1.0f - f) * *(const half_floats *)x;
    *(half_floats *)c = cell;
    for (size_t i = 0; i < DOUBLES; i++)
        y[i] = cell[i] > 0 ? cell[i] : 0;
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

INLINE double sum_lanes(const doubles sums[SUMS])
{
    double sum = 0;

    for (size_t i = 0; i < SUMS; i++)
        for (size_t j = 0; j < DOUBLES; j++)
            sum += sums[i][j];
    return sum;
}

/* x (n) = its softmax in place, of which the first t count; n is whole lanes. */
INLINE void softmax(double *x, size_t t, size_t n)
{
    doubles sums[SUMS] = {{0}};
    double most = x[0], factor;

    for (size_t i = 1; i < t; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t i = t; i < n; i++)
        x[i] = -INFINITY;
    for (size_t i = 0; i < n; i += 8)
        for (size_t part = 0; part < SUMS; part++) {
            doubles *at = (doubles *)(x + i + part * DOUBLES);

            *at = exponential(*at - most);
            sums[part] += *at;
        }
    factor = 1 / sum_lanes(sums);
    for (size_t i = 0; i < n; i += DOUBLES)
        *(doubles *)(x + i) *= factor;
}

/*
 * Up to EXACT_QUERIES of them side by side, so that a processor has several sums to go on with: queries
 * of one head, which share its keys and values (both strides 0), or heads of one query.
 */
struct side_by_side {
    size_t n, lanes;
    const float *q, *k, *v;        /* of the first */
    size_t next_q, next_k, next_v; /* from one to the next */
    size_t t, ld_k, ld_v, d;
    double *scores; /* (n, ld_k) */
    double *out;    /* as q */
};

/* Dimensions lane, lane + lanes, ... of FLOATS scores. */
INLINE floats lane_of(const struct side_by_side *s, size_t i, size_t key, size_t lane, size_t lanes)
{
    const float *q = s->q + i * s->next_q, *k = s->k + i * s->next_k + key;
    floats sum = {0};

    for (size_t j = lane; j < s->d; j += lanes)
        sum = fused(q[j] - (floats){0}, load(k + j * s->ld_k), sum);
    return sum;
}

INLINE floats four_lanes(const struct side_by_side *s, size_t i, size_t key, size_t lane)
{
    return (lane_of(s, i, key, lane, 16) + lane_of(s, i, key, lane + 1, 16)) +
           (lane_of(s, i, key, lane + 2, 16) + lane_of(s, i, key, lane + 3, 16));
}

INLINE floats two_lanes(const struct side_by_side *s, size_t i, size_t key, size_t lane)
{
    return lane_of(s, i, key, lane, 8) + lane_of(s, i, key, lane + 4, 8);
}

INLINE floats score(const struct side_by_side *s, size_t i, size_t key)
{
    if (s->lanes == 16)
        return (four_lanes(s, i, key, 0) + four_lanes(s, i, key, 4)) +
               (four_lanes(s, i, key, 8) + four_lanes(s, i, key, 12));
    if (s->lanes == 8)
        return (two_lanes(s, i, key, 0) + two_lanes(s, i, key, 1)) +
               (two_lanes(s, i, key, 2) + two_lanes(s, i, key, 3));
    return lane_of(s, i, key, 0, 1);
}

/* The scores of one query. */
INLINE void score_row(const struct side_by_side *s, size_t i, double divisor)
{
    double *out = s->scores + i * s->ld_k;

    for (size_t key = 0; key < s->ld_k; key += FLOATS) {
        float row[FLOATS];

        store(row, score(s, i, key));
        *(doubles *)(out + key) = widen(row) / divisor;
        *(doubles *)(out + key + DOUBLES) = widen(row + DOUBLES) / divisor;
    }
}

/* 8 columns of the values. */
INLINE void mix_block(const struct side_by_side *s, size_t n, size_t column)
{
    doubles sums[EXACT_QUERIES][SUMS] = {{{0}}};

    for (size_t key = 0; key < s->t; key++)
        for (size_t i = 0; i < n; i++)
            for (size_t part = 0; part < SUMS; part++)
                sums[i][part] +=
                    s->scores[i * s->ld_k + key] *
                    widen(s->v + i * s->next_v + key * s->ld_v + column + part * DOUBLES);
    for (size_t i = 0; i < n; i++)
        for (size_t part = 0; part < SUMS; part++)
            *(doubles *)(s->out + i * s->next_q + column + part * DOUBLES) = sums[i][part];
}

INLINE void mix_column(const struct side_by_side *s, size_t n, size_t column)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t key = 0; key < s->t; key++)
            sum +=
                s->scores[i * s->ld_k + key] * (double)s->v[i * s->next_v + key * s->ld_v + column];
        s->out[i * s->next_q + column] = sum;
    }
}

/* n is s->n, but constant wherever this is inlined. */
INLINE void attend(const struct side_by_side *s, size_t n)
{
    size_t column = 0;

    for (size_t i = 0; i < n; i++) {
        score_row(s, i, sqrt((double)s->d));
        softmax(s->scores + i * s->ld_k, s->t, s->ld_k);
    }
    for (; column + 8 <= s->d; column += 8)
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
                      size_t heads, size_t d, double *scores, double *out)
{
    struct side_by_side s = {
        .t = t_k, .ld_k = exact_padded(t_k), .ld_v = heads * d, .d = d, .scores = scores};
    bool one = t_q == 1; /* then heads stand side by side */
    size_t n = one ? heads : t_q, rounds = one ? 1 : heads;

    s.lanes = one ? 8 : t_q * t_k <= EXACT_SMALL ? 16 : 1;
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

static void log_softmax(const float *x, size_t n, float *out)
{
    float most = largest(x, n);
    double log_sum = log(exponentials(x, n, most, out));

    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)(x[i] - most) - log_sum);
}

#define EXACT_TABLE                                                                                \
    {                                                                                              \
        .dequantize = dequantize, .quantize = quantize, .add_norm = add_norm, .unit = unit,        \
        .attention = attention, .log_softmax = log_softmax                                         \
    }
