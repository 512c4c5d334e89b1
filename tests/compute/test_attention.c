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

struct shape {
    size_t t_q, t_k, heads, d;
    bool masked;
};

static void attend(const float *q, size_t ld_q, const float *k, const float *v, size_t ld_kv,
                   const struct shape *s, float scale, const float *mask, float *out)
{
    double *scores = calloc(s->t_k, sizeof(double));

    for (size_t row = 0; row < s->t_q * s->heads; row++) {
        size_t t = row / s->heads, at = row % s->heads * s->d;
        double sum = 0, max = -INFINITY;

        for (size_t i = 0; i < s->t_k; i++) {
            scores[i] = 0;
            for (size_t j = 0; j < s->d; j++)
                scores[i] += (double)q[t * ld_q + at + j] * k[i * ld_kv + at + j];
            scores[i] = scores[i] * scale + (mask ? mask[t * s->t_k + i] : 0);
            max = scores[i] > max ? scores[i] : max;
        }
        for (size_t i = 0; i < s->t_k; i++)
            sum += scores[i] = exp(scores[i] - max);
        for (size_t j = 0; j < s->d; j++) {
            double mixed = 0;

            for (size_t i = 0; i < s->t_k; i++)
                mixed += scores[i] / sum * v[i * ld_kv + at + j];
            out[t * s->heads * s->d + at + j] = (float)mixed;
        }
    }
    free(scores);
}

static void check(struct compute *compute, struct shape s)
{
    size_t width = s.heads * s.d, ld_q = width + 5, ld_kv = 2 * width + 3, n = s.t_q * width;
    float *q = random_floats(s.t_q * ld_q, 1, 1), *kv = random_floats(s.t_k * ld_kv, 1, 2);
    float *mask = random_floats(s.t_q * s.t_k, 1, 3);
    float *want = random_floats(n, 1, 4), *got = random_floats(n, 1, 5);

    for (size_t i = 0; i < s.t_q * s.t_k; i++)
        mask[i] = i % s.t_k <= i / s.t_k ? mask[i] : -INFINITY; /* causal */
    attend(q, ld_q, kv, kv + width, ld_kv, &s, 0.3f, s.masked ? mask : NULL, want);
    assert_int_equal(compute_attention(compute, q, ld_q, s.t_q, kv, kv + width, ld_kv, s.t_k,
                                       s.heads, s.d, 0.3f, s.masked ? mask : NULL, got),
                     0);
    assert_near(got, want, n, 2e-6f);
    free(q);
    free(kv);
    free(mask);
    free(want);
    free(got);
}

static void attentions(struct compute *compute)
{
    check(compute, (struct shape){1, 1, 1, 1, false});
    check(compute, (struct shape){1, 9, 2, 8, false});
    check(compute, (struct shape){7, 30, 8, 32, false});
    check(compute, (struct shape){40, 40, 8, 32, true});
    check(compute, (struct shape){200, 150, 3, 64, false});
    check(compute, (struct shape){130, 130, 2, 20, true});
}

static void attention_matches_double(void **state)
{
    (void)state;
    for_each_path(attentions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_matches_double),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
