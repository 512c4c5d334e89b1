#include "tts/vits/duration.h"

#include "tts/cancel.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAIL 5.0f
#define BIN_MIN 1e-3f        /* of a bin's width and height, as a share of the whole */
#define DERIVATIVE_MIN 1e-3f /* at a knot */
#define LAYERS_MAX 16
#define FLOWS_MAX 16

static int load_depthwise(struct vits_loader *loader, const char *module, size_t hidden,
                          struct vits_separable_layer *out)
{
    struct onnx_conv conv;
    size_t halo;

    if (onnx_conv_find(loader->onnx, module, &conv) < 0 || conv.groups != hidden ||
        conv.transposed || conv.stride != 1 || conv.weight->shape[0] != hidden ||
        conv.weight->shape[1] != 1 || conv.weight->shape[2] % 2 != 1 ||
        conv.weight->shape[2] > 64 || !conv.bias || conv.bias->count != hidden)
        return vits_refuse(loader, "'%s' is no depthwise convolution of %zu channels", module,
                           hidden);
    out->taps = conv.weight->shape[2];
    out->dilation = conv.dilation;
    halo = (out->taps - 1) / 2 * out->dilation;
    if (conv.pad_left != halo || conv.pad_right != halo)
        return vits_refuse(loader, "'%s' is not centred", module);
    out->depthwise = malloc(conv.weight->count * sizeof(float));
    out->depthwise_bias = malloc(hidden * sizeof(float));
    if (!out->depthwise || !out->depthwise_bias)
        return -ENOMEM;
    memcpy(out->depthwise, conv.weight->data, conv.weight->count * sizeof(float));
    memcpy(out->depthwise_bias, conv.bias->data, hidden * sizeof(float));
    return 0;
}

static int load_separable_layer(struct vits_loader *loader, const char *prefix, size_t layer,
                                size_t hidden, struct vits_separable_layer *out)
{
    char name[128];
    int err;

    snprintf(name, sizeof(name), "%s.convs_sep.%zu", prefix, layer);
    err = load_depthwise(loader, name, hidden, out);
    snprintf(name, sizeof(name), "%s.convs_1x1.%zu", prefix, layer);
    if (!err)
        err = vits_load_conv(loader, name, hidden, hidden, 1, &out->pointwise);
    for (int i = 0; !err && i < 2; i++) {
        snprintf(name, sizeof(name), "%s.norms_%d.%zu.gamma", prefix, i + 1, layer);
        err = vits_load_floats(loader, name, &hidden, &out->norm_scale[i]);
        snprintf(name, sizeof(name), "%s.norms_%d.%zu.beta", prefix, i + 1, layer);
        if (!err)
            err = vits_load_floats(loader, name, &hidden, &out->norm_bias[i]);
    }
    return err;
}

static int load_separable(struct vits_loader *loader, const char *prefix, size_t hidden,
                          struct vits_separable *out)
{
    char name[128];
    int err = 0;

    out->layers = calloc(LAYERS_MAX, sizeof(*out->layers));
    if (!out->layers)
        return -ENOMEM;
    while (!err && out->n_layers < LAYERS_MAX) {
        snprintf(name, sizeof(name), "%s.convs_sep.%zu", prefix, out->n_layers);
        if (!vits_has(loader, name))
            break;
        err = load_separable_layer(loader, prefix, out->n_layers, hidden,
                                   &out->layers[out->n_layers]);
        out->n_layers++; /* even a half-built one, for fini */
    }
    return err;
}

static void separable_fini(struct vits_separable *separable)
{
    for (size_t i = 0; separable->layers && i < separable->n_layers; i++) {
        struct vits_separable_layer *layer = &separable->layers[i];

        free(layer->depthwise);
        free(layer->depthwise_bias);
        vits_conv_fini(&layer->pointwise);
        for (int j = 0; j < 2; j++) {
            free(layer->norm_scale[j]);
            free(layer->norm_bias[j]);
        }
    }
    free(separable->layers);
}

static int load_flow(struct vits_loader *loader, size_t flow, size_t hidden,
                     struct vits_spline_flow *out)
{
    char name[64];
    size_t count = hidden;
    int err;

    snprintf(name, sizeof(name), "dp.flows.%zu.pre.weight", flow);
    err = vits_load_floats(loader, name, &count, &out->pre);
    snprintf(name, sizeof(name), "dp.flows.%zu.pre.bias", flow);
    if (!err)
        err = vits_load_floats(loader, name, &count, &out->pre_bias);
    snprintf(name, sizeof(name), "dp.flows.%zu.convs", flow);
    if (!err)
        err = load_separable(loader, name, hidden, &out->convs);
    snprintf(name, sizeof(name), "dp.flows.%zu.proj", flow);
    if (!err)
        err = vits_load_conv(loader, name, 0, hidden, 1, &out->proj);
    if (!err && ((out->proj.c_out + 1) % 3 != 0 || out->proj.c_out < 5 ||
                 (out->proj.c_out + 1) / 3 > VITS_SPLINE_BINS_MAX))
        err = vits_refuse(loader, "'%s' has %zu outputs: no spline", name, out->proj.c_out);
    return err;
}

