/*
 * kernels.h - the inner loops of VITS, one set for each instruction set
 *
 * Layout everywhere in tts/vits: channels first, (C, T), time fastest. A convolution then is, for each
 * tap, an outer product of a few output channels with a run of time, all of it in registers:
 * kernels_body.h is that, written once over vectors of the compiler and compiled three times.
 */
#ifndef TTS_VITS_KERNELS_H
#define TTS_VITS_KERNELS_H

#include "compute/compute.h"

#include <stdbool.h>
#include <stddef.h>

#define VITS_TILE_MAX 48 /* columns of the widest tile */
#define VITS_BLOCK_MAX 8 /* output channels of the largest block */

/* What becomes of a row of sums; conv.h's epilogue, resolved for one row. */
struct vits_finish {
    const float *sums, *add; /* `add` may be NULL */
    float bias;
    bool accumulate;        /* never with `activated` */
    float *out, *activated; /* either may be NULL; columns `step` apart */
    float slope;
    size_t step;
};

struct vits_kernels {
    const char *name;
    size_t block; /* output channels that a tile makes at once; weights are packed by it */
    size_t tile;  /* columns of a full tile; a multiple of `lane` */
    size_t lane;  /* columns are made in multiples of this */

    /**
     * tile (block, VITS_TILE_MAX) = sum over inputs and taps of w * x, columns [0, n).
     *
     * @param x  first tap of column 0; row c at x + c * ld; reads up to n rounded up to `lane`
     * @param w  (c_in, taps, block)
     * @param n  1..tile
     */
    void (*conv)(const float *x, size_t ld, size_t c_in, size_t taps, size_t dilation,
                 const float *w, size_t n, float *out);
    /** out = sums + bias + add (+ out); activated = leaky ReLU of that. At most VITS_TILE_MAX columns. */
    void (*finish)(const struct vits_finish *finish, size_t n);
    /** out = tanh(a) * sigmoid(b), n columns. */
    void (*gate)(const float *a, const float *b, size_t n, float *out);
    /** y = x > 0 ? x : slope * x, where x = in * scale. */
    void (*leaky)(const float *x, float scale, float slope, size_t n, float *y);
    void (*tanh)(float *x, size_t n);
    /** x / 2 (1 + erf(x / sqrt 2)), in place. */
    void (*gelu)(float *x, size_t n);
    /** Over the channels of each column: x (c, n), rows ld apart, in place. */
    void (*layer_norm)(float *x, size_t ld, size_t c, size_t n, const float *scale,
                       const float *bias);
    /** Over each row of (rows, n), in place. */
    void (*softmax)(float *x, size_t rows, size_t n);
};

/** The best set for what the processor can do. */
const struct vits_kernels *vits_kernels_pick(enum compute_isa isa);

extern const struct vits_kernels vits_kernels_portable;
#ifdef __x86_64__
extern const struct vits_kernels vits_kernels_avx2, vits_kernels_avx512;
#endif

#endif
