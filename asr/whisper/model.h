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

/* What one window at a time needs. Made when it is first wanted, kept for the next. */
struct workspace {
    struct workspace *next;
    struct encoder_buffers encoder;
    struct decoder_state decoder;
    float *feats;  /* (n_mels, WHISPER_WINDOW_FRAMES) */
    float *logits; /* (DECODER_SLOTS, n_vocab) */
};

struct asr_model {
    struct compute *compute;
    const struct whisper_kernels *kernels;
    struct mel *mel;
    struct whisper_weights weights;
    struct vocab vocab;
    pthread_mutex_t lock; /* of idle */
    struct workspace *idle;
};

int model_load(const char *folder, int n_threads, const char *compute_type, char *error,
               size_t size, struct asr_model **out);
void model_unload(struct asr_model **model);

/** An idle workspace or a new one. @return 0; -ENOMEM */
int model_take_workspace(struct asr_model *model, struct workspace **out);
void model_give_workspace(struct asr_model *model, struct workspace **workspace);

#endif
