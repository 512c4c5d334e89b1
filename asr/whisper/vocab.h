/*
 * vocab.h - Whisper's vocabulary: the tokenizer, its special tokens, and what is never sampled
 */
#ifndef ASR_WHISPER_VOCAB_H
#define ASR_WHISPER_VOCAB_H

#include "asr/whisper/bpe.h"

#include <stdbool.h>

#define VOCAB_CODE_MAX 8 /* bytes of a language's code with the NUL */

struct vocab_language {
    uint32_t id;
    char code[VOCAB_CODE_MAX]; /* ISO 639-1, or a longer code where there is none */
};

struct vocab_head {
    uint32_t layer, head;
};

struct vocab {
    struct bpe *bpe;
    size_t n_tokens; /* rows of the model's embeddings */
    bool multilingual;
    uint32_t eot, sot, translate, transcribe, sot_lm, sot_prev, no_speech, no_timestamps;
    uint32_t timestamp_begin;         /* the token of 0.00 s; the last token is 30.00 s */
    struct vocab_language *languages; /* (n_languages) one, "en", when not multilingual */
    size_t n_languages;
    const char **codes; /* (n_languages + 1) the same codes, ended by NULL */
    uint32_t *suppress; /* (n_suppress) never sampled */
    size_t n_suppress;
    uint32_t *suppress_begin; /* (n_suppress_begin) never sampled first */
    size_t n_suppress_begin;
    struct vocab_head *alignment_heads; /* (n_alignment_heads) cross-attention that follows time */
    size_t n_alignment_heads;
};

/**
 * Read tokenizer.json and config.json of a model's folder.
 *
 * @param n_tokens  rows of the model's embeddings
 * @param error     (size) what is wrong, when the return is not 0
 * @return 0; -ENOENT; -EBADMSG; -ENOTSUP; -ENOMEM
 */
int vocab_load(const char *folder, size_t n_tokens, char *error, size_t size, struct vocab *out);
void vocab_free(struct vocab *vocab);

/** The language with this code; NULL. */
const struct vocab_language *vocab_language(const struct vocab *vocab, const char *code);

/**
 * Tokens of " text" without the white space around it: how Whisper's prompts begin.
 *
 * @param ids  the caller's, free(); NULL when there are none
 */
int vocab_encode_prompt(const struct vocab *vocab, const char *text, uint32_t **ids, size_t *n_ids);

#endif
