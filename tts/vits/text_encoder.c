#include "tts/vits/text_encoder.h"

#include "compute/ops.h"
#include "tts/cancel.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 64

static int load_embedding(struct vits_loader *loader, struct vits_text_encoder *encoder)
{
    const struct onnx_node *gather = onnx_module_node(loader->onnx, "enc_p.emb", "Gather");
    const struct weights_tensor *tensor = weights_find(&loader->onnx->weights, "enc_p.emb.weight");
    size_t count = 0;

    /* Exporters that fold names away leave the table as the first input of what looks ids up. */
    if (!gather)
        gather = onnx_consumer(loader->onnx, "Gather", 1, "input");
    if (!tensor && gather && gather->n_inputs > 0)
        tensor = weights_find(&loader->onnx->weights, gather->inputs[0]);
    if (!tensor || tensor->rank != 2)
        return vits_refuse(loader, "no table of phonemes (enc_p.emb)");
    encoder->n_symbols = tensor->shape[0];
    encoder->hidden = tensor->shape[1];
    return vits_load_floats(loader, tensor->name, &count, &encoder->embedding);
}

static int load_relative(struct vits_loader *loader, size_t layer,
                         struct vits_text_encoder *encoder, struct vits_text_layer *out)
{
    const struct weights_tensor *tensor;
    size_t count;
    char name[128];
    int err;

    snprintf(name, sizeof(name), "enc_p.encoder.attn_layers.%zu.emb_rel_k", layer);
    tensor = weights_find(&loader->onnx->weights, name);
    if (!tensor || tensor->rank != 3 || tensor->shape[0] != 1 || tensor->shape[1] % 2 != 1 ||
        tensor->shape[2] == 0 || encoder->hidden % tensor->shape[2] != 0)
        return vits_refuse(loader, "no relative positions '%s' that fit %zu channels", name,
                           encoder->hidden);
    encoder->window = tensor->shape[1] / 2;
    encoder->head = tensor->shape[2];
    count = tensor->shape[1] * tensor->shape[2];
    err = vits_load_floats(loader, name, &count, &out->rel_k);
    snprintf(name, sizeof(name), "enc_p.encoder.attn_layers.%zu.emb_rel_v", layer);
    return err < 0 ? err : vits_load_floats(loader, name, &count, &out->rel_v);
}

static int load_norms(struct vits_loader *loader, size_t layer, size_t hidden,
                      struct vits_text_layer *out)
{
    char name[128];
    int err = 0;

    for (int i = 0; !err && i < 2; i++) {
        snprintf(name, sizeof(name), "enc_p.encoder.norm_layers_%d.%zu.gamma", i + 1, layer);
        err = vits_load_floats(loader, name, &hidden, &out->norm_scale[i]);
        snprintf(name, sizeof(name), "enc_p.encoder.norm_layers_%d.%zu.beta", i + 1, layer);
        if (!err)
            err = vits_load_floats(loader, name, &hidden, &out->norm_bias[i]);
    }
    return err;
}

static int load_layer(struct vits_loader *loader, size_t layer, struct vits_text_encoder *encoder,
                      struct vits_text_layer *out)
{
    static const char *const names[] = {"conv_q", "conv_k", "conv_v", "conv_o"};
    struct vits_conv *convs[] = {&out->q, &out->k, &out->v, &out->o};
    size_t hidden = encoder->hidden;
    char name[128];
    int err = 0;

    for (int i = 0; !err && i < 4; i++) {
        snprintf(name, sizeof(name), "enc_p.encoder.attn_layers.%zu.%s", layer, names[i]);
        err = vits_load_conv(loader, name, hidden, hidden, 1, convs[i]);
    }
    snprintf(name, sizeof(name), "enc_p.encoder.ffn_layers.%zu.conv_1", layer);
    if (!err)
        err = vits_load_conv(loader, name, 0, hidden, 0, &out->widen);
    snprintf(name, sizeof(name), "enc_p.encoder.ffn_layers.%zu.conv_2", layer);
    if (!err)
        err = vits_load_conv(loader, name, hidden, out->widen.c_out, 0, &out->narrow);
    if (!err)
        err = load_relative(loader, layer, encoder, out);
    return err ? err : load_norms(loader, layer, hidden, out);
}

static size_t count_layers(const struct vits_loader *loader)
{
    char name[128];

    for (size_t i = 0; i < LAYERS_MAX; i++) {
        snprintf(name, sizeof(name), "enc_p.encoder.attn_layers.%zu.conv_q", i);
        if (!vits_has(loader, name))
            return i;
    }
    return LAYERS_MAX;
}

