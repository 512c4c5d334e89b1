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

/* In single precision. */
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

            assert_close((double)c[i], f * (double)before[i] + (1 - f) * (double)x[i], 1e-6);
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
        exact_portable.add_norm(x, y, NULL, 3, n, scale, bias, 1e-6f);
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
            float *v = malloc(sizeof(float) * t * ld);
            double *out = malloc(sizeof(double) * t_q * ld);
            double *scores = malloc(sizeof(double) * EXACT_QUERIES * exact_padded(t));
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
                    assert_close(out[i * ld + at], mixed / sum, 1e-5);
                }
            free(q);
            free(k);
            free(v);
            free(out);
            free(scores);
            free(turned);
        }
}

/* A score as exact.h says it, dimension after dimension into its lane. */
static float score_in_lanes(const float *q, const float *k, size_t d, size_t lanes)
{
    float sums[16] = {0};

    for (size_t j = 0; j < d; j++)
        sums[j % lanes] = fmaf(q[j], k[j], sums[j % lanes]);
    if (lanes == 8)
        for (size_t i = 0; i < 4; i++)
            sums[i] = sums[i] + sums[i + 4];
    for (size_t n = lanes == 8 ? 4 : lanes; n > 1; n /= 2)
        for (size_t i = 0; i < n / 2; i++)
            sums[i] = sums[2 * i] + sums[2 * i + 1];
    return sums[0];
}

/* One head, so near to the stated order that another order of a score's products would show. */
static void scores_add_up_in_the_stated_order(void **state)
{
    static const size_t shapes[][3] = {{1, 40, 8}, {30, 40, 16}, {31, 40, 1}}; /* t_q, t_k, lanes */
    const size_t d = 32;
    unsigned seed = 5;

    (void)state;
    for (size_t shape = 0; shape < 3; shape++) {
        size_t t_q = shapes[shape][0], t = shapes[shape][1];
        float q[31 * 32], k[40 * 32], v[40 * 32], turned[48 * 32];
        double out[31 * 32], scores[EXACT_QUERIES * 48];

        for (size_t i = 0; i < 40 * d; i++) {
            q[i % (31 * 32)] = random_value(&seed, 3);
            k[i] = random_value(&seed, 3);
            v[i] = random_value(&seed, 1);
        }
        exact_transpose(k, t, d, turned);
        exact_portable.attention(q, t_q, turned, v, t, 1, d, scores, out);
        for (size_t i = 0; i < t_q; i++)
            for (size_t column = 0; column < d; column += 5) {
                double sum = 0, mixed = 0;

                for (size_t j = 0; j < t; j++) {
                    double e =
                        exp((double)score_in_lanes(q + i * d, k + j * d, d, shapes[shape][2]) /
                            sqrt(32));

                    sum += e;
                    mixed += e * (double)v[j * d + column];
                }
                assert_close(out[i * d + column], mixed / sum, 1e-11);
            }
    }
}

static float sum_of_lanes(const float *x, size_t n)
{
    float r[8];

    if (n > 128) /* whole lanes of eight in the first half */
        return sum_of_lanes(x, n / 2 - n / 2 % 8) +
               sum_of_lanes(x + (n / 2 - n / 2 % 8), n - (n / 2 - n / 2 % 8));
    for (size_t i = 0; i < 8; i++) {
        r[i] = 0;
        for (size_t j = i; n >= 8 && j < n / 8 * 8; j += 8)
            r[i] += x[j];
    }
    r[0] = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (size_t i = n / 8 * 8; i < n; i++)
        r[0] += x[i];
    return r[0];
}

static void norm_adds_up_in_the_stated_order(void **state)
{
    unsigned seed = 6;

    (void)state;
    for (size_t n = 1; n < 600; n += 7) {
        float x[600], y[600], shift[600], sums[600], squares[600], mean, spread;

        for (size_t i = 0; i < n; i++) {
            x[i] = random_value(&seed, 3);
            y[i] = random_value(&seed, 3);
            shift[i] = random_value(&seed, 3);
            sums[i] = (x[i] + y[i]) + shift[i];
        }
        mean = sum_of_lanes(sums, n) / (float)n;
        for (size_t i = 0; i < n; i++)
            squares[i] = (sums[i] - mean) * (sums[i] - mean);
        spread = sqrtf(sum_of_lanes(squares, n) / (float)n + 1e-6f);
        exact_portable.add_norm(x, y, shift, 1, n, shift, y, 1e-6f);
        for (size_t i = 0; i < n; i++)
            assert_true(x[i] == (sums[i] - mean) / spread * shift[i] + y[i]);
    }
}

