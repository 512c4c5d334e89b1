/*
 * search.h - beam search over a batch; with a beam of one, greedy
 *
 * As Marian does it: a beam loses a place with every hypothesis that ends, a sentence is done when
 * none is left, and the best is the one with the highest score over its length to the power of
 * `normalize`. Each sentence scores its own words, so none depends on its neighbours.
 */
#ifndef TRANSLATE_MARIAN_SEARCH_H
#define TRANSLATE_MARIAN_SEARCH_H

#include "translate/engine.h"
#include "translate/marian/decoder.h"

#define MARIAN_MOST_ROWS 64 /* hypotheses of one batch */

struct marian_search {
    size_t beam_size;        /* 1..TRANSLATE_MOST_BEAMS */
    size_t n_best;           /* hypotheses wanted for each sentence, 1..beam_size */
    float normalize;         /* 0: by score alone */
    float word_penalty;      /* taken from the score for every word */
    float max_length_factor; /* of the source's length */
    uint32_t eos;
    int64_t unk; /* never chosen; -1: none */
};

struct marian_hypothesis {
    uint32_t *words; /* (n) without </s>; the caller's, free(); NULL: there are fewer */
    size_t n;
    float log_prob;
};

/**
 * Translate a batch.
 *
 * @param outputs  (n_outputs) one a sentence, or a single one for all
 * @param best     (n_sentences, n_best) the best first; without words for a sentence that is cancelled
 * @return 0; -ENOMEM
 */
int marian_search(const struct marian_model *model, struct marian_scratch *scratch,
                  const struct marian_memory *memory, const struct marian_search *search,
                  const struct marian_output *outputs, size_t n_outputs,
                  struct marian_hypothesis *best);

#endif
