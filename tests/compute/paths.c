#include "tests/compute/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

void for_each_path(void (*check)(struct compute *compute))
{
    struct compute *compute = NULL;
    int last = -1;

    assert_int_equal(compute_create(2, &compute), 0);
    for (int limit = COMPUTE_PORTABLE; limit <= COMPUTE_AVX512_VNNI; limit++) {
        compute_limit_isa(compute, (enum compute_isa)limit);
        if ((int)compute_isa(compute) == last)
            continue; /* this machine has nothing better */
        last = (int)compute_isa(compute);
        printf("on %s\n", compute_isa_name(compute_isa(compute)));
        check(compute);
    }
    compute_limit_isa(compute, COMPUTE_AVX512_VNNI);
    compute_destroy(&compute);
}

float *random_floats(size_t n, float range, unsigned seed)
{
    float *x = malloc((n ? n : 1) * sizeof(float));
    uint32_t state = seed * 2654435761u + 1;

    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) / (float)(1 << 23) - 1.0f) * range;
    }
    return x;
}
