#include "translate/marian/decoder.h"

#include "translate/marian/exact.h"

#include <errno.h>
#include <stdlib.h>

int marian_memory_create(const struct marian_model *model, struct marian_scratch *scratch,
                         const struct marian_batch *batch, const float *encoded,
                         struct marian_memory *out)
{
    size_t n = batch->n_pieces * model->d;
    struct marian_memory memory = {.batch = batch};

    memory.keys = compute_alloc(sizeof(float) * n * model->n_decoder);
    memory.values = compute_alloc(sizeof(float) * n * model->n_decoder);
    if (!memory.keys || !memory.values) {
        marian_memory_fini(&memory);
        return -ENOMEM;
    }
    for (size_t l = 0; l < model->n_decoder; l++) {
        const struct marian_attention *context = &model->decoder[l].context;

        marian_linear(model, scratch, &context->k, encoded, batch->n_pieces, memory.keys + l * n);
        marian_linear(model, scratch, &context->v, encoded, batch->n_pieces, memory.values + l * n);
    }
    for (size_t i = 0; i < batch->n_sentences; i++)
        if (memory.longest < batch->starts[i + 1] - batch->starts[i])
            memory.longest = batch->starts[i + 1] - batch->starts[i];
    *out = memory;
    return 0;
}

void marian_memory_fini(struct marian_memory *memory)
{
    free(memory->keys);
    free(memory->values);
    *memory = (struct marian_memory){0};
}

static void recur(const struct marian_model *model, struct marian_scratch *scratch, size_t l,
                  struct marian_rows *rows, float *room, float *y)
{
    const struct marian_decoder_layer *layer = &model->decoder[l];
    size_t d = model->d;
    float *forget = room, *x = room + rows->n * d;

    marian_linear(model, scratch, &layer->forget, y, rows->n, forget);
    marian_linear(model, scratch, &layer->input, y, rows->n, x);
    for (size_t i = 0; i < rows->n; i++)
        exact_unit(forget + i * d, x + i * d, d, rows->cells + (i * model->n_decoder + l) * d,
                   x + i * d);
    exact_add_norm(y, x, rows->n, d, layer->norm.scale, layer->norm.bias, MARIAN_EPSILON);
}

static void attend(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_memory *memory, size_t l, const struct marian_rows *rows,
                   float *room, float *y)
{
    const struct marian_attention *context = &model->decoder[l].context;
    size_t d = model->d, layer = l * memory->batch->n_pieces;
    float *q = room, *mixed = room + rows->n * d, *scores = mixed + rows->n * d;

    marian_linear(model, scratch, &context->q, y, rows->n, q);
    for (size_t i = 0; i < rows->n; i++) {
        const size_t *starts = memory->batch->starts + rows->sentence[i];
        size_t at = (layer + starts[0]) * d;

        exact_attention(q + i * d, 1, memory->keys + at, memory->values + at, starts[1] - starts[0],
                        model->heads, d / model->heads, scores, mixed + i * d);
    }
    marian_residual(model, scratch, &context->o, &context->norm, mixed, rows->n, y);
}

size_t marian_decode_room(const struct marian_model *model, const struct marian_memory *memory,
                          size_t n)
{
    return 2 * n * model->d + memory->longest;
}

void marian_decode(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_memory *memory, struct marian_rows *rows, size_t at,
                   float *room, float *y)
{
    for (size_t i = 0; i < rows->n; i++)
        marian_embed(model, &model->target, rows->word[i], at, y + i * model->d);
    for (size_t l = 0; l < model->n_decoder; l++) {
        recur(model, scratch, l, rows, room, y);
        attend(model, scratch, memory, l, rows, room, y);
        marian_ffn(model, scratch, &model->decoder[l].ffn, rows->n, y);
    }
}
