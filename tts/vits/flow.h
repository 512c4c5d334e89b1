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
    struct vits_conv *in,
        *res_skip;         /* (n_layers): (2 hidden, hidden) and (2 hidden or hidden, hidden) */
    struct vits_conv cond; /* (2 hidden n_layers, speaker); w is NULL for one speaker */
};

struct vits_flow {
    size_t latent, n_couplings;
    struct vits_coupling *couplings; /* in the order in which they run */
};

int vits_flow_load(struct vits_loader *loader, size_t latent, size_t speaker_channels,
                   struct vits_flow *out);
void vits_flow_fini(struct vits_flow *flow);

/**
 * @param z        (latent, n) in place
 * @param speaker  (speaker_channels) or NULL
 * @return 0; -ENOMEM; -ECANCELED
 */
int vits_flow_run(struct compute *compute, const struct vits_flow *flow, const float *speaker,
                  const volatile int *cancel, struct vits_plane *z);

#endif
