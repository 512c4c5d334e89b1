#include "tts/vits/vocoder.h"

#include "tts/vits/strip.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOPE 0.1f       /* of the leaky ReLUs */
#define SLOPE_LAST 0.01f /* of the one before the last convolution: PyTorch's default */
#define STAGES_MAX 8
#define BLOCKS_MAX 16
#define CONVS_MAX 16
#define RATE_MAX 64

/* Convolution p of an upsampling by `rate`: the taps of the transposed convolution that meet output
 * column t * rate + p, in the order of the inputs that they meet. */
static int load_phase(struct vits_loader *loader, const struct onnx_conv *up, size_t p,
                      struct vits_stage *out)
{
    size_t c_in = up->weight->shape[0], c_out = up->weight->shape[1], kernel = up->weight->shape[2];
    size_t rate = up->stride, taps = (kernel + rate - 1) / rate;
    size_t shift = (p + up->pad_left) / rate, tap = (p + up->pad_left) % rate;
    const unsigned char *w = up->weight->data;
    float *phase = calloc(c_out * c_in * taps, sizeof(float));
    int err;

    if (!phase)
        return -ENOMEM;
    for (size_t o = 0; o < c_out; o++)
        for (size_t i = 0; i < c_in; i++)
            for (size_t k = 0; k < taps; k++)
                if (tap + k * rate < kernel)
                    memcpy(phase + (o * c_in + i) * taps + (taps - 1 - k),
                           w + ((i * c_out + o) * kernel + tap + k * rate) * sizeof(float),
                           sizeof(float));
    out->first[p] = (ptrdiff_t)shift - (ptrdiff_t)(taps - 1);
    if (shift > out->halo)
        out->halo = shift;
    if (taps - 1 > out->halo)
        out->halo = taps - 1;
    err = vits_conv_pack(loader->kernels, c_out, c_in, taps, 1, phase,
                         up->bias ? up->bias->data : NULL, &out->phases[p]);
    free(phase);
    return err;
}

static int load_upsampling(struct vits_loader *loader, size_t stage, size_t c_in,
                           struct vits_stage *out)
{
    struct onnx_conv up;
    const size_t *shape;
    char name[32];
    int err = 0;

    snprintf(name, sizeof(name), "dec.ups.%zu", stage);
    if (onnx_conv_find(loader->onnx, name, &up) < 0 || !up.transposed || up.groups != 1 ||
        up.dilation != 1)
        return vits_refuse(loader, "'%s' is no plain transposed convolution", name);
    shape = up.weight->shape;
    if (shape[0] != c_in || shape[1] == 0 || shape[1] > 4096 || shape[2] == 0 || shape[2] > 1024 ||
        up.stride > RATE_MAX || shape[2] < up.stride ||
        shape[2] - up.stride != up.pad_left + up.pad_right ||
        (up.bias && up.bias->count != shape[1]))
        return vits_refuse(loader, "'%s' has weights (%zu, %zu, %zu) for %zu inputs and stride %zu",
                           name, shape[0], shape[1], shape[2], c_in, up.stride);
    out->rate = up.stride;
    out->channels = shape[1];
    out->phases = calloc(out->rate, sizeof(*out->phases));
    out->first = calloc(out->rate, sizeof(*out->first));
    if (!out->phases || !out->first)
        return -ENOMEM;
    for (size_t p = 0; !err && p < out->rate; p++)
        err = load_phase(loader, &up, p, out);
    return err;
}

static int load_centred(struct vits_loader *loader, const char *name, size_t c_out, size_t c_in,
                        struct vits_conv *out)
{
    int err = vits_load_conv(loader, name, c_out, c_in, 0, out);

    if (!err && out->taps % 2 != 1)
        err = vits_refuse(loader, "'%s' has %zu taps: not centred", name, out->taps);
    return err;
}

/* Kind 2 has convs.0, convs.1, ...; kind 1 convs1.0 and convs2.0, convs1.1 and convs2.1, ... */
static int load_block(struct vits_loader *loader, size_t index, size_t channels,
                      struct vits_resblock *out)
{
    char name[64];
    int err = 0;

