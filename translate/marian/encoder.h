/*
 * encoder.h - the transformer's encoder, over several sentences at once
 *
 * The sentences lie one after the other without padding: linear layers see all their pieces as one
 * matrix, attention sees each sentence alone. So nothing of a sentence's result depends on the others.
 */
#ifndef TRANSLATE_MARIAN_ENCODER_H
#define TRANSLATE_MARIAN_ENCODER_H

#include "translate/marian/model.h"

struct marian_batch {
    const uint32_t *pieces;               /* (n_pieces) each sentence with its </s> */
    const size_t *starts;                 /* (n_sentences + 1) where each begins */
    const volatile int *const *cancelled; /* (n_sentences) set when nobody wants it any more */
    size_t n_sentences;
    size_t n_pieces;
};

/** Pieces of its longest sentence. */
size_t marian_batch_longest(const struct marian_batch *batch);

/** @param x  (n_pieces, d). @return 0; -ENOMEM */
int marian_encode(const struct marian_model *model, struct marian_scratch *scratch,
                  const struct marian_batch *batch, float *x);

#endif
