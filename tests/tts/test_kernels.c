/* Every set of kernels that this processor runs against arithmetic in double precision. */
#include "tests/support/golden.h"
#include "tts/vits/conv.h"
#include "tts/vits/kernels.h"
#include "tts/vits/plane.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct compute *compute;
static const struct vits_kernels *sets[3];
static size_t n_sets;

static int find_sets(void **state)
{
    (void)state;
    assert_int_equal(compute_create(1, &compute), 0);
    for (int isa = COMPUTE_PORTABLE; isa <= COMPUTE_AVX512; isa++)
        if (isa <= (int)compute_isa(compute))
            sets[n_sets++] = vits_kernels_pick((enum compute_isa)isa);
    print_message("kernels: %s is the best of %zu\n", sets[n_sets - 1]->name, n_sets);
    return 0;
}

static int forget_sets(void **state)
{
    (void)state;
    compute_destroy(&compute);
    return 0;
}

/* Numbers in [-1, 1) that look like noise. */
static float noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed / 2147483648.0f;
}

static void fill(float *out, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        out[i] = noise(&seed);
}

struct shape {
    size_t c_in, c_out, taps, dilation, n;
};

static void check_conv(const struct vits_kernels *kernels, const struct shape *s)
{
    struct vits_conv conv;
    struct vits_plane x, out;
    float *w = calloc(s->c_out * s->c_in * s->taps, sizeof(*w));
    float *bias = calloc(s->c_out, sizeof(*bias));
    size_t reach = (s->taps - 1) * s->dilation;
    struct vits_epilogue to = {0};

    fill(w, s->c_out * s->c_in * s->taps, 1);
    fill(bias, s->c_out, 2);
    assert_int_equal(
        vits_conv_pack(kernels, s->c_out, s->c_in, s->taps, s->dilation, w, bias, &conv), 0);
    assert_int_equal(vits_plane_init(&x, s->c_in, s->n + reach, 0), 0);
    assert_int_equal(vits_plane_init(&out, s->c_out, s->n, 0), 0);
    fill(x.data, x.c * x.ld, 3);
    to.out = out.data;
    to.out_ld = out.ld;
    vits_conv_run(compute, &conv, x.data, x.ld, s->n, &to);
    for (size_t o = 0; o < s->c_out; o++) {
        for (size_t t = 0; t < s->n; t++) {
            double sum = (double)bias[o];
            float want;

            for (size_t i = 0; i < s->c_in; i++)
                for (size_t k = 0; k < s->taps; k++)
                    sum += (double)w[(o * s->c_in + i) * s->taps + k] *
                           (double)vits_plane_row(&x, i)[t + k * s->dilation];
            want = (float)sum;
            assert_near(&vits_plane_row(&out, o)[t], &want, 1, 2e-5f);
        }
        /* Nothing is written past the last column. */
        for (size_t t = s->n; t < out.ld; t++)
            assert_true(vits_plane_row(&out, o)[t] == 0.0f);
    }
    vits_plane_fini(&x);
    vits_plane_fini(&out);
    vits_conv_fini(&conv);
    free(w);
    free(bias);
}

static void convolutions(void **state)
{
    static const struct shape shapes[] = {{1, 1, 1, 1, 1},    {5, 9, 3, 1, 47},  {16, 8, 7, 12, 96},
                                          {3, 29, 1, 1, 100}, {32, 1, 7, 1, 50}, {7, 17, 5, 6, 33}};

    (void)state;
    for (size_t i = 0; i < n_sets; i++)
        for (size_t j = 0; j < sizeof(shapes) / sizeof(*shapes); j++)
            check_conv(sets[i], &shapes[j]);
}