    out->convs = calloc(CONVS_MAX, sizeof(*out->convs));
    if (!out->convs)
        return -ENOMEM;
    snprintf(name, sizeof(name), "dec.resblocks.%zu.convs.0", index);
    out->span = vits_has(loader, name) ? 1 : 2;
    while (!err && out->n_convs < CONVS_MAX) {
        size_t i = out->n_convs;

        if (out->span == 1)
            snprintf(name, sizeof(name), "dec.resblocks.%zu.convs.%zu", index, i);
        else
            snprintf(name, sizeof(name), "dec.resblocks.%zu.convs%zu.%zu", index, i % 2 + 1, i / 2);
        if (!vits_has(loader, name))
            break;
        err = load_centred(loader, name, channels, channels, &out->convs[i]);
        out->n_convs++; /* even a half-built one, for fini */
    }
    if (!err && (out->n_convs == 0 || out->n_convs % out->span))
        err = vits_refuse(loader, "'dec.resblocks.%zu' has %zu convolutions", index, out->n_convs);
    return err;
}

static int load_stages(struct vits_loader *loader, struct vits_vocoder *out)
{
    size_t channels = out->pre.c_out, total = 0, each;
    char name[64];
    int err = 0;

    while (out->n_stages < STAGES_MAX) {
        snprintf(name, sizeof(name), "dec.ups.%zu", out->n_stages);
        if (!vits_has(loader, name))
            break;
        out->n_stages++;
    }
    for (; total < STAGES_MAX * BLOCKS_MAX; total++) {
        char pair[64];

        snprintf(name, sizeof(name), "dec.resblocks.%zu.convs.0", total);
        snprintf(pair, sizeof(pair), "dec.resblocks.%zu.convs1.0", total);
        if (!vits_has(loader, name) && !vits_has(loader, pair))
            break;
    }
    if (out->n_stages == 0 || total == 0 || total % out->n_stages)
        return vits_refuse(loader, "%zu upsamplings with %zu residual blocks", out->n_stages,
                           total);
    each = total / out->n_stages;
    out->hop = 1;
    for (size_t i = 0; !err && i < out->n_stages; i++) {
        struct vits_stage *stage = &out->stages[i];

        err = load_upsampling(loader, i, channels, stage);
        channels = stage->channels;
        out->hop *= stage->rate ? stage->rate : 1;
        stage->blocks = calloc(each, sizeof(*stage->blocks));
        if (!stage->blocks)
            return -ENOMEM;
        stage->n_blocks = each;
        for (size_t j = 0; !err && j < each; j++)
            err = load_block(loader, i * each + j, channels, &stage->blocks[j]);
    }
    if (!err && out->hop > 4096)
        err = vits_refuse(loader, "%zu samples a frame", out->hop);
    return err ? err : load_centred(loader, "dec.conv_post", 1, channels, &out->post);
}

int vits_vocoder_load(struct vits_loader *loader, size_t c_in, size_t speaker_channels,
                      struct vits_vocoder *out)
{
    int err = load_centred(loader, "dec.conv_pre", 0, c_in, &out->pre);

    out->c_in = c_in;
    out->stages = calloc(STAGES_MAX, sizeof(*out->stages));
    if (!out->stages)
        return -ENOMEM;
    if (!err && speaker_channels)
        err = vits_load_conv(loader, "dec.cond", out->pre.c_out, speaker_channels, 1, &out->cond);
    return err ? err : load_stages(loader, out);
}

static void stage_fini(struct vits_stage *stage)
{
    for (size_t p = 0; stage->phases && p < stage->rate; p++)
        vits_conv_fini(&stage->phases[p]);
    for (size_t j = 0; stage->blocks && j < stage->n_blocks; j++) {
        for (size_t k = 0; k < stage->blocks[j].n_convs; k++)
            vits_conv_fini(&stage->blocks[j].convs[k]);
        free(stage->blocks[j].convs);
    }
    free(stage->phases);
    free(stage->first);
    free(stage->blocks);
}

