/*
 * tone.h - sine waves, and how loud one is in what came out
 */
#ifndef TESTS_AUDIO_TONE_H
#define TESTS_AUDIO_TONE_H

#include "base/buffer.h"

#include <stddef.h>
#include <stdint.h>

/** n samples of hz at rate, half of full scale. free() */
int16_t *tone_s16(double hz, double rate, size_t n);

/** Amplitude of hz in pcm, by one Fourier coefficient: 0.5 for tone_s16()'s. */
double tone_level(const float *pcm, size_t n, double hz, double rate);

/** A sink for encoders: appends to the struct buffer in arg. */
int tone_sink(void *arg, const void *data, size_t size);

/** Decode all of it; the test fails when it cannot be. free() */
float *tone_decode(const void *data, size_t size, size_t *n, const char **kind);

#endif
