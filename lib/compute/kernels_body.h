/*
 * kernels_body.h - the kernels of kernels.h over vectors of LANE floats; see kernels_avx2.c
 *
 * Loops over elements are left to the compiler; what must stay in registers uses its vector type.
 * A row's result does not depend on how many rows are computed beside it. Whoever includes this
 * defines sum_lanes() and the macros in capitals.
 */
#include "compute/kernels.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(LANE * sizeof(float)), aligned(4), may_alias));
typedef int32_t integers
    __attribute__((vector_size(LANE * sizeof(int32_t)), aligned(4), may_alias));

INLINE vector load(const float *x)
{
    return *(const vector *)x;
}

INLINE vector larger(vector a, vector b)
{
    integers which = a > b;

    return (vector)(((integers)a & which) | ((integers)b & ~which));
}

static void add(float *restrict x, const float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static void leaky_relu(float *x, float slope, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? x[i] * slope : x[i];
}

/*
 * e^x = 2^n e^r with |r| <= ln 2 / 2. Below -87.3, where floats lose digits, 0; above 88.3 as there.
 * Adding 1.5 * 2^23 rounds to an integer. Largest relative error 1.2e-7.
 */
INLINE float exp_near(float x)
{
    const float rounder = 12582912.0f;
    float within = x < -87.3f ? -87.3f : x, n, r, q, power;
    uint32_t bits;

    within = within > 88.3f ? 88.3f : within;
    n = (within * 1.44269504088896341f + rounder) - rounder;
    r = (within - n * 0.693145751953125f) - n * 1.428606820309417e-6f;
    q = 1.39505212e-3f;
    q = q * r + 8.36890849e-3f;
    q = q * r + 4.16662053e-2f;
    q = q * r + 1.66665187e-1f;
    q = q * r + 5.00000010e-1f;
    q = (q * (r * r) + r) + 1.0f;
    bits = ((uint32_t)(int32_t)n + 127u) << 23; /* unsigned: NaN may wrap, and stays NaN */
    memcpy(&power, &bits, sizeof(power));
    return x < -87.3f ? 0.0f : q * power;
}

/* Odd polynomial below 0.63, by the exponential above. */
INLINE float tanh_near(float x)
{
    float s = x * x, a = fabsf(x), inner = -5.66077750e-3f, outer;

    inner = inner * s + 2.06019962e-2f;
    inner = inner * s - 5.37292260e-2f;
    inner = inner * s + 1.33313289e-1f;
    inner = inner * s - 3.33332783e-1f;
    inner = inner * s * x + x;
    outer = copysignf(1.0f - 2.0f / (exp_near(2.0f * a) + 1.0f), x);
    return a < 0.63f ? inner : outer;
}

INLINE float sigmoid_near(float x)
{
    return 1.0f / (1.0f + exp_near(-x));
}

/*
 * The normal distribution at x: with a = |x| / sqrt 2, 1/2 + erf / 2 by a polynomial below 0.92, and
 * above it erfc(a) / 2 or 1 less that, where a polynomial fits ln erfc(a).
 */
INLINE float normal_near(float x)
{
    float z = x * 0.70710678118654752f, a = fabsf(z), s = z * z, erf, ln, tail;

    erf = 8.39728711e-5f;
    erf = erf * s - 8.14968736e-4f;
    erf = erf * s + 5.20170579e-3f;
    erf = erf * s - 2.68596982e-2f;
    erf = erf * s + 1.12837015e-1f;
    erf = erf * s - 3.76126342e-1f;
    erf = erf * s + 1.12837917f;
    a = a > 10.0f ? 10.0f : a;
    ln = -2.11619227e-5f;
    ln = ln * a + 4.35219065e-4f;
    ln = ln * a - 4.17464484e-3f;
    ln = ln * a + 2.51286265e-2f;
    ln = ln * a - 1.08293950e-1f;
    ln = ln * a - 6.33334650e-1f;
    ln = ln * a - 1.12952082f;
    ln = ln * a + 1.75874805e-4f;
    tail = 0.5f * exp_near(ln);
    tail = z < 0 ? tail : 1.0f - tail;
    return a < 0.92f ? 0.5f + 0.5f * (erf * z) : tail;
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * normal_near(x[i]);
}

static void sigmoid(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = sigmoid_near(x[i]);
}

static void tanh_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanh_near(x[i]);
}

