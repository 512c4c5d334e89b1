#include "translate/marian/decoder.h"

#include <errno.h>
#include <stdlib.h>

static void remember(const struct marian_model *model, struct marian_scratch *scratch,
                     struct marian_memory *memory, size_t l, const float *encoded, float *keys)
{
    const struct marian_attention *context = &model->decoder[l].context;
    const struct marian_batch *batch = memory->batch;
    size_t d = model->d, n_columns = memory->key_starts[batch->n_sentences];

    marian_linear(model, scratch, &context->v, encoded, batch->n_pieces,
                  memory->values + l * batch->n_pieces * d);
    marian_linear(model, scratch, &context->k, encoded, batch->n_pieces, keys);
    for (size_t i = 0; i < batch->n_sentences; i++)
        exact_transpose(keys + batch->starts[i] * d, batch->starts[i + 1] - batch->starts[i], d,
                        memory->keys + (l * n_columns + memory->key_starts[i]) * d);
}

int marian_memory_create(const struct marian_model *model, struct marian_scratch *scratch,
                         const struct marian_batch *batch, const float *encoded,
                         struct marian_memory *out)
{
    size_t n = sizeof(float) * model->d * model->n_decoder, n_columns = 0;
    struct marian_memory memory = {.batch = batch, .longest = marian_batch_longest(batch)};
    float *keys = compute_alloc(sizeof(float) * batch->n_pieces * model->d);

    memory.key_starts = malloc(sizeof(*memory.key_starts) * (batch->n_sentences + 1));
    for (size_t i = 0; memory.key_starts && i <= batch->n_sentences; i++) {
        memory.key_starts[i] = n_columns;
        if (i < batch->n_sentences)
            n_columns += exact_padded(batch->starts[i + 1] - batch->starts[i]);
    }
    memory.keys = compute_alloc(n * n_columns);
    memory.values = compute_alloc(n * batch->n_pieces);
    if (!keys || !memory.key_starts || !memory.keys || !memory.values) {
        free(keys);
        marian_memory_fini(&memory);
        return -ENOMEM;
    }
    for (size_t l = 0; l < model->n_decoder; l++)
        remember(model, scratch, &memory, l, encoded, keys);
    free(keys);
    *out = memory;
    return 0;
}

void marian_memory_fini(struct marian_memory *memory)
{
    free(memory->keys);
    free(memory->key_starts);
    free(memory->values);
    *memory = (struct marian_memory){0};
}

static void recur(const struct marian_model *model, struct marian_scratch *scratch, size_t l,
                  struct marian_rows *rows, double *room, float *y)
{
    const struct marian_decoder_layer *layer = &model->decoder[l];
    size_t d = model->d;
    float *forget = (float *)room, *x = forget + rows->n * d;

    marian_linear(model, scratch, &layer->forget, y, rows->n, forget);
    marian_linear(model, scratch, &layer->input, y, rows->n, x);
    for (size_t i = 0; i < rows->n; i++)
        model->exact->unit(forget + i * d, x + i * d, d,
                           rows->cells + (i * model->n_decoder + l) * d, x + i * d);
    model->exact->add_norm(y, x, NULL, rows->n, d, layer->norm.scale, layer->norm.bias,
                           MARIAN_EPSILON);
}

static void attend(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_memory *memory, size_t l, const struct marian_rows *rows,
                   double *room, float *y)
{
    const struct marian_attention *context = &model->decoder[l].context;
    const struct marian_batch *batch = memory->batch;
    size_t d = model->d, n_columns = memory->key_starts[batch->n_sentences];
    double *mixed = room, *scores = mixed + rows->n * d;
    float *q = (float *)(scores + EXACT_QUERIES * exact_padded(memory->longest));

    marian_linear(model, scratch, &context->q, y, rows->n, q);
    for (size_t i = 0; i < rows->n; i++) {
        size_t sentence = rows->sentence[i], start = batch->starts[sentence];

        model->exact->attention(
            q + i * d, 1, memory->keys + (l * n_columns + memory->key_starts[sentence]) * d,
            memory->values + (l * batch->n_pieces + start) * d, batch->starts[sentence + 1] - start,
            model->heads, d / model->heads, scores, mixed + i * d);
    }
    marian_residual(model, scratch, &context->o, &context->norm, mixed, rows->n, y);
}

size_t marian_decode_room(const struct marian_model *model, const struct marian_memory *memory,
                          size_t n)
{
    return 2 * n * model->d + EXACT_QUERIES * exact_padded(memory->longest);
}

void marian_decode(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_memory *memory, struct marian_rows *rows, size_t at,
                   double *room, float *y)
{
    for (size_t i = 0; i < rows->n; i++)
        marian_embed(model, &model->target, rows->word[i], at, y + i * model->d);
    for (size_t l = 0; l < model->n_decoder; l++) {
        recur(model, scratch, l, rows, room, y);
        attend(model, scratch, memory, l, rows, room, y);
        marian_ffn(model, scratch, &model->decoder[l].ffn, rows->n, y);
    }
}
