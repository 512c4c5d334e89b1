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

/* op(A) (m, k), op(B) (k, n), added up in double */
static void multiply(bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
                     const float *a, size_t lda, const float *b, size_t ldb, float beta, float *out,
                     size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;

            for (size_t p = 0; p < k; p++)
                sum += (double)(trans_a ? a[p * lda + i] : a[i * lda + p]) *
                       (trans_b ? b[j * ldb + p] : b[p * ldb + j]);
            out[i * ldc + j] = (float)(alpha * sum + beta * out[i * ldc + j]);
        }
}

static void check_gemm(struct compute *compute, size_t m, size_t n, size_t k)
{
    size_t ld = (m > n ? m : n) + k + 3, floats = ld * ld;
    float *a = random_floats(floats, 1, 1), *b = random_floats(floats, 1, 2);
    float *want = random_floats(floats, 1, 3), *got = random_floats(floats, 1, 3);

    for (int trans = 0; trans < 4; trans++) {
        multiply(trans & 1, trans & 2, m, n, k, 0.5f, a, ld, b, ld, 0.25f, want, ld);
        compute_gemm(compute, trans & 1, trans & 2, m, n, k, 0.5f, a, ld, b, ld, 0.25f, got, ld);
        assert_near(got, want, floats, 1e-4f); /* and nothing beside it was touched */
    }
    free(a);
    free(b);
    free(want);
    free(got);
}

static void products(struct compute *compute)
{
    check_gemm(compute, 1, 1, 1);
    check_gemm(compute, 7, 33, 65);
    check_gemm(compute, 150, 70, 250); /* large enough to be split, by rows and then by columns */
    check_gemm(compute, 70, 250, 150);
}

static void product_matches_a_sum_in_double(void **state)
{
    (void)state;
    for_each_path(products);
}

static void check_linear(struct compute *compute, size_t rows, size_t n, size_t k)
{
    float *x = random_floats(rows * k, 1, 4), *w = random_floats(n * k, 1, 5);
    float *bias = random_floats(n, 1, 6);
    float *want = random_floats(rows * n, 0, 7), *got = random_floats(rows * n, 1, 8);

    multiply(false, true, rows, n, k, 1, x, k, w, k, 0, want, n);
    compute_linear(compute, x, rows, w, NULL, n, k, got);
    assert_near(got, want, rows * n, 1e-4f);
    for (size_t i = 0; i < rows * n; i++)
        want[i] += bias[i % n];
    compute_linear(compute, x, rows, w, bias, n, k, got);
    assert_near(got, want, rows * n, 1e-4f);
    free(x);
    free(w);
    free(bias);
    free(want);
    free(got);
}

static void linears(struct compute *compute)
{
    static const size_t sizes[] = {1, 3, 16, 37, 130};

    for (size_t rows = 1; rows <= 10; rows++)
        for (size_t n = 0; n < 5; n++)
            for (size_t k = 0; k < 5; k++)
                check_linear(compute, rows, sizes[n], sizes[k]);
    check_linear(compute, 5, 3000, 130); /* split between threads */
}

static void linear_matches_a_sum_in_double(void **state)
{
    (void)state;
    for_each_path(linears);
}

static void rows_alone(struct compute *compute)
{
    enum { ROWS = 8, N = 50, K = 75 };
    float *x = random_floats(ROWS * K, 1, 9), *w = random_floats(N * K, 1, 10);
    float together[ROWS * N], alone[N];

    for (size_t rows = 1; rows <= ROWS; rows++) {
        compute_linear(compute, x, rows, w, NULL, N, K, together);
        for (size_t row = 0; row < rows; row++) {
            compute_linear(compute, x + row * K, 1, w, NULL, N, K, alone);
            assert_memory_equal(together + row * N, alone, sizeof(alone));
        }
    }
    free(x);
    free(w);
}

static void few_rows_give_what_each_gives_alone(void **state)
{
    (void)state;
    for_each_path(rows_alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_matches_a_sum_in_double),
        cmocka_unit_test(linear_matches_a_sum_in_double),
        cmocka_unit_test(few_rows_give_what_each_gives_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
