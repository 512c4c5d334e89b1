#define FLOATS 4
#include "translate/marian/exact_body.h"

const struct exact exact_portable = EXACT_TABLE;

const struct exact *exact_for(enum compute_isa isa)
{
#ifdef __x86_64__
    if (isa >= COMPUTE_AVX512)
        return &exact_avx512;
    if (isa >= COMPUTE_AVX2)
        return &exact_avx2;
#endif
    (void)isa;
    return &exact_portable;
}

void exact_transpose(const float *x, size_t t, size_t n, float *out)
{
    size_t ld = exact_padded(t);

    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < t; i++)
            out[j * ld + i] = x[i * n + j];
        for (size_t i = t; i < ld; i++)
            out[j * ld + i] = 0;
    }
}
