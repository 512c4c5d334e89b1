#include "tts/vits/kernels.h"

const struct vits_kernels *vits_kernels_pick(enum compute_isa isa)
{
#ifdef __x86_64__
    if (isa >= COMPUTE_AVX512)
        return &vits_kernels_avx512;
    if (isa == COMPUTE_AVX2)
        return &vits_kernels_avx2;
#endif
    (void)isa;
    return &vits_kernels_portable;
}
