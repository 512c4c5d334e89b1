#include "asr/whisper/encoder.h"

#include "asr/engine.h"
#include "compute/ops.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5F
#define FFN_ROWS 250 /* hidden rows at a time, so that they stay in cache */

int encoder_buffers_create(const struct whisper_weights *weights, struct encoder_buffers *out)
{
    size_t t = weights->n_audio, c = weights->n_state;
    struct encoder_buffers b = {
        .x = compute_alloc(t * c * sizeof(float)),
        .normed = compute_alloc(t * c * sizeof(float)),
        .wide = compute_alloc(t * c * 3 * sizeof(float)),
        .mixed = compute_alloc(t * c * sizeof(float)),
        .hidden = compute_alloc(FFN_ROWS * weights->n_ffn * sizeof(float)),
        .scratch = compute_alloc(LINEAR_SCRATCH * sizeof(float)),
    };

    *out = b;
    if (b.x && b.normed && b.wide && b.mixed && b.hidden && b.scratch)
        return 0;
    encoder_buffers_free(out);
    return -ENOMEM;
}

void encoder_buffers_free(struct encoder_buffers *b)
{
    free(b->x);
    free(b->normed);
    free(b->wide);
    free(b->mixed);
    free(b->hidden);
    free(b->scratch);
    memset(b, 0, sizeof(*b));
}

/* Two convolutions, the second of stride 2: (n_mels, 2 T) to (C, T), then turned to (T, C). */
static int convolve(const struct whisper_weights *w, struct compute *c, const float *feats,
                    struct encoder_buffers *b)
{
    size_t t = w->n_audio, n = w->n_state;
    struct compute_conv1d first = {.c_in = w->n_mels,
                                   .c_out = n,
                                   .kernel = 3,
                                   .stride = 1,
                                   .dilation = 1,
                                   .pad_left = 1,
                                   .pad_right = 1,
                                   .groups = 1,
                                   .w = w->conv1,
                                   .bias = w->conv1_bias};
    struct compute_conv1d second = {.c_in = n,
                                    .c_out = n,
                                    .kernel = 3,
                                    .stride = 2,
                                    .dilation = 1,
                                    .pad_left = 1,
                                    .pad_right = 1,
                                    .groups = 1,
                                    .w = w->conv2,
                                    .bias = w->conv2_bias};
    int err = compute_conv1d(c, &first, feats, 2 * t, b->wide);

    if (err < 0)
        return err;
    compute_gelu(b->wide, n * 2 * t);
    err = compute_conv1d(c, &second, b->wide, 2 * t, b->mixed);
    if (err < 0)
        return err;
    compute_gelu(b->mixed, n * t);
    for (size_t i = 0; i < t; i++)
        for (size_t j = 0; j < n; j++)
            b->x[i * n + j] = b->mixed[j * t + i] + w->encoder_positions[i * n + j];
    return 0;
}

static int attend(const struct whisper_weights *w, struct compute *c,
                  const struct encoder_layer *layer, struct encoder_buffers *b)
{
    size_t t = w->n_audio, n = w->n_state, d = n / w->encoder_heads;
    int err;

    compute_layer_norm(c, b->x, t, n, layer->attention_norm.scale, layer->attention_norm.bias,
                       EPSILON, b->normed);
    linear_many(&layer->qkv, c, b->normed, t, 0, b->wide, b->scratch);
    err = compute_attention(c, b->wide, 3 * n, t, b->wide + n, b->wide + 2 * n, 3 * n, t,
                            w->encoder_heads, d, 1 / sqrtf((float)d), NULL, b->mixed);
    if (err == 0)
        linear_many(&layer->out, c, b->mixed, t, 1, b->x, b->scratch);
    return err;
}

static int feed_forward(const struct whisper_weights *w, struct compute *c,
                        const struct encoder_layer *layer, const volatile int *cancel,
                        struct encoder_buffers *b)
{
    size_t t = w->n_audio, n = w->n_state;

    compute_layer_norm(c, b->x, t, n, layer->ffn_norm.scale, layer->ffn_norm.bias, EPSILON,
                       b->normed);
    for (size_t at = 0; at < t; at += FFN_ROWS) {
        size_t rows = t - at < FFN_ROWS ? t - at : FFN_ROWS;

        if (asr_cancelled(cancel))
            return -ECANCELED;
        linear_many(&layer->up, c, b->normed + at * n, rows, 0, b->hidden, b->scratch);
        compute_gelu(b->hidden, rows * w->n_ffn);
        linear_many(&layer->down, c, b->hidden, rows, 1, b->x + at * n, b->scratch);
    }
    return 0;
}

int encoder_run(const struct whisper_weights *w, struct compute *c, const float *feats,
                const volatile int *cancel, struct encoder_buffers *b)
{
    int err = convolve(w, c, feats, b);

    for (size_t i = 0; i < w->n_encoder_layers && err == 0; i++) {
        if (asr_cancelled(cancel))
            return -ECANCELED;
        err = attend(w, c, &w->encoder[i], b);
        if (err == 0)
            err = feed_forward(w, c, &w->encoder[i], cancel, b);
    }
    if (err == 0)
        compute_layer_norm(c, b->x, w->n_audio, w->n_state, w->encoder_norm.scale,
                           w->encoder_norm.bias, EPSILON, b->x);
    return err;
}
