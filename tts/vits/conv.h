/*
 * conv.h - convolutions of VITS: weights packed for the kernels, run over a stretch of time
 *
 * The caller lays out the padding: a convolution reads (taps - 1) * dilation columns more than it
 * makes, and up to VITS_SLACK floats past the end of its last row.
 */
#ifndef TTS_VITS_CONV_H
#define TTS_VITS_CONV_H

#include "compute/compute.h"
#include "compute/weights/onnx.h"
#include "tts/vits/kernels.h"

#include <stdbool.h>
#include <stddef.h>

#define VITS_SLACK VITS_TILE_MAX

struct vits_conv {
    const struct vits_kernels *kernels;
    size_t c_in, c_out, taps, dilation;
    float *w;    /* (c_out / block, c_in, taps, block), zeros to the end of the last block */
    float *bias; /* (c_out) zeros where the model has none */
};

/** Columns on each side that a centred convolution needs. */
size_t vits_conv_halo(const struct vits_conv *conv);

/**
 * Pack weights.
 *
 * @param w     (c_out, c_in, taps), unaligned, as a file has them
 * @param bias  (c_out) or NULL
 */
int vits_conv_pack(const struct vits_kernels *kernels, size_t c_out, size_t c_in, size_t taps,
                   size_t dilation, const void *w, const void *bias, struct vits_conv *out);
void vits_conv_fini(struct vits_conv *conv);

/** What becomes of each sum. Row c of a pointer p is at p + c * p's ld. */
struct vits_epilogue {
    const float *row; /* (c_out) added like a second bias; NULL: nothing */
    const float *add; /* added; NULL: nothing */
    size_t add_ld;
    float *out; /* the sums; NULL: only `activated` */
    size_t out_ld;
    size_t step;      /* between columns of `out` and `activated`; 0: 1 */
    bool accumulate;  /* add to what `out` holds; never with `activated` */
    float *activated; /* leaky ReLU of the sums (of slope 0: ReLU); NULL: none */
    size_t activated_ld;
    float slope;
};

/**
 * Columns [0, n) of all outputs.
 * @param x  first tap of column 0; row c at x + c * ld
 */
void vits_conv_run(struct compute *compute, const struct vits_conv *conv, const float *x, size_t ld,
                   size_t n, const struct vits_epilogue *epilogue);

/** One column of a convolution with one tap: out (c_out) = W x + bias. */
void vits_conv_vector(const struct vits_conv *conv, const float *x, float *out);

/* The model's modules, checked against what the rest of the model says about their sizes. */

struct vits_loader {
    const struct onnx *onnx;
    const struct vits_kernels *kernels;
    char *error; /* (size) what is wrong with the first thing that is */
    size_t size;
};

/** Say what is wrong. @return -EBADMSG */
int vits_refuse(struct vits_loader *loader, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/** A convolution by its module's name; 0 for c_in, c_out or taps takes any. */
int vits_load_conv(struct vits_loader *loader, const char *module, size_t c_out, size_t c_in,
                   size_t taps, struct vits_conv *out);
/** A vector of floats by its name; *count 0 takes any and is set. free() it */
int vits_load_floats(struct vits_loader *loader, const char *name, size_t *count, float **out);
bool vits_has(const struct vits_loader *loader, const char *module);

#endif
