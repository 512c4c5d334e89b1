/*
 * transcribe.h - one window of audio to segments: prompts, retries at higher temperatures, silence,
 * and where the next window begins
 *
 * The decisions are those of OpenAI's transcribe() as faster-whisper 1.2.1 makes them, with its
 * defaults. Samples at temperatures above 0 are drawn by a generator seeded with the window's place,
 * so that the same audio gives the same text each time.
 */
#ifndef ASR_WHISPER_TRANSCRIBE_H
#define ASR_WHISPER_TRANSCRIBE_H

#include "asr/whisper/model.h"

struct transcribe_options {
    const struct vocab_language *language;
    bool translate, without_timestamps, condition_on_previous, word_times;
    int beam_size; /* at temperature 0 */
    float temperatures[ASR_MAX_TEMPERATURES];
    size_t n_temperatures;
    float no_speech_threshold;
    const uint32_t *hotwords; /* (n_hotwords) before each window's prompt */
    size_t n_hotwords;
    const volatile int *cancel;
};

/* What one window leaves for the next. */
struct transcribe_history {
    uint32_t *tokens; /* (n_tokens) of all segments so far, the caller's prompt before them */
    size_t n_tokens, capacity;
    size_t reset;       /* tokens before this one are not shown to the model any more */
    double last_speech; /* end of the last word, s */
    size_t n_decoded;   /* tokens decoded, all attempts */
};

int transcribe_remember(struct transcribe_history *history, const uint32_t *tokens, size_t n);
void transcribe_history_free(struct transcribe_history *history);

/**
 * Recognise one window whose audio is in the workspace (encoder_run and decoder_set_audio are done).
 *
 * @param seek      frame where the window begins
 * @param n_frames  frames of audio in it
 * @param events    `segment` is called for each segment
 * @param next      frame where the next window begins, past seek
 * @return 0; -ECANCELED; -ENOMEM; what an event returned
 */
int transcribe_window(struct asr_model *model, struct workspace *workspace,
                      const struct transcribe_options *options, size_t seek, size_t n_frames,
                      const struct asr_events *events, struct transcribe_history *history,
                      size_t *next);

/**
 * What the window seems to say so far: greedy, not tried again, nothing remembered.
 *
 * @param text  filled; stays empty for silence
 */
int transcribe_partial(struct asr_model *model, struct workspace *workspace,
                       const struct transcribe_options *options,
                       const struct transcribe_history *history, struct buffer *text);

#endif
