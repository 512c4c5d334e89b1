#include "tts/vits/flow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 32
#define COUPLINGS_MAX 32

static int load_layers(struct vits_loader *loader, const char *prefix, struct vits_coupling *out)
{
    size_t hidden = out->hidden;
    char name[64];
    int err = 0;

    out->in = calloc(LAYERS_MAX, sizeof(*out->in));
    out->res_skip = calloc(LAYERS_MAX, sizeof(*out->res_skip));
    if (!out->in || !out->res_skip)
        return -ENOMEM;
    while (!err && out->n_layers < LAYERS_MAX) {
        size_t i = out->n_layers;

        snprintf(name, sizeof(name), "%s.enc.in_layers.%zu", prefix, i);
        if (!vits_has(loader, name))
            break;
        err = vits_load_conv(loader, name, 2 * hidden, hidden, 0, &out->in[i]);
        snprintf(name, sizeof(name), "%s.enc.res_skip_layers.%zu", prefix, i);
        if (!err)
            err = vits_load_conv(loader, name, 0, hidden, 1, &out->res_skip[i]);
        out->n_layers++; /* even a half-built one, for fini */
    }
    for (size_t i = 0; !err && i < out->n_layers; i++)
        if (out->in[i].taps % 2 != 1 ||
            out->res_skip[i].c_out != (i + 1 < out->n_layers ? 2 * hidden : hidden))
            err = vits_refuse(loader, "layer %zu of '%s' has sizes of its own", i, prefix);
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
    char name[64];
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

        for (size_t j = 0; j < coupling->n_layers; j++) {
            vits_conv_fini(&coupling->in[j]);
            vits_conv_fini(&coupling->res_skip[j]);
        }
        free(coupling->in);
        free(coupling->res_skip);
        vits_conv_fini(&coupling->pre);
        vits_conv_fini(&coupling->post);
        vits_conv_fini(&coupling->cond);
    }
    free(flow->couplings);
    memset(flow, 0, sizeof(*flow));
}

struct scratch {
    struct vits_plane h, both, gated, skip;
    float *speaker; /* (2 hidden n_layers) of the coupling that runs */
};

static void scratch_fini(struct scratch *s)
{
    vits_plane_fini(&s->h);
    vits_plane_fini(&s->both);
    vits_plane_fini(&s->gated);
    vits_plane_fini(&s->skip);
    free(s->speaker);
}

static int scratch_init(struct scratch *s, const struct vits_flow *flow, size_t n)
{
    size_t hidden = 1, halo = 0, layers = 1;

    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < flow->n_couplings; i++) {
        const struct vits_coupling *coupling = &flow->couplings[i];

        hidden = coupling->hidden > hidden ? coupling->hidden : hidden;
        layers = coupling->n_layers > layers ? coupling->n_layers : layers;
        for (size_t j = 0; j < coupling->n_layers; j++)
            if (vits_conv_halo(&coupling->in[j]) > halo)
                halo = vits_conv_halo(&coupling->in[j]);
    }
    s->speaker = calloc(2 * hidden * layers, sizeof(float));
    if (!s->speaker || vits_plane_init(&s->h, hidden, n, halo) < 0 ||
        vits_plane_init(&s->both, 2 * hidden, n, 0) < 0 ||
        vits_plane_init(&s->gated, hidden, n, 0) < 0 || vits_plane_init(&s->skip, hidden, n, 0) < 0)
        return -ENOMEM;
    return 0;
}

/* The first `hidden` outputs of a layer go back into h, the others into the sum of skips. The last
 * layer has skips alone. */
static void res_skip_run(struct compute *compute, const struct vits_coupling *coupling,
                         size_t layer, struct scratch *s, size_t n)
{
    const struct vits_conv *conv = &coupling->res_skip[layer];
    bool last = layer + 1 == coupling->n_layers;
    struct vits_epilogue to = {.out = s->skip.data, .out_ld = s->skip.ld, .accumulate = layer > 0};
    struct vits_epilogue both = {.out = s->both.data, .out_ld = s->both.ld};

    vits_conv_run(compute, conv, s->gated.data, s->gated.ld, n, last ? &to : &both);
    for (size_t c = 0; !last && c < coupling->hidden; c++) {
        const float *res = vits_plane_row(&s->both, c);
        const float *skip = vits_plane_row(&s->both, coupling->hidden + c);
        float *h = vits_plane_row(&s->h, c), *sum = vits_plane_row(&s->skip, c);

        for (size_t t = 0; t < n; t++)
            h[t] += res[t];
        for (size_t t = 0; t < n; t++)
            sum[t] = layer ? sum[t] + skip[t] : skip[t];
    }
}

static void layer_run(struct compute *compute, const struct vits_coupling *coupling, size_t layer,
                      struct scratch *s, size_t n)
{
    const struct vits_conv *in = &coupling->in[layer];
    size_t hidden = coupling->hidden;
    struct vits_epilogue to = {
        .out = s->both.data, .out_ld = s->both.ld, .row = s->speaker + 2 * hidden * layer};

    vits_conv_run(compute, in, s->h.data - vits_conv_halo(in), s->h.ld, n, &to);
    for (size_t c = 0; c < hidden; c++)
        in->kernels->gate(vits_plane_row(&s->both, c), vits_plane_row(&s->both, hidden + c), n,
                          vits_plane_row(&s->gated, c));
    res_skip_run(compute, coupling, layer, s, n);
}

static void coupling_run(struct compute *compute, const struct vits_coupling *coupling,
                         const float *speaker, struct scratch *s, struct vits_plane *z)
{
    size_t half = coupling->post.c_out, n = z->n;
    struct vits_epilogue to_h = {.out = s->h.data, .out_ld = s->h.ld};
    struct vits_epilogue mean = {.out = s->both.data, .out_ld = s->both.ld};

    if (coupling->cond.w)
        vits_conv_vector(&coupling->cond, speaker, s->speaker);
    vits_conv_run(compute, &coupling->pre, z->data, z->ld, n, &to_h);
    for (size_t i = 0; i < coupling->n_layers; i++)
        layer_run(compute, coupling, i, s, n);
    vits_conv_run(compute, &coupling->post, s->skip.data, s->skip.ld, n, &mean);
    for (size_t c = 0; c < half; c++) {
        const float *m = vits_plane_row(&s->both, c);
        float *x = vits_plane_row(z, half + c);

        for (size_t t = 0; t < n; t++)
            x[t] -= m[t];
    }
}

/* Reverse the order of the channels. */
static void flip(struct vits_plane *z)
{
    for (size_t c = 0; c < z->c / 2; c++) {
        float *a = vits_plane_row(z, c), *b = vits_plane_row(z, z->c - 1 - c);

        for (size_t t = 0; t < z->n; t++) {
            float kept = a[t];

            a[t] = b[t];
            b[t] = kept;
        }
    }
}

int vits_flow_run(struct compute *compute, const struct vits_flow *flow, const float *speaker,
                  const volatile int *cancel, struct vits_plane *z)
{
    struct scratch scratch;
    int err = scratch_init(&scratch, flow, z->n);

    for (size_t i = 0; !err && i < flow->n_couplings; i++) {
        flip(z);
        coupling_run(compute, &flow->couplings[i], speaker, &scratch, z);
        if (cancel && *cancel)
            err = -ECANCELED;
    }
    scratch_fini(&scratch);
    return err;
}
