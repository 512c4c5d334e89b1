#include "asr/whisper/decoder.h"

#include "asr/engine.h"
#include "asr/whisper/vocab.h"
#include "compute/ops.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5F
#define LOGIT_ROWS 8 /* rows of logits at a time */

int decoder_state_create(const struct whisper_weights *w, struct compute *c,
                         const struct whisper_kernels *kernels, float *scratch,
                         struct decoder_state *out)
{
    size_t n = w->n_state, layers = w->n_decoder_layers, rows = w->n_text;
    size_t wide = 3 * n > w->n_ffn ? 3 * n : w->n_ffn;
    size_t cache = layers * w->n_text * DECODER_SLOTS * n;
    struct decoder_state s = {
        .weights = w,
        .kernels = kernels,
        .compute = c,
        .cross_keys = compute_alloc(layers * n * w->n_audio * sizeof(float)),
        .cross_values = compute_alloc(layers * n * w->n_audio * sizeof(float)),
        .keys = compute_alloc(cache * sizeof(float)),
        .values = compute_alloc(cache * sizeof(float)),
        .past = calloc(DECODER_SLOTS * w->n_text, sizeof(uint32_t)),
        .past_spare = calloc(DECODER_SLOTS * w->n_text, sizeof(uint32_t)),
        .most_rows = rows,
        .x = compute_alloc(rows * n * sizeof(float)),
        .normed = compute_alloc(rows * n * sizeof(float)),
        .mixed = compute_alloc(rows * n * sizeof(float)),
        .projected = compute_alloc(rows * n * sizeof(float)),
        .wide = compute_alloc(rows * wide * sizeof(float)),
        .scores = compute_alloc(
            (rows * w->n_audio + w->decoder_heads * DECODER_SLOTS * w->n_audio) * sizeof(float)),
        .scratch = scratch,
    };

    *out = s;
    if (s.cross_keys && s.cross_values && s.keys && s.values && s.past && s.past_spare && s.x &&
        s.normed && s.mixed && s.projected && s.wide && s.scores)
        return 0;
    decoder_state_free(out);
    return -ENOMEM;
}

void decoder_state_free(struct decoder_state *s)
{
    free(s->cross_keys);
    free(s->cross_values);
    free(s->keys);
    free(s->values);
    free(s->past);
    free(s->past_spare);
    free(s->x);
    free(s->normed);
    free(s->mixed);
    free(s->projected);
    free(s->wide);
    free(s->scores);
    memset(s, 0, sizeof(*s));
}

/* Keys are kept transposed, (C, T), so that both products of a step run along memory. */
static void set_layer_audio(struct decoder_state *s, size_t layer, const float *encoded)
{
    const struct linear *kv = &s->weights->decoder[layer].cross_kv;
    size_t t = s->weights->n_audio, n = s->weights->n_state, block = LINEAR_SCRATCH / n;
    float *keys = s->cross_keys + layer * n * t, *values = s->cross_values + layer * n * t;

    for (size_t begin = 0; begin < n; begin += block) {
        size_t count = n - begin < block ? n - begin : block;
        const float *w = linear_rows(kv, begin, count, s->scratch);

        compute_gemm(s->compute, false, true, count, t, n, 1, w, n, encoded, n, 0, keys + begin * t,
                     t);
    }
    for (size_t begin = 0; begin < n; begin += block) {
        size_t count = n - begin < block ? n - begin : block;
        const float *w = linear_rows(kv, n + begin, count, s->scratch);

        compute_gemm(s->compute, false, true, t, count, n, 1, encoded, n, w, n, 0, values + begin,
                     n);
    }
    for (size_t i = 0; i < n; i++) /* the keys' bias is zero in every known model */
        if (kv->bias[i] != 0)
            for (size_t j = 0; j < t; j++)
                keys[i * t + j] += kv->bias[i];
    compute_add_bias(values, kv->bias + n, t, n);
}

void decoder_set_audio(struct decoder_state *s, const float *encoded)
{
    for (size_t layer = 0; layer < s->weights->n_decoder_layers; layer++)
        set_layer_audio(s, layer, encoded);
}

