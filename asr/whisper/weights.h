/*
 * weights.h - a Whisper model's parameters, by their place in the network
 *
 * Matrices of 16 bits stay in the mapped file, shared by every process that serves the model;
 * vectors, and matrices of other types, are widened to f32 once. Every shape is checked here, so
 * that nothing after this reads out of bounds.
 */
#ifndef ASR_WHISPER_WEIGHTS_H
#define ASR_WHISPER_WEIGHTS_H

#include "asr/whisper/kernels.h"
#include "compute/weights/weights.h"

#include <stdbool.h>
#include <stddef.h>

#define WHISPER_MAX_LAYERS 64
#define WHISPER_WINDOW_FRAMES 3000 /* of the encoder's input: 30 s */

struct linear {
    const void *w;     /* (n, k) */
    bool half;         /* w is half precision, unaligned; else f32 */
    const float *bias; /* (n); NULL for none */
    size_t n, k;
};

struct norm {
    const float *scale, *bias; /* (C) */
};

struct encoder_layer {
    struct norm attention_norm, ffn_norm;
    struct linear qkv, out, up, down;
};

struct decoder_layer {
    struct norm self_norm, cross_norm, ffn_norm;
    struct linear self_qkv, self_out, cross_q, cross_kv, cross_out, up, down;
};

struct whisper_weights {
    size_t n_mels, n_state /* C */, n_ffn, n_vocab;
    size_t n_audio; /* encoder positions, WHISPER_WINDOW_FRAMES / 2 */
    size_t n_text;  /* decoder positions */
    size_t encoder_heads, decoder_heads;
    size_t n_encoder_layers, n_decoder_layers;

    const float *conv1, *conv1_bias, *conv2, *conv2_bias; /* (C, n_mels, 3), (C, C, 3) */
    const float *encoder_positions;                       /* (n_audio, C) */
    struct norm encoder_norm;
    struct encoder_layer encoder[WHISPER_MAX_LAYERS];

    struct linear embeddings, projection; /* (n_vocab, C), usually the same */
    const float *decoder_positions;       /* (n_text, C) */
    struct norm decoder_norm;
    struct decoder_layer decoder[WHISPER_MAX_LAYERS];

    struct weights file;
    float **owned; /* (n_owned) what was widened */
    size_t n_owned, owned_capacity;
};

/** Map model.bin. @return 0; -errno, with `error` (size) saying what and why */
int whisper_weights_load(const char *path, char *error, size_t size, struct whisper_weights *out);
void whisper_weights_free(struct whisper_weights *weights);

#define LINEAR_SCRATCH ((size_t)1 << 20) /* floats that linear_many() needs */

/** out (rows, n) = x (rows, k) W^T + bias, for rows <= KERNELS_MAX_ROWS. */
void linear_few(const struct linear *linear, struct compute *c,
                const struct whisper_kernels *kernels, const float *x, size_t rows, float *out);

/** The same for any number of rows; out = that + beta * out. @param scratch  (LINEAR_SCRATCH) */
void linear_many(const struct linear *linear, struct compute *c, const float *x, size_t rows,
                 float beta, float *out, float *scratch);

/** Some of the weight's rows [begin, begin + n) as f32, in scratch or in place. */
const float *linear_rows(const struct linear *linear, size_t begin, size_t n, float *scratch);

#endif
