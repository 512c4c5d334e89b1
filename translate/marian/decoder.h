/*
 * decoder.h - one step of the decoder, for any hypotheses of a batch's sentences
 */
#ifndef TRANSLATE_MARIAN_DECODER_H
#define TRANSLATE_MARIAN_DECODER_H

#include "translate/marian/encoder.h"

/* The encoder's output as the decoder's layers see it. */
struct marian_memory {
    const struct marian_batch *batch;
    float *keys;        /* (n_decoder) times each sentence's (d, padded) transposed; owned */
    size_t *key_starts; /* (n_sentences + 1) where a sentence's begin, in columns; owned */
    float *values;      /* (n_decoder, n_pieces, d) owned */
    size_t longest;     /* pieces of the longest sentence */
};

/** @param encoded  (n_pieces, d) of marian_encode(). @return 0; -ENOMEM */
int marian_memory_create(const struct marian_model *model, struct marian_scratch *scratch,
                         const struct marian_batch *batch, const float *encoded,
                         struct marian_memory *out);
void marian_memory_fini(struct marian_memory *memory);

/* Hypotheses, a row each. */
struct marian_rows {
    size_t n;
    size_t *sentence; /* (n) of the batch */
    int64_t *word;    /* (n) the last one; -1 at the start */
    float *cells;     /* (n, n_decoder, d) of the SSRUs */
};

/**
 * Run the layers once for every row; cells move on.
 *
 * @param at    position of the word to come, from 0
 * @param room  (marian_decode_room())
 * @param y     (n, d) what the output layer takes
 */
void marian_decode(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_memory *memory, struct marian_rows *rows, size_t at,
                   double *room, float *y);
/** Doubles that marian_decode() needs for n rows. */
size_t marian_decode_room(const struct marian_model *model, const struct marian_memory *memory,
                          size_t n);

#endif
