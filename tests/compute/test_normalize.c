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

static void softmax_in_double(const float *x, size_t n, float *out)
{
    double sum = 0, max = -INFINITY;

    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(exp(x[i] - max) / sum);
}

static const size_t sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 200, 1500, 51864};

static void softmaxes(struct compute *compute)
{
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t n = sizes[s], rows = n > 2000 ? 1 : 40;
        float *x = random_floats(rows * n, 20, 1), *want = random_floats(rows * n, 0, 1);
        float *logs = random_floats(n, 0, 1);

        if (n > 2)
            x[1] = -INFINITY; /* masked */
        for (size_t row = 0; row < rows; row++)
            softmax_in_double(x + row * n, n, want + row * n);
        compute_log_softmax(x, n, logs);
        compute_softmax(compute, x, rows, n);
        assert_near(x, want, rows * n, 3e-7f);
        for (size_t i = 0; i < n; i++)
            if (want[i] > 1e-30f && fabsf(logs[i] - logf(want[i])) > 4e-6f)
                fail_msg("log softmax of %zu: [%zu] got %g, want %g", n, i, (double)logs[i],
                         log((double)want[i]));
        if (n > 2) {
            assert_true(x[1] == 0);
            assert_true(logs[1] == -INFINITY);
        }
        free(x);
        free(want);
        free(logs);
    }
}

static void softmax_matches_double(void **state)
{
    (void)state;
    for_each_path(softmaxes);
}

static void maxima(struct compute *compute)
{
    (void)compute;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t n = sizes[s];
        float *x = random_floats(n, 1, 2);

        for (size_t at = 0; at < n; at += n / 50 + 1) {
            x[at] += 10;
            assert_int_equal(compute_argmax(x, n), at);
            x[n - 1] = x[at]; /* of equals the first */
            assert_int_equal(compute_argmax(x, n), at);
            x[at] -= 10;
            x[n - 1] = 0;
        }
        free(x);
    }
}

static void argmax_is_the_first_of_the_largest(void **state)
{
    (void)state;
    for_each_path(maxima);
}

static void norm_in_double(const float *x, size_t n, const float *scale, const float *bias,
                           float *out)
{
    double mean = 0, squares = 0;

    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((x[i] - mean) / sqrt(squares + 1e-5) * scale[i] + bias[i]);
}

static void norms(struct compute *compute)
{
    for (size_t s = 1; s < sizeof(sizes) / sizeof(sizes[0]) - 1; s++) {
        size_t n = sizes[s], rows = 50;
        float *x = random_floats(rows * n, 3, 3), *want = random_floats(rows * n, 0, 1);
        float *scale = random_floats(n, 1, 4), *bias = random_floats(n, 1, 5);
        float *got = random_floats(rows * n, 0, 1);

        for (size_t i = 0; i < rows * n; i++)
            x[i] += 5;
        for (size_t row = 0; row < rows; row++)
            norm_in_double(x + row * n, n, scale, bias, want + row * n);
        compute_layer_norm(compute, x, rows, n, scale, bias, 1e-5f, got);
        assert_near(got, want, rows * n, 1e-5f * (n < 20 ? 20 : 1));
        compute_layer_norm(compute, x, rows, n, scale, bias, 1e-5f, x);
        assert_memory_equal(x, got, rows * n * sizeof(float)); /* in place */
        free(x);
        free(want);
        free(scale);
        free(bias);
        free(got);
    }
}

static void layer_norm_matches_double(void **state)
{
    (void)state;
    for_each_path(norms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_matches_double),
        cmocka_unit_test(argmax_is_the_first_of_the_largest),
        cmocka_unit_test(layer_norm_matches_double),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
