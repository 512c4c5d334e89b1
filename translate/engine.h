/*
 * engine.h - what a translator must offer to translate/service.c: sentences in, sentences out
 */
#ifndef TRANSLATE_ENGINE_H
#define TRANSLATE_ENGINE_H

#include <stddef.h>

struct translate_model;

struct translate_result {
    char *text; /* the caller's, free() */
    float log_prob;
};

struct translate_engine {
    const char *name; /* "marian" */
    /** As asr_engine.load. */
    int (*load)(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct translate_model **out);
    void (*unload)(struct translate_model **model);
    const char *(*source)(const struct translate_model *model); /* ISO 639-1 */
    const char *(*target)(const struct translate_model *model);
    /**
     * Translate a batch. A sentence longer than the model takes is split at a good place inside.
     * @param beam_size  0: the model's own choice
     * @param cancel     non-zero: stop within one decoder step, -ECANCELED; may be NULL
     * @param results    (n) filled on success
     */
    int (*translate)(struct translate_model *model, const char *const *sentences, size_t n,
                     int beam_size, const volatile int *cancel, struct translate_result *results);
};

const struct translate_engine *translate_engine_find(const char *name);

#endif
