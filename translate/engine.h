/*
 * engine.h - what a translator must offer to translate/service.c: sentences in, sentences out
 */
#ifndef TRANSLATE_ENGINE_H
#define TRANSLATE_ENGINE_H

#include <stddef.h>

struct translate_model;

struct translate_result {
    char *text;          /* the best translation */
    float log_prob;      /* of all of it */
    char **alternatives; /* (n_alternatives) the next best ones, each different; NULL when none */
    size_t n_alternatives;
};

/** Frees what a result holds. */
void translate_result_fini(struct translate_result *result);

#define TRANSLATE_MOST_BEAMS 16

struct translate_settings {
    int beam_size;       /* 0: the model's own choice; at most TRANSLATE_MOST_BEAMS count */
    size_t alternatives; /* how many are wanted; widens the beam to one more */
    const volatile int
        *cancel; /* non-zero: stop within one decoder step, -ECANCELED; NULL: never */
};

struct translate_engine {
    const char *name; /* "marian" */
    /** @param n_threads  0: all. @return 0; -ENOENT no model there; -EBADMSG damaged; -ENOTSUP another
     *  kind; `error` (size) says what and why */
    int (*load)(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct translate_model **out);
    void (*unload)(struct translate_model **model);
    const char *(*source)(const struct translate_model *model); /* ISO 639-1 */
    const char *(*target)(const struct translate_model *model);
    /**
     * Translate a batch. A sentence longer than the model takes is split at a good place inside. May be
     * called from several threads at once.
     *
     * @param sentences  (n) UTF-8; an empty one has an empty translation
     * @param settings   NULL: the model's own
     * @param results    (n) filled on success, each for translate_result_fini()
     * @return 0; -EILSEQ; -ECANCELED; -ENOMEM
     */
    int (*translate)(struct translate_model *model, const char *const *sentences, size_t n,
                     const struct translate_settings *settings, struct translate_result *results);
};

/** By name; NULL when there is none. */
const struct translate_engine *translate_engine_find(const char *name);

#endif