void vits_vocoder_fini(struct vits_vocoder *vocoder)
{
    for (size_t i = 0; vocoder->stages && i < vocoder->n_stages; i++)
        stage_fini(&vocoder->stages[i]);
    free(vocoder->stages);
    vits_conv_fini(&vocoder->pre);
    vits_conv_fini(&vocoder->post);
    vits_conv_fini(&vocoder->cond);
    memset(vocoder, 0, sizeof(*vocoder));
}

/* A residual block under way: what enters each of its convolutions, as it is and activated. The first
 * pair is shared by the blocks of a stage. */
struct block_state {
    struct vits_strip *raw, *activated; /* (n_convs) from 1 on */
};

struct stage_state {
    struct vits_strip in; /* activated input of the upsampling */
    struct vits_strip raw, activated;
    struct block_state *blocks;
    struct vits_strip sum; /* of the blocks' outputs */
};

struct vits_stream {
    struct compute *compute;
    const struct vits_vocoder *vocoder;
    float *speaker; /* (pre.c_out) what the speaker adds */
    struct vits_strip latent, post;
    struct stage_state *stages;
    float *pcm;
    size_t pcm_capacity;
};

static int start_block(const struct vits_stage *stage, const struct vits_resblock *block,
                       struct block_state *out)
{
    int err = 0;

    out->raw = calloc(block->n_convs, sizeof(*out->raw));
    out->activated = calloc(block->n_convs, sizeof(*out->activated));
    if (!out->raw || !out->activated)
        return -ENOMEM;
    for (size_t k = 1; !err && k < block->n_convs; k++) {
        err = vits_strip_init(&out->raw[k], stage->channels, 0);
        if (!err)
            err = vits_strip_init(&out->activated[k], stage->channels,
                                  vits_conv_halo(&block->convs[k]));
    }
    return err;
}

static int start_stage(const struct vits_stage *stage, size_t c_in, struct stage_state *out)
{
    size_t halo = 0;
    int err;

    for (size_t j = 0; j < stage->n_blocks; j++)
        if (vits_conv_halo(&stage->blocks[j].convs[0]) > halo)
            halo = vits_conv_halo(&stage->blocks[j].convs[0]);
    out->blocks = calloc(stage->n_blocks, sizeof(*out->blocks));
    if (!out->blocks)
        return -ENOMEM;
    err = vits_strip_init(&out->in, c_in, stage->halo);
    if (!err)
        err = vits_strip_init(&out->raw, stage->channels, 0);
    if (!err)
        err = vits_strip_init(&out->activated, stage->channels, halo);
    if (!err)
        err = vits_strip_init(&out->sum, stage->channels, 0);
    for (size_t j = 0; !err && j < stage->n_blocks; j++)
        err = start_block(stage, &stage->blocks[j], &out->blocks[j]);
    return err;
}

int vits_stream_create(struct compute *compute, const struct vits_vocoder *vocoder,
                       const float *speaker, struct vits_stream **out)
{
    struct vits_stream *stream = calloc(1, sizeof(*stream));
    size_t channels = vocoder->pre.c_out;
    int err = -ENOMEM;

    if (!stream)
        return -ENOMEM;
    stream->compute = compute;
    stream->vocoder = vocoder;
    stream->speaker = calloc(channels, sizeof(float));
    stream->stages = calloc(vocoder->n_stages, sizeof(*stream->stages));
    if (!stream->speaker || !stream->stages)
        goto done;
    if (vocoder->cond.w && speaker)
        vits_conv_vector(&vocoder->cond, speaker, stream->speaker);
    err = vits_strip_init(&stream->latent, vocoder->c_in, vits_conv_halo(&vocoder->pre));
    for (size_t i = 0; !err && i < vocoder->n_stages; i++) {
        err = start_stage(&vocoder->stages[i], channels, &stream->stages[i]);
        channels = vocoder->stages[i].channels;
    }
    if (!err)
        err = vits_strip_init(&stream->post, channels, vits_conv_halo(&vocoder->post));
    if (err < 0)
        goto done;
    *out = stream;
    stream = NULL; /* the caller's now */
done:
    vits_stream_destroy(&stream);
    return err;
}

