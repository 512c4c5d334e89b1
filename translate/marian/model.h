/*
 * model.h - a Marian student's weights, ready to multiply
 *
 * Transformer encoder, decoder of simpler simple recurrent units (SSRU; Kim et al., "From Research
 * to Production and Back: Ludicrously Fast Neural Machine Translation", 2019) with cross-attention,
 * output tied to the embedding. Depths and widths are the file's. After marian_model_load() a model
 * never changes, so threads may share one.
 */
#ifndef TRANSLATE_MARIAN_MODEL_H
#define TRANSLATE_MARIAN_MODEL_H

#include "compute/compute.h"
#include "compute/ops.h"
#include "compute/weights/weights.h"
#include "translate/marian/exact.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** y = x W^T + bias, in int8 (x quantized by `multiplier`) or, when `packed` is NULL, in f32. */
struct marian_linear {
    size_t in, out;
    struct compute_weights_s8 *packed; /* (out, in) owned */
    float multiplier;                  /* of x */
    float divisor;                     /* from int32 back: multiplier * the weights' */
    float *w;                          /* (out, in) owned */
    const float *bias;                 /* (out) into the mapping; NULL: none */
};

struct marian_norm {
    const float *scale, *bias; /* (d) into the mapping */
};

struct marian_attention {
    struct marian_linear q, k, v, o;
    struct marian_norm norm;
};

struct marian_ffn {
    struct marian_linear in, out;
    struct marian_norm norm;
};

struct marian_encoder_layer {
    struct marian_attention self;
    struct marian_ffn ffn;
};

struct marian_decoder_layer {
    struct marian_linear input, forget; /* of the SSRU */
    struct marian_norm norm;
    struct marian_attention context;
    struct marian_ffn ffn;
};

/* An embedding, int8 or f32 as the file has it. */
struct marian_embedding {
    size_t n, d;
    const int8_t *s8; /* (n, d) into the mapping; NULL: f32 */
    float multiplier; /* of s8 */
    const float *f32; /* (n, d) into the mapping */
};

/* Which words may come out, and the weights that score them. */
struct marian_output {
    struct marian_linear linear; /* n outputs */
    uint32_t *ids;               /* (n) owned, ascending; NULL: output i is word i */
    float *bias; /* (n) owned, what linear.bias shows; NULL when that is the mapping's */
};

struct marian_model {
    struct compute *compute; /* one thread: sentences are what runs in parallel */
    const struct exact *exact;
    struct weights weights;
    bool f32; /* multiply in f32, whatever the file has */

    size_t d, d_ffn, heads, n_encoder, n_decoder;
    struct marian_encoder_layer *encoder; /* (n_encoder) */
    struct marian_decoder_layer *decoder; /* (n_decoder) */
    struct marian_embedding source, target;
    float output_multiplier;  /* of the output layer's input */
    const float *output_bias; /* (target.n) */
    float *positions;         /* (n_positions, d) sines, then cosines */
    size_t n_positions;
};

/**
 * Map and check a model file, pack its weights.
 *
 * @param n_positions  longest sequence, in pieces
 * @param f32          multiply in f32 (four times the memory)
 * @param error        (size) what is wrong, when the return is not 0
 * @return 0; -errno; -EBADMSG damaged; -ENOTSUP another kind of model; -ENOMEM
 */
int marian_model_load(const char *path, struct compute *compute, bool f32, size_t n_positions,
                      char *error, size_t size, struct marian_model **out);
void marian_model_destroy(struct marian_model **model);

/** Score only these words. @param ids  (n) ascending, taken on success; NULL: all. @return 0; -ENOMEM */
int marian_output_create(const struct marian_model *model, uint32_t *ids, size_t n,
                         struct marian_output *out);
void marian_output_fini(struct marian_output *output);

/** out (d) = the embedding of `id` times sqrt(d), plus position `at`; id < 0: the position alone. */
void marian_embed(const struct marian_model *model, const struct marian_embedding *embedding,
                  int64_t id, size_t at, float *out);

/* Room for the products of one thread. */
#define MARIAN_BLOCK 64 /* rows at a time: the widest layer's input and output stay in L2 */

struct marian_scratch {
    int8_t *q;     /* (MARIAN_BLOCK, widest) */
    int32_t *acc;  /* (MARIAN_BLOCK, widest) */
    float *hidden; /* (MARIAN_BLOCK, d_ffn + d) */
    float *sum;    /* (MARIAN_BLOCK, d) */
};

/** @param widest  outputs of the widest linear layer. @return 0; -ENOMEM */
int marian_scratch_init(struct marian_scratch *scratch, const struct marian_model *model,
                        size_t widest);
void marian_scratch_fini(struct marian_scratch *scratch);

/** y (rows, out) = linear(x (rows, in)). */
void marian_linear(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_linear *linear, const float *x, size_t rows, float *y);
/** x (rows, d) = norm(x + linear(y)), in place; y as attention leaves it. */
void marian_residual(const struct marian_model *model, struct marian_scratch *scratch,
                     const struct marian_linear *linear, const struct marian_norm *norm,
                     const double *y, size_t rows, float *x);
/** x (rows, d) = norm(x + out(relu(in(x)))), in place. */
void marian_ffn(const struct marian_model *model, struct marian_scratch *scratch,
                const struct marian_ffn *ffn, size_t rows, float *x);

#define MARIAN_EPSILON 1e-6f /* of every layer norm */

#endif