/* Trained as affine, flow 1, flip, flow 3, flip, ...; run backwards, without flow 1 (the paper's
 * authors drop "a useless vflow"), so 7, 5, 3 with a flip before each. */
static int load_flows(struct vits_loader *loader, struct vits_duration *out)
{
    char name[64];
    size_t last = 1;
    int err = 0;

    for (size_t i = 3; i < 2 * FLOWS_MAX; i += 2) {
        snprintf(name, sizeof(name), "dp.flows.%zu.proj", i);
        if (vits_has(loader, name))
            last = i;
    }
    out->flows = calloc(FLOWS_MAX, sizeof(*out->flows));
    if (!out->flows)
        return -ENOMEM;
    for (size_t i = last; !err && i >= 3; i -= 2)
        err = load_flow(loader, i, out->hidden, &out->flows[out->n_flows++]);
    if (!err && out->n_flows == 0)
        err = vits_refuse(loader, "no stochastic duration predictor (dp.flows)");
    out->bins = err ? 0 : (out->flows[0].proj.c_out + 1) / 3;
    for (size_t i = 1; !err && i < out->n_flows; i++)
        if (out->flows[i].proj.c_out != out->flows[0].proj.c_out)
            err = vits_refuse(loader, "the duration predictor's splines differ in size");
    return err;
}

/* One operation on a constant pair, or the pair itself. @return 0; -ENOENT when it is no such thing */
static int evaluate(const struct onnx *onnx, const char *name, int depth, float out[2])
{
    const struct weights_tensor *tensor = weights_find(&onnx->weights, name);
    const struct onnx_node *node = tensor ? NULL : onnx_producer(onnx, name);
    bool exponential = node && !strcmp(node->op, "Exp"),
         negative = node && !strcmp(node->op, "Neg");

    if (tensor && tensor->type == WEIGHTS_F32 && tensor->count == 2) {
        memcpy(out, tensor->data, 2 * sizeof(*out));
        return 0;
    }
    if ((!exponential && !negative) || node->n_inputs != 1 || depth == 0 ||
        evaluate(onnx, node->inputs[0], depth - 1, out) < 0)
        return -ENOENT;
    for (int i = 0; i < 2; i++)
        out[i] = exponential ? expf(out[i]) : -out[i];
    return 0;
}

/* z = (z - m) * exp(-logs); exporters fold none, one or both steps of the factor. */
static int load_affine(struct vits_loader *loader, struct vits_duration *out)
{
    const struct onnx *onnx = loader->onnx;
    const struct onnx_node *sub = onnx_consumer(onnx, "Sub", 1, "dp.flows.0.m"), *mul = NULL;

    for (size_t at = 0; !mul && sub && sub->n_outputs > 0 && at < 2; at++)
        mul = onnx_consumer(onnx, "Mul", at, sub->outputs[0]);
    if (!mul || mul->n_inputs != 2 || evaluate(onnx, "dp.flows.0.m", 0, out->shift) < 0 ||
        evaluate(onnx, mul->inputs[!strcmp(mul->inputs[0], sub->outputs[0])], 2, out->factor) < 0)
        return vits_refuse(loader, "no elementwise flow (dp.flows.0)");
    return 0;
}

int vits_duration_load(struct vits_loader *loader, size_t c_in, size_t speaker_channels,
                       struct vits_duration *out)
{
    int err = vits_load_conv(loader, "dp.pre", 0, c_in, 1, &out->pre);

    out->hidden = out->pre.c_out;
    if (!err)
        err = vits_load_conv(loader, "dp.proj", out->hidden, out->hidden, 1, &out->proj);
    if (!err && speaker_channels)
        err = vits_load_conv(loader, "dp.cond", out->hidden, speaker_channels, 1, &out->cond);
    if (!err)
        err = load_separable(loader, "dp.convs", out->hidden, &out->convs);
    if (!err)
        err = load_flows(loader, out);
    return err ? err : load_affine(loader, out);
}

