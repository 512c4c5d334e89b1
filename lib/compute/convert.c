#include "compute/kernels.h"
#include "compute/ops.h"

void compute_f16_to_f32(const void *src, size_t n, float *out)
{
    kernels_get()->f16_to_f32(src, n, out);
}

void compute_bf16_to_f32(const void *src, size_t n, float *out)
{
    kernels_get()->bf16_to_f32(src, n, out);
}
