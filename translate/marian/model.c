#include "translate/marian/model.h"

#include "compute/weights/marian.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NAME_BYTES 96
#define MOST_LAYERS 64

/* What loading carries along; the first thing wrong is kept, later steps do nothing. */
struct loader {
    struct marian_model *model;
    char *error;
    size_t error_size;
    int err;
};

__attribute__((format(printf, 3, 4))) static void refuse(struct loader *loader, int err,
                                                         const char *fmt, ...)
{
    va_list args;

    if (loader->err)
        return;
    loader->err = err;
    va_start(args, fmt);
    vsnprintf(loader->error, loader->error_size, fmt, args);
    va_end(args);
}

/* A tensor's name. The longest is far shorter than the room. */
__attribute__((format(printf, 2, 3))) static void spell(char name[NAME_BYTES], const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(name, NAME_BYTES, fmt, args);
    va_end(args);
}

static const struct weights_tensor *need(struct loader *loader, const char *name)
{
    const struct weights_tensor *tensor = weights_find(&loader->model->weights, name);

    if (!tensor)
        refuse(loader, -EBADMSG, "it has no tensor '%s'", name);
    return tensor;
}

/* A vector of n floats, in place. */
static const float *need_vector(struct loader *loader, const char *name, size_t n)
{
    const struct weights_tensor *tensor = loader->err ? NULL : need(loader, name);

    if (!tensor)
        return NULL;
    if (tensor->type != WEIGHTS_F32 || tensor->count != n)
        refuse(loader, -EBADMSG, "'%s' has %zu values, not %zu of f32", name, tensor->count, n);
    return tensor->data;
}

/* The activations' multiplier that goes with a matrix. One is stored as int8 itself. */
static float need_multiplier(struct loader *loader, const char *matrix)
{
    const struct weights_tensor *tensor;
    char name[NAME_BYTES];
    float value = 0;

    spell(name, "%s_QuantMultA", matrix);
    tensor = loader->err ? NULL : need(loader, name);
    if (!tensor)
        return 0;
    if (tensor->count == 1)
        weights_to_f32(tensor, &value);
    if (!(value > 0) || value > 1e30f)
        refuse(loader, -EBADMSG, "'%s' is no multiplier", name);
    return value;
}

/* (out, in) floats from an int8 matrix as it lies, or from an f32 one that lies (in, out). */
static float *unpacked(const struct weights_tensor *tensor, size_t in, size_t out)
{
    float *w = compute_alloc(sizeof(float) * in * out);
    const float *stored = tensor->data;

    if (!w)
        return NULL;
    if (tensor->type == WEIGHTS_S8) {
        weights_to_f32(tensor, w);
        return w;
    }
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < out; o++)
            w[o * in + i] = stored[i * out + o];
    return w;
}

static void load_linear(struct loader *loader, const char *matrix, const char *bias, size_t in,
                        size_t out, struct marian_linear *linear)
{
    const struct weights_tensor *tensor = loader->err ? NULL : need(loader, matrix);
    bool s8 = tensor && tensor->type == WEIGHTS_S8;
    bool f32 = tensor && tensor->type == WEIGHTS_F32;

    if (!tensor)
        return;
    if (tensor->rank != 2 || !(s8 || f32) || tensor->shape[0] != (s8 ? out : in) ||
        tensor->shape[1] != (s8 ? in : out)) {
        refuse(loader, -EBADMSG, "'%s' is no matrix from %zu to %zu", matrix, in, out);
        return;
    }
    linear->in = in;
    linear->out = out;
    linear->bias = bias ? need_vector(loader, bias, out) : NULL;
    if (f32 || loader->model->f32) {
        linear->w = unpacked(tensor, in, out);
        if (!linear->w)
            refuse(loader, -ENOMEM, "out of memory");
        return;
    }
    linear->multiplier = need_multiplier(loader, matrix);
    linear->divisor = linear->multiplier * tensor->multiplier;
    if (!loader->err &&
        compute_pack_s8(loader->model->compute, tensor->data, out, in, &linear->packed) < 0)
        refuse(loader, -ENOMEM, "out of memory");
}

/* prefix + "_W" + suffix, with the bias prefix + "_b" + suffix. */
static void load_affine(struct loader *loader, const char *prefix, const char *suffix, size_t in,
                        size_t out, struct marian_linear *linear)
{
    char matrix[NAME_BYTES], bias[NAME_BYTES];

    spell(matrix, "%s_W%s", prefix, suffix);
    spell(bias, "%s_b%s", prefix, suffix);
    load_linear(loader, matrix, bias, in, out, linear);
}