void vits_stream_destroy(struct vits_stream **stream)
{
    struct vits_stream *self = *stream;

    if (!self)
        return;
    for (size_t i = 0; self->stages && i < self->vocoder->n_stages; i++) {
        struct stage_state *stage = &self->stages[i];
        const struct vits_stage *of = &self->vocoder->stages[i];

        for (size_t j = 0; stage->blocks && j < of->n_blocks; j++) {
            for (size_t k = 1; k < of->blocks[j].n_convs; k++) {
                if (stage->blocks[j].raw)
                    vits_strip_fini(&stage->blocks[j].raw[k]);
                if (stage->blocks[j].activated)
                    vits_strip_fini(&stage->blocks[j].activated[k]);
            }
            free(stage->blocks[j].raw);
            free(stage->blocks[j].activated);
        }
        free(stage->blocks);
        vits_strip_fini(&stage->in);
        vits_strip_fini(&stage->raw);
        vits_strip_fini(&stage->activated);
        vits_strip_fini(&stage->sum);
    }
    free(self->stages);
    vits_strip_fini(&self->latent);
    vits_strip_fini(&self->post);
    free(self->speaker);
    free(self->pcm);
    free(self);
    *stream = NULL;
}

/* How far a centred convolution gets with what it reads. */
static int64_t reach(const struct vits_conv *conv, const struct vits_strip *in)
{
    int64_t end = in->end - (int64_t)vits_conv_halo(conv);

    return end < in->total ? end : in->total;
}

/* Columns [from, from + n) of a centred convolution. */
static void run_centred(struct compute *compute, const struct vits_conv *conv,
                        const struct vits_strip *in, int64_t from, size_t n,
                        const struct vits_epilogue *epilogue)
{
    vits_conv_run(compute, conv, vits_strip_at(in, from - (int64_t)vits_conv_halo(conv)), in->ld, n,
                  epilogue);
}

/* Upsample whatever the input suffices for. */
static int upsample(struct compute *compute, const struct vits_stage *stage,
                    struct stage_state *state)
{
    int64_t rate = (int64_t)stage->rate, from = state->raw.end / rate;
    int64_t to = state->in.end - (int64_t)stage->halo;
    struct vits_epilogue out = {.step = stage->rate, .slope = SLOPE};
    size_t n = to > from ? (size_t)(to - from) : 0;

    if (vits_strip_grow(&state->raw, n * stage->rate) < 0 ||
        vits_strip_grow(&state->activated, n * stage->rate) < 0)
        return -ENOMEM;
    out.out_ld = state->raw.ld;
    out.activated_ld = state->activated.ld;
    for (size_t p = 0; p < stage->rate; p++) {
        int64_t first = from * rate + (int64_t)p;

        out.out = vits_strip_at(&state->raw, first);
        out.activated = vits_strip_at(&state->activated, first);
        vits_conv_run(compute, &stage->phases[p], vits_strip_at(&state->in, from + stage->first[p]),
                      state->in.ld, n, &out);
    }
    vits_strip_drop(&state->in, to - (int64_t)stage->halo);
    return state->in.total < INT64_MAX ? vits_strip_finish(&state->activated) : 0;
}

/* The index of the convolution whose input is added to the output of convolution k. */
static size_t source_of(const struct vits_resblock *block, size_t k)
{
    return k / block->span * block->span;
}

static const struct vits_strip *raw_of(const struct stage_state *stage,
                                       const struct block_state *block, size_t k)
{
    return k ? &block->raw[k] : &stage->raw;
}

static const struct vits_strip *activated_of(const struct stage_state *stage,
                                             const struct block_state *block, size_t k)
{
    return k ? &block->activated[k] : &stage->activated;
}

