#include "tts/vits/flow.h"

#include "tts/vits/strip.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 32
#define COUPLINGS_MAX 32

/* Rows [from, from + hidden) of a (rows, hidden, 1) convolution. */
static int load_rows(struct vits_loader *loader, const char *name, size_t rows, size_t from,
                     size_t hidden, struct vits_conv *out)
{
    struct onnx_conv conv;
    const unsigned char *w, *bias;

    if (onnx_conv_find(loader->onnx, name, &conv) < 0 || conv.transposed || conv.groups != 1 ||
        conv.stride != 1 || conv.weight->shape[0] != rows || conv.weight->shape[1] != hidden ||
        conv.weight->shape[2] != 1 || (conv.bias && conv.bias->count != rows))
        return vits_refuse(loader, "'%s' is no convolution (%zu, %zu, 1)", name, rows, hidden);
    w = conv.weight->data;
    bias = conv.bias ? conv.bias->data : NULL;
    return vits_conv_pack(loader->kernels, hidden, hidden, 1, 1, w + from * hidden * sizeof(float),
                          bias ? bias + from * sizeof(float) : NULL, out);
}

/* The last layer has skips alone. */
static int load_layer(struct vits_loader *loader, const char *prefix, size_t layer,
                      struct vits_coupling *out)
{
    struct vits_wave_layer *to = &out->layers[layer];
    bool last = layer + 1 == out->n_layers;
    size_t hidden = out->hidden, rows = last ? hidden : 2 * hidden;
    char name[96];
    int err;

    snprintf(name, sizeof(name), "%s.enc.in_layers.%zu", prefix, layer);
    err = vits_load_conv(loader, name, 2 * hidden, hidden, 0, &to->in);
    if (!err && to->in.taps % 2 != 1)
        err = vits_refuse(loader, "'%s' has %zu taps: not centred", name, to->in.taps);
    snprintf(name, sizeof(name), "%s.enc.res_skip_layers.%zu", prefix, layer);
    if (!err && !last)
        err = load_rows(loader, name, rows, 0, hidden, &to->res);
    if (!err)
        err = load_rows(loader, name, rows, rows - hidden, hidden, &to->skip);
    return err;
}

static int load_layers(struct vits_loader *loader, const char *prefix, struct vits_coupling *out)
{
    char name[96];
    int err = 0;

    out->layers = calloc(LAYERS_MAX, sizeof(*out->layers));
    if (!out->layers)
        return -ENOMEM;
    for (; out->n_layers < LAYERS_MAX; out->n_layers++) {
        snprintf(name, sizeof(name), "%s.enc.in_layers.%zu", prefix, out->n_layers);
        if (!vits_has(loader, name))
            break;
    }
    if (out->n_layers == 0)
        return vits_refuse(loader, "'%s' has no layers", prefix);
    for (size_t i = 0; !err && i < out->n_layers; i++)
        err = load_layer(loader, prefix, i, out);
    return err;
}

static int load_coupling(struct vits_loader *loader, size_t index, size_t half,
                         size_t speaker_channels, struct vits_coupling *out)
{
    char prefix[32], name[64];
    int err;

    snprintf(prefix, sizeof(prefix), "flow.flows.%zu", index);
    snprintf(name, sizeof(name), "%s.pre", prefix);
    err = vits_load_conv(loader, name, 0, half, 1, &out->pre);
    out->hidden = out->pre.c_out;
    snprintf(name, sizeof(name), "%s.post", prefix);
    if (!err)
        err = vits_load_conv(loader, name, half, out->hidden, 1, &out->post);
    if (!err)
        err = load_layers(loader, prefix, out);
    snprintf(name, sizeof(name), "%s.enc.cond_layer", prefix);
    if (!err && speaker_channels)
        err = vits_load_conv(loader, name, 2 * out->hidden * out->n_layers, speaker_channels, 1,
                             &out->cond);
    return err;
}

