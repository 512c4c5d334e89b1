/*
 * decoder.h - tokens so far and 30 s of encoded audio to what the next token may be
 *
 * The decoder works on rows: a token, the position it stands at, and the hypothesis ("slot") it
 * belongs to. Keys and values of past tokens lie in one cache, (position, slot); each slot keeps the
 * list of rows that are its past, so that a beam that takes over another's past copies that list
 * and no values.
 */
#ifndef ASR_WHISPER_DECODER_H
#define ASR_WHISPER_DECODER_H

#include "asr/whisper/weights.h"

struct vocab_head;

#define DECODER_SLOTS KERNELS_MAX_ROWS /* hypotheses at once */

struct decoder_row {
    uint32_t token, position, slot;
};

/** Memory of one run, reusable. */
struct decoder_state {
    const struct whisper_weights *weights;
    const struct whisper_kernels *kernels;
    struct compute *compute;

    float *cross_keys;    /* (layers, C, n_audio) */
    float *cross_values;  /* (layers, n_audio, C) */
    float *keys, *values; /* (layers, n_text, DECODER_SLOTS, C) */
    uint32_t *past;       /* (DECODER_SLOTS, n_text) row of the cache that holds each position */
    uint32_t *past_spare; /* the same, for decoder_reorder() */

    size_t most_rows;                      /* that the buffers below take */
    float *x, *normed, *mixed, *projected; /* (most_rows, C) */
    float *wide;                           /* (most_rows, 3 C or n_ffn, whatever is more) */
    float *scores;                         /* (most_rows, n_audio or heads * n_text) */
    float *scratch;                        /* (LINEAR_SCRATCH) borrowed */
};

/** @param scratch  (LINEAR_SCRATCH) borrowed */
int decoder_state_create(const struct whisper_weights *weights, struct compute *c,
                         const struct whisper_kernels *kernels, float *scratch,
                         struct decoder_state *out);
void decoder_state_free(struct decoder_state *state);

/** Keys and values of the cross-attention, once a window. @param encoded  (n_audio, C) */
void decoder_set_audio(struct decoder_state *state, const float *encoded);

/** Cross-attention before its softmax, of some heads: what words are aligned by. */
struct decoder_alignment {
    const struct vocab_head *heads; /* (n_heads) in the order of their layers */
    size_t n_heads;
    float *scores; /* (n_heads, n_rows, n_audio) */
};

/**
 * Feed rows: consecutive positions of one slot, or one position of several slots.
 *
 * @param rows       (n_rows) at most n_text; a row's past must have been fed
 * @param alignment  NULL, or what to record
 * @param cancel     polled before each layer; may be NULL
 * @return 0, with the rows' final vectors in state->normed; -ECANCELED; -EINVAL for a token or
 *         position out of range
 */
int decoder_feed(struct decoder_state *state, const struct decoder_row *rows, size_t n_rows,
                 const struct decoder_alignment *alignment, const volatile int *cancel);

/** Scores of all tokens for rows [first, first + n_rows) of the last feed. logits (n_rows, n_vocab) */
void decoder_logits(struct decoder_state *state, size_t first, size_t n_rows, float *logits);

/** Slot i goes on from slot origins[i]'s past of n_positions. */
void decoder_reorder(struct decoder_state *state, const uint32_t *origins, size_t n_slots,
                     size_t n_positions);

#endif