static void quantizing_rounds_to_even_within_bounds(void **state)
{
    const double x[] = {0.25, 0.75, -0.25, 1000, -1000, 63.5, 63.4999999999, -63.75, 0.5};
    const int8_t want[] = {0, 2, 0, 127, -127, 127, 127, -127, 1};
    int8_t q[9];

    (void)state;
    exact_portable.quantize(x, 9, 2, q);
    assert_memory_equal(q, want, sizeof(want));
}

static void dequantizing_is_the_formula(void **state)
{
    const int32_t acc[5] = {16777215, -7, 7, 0, 3};
    const float bias[5] = {-1, 0.25f, 0.25f, -1, 2}, divisor = 3.7f;
    float out[5];

    (void)state;
    exact_portable.dequantize(acc, 1, 5, divisor, bias, false, out);
    for (size_t i = 0; i < 5; i++)
        assert_true(out[i] == (float)acc[i] / divisor + bias[i]);
    exact_portable.dequantize(acc, 1, 5, divisor, bias, true, out);
    for (size_t i = 0; i < 5; i++)
        assert_true(out[i] == fmaxf((float)acc[i] / divisor + bias[i], 0));
    exact_portable.dequantize(acc, 1, 5, divisor, NULL, false, out);
    for (size_t i = 0; i < 5; i++)
        assert_true(out[i] == (float)acc[i] / divisor);
}

#define MOST (40 * 3 * 64)

/* Everything that one table computes from the same random numbers. */
static void run_all(const struct exact *exact, size_t n, float *out)
{
    unsigned seed = (unsigned)n;
    size_t d = n % 37 + 3, t = n % 31 + 1, t_q = n % 7 == 3 ? 41 : n % 7 + 1, heads = 3,
           ld = heads * d;
    float *x = malloc(sizeof(float) * MOST), *y = malloc(sizeof(float) * MOST);
    float *v = malloc(sizeof(float) * MOST), *k = malloc(sizeof(float) * MOST * 4);
    double *scores = malloc(sizeof(double) * EXACT_QUERIES * exact_padded(t));
    double *mixed = malloc(sizeof(double) * t_q * ld);
    int32_t *acc = malloc(sizeof(int32_t) * MOST);

    for (size_t i = 0; i < MOST; i++) {
        x[i] = random_value(&seed, 4);
        y[i] = random_value(&seed, 4);
        v[i] = random_value(&seed, 4);
        acc[i] = rand_r(&seed) - RAND_MAX / 2;
    }
    memcpy(out, x, sizeof(float) * n);
    exact->add_norm(out, y, n % 3 ? x : NULL, 1, n, x, y, 1e-6f);
    exact->dequantize(acc, 1, n, 1e7f, x, n % 2, out + n);
    memcpy(out + 2 * n, v, sizeof(float) * n);
    exact->unit(x, y, n, out + 2 * n, out + 3 * n);
    exact->log_softmax(x, n, out + 4 * n);
    exact_transpose(y, t, ld, k);
    exact->attention(x, t_q, k, v, t, heads, d, scores, mixed);
    for (size_t i = 0; i < t_q * ld; i++)
        out[5 * n + i] = (float)mixed[i];
    exact->quantize(mixed, t_q * ld, 30, (int8_t *)(out + 5 * n + t_q * ld));
    free(mixed);
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
            size_t size = sizeof(float) * 12000;
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
        cmocka_unit_test(unit_is_the_formula),
        cmocka_unit_test(softmax_is_the_formula),
        cmocka_unit_test(norm_is_the_formula),
        cmocka_unit_test(attention_is_the_formula),
        cmocka_unit_test(scores_add_up_in_the_stated_order),
        cmocka_unit_test(norm_adds_up_in_the_stated_order),
        cmocka_unit_test(quantizing_rounds_to_even_within_bounds),
        cmocka_unit_test(dequantizing_is_the_formula),
        cmocka_unit_test(all_widths_give_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
