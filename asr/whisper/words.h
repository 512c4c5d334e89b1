/*
 * words.h - when each word was said
 *
 * Some heads of the decoder's cross-attention look at the moment that a token was spoken. Their
 * weights, smoothed, are a matrix of tokens and time; dynamic time warping finds the path through it.
 * Then the times are tidied as OpenAI's and faster-whisper's word timestamps are: punctuation joins
 * its word, words that are too long beside a pause are cut. Seconds are doubles here because the
 * tidying compares them, and must come to the same answers.
 */
#ifndef ASR_WHISPER_WORDS_H
#define ASR_WHISPER_WORDS_H

#include "asr/whisper/model.h"

struct word {
    char *text; /* owned; empty when it was joined to another */
    size_t n_tokens;
    double start, end; /* s */
    double probability;
};

/* A segment before it is sent. */
struct span {
    const uint32_t *tokens;
    size_t n_tokens;
    double start, end;        /* s */
    const struct word *words; /* borrowed */
    size_t n_words;
};

struct words {
    struct word *words; /* (n_words) */
    size_t n_words;
};

/**
 * Find the words of a window's segments and their times; moves the segments' ends to them.
 *
 * @param start_tokens  (n_start) <|startoftranscript|> and what follows it
 * @param language      code of the language: some are written without spaces
 * @param seek          frame where the window begins
 * @param n_frames      frames of audio in it
 * @param last_speech   end of the last word before, s
 * @param out           what the spans point into; words_free() it
 * @return 0; -ECANCELED; -ENOMEM
 */
int words_find(struct asr_model *model, struct workspace *workspace, const uint32_t *start_tokens,
               size_t n_start, const char *language, size_t seek, size_t n_frames,
               double last_speech, const volatile int *cancel, struct span *spans, size_t n_spans,
               struct words *out);
void words_free(struct words *words);

#endif