static void load_norm(struct loader *loader, const char *prefix, struct marian_norm *norm)
{
    char name[NAME_BYTES];

    spell(name, "%s_ln_scale", prefix);
    norm->scale = need_vector(loader, name, loader->model->d);
    spell(name, "%s_ln_bias", prefix);
    norm->bias = need_vector(loader, name, loader->model->d);
}

static void load_attention(struct loader *loader, const char *layer, const char *kind,
                           struct marian_attention *attention)
{
    size_t d = loader->model->d;
    char prefix[NAME_BYTES], norm[NAME_BYTES];

    spell(prefix, "%s_%s", layer, kind);
    load_affine(loader, prefix, "q", d, d, &attention->q);
    load_affine(loader, prefix, "k", d, d, &attention->k);
    load_affine(loader, prefix, "v", d, d, &attention->v);
    load_affine(loader, prefix, "o", d, d, &attention->o);
    spell(norm, "%s_Wo", prefix);
    load_norm(loader, norm, &attention->norm);
}

static void load_ffn(struct loader *loader, const char *layer, struct marian_ffn *ffn)
{
    const struct marian_model *model = loader->model;
    char prefix[NAME_BYTES], norm[NAME_BYTES];

    spell(prefix, "%s_ffn", layer);
    load_affine(loader, prefix, "1", model->d, model->d_ffn, &ffn->in);
    load_affine(loader, prefix, "2", model->d_ffn, model->d, &ffn->out);
    spell(norm, "%s_ffn", prefix);
    load_norm(loader, norm, &ffn->norm);
}

static void load_encoder(struct loader *loader)
{
    struct marian_model *model = loader->model;

    for (size_t l = 0; l < model->n_encoder; l++) {
        char layer[NAME_BYTES];

        spell(layer, "encoder_l%zu", l + 1);
        load_attention(loader, layer, "self", &model->encoder[l].self);
        load_ffn(loader, layer, &model->encoder[l].ffn);
    }
}

static void load_decoder(struct loader *loader)
{
    struct marian_model *model = loader->model;
    size_t d = model->d;

    for (size_t l = 0; l < model->n_decoder; l++) {
        struct marian_decoder_layer *decoder = &model->decoder[l];
        char layer[NAME_BYTES], name[NAME_BYTES];

        spell(layer, "decoder_l%zu", l + 1);
        spell(name, "%s_rnn_W", layer);
        load_linear(loader, name, NULL, d, d, &decoder->input);
        spell(name, "%s_rnn", layer);
        load_affine(loader, name, "f", d, d, &decoder->forget);
        spell(name, "%s_rnn_ffn", layer);
        load_norm(loader, name, &decoder->norm);
        load_attention(loader, layer, "context", &decoder->context);
        load_ffn(loader, layer, &decoder->ffn);
    }
}

static void load_embedding(struct loader *loader, const char *name,
                           struct marian_embedding *embedding)
{
    const struct weights_tensor *tensor = loader->err ? NULL : need(loader, name);

    if (!tensor)
        return;
    if (tensor->rank != 2 || tensor->shape[1] != loader->model->d) {
        refuse(loader, -EBADMSG, "'%s' is no table of vectors of %zu", name, loader->model->d);
        return;
    }
    embedding->n = tensor->shape[0];
    embedding->d = tensor->shape[1];
    if (tensor->type == WEIGHTS_S8) {
        embedding->s8 = tensor->data;
        embedding->multiplier = tensor->multiplier;
    } else {
        embedding->f32 = tensor->data;
    }
}

static void load_embeddings(struct loader *loader)
{
    struct marian_model *model = loader->model;
    bool shared = weights_find(&model->weights, "Wemb") != NULL;
    const char *target = shared ? "Wemb" : "decoder_Wemb";

    load_embedding(loader, shared ? "Wemb" : "encoder_Wemb", &model->source);
    load_embedding(loader, target, &model->target);
    model->output_bias = need_vector(loader, "decoder_ff_logit_out_b", model->target.n);
    if (model->target.s8 && !model->f32)
        model->output_multiplier = need_multiplier(loader, target);
}

/* The value of "key: value" at the start of a line; false when there is none. */
static bool yaml_value(const char *config, const char *key, char *value, size_t size)
{
    size_t key_size = strlen(key);

    for (const char *line = config; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_size) == 0 && line[key_size] == ':') {
            const char *from = line + key_size + 1;
            size_t n;

            from += strspn(from, " \"");
            n = strcspn(from, "\"\r\n");
            snprintf(value, size, "%.*s", (int)(n < size ? n : size - 1), from);
            return true;
        }
    }
    return false;
}

