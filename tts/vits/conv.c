#include "tts/vits/conv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More of anything than a voice has, and few enough that no product of sizes overflows. */
#define CHANNELS_MAX 65536
#define TAPS_MAX 1024
#define REACH_MAX 8192 /* columns from the first tap to the last */

static size_t n_blocks(const struct vits_conv *conv)
{
    return (conv->c_out + conv->kernels->block - 1) / conv->kernels->block;
}

size_t vits_conv_halo(const struct vits_conv *conv)
{
    return (conv->taps - 1) * conv->dilation / 2;
}

static void pack(const struct vits_conv *conv, const unsigned char *w)
{
    size_t block = conv->kernels->block, row = conv->c_in * conv->taps;

    for (size_t o = 0; o < conv->c_out; o++) {
        float *to = conv->w + o / block * row * block + o % block;

        for (size_t i = 0; i < row; i++, w += sizeof(float))
            memcpy(to + i * block, w, sizeof(float));
    }
}

int vits_conv_pack(const struct vits_kernels *kernels, size_t c_out, size_t c_in, size_t taps,
                   size_t dilation, const void *w, const void *bias, struct vits_conv *out)
{
    struct vits_conv conv = {kernels, c_in, c_out, taps, dilation, NULL, NULL};
    size_t floats = n_blocks(&conv) * kernels->block * c_in * taps;

    conv.w = compute_alloc(floats * sizeof(float));
    conv.bias = calloc(c_out, sizeof(float));
    if (!conv.w || !conv.bias) {
        vits_conv_fini(&conv);
        return -ENOMEM;
    }
    memset(conv.w, 0, floats * sizeof(float));
    pack(&conv, w);
    if (bias)
        memcpy(conv.bias, bias, c_out * sizeof(float));
    *out = conv;
    return 0;
}

void vits_conv_fini(struct vits_conv *conv)
{
    free(conv->w);
    free(conv->bias);
    conv->w = conv->bias = NULL;
}

/* One run of vits_conv_run(), shared by the threads that work on it. */
struct job {
    const struct vits_conv *conv;
    const float *x;
    size_t ld, n, tiles;
    const struct vits_epilogue *epilogue;
};

/* The sums of one output channel, columns [column, column + n), on their way out. */
static void finish_row(const struct job *job, const float *sums, size_t row, size_t column,
                       size_t n)
{
    const struct vits_epilogue *e = job->epilogue;
    size_t step = e->step ? e->step : 1;
    float bias = job->conv->bias[row] + (e->row ? e->row[row] : 0.0f);
    struct vits_finish finish = {
        .sums = sums,
        .bias = bias,
        .add = e->add ? e->add + row * e->add_ld + column : NULL,
        .accumulate = e->accumulate,
        .out = e->out ? e->out + row * e->out_ld + column * step : NULL,
        .activated = e->activated ? e->activated + row * e->activated_ld + column * step : NULL,
        .slope = e->slope,
        .step = step,
    };

    job->conv->kernels->finish(&finish, n);
}

/* Pieces are tiles of one block of outputs after another: a thread keeps a block's weights cached. */
static void run_pieces(void *arg, size_t begin, size_t end)
{
    const struct job *job = arg;
    const struct vits_conv *conv = job->conv;
    const struct vits_kernels *kernels = conv->kernels;
    size_t width = kernels->tile, block = kernels->block;
    float sums[VITS_BLOCK_MAX * VITS_TILE_MAX] __attribute__((aligned(64)));

    for (size_t piece = begin; piece < end; piece++) {
        size_t column = piece % job->tiles * width, row = piece / job->tiles * block;
        size_t n = job->n - column < width ? job->n - column : width;

        kernels->conv(job->x + column, job->ld, conv->c_in, conv->taps, conv->dilation,
                      conv->w + row * conv->c_in * conv->taps, n, sums);
        for (size_t i = 0; i < block && row + i < conv->c_out; i++)
            finish_row(job, sums + i * VITS_TILE_MAX, row + i, column, n);
    }
}

