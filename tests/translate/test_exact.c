#include "translate/marian/exact.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float random_value(unsigned *seed, float spread)
{
    return ((float)rand_r(seed) / (float)RAND_MAX - 0.5f) * 2 * spread;
}

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%.9g is not %.9g", got, want);
}

/* The sigmoid in the cell is the library's to the last bit of a float, or the next. */
static void unit_is_the_formula(void **state)
{
    unsigned seed = 1;
    float forget[100], x[100], c[100], y[100];

    (void)state;
    for (int round = 0; round < 200; round++) {
        float before[100];
        size_t n = (size_t)round % 100 + 1;

        for (size_t i = 0; i < n; i++) {
            forget[i] = random_value(&seed, round < 100 ? 10 : 1000);
            x[i] = random_value(&seed, 5);
            before[i] = c[i] = random_value(&seed, 5);
        }
        exact_portable.unit(forget, x, n, c, y);
        for (size_t i = 0; i < n; i++) {
            double f = 1 / (1 + exp(-(double)forget[i]));

            assert_close((double)c[i], f * (double)before[i] + (1 - f) * (double)x[i], 1e-7);
            assert_true(y[i] == (c[i] > 0 ? c[i] : 0));
        }
    }
}

static void softmax_is_the_formula(void **state)
{
    unsigned seed = 2;
    float x[777], out[777];

    (void)state;
    for (size_t n = 1; n <= 777; n += 97) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            x[i] = random_value(&seed, 30);
        for (size_t i = 0; i < n; i++)
            sum += exp((double)x[i]);
        exact_portable.log_softmax(x, n, out);
        for (size_t i = 0; i < n; i++)
            assert_close((double)out[i], (double)x[i] - log(sum), 1e-6);
    }
    x[0] = 0;
    x[1] = -2000; /* e to that is nothing */
    exact_portable.log_softmax(x, 2, out);
    assert_true(out[0] == 0 && out[1] == -2000);
}

static void norm_is_the_formula(void **state)
{
    unsigned seed = 3;
    float x[3 * 256], y[3 * 256], before[3 * 256], scale[256], bias[256];

    (void)state;
    for (size_t n = 1; n <= 256; n += n < 20 ? 1 : 59) {
        for (size_t i = 0; i < 3 * n; i++) {
            x[i] = random_value(&seed, 3);
            y[i] = random_value(&seed, 3);
            before[i] = x[i] + y[i];
        }
        for (size_t i = 0; i < n; i++) {
            scale[i] = random_value(&seed, 2);
            bias[i] = random_value(&seed, 2);
        }
        exact_portable.add_norm(x, y, 3, n, scale, bias, 1e-6);
        for (size_t row = 0; row < 3; row++) {
            double mean = 0, var = 0;

            for (size_t i = 0; i < n; i++)
                mean += (double)before[row * n + i] / (double)n;
            for (size_t i = 0; i < n; i++)
                var += pow((double)before[row * n + i] - mean, 2) / (double)n;
            for (size_t i = 0; i < n; i++)
                assert_close((double)x[row * n + i],
                             ((double)before[row * n + i] - mean) / sqrt(var + 1e-6) *
                                     (double)scale[i] +
                                 (double)bias[i],
                             1e-6);
        }
    }
}

/* Heads of 5, 16, 32 and 40 over sequences of any length. */
static void attention_is_the_formula(void **state)
{
    static const size_t widths[] = {5, 16, 32, 40};
    unsigned seed = 4;
    const size_t heads = 2;

    (void)state;
    for (size_t w = 0; w < 4; w++)
        for (size_t t = 1; t < 40; t += 7) {
            size_t d = widths[w], ld = heads * d, t_q = 6;
            float *q = malloc(sizeof(float) * t_q * ld), *k = malloc(sizeof(float) * t * ld);
            float *v = malloc(sizeof(float) * t * ld), *out = malloc(sizeof(float) * t_q * ld);
            float *scores = malloc(sizeof(float) * EXACT_QUERIES * exact_padded(t));
            float *turned = malloc(sizeof(float) * exact_padded(t) * ld);

            for (size_t i = 0; i < t_q * ld; i++)
                q[i] = random_value(&seed, 2);
            for (size_t i = 0; i < t * ld; i++) {
                k[i] = random_value(&seed, 2);
                v[i] = random_value(&seed, 2);
            }
            exact_transpose(k, t, ld, turned);
            exact_portable.attention(q, t_q, turned, v, t, heads, d, scores, out);
            for (size_t i = 0; i < t_q; i++)
                for (size_t at = 0; at < ld; at++) {
                    double sum = 0, mixed = 0;

                    for (size_t j = 0; j < t; j++) {
                        double score = 0;

                        for (size_t x = 0; x < d; x++)
                            score += (double)q[i * ld + at / d * d + x] *
                                     (double)k[j * ld + at / d * d + x];
                        score = exp(score / sqrt((double)d));
                        sum += score;
                        mixed += score * (double)v[j * ld + at];
                    }
                    assert_close((double)out[i * ld + at], mixed / sum, 1e-5);
                }
            free(q);
            free(k);
            free(v);
            free(out);
            free(scores);
            free(turned);
        }
}

