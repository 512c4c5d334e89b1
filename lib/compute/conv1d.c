/*
 * conv1d.c - convolutions over time, channels first
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <errno.h>
#include <string.h>

size_t compute_conv1d_length(const struct compute_conv1d *conv, size_t t_in)
{
    size_t padded = t_in + conv->pad_left + conv->pad_right;
    size_t reach = conv->dilation * (conv->kernel - 1) + 1;

    return padded < reach ? 0 : (padded - reach) / conv->stride + 1;
}

size_t compute_conv1d_transposed_length(const struct compute_conv1d *conv, size_t t_in)
{
    size_t full = t_in ? (t_in - 1) * conv->stride + conv->kernel : 0;
    size_t pad = conv->pad_left + conv->pad_right;

    return full < pad ? 0 : full - pad;
}

struct conv_job {
    const struct compute_conv1d *conv;
    const float *x;
    float *out;
    size_t t_in, t_out;
};

/* out (t_out) += w * x at every step the tap reaches */
static void add_tap(const struct conv_job *job, const float *x, float w, size_t tap, float *out)
{
    const struct compute_conv1d *conv = job->conv;
    size_t offset = tap * conv->dilation, begin = 0;

    if (offset < conv->pad_left)
        begin = (conv->pad_left - offset + conv->stride - 1) / conv->stride;
    for (size_t t = begin; t < job->t_out; t++) {
        size_t at = t * conv->stride + offset - conv->pad_left;

        if (at >= job->t_in)
            break;
        out[t] += w * x[at];
    }
}

static void conv_channels(void *arg, size_t begin, size_t end)
{
    const struct conv_job *job = arg;
    const struct compute_conv1d *conv = job->conv;
    size_t group_in = conv->c_in / conv->groups, group_out = conv->c_out / conv->groups;

    for (size_t co = begin; co < end; co++) {
        float *out = job->out + co * job->t_out;
        size_t first = co / group_out * group_in;

        for (size_t t = 0; t < job->t_out; t++)
            out[t] = conv->bias ? conv->bias[co] : 0;
        for (size_t ci = 0; ci < group_in; ci++)
            for (size_t tap = 0; tap < conv->kernel; tap++)
                add_tap(job, job->x + (first + ci) * job->t_in,
                        conv->w[(co * group_in + ci) * conv->kernel + tap], tap, out);
    }
}

int compute_conv1d(struct compute *c, const struct compute_conv1d *conv, const float *x,
                   size_t t_in, float *out)
{
    struct conv_job job = {conv, x, out, t_in, compute_conv1d_length(conv, t_in)};

    compute_parallel_for(c, conv->c_out, 1, conv_channels, &job);
    return 0;
}

static void transposed_channels(void *arg, size_t begin, size_t end)
{
    const struct conv_job *job = arg;
    const struct compute_conv1d *conv = job->conv;

    for (size_t co = begin; co < end; co++) {
        float *out = job->out + co * job->t_out;

        for (size_t t = 0; t < job->t_out; t++)
            out[t] = conv->bias ? conv->bias[co] : 0;
        for (size_t ci = 0; ci < conv->c_in; ci++) {
            const float *w = conv->w + (ci * conv->c_out + co) * conv->kernel;

            for (size_t t = 0; t < job->t_in; t++)
                for (size_t tap = 0; tap < conv->kernel; tap++) {
                    size_t at = t * conv->stride + tap - conv->pad_left; /* wraps below zero */

                    if (at < job->t_out)
                        out[at] += w[tap] * job->x[ci * job->t_in + t];
                }
        }
    }
}

int compute_conv1d_transposed(struct compute *c, const struct compute_conv1d *conv, const float *x,
                              size_t t_in, float *out)
{
    struct conv_job job = {conv, x, out, t_in, compute_conv1d_transposed_length(conv, t_in)};

    if (conv->groups > 1)
        return -EINVAL;
    compute_parallel_for(c, conv->c_out, 1, transposed_channels, &job);
    return 0;
}
