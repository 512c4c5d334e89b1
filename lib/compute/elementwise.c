#include "compute/kernels.h"
#include "compute/ops.h"

void compute_add(float *x, const float *y, size_t n)
{
    kernels_get()->add(x, y, n);
}

void compute_add_bias(float *x, const float *bias, size_t rows, size_t n)
{
    const struct kernels *kernels = kernels_get();

    for (size_t row = 0; row < rows; row++)
        kernels->add(x + row * n, bias, n);
}

void compute_scale(float *x, float factor, size_t n)
{
    kernels_get()->scale(x, factor, n);
}

void compute_relu(float *x, size_t n)
{
    kernels_get()->leaky_relu(x, 0, n);
}

void compute_leaky_relu(float *x, float slope, size_t n)
{
    kernels_get()->leaky_relu(x, slope, n);
}

void compute_gelu(float *x, size_t n)
{
    kernels_get()->gelu(x, n);
}

void compute_sigmoid(float *x, size_t n)
{
    kernels_get()->sigmoid(x, n);
}

void compute_tanh(float *x, size_t n)
{
    kernels_get()->tanh(x, n);
}
