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

static void convolve(const struct compute_conv1d *conv, const float *x, size_t t_in, float *out)
{
    size_t c_in = conv->c_in / conv->groups, c_out = conv->c_out / conv->groups;
    size_t t_out = compute_conv1d_length(conv, t_in);

    for (size_t o = 0; o < conv->c_out; o++)
        for (size_t t = 0; t < t_out; t++) {
            double sum = conv->bias ? conv->bias[o] : 0;

            for (size_t i = 0; i < c_in; i++)
                for (size_t k = 0; k < conv->kernel; k++) {
                    ptrdiff_t at = (ptrdiff_t)(t * conv->stride + k * conv->dilation) -
                                   (ptrdiff_t)conv->pad_left;

                    if (at >= 0 && at < (ptrdiff_t)t_in)
                        sum += (double)conv->w[(o * c_in + i) * conv->kernel + k] *
                               x[(o / c_out * c_in + i) * t_in + (size_t)at];
                }
            out[o * t_out + t] = (float)sum;
        }
}

static void check(struct compute *compute, struct compute_conv1d conv, size_t t_in)
{
    size_t weights = conv.c_out * conv.c_in / conv.groups * conv.kernel;
    size_t n = conv.c_out * compute_conv1d_length(&conv, t_in);
    float *w = random_floats(weights, 1, 1), *bias = random_floats(conv.c_out, 1, 2);
    float *x = random_floats(conv.c_in * t_in, 1, 3);
    float *want = random_floats(n, 1, 4), *got = random_floats(n, 1, 5);

    conv.w = w;
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        conv.bias = with_bias ? bias : NULL;
        convolve(&conv, x, t_in, want);
        assert_int_equal(compute_conv1d(compute, &conv, x, t_in, got), 0);
        assert_near(got, want, n, 2e-5f);
    }
    free(w);
    free(bias);
    free(x);
    free(want);
    free(got);
}

static void convolutions(struct compute *compute)
{
    /* c_in, c_out, kernel, stride, dilation, pad_left, pad_right, groups */
    check(compute, (struct compute_conv1d){1, 1, 1, 1, 1, 0, 0, 1, NULL, NULL}, 1);
    check(compute, (struct compute_conv1d){8, 12, 3, 1, 1, 1, 1, 1, NULL, NULL}, 3);
    check(compute, (struct compute_conv1d){8, 12, 3, 1, 1, 1, 1, 1, NULL, NULL}, 600);
    check(compute, (struct compute_conv1d){8, 12, 3, 2, 1, 1, 1, 1, NULL, NULL}, 1025);
    check(compute, (struct compute_conv1d){5, 7, 7, 1, 5, 15, 15, 1, NULL, NULL}, 300);
    check(compute, (struct compute_conv1d){5, 7, 7, 3, 2, 0, 11, 1, NULL, NULL}, 100);
    check(compute, (struct compute_conv1d){5, 7, 4, 1, 1, 20, 0, 1, NULL, NULL}, 6);
    check(compute, (struct compute_conv1d){12, 6, 5, 1, 3, 6, 6, 3, NULL, NULL}, 300);
    check(compute, (struct compute_conv1d){9, 9, 3, 1, 9, 9, 9, 9, NULL, NULL}, 40);
}

static void convolution_matches_its_definition(void **state)
{
    (void)state;
    for_each_path(convolutions);
}

static void too_short_an_input_gives_no_output(void **state)
{
    struct compute_conv1d conv = {1, 1, 5, 1, 2, 1, 1, 1, NULL, NULL};

    (void)state;
    assert_int_equal(compute_conv1d_length(&conv, 6), 0);
    assert_int_equal(compute_conv1d_length(&conv, 7), 1);
    assert_int_equal(compute_conv1d_length(&conv, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_matches_its_definition),
        cmocka_unit_test(too_short_an_input_gives_no_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
