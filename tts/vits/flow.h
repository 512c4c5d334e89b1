/*
 * flow.h - the prior's sample to the decoder's latent: residual coupling layers, run backwards
 *
 * Kim et al. (2021), section 2.2.2; each layer is a small WaveNet (van den Oord et al., 2016) that
 * shifts one half of the channels by what it makes of the other.
 */
#ifndef TTS_VITS_FLOW_H
#define TTS_VITS_FLOW_H

#include "tts/vits/conv.h"
#include "tts/vits/plane.h"

struct vits_coupling {
    size_t hidden, n_layers;
    struct vits_conv pre, post; /* (hidden, half), (half, hidden) */
    struct vits_wave_layer {
        struct vits_conv in;   /* (2 hidden, hidden) */
        struct vits_conv res;  /* (hidden, hidden) back into the layers; not in the last one */
        struct vits_conv skip; /* (hidden, hidden) on to `post` */
    } * layers;
    struct vits_conv cond; /* (2 hidden n_layers, speaker); w is NULL for one speaker */
};

struct vits_flow {
    size_t latent, n_couplings;
    struct vits_coupling *couplings; /* in the order in which they run */
};

int vits_flow_load(struct vits_loader *loader, size_t latent, size_t speaker_channels,
                   struct vits_flow *out);
void vits_flow_fini(struct vits_flow *flow);

/*
 * One utterance, as a stream: like the vocoder's, frames go in a few at a time, nothing is computed
 * twice, and the result is the very same as of all at once.
 */
struct vits_flow_stream;

/** @param speaker  (speaker_channels) or NULL; read here only */
int vits_flow_stream_create(struct compute *compute, const struct vits_flow *flow,
                            const float *speaker, struct vits_flow_stream **out);
/**
 * Push frames.
 *
 * @param z        (latent, n), row c at z + c * ld
 * @param last     there will be no more
 * @param made     (latent, *n_made) what is complete now, row c at *made + c * *made_ld; borrowed until
 *                 the next call
 * @return 0; -ENOMEM
 */
int vits_flow_stream_push(struct vits_flow_stream *stream, const float *z, size_t ld, size_t n,
                          bool last, const float **made, size_t *made_ld, size_t *n_made);
void vits_flow_stream_destroy(struct vits_flow_stream **stream);

#endif
