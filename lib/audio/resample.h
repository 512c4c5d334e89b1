/*
 * resample.h - one channel of samples from one rate to another, in pieces
 */
#ifndef AUDIO_RESAMPLE_H
#define AUDIO_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct audio_resampler;

/** @return 0; -EINVAL for rates outside AUDIO_RATE_MIN..AUDIO_RATE_MAX; -ENOMEM */
int audio_resampler_create(uint32_t from_hz, uint32_t to_hz, struct audio_resampler **out);
void audio_resampler_destroy(struct audio_resampler **resampler);

#define AUDIO_RATE_MIN 4000
#define AUDIO_RATE_MAX 384000

/**
 * Convert what fits.
 *
 * @param in        (n_in) full scale 1.0; NULL: the input is over, give out what is held back
 * @param consumed  how many of `in` were taken
 * @param produced  how many of `out` were written; after the end of the input 0 means all is out
 * @return 0; -EIO when the converter fails
 */
int audio_resample(struct audio_resampler *resampler, const float *in, size_t n_in,
                   size_t *consumed, float *out, size_t n_out, size_t *produced);

#endif