int vits_text_encoder_load(struct vits_loader *loader, struct vits_text_encoder *out)
{
    int err = load_embedding(loader, out);

    if (err < 0)
        return err;
    out->n_layers = count_layers(loader);
    out->layers = calloc(out->n_layers + 1, sizeof(*out->layers));
    if (!out->layers)
        return -ENOMEM;
    for (size_t i = 0; !err && i < out->n_layers; i++)
        err = load_layer(loader, i, out, &out->layers[i]);
    if (!err)
        err = vits_load_conv(loader, "enc_p.proj", 0, out->hidden, 1, &out->proj);
    if (!err && out->proj.c_out % 2)
        err = vits_refuse(loader, "'enc_p.proj' has %zu outputs: not even", out->proj.c_out);
    out->latent = out->proj.c_out / 2;
    return err;
}

void vits_text_encoder_fini(struct vits_text_encoder *encoder)
{
    for (size_t i = 0; encoder->layers && i < encoder->n_layers; i++) {
        struct vits_text_layer *layer = &encoder->layers[i];
        struct vits_conv *convs[] = {&layer->q, &layer->k,     &layer->v,
                                     &layer->o, &layer->widen, &layer->narrow};

        for (size_t j = 0; j < sizeof(convs) / sizeof(*convs); j++)
            vits_conv_fini(convs[j]);
        for (int j = 0; j < 2; j++) {
            free(layer->norm_scale[j]);
            free(layer->norm_bias[j]);
        }
        free(layer->rel_k);
        free(layer->rel_v);
    }
    free(encoder->layers);
    free(encoder->embedding);
    vits_conv_fini(&encoder->proj);
    memset(encoder, 0, sizeof(*encoder));
}

/* What one pass needs besides its results. */
struct scratch {
    struct vits_plane q, k, v, mixed, wide;
    float *scores; /* (n, n) of one head */
};

static void scratch_fini(struct scratch *scratch)
{
    vits_plane_fini(&scratch->q);
    vits_plane_fini(&scratch->k);
    vits_plane_fini(&scratch->v);
    vits_plane_fini(&scratch->mixed);
    vits_plane_fini(&scratch->wide);
    free(scratch->scores);
}

static int scratch_init(struct scratch *scratch, const struct vits_text_encoder *encoder, size_t n)
{
    size_t hidden = encoder->hidden, wide = hidden, taps = 1;

    memset(scratch, 0, sizeof(*scratch));
    for (size_t i = 0; i < encoder->n_layers; i++) {
        const struct vits_text_layer *layer = &encoder->layers[i];

        wide = layer->widen.c_out > wide ? layer->widen.c_out : wide;
        taps = layer->narrow.taps > taps ? layer->narrow.taps : taps;
    }
    scratch->scores = compute_alloc((n * n + 1) * sizeof(float));
    if (!scratch->scores || vits_plane_init(&scratch->q, hidden, n, 0) < 0 ||
        vits_plane_init(&scratch->k, hidden, n, 0) < 0 ||
        vits_plane_init(&scratch->v, hidden, n, 0) < 0 ||
        vits_plane_init(&scratch->mixed, hidden, n, 0) < 0 ||
        vits_plane_init(&scratch->wide, wide, n, taps) < 0)
        return -ENOMEM;
    return 0;
}

/* Columns of the scores whose key is `offset` - window away from the query of row i. */
static bool within(size_t i, size_t offset, size_t window, size_t n, size_t *key)
{
    if (i + offset < window || i + offset - window >= n)
        return false;
    *key = i + offset - window;
    return true;
}

/* scores (n, n) of a head += query * rel_k[key - query], near the diagonal. */
static void add_relative_keys(const struct vits_text_encoder *encoder, const float *rel_k,
                              const float *q, size_t ld, size_t n, float scale, float *scores)
{
    size_t head = encoder->head, window = encoder->window, key;

    for (size_t i = 0; i < n; i++) {
        for (size_t r = 0; r <= 2 * window; r++) {
            float sum = 0.0f;

            if (!within(i, r, window, n, &key))
                continue;
            for (size_t c = 0; c < head; c++)
                sum += q[c * ld + i] * rel_k[r * head + c];
            scores[i * n + key] += sum * scale;
        }
    }
}

/* out (head, n) += weight * rel_v[key - query], near the diagonal. */
static void add_relative_values(const struct vits_text_encoder *encoder, const float *rel_v,
                                const float *scores, size_t n, float *out, size_t ld)
{
    size_t head = encoder->head, window = encoder->window, key;

    for (size_t r = 0; r <= 2 * window; r++)
        for (size_t c = 0; c < head; c++)
            for (size_t i = 0; i < n; i++)
                if (within(i, r, window, n, &key))
                    out[c * ld + i] += scores[i * n + key] * rel_v[r * head + c];
}

