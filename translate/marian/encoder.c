#include "translate/marian/encoder.h"

#include <errno.h>
#include <stdlib.h>

struct encoder {
    const struct marian_model *model;
    struct marian_scratch *scratch;
    const struct marian_batch *batch;
    double *mixed;    /* (n_pieces, d) */
    double *scores;   /* (EXACT_QUERIES, padded) */
    float *q, *k, *v; /* (n_pieces, d) */
    float *keys;      /* (d, padded) of one sentence */
};

size_t marian_batch_longest(const struct marian_batch *batch)
{
    size_t longest = 0;

    for (size_t i = 0; i < batch->n_sentences; i++)
        if (longest < batch->starts[i + 1] - batch->starts[i])
            longest = batch->starts[i + 1] - batch->starts[i];
    return longest;
}

static void embed(const struct encoder *encoder, float *x)
{
    const struct marian_batch *batch = encoder->batch;
    size_t d = encoder->model->d;

    for (size_t i = 0; i < batch->n_sentences; i++)
        for (size_t at = batch->starts[i]; at < batch->starts[i + 1]; at++)
            marian_embed(encoder->model, &encoder->model->source, batch->pieces[at],
                         at - batch->starts[i], x + at * d);
}

static void self_attention(const struct encoder *encoder, const struct marian_attention *layer,
                           float *x)
{
    const struct marian_model *model = encoder->model;
    const struct marian_batch *batch = encoder->batch;
    size_t d = model->d;

    marian_linear(model, encoder->scratch, &layer->q, x, batch->n_pieces, encoder->q);
    marian_linear(model, encoder->scratch, &layer->k, x, batch->n_pieces, encoder->k);
    marian_linear(model, encoder->scratch, &layer->v, x, batch->n_pieces, encoder->v);
    for (size_t i = 0; i < batch->n_sentences; i++) {
        size_t at = batch->starts[i] * d, t = batch->starts[i + 1] - batch->starts[i];

        exact_transpose(encoder->k + at, t, d, encoder->keys);
        model->exact->attention(encoder->q + at, t, encoder->keys, encoder->v + at, t, model->heads,
                                d / model->heads, encoder->scores, encoder->mixed + at);
    }
    marian_residual(model, encoder->scratch, &layer->o, &layer->norm, encoder->mixed,
                    batch->n_pieces, x);
}

static void run_layers(const struct encoder *encoder, float *x)
{
    const struct marian_model *model = encoder->model;

    embed(encoder, x);
    for (size_t l = 0; l < model->n_encoder; l++) {
        self_attention(encoder, &model->encoder[l].self, x);
        marian_ffn(model, encoder->scratch, &model->encoder[l].ffn, encoder->batch->n_pieces, x);
    }
}

int marian_encode(const struct marian_model *model, struct marian_scratch *scratch,
                  const struct marian_batch *batch, float *x)
{
    size_t n = batch->n_pieces * model->d, padded = exact_padded(marian_batch_longest(batch));
    double *room = compute_alloc(sizeof(double) * (n + padded * EXACT_QUERIES) +
                                 sizeof(float) * (3 * n + padded * model->d));
    struct encoder encoder = {model, scratch, batch, .mixed = room};

    if (!room)
        return -ENOMEM;
    encoder.scores = encoder.mixed + n;
    encoder.q = (float *)(encoder.scores + padded * EXACT_QUERIES);
    encoder.k = encoder.q + n;
    encoder.v = encoder.k + n;
    encoder.keys = encoder.v + n;
    run_layers(&encoder, x);
    free(room);
    return 0;
}
