/*
 * text_encoder.h - phoneme ids to the prior's mean and log deviation
 *
 * Kim et al., "Conditional Variational Autoencoder with Adversarial Learning for End-to-End
 * Text-to-Speech" (2021), section 2.2; attention with relative positions after Shaw et al. (2018).
 */
#ifndef TTS_VITS_TEXT_ENCODER_H
#define TTS_VITS_TEXT_ENCODER_H

#include "tts/vits/conv.h"
#include "tts/vits/plane.h"

#include <stdint.h>

struct vits_text_layer {
    struct vits_conv q, k, v, o;    /* (hidden, hidden) */
    struct vits_conv widen, narrow; /* feed-forward: (filter, hidden), (hidden, filter) */
    float *rel_k, *rel_v;           /* (2 window + 1, head) */
    float *norm_scale[2], *norm_bias[2];
};

struct vits_text_encoder {
    float *embedding; /* (n_symbols, hidden) */
    size_t n_symbols, hidden, head, window, n_layers, latent;
    struct vits_text_layer *layers;
    struct vits_conv proj; /* (2 latent, hidden) */
};

int vits_text_encoder_load(struct vits_loader *loader, struct vits_text_encoder *out);
void vits_text_encoder_fini(struct vits_text_encoder *encoder);

/**
 * @param ids    (n) each below n_symbols
 * @param x      (hidden, n) what the durations are predicted from
 * @param prior  (2 latent, n) means, then log deviations
 * @return 0; -EINVAL for an id out of range; -ENOMEM; -ECANCELED
 */
int vits_text_encoder_run(struct compute *compute, const struct vits_text_encoder *encoder,
                          const int64_t *ids, size_t n, const volatile int *cancel,
                          struct vits_plane *x, struct vits_plane *prior);

#endif
