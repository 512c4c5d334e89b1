/*
 * search.h - the most probable tokens of one window: beam search, greedy, or sampled
 *
 * Follows CTranslate2's search: twice as many candidates as beams, a hypothesis is done when a
 * candidate among the best `beam_size` ends it, and the search when there are `beam_size` done ones;
 * scores are divided by their length at the end.
 */
#ifndef ASR_WHISPER_SEARCH_H
#define ASR_WHISPER_SEARCH_H

#include "asr/whisper/decoder.h"
#include "asr/whisper/rules.h"

struct search {
    struct decoder_state *decoder;
    const struct vocab *vocab;
    const uint32_t *prompt; /* (n_prompt) ends with the last special token */
    size_t n_prompt;
    int beam_size;     /* 1..DECODER_SLOTS; 1: greedy */
    float temperature; /* > 0: the best of `beam_size` samples instead */
    uint64_t seed;     /* of the samples */
    const volatile int *cancel;

    float *logits; /* (DECODER_SLOTS, n_vocab) borrowed */
};

struct search_result {
    uint32_t *tokens; /* (n_tokens) the caller's, free() */
    size_t n_tokens;
    float score;          /* log probability divided by n_tokens; -inf when there are none */
    float no_speech_prob; /* at <|startoftranscript|> */
    size_t n_steps;       /* of the decoder, for statistics */
};

/** @return 0; -ECANCELED; -EINVAL for a prompt that leaves no room; -ENOMEM */
int search_run(const struct search *search, struct search_result *result);

/**
 * Probability of each language, from <|startoftranscript|> alone.
 *
 * @param probs  (n_languages of the vocabulary)
 */
int search_language(struct decoder_state *decoder, const struct vocab *vocab, float *logits,
                    const volatile int *cancel, float *probs);

#endif
