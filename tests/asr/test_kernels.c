/* Every instruction set's kernels against sums made one by one in double precision. */
#include "asr/whisper/kernels.h"
#include "tests/support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define K 144
#define N 37
#define HEADS 3
#define D 48
#define CACHE 20
#define LENGTH 13
#define COLUMNS 75

static uint32_t seed = 1;

static float next(void)
{
    seed = seed * 1664525 + 1013904223;
    return (float)(int32_t)seed / 2147483648.0F;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = next();
}

/* A half-precision number that is exact: a multiple of 1/64 below 16. */
static uint16_t half_of(int sixty_fourths)
{
    uint32_t bits;
    float value = (float)sixty_fourths / 64;

    memcpy(&bits, &value, sizeof(bits));
    if (sixty_fourths == 0)
        return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | (((bits >> 23 & 0xFF) - 112) << 10) |
                      (bits >> 13 & 0x3FF));
}

static size_t n_isas(void)
{
    struct compute *compute = NULL;
    size_t n;

    assert_int_equal(compute_create(1, &compute), 0);
    n = (size_t)compute_isa(compute) + 1;
    compute_destroy(&compute);
    return n;
}

static void linear_f16_is_exact_enough(void **state)
{
    static char bytes[1 + 2 * N * K]; /* weights start at an odd address, as in the files */
    static float x[KERNELS_MAX_ROWS * K], w[N * K], bias[N];
    float got[KERNELS_MAX_ROWS * N], want[KERNELS_MAX_ROWS * N];

    (void)state;
    for (size_t i = 0; i < N * K; i++) {
        int value = (int)(next() * 1000);
        uint16_t half = half_of(value);

        w[i] = (float)value / 64;
        memcpy(bytes + 1 + 2 * i, &half, 2);
    }
    fill(x, KERNELS_MAX_ROWS * K);
    fill(bias, N);
    for (size_t isa = 0; isa < n_isas(); isa++)
        for (size_t rows = 1; rows <= KERNELS_MAX_ROWS; rows++) {
            const struct whisper_kernels *kernels = whisper_kernels_for((enum compute_isa)isa);
            size_t middle = 11; /* two threads' halves */

            for (size_t r = 0; r < rows; r++)
                for (size_t i = 0; i < N; i++) {
                    double sum = (double)bias[i];

                    for (size_t k = 0; k < K; k++)
                        sum += (double)x[r * K + k] * (double)w[i * K + k];
                    want[r * N + i] = (float)sum;
                }
            memset(got, 0, sizeof(got));
            kernels->linear_f16(x, rows, bytes + 1, bias, 0, middle, N, K, got);
            kernels->linear_f16(x, rows, bytes + 1, bias, middle, N, N, K, got);
            assert_near(got, want, rows * N, 2e-3F);
        }
}

static void few_rows_multiply(void **state)
{
    static float a[KERNELS_MAX_ROWS * K], b[K * COLUMNS], got[KERNELS_MAX_ROWS * COLUMNS],
        want[KERNELS_MAX_ROWS * COLUMNS];

    (void)state;
    fill(a, KERNELS_MAX_ROWS * K);
    fill(b, K * COLUMNS);
    for (size_t isa = 0; isa < n_isas(); isa++)
        for (size_t rows = 1; rows <= KERNELS_MAX_ROWS; rows++) {
            for (size_t r = 0; r < rows; r++)
                for (size_t j = 0; j < COLUMNS; j++) {
                    double sum = 0;

                    for (size_t k = 0; k < K; k++)
                        sum += (double)a[r * K + k] * (double)b[k * COLUMNS + j];
                    want[r * COLUMNS + j] = (float)sum;
                }
            whisper_kernels_for((enum compute_isa)isa)
                ->few_rows(a, K, rows, b, COLUMNS, K, COLUMNS, got, COLUMNS);
            assert_near(got, want, rows * COLUMNS, 1e-4F);
        }
}

static void cache_rows_are_picked(void **state)
{
    static float q[HEADS * D], cache[CACHE * HEADS * D];
    float got[HEADS * D], want[HEADS * D], scores[HEADS * LENGTH], want_scores[HEADS * LENGTH];
    uint32_t rows[LENGTH];

    (void)state;
    fill(q, HEADS * D);
    fill(cache, CACHE * HEADS * D);
    for (size_t t = 0; t < LENGTH; t++)
        rows[t] = (uint32_t)(t * 7 % CACHE);
    for (size_t h = 0; h < HEADS; h++)
        for (size_t t = 0; t < LENGTH; t++) {
            double sum = 0;

            for (size_t i = 0; i < D; i++)
                sum += (double)q[h * D + i] * (double)cache[rows[t] * HEADS * D + h * D + i];
            want_scores[h * LENGTH + t] = (float)sum;
        }
    for (size_t i = 0; i < HEADS * D; i++) {
        double sum = 0;

        for (size_t t = 0; t < LENGTH; t++)
            sum += (double)want_scores[i / D * LENGTH + t] * (double)cache[rows[t] * HEADS * D + i];
        want[i] = (float)sum;
    }
    for (size_t isa = 0; isa < n_isas(); isa++) {
        const struct whisper_kernels *kernels = whisper_kernels_for((enum compute_isa)isa);

        kernels->pick_dot(q, cache, rows, LENGTH, HEADS, D, scores);
        assert_near(scores, want_scores, HEADS * LENGTH, 1e-5F);
        kernels->pick_sum(want_scores, cache, rows, LENGTH, HEADS, D, got);
        assert_near(got, want, HEADS * D, 1e-4F);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_f16_is_exact_enough),
        cmocka_unit_test(few_rows_multiply),
        cmocka_unit_test(cache_rows_are_picked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