/* Trained as flow 0, flip, flow 2, flip, ...; run backwards with a flip before each. */
int vits_flow_load(struct vits_loader *loader, size_t latent, size_t speaker_channels,
                   struct vits_flow *out)
{
    char name[96];
    size_t count = 0;
    int err = 0;

    if (latent == 0 || latent % 2)
        return vits_refuse(loader, "%zu latent channels have no halves", latent);
    out->latent = latent;
    while (count < COUPLINGS_MAX) {
        snprintf(name, sizeof(name), "flow.flows.%zu.pre", 2 * count);
        if (!vits_has(loader, name))
            break;
        count++;
    }
    out->couplings = calloc(count + 1, sizeof(*out->couplings));
    if (!out->couplings)
        return -ENOMEM;
    while (!err && out->n_couplings < count) {
        size_t i = out->n_couplings++;

        err = load_coupling(loader, 2 * (count - 1 - i), latent / 2, speaker_channels,
                            &out->couplings[i]);
    }
    return err;
}

void vits_flow_fini(struct vits_flow *flow)
{
    for (size_t i = 0; flow->couplings && i < flow->n_couplings; i++) {
        struct vits_coupling *coupling = &flow->couplings[i];

        for (size_t j = 0; coupling->layers && j < coupling->n_layers; j++) {
            vits_conv_fini(&coupling->layers[j].in);
            vits_conv_fini(&coupling->layers[j].res);
            vits_conv_fini(&coupling->layers[j].skip);
        }
        free(coupling->layers);
        vits_conv_fini(&coupling->pre);
        vits_conv_fini(&coupling->post);
        vits_conv_fini(&coupling->cond);
    }
    free(flow->couplings);
    memset(flow, 0, sizeof(*flow));
}

/* A coupling under way. */
struct coupling_state {
    float *speaker;          /* (2 hidden n_layers) what the speaker adds */
    struct vits_strip *h;    /* (n_layers) what enters each layer */
    struct vits_strip *skip; /* (n_layers) the skips of all layers up to this one */
};

struct vits_flow_stream {
    struct compute *compute;
    const struct vits_flow *flow;
    struct coupling_state *couplings; /* (n_couplings) */
    struct vits_strip *z;          /* (n_couplings + 1) what enters each; the last is the result */
    struct vits_plane both, gated; /* of one layer at a time */
};

static int start_coupling(const struct vits_coupling *coupling, const float *speaker,
                          struct coupling_state *out)
{
    int err = 0;

    out->speaker = calloc(2 * coupling->hidden * coupling->n_layers, sizeof(float));
    out->h = calloc(coupling->n_layers, sizeof(*out->h));
    out->skip = calloc(coupling->n_layers, sizeof(*out->skip));
    if (!out->speaker || !out->h || !out->skip)
        return -ENOMEM;
    if (coupling->cond.w)
        vits_conv_vector(&coupling->cond, speaker, out->speaker);
    for (size_t i = 0; !err && i < coupling->n_layers; i++) {
        err =
            vits_strip_init(&out->h[i], coupling->hidden, vits_conv_halo(&coupling->layers[i].in));
        if (!err)
            err = vits_strip_init(&out->skip[i], coupling->hidden, 0);
    }
    return err;
}

int vits_flow_stream_create(struct compute *compute, const struct vits_flow *flow,
                            const float *speaker, struct vits_flow_stream **out)
{
    struct vits_flow_stream *stream = calloc(1, sizeof(*stream));
    int err = 0;

    if (!stream)
        return -ENOMEM;
    stream->compute = compute;
    stream->flow = flow;
    stream->couplings = calloc(flow->n_couplings + 1, sizeof(*stream->couplings));
    stream->z = calloc(flow->n_couplings + 1, sizeof(*stream->z));
    if (!stream->couplings || !stream->z)
        err = -ENOMEM;
    for (size_t i = 0; !err && i < flow->n_couplings; i++)
        err = start_coupling(&flow->couplings[i], speaker, &stream->couplings[i]);
    for (size_t i = 0; !err && i <= flow->n_couplings; i++)
        err = vits_strip_init(&stream->z[i], flow->latent, 0);
    if (!err) {
        *out = stream;
        stream = NULL; /* the caller's now */
    }
    vits_flow_stream_destroy(&stream);
    return err;
}

