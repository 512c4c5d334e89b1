/*
 * support.h - what several tests of tts share: the tiny voice, and a place where samples arrive
 */
#ifndef TESTS_TTS_SUPPORT_H
#define TESTS_TTS_SUPPORT_H

#include "tts/vits/vits.h"

#include <stddef.h>
#include <stdint.h>

#define TINY GOLDEN_DIR "/en_GB-tiny-high.onnx"

/** Everything that was emitted. */
struct heard {
    float *pcm;
    size_t n_samples, n_chunks;
    int answer;        /* what emit returns */
    size_t stop_after; /* chunks before it does; 0: never */
};

/** A vits_emit with a struct heard. */
int hear(void *heard, const float *pcm, size_t n_samples);
void heard_fini(struct heard *heard);

/** Load a network or fail the test. `isa` limits the kernels; -1: none */
struct vits *load_voice(struct compute **compute, const char *path, int n_threads, int isa);
/** A file of little-endian int64; free() */
int64_t *golden_s64(const char *path, size_t *n);
/** A file of floats of any length; free() */
float *golden_all_f32(const char *path, size_t *n);

#endif
