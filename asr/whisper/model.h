/*
 * model.h - a loaded Whisper model and the memory that recognising one window takes
 */
#ifndef ASR_WHISPER_MODEL_H
#define ASR_WHISPER_MODEL_H

#include "asr/engine.h"
#include "asr/whisper/decoder.h"
#include "asr/whisper/encoder.h"
#include "asr/whisper/mel.h"
#include "asr/whisper/vocab.h"

#include <pthread.h>

/* What one window at a time needs. There are at most as many as the machine's threads: more windows
 * at once would only wait for each other and take memory. Made when first wanted, kept for the next. */
struct workspace {
    struct workspace *next;
    struct encoder_buffers encoder;
    struct decoder_state decoder;
    float *feats;  /* (n_mels, WHISPER_WINDOW_FRAMES) */
    float *logits; /* (DECODER_SLOTS, n_vocab) */
};

struct workspace_waiter;

struct asr_model {
    struct compute *compute;
    const struct whisper_kernels *kernels;
    struct mel *mel;
    struct whisper_weights weights;
    struct vocab vocab;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t given;
    struct workspace *idle;
    size_t n_workspaces, most_workspaces;
    struct workspace_waiter *first, *last; /* who wants one, in order */
};

int model_load(const char *folder, int n_threads, const char *compute_type, char *error,
               size_t size, struct asr_model **out);
void model_unload(struct asr_model **model);

/**
 * Wait for a workspace, first come first served.
 *
 * @param cancel  gives up once non-zero; may be NULL
 * @return 0; -ECANCELED; -ENOMEM
 */
int model_take_workspace(struct asr_model *model, const volatile int *cancel,
                         struct workspace **out);
void model_give_workspace(struct asr_model *model, struct workspace **workspace);

#endif
