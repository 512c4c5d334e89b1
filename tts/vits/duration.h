/*
 * duration.h - how long each phoneme lasts: the stochastic duration predictor, run from noise to
 * durations
 *
 * Kim et al. (2021), section 2.2.2 and appendix A: neural spline flows (Durkan et al., "Neural Spline
 * Flows", 2019) conditioned through dilated depth-separable convolutions.
 */
#ifndef TTS_VITS_DURATION_H
#define TTS_VITS_DURATION_H

#include "tts/vits/conv.h"
#include "tts/vits/plane.h"

#define VITS_SPLINE_BINS_MAX 64

/* A stack of depthwise and pointwise convolutions, each with a norm and a GELU. */
struct vits_separable {
    size_t n_layers;
    struct vits_separable_layer {
        size_t taps, dilation;
        float *depthwise, *depthwise_bias; /* (hidden, taps), (hidden) */
        struct vits_conv pointwise;
        float *norm_scale[2], *norm_bias[2];
    } * layers;
};

struct vits_spline_flow {
    float *pre, *pre_bias; /* (hidden) of one channel */
    struct vits_separable convs;
    struct vits_conv proj; /* (3 bins - 1, hidden) */
};

struct vits_duration {
    size_t hidden, n_flows, bins;
    struct vits_conv pre, proj, cond; /* cond.w is NULL for a voice with one speaker */
    struct vits_separable convs;
    struct vits_spline_flow *flows; /* in the order in which they run */
    float shift[2], factor[2];      /* the last, elementwise one: z = (z - shift) * factor */
};

/** @param speaker_channels  0 for a voice with one speaker */
int vits_duration_load(struct vits_loader *loader, size_t c_in, size_t speaker_channels,
                       struct vits_duration *out);
void vits_duration_fini(struct vits_duration *duration);

/**
 * @param x        (c_in, n) from the text encoder
 * @param speaker  (speaker_channels) or NULL
 * @param z        (2, n) noise; overwritten
 * @param log_w    (n) natural logarithms of the durations in frames
 * @return 0; -ENOMEM; -ECANCELED
 */
int vits_duration_run(struct compute *compute, const struct vits_duration *duration,
                      const struct vits_plane *x, const float *speaker, const volatile int *cancel,
                      float *z, float *log_w);

/**
 * The inverse of a monotonic rational-quadratic spline with linear tails outside [-5, 5].
 * @param p  widths (bins), heights (bins), derivatives (bins - 1), before normalisation, `step` apart
 */
float vits_spline_inverse(float y, const float *p, size_t step, size_t bins, float scale);

#endif
