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

#define N 4099 /* no multiple of any vector */

/* From -30 to 30, close together around zero, and the ends. */
static void fill(float *x)
{
    for (size_t i = 0; i < N - 5; i++) {
        float at = 2.0f * (float)i / (N - 6) - 1.0f;

        x[i] = 30.0f * at * at * at;
    }
    x[N - 5] = 0;
    x[N - 4] = 1e-30f;
    x[N - 3] = -1e30f;
    x[N - 2] = 1e30f;
    x[N - 1] = -100;
}

/* |got - want| within `relative` of |want| and `absolute` */
static void assert_close(const float *got, const double *want, double relative, double absolute)
{
    for (size_t i = 0; i < N; i++)
        if (!(fabs(got[i] - want[i]) <= relative * fabs(want[i]) + absolute))
            fail_msg("[%zu] got %.9g, want %.9g", i, (double)got[i], want[i]);
}

static void check(void (*op)(float *x, size_t n), double (*function)(double x), double relative,
                  double absolute)
{
    static float x[N];
    static double want[N];

    fill(x);
    for (size_t i = 0; i < N; i++)
        want[i] = function(x[i]);
    op(x, N);
    assert_close(x, want, relative, absolute);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu(double x)
{
    return x * 0.5 * erfc(-x * M_SQRT1_2);
}

static double relu(double x)
{
    return x > 0 ? x : 0;
}

static void functions(struct compute *compute)
{
    (void)compute;
    check(compute_sigmoid, sigmoid, 3e-7, 1e-37);
    check(compute_tanh, tanh, 3e-7, 0);
    check(compute_gelu, gelu, 2e-7, 3e-7);
    check(compute_relu, relu, 0, 0);
}

static void functions_match_libm_in_double(void **state)
{
    (void)state;
    for_each_path(functions);
}

static void arithmetic(struct compute *compute)
{
    static float x[N], y[N], want[N];

    (void)compute;
    for (size_t n = 0; n < 70; n++) {
        fill(x);
        memcpy(want, x, sizeof(x));
        memcpy(y, x + 100, sizeof(float) * n);
        for (size_t i = 0; i < n; i++)
            want[i] = (want[i] + y[i]) * 3;
        compute_add(x, y, n);
        compute_scale(x, 3, n);
        assert_memory_equal(x, want, sizeof(x)); /* nothing past n was touched */
        for (size_t i = 0; i < n; i++)
            want[i] = want[i] < 0 ? want[i] * 0.1f : want[i];
        compute_leaky_relu(x, 0.1f, n);
        assert_memory_equal(x, want, sizeof(x));
    }
}

static void arithmetic_is_exact_and_stays_within_n(void **state)
{
    (void)state;
    for_each_path(arithmetic);
}

static void bias_is_added_to_each_row(void **state)
{
    float x[3 * 5] = {0}, bias[5] = {1, 2, 3, 4, 5};

    (void)state;
    compute_add_bias(x, bias, 3, 5);
    for (size_t i = 0; i < 15; i++)
        assert_true(x[i] == bias[i % 5]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_match_libm_in_double),
        cmocka_unit_test(arithmetic_is_exact_and_stays_within_n),
        cmocka_unit_test(bias_is_added_to_each_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
