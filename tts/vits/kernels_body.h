/*
 * kernels_body.h - the kernels of kernels.h over vectors of LANE floats; see kernels_*.c
 *
 * No intrinsics: the compiler's vector type for the convolution, whose sums must stay in registers, and
 * loops that it vectorises for the rest. Every output is one sum in one order (bias last), whatever the
 * tile it falls into, so that audio does not depend on how it was cut into chunks.
 */
#include "tts/vits/kernels.h"

#include <stdint.h>
#include <string.h>

/* The next loop's iterations do not depend on one another, though its pointers may be equal. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

typedef float vector __attribute__((vector_size(LANE * sizeof(float)), aligned(4), may_alias));

/* One tile, `vectors` wide: constant wherever it is inlined, so that `sum` lives in registers. */
static inline __attribute__((always_inline)) void conv_tile(const float *x, size_t ld, size_t c_in,
                                                            size_t taps, size_t dilation,
                                                            const float *w, size_t vectors,
                                                            float *out)
{
    vector sum[BLOCK][VECTORS];

#pragma GCC unroll 8
    for (size_t i = 0; i < BLOCK; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; v++)
            sum[i][v] = (vector){0};

    for (size_t c = 0; c < c_in; c++, x += ld) {
        const float *run = x;

        for (size_t k = 0; k < taps; k++, run += dilation, w += BLOCK) {
            vector in[VECTORS];

#pragma GCC unroll 3
            for (size_t v = 0; v < vectors; v++)
                in[v] = *(const vector *)(run + v * LANE);
#pragma GCC unroll 8
            for (size_t i = 0; i < BLOCK; i++)
#pragma GCC unroll 3
                for (size_t v = 0; v < vectors; v++)
                    sum[i][v] += in[v] * w[i];
        }
    }

#pragma GCC unroll 8
    for (size_t i = 0; i < BLOCK; i++)
#pragma GCC unroll 3
        for (size_t v = 0; v < vectors; v++)
            *(vector *)(out + i * VITS_TILE_MAX + v * LANE) = sum[i][v];
}

static void conv(const float *x, size_t ld, size_t c_in, size_t taps, size_t dilation,
                 const float *w, size_t n, float *out)
{
    size_t vectors = (n + LANE - 1) / LANE;

    if (vectors == 3)
        conv_tile(x, ld, c_in, taps, dilation, w, 3, out);
    else if (vectors == 2)
        conv_tile(x, ld, c_in, taps, dilation, w, 2, out);
    else
        conv_tile(x, ld, c_in, taps, dilation, w, 1, out);
}

/* Constant flags wherever it is inlined. Rows may be the same row, but never overlap otherwise. */
static inline __attribute__((always_inline)) void finish_as(const struct vits_finish *f, size_t n,
                                                            bool add, bool accumulate, bool out,
                                                            bool activated)
{
    const float *sums = f->sums, *added = f->add;
    const float bias = f->bias, slope = f->slope;
    float *to = f->out, *to_activated = f->activated;

    INDEPENDENT
    for (size_t t = 0; t < n; t++) {
        float v = sums[t] + bias;

        if (add)
            v += added[t];
        if (accumulate)
            v += to[t];
        if (out)
            to[t] = v;
        if (activated)
            to_activated[t] = v > 0.0f ? v : v * slope;
    }
}

static void finish_apart(const struct vits_finish *f, size_t n)
{
    const float *sums = f->sums;
    const float bias = f->bias, slope = f->slope;
    const size_t step = f->step;
    float *out = f->out, *activated = f->activated, done[VITS_TILE_MAX];

    for (size_t t = 0; t < n; t++)
        done[t] = sums[t] + bias;
    for (size_t t = 0; f->add && t < n; t++)
        done[t] += f->add[t];
    for (size_t t = 0; f->accumulate && t < n; t++)
        done[t] += out[t * step];
    for (size_t t = 0; out && t < n; t++)
        out[t * step] = done[t];
    for (size_t t = 0; activated && t < n; t++)
        activated[t * step] = done[t] > 0.0f ? done[t] : done[t] * slope;
}

static void finish(const struct vits_finish *f, size_t n)
{
    if (f->step != 1)
        finish_apart(f, n);
    else if (f->activated && f->out)
        f->add ? finish_as(f, n, true, false, true, true)
               : finish_as(f, n, false, false, true, true);
    else if (f->activated)
        f->add ? finish_as(f, n, true, false, false, true)
               : finish_as(f, n, false, false, false, true);
    else if (f->accumulate)
        f->add ? finish_as(f, n, true, true, true, false)
               : finish_as(f, n, false, true, true, false);
    else
        f->add ? finish_as(f, n, true, false, true, false)
               : finish_as(f, n, false, false, true, false);
}

