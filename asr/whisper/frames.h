/*
 * frames.h - a stream of samples to frames of log power, kept from where the next window begins
 *
 * A frame depends on its own 25 ms only, so frames are the same however the samples arrive. The first
 * frame sees the audio mirrored before its start, the last ones silence behind its end.
 */
#ifndef ASR_WHISPER_FRAMES_H
#define ASR_WHISPER_FRAMES_H

#include "asr/whisper/mel.h"

#include <stdbool.h>
#include <stddef.h>

#define FRAMES_AT_ONCE 512 /* computed at a time */
#define FRAMES_PCM (FRAMES_AT_ONCE * MEL_HOP + MEL_WINDOW)

struct frames {
    const struct mel *mel; /* borrowed */
    float *power;          /* (n - first, n_bands) */
    size_t capacity;       /* frames that fit */
    size_t first, n;       /* frames dropped; frames computed in all */
    float loudest;         /* largest value so far */
    size_t n_samples;      /* received in all */

    size_t n_pcm;  /* in pcm[]: what frames yet to come need */
    bool mirrored; /* what is before the first sample is filled in */
    float pcm[FRAMES_PCM];
};

void frames_init(struct frames *frames, const struct mel *mel);
void frames_fini(struct frames *frames);

/**
 * Take samples until there are `most` frames, or a good many.
 *
 * @param most   more than there are
 * @param taken  samples taken, at least 1 of n_samples > 0
 * @return 0; -ENOMEM
 */
int frames_push(struct frames *frames, const float *pcm, size_t n_samples, size_t most,
                size_t *taken);

/** The audio is over: compute the last frames. @return 0; -ENOMEM */
int frames_end(struct frames *frames);

/** Frames of audio; there is one computed frame more, centred on its end. */
size_t frames_content(const struct frames *frames);

/** Power of frame i and those behind it; i is not dropped. */
const float *frames_at(const struct frames *frames, size_t i);

/** Forget the frames before i. */
void frames_drop(struct frames *frames, size_t i);

#endif