static float max(const float *x, size_t n)
{
    vector most[4];
    float best = -INFINITY, lanes[LANE];
    size_t i = 0;

    for (size_t v = 0; v < 4; v++)
        most[v] = (vector){0} + best;
    for (; i + 4 * LANE <= n; i += 4 * LANE)
        for (size_t v = 0; v < 4; v++)
            most[v] = larger(load(x + i + v * LANE), most[v]);
    *(vector *)lanes = larger(larger(most[0], most[1]), larger(most[2], most[3]));
    for (size_t lane = 0; lane < LANE; lane++)
        best = lanes[lane] > best ? lanes[lane] : best;
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

/* Short runs in lanes, the runs in double: as exact as adding all in double, near enough. */
static float sum(const float *x, size_t n)
{
    double total = 0;
    size_t i = 0;

    while (i + 4 * LANE <= n) {
        vector part[4] = {0};

        for (size_t run = 0; run < 16 && i + 4 * LANE <= n; run++, i += 4 * LANE)
            for (size_t v = 0; v < 4; v++)
                part[v] += load(x + i + v * LANE);
        total += sum_lanes((part[0] + part[1]) + (part[2] + part[3]));
    }
    for (; i < n; i++)
        total += x[i];
    return (float)total;
}

static float exp_minus(float *x, size_t n, float most)
{
    for (size_t i = 0; i < n; i++)
        x[i] = exp_near(x[i] - most);
    return sum(x, n);
}

static float sum_exp(const float *x, size_t n, float most)
{
    double total = 0;
    float part[512];

    for (size_t at = 0; at < n; at += 512) {
        size_t m = n - at < 512 ? n - at : 512;

        for (size_t i = 0; i < m; i++)
            part[i] = exp_near(x[at + i] - most);
        total += sum(part, m);
    }
    return (float)total;
}

static float sum_squares(const float *x, size_t n, float mean)
{
    vector part[4] = {0};
    float total = 0;
    size_t i = 0;

    for (; i + 4 * LANE <= n; i += 4 * LANE)
        for (size_t v = 0; v < 4; v++) {
            vector d = load(x + i + v * LANE) - mean;

            part[v] += d * d;
        }
    for (; i < n; i++)
        total += (x[i] - mean) * (x[i] - mean);
    return total + sum_lanes((part[0] + part[1]) + (part[2] + part[3]));
}

static void layer_norm(const float *x, size_t n, const float *scales, const float *bias,
                       float epsilon, float *y)
{
    float mean = sum(x, n) / (float)n;
    float factor = 1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + epsilon);

    if (x != y)
        memcpy(y, x, n * sizeof(*y)); /* then one array is read and written, which vectorises */
    for (size_t i = 0; i < n; i++)
        y[i] = (y[i] - mean) * factor * scales[i] + bias[i];
}

#define DOT_PARTS 2 /* sums of one product, to hide the latency of adding */

/* One row of w against `rows` of x, constant wherever this is inlined. One row of w at a time, so that
 * memory is read as one stream. */
INLINE void dot_output(const float *x, size_t ld_x, size_t rows, const float *w, size_t k,
                       float bias, float *out, size_t ld_out)
{
    vector sums[KERNELS_DOT_ROWS][DOT_PARTS];
    size_t j = 0;

#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t p = 0; p < DOT_PARTS; p++)
            sums[r][p] = (vector){0};
    for (; j + DOT_PARTS * LANE <= k; j += DOT_PARTS * LANE) {
        vector weights[DOT_PARTS];

#pragma GCC unroll 2
        for (size_t p = 0; p < DOT_PARTS; p++)
            weights[p] = load(w + j + p * LANE);
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (size_t p = 0; p < DOT_PARTS; p++)
                sums[r][p] += load(x + r * ld_x + j + p * LANE) * weights[p];
    }
    for (; j + LANE <= k; j += LANE)
#pragma GCC unroll 8
        for (size_t r = 0; r < rows; r++)
            sums[r][0] += load(x + r * ld_x + j) * load(w + j);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
        float total;

#pragma GCC unroll 2
        for (size_t p = 1; p < DOT_PARTS; p++)
            sums[r][0] += sums[r][p];
        total = sum_lanes(sums[r][0]) + bias;
        for (size_t rest = j; rest < k; rest++)
            total += x[r * ld_x + rest] * w[rest];
        out[r * ld_out] = total;
    }
}

#define DOT_ROWS(rows)                                                                             \
    case rows:                                                                                     \
        for (size_t i = 0; i < n; i++)                                                             \
            dot_output(x, ld_x, rows, w + i * ld_w, k, bias ? bias[i] : 0, out + i, ld_out);       \
        break

static void dot_rows(const float *x, size_t ld_x, size_t rows, const float *w, size_t ld_w,
                     size_t n, size_t k, const float *bias, float *out, size_t ld_out)
{
    switch (rows) {
        DOT_ROWS(1);
        DOT_ROWS(2);
        DOT_ROWS(3);
        DOT_ROWS(4);
        DOT_ROWS(5);
        DOT_ROWS(6);
        DOT_ROWS(7);
        DOT_ROWS(8);
    }
}

static void quantize(const float *restrict x, size_t n, float multiplier, int8_t *restrict q)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * multiplier;

        v = v > -127.0f ? v : -127.0f; /* NaN too */
        v = v < 127.0f ? v : 127.0f;
        q[i] = (int8_t)(int32_t)((v + 12582912.0f) - 12582912.0f);
    }
}