static void attend(struct compute *compute, const struct vits_text_encoder *encoder,
                   const struct vits_text_layer *layer, struct scratch *s, size_t n)
{
    const struct vits_kernels *kernels = layer->q.kernels;
    size_t head = encoder->head, ld = s->q.ld;
    float scale = 1.0f / sqrtf((float)head);

    for (size_t c = 0; c < encoder->hidden; c += head) {
        float *q = vits_plane_row(&s->q, c), *k = vits_plane_row(&s->k, c);
        float *v = vits_plane_row(&s->v, c), *mixed = vits_plane_row(&s->mixed, c);

        compute_gemm(compute, true, false, n, n, head, scale, q, ld, k, ld, 0.0f, s->scores, n);
        add_relative_keys(encoder, layer->rel_k, q, ld, n, scale, s->scores);
        kernels->softmax(s->scores, n, n);
        compute_gemm(compute, false, true, head, n, n, 1.0f, v, ld, s->scores, n, 0.0f, mixed, ld);
        add_relative_values(encoder, layer->rel_v, s->scores, n, mixed, ld);
    }
}

static void run_layer(struct compute *compute, const struct vits_text_encoder *encoder,
                      const struct vits_text_layer *layer, struct scratch *s, struct vits_plane *x)
{
    const struct vits_kernels *kernels = layer->q.kernels;
    struct vits_epilogue to = {.out_ld = s->q.ld};
    struct vits_epilogue back = {.add = x->data, .add_ld = x->ld, .out = x->data, .out_ld = x->ld};
    struct vits_epilogue widen = {.activated = s->wide.data, .activated_ld = s->wide.ld};
    size_t n = x->n;

    to.out = s->q.data;
    vits_conv_run(compute, &layer->q, x->data, x->ld, n, &to);
    to.out = s->k.data;
    vits_conv_run(compute, &layer->k, x->data, x->ld, n, &to);
    to.out = s->v.data;
    vits_conv_run(compute, &layer->v, x->data, x->ld, n, &to);
    attend(compute, encoder, layer, s, n);
    vits_conv_run(compute, &layer->o, s->mixed.data, s->mixed.ld, n, &back);
    kernels->layer_norm(x->data, x->ld, encoder->hidden, n, layer->norm_scale[0],
                        layer->norm_bias[0]);

    vits_conv_run(compute, &layer->widen, x->data - (layer->widen.taps - 1) / 2, x->ld, n, &widen);
    vits_conv_run(compute, &layer->narrow, s->wide.data - (layer->narrow.taps - 1) / 2, s->wide.ld,
                  n, &back);
    kernels->layer_norm(x->data, x->ld, encoder->hidden, n, layer->norm_scale[1],
                        layer->norm_bias[1]);
}

static int embed(const struct vits_text_encoder *encoder, const int64_t *ids, struct vits_plane *x)
{
    float scale = sqrtf((float)encoder->hidden);

    for (size_t t = 0; t < x->n; t++) {
        const float *row;

        if (ids[t] < 0 || (uint64_t)ids[t] >= encoder->n_symbols)
            return -EINVAL;
        row = encoder->embedding + (size_t)ids[t] * encoder->hidden;
        for (size_t c = 0; c < encoder->hidden; c++)
            vits_plane_row(x, c)[t] = row[c] * scale;
    }
    return 0;
}

static size_t widest_halo(const struct vits_text_encoder *encoder)
{
    size_t taps = 1;

    for (size_t i = 0; i < encoder->n_layers; i++)
        taps = encoder->layers[i].widen.taps > taps ? encoder->layers[i].widen.taps : taps;
    return taps;
}

int vits_text_encoder_run(struct compute *compute, const struct vits_text_encoder *encoder,
                          const int64_t *ids, size_t n, const volatile int *cancel,
                          struct vits_plane *x, struct vits_plane *prior)
{
    struct scratch scratch;
    int err = scratch_init(&scratch, encoder, n);

    memset(x, 0, sizeof(*x));
    memset(prior, 0, sizeof(*prior));
    if (!err)
        err = vits_plane_init(x, encoder->hidden, n, widest_halo(encoder));
    if (!err)
        err = vits_plane_init(prior, 2 * encoder->latent, n, 0);
    if (!err)
        err = embed(encoder, ids, x);
    for (size_t i = 0; !err && i < encoder->n_layers; i++) {
        run_layer(compute, encoder, &encoder->layers[i], &scratch, x);
        if (tts_cancelled(cancel))
            err = -ECANCELED;
    }
    if (!err) {
        struct vits_epilogue to = {.out = prior->data, .out_ld = prior->ld};

        vits_conv_run(compute, &encoder->proj, x->data, x->ld, n, &to);
    } else {
        vits_plane_fini(x);
        vits_plane_fini(prior);
    }
    scratch_fini(&scratch);
    return err;
}