/* Refuse what this file does not compute. A key that is not there has Marian's default, which fits. */
static void check_setting(struct loader *loader, const char *config, const char *key,
                          const char *only)
{
    char value[64];

    if (yaml_value(config, key, value, sizeof(value)) && strcmp(value, only) != 0)
        refuse(loader, -ENOTSUP, "its %s is '%s': only '%s' is supported", key, value, only);
}

static size_t need_count(struct loader *loader, const char *config, const char *key, size_t most)
{
    char value[32] = "";
    long n;

    if (!yaml_value(config, key, value, sizeof(value)))
        refuse(loader, -ENOTSUP, "its configuration lacks '%s'", key);
    n = strtol(value, NULL, 10);
    if (n < 1 || (size_t)n > most)
        refuse(loader, -EBADMSG, "its %s is '%s': 1 to %zu are possible", key, value, most);
    return loader->err ? 0 : (size_t)n;
}

static void load_config(struct loader *loader, const char *config)
{
    struct marian_model *model = loader->model;

    check_setting(loader, config, "type", "transformer");
    check_setting(loader, config, "dec-cell", "ssru");
    check_setting(loader, config, "transformer-decoder-autoreg", "rnn");
    check_setting(loader, config, "transformer-ffn-activation", "relu");
    check_setting(loader, config, "transformer-ffn-depth", "2");
    check_setting(loader, config, "transformer-preprocess", "");
    check_setting(loader, config, "transformer-postprocess", "dan");
    check_setting(loader, config, "transformer-postprocess-top", "");
    check_setting(loader, config, "transformer-no-projection", "false");
    check_setting(loader, config, "transformer-tied-layers", "[]");
    check_setting(loader, config, "transformer-train-position-embeddings", "false");
    check_setting(loader, config, "output-omit-bias", "false");
    model->d = need_count(loader, config, "dim-emb", 4096);
    model->d_ffn = need_count(loader, config, "transformer-dim-ffn", 65536);
    model->heads = need_count(loader, config, "transformer-heads", 64);
    model->n_encoder = need_count(loader, config, "enc-depth", MOST_LAYERS);
    model->n_decoder = need_count(loader, config, "dec-depth", MOST_LAYERS);
    if (!loader->err && (model->d % model->heads || model->d % 2 || model->d < 4))
        refuse(loader, -EBADMSG, "its width %zu does not divide by its %zu heads", model->d,
               model->heads);
}

/* Vaswani et al., "Attention Is All You Need", 3.5, with sines and cosines in a half each. */
static float *positions_create(size_t n, size_t d)
{
    float *positions = compute_alloc(sizeof(float) * n * d);
    size_t half = d / 2;

    for (size_t i = 0; positions && i < half; i++) {
        double frequency = exp(-(double)i * log(10000.0) / (double)(half - 1));

        for (size_t t = 0; t < n; t++) {
            positions[t * d + i] = (float)sin((double)t * frequency);
            positions[t * d + half + i] = (float)cos((double)t * frequency);
        }
    }
    return positions;
}

static void load_model(struct loader *loader, const char *config, size_t n_positions)
{
    struct marian_model *model = loader->model;

    load_config(loader, config);
    if (loader->err)
        return;
    model->encoder = calloc(model->n_encoder, sizeof(*model->encoder));
    model->decoder = calloc(model->n_decoder, sizeof(*model->decoder));
    model->positions = positions_create(n_positions, model->d);
    model->n_positions = n_positions;
    if (!model->encoder || !model->decoder || !model->positions)
        refuse(loader, -ENOMEM, "out of memory");
    if (loader->err)
        return;
    load_encoder(loader);
    load_decoder(loader);
    load_embeddings(loader);
}

int marian_model_load(const char *path, struct compute *compute, bool f32, size_t n_positions,
                      char *error, size_t size, struct marian_model **out)
{
    struct marian_model *model = calloc(1, sizeof(*model));
    struct loader loader = {model, error, size, 0};
    char *config = NULL;

    if (!model) {
        snprintf(error, size, "out of memory");
        return -ENOMEM;
    }
    model->compute = compute;
    model->exact = exact_for(compute_isa(compute));
    model->f32 = f32;
    loader.err = marian_open(path, error, size, &model->weights, &config);
    if (!loader.err)
        load_model(&loader, config, n_positions);
    free(config);
    if (loader.err) {
        marian_model_destroy(&model);
        return loader.err;
    }
    /* What was packed is not read again; biases and embeddings come back when they are touched. */
    madvise(model->weights.map, model->weights.map_bytes, MADV_DONTNEED);
    *out = model;
    return 0;
}