void vits_conv_run(struct compute *compute, const struct vits_conv *conv, const float *x, size_t ld,
                   size_t n, const struct vits_epilogue *epilogue)
{
    struct job job = {conv, x, ld, n, 0, epilogue};
    size_t work = conv->c_in * conv->taps * conv->kernels->block * conv->kernels->tile;
    size_t grain = (1u << 20) / (work + 1) + 1; /* a fraction of a millisecond, worth a wake-up */

    if (n == 0)
        return;
    job.tiles = (n + conv->kernels->tile - 1) / conv->kernels->tile;
    compute_parallel_for(compute, job.tiles * n_blocks(conv), grain, run_pieces, &job);
}

void vits_conv_vector(const struct vits_conv *conv, const float *x, float *out)
{
    size_t block = conv->kernels->block;

    for (size_t o = 0; o < conv->c_out; o++) {
        const float *w = conv->w + o / block * conv->c_in * block + o % block;

        out[o] = conv->bias[o];
        for (size_t i = 0; i < conv->c_in; i++)
            out[o] += w[i * block] * x[i];
    }
}

int vits_refuse(struct vits_loader *loader, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (loader->size)
        vsnprintf(loader->error, loader->size, fmt, args);
    va_end(args);
    return -EBADMSG;
}

bool vits_has(const struct vits_loader *loader, const char *module)
{
    struct onnx_conv conv;

    return onnx_conv_find(loader->onnx, module, &conv) == 0;
}

int vits_load_conv(struct vits_loader *loader, const char *module, size_t c_out, size_t c_in,
                   size_t taps, struct vits_conv *out)
{
    struct onnx_conv conv;
    const size_t *shape;
    int err = onnx_conv_find(loader->onnx, module, &conv);

    if (err < 0)
        return vits_refuse(
            loader, err == -ENOENT ? "no convolution '%s'" : "'%s' is no 1-D convolution in f32",
            module);
    shape = conv.weight->shape;
    if (conv.transposed || conv.stride != 1 || conv.groups != 1)
        return vits_refuse(loader, "'%s' is no plain convolution", module);
    if (shape[0] == 0 || shape[0] > CHANNELS_MAX || shape[1] == 0 || shape[1] > CHANNELS_MAX ||
        shape[2] == 0 || shape[2] > TAPS_MAX)
        return vits_refuse(loader, "'%s' has weights (%zu, %zu, %zu)", module, shape[0], shape[1],
                           shape[2]);
    if ((c_out && shape[0] != c_out) || (c_in && shape[1] != c_in) || (taps && shape[2] != taps))
        return vits_refuse(loader, "'%s' has weights (%zu, %zu, %zu), not (%zu, %zu, %zu)", module,
                           shape[0], shape[1], shape[2], c_out, c_in, taps);
    if (conv.dilation > REACH_MAX / shape[2])
        return vits_refuse(loader, "'%s' has %zu taps %zu apart", module, shape[2], conv.dilation);
    /* Centred, or padded by a node of its own before it (the feed-forward layers are). */
    if (conv.pad_left != conv.pad_right ||
        (conv.pad_left && conv.pad_left != (shape[2] - 1) * conv.dilation / 2))
        return vits_refuse(loader, "'%s' has padding %zu and %zu", module, conv.pad_left,
                           conv.pad_right);
    if (conv.bias && conv.bias->count != shape[0])
        return vits_refuse(loader, "'%s' has %zu biases for %zu outputs", module, conv.bias->count,
                           shape[0]);
    return vits_conv_pack(loader->kernels, shape[0], shape[1], shape[2], conv.dilation,
                          conv.weight->data, conv.bias ? conv.bias->data : NULL, out);
}

int vits_load_floats(struct vits_loader *loader, const char *name, size_t *count, float **out)
{
    const struct weights_tensor *tensor = weights_find(&loader->onnx->weights, name);
    float *floats;

    if (!tensor || tensor->type != WEIGHTS_F32)
        return vits_refuse(loader, "no tensor '%s' in f32", name);
    if (tensor->count == 0 || (*count && tensor->count != *count))
        return vits_refuse(loader, "'%s' has %zu elements, not %zu", name, tensor->count, *count);
    floats = malloc(tensor->count * sizeof(float));
    if (!floats)
        return -ENOMEM;
    memcpy(floats, tensor->data, tensor->count * sizeof(float));
    *count = tensor->count;
    *out = floats;
    return 0;
}