/* What becomes of one sum, in every combination that is allowed. */
static void finishing(void **state)
{
    enum { N = 37 };
    float sums[N], add[N], out[3 * N], activated[3 * N], start[3 * N];

    (void)state;
    fill(sums, N, 1);
    fill(add, N, 2);
    fill(start, 3 * N, 3);
    for (size_t i = 0; i < n_sets * 2 * 16; i++) {
        size_t step = i / 16 % 2 ? 3 : 1;
        bool adds = i & 1, accumulates = i & 2, stores = i & 4, activates = i & 8;
        struct vits_finish f = {.sums = sums,
                                .add = adds ? add : NULL,
                                .bias = 0.25f,
                                .accumulate = accumulates,
                                .out = stores ? out : NULL,
                                .activated = activates ? activated : NULL,
                                .slope = 0.1f,
                                .step = step};

        if ((accumulates && (activates || !stores)) || (!stores && !activates))
            continue;
        memcpy(out, start, sizeof(out));
        memcpy(activated, start, sizeof(activated));
        sets[i / 32]->finish(&f, N);
        for (size_t t = 0; t < N; t++) {
            float want =
                sums[t] + 0.25f + (adds ? add[t] : 0) + (accumulates ? start[t * step] : 0);
            float active = want > 0 ? want : want * 0.1f;

            if (stores)
                assert_near(&out[t * step], &want, 1, 1e-6f);
            if (activates)
                assert_near(&activated[t * step], &active, 1, 1e-6f);
        }
        for (size_t t = 0; t < 3 * N; t++) /* what lies between stays */
            if (t % step || t / step >= N)
                assert_true(out[t] == start[t] && activated[t] == start[t]);
    }
}

static void functions(void **state)
{
    enum { N = 401 };
    float x[N], got[N], want[N];

    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = (float)(i - 200) / 16.0f;
    x[0] = -1000.0f;
    x[N - 1] = 1000.0f;
    for (size_t s = 0; s < n_sets; s++) {
        memcpy(got, x, sizeof(got));
        sets[s]->tanh(got, N);
        for (int i = 0; i < N; i++)
            want[i] = (float)tanh((double)x[i]);
        assert_near(got, want, N, 5e-7f);

        memcpy(got, x, sizeof(got));
        sets[s]->gelu(got, N);
        for (int i = 0; i < N; i++)
            want[i] = (float)((double)x[i] / 2 * (1 + erf((double)x[i] / sqrt(2))));
        assert_near(got, want, N, 2e-6f);

        sets[s]->gate(x, x, N, got);
        for (int i = 0; i < N; i++)
            want[i] = (float)(tanh((double)x[i]) / (1 + exp(-(double)x[i])));
        assert_near(got, want, N, 5e-7f);

        sets[s]->leaky(x, 0.5f, 0.1f, N, got);
        for (int i = 0; i < N; i++)
            want[i] = x[i] > 0 ? x[i] / 2 : x[i] / 20;
        assert_near(got, want, N, 1e-5f);
    }
}

static void normalisations(void **state)
{
    enum { C = 19, N = 131, LD = 140 };
    float x[C * LD], start[C * LD], scale[C], bias[C];

    (void)state;
    fill(start, C * LD, 1);
    fill(scale, C, 2);
    fill(bias, C, 3);
    for (size_t s = 0; s < n_sets; s++) {
        memcpy(x, start, sizeof(x));
        sets[s]->layer_norm(x, LD, C, N, scale, bias);
        for (int t = 0; t < N; t++) {
            double mean = 0, square = 0;

            for (int c = 0; c < C; c++)
                mean += (double)start[c * LD + t] / C;
            for (int c = 0; c < C; c++)
                square += pow((double)start[c * LD + t] - mean, 2) / C;
            for (int c = 0; c < C; c++) {
                float want = (float)(((double)start[c * LD + t] - mean) / sqrt(square + 1e-5) *
                                         (double)scale[c] +
                                     (double)bias[c]);

                assert_near(&x[c * LD + t], &want, 1, 5e-6f);
            }
        }
        memcpy(x, start, sizeof(x));
        sets[s]->softmax(x, C, LD);
        for (int r = 0; r < C; r++) {
            double sum = 0;

            for (int t = 0; t < LD; t++)
                sum += exp((double)start[r * LD + t]);
            for (int t = 0; t < LD; t++) {
                float want = (float)(exp((double)start[r * LD + t]) / sum);

                assert_near(&x[r * LD + t], &want, 1, 1e-7f);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(finishing),
        cmocka_unit_test(functions),
        cmocka_unit_test(normalisations),
    };

    return cmocka_run_group_tests(tests, find_sets, forget_sets);
}