static void apply(struct decoder_state *s, const struct linear *linear, const float *x, size_t rows,
                  float *out)
{
    if (rows <= KERNELS_MAX_ROWS)
        linear_few(linear, s->compute, s->kernels, x, rows, out);
    else
        linear_many(linear, s->compute, x, rows, 0, out, s->scratch);
}

static void normalise(struct decoder_state *s, const struct norm *norm, size_t rows)
{
    compute_layer_norm(s->compute, s->x, rows, s->weights->n_state, norm->scale, norm->bias,
                       EPSILON, s->normed);
}

static void embed(struct decoder_state *s, const struct decoder_row *rows, size_t n_rows)
{
    const struct whisper_weights *w = s->weights;
    size_t n = w->n_state;

    for (size_t i = 0; i < n_rows; i++) {
        const float *embedding = linear_rows(&w->embeddings, rows[i].token, 1, s->scratch);

        memcpy(s->x + i * n, embedding, n * sizeof(float));
        compute_add(s->x + i * n, w->decoder_positions + rows[i].position * n, n);
    }
}

/* Where the cache keeps a row, counted in vectors of C. */
static uint32_t cache_row(const struct decoder_row *row)
{
    return row->position * DECODER_SLOTS + row->slot;
}

static void self_attend(struct decoder_state *s, size_t layer, const struct decoder_row *rows,
                        size_t n_rows)
{
    const struct whisper_weights *w = s->weights;
    const struct decoder_layer *l = &w->decoder[layer];
    size_t n = w->n_state, heads = w->decoder_heads, d = n / heads;
    float *keys = s->keys + layer * w->n_text * DECODER_SLOTS * n;
    float *values = s->values + layer * w->n_text * DECODER_SLOTS * n;
    float scale = 1 / sqrtf((float)d);

    normalise(s, &l->self_norm, n_rows);
    apply(s, &l->self_qkv, s->normed, n_rows, s->wide);
    for (size_t i = 0; i < n_rows; i++) {
        const float *qkv = s->wide + i * 3 * n;

        memcpy(keys + cache_row(&rows[i]) * n, qkv + n, n * sizeof(float));
        memcpy(values + cache_row(&rows[i]) * n, qkv + 2 * n, n * sizeof(float));
    }
    for (size_t i = 0; i < n_rows; i++) {
        const uint32_t *past = s->past + rows[i].slot * w->n_text;
        size_t length = rows[i].position + 1;
        float *q = s->wide + i * 3 * n;

        compute_scale(q, scale, n);
        s->kernels->pick_dot(q, keys, past, length, heads, d, s->scores);
        compute_softmax(s->compute, s->scores, heads, length);
        s->kernels->pick_sum(s->scores, values, past, length, heads, d, s->mixed + i * n);
    }
    apply(s, &l->self_out, s->mixed, n_rows, s->projected);
    compute_add(s->x, s->projected, n_rows * n);
}

static void record(const struct decoder_alignment *alignment, size_t layer, size_t head,
                   const float *scores, size_t n_rows, size_t t)
{
    for (size_t i = 0; i < alignment->n_heads; i++)
        if (alignment->heads[i].layer == layer && alignment->heads[i].head == head)
            memcpy(alignment->scores + i * n_rows * t, scores, n_rows * t * sizeof(float));
}

/* All heads of a few rows: scores (heads, rows, T). */
static void cross_few(struct decoder_state *s, const float *keys, const float *values,
                      size_t n_rows)
{
    size_t t = s->weights->n_audio, n = s->weights->n_state, heads = s->weights->decoder_heads;
    size_t d = n / heads;

    for (size_t h = 0; h < heads; h++)
        s->kernels->few_rows(s->projected + h * d, n, n_rows, keys + h * d * t, t, d, t,
                             s->scores + h * n_rows * t, t);
    compute_softmax(s->compute, s->scores, heads * n_rows, t);
    for (size_t h = 0; h < heads; h++)
        s->kernels->few_rows(s->scores + h * n_rows * t, t, n_rows, values + h * d, n, t, d,
                             s->mixed + h * d, n);
}

