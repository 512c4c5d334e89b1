#include "compute/ops.h"
#include "tests/compute/paths.h"
#include "tests/support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int8_t *random_bytes(size_t n, unsigned seed)
{
    float *x = random_floats(n, 128, seed);
    int8_t *bytes = malloc(n);

    for (size_t i = 0; i < n; i++)
        bytes[i] = (int8_t)fmaxf(x[i], -127);
    free(x);
    return bytes;
}

static void check(struct compute *compute, size_t rows, size_t n, size_t k, int extreme)
{
    int8_t *q = random_bytes(rows * k, 1), *w = random_bytes(n * k, 2);
    int32_t *acc = malloc((rows * n + 1) * sizeof(*acc));
    struct compute_weights_s8 *packed = NULL;

    for (size_t i = 0; extreme && i < rows * k; i++)
        q[i] = (int8_t)(extreme > 0 ? 127 : -127);
    for (size_t i = 0; extreme && i < n * k; i++)
        w[i] = i % 2 ? 127 : -127;
    acc[rows * n] = 4711;
    assert_int_equal(compute_pack_s8(compute, w, n, k, &packed), 0);
    compute_gemm_s8(compute, q, rows, packed, acc);
    for (size_t i = 0; i < rows * n; i++) {
        int32_t want = 0;

        for (size_t j = 0; j < k; j++)
            want += q[i / n * k + j] * w[i % n * k + j];
        if (acc[i] != want)
            fail_msg("%zu x %zu x %zu: [%zu] got %d, want %d", rows, n, k, i, acc[i], want);
    }
    assert_int_equal(acc[rows * n], 4711);
    compute_weights_s8_destroy(&packed);
    assert_null(packed);
    free(q);
    free(w);
    free(acc);
}

static void products(struct compute *compute)
{
    static const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 26}, n[] = {1, 7, 16, 40, 64, 131};
    static const size_t k[] = {1, 2, 3, 5, 32, 255, 256};

    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
        for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
            for (size_t j = 0; j < sizeof(k) / sizeof(k[0]); j++)
                check(compute, rows[r], n[i], k[j], 0);
    check(compute, 5, 70, 1536, 0);
    check(compute, 5, 70, 1536, 1);
    check(compute, 5, 70, 1025, -1);
    check(compute, 9, 6000, 256, 0); /* split between threads */
}

static void product_is_exact(void **state)
{
    (void)state;
    for_each_path(products);
}

static void quantize(struct compute *compute)
{
    static const float x[] = {0,    0.5f,    1.5f,   2.5f,  -0.5f, -1.5f, 126.5f,    127.5f,
                              1000, -1000,   -127.5, 0.49f, 3.51f, 1e30f, -INFINITY, INFINITY,
                              NAN,  -126.5f, 64,     5.0f,  6.0f,  7.0f,  8.0f};
    static const int8_t want[] = {0, 0,   2,    2,   0,    -2,   126, 127, 127, -127, -127, 0,
                                  4, 127, -127, 127, -127, -126, 64,  5,   6,   7,    8};
    enum { N = sizeof(want) };
    int8_t q[N], halves[N];
    float twice[N];

    (void)compute;
    compute_quantize(x, N, 1, q);
    for (size_t i = 0; i < N; i++) {
        twice[i] = 2 * x[i];
        if (q[i] != want[i])
            fail_msg("[%zu] %g became %d, not %d", i, (double)x[i], q[i], want[i]);
    }
    compute_quantize(twice, N, 0.5f, halves);
    assert_memory_equal(q, halves, N);
}

static void quantizing_rounds_half_to_even_and_saturates(void **state)
{
    (void)state;
    for_each_path(quantize);
}

static void dequantize(struct compute *compute)
{
    enum { ROWS = 3, N = 37 };
    int32_t acc[ROWS * N];
    float bias[N], got[ROWS * N], want[ROWS * N];

    (void)compute;
    for (int i = 0; i < ROWS * N; i++)
        acc[i] = (i - 50) * 1001;
    for (int i = 0; i < N; i++)
        bias[i] = (float)i;
    for (size_t i = 0; i < ROWS * N; i++)
        want[i] = (float)acc[i] * 0.01f;
    compute_dequantize(acc, ROWS, N, 0.01f, NULL, got);
    assert_near(got, want, ROWS * N, 1e-4f);
    for (size_t i = 0; i < ROWS * N; i++)
        want[i] += bias[i % N];
    compute_dequantize(acc, ROWS, N, 0.01f, bias, got);
    assert_near(got, want, ROWS * N, 1e-4f);
}

static void dequantizing_scales_and_adds_the_bias(void **state)
{
    (void)state;
    for_each_path(dequantize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_is_exact),
        cmocka_unit_test(quantizing_rounds_half_to_even_and_saturates),
        cmocka_unit_test(dequantizing_scales_and_adds_the_bias),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