/* Convolution k of a block, not its last, as far as it gets. */
static int run_inner(struct compute *compute, const struct vits_resblock *block, size_t k,
                     const struct stage_state *stage, struct block_state *state)
{
    const struct vits_conv *conv = &block->convs[k];
    const struct vits_strip *in = activated_of(stage, state, k);
    const struct vits_strip *add = raw_of(stage, state, source_of(block, k));
    struct vits_strip *raw = &state->raw[k + 1], *activated = &state->activated[k + 1];
    bool adds = (k + 1) % block->span == 0;
    int64_t at = activated->end, limit = reach(conv, in);
    size_t n = limit > at ? (size_t)(limit - at) : 0;
    struct vits_epilogue to = {.slope = SLOPE};

    if (vits_strip_grow(activated, n) < 0 || (adds && vits_strip_grow(raw, n) < 0))
        return -ENOMEM;
    to.activated = vits_strip_at(activated, at);
    to.activated_ld = activated->ld;
    if (adds && n) {
        to.add = vits_strip_at(add, at);
        to.add_ld = add->ld;
        to.out = vits_strip_at(raw, at);
        to.out_ld = raw->ld;
    }
    run_centred(compute, conv, in, at, n, &to);
    return in->total < INT64_MAX ? vits_strip_finish(activated) : 0;
}

/* The last convolutions of all blocks, summed, as far as the slowest got. */
static int sum_blocks(struct compute *compute, const struct vits_stage *stage,
                      struct stage_state *state)
{
    int64_t at = state->sum.end, limit = INT64_MAX;

    for (size_t j = 0; j < stage->n_blocks; j++) {
        const struct vits_resblock *block = &stage->blocks[j];
        size_t k = block->n_convs - 1;
        int64_t end = reach(&block->convs[k], activated_of(state, &state->blocks[j], k));

        limit = end < limit ? end : limit;
    }
    if (limit <= at)
        return 0;
    if (vits_strip_grow(&state->sum, (size_t)(limit - at)) < 0)
        return -ENOMEM;
    for (size_t j = 0; j < stage->n_blocks; j++) {
        const struct vits_resblock *block = &stage->blocks[j];
        size_t k = block->n_convs - 1;
        const struct vits_strip *add = raw_of(state, &state->blocks[j], source_of(block, k));
        struct vits_epilogue to = {.add = vits_strip_at(add, at),
                                   .add_ld = add->ld,
                                   .out = vits_strip_at(&state->sum, at),
                                   .out_ld = state->sum.ld,
                                   .accumulate = j > 0};

        run_centred(compute, &block->convs[k], activated_of(state, &state->blocks[j], k), at,
                    (size_t)(limit - at), &to);
    }
    return 0;
}

/* The column that convolution k of a block makes next. */
static int64_t next_of(const struct vits_resblock *block, const struct stage_state *stage,
                       const struct block_state *state, size_t k)
{
    return k + 1 < block->n_convs ? state->activated[k + 1].end : stage->sum.end;
}

/* Forget what no later column is made of. */
static void drop_used(const struct vits_stage *stage, struct stage_state *state)
{
    int64_t activated = INT64_MAX, raw = INT64_MAX;

    for (size_t j = 0; j < stage->n_blocks; j++) {
        const struct vits_resblock *block = &stage->blocks[j];
        struct block_state *of = &state->blocks[j];

        for (size_t k = 0; k < block->n_convs; k++) {
            int64_t next = next_of(block, state, of, k);
            int64_t read = next - (int64_t)vits_conv_halo(&block->convs[k]);
            size_t source = source_of(block, k);
            bool adds = (k + 1) % block->span == 0;

            if (k)
                vits_strip_drop(&of->activated[k], read);
            else if (read < activated)
                activated = read;
            if (adds && source)
                vits_strip_drop(&of->raw[source], next);
            else if (adds && next < raw)
                raw = next;
        }
    }
    vits_strip_drop(&state->activated, activated);
    vits_strip_drop(&state->raw, raw);
}

/* Move the sum on: its mean, activated, is what comes next. */
static int hand_on(const struct vits_kernels *kernels, const struct vits_stage *stage,
                   struct vits_strip *sum, float slope, bool last, struct vits_strip *next)
{
    size_t n = (size_t)(sum->end - sum->needed);
    int64_t at = next->end;

