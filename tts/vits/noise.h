/*
 * noise.h - Gaussian noise from a seed
 *
 * xoshiro256++ (Blackman and Vigna, 2019) and the polar method (Marsaglia and Bray, 1964).
 */
#ifndef TTS_VITS_NOISE_H
#define TTS_VITS_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vits_noise {
    uint64_t state[4];
    float spare;
    bool has_spare;
};

/** The same seed gives the same numbers, everywhere. */
void vits_noise_seed(struct vits_noise *noise, uint64_t seed);
/** Mean 0, deviation `scale`; zeros for a scale of 0. out (n) */
void vits_noise_fill(struct vits_noise *noise, float scale, float *out, size_t n);

#endif