static void linear_fini(struct marian_linear *linear)
{
    compute_weights_s8_destroy(&linear->packed);
    free(linear->w);
}

static void attention_fini(struct marian_attention *attention)
{
    linear_fini(&attention->q);
    linear_fini(&attention->k);
    linear_fini(&attention->v);
    linear_fini(&attention->o);
}

static void ffn_fini(struct marian_ffn *ffn)
{
    linear_fini(&ffn->in);
    linear_fini(&ffn->out);
}

void marian_model_destroy(struct marian_model **out)
{
    struct marian_model *model = *out;

    if (!model)
        return;
    for (size_t l = 0; model->encoder && l < model->n_encoder; l++) {
        attention_fini(&model->encoder[l].self);
        ffn_fini(&model->encoder[l].ffn);
    }
    for (size_t l = 0; model->decoder && l < model->n_decoder; l++) {
        linear_fini(&model->decoder[l].input);
        linear_fini(&model->decoder[l].forget);
        attention_fini(&model->decoder[l].context);
        ffn_fini(&model->decoder[l].ffn);
    }
    free(model->encoder);
    free(model->decoder);
    free(model->positions);
    weights_close(&model->weights);
    free(model);
    *out = NULL;
}

static void embedding_row(const struct marian_embedding *embedding, size_t id, float *out)
{
    if (embedding->f32) {
        memcpy(out, embedding->f32 + id * embedding->d, sizeof(float) * embedding->d);
        return;
    }
    for (size_t i = 0; i < embedding->d; i++)
        out[i] = (float)embedding->s8[id * embedding->d + i] / embedding->multiplier;
}

void marian_embed(const struct marian_model *model, const struct marian_embedding *embedding,
                  int64_t id, size_t at, float *out)
{
    const float *position = model->positions + at * model->d;
    float factor = sqrtf((float)model->d);

    if (id < 0) {
        memcpy(out, position, sizeof(float) * model->d);
        return;
    }
    embedding_row(embedding, (size_t)id, out);
    for (size_t i = 0; i < model->d; i++)
        out[i] = out[i] * factor + position[i];
}

/* The rows of the target embedding that score `ids`, for f32. */
static int output_f32(const struct marian_model *model, const uint32_t *ids, size_t n,
                      struct marian_linear *linear)
{
    linear->w = compute_alloc(sizeof(float) * n * model->d);
    if (!linear->w)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        embedding_row(&model->target, ids ? ids[i] : i, linear->w + i * model->d);
    return 0;
}

static int output_s8(const struct marian_model *model, const uint32_t *ids, size_t n,
                     struct marian_linear *linear)
{
    const int8_t *table = model->target.s8;
    size_t d = model->d;
    int8_t *rows = NULL;
    int err;

    linear->multiplier = model->output_multiplier;
    linear->divisor = model->output_multiplier * model->target.multiplier;
    if (!ids)
        return compute_pack_s8(model->compute, table, n, d, &linear->packed);
    rows = compute_alloc(n * d);
    if (!rows)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * d, table + ids[i] * d, d);
    err = compute_pack_s8(model->compute, rows, n, d, &linear->packed);
    free(rows);
    return err;
}

int marian_output_create(const struct marian_model *model, uint32_t *ids, size_t n,
                         struct marian_output *out)
{
    struct marian_output output = {0};
    int err;

    if (!ids)
        n = model->target.n;
    output.linear.in = model->d;
    output.linear.out = n;
    output.linear.bias = model->output_bias;
    if (ids) {
        output.bias = compute_alloc(sizeof(float) * n);
        if (!output.bias)
            return -ENOMEM;
        for (size_t i = 0; i < n; i++)
            output.bias[i] = model->output_bias[ids[i]];
        output.linear.bias = output.bias;
    }
    err = model->f32 || !model->target.s8 ? output_f32(model, ids, n, &output.linear)
                                          : output_s8(model, ids, n, &output.linear);
    if (err < 0) {
        marian_output_fini(&output);
        return err;
    }
    output.ids = ids;
    *out = output;
    return 0;
}

void marian_output_fini(struct marian_output *output)
{
    linear_fini(&output->linear);
    free(output->ids);
    free(output->bias);
    *output = (struct marian_output){0};
}