/* A product and a sum, each rounded: what one fused operation would not give. */
static void nothing_is_fused(void **state)
{
    const int32_t acc[1] = {16777215};
    const float factor = 1.0f + 0x1p-23f, bias[1] = {-16777216.0f};
    volatile float product = (float)acc[0] * factor;
    float out[1];

    (void)state;
    exact_portable.dequantize(acc, 1, 1, factor, bias, false, out);
    assert_true(out[0] == product + bias[0]);
    assert_true(out[0] != fmaf((float)acc[0], factor, bias[0]));
    exact_portable.dequantize(acc, 1, 1, -factor, bias, true, out);
    assert_true(out[0] == 0);
    exact_portable.dequantize(acc, 1, 1, factor, NULL, false, out);
    assert_true(out[0] == product);
}

#define MOST (40 * 3 * 64)

/* Everything that one table computes from the same random numbers. */
static void run_all(const struct exact *exact, size_t n, float *out)
{
    unsigned seed = (unsigned)n;
    size_t d = n % 37 + 3, t = n % 29 + 1, t_q = n % 7 + 1, heads = 3, ld = heads * d;
    float *x = malloc(sizeof(float) * MOST), *y = malloc(sizeof(float) * MOST);
    float *v = malloc(sizeof(float) * MOST), *k = malloc(sizeof(float) * MOST * 4);
    float *scores = malloc(sizeof(float) * EXACT_QUERIES * exact_padded(t));
    int32_t *acc = malloc(sizeof(int32_t) * MOST);

    for (size_t i = 0; i < MOST; i++) {
        x[i] = random_value(&seed, 4);
        y[i] = random_value(&seed, 4);
        v[i] = random_value(&seed, 4);
        acc[i] = rand_r(&seed) - RAND_MAX / 2;
    }
    memcpy(out, x, sizeof(float) * n);
    exact->add_norm(out, y, 1, n, x, y, 1e-6);
    exact->dequantize(acc, 1, n, 1e-7f, x, n % 2, out + n);
    memcpy(out + 2 * n, v, sizeof(float) * n);
    exact->unit(x, y, n, out + 2 * n, out + 3 * n);
    exact->log_softmax(x, n, out + 4 * n);
    exact_transpose(y, t, ld, k);
    exact->attention(x, t_q, k, v, t, heads, d, scores, out + 5 * n);
    free(x);
    free(y);
    free(v);
    free(k);
    free(scores);
    free(acc);
}

/* Whatever the width of the vectors: the same bits. */
static void all_widths_give_the_same_bits(void **state)
{
    struct compute *compute = NULL;
    enum compute_isa best;

    (void)state;
    assert_int_equal(compute_create(1, &compute), 0);
    best = compute_isa(compute);
    compute_destroy(&compute);
    for (enum compute_isa isa = COMPUTE_PORTABLE; isa <= best; isa++)
        for (size_t n = 1; n < 200; n++) {
            size_t size = sizeof(float) * 6000;
            float *want = calloc(1, size), *got = calloc(1, size);

            run_all(&exact_portable, n, want);
            run_all(exact_for(isa), n, got);
            assert_memory_equal(got, want, size);
            free(want);
            free(got);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_is_the_formula), cmocka_unit_test(softmax_is_the_formula),
        cmocka_unit_test(norm_is_the_formula), cmocka_unit_test(attention_is_the_formula),
        cmocka_unit_test(nothing_is_fused),    cmocka_unit_test(all_widths_give_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