/* One head of many rows after the other. */
static void cross_many(struct decoder_state *s, size_t layer, const float *keys,
                       const float *values, size_t n_rows,
                       const struct decoder_alignment *alignment)
{
    size_t t = s->weights->n_audio, n = s->weights->n_state, heads = s->weights->decoder_heads;
    size_t d = n / heads;

    for (size_t h = 0; h < heads; h++) {
        compute_gemm(s->compute, false, false, n_rows, t, d, 1, s->projected + h * d, n,
                     keys + h * d * t, t, 0, s->scores, t);
        if (alignment)
            record(alignment, layer, h, s->scores, n_rows, t);
        compute_softmax(s->compute, s->scores, n_rows, t);
        compute_gemm(s->compute, false, false, n_rows, d, t, 1, s->scores, t, values + h * d, n, 0,
                     s->mixed + h * d, n);
    }
}

static void cross_attend(struct decoder_state *s, size_t layer, size_t n_rows,
                         const struct decoder_alignment *alignment)
{
    const struct whisper_weights *w = s->weights;
    const struct decoder_layer *l = &w->decoder[layer];
    size_t n = w->n_state, t = w->n_audio;
    const float *keys = s->cross_keys + layer * n * t, *values = s->cross_values + layer * n * t;

    normalise(s, &l->cross_norm, n_rows);
    apply(s, &l->cross_q, s->normed, n_rows, s->projected);
    compute_scale(s->projected, 1 / sqrtf((float)(n / w->decoder_heads)), n_rows * n);
    if (n_rows <= KERNELS_MAX_ROWS && !alignment)
        cross_few(s, keys, values, n_rows);
    else
        cross_many(s, layer, keys, values, n_rows, alignment);
    apply(s, &l->cross_out, s->mixed, n_rows, s->projected);
    compute_add(s->x, s->projected, n_rows * n);
}

static void feed_forward(struct decoder_state *s, size_t layer, size_t n_rows)
{
    const struct decoder_layer *l = &s->weights->decoder[layer];

    normalise(s, &l->ffn_norm, n_rows);
    apply(s, &l->up, s->normed, n_rows, s->wide);
    compute_gelu(s->wide, n_rows * s->weights->n_ffn);
    apply(s, &l->down, s->wide, n_rows, s->projected);
    compute_add(s->x, s->projected, n_rows * s->weights->n_state);
}

static int check_rows(const struct decoder_state *s, const struct decoder_row *rows, size_t n_rows)
{
    if (n_rows == 0 || n_rows > s->most_rows)
        return -EINVAL;
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i].token >= s->weights->n_vocab || rows[i].position >= s->weights->n_text ||
            rows[i].slot >= DECODER_SLOTS)
            return -EINVAL;
    return 0;
}

int decoder_feed(struct decoder_state *s, const struct decoder_row *rows, size_t n_rows,
                 const struct decoder_alignment *alignment, const volatile int *cancel)
{
    int err = check_rows(s, rows, n_rows);

    if (err < 0)
        return err;
    for (size_t i = 0; i < n_rows; i++)
        s->past[rows[i].slot * s->weights->n_text + rows[i].position] = cache_row(&rows[i]);
    embed(s, rows, n_rows);
    for (size_t layer = 0; layer < s->weights->n_decoder_layers; layer++) {
        if (asr_cancelled(cancel))
            return -ECANCELED;
        self_attend(s, layer, rows, n_rows);
        cross_attend(s, layer, n_rows, alignment);
        feed_forward(s, layer, n_rows);
    }
    normalise(s, &s->weights->decoder_norm, n_rows);
    return 0;
}

void decoder_logits(struct decoder_state *s, size_t first, size_t n_rows, float *logits)
{
    const struct linear *projection = &s->weights->projection;

    for (size_t at = 0; at < n_rows; at += LOGIT_ROWS) {
        size_t rows = n_rows - at < LOGIT_ROWS ? n_rows - at : LOGIT_ROWS;

        linear_few(projection, s->compute, s->kernels,
                   s->normed + (first + at) * s->weights->n_state, rows,
                   logits + at * projection->n);
    }
}

void decoder_reorder(struct decoder_state *s, const uint32_t *origins, size_t n_slots,
                     size_t n_positions)
{
    size_t stride = s->weights->n_text;
    uint32_t *swapped = s->past_spare;

    for (size_t i = 0; i < n_slots; i++)
        memcpy(swapped + i * stride, s->past + origins[i] * stride, n_positions * sizeof(uint32_t));
    s->past_spare = s->past;
    s->past = swapped;
}
