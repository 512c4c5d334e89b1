/*
 * conv1d.c - convolution over time, channels first: a stretch of time at a time, as a product
 *
 * The inputs that a stretch of outputs meets are laid out as a matrix of (c_in * kernel) rows, small
 * enough for the second-level cache; OpenBLAS multiplies it by the weights as they are.
 */
#include "compute/ops.h"

#include <cblas.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define STRETCH 256 /* steps of the output */

struct conv_job {
    const struct compute_conv1d *conv;
    const float *x;
    float *out;
    size_t t_in, t_out;
    atomic_int err;
};

size_t compute_conv1d_length(const struct compute_conv1d *conv, size_t t_in)
{
    size_t padded = t_in + conv->pad_left + conv->pad_right;
    size_t reach = conv->dilation * (conv->kernel - 1) + 1;

    return padded < reach ? 0 : (padded - reach) / conv->stride + 1;
}

/* What one tap of one channel meets at outputs [begin, begin + n). */
static void gather(const struct conv_job *job, const float *x, size_t tap, size_t begin, size_t n,
                   float *row)
{
    const struct compute_conv1d *conv = job->conv;
    size_t offset = tap * conv->dilation;

    for (size_t i = 0; i < n; i++) {
        size_t at = (begin + i) * conv->stride + offset - conv->pad_left; /* wraps below zero */

        row[i] = at < job->t_in ? x[at] : 0;
    }
}

static void convolve(const struct conv_job *job, size_t group, size_t begin, size_t n,
                     float *matrix)
{
    const struct compute_conv1d *conv = job->conv;
    size_t c_in = conv->c_in / conv->groups, c_out = conv->c_out / conv->groups;
    size_t k = c_in * conv->kernel;
    float *out = job->out + group * c_out * job->t_out + begin;

    for (size_t i = 0; i < k; i++)
        gather(job, job->x + (group * c_in + i / conv->kernel) * job->t_in, i % conv->kernel, begin,
               n, matrix + i * n);
    for (size_t i = 0; i < c_out; i++)
        for (size_t t = 0; t < n; t++)
            out[i * job->t_out + t] = conv->bias ? conv->bias[group * c_out + i] : 0;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)c_out, (int)n, (int)k, 1,
                conv->w + group * c_out * k, (int)k, matrix, (int)n, 1, out, (int)job->t_out);
}

static void conv_stretches(void *arg, size_t begin, size_t end)
{
    struct conv_job *job = arg;
    size_t rows = job->conv->c_in / job->conv->groups * job->conv->kernel;
    float *matrix = compute_alloc(sizeof(float) * rows * STRETCH);

    if (!matrix) {
        atomic_store(&job->err, -ENOMEM);
        return;
    }
    for (size_t i = begin; i < end; i++) {
        size_t at = i / job->conv->groups * STRETCH, left = job->t_out - at;

        convolve(job, i % job->conv->groups, at, left < STRETCH ? left : STRETCH, matrix);
    }
    free(matrix);
}

int compute_conv1d(struct compute *c, const struct compute_conv1d *conv, const float *x,
                   size_t t_in, float *out)
{
    struct conv_job job = {conv, x, out, t_in, compute_conv1d_length(conv, t_in), 0};
    size_t n_stretches = (job.t_out + STRETCH - 1) / STRETCH;

    compute_parallel_for(c, n_stretches * conv->groups, 1, conv_stretches, &job);
    return atomic_load(&job.err);
}
