#include "compute/kernels.h"

#include <math.h>
#include <string.h>

static void add(float *x, const float *y, size_t n)
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

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * (float)M_SQRT1_2));
}

static void sigmoid(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 1.0f / (1.0f + expf(-x[i]));
}

static void tanh_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanhf(x[i]);
}

static float max(const float *x, size_t n)
{
    float most = -INFINITY;

    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static float exp_minus(float *x, size_t n, float most)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - most);
        sum += x[i];
    }
    return (float)sum;
}

static float sum_exp(const float *x, size_t n, float most)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += expf(x[i] - most);
    return (float)sum;
}

static void layer_norm(const float *x, size_t n, const float *scales, const float *bias,
                       float epsilon, float *y)
{
    double sum = 0, squares = 0;
    float mean, factor;

    for (size_t i = 0; i < n; i++)
        sum += x[i];
    mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n; i++)
        squares += (double)(x[i] - mean) * (x[i] - mean);
    factor = 1.0f / sqrtf((float)(squares / (double)n) + epsilon);
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * factor * scales[i] + bias[i];
}

static void dot_rows(const float *x, size_t ld_x, size_t rows, const float *w, size_t ld_w,
                     size_t n, size_t k, const float *bias, float *out, size_t ld_out)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t row = 0; row < rows; row++) {
            float parts[8] = {0}, sum = bias ? bias[i] : 0;
            size_t j = 0;

            for (; j + 8 <= k; j += 8)
                for (size_t p = 0; p < 8; p++)
                    parts[p] += x[row * ld_x + j + p] * w[i * ld_w + j + p];
            for (; j < k; j++)
                sum += x[row * ld_x + j] * w[i * ld_w + j];
            for (size_t p = 0; p < 8; p++)
                sum += parts[p];
            out[row * ld_out + i] = sum;
        }
    }
}

static void gemm_s8(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t n, int32_t *out,
                    size_t ld_out)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < n; i++) {
            int32_t sum = 0;

            for (size_t j = 0; j < k; j++)
                sum += q[row * k + j] * w[i * k + j];
            out[row * ld_out + i] = sum;
        }
}

static void quantize(const float *x, size_t n, float multiplier, int8_t *q)
{
    for (size_t i = 0; i < n; i++) {
        float v = nearbyintf(x[i] * multiplier);

        v = v > 127 ? 127 : v;
        q[i] = (int8_t)(v > -127 ? v : -127); /* NaN too */
    }
}

static void dequantize(const int32_t *acc, size_t n, float factor, const float *bias, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)acc[i] * factor + (bias ? bias[i] : 0);
}

static float bits_to_float(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31;
    uint32_t fraction = half & 0x3ff;

    if (exponent == 31)
        return bits_to_float(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) /* zero, or so small that f16 drops the leading 1: units of 2^-24 */
        return bits_to_float(sign | 0x3f800000) * (float)fraction * 0x1p-24f;
    return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static void f16_to_f32(const void *src, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;

        memcpy(&half, (const char *)src + 2 * i, 2);
        out[i] = half_to_float(half);
    }
}

static void bf16_to_f32(const void *src, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;

        memcpy(&half, (const char *)src + 2 * i, 2);
        out[i] = bits_to_float((uint32_t)half << 16);
    }
}

const struct kernels kernels_portable = {
    .isa = COMPUTE_PORTABLE,
    .add = add,
    .scale = scale,
    .leaky_relu = leaky_relu,
    .gelu = gelu,
    .sigmoid = sigmoid,
    .tanh = tanh_all,
    .max = max,
    .exp_minus = exp_minus,
    .sum_exp = sum_exp,
    .layer_norm = layer_norm,
    .dot_rows = dot_rows,
    .s8_panel = 1,
    .s8_group = 1,
    .gemm_s8 = gemm_s8,
    .quantize = quantize,
    .dequantize = dequantize,
    .f16_to_f32 = f16_to_f32,
    .bf16_to_f32 = bf16_to_f32,
};
