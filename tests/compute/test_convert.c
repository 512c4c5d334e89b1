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

static uint32_t bits(float x)
{
    uint32_t value;

    memcpy(&value, &x, sizeof(value));
    return value;
}

/* f16 by its definition: sign, 5 bits of exponent, 10 of fraction */
static float half_value(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 0x3ff;
    float sign = half & 0x8000 ? -1 : 1;

    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexpf((float)fraction, -24);
    return sign * ldexpf((float)(1024 + fraction), exponent - 25);
}

static void halves(struct compute *compute)
{
    unsigned char *src = malloc(2 * 65536 + 1);
    float *out = malloc(sizeof(float) * 65536);

    (void)compute;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;

        memcpy(src + 1 + 2 * i, &half, 2); /* unaligned */
    }
    compute_f16_to_f32(src + 1, 65535, out);
    for (uint32_t i = 0; i < 65535; i++) {
        float want = half_value((uint16_t)i);

        if (isnan(want) ? !isnan(out[i]) : bits(out[i]) != bits(want))
            fail_msg("half %04x became %g, not %g", i, (double)out[i], (double)want);
    }
    compute_bf16_to_f32(src + 1, 65535, out);
    for (uint32_t i = 0; i < 65535; i++)
        assert_int_equal(bits(out[i]), i << 16);
    free(src);
    free(out);
}

static void every_half_is_converted_exactly(void **state)
{
    (void)state;
    for_each_path(halves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_converted_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
