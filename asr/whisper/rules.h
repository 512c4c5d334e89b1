/*
 * rules.h - which tokens may come next
 *
 * Timestamps stand in pairs around text, never decrease, and open the window's first segment within
 * its first second; annotations and special tokens are never sampled.
 */
#ifndef ASR_WHISPER_RULES_H
#define ASR_WHISPER_RULES_H

#include "asr/whisper/vocab.h"

struct rules {
    const struct vocab *vocab;
    bool timestamps;
    uint32_t max_initial_timestamp; /* latest token that may come first */
};

/**
 * Logits to log probabilities of what the rules allow, in place.
 *
 * @param tokens  (n) sampled so far, without the prompt
 * @param logits  (n_tokens of the vocabulary)
 */
void rules_apply(const struct rules *rules, const uint32_t *tokens, size_t n, float *logits);

#endif