int marian_scratch_init(struct marian_scratch *scratch, const struct marian_model *model,
                        size_t widest)
{
    if (widest < model->d_ffn)
        widest = model->d_ffn;
    if (widest < model->d)
        widest = model->d;
    scratch->q = compute_alloc(MARIAN_BLOCK * widest);
    scratch->acc = compute_alloc(sizeof(int32_t) * MARIAN_BLOCK * widest);
    scratch->hidden = compute_alloc(sizeof(float) * MARIAN_BLOCK * (model->d_ffn + model->d));
    scratch->sum = compute_alloc(sizeof(float) * MARIAN_BLOCK * model->d);
    if (scratch->q && scratch->acc && scratch->hidden && scratch->sum)
        return 0;
    marian_scratch_fini(scratch);
    return -ENOMEM;
}

void marian_scratch_fini(struct marian_scratch *scratch)
{
    free(scratch->q);
    free(scratch->acc);
    free(scratch->hidden);
    free(scratch->sum);
    *scratch = (struct marian_scratch){0};
}

static size_t block_of(size_t rows)
{
    return rows < MARIAN_BLOCK ? rows : MARIAN_BLOCK;
}

/* Of what lies quantized in scratch->q. */
static void product(const struct marian_model *model, struct marian_scratch *scratch,
                    const struct marian_linear *linear, const float *bias, size_t rows, bool relu,
                    float *y)
{
    compute_gemm_s8(model->compute, scratch->q, rows, linear->packed, scratch->acc);
    model->exact->dequantize(scratch->acc, rows, linear->out, linear->divisor, bias, relu, y);
}

static void linear_block(const struct marian_model *model, struct marian_scratch *scratch,
                         const struct marian_linear *linear, const float *bias, const float *x,
                         size_t rows, bool relu, float *y)
{
    if (linear->packed) {
        compute_quantize(x, rows * linear->in, linear->multiplier, scratch->q);
        product(model, scratch, linear, bias, rows, relu, y);
        return;
    }
    compute_linear(model->compute, x, rows, linear->w, bias, linear->out, linear->in, y);
    if (relu)
        compute_relu(y, rows * linear->out);
}

static void linear_block_wide(const struct marian_model *model, struct marian_scratch *scratch,
                              const struct marian_linear *linear, const double *x, size_t rows,
                              float *y)
{
    if (linear->packed) {
        model->exact->quantize(x, rows * linear->in, linear->multiplier, scratch->q);
        product(model, scratch, linear, linear->bias, rows, false, y);
        return;
    }
    for (size_t i = 0; i < rows * linear->in; i++)
        scratch->hidden[i] = (float)x[i];
    linear_block(model, scratch, linear, linear->bias, scratch->hidden, rows, false, y);
}

void marian_linear(const struct marian_model *model, struct marian_scratch *scratch,
                   const struct marian_linear *linear, const float *x, size_t rows, float *y)
{
    for (size_t i = 0; i < rows; i += MARIAN_BLOCK)
        linear_block(model, scratch, linear, linear->bias, x + i * linear->in, block_of(rows - i),
                     false, y + i * linear->out);
}

void marian_residual(const struct marian_model *model, struct marian_scratch *scratch,
                     const struct marian_linear *linear, const struct marian_norm *norm,
                     const double *y, size_t rows, float *x)
{
    for (size_t i = 0; i < rows; i += MARIAN_BLOCK) {
        size_t n = block_of(rows - i);

        linear_block_wide(model, scratch, linear, y + i * linear->in, n, scratch->sum);
        model->exact->add_norm(x + i * model->d, scratch->sum, NULL, n, model->d, norm->scale,
                               norm->bias, MARIAN_EPSILON);
    }
}

void marian_ffn(const struct marian_model *model, struct marian_scratch *scratch,
                const struct marian_ffn *ffn, size_t rows, float *x)
{
    for (size_t i = 0; i < rows; i += MARIAN_BLOCK) {
        size_t n = block_of(rows - i);

        linear_block(model, scratch, &ffn->in, ffn->in.bias, x + i * model->d, n, true,
                     scratch->hidden);
        linear_block(model, scratch, &ffn->out, NULL, scratch->hidden, n, false, scratch->sum);
        model->exact->add_norm(x + i * model->d, scratch->sum, ffn->out.bias, n, model->d,
                               ffn->norm.scale, ffn->norm.bias, MARIAN_EPSILON);
    }
}