void vits_flow_stream_destroy(struct vits_flow_stream **stream)
{
    struct vits_flow_stream *self = *stream;

    if (!self)
        return;
    for (size_t i = 0; self->couplings && i < self->flow->n_couplings; i++) {
        struct coupling_state *state = &self->couplings[i];

        for (size_t j = 0; j < self->flow->couplings[i].n_layers; j++) {
            if (state->h)
                vits_strip_fini(&state->h[j]);
            if (state->skip)
                vits_strip_fini(&state->skip[j]);
        }
        free(state->h);
        free(state->skip);
        free(state->speaker);
    }
    for (size_t i = 0; self->z && i <= self->flow->n_couplings; i++)
        vits_strip_fini(&self->z[i]);
    free(self->couplings);
    free(self->z);
    vits_plane_fini(&self->both);
    vits_plane_fini(&self->gated);
    free(self);
    *stream = NULL;
}

/* At least (c, n). */
static int widen(struct vits_plane *plane, size_t c, size_t n)
{
    if (plane->c >= c && plane->n >= n)
        return 0;
    vits_plane_fini(plane);
    return vits_plane_init(plane, c, n, 0);
}

/* Row c of a strip, at a column. */
static float *at(const struct vits_strip *strip, size_t c, int64_t column)
{
    return vits_strip_at(strip, column) + c * strip->ld;
}

/* The half that stays, into the first layer. */
static int enter(struct vits_flow_stream *stream, const struct vits_coupling *coupling,
                 struct vits_strip *h, const struct vits_strip *z, bool last)
{
    int64_t from = h->end;
    size_t n = (size_t)(z->end - from);
    struct vits_epilogue to = {0};

    if (vits_strip_grow(h, n) < 0)
        return -ENOMEM;
    to.out = vits_strip_at(h, from);
    to.out_ld = h->ld;
    vits_conv_run(stream->compute, &coupling->pre, vits_strip_at(z, from), z->ld, n, &to);
    return last ? vits_strip_finish(h) : 0;
}

/* gated = tanh * sigmoid of the two halves of a convolution, columns [from, from + n). */
static int gate(struct vits_flow_stream *stream, const struct vits_conv *in,
                const struct vits_strip *h, const float *speaker, int64_t from, size_t n)
{
    size_t hidden = in->c_out / 2;
    struct vits_epilogue to = {.row = speaker};

    if (widen(&stream->both, 2 * hidden, n) < 0 || widen(&stream->gated, hidden, n) < 0)
        return -ENOMEM;
    to.out = stream->both.data;
    to.out_ld = stream->both.ld;
    vits_conv_run(stream->compute, in, at(h, 0, from - (int64_t)vits_conv_halo(in)), h->ld, n, &to);
    for (size_t c = 0; c < hidden; c++)
        in->kernels->gate(vits_plane_row(&stream->both, c),
                          vits_plane_row(&stream->both, hidden + c), n,
                          vits_plane_row(&stream->gated, c));
    return 0;
}

/* One layer, as far as what enters it suffices. */
static int run_layer(struct vits_flow_stream *stream, const struct vits_coupling *coupling,
                     struct coupling_state *state, size_t layer, bool last)
{
    const struct vits_wave_layer *convs = &coupling->layers[layer];
    struct vits_strip *h = &state->h[layer], *skip = &state->skip[layer], *next = h + 1;
    const struct vits_strip *before = layer ? skip - 1 : NULL;
    int64_t from = skip->end, limit = h->end - (int64_t)vits_conv_halo(&convs->in);
    size_t n = limit > from ? (size_t)(limit - from) : 0;
    struct vits_epilogue to = {0};
    const float *gated;

