#include "asr/whisper/weights.h"

#include "compute/ops.h"
#include "compute/weights/ct2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FEW_GRAIN_BYTES ((size_t)2 << 20) /* weights a thread must have to be worth waking */

/* Errors are kept in the loader: once one is set, the rest does nothing. */
struct loader {
    struct whisper_weights *to;
    char *error;
    size_t size;
    int err;
};

static void fail(struct loader *loader, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(struct loader *loader, int err, const char *fmt, ...)
{
    va_list args;

    if (loader->err < 0)
        return;
    loader->err = err;
    va_start(args, fmt);
    if (loader->size)
        vsnprintf(loader->error, loader->size, fmt, args);
    va_end(args);
}

static float *own(struct loader *loader, size_t count)
{
    struct whisper_weights *to = loader->to;
    float *values = compute_alloc((count + 1) * sizeof(float));

    if (values && to->n_owned == to->owned_capacity) {
        size_t capacity = to->owned_capacity ? 2 * to->owned_capacity : 256;
        float **owned = realloc(to->owned, capacity * sizeof(*owned));

        if (!owned) {
            free(values);
            values = NULL;
        } else {
            to->owned = owned;
            to->owned_capacity = capacity;
        }
    }
    if (!values) {
        fail(loader, -ENOMEM, "out of memory");
        return NULL;
    }
    to->owned[to->n_owned++] = values;
    return values;
}

static const struct weights_tensor *find(struct loader *loader, const char *scope, const char *leaf)
{
    char name[192];
    const struct weights_tensor *tensor;

    if (loader->err < 0)
        return NULL;
    snprintf(name, sizeof(name), "%s/%s", scope, leaf);
    tensor = weights_find(&loader->to->file, name);
    if (!tensor)
        fail(loader, -EBADMSG, "it has no tensor '%s'", name);
    return tensor;
}

static void check_shape(struct loader *loader, const struct weights_tensor *tensor, size_t rank,
                        const size_t *shape)
{
    if (!tensor || loader->err < 0)
        return;
    if (tensor->rank != rank)
        fail(loader, -EBADMSG, "'%s' has %zu dimensions, not %zu", tensor->name, tensor->rank,
             rank);
    for (size_t i = 0; i < rank && loader->err == 0; i++)
        if (tensor->shape[i] != shape[i])
            fail(loader, -EBADMSG, "'%s' has %zu in dimension %zu, not %zu", tensor->name,
                 tensor->shape[i], i, shape[i]);
}

/* CTranslate2's int8: one scale a row, value = q / scale. */
static void divide_by_scales(struct loader *loader, const struct weights_tensor *tensor,
                             float *values)
{
    char name[256];
    const struct weights_tensor *scales;
    size_t rows = tensor->shape[0], columns = tensor->count / (rows ? rows : 1);
    float *scale;

    snprintf(name, sizeof(name), "%s_scale", tensor->name);
    scales = weights_find(&loader->to->file, name);
    if (!scales || scales->type != WEIGHTS_F32 || scales->count != rows) {
        fail(loader, -EBADMSG, "'%s' is int8 and has no scale a row", tensor->name);
        return;
    }
    scale = malloc((rows + 1) * sizeof(float));
    if (!scale) {
        fail(loader, -ENOMEM, "out of memory");
        return;
    }
    weights_to_f32(scales, scale);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            values[r * columns + i] =
                (float)((const int8_t *)tensor->data)[r * columns + i] / scale[r];
    free(scale);
}

static const float *widen(struct loader *loader, const struct weights_tensor *tensor)
{
    float *values;

    if (!tensor || loader->err < 0)
        return NULL;
    if (tensor->type != WEIGHTS_F16 && tensor->type != WEIGHTS_F32 &&
        tensor->type != WEIGHTS_BF16 && !(tensor->type == WEIGHTS_S8 && tensor->rank > 1)) {
        fail(loader, -ENOTSUP, "'%s' is of an unexpected type", tensor->name);
        return NULL;
    }
    values = own(loader, tensor->count);
    if (values && tensor->type == WEIGHTS_S8)
        divide_by_scales(loader, tensor, values);
    else if (values)
        weights_to_f32(tensor, values);
    return values;
}

static const float *vector(struct loader *loader, const char *scope, const char *leaf, size_t n)
{
    const struct weights_tensor *tensor = find(loader, scope, leaf);

    check_shape(loader, tensor, 1, &n);
    return widen(loader, tensor);
}

static const float *tensor3(struct loader *loader, const char *scope, const char *leaf, size_t a,
                            size_t b, size_t c)
{
    const struct weights_tensor *tensor = find(loader, scope, leaf);

    check_shape(loader, tensor, 3, (const size_t[]){a, b, c});
    return widen(loader, tensor);
}

static const float *positions(struct loader *loader, const char *scope, size_t n, size_t k)
{
    const struct weights_tensor *tensor = find(loader, scope, "position_encodings/encodings");

    check_shape(loader, tensor, 2, (const size_t[]){n, k});
    return widen(loader, tensor);
}

static struct linear matrix(struct loader *loader, const char *scope, size_t n, size_t k)
{
    struct linear linear = {.n = n, .k = k};
    const struct weights_tensor *tensor = find(loader, scope, "weight");

    check_shape(loader, tensor, 2, (const size_t[]){n, k});
    if (!tensor || loader->err < 0)
        return linear;
    linear.half = tensor->type == WEIGHTS_F16;
    linear.w = linear.half ? tensor->data : widen(loader, tensor);
    return linear;
}

static struct linear linear_of(struct loader *loader, const char *scope, const char *leaf, size_t n,
                               size_t k)
{
    char full[128];
    struct linear linear;

    snprintf(full, sizeof(full), "%s/%s", scope, leaf);
    linear = matrix(loader, full, n, k);
    linear.bias = vector(loader, full, "bias", n);
    return linear;
}

static struct norm norm_of(struct loader *loader, const char *scope, const char *leaf, size_t n)
{
    char full[128];

    snprintf(full, sizeof(full), "%s/%s", scope, leaf);
    return (struct norm){.scale = vector(loader, full, "gamma", n),
                         .bias = vector(loader, full, "beta", n)};
}

static void load_encoder_layer(struct loader *loader, size_t i)
{
    struct encoder_layer *layer = &loader->to->encoder[i];
    size_t c = loader->to->n_state, f = loader->to->n_ffn;
    char scope[64];

    snprintf(scope, sizeof(scope), "encoder/layer_%zu", i);
    layer->attention_norm = norm_of(loader, scope, "self_attention/layer_norm", c);
    layer->qkv = linear_of(loader, scope, "self_attention/linear_0", 3 * c, c);
    layer->out = linear_of(loader, scope, "self_attention/linear_1", c, c);
    layer->ffn_norm = norm_of(loader, scope, "ffn/layer_norm", c);
    layer->up = linear_of(loader, scope, "ffn/linear_0", f, c);
    layer->down = linear_of(loader, scope, "ffn/linear_1", c, f);
}

static void load_decoder_layer(struct loader *loader, size_t i)
{
    struct decoder_layer *layer = &loader->to->decoder[i];
    size_t c = loader->to->n_state, f = loader->to->n_ffn;
    char scope[64];

    snprintf(scope, sizeof(scope), "decoder/layer_%zu", i);
    layer->self_norm = norm_of(loader, scope, "self_attention/layer_norm", c);
    layer->self_qkv = linear_of(loader, scope, "self_attention/linear_0", 3 * c, c);
    layer->self_out = linear_of(loader, scope, "self_attention/linear_1", c, c);
    layer->cross_norm = norm_of(loader, scope, "attention/layer_norm", c);
    layer->cross_q = linear_of(loader, scope, "attention/linear_0", c, c);
    layer->cross_kv = linear_of(loader, scope, "attention/linear_1", 2 * c, c);
    layer->cross_out = linear_of(loader, scope, "attention/linear_2", c, c);
    layer->ffn_norm = norm_of(loader, scope, "ffn/layer_norm", c);
    layer->up = linear_of(loader, scope, "ffn/linear_0", f, c);
    layer->down = linear_of(loader, scope, "ffn/linear_1", c, f);
}

static size_t count_layers(const struct weights *file, const char *side)
{
    char name[80];
    size_t n = 0;

    for (; n < WHISPER_MAX_LAYERS; n++) {
        snprintf(name, sizeof(name), "%s/layer_%zu/ffn/linear_0/weight", side, n);
        if (!weights_find(file, name))
            break;
    }
    return n;
}

static size_t heads_of(struct loader *loader, const char *side)
{
    const struct weights_tensor *tensor = find(loader, side, "num_heads");
    int16_t heads = 0;

    if (!tensor)
        return 1;
    if (tensor->type != WEIGHTS_S16 || tensor->count != 1)
        fail(loader, -EBADMSG, "'%s' is no 16-bit number", tensor->name);
    else
        memcpy(&heads, tensor->data, sizeof(heads));
    if (loader->err == 0 && (heads < 1 || loader->to->n_state % (size_t)heads ||
                             loader->to->n_state / (size_t)heads % KERNELS_STEP))
        fail(loader, -ENOTSUP, "%d heads of %zu channels: a head must have a multiple of %d", heads,
             loader->to->n_state, KERNELS_STEP);
    return loader->err == 0 ? (size_t)heads : 1;
}

/* What the shapes say of the network; everything else is checked against it. */
static void read_dimensions(struct loader *loader)
{
    struct whisper_weights *to = loader->to;
    const struct weights_tensor *conv1 = find(loader, "encoder/conv1", "weight");
    const struct weights_tensor *audio = find(loader, "encoder", "position_encodings/encodings");
    const struct weights_tensor *text = find(loader, "decoder", "position_encodings/encodings");
    const struct weights_tensor *vocab = find(loader, "decoder/embeddings", "weight");
    const struct weights_tensor *up = find(loader, "encoder/layer_0/ffn/linear_0", "weight");

    if (loader->err < 0)
        return;
    if (conv1->rank != 3 || audio->rank != 2 || text->rank != 2 || vocab->rank != 2 ||
        up->rank != 2) {
        fail(loader, -EBADMSG, "its tensors have the wrong number of dimensions");
        return;
    }
    to->n_state = conv1->shape[0];
    to->n_mels = conv1->shape[1];
    to->n_audio = audio->shape[0];
    to->n_text = text->shape[0];
    to->n_vocab = vocab->shape[0];
    to->n_ffn = up->shape[0];
    if (to->n_state == 0 || to->n_state > 8192 || to->n_ffn == 0 || to->n_ffn > 65536 ||
        to->n_ffn % KERNELS_STEP || to->n_vocab == 0 || to->n_vocab > 1 << 20)
        fail(loader, -ENOTSUP, "%zu channels, %zu in the feed-forward, %zu tokens: unusable sizes",
             to->n_state, to->n_ffn, to->n_vocab);
    if (to->n_audio != WHISPER_WINDOW_FRAMES / 2 || to->n_text < 8 || to->n_text > 4096)
        fail(loader, -ENOTSUP, "%zu audio and %zu text positions: unusable sizes", to->n_audio,
             to->n_text);
    to->encoder_heads = heads_of(loader, "encoder");
    to->decoder_heads = heads_of(loader, "decoder");
    to->n_encoder_layers = count_layers(&to->file, "encoder");
    to->n_decoder_layers = count_layers(&to->file, "decoder");
    if (to->n_encoder_layers == 0 || to->n_decoder_layers == 0)
        fail(loader, -EBADMSG, "it has no layers");
}

/* Usually another name for the embeddings: then it must not be widened twice. */
static struct linear projection_of(struct loader *loader)
{
    const struct whisper_weights *to = loader->to;
    const struct weights_tensor *own_one = find(loader, "decoder/projection", "weight");
    const struct weights_tensor *tied = find(loader, "decoder/embeddings", "weight");

    if (own_one && tied && own_one->data == tied->data)
        return to->embeddings;
    return matrix(loader, "decoder/projection", to->n_vocab, to->n_state);
}

static void load_all(struct loader *loader)
{
    struct whisper_weights *to = loader->to;
    size_t c = to->n_state;

    to->conv1 = tensor3(loader, "encoder/conv1", "weight", c, to->n_mels, 3);
    to->conv1_bias = vector(loader, "encoder/conv1", "bias", c);
    to->conv2 = tensor3(loader, "encoder/conv2", "weight", c, c, 3);
    to->conv2_bias = vector(loader, "encoder/conv2", "bias", c);
    to->encoder_positions = positions(loader, "encoder", to->n_audio, c);
    to->encoder_norm = norm_of(loader, "encoder", "layer_norm", c);
    to->embeddings = matrix(loader, "decoder/embeddings", to->n_vocab, c);
    to->projection = projection_of(loader);
    to->decoder_positions = positions(loader, "decoder", to->n_text, c);
    to->decoder_norm = norm_of(loader, "decoder", "layer_norm", c);
    for (size_t i = 0; i < to->n_encoder_layers && loader->err == 0; i++)
        load_encoder_layer(loader, i);
    for (size_t i = 0; i < to->n_decoder_layers && loader->err == 0; i++)
        load_decoder_layer(loader, i);
}

int whisper_weights_load(const char *path, char *error, size_t size, struct whisper_weights *out)
{
    char why[256] = "";
    struct loader loader = {.to = out, .error = why, .size = sizeof(why)};
    int err;

    memset(out, 0, sizeof(*out));
    err = ct2_open(path, "WhisperSpec", error, size, &out->file);
    if (err < 0)
        return err;
    posix_madvise(out->file.map, out->file.map_bytes,
                  POSIX_MADV_WILLNEED); /* or the first call waits */
    read_dimensions(&loader);
    if (loader.err == 0)
        load_all(&loader);
    if (loader.err < 0) {
        snprintf(error, size, "cannot use '%s': %s", path, why);
        whisper_weights_free(out);
    }
    return loader.err;
}

void whisper_weights_free(struct whisper_weights *weights)
{
    for (size_t i = 0; i < weights->n_owned; i++)
        free(weights->owned[i]);
    free(weights->owned);
    weights_close(&weights->file);
    memset(weights, 0, sizeof(*weights));
}

/* What compute_parallel_for() needs to know of one product. */
struct product {
    const struct linear *linear;
    const struct whisper_kernels *kernels;
    const float *x;
    size_t rows;
    float *out;
};

static void run_product(void *arg, size_t begin, size_t end)
{
    const struct product *p = arg;

    p->kernels->linear_f16(p->x, p->rows, p->linear->w, p->linear->bias, begin, end, p->linear->n,
                           p->linear->k, p->out);
}

void linear_few(const struct linear *linear, struct compute *c,
                const struct whisper_kernels *kernels, const float *x, size_t rows, float *out)
{
    struct product product = {linear, kernels, x, rows, out};

    if (!linear->half)
        compute_linear(c, x, rows, linear->w, linear->bias, linear->n, linear->k, out);
    else if (linear->n * linear->k * 2 <= FEW_GRAIN_BYTES)
        run_product(&product, 0, linear->n);
    else
        compute_parallel_for(c, linear->n, FEW_GRAIN_BYTES / (linear->k * 2), run_product,
                             &product);
}

const float *linear_rows(const struct linear *linear, size_t begin, size_t n, float *scratch)
{
    if (!linear->half)
        return (const float *)linear->w + begin * linear->k;
    compute_f16_to_f32((const char *)linear->w + begin * linear->k * 2, n * linear->k, scratch);
    return scratch;
}

void linear_many(const struct linear *linear, struct compute *c, const float *x, size_t rows,
                 float beta, float *out, float *scratch)
{
    size_t block = LINEAR_SCRATCH / linear->k;

    for (size_t begin = 0; begin < linear->n; begin += block) {
        size_t n = linear->n - begin < block ? linear->n - begin : block;
        const float *w = linear_rows(linear, begin, n, scratch);

        compute_gemm(c, false, true, rows, n, linear->k, 1, x, linear->k, w, linear->k, beta,
                     out + begin, linear->n);
    }
    if (linear->bias)
        compute_add_bias(out, linear->bias, rows, linear->n);
}
