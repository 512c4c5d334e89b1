/*
 * encoder.h - 30 s of log-mel spectrogram to 1500 vectors
 */
#ifndef ASR_WHISPER_ENCODER_H
#define ASR_WHISPER_ENCODER_H

#include "asr/whisper/weights.h"

/** Memory of one run, reusable. */
struct encoder_buffers {
    float *x;       /* (n_audio, C) the result */
    float *normed;  /* (n_audio, C) */
    float *wide;    /* (n_audio, 3 C) queries, keys, values; before them the first convolution */
    float *mixed;   /* (n_audio, C) attention's output; before that the second convolution */
    float *hidden;  /* (rows, n_ffn) of the feed-forward, a few rows at a time */
    float *scratch; /* (LINEAR_SCRATCH) */
};

int encoder_buffers_create(const struct whisper_weights *weights, struct encoder_buffers *out);
void encoder_buffers_free(struct encoder_buffers *buffers);

/**
 * Run the encoder.
 *
 * @param feats   (n_mels, WHISPER_WINDOW_FRAMES) as mel_normalise() gives it
 * @param cancel  polled several times a layer; may be NULL
 * @return 0, with the result in buffers->x; -ECANCELED; -ENOMEM
 */
int encoder_run(const struct whisper_weights *weights, struct compute *c, const float *feats,
                const volatile int *cancel, struct encoder_buffers *buffers);

#endif