/* exp to a relative 2e-7 (Cephes' polynomial on [-ln 2 / 2, ln 2 / 2]); the argument is clamped to
 * where the result is a normal float. Adding 1.5 * 2^23 rounds to an integer in any rounding unit. */
static inline float exp_near(float x)
{
    const float round = 12582912.0f;
    float n, r, p, power;
    int32_t bits;

    x = x > -87.0f ? x : -87.0f; /* also for NaN */
    x = x < 88.0f ? x : 88.0f;
    n = x * 1.44269504088896341f + round;
    n = n - round;
    r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    bits = ((int32_t)n + 127) << 23;
    memcpy(&power, &bits, sizeof(power));
    return p * power;
}

/* Relative to 1, not to the result: small arguments lose digits that no use here needs. */
static inline float tanh_near(float x)
{
    float e = exp_near(2.0f * x);

    return 1.0f - 2.0f / (e + 1.0f);
}

static void gate(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = tanh_near(a[i]) / (1.0f + exp_near(-b[i]));
}

static void leaky(const float *x, float scale, float slope, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * scale;

        y[i] = v > 0.0f ? v : v * slope;
    }
}

static void tanh_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanh_near(x[i]);
}

/* Cephes' polynomial below 1; above it Abramowitz and Stegun 7.1.26, absolute error 1.5e-7. */
static inline float erf_near(float x)
{
    float a = x < 0.0f ? -x : x, s = x * x, t = 1.0f / (1.0f + 0.3275911f * a);
    float inner = 7.853861353153693e-5f, outer = 1.061405429f;

    inner = inner * s - 8.010193625184903e-4f;
    inner = inner * s + 5.188327685732524e-3f;
    inner = inner * s - 2.685381193529856e-2f;
    inner = inner * s + 1.128358514861418e-1f;
    inner = inner * s - 3.761262582423300e-1f;
    inner = inner * s + 1.128379165726710f;
    inner = inner * x;
    outer = outer * t - 1.453152027f;
    outer = outer * t + 1.421413741f;
    outer = outer * t - 0.284496736f;
    outer = outer * t + 0.254829592f;
    outer = 1.0f - outer * t * exp_near(-s);
    outer = x < 0.0f ? -outer : outer;
    return a < 1.0f ? inner : outer;
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * (1.0f + erf_near(x[i] * 0.70710678118654752f)) * 0.5f;
}

/* A strip of columns at a time: the sums of a strip stay in the first-level cache. */
static void layer_norm(float *x, size_t ld, size_t c, size_t n, const float *scale,
                       const float *bias)
{
    enum { STRIP = 64 };
    float mean[STRIP], factor[STRIP];

    for (size_t begin = 0; begin < n; begin += STRIP) {
        size_t m = n - begin < STRIP ? n - begin : STRIP;

        memset(mean, 0, sizeof(mean));
        memset(factor, 0, sizeof(factor));
        for (size_t i = 0; i < c; i++)
            for (size_t t = 0; t < m; t++)
                mean[t] += x[i * ld + begin + t];
        for (size_t t = 0; t < m; t++)
            mean[t] /= (float)c;
        for (size_t i = 0; i < c; i++)
            for (size_t t = 0; t < m; t++) {
                float d = x[i * ld + begin + t] - mean[t];

                factor[t] += d * d;
            }
        for (size_t t = 0; t < m; t++)
            factor[t] = 1.0f / __builtin_sqrtf(factor[t] / (float)c + 1e-5f);
        for (size_t i = 0; i < c; i++)
            for (size_t t = 0; t < m; t++) {
                float *at = &x[i * ld + begin + t];

                *at = (*at - mean[t]) * factor[t] * scale[i] + bias[i];
            }
    }
}

static void softmax(float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++, x += n) {
        float most = x[0], sum = 0.0f;

        for (size_t i = 1; i < n; i++)
            most = x[i] > most ? x[i] : most;
        for (size_t i = 0; i < n; i++)
            x[i] = exp_near(x[i] - most);
        for (size_t i = 0; i < n; i++)
            sum += x[i];
        sum = 1.0f / sum;
        for (size_t i = 0; i < n; i++)
            x[i] *= sum;
    }
}

const struct vits_kernels KERNELS = {
    .name = KERNELS_NAME,
    .block = BLOCK,
    .tile = LANE * VECTORS,
    .lane = LANE,
    .conv = conv,
    .finish = finish,
    .gate = gate,
    .leaky = leaky,
    .tanh = tanh_all,
    .gelu = gelu,
    .layer_norm = layer_norm,
    .softmax = softmax,
};
