/*
 * vits.h - a Piper voice: phoneme ids in, samples out
 */
#ifndef TTS_VITS_VITS_H
#define TTS_VITS_VITS_H

#include "compute/compute.h"
#include "tts/vits/duration.h"
#include "tts/vits/flow.h"
#include "tts/vits/noise.h"
#include "tts/vits/text_encoder.h"
#include "tts/vits/vocoder.h"

#include <stdint.h>

/** Longest input of one pass: some fifty seconds of speech; attention grows with its square. */
#define VITS_MAX_IDS 2048
/** Longest output of one pass, in frames: some four minutes of most voices. */
#define VITS_MAX_FRAMES 20000

/** The network; never changes after vits_load(), so threads may share one. */
struct vits {
    struct compute *compute; /* borrowed */
    float *speakers;         /* (n_speakers, speaker_channels); NULL for one speaker */
    size_t n_speakers, speaker_channels;
    struct vits_text_encoder text_encoder;
    struct vits_duration duration;
    struct vits_flow flow;
    struct vits_vocoder vocoder;
};

struct vits_options {
    float noise_scale, noise_w; /* 0: none */
    float length_scale;         /* 2: twice as long */
    int64_t speaker;
    uint64_t seed;
    const volatile int *cancel;
};

/**
 * Read a network.
 *
 * @param error  (size) what is wrong with the file
 * @return 0; -errno of opening it; -EBADMSG; -ENOMEM
 */
int vits_load(struct compute *compute, const char *path, char *error, size_t size,
              struct vits **out);
/** The same from a graph that is already read; nothing of it is needed afterwards. */
int vits_load_graph(struct compute *compute, const struct onnx *onnx, char *error, size_t size,
                    struct vits **out);
void vits_destroy(struct vits **vits);

typedef int (*vits_emit)(void *arg, const float *pcm, size_t n_samples);

/**
 * Speak.
 *
 * @param ids   (n) 1..VITS_MAX_IDS of them
 * @param emit  called with samples as they are ready; non-zero from it stops with that value
 * @return 0; -EINVAL for an id or a speaker that the voice has not; -E2BIG for too many ids, or
 *         durations past VITS_MAX_FRAMES; -ECANCELED; -ENOMEM; what emit returned
 */
int vits_speak(const struct vits *vits, const int64_t *ids, size_t n,
               const struct vits_options *options, vits_emit emit, void *arg);

/* The stages of vits_speak(), for those who look inside. */

/** Frames of each id: ceil(exp(log_w) * length_scale). @return their sum, at least 1; -E2BIG */
int64_t vits_frames_of(const float *log_w, size_t n, float length_scale, uint32_t *frames);
/** The prior of each frame, sampled: z (latent, total). @return 0; -ENOMEM */
int vits_sample_prior(const struct vits_plane *prior, const uint32_t *frames, size_t total,
                      float noise_scale, struct vits_noise *noise, struct vits_plane *z);

#endif