    if (vits_strip_grow(skip, n) < 0 || (convs->res.w && vits_strip_grow(next, n) < 0) ||
        gate(stream, &convs->in, h, state->speaker + 2 * coupling->hidden * layer, from, n) < 0)
        return -ENOMEM;
    gated = stream->gated.data;
    to.out = at(skip, 0, from);
    to.out_ld = skip->ld;
    to.add = before && n ? at(before, 0, from) : NULL;
    to.add_ld = before ? before->ld : 0;
    vits_conv_run(stream->compute, &convs->skip, gated, stream->gated.ld, n, &to);
    if (convs->res.w) {
        to.out = at(next, 0, from);
        to.out_ld = next->ld;
        to.add = at(h, 0, from);
        to.add_ld = h->ld;
        vits_conv_run(stream->compute, &convs->res, gated, stream->gated.ld, n, &to);
    }
    vits_strip_drop(h, limit - (int64_t)vits_conv_halo(&convs->in));
    if (before)
        vits_strip_drop(skip - 1, skip->end);
    return last && convs->res.w ? vits_strip_finish(next) : 0;
}

/* What leaves a coupling: one half as it came, the other shifted; the channels turned round unless
 * it is the last. */
static int leave(struct vits_flow_stream *stream, size_t index)
{
    const struct vits_coupling *coupling = &stream->flow->couplings[index];
    struct vits_strip *skip = &stream->couplings[index].skip[coupling->n_layers - 1];
    struct vits_strip *z = &stream->z[index], *next = z + 1;
    size_t latent = stream->flow->latent, half = latent / 2;
    int64_t from = next->end;
    size_t n = (size_t)(skip->end - from);
    bool final = index + 1 == stream->flow->n_couplings;
    struct vits_epilogue to = {0};

    if (vits_strip_grow(next, n) < 0 || widen(&stream->both, half, n) < 0)
        return -ENOMEM;
    to.out = stream->both.data;
    to.out_ld = stream->both.ld;
    vits_conv_run(stream->compute, &coupling->post, at(skip, 0, from), skip->ld, n, &to);
    for (size_t c = 0; c < latent; c++) {
        const float *in = at(z, c, from);
        const float *mean = c < half ? NULL : vits_plane_row(&stream->both, c - half);
        float *out = at(next, final ? c : latent - 1 - c, from);

        for (size_t t = 0; t < n; t++)
            out[t] = mean ? in[t] - mean[t] : in[t];
    }
    vits_strip_drop(skip, skip->end);
    vits_strip_drop(z, next->end);
    return 0;
}

static int run_coupling(struct vits_flow_stream *stream, size_t index, bool last)
{
    const struct vits_coupling *coupling = &stream->flow->couplings[index];
    struct coupling_state *state = &stream->couplings[index];
    int err = enter(stream, coupling, &state->h[0], &stream->z[index], last);

    for (size_t i = 0; !err && i < coupling->n_layers; i++)
        err = run_layer(stream, coupling, state, i, last);
    return err ? err : leave(stream, index);
}

int vits_flow_stream_push(struct vits_flow_stream *stream, const float *z, size_t ld, size_t n,
                          bool last, const float **made, size_t *made_ld, size_t *n_made)
{
    struct vits_strip *in = &stream->z[0], *out = &stream->z[stream->flow->n_couplings];
    size_t latent = stream->flow->latent;
    int64_t from = in->end;
    int err = 0;

    vits_strip_drop(out, in == out ? from : out->end); /* what was borrowed */
    if (vits_strip_grow(in, n) < 0)
        return -ENOMEM;
    for (size_t c = 0; c < latent; c++)
        memcpy(at(in, in == out ? c : latent - 1 - c, from), z + c * ld, n * sizeof(float));
    for (size_t i = 0; !err && i < stream->flow->n_couplings; i++)
        err = run_coupling(stream, i, last);
    *made = at(out, 0, out->needed);
    *made_ld = out->ld;
    *n_made = (size_t)(out->end - out->needed);
    return err;
}