static void dequantize(const int32_t *restrict acc, size_t n, float factor,
                       const float *restrict bias, float *restrict out)
{
    if (!bias) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)acc[i] * factor;
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (float)acc[i] * factor + bias[i];
}

static void f16_to_f32(const void *src, size_t n, float *out)
{
    const char *halves = src;
    size_t i = 0;

    for (; i + LANE <= n; i += LANE)
        HALVES_TO_FLOATS(out + i, halves + 2 * i);
    if (i < n) {
        uint16_t rest[LANE] = {0};
        float floats[LANE];

        memcpy(rest, halves + 2 * i, 2 * (n - i));
        HALVES_TO_FLOATS(floats, rest);
        memcpy(out + i, floats, sizeof(float) * (n - i));
    }
}

static void bf16_to_f32(const void *src, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        uint32_t bits;

        memcpy(&half, (const char *)src + 2 * i, 2);
        bits = (uint32_t)half << 16;
        memcpy(out + i, &bits, 4);
    }
}

/*
 * 8-bit products without VNNI: pairs of both sides are widened to 16 bits, where a multiply-add of
 * pairs is exact. A panel is LANE outputs, for each pair of inputs LANE times 2 weights.
 */
#define S8_ROWS 4
#define S8_PANELS 2
#define S8_CHUNK 1024 /* inputs that are widened at a time */

INLINE void s8_tile(const int16_t *q, size_t rows, const int8_t *w, size_t ld_panel, size_t panels,
                    size_t pairs, bool first, int32_t *acc)
{
    s8_sums sums[S8_ROWS][S8_PANELS];

#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++)
            sums[r][p] = first ? S8_ZERO() : S8_LOAD(acc + (r * S8_PANELS + p) * LANE);
    for (size_t j = 0; j < pairs; j++) {
        s8_sums weights[S8_PANELS];

#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++)
            weights[p] = S8_WIDEN(w + p * ld_panel + j * LANE * 2);
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            int32_t pair;

            memcpy(&pair, q + r * S8_CHUNK + 2 * j, sizeof(pair));
#pragma GCC unroll 2
            for (size_t p = 0; p < panels; p++)
                sums[r][p] = S8_MADD(sums[r][p], weights[p], pair);
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++)
            S8_STORE(acc + (r * S8_PANELS + p) * LANE, sums[r][p]);
}

/* All inputs of `rows` rows against up to S8_PANELS panels; n: outputs that count. */
static void s8_block(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t n,
                     int32_t *out, size_t ld_out)
{
    int16_t wide[S8_ROWS * S8_CHUNK];
    int32_t acc[S8_ROWS * S8_PANELS * LANE];
    size_t padded = (k + 1) / 2 * 2, ld_panel = padded * LANE;

    for (size_t at = 0; at == 0 || at < padded; at += S8_CHUNK) {
        size_t m = k - at < S8_CHUNK ? k - at : S8_CHUNK, pairs = (m + 1) / 2;

        for (size_t r = 0; r < rows; r++) {
            for (size_t j = 0; j < m; j++)
                wide[r * S8_CHUNK + j] = q[r * k + at + j];
            if (m % 2)
                wide[r * S8_CHUNK + m] = 0;
        }
        if (rows == S8_ROWS && n > LANE)
            s8_tile(wide, S8_ROWS, w + at * LANE, ld_panel, S8_PANELS, pairs, at == 0, acc);
        else
            for (size_t r = 0; r < rows; r++)
                for (size_t p = 0; p * LANE < n; p++)
                    s8_tile(wide + r * S8_CHUNK, 1, w + p * ld_panel + at * LANE, ld_panel, 1,
                            pairs, at == 0, acc + (r * S8_PANELS + p) * LANE);
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(out + r * ld_out, acc + r * S8_PANELS * LANE, n * sizeof(*out));
}

static void gemm_s8(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t n, int32_t *out,
                    size_t ld_out)
{
    size_t ld_panel = (k + 1) / 2 * 2 * LANE, step = S8_PANELS * LANE;

    for (size_t i = 0; i < n; i += step)
        for (size_t r = 0; r < rows; r += S8_ROWS)
            s8_block(q + r * k, rows - r < S8_ROWS ? rows - r : S8_ROWS, k, w + i / LANE * ld_panel,
                     n - i < step ? n - i : step, out + r * ld_out + i, ld_out);
}

#define KERNELS_OF_BODY                                                                            \
    .add = add, .scale = scale, .leaky_relu = leaky_relu, .gelu = gelu, .sigmoid = sigmoid,        \
    .tanh = tanh_all, .max = max, .exp_minus = exp_minus, .sum_exp = sum_exp,                      \
    .layer_norm = layer_norm, .dot_rows = dot_rows, .quantize = quantize,                          \
    .dequantize = dequantize, .f16_to_f32 = f16_to_f32, .bf16_to_f32 = bf16_to_f32
