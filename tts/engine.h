/*
 * engine.h - what a voice must offer to tts/service.c: one sentence in, samples out
 */
#ifndef TTS_ENGINE_H
#define TTS_ENGINE_H

#include <stddef.h>
#include <stdint.h>

struct tts_model;

struct tts_voice {
    const char *name, *language, *region, *licence; /* "en_US-joe-medium", "en", "US", "CC0-1.0" */
    const char *const *speakers;                    /* ended by NULL; NULL for one speaker */
    uint32_t sample_rate;
};

struct tts_settings {
    const char *voice; /* NULL or "": the first that speaks `language` */
    const char *language;
    const char *speaker;
    float speed;                /* 0: 1 */
    float noise_scale, noise_w; /* 0: the voice's own; negative: none */
    uint64_t seed;              /* of the noise; 0: another every time */
    const volatile int *cancel; /* non-zero: stop soon, -ECANCELED; may be NULL */
};

struct tts_engine {
    const char *name; /* "vits", "espeak" */
    /** @param folder  with the voices; NULL for an engine without files
     *  @param n_threads  0: all
     *  @param compute_type  "f32"
     *  @return 0; -ENOENT no voice there; -EBADMSG damaged; -ENOTSUP another compute type; -ENOMEM;
     *  `error` (size) says what and why */
    int (*load)(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct tts_model **out);
    void (*unload)(struct tts_model **model);
    /** @return how many; *voices borrowed from the model. */
    size_t (*voices)(const struct tts_model *model, const struct tts_voice **voices);
    /**
     * Speak one sentence. Any number of threads may, on one model.
     *
     * @param emit  called with samples as they are ready, full scale 1.0, at the voice's rate; non-zero
     *              from it stops with that value
     * @param phonemes  IPA of the sentence, the caller's to free(), set before the first emit and on
     *                  success only; NULL: not wanted
     * @return 0, also when there was nothing to say; -ENOENT no such voice or language; -EINVAL no such
     *         speaker; -E2BIG longer than the engine speaks at once; -EILSEQ a text it cannot cope with; -ECANCELED; -ENOMEM; emit's
     */
    int (*speak)(struct tts_model *model, const char *sentence, const struct tts_settings *settings,
                 int (*emit)(void *arg, const float *pcm, size_t n_samples), void *arg,
                 char **phonemes);
};

/** The voice that settings name: by its name, else the first of its language; NULL: there is none. */
const struct tts_voice *tts_voice_find(const struct tts_voice *voices, size_t n_voices,
                                       const char *voice, const char *language);

/** By name; NULL when there is none. */
const struct tts_engine *tts_engine_find(const char *name);

#endif
