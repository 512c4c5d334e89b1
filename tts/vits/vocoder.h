/*
 * vocoder.h - HiFi-GAN's generator: latent frames to samples, as a stream
 *
 * Kong et al., "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech
 * Synthesis" (2020), section 2.2. Both kinds of residual block: 1 (pairs of convolutions, "high"
 * voices) and 2 (single ones, "low" and "medium").
 *
 * Frames go in a few at a time. Every convolution keeps the columns that its next output still needs,
 * so nothing is computed twice, memory does not grow with the length, and the samples are the very same
 * as from all frames at once.
 */
#ifndef TTS_VITS_VOCODER_H
#define TTS_VITS_VOCODER_H

#include "tts/vits/conv.h"

struct vits_resblock {
    size_t n_convs;
    size_t span; /* convolutions from one addition of the input to the next: 1 or 2 */
    struct vits_conv *convs;
};

/* One upsampling and the residual blocks after it. */
struct vits_stage {
    size_t rate, channels, n_blocks;
    struct vits_conv *phases; /* (rate) output column t * rate + p is convolution p at column t */
    ptrdiff_t *first;         /* (rate) its first tap, relative to t */
    size_t halo;              /* columns of input on each side */
    struct vits_resblock *blocks;
};

struct vits_vocoder {
    size_t c_in, n_stages;
    struct vits_conv pre, post, cond; /* cond.w is NULL for one speaker */
    struct vits_stage *stages;
    size_t hop; /* samples a frame */
};

int vits_vocoder_load(struct vits_loader *loader, size_t c_in, size_t speaker_channels,
                      struct vits_vocoder *out);
void vits_vocoder_fini(struct vits_vocoder *vocoder);

struct vits_stream; /* one utterance on its way through */

/** @param speaker  (speaker_channels) or NULL; read here only */
int vits_stream_create(struct compute *compute, const struct vits_vocoder *vocoder,
                       const float *speaker, struct vits_stream **out);
/**
 * Push frames.
 *
 * @param z     (c_in, n), row c at z + c * ld
 * @param last  there will be no more
 * @param pcm   samples that are complete now, borrowed until the next call: none at first, n * hop
 *              later, the rest with the last frames
 * @return 0; -ENOMEM
 */
int vits_stream_push(struct vits_stream *stream, const float *z, size_t ld, size_t n, bool last,
                     const float **pcm, size_t *n_samples);
void vits_stream_destroy(struct vits_stream **stream);

#endif