void vits_duration_fini(struct vits_duration *duration)
{
    vits_conv_fini(&duration->pre);
    vits_conv_fini(&duration->proj);
    vits_conv_fini(&duration->cond);
    separable_fini(&duration->convs);
    for (size_t i = 0; duration->flows && i < duration->n_flows; i++) {
        free(duration->flows[i].pre);
        free(duration->flows[i].pre_bias);
        separable_fini(&duration->flows[i].convs);
        vits_conv_fini(&duration->flows[i].proj);
    }
    free(duration->flows);
    memset(duration, 0, sizeof(*duration));
}

static void softmax_bins(const float *p, size_t step, size_t bins, float scale, float *share)
{
    float most = p[0], sum = 0.0f;

    for (size_t i = 1; i < bins; i++)
        most = p[i * step] > most ? p[i * step] : most;
    for (size_t i = 0; i < bins; i++)
        sum += share[i] = expf((p[i * step] - most) * scale);
    for (size_t i = 0; i < bins; i++)
        share[i] = BIN_MIN + (1.0f - BIN_MIN * (float)bins) * (share[i] / sum);
}

/* Where the bins begin and end: bins + 1 knots from -TAIL to TAIL. */
static void knots_of(const float *p, size_t step, size_t bins, float scale, float *knots)
{
    float share[VITS_SPLINE_BINS_MAX], sum = 0.0f;

    softmax_bins(p, step, bins, scale, share);
    knots[0] = -TAIL;
    for (size_t i = 0; i < bins; i++) {
        sum += share[i];
        knots[i + 1] = 2.0f * TAIL * sum - TAIL;
    }
    knots[bins] = TAIL;
}

/* Outside the outer knots the tails are lines of slope 1. */
static float derivative_at(const float *p, size_t step, size_t bins, size_t knot)
{
    float x;

    if (knot == 0 || knot == bins)
        return 1.0f;
    x = p[(knot - 1) * step];
    return DERIVATIVE_MIN + (x > 20.0f ? x : log1pf(expf(x)));
}

float vits_spline_inverse(float y, const float *p, size_t step, size_t bins, float scale)
{
    float x_knots[VITS_SPLINE_BINS_MAX + 1], y_knots[VITS_SPLINE_BINS_MAX + 1];
    float width, height, slope, d0, d1, rise, bend, a, b, c, root;
    size_t bin = 0;

    if (!(y >= -TAIL && y <= TAIL))
        return y;
    knots_of(p, step, bins, scale, x_knots);
    knots_of(p + bins * step, step, bins, scale, y_knots);
    while (bin + 1 < bins && y >= y_knots[bin + 1])
        bin++;
    width = x_knots[bin + 1] - x_knots[bin];
    height = y_knots[bin + 1] - y_knots[bin];
    slope = height / width;
    d0 = derivative_at(p + 2 * bins * step, step, bins, bin);
    d1 = derivative_at(p + 2 * bins * step, step, bins, bin + 1);

    /* Equations 6 to 8 of the paper's appendix, solved for the position in the bin. */
    rise = y - y_knots[bin];
    bend = d0 + d1 - 2.0f * slope;
    a = rise * bend + height * (slope - d0);
    b = height * d0 - rise * bend;
    c = -slope * rise;
    root = 2.0f * c / (-b - sqrtf(fmaxf(b * b - 4.0f * a * c, 0.0f)));
    return root * width + x_knots[bin];
}

static void depthwise(const struct vits_separable_layer *layer, const struct vits_plane *x,
                      struct vits_plane *y)
{
    ptrdiff_t halo = (ptrdiff_t)((layer->taps - 1) / 2 * layer->dilation), n = (ptrdiff_t)x->n;

    for (size_t c = 0; c < x->c; c++) {
        const float *in = vits_plane_row(x, c), *w = layer->depthwise + c * layer->taps;
        float *out = vits_plane_row(y, c);

        for (ptrdiff_t t = 0; t < n; t++)
            out[t] = layer->depthwise_bias[c];
        for (size_t k = 0; k < layer->taps; k++) {
            ptrdiff_t shift = (ptrdiff_t)(k * layer->dilation) - halo;
            ptrdiff_t begin = shift < 0 ? -shift : 0, end = shift > 0 ? n - shift : n;

            for (ptrdiff_t t = begin; t < end; t++)
                out[t] += w[k] * in[t + shift];
        }
    }
}

