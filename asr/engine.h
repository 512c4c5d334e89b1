/*
 * engine.h - what a speech recogniser must offer to asr/service.c
 *
 * An engine knows nothing of calls and sockets. One model is shared by all sessions; each session
 * is one stream of audio on one thread.
 */
#ifndef ASR_ENGINE_H
#define ASR_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ASR_MAX_TEMPERATURES 16
#define ASR_MAX_TEMPERATURE 2.0F

struct asr_model;
struct asr_session;

struct asr_word {
    const char *text;
    int64_t start_ms, end_ms;
    float probability;
};

struct asr_segment {
    int64_t start_ms, end_ms, seek_ms;
    const char *text; /* UTF-8, leading space kept */
    const uint32_t *tokens;
    size_t n_tokens;
    float avg_log_prob, no_speech_prob, compression_ratio, temperature;
    const struct asr_word *words; /* when asked for */
    size_t n_words;
};

struct asr_settings {
    const char
        *language;  /* ISO 639-1; NULL or "": detect (the one language of an English-only model) */
    bool translate; /* into English */
    int beam_size;  /* 0: 5; 1: greedy */
    const float *temperatures; /* tried in turn; NULL: 0, .2, .4, .6, .8, 1 */
    size_t n_temperatures;
    const char *prompt;        /* or NULL */
    float no_speech_threshold; /* 0: 0.6 */
    bool word_times, without_timestamps, no_condition_on_previous_text;
    bool partial_results;         /* of a live stream: every second at most */
    const char *const *languages; /* (n_languages) candidates when `language` is empty; none: all */
    size_t n_languages;
    const char *keywords; /* words to favour, or NULL */
    /** Recognise nothing before session_finish(), or an hour: loudness is then measured over all of
     *  that, as whole-file recognisers do, and memory grows with it (32 kB a second). */
    bool whole_audio;
    const volatile int
        *cancel; /* non-zero: stop within one decoder step, -ECANCELED; may be NULL */
};

/** What happens on the way. Strings are borrowed for the call. Return non-zero to stop with that value. */
struct asr_events {
    int (*language)(void *arg, const char *code, float probability);
    int (*segment)(void *arg, const struct asr_segment *segment);
    void *arg;
    /** What was heard since the last segment, so far, when asked for; each replaces the one before.
     *  The first `n_stable` characters (Unicode) were in that one too. */
    int (*partial)(void *arg, const char *text, size_t n_stable);
};

struct asr_engine {
    const char *name; /* "whisper" */
    int max_beam_size;
    /** @param n_threads 0: all. @return 0; -ENOENT no model there; -EBADMSG damaged; -ENOTSUP another kind;
     *  `error` (size) says what and why */
    int (*load)(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct asr_model **out);
    void (*unload)(struct asr_model **model);
    /** Languages it takes, ISO 639-1, ended by NULL. */
    const char *const *(*languages)(const struct asr_model *model);
    bool (*can_translate)(const struct asr_model *model);

    /**
     * Begin a stream. Settings are copied but for `cancel`.
     * @return 0; -EINVAL for a language, task or temperature that the model does not offer; -ENOTSUP
     *         when word times are asked for and it has none; -ENOMEM
     */
    int (*session_create)(struct asr_model *model, const struct asr_settings *settings,
                          const struct asr_events *events, struct asr_session **out);
    /** Append audio, 16 kHz mono, full scale 1.0; recognises whenever a window is full.
     *  @return 0; -ECANCELED; -ENOMEM; what an event returned. After an error only destroy it. */
    int (*session_feed)(struct asr_session *session, const float *pcm, size_t n_samples);
    /** The audio is over: recognise the rest. */
    int (*session_finish)(struct asr_session *session);
    /** Tokens decoded so far, all attempts. */
    size_t (*session_tokens)(const struct asr_session *session);
    void (*session_destroy)(struct asr_session **session);

    /** Most probable first; `codes` and `probs` take up to `max`. @return how many; -errno */
    int (*detect_language)(struct asr_model *model, const float *pcm, size_t n_samples,
                           const char **codes, float *probs, size_t max);
};

/** What engines ask between steps: whether the flag is set. NULL never is. */
static inline bool asr_cancelled(const volatile int *cancel)
{
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

/** By name; NULL when there is none. */
const struct asr_engine *asr_engine_find(const char *name);

#endif