    if (vits_strip_grow(next, n) < 0)
        return -ENOMEM;
    for (size_t c = 0; c < sum->channels; c++)
        kernels->leaky(vits_strip_at(sum, sum->needed) + c * sum->ld, 1.0f / (float)stage->n_blocks,
                       slope, n, vits_strip_at(next, at) + c * next->ld);
    vits_strip_drop(sum, sum->end);
    return last ? vits_strip_finish(next) : 0;
}

static int run_stage(struct vits_stream *stream, size_t index, bool last)
{
    const struct vits_stage *stage = &stream->vocoder->stages[index];
    struct stage_state *state = &stream->stages[index];
    bool final = index + 1 == stream->vocoder->n_stages;
    int err = upsample(stream->compute, stage, state);

    for (size_t j = 0; j < stage->n_blocks; j++)
        for (size_t k = 0; !err && k + 1 < stage->blocks[j].n_convs; k++)
            err = run_inner(stream->compute, &stage->blocks[j], k, state, &state->blocks[j]);
    if (!err)
        err = sum_blocks(stream->compute, stage, state);
    if (err < 0)
        return err;
    drop_used(stage, state);
    return hand_on(stream->vocoder->pre.kernels, stage, &state->sum, final ? SLOPE_LAST : SLOPE,
                   last, final ? &stream->post : &state[1].in);
}

static int push_latent(struct vits_stream *stream, const float *z, size_t ld, size_t n, bool last)
{
    const struct vits_conv *pre = &stream->vocoder->pre;
    struct vits_strip *latent = &stream->latent, *to = &stream->stages[0].in;
    int64_t at = latent->end, limit, from = to->end;
    struct vits_epilogue out = {.row = stream->speaker, .slope = SLOPE};

    if (vits_strip_grow(latent, n) < 0)
        return -ENOMEM;
    for (size_t c = 0; c < latent->channels; c++)
        memcpy(vits_strip_at(latent, at) + c * latent->ld, z + c * ld, n * sizeof(float));
    if (last && vits_strip_finish(latent) < 0)
        return -ENOMEM;
    limit = reach(pre, latent);
    n = limit > from ? (size_t)(limit - from) : 0;
    if (vits_strip_grow(to, n) < 0)
        return -ENOMEM;
    out.activated = vits_strip_at(to, from);
    out.activated_ld = to->ld;
    run_centred(stream->compute, pre, latent, from, n, &out);
    vits_strip_drop(latent, limit - (int64_t)vits_conv_halo(pre));
    return last ? vits_strip_finish(to) : 0;
}

/* The last convolution, over what has come through all stages. */
static int pull_samples(struct vits_stream *stream, size_t *n_samples)
{
    const struct vits_conv *conv = &stream->vocoder->post;
    struct vits_strip *post = &stream->post;
    int64_t from = post->needed + (int64_t)vits_conv_halo(conv), limit = reach(conv, post);
    size_t n = limit > from ? (size_t)(limit - from) : 0;
    struct vits_epilogue out = {.out_ld = n};

    if (n > stream->pcm_capacity) {
        free(stream->pcm);
        stream->pcm_capacity = 0;
        stream->pcm = compute_alloc(n * sizeof(float));
        if (!stream->pcm)
            return -ENOMEM;
        stream->pcm_capacity = n;
    }
    out.out = stream->pcm;
    run_centred(stream->compute, conv, post, from, n, &out);
    conv->kernels->tanh(stream->pcm, n);
    vits_strip_drop(post, from + (int64_t)n - (int64_t)vits_conv_halo(conv));
    *n_samples = n;
    return 0;
}

int vits_stream_push(struct vits_stream *stream, const float *z, size_t ld, size_t n, bool last,
                     const float **pcm, size_t *n_samples)
{
    int err = push_latent(stream, z, ld, n, last);

    for (size_t i = 0; !err && i < stream->vocoder->n_stages; i++)
        err = run_stage(stream, i, last);
    if (!err)
        err = pull_samples(stream, n_samples);
    if (!err)
        *pcm = stream->pcm;
    return err;
}