/* x (hidden, n) in place; y and z hold as much. */
static void separable_run(struct compute *compute, const struct vits_separable *separable,
                          struct vits_plane *x, struct vits_plane *y, struct vits_plane *z)
{
    for (size_t i = 0; i < separable->n_layers; i++) {
        const struct vits_separable_layer *layer = &separable->layers[i];
        const struct vits_kernels *kernels = layer->pointwise.kernels;
        struct vits_epilogue to = {.out = z->data, .out_ld = z->ld};

        depthwise(layer, x, y);
        kernels->layer_norm(y->data, y->ld, y->c, y->n, layer->norm_scale[0], layer->norm_bias[0]);
        for (size_t c = 0; c < y->c; c++)
            kernels->gelu(vits_plane_row(y, c), y->n);
        vits_conv_run(compute, &layer->pointwise, y->data, y->ld, y->n, &to);
        kernels->layer_norm(z->data, z->ld, z->c, z->n, layer->norm_scale[1], layer->norm_bias[1]);
        for (size_t c = 0; c < z->c; c++) {
            float *in = vits_plane_row(z, c), *out = vits_plane_row(x, c);

            kernels->gelu(in, z->n);
            for (size_t t = 0; t < z->n; t++)
                out[t] += in[t];
        }
    }
}

struct scratch {
    struct vits_plane condition, h, y, z, params;
    float *speaker; /* (hidden) what the speaker adds, zeros without one */
};

static void scratch_fini(struct scratch *s)
{
    vits_plane_fini(&s->condition);
    vits_plane_fini(&s->h);
    vits_plane_fini(&s->y);
    vits_plane_fini(&s->z);
    vits_plane_fini(&s->params);
    free(s->speaker);
}

static int scratch_init(struct scratch *s, const struct vits_duration *duration, size_t n)
{
    memset(s, 0, sizeof(*s));
    s->speaker = calloc(duration->hidden, sizeof(float));
    if (!s->speaker || vits_plane_init(&s->condition, duration->hidden, n, 0) < 0 ||
        vits_plane_init(&s->h, duration->hidden, n, 0) < 0 ||
        vits_plane_init(&s->y, duration->hidden, n, 0) < 0 ||
        vits_plane_init(&s->z, duration->hidden, n, 0) < 0 ||
        vits_plane_init(&s->params, 3 * duration->bins - 1, n, 0) < 0)
        return -ENOMEM;
    return 0;
}

/* What every flow is conditioned on: s->condition (hidden, n). */
static void prepare(struct compute *compute, const struct vits_duration *duration,
                    const struct vits_plane *x, const float *speaker, struct scratch *s)
{
    struct vits_epilogue to = {.out = s->h.data, .out_ld = s->h.ld, .row = s->speaker};
    struct vits_epilogue done = {.out = s->condition.data, .out_ld = s->condition.ld};

    if (duration->cond.w)
        vits_conv_vector(&duration->cond, speaker, s->speaker);
    vits_conv_run(compute, &duration->pre, x->data, x->ld, x->n, &to);
    separable_run(compute, &duration->convs, &s->h, &s->y, &s->z);
    vits_conv_run(compute, &duration->proj, s->h.data, s->h.ld, x->n, &done);
}

/* The first half conditions the second's spline. */
static void flow_run(struct compute *compute, const struct vits_duration *duration,
                     const struct vits_spline_flow *flow, struct scratch *s, const float *z0,
                     float *z1)
{
    struct vits_epilogue to = {.out = s->params.data, .out_ld = s->params.ld};
    float scale = 1.0f / sqrtf((float)duration->hidden);
    size_t n = s->h.n;

    for (size_t c = 0; c < duration->hidden; c++) {
        const float *condition = vits_plane_row(&s->condition, c);
        float *h = vits_plane_row(&s->h, c);

        for (size_t t = 0; t < n; t++)
            h[t] = z0[t] * flow->pre[c] + flow->pre_bias[c] + condition[t];
    }
    separable_run(compute, &flow->convs, &s->h, &s->y, &s->z);
    vits_conv_run(compute, &flow->proj, s->h.data, s->h.ld, n, &to);
    for (size_t t = 0; t < n; t++)
        z1[t] = vits_spline_inverse(z1[t], s->params.data + t, s->params.ld, duration->bins, scale);
}

int vits_duration_run(struct compute *compute, const struct vits_duration *duration,
                      const struct vits_plane *x, const float *speaker, const volatile int *cancel,
                      float *z, float *log_w)
{
    struct scratch scratch;
    float *z0 = z, *z1 = z + x->n;
    int err = scratch_init(&scratch, duration, x->n);

    if (!err)
        prepare(compute, duration, x, speaker, &scratch);
    for (size_t i = 0; !err && i < duration->n_flows; i++) {
        float *flipped = z0;

        z0 = z1;
        z1 = flipped;
        flow_run(compute, duration, &duration->flows[i], &scratch, z0, z1);
        if (tts_cancelled(cancel))
            err = -ECANCELED;
    }
    /* One more flip stands before the elementwise flow; its first channel is the answer. */
    for (size_t t = 0; !err && t < x->n; t++)
        log_w[t] = (z1[t] - duration->shift[0]) * duration->factor[0];
    scratch_fini(&scratch);
    return err;
}
