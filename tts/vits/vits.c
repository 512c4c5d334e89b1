#include "tts/vits/vits.h"

#include "tts/cancel.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Frames that go through the vocoder at once: what a stage makes of them stays in the caches. */
#define FRAMES_VOCODER 12
/* And through the flow, whose weights are larger than the caches: enough to pay for reading them. */
#define FRAMES_FLOW 48

static int load_speakers(struct vits_loader *loader, struct vits *vits)
{
    const struct onnx_node *gather = onnx_module_node(loader->onnx, "emb_g", "Gather");
    const struct weights_tensor *tensor = weights_find(&loader->onnx->weights, "emb_g.weight");
    size_t count = 0;

    if (!gather)
        gather = onnx_consumer(loader->onnx, "Gather", 1, "sid");
    if (!tensor && gather && gather->n_inputs > 0)
        tensor = weights_find(&loader->onnx->weights, gather->inputs[0]);
    if (!tensor)
        return 0; /* one speaker */
    if (tensor->rank != 2 || tensor->count == 0)
        return vits_refuse(loader, "'%s' is no table of speakers", tensor->name);
    vits->n_speakers = tensor->shape[0];
    vits->speaker_channels = tensor->shape[1];
    return vits_load_floats(loader, tensor->name, &count, &vits->speakers);
}

int vits_load_graph(struct compute *compute, const struct onnx *onnx, char *error, size_t size,
                    struct vits **out)
{
    struct vits_loader loader = {onnx, vits_kernels_pick(compute_isa(compute)), error, size};
    struct vits *vits = calloc(1, sizeof(*vits));
    int err;

    if (!vits)
        return -ENOMEM;
    vits->compute = compute;
    err = load_speakers(&loader, vits);
    if (!err)
        err = vits_text_encoder_load(&loader, &vits->text_encoder);
    if (!err)
        err = vits_duration_load(&loader, vits->text_encoder.hidden, vits->speaker_channels,
                                 &vits->duration);
    if (!err)
        err =
            vits_flow_load(&loader, vits->text_encoder.latent, vits->speaker_channels, &vits->flow);
    if (!err)
        err = vits_vocoder_load(&loader, vits->text_encoder.latent, vits->speaker_channels,
                                &vits->vocoder);
    if (!err) {
        *out = vits;
        vits = NULL; /* the caller's now */
    } else if (err == -ENOMEM) {
        vits_refuse(&loader, "out of memory");
    }
    vits_destroy(&vits);
    return err;
}

int vits_load(struct compute *compute, const char *path, char *error, size_t size,
              struct vits **out)
{
    struct onnx onnx;
    char why[256] = "";
    int err = onnx_open(path, error, size, &onnx);

    if (err < 0)
        return err;
    err = vits_load_graph(compute, &onnx, why, sizeof(why), out);
    onnx_close(&onnx);
    if (err < 0 && size)
        snprintf(error, size, "'%s' is no Piper voice: %s", path, why);
    return err;
}

void vits_destroy(struct vits **vits)
{
    struct vits *self = *vits;

    if (!self)
        return;
    vits_text_encoder_fini(&self->text_encoder);
    vits_duration_fini(&self->duration);
    vits_flow_fini(&self->flow);
    vits_vocoder_fini(&self->vocoder);
    free(self->speakers);
    free(self);
    *vits = NULL;
}

int64_t vits_frames_of(const float *log_w, size_t n, float length_scale, uint32_t *frames)
{
    int64_t total = 0;

    for (size_t t = 0; t < n; t++) {
        float w = ceilf(expf(log_w[t]) * length_scale);

        if (!(w >= 0.0f && w <= (float)(VITS_MAX_FRAMES - total)))
            return -E2BIG;
        frames[t] = (uint32_t)w;
        total += frames[t];
    }
    return total ? total : 1;
}

int vits_sample_prior(const struct vits_plane *prior, const uint32_t *frames, size_t total,
                      float noise_scale, struct vits_noise *noise, struct vits_plane *z)
{
    size_t latent = prior->c / 2;

    if (vits_plane_init(z, latent, total, 0) < 0)
        return -ENOMEM;
    for (size_t c = 0; c < latent; c++) {
        const float *mean = vits_plane_row(prior, c), *logs = vits_plane_row(prior, latent + c);
        float *out = vits_plane_row(z, c);

        vits_noise_fill(noise, noise_scale, out, total);
        for (size_t t = 0; t < prior->n; t++) {
            float deviation = noise_scale != 0.0f ? expf(logs[t]) : 0.0f;

            for (uint32_t i = 0; i < frames[t]; i++, out++)
                *out = mean[t] + *out * deviation;
        }
    }
    return 0;
}

/* One utterance on its way. */
struct utterance {
    const struct vits *vits;
    const struct vits_options *options;
    const float *speaker; /* (speaker_channels) or NULL */
    struct vits_noise noise;
    struct vits_plane x, prior, z;
    float *noise_w, *log_w; /* (2, n), (n) */
    uint32_t *frames;       /* (n) */
};

static void utterance_fini(struct utterance *u)
{
    vits_plane_fini(&u->x);
    vits_plane_fini(&u->prior);
    vits_plane_fini(&u->z);
    free(u->noise_w);
    free(u->log_w);
    free(u->frames);
}

/* The prior, sampled: u->z (latent, frames). */
static int make_prior(struct utterance *u, const int64_t *ids, size_t n)
{
    const struct vits *vits = u->vits;
    const struct vits_options *options = u->options;
    int64_t total;
    int err = vits_text_encoder_run(vits->compute, &vits->text_encoder, ids, n, options->cancel,
                                    &u->x, &u->prior);

    if (err < 0)
        return err;
    u->noise_w = calloc(2 * n, sizeof(*u->noise_w));
    u->log_w = calloc(n, sizeof(*u->log_w));
    u->frames = calloc(n, sizeof(*u->frames));
    if (!u->noise_w || !u->log_w || !u->frames)
        return -ENOMEM;
    vits_noise_fill(&u->noise, options->noise_w, u->noise_w, 2 * n);
    err = vits_duration_run(vits->compute, &vits->duration, &u->x, u->speaker, options->cancel,
                            u->noise_w, u->log_w);
    if (err < 0)
        return err;
    total = vits_frames_of(u->log_w, n, options->length_scale, u->frames);
    if (total < 0)
        return (int)total;
    return vits_sample_prior(&u->prior, u->frames, (size_t)total, options->noise_scale, &u->noise,
                             &u->z);
}

static int is_cancelled(const struct utterance *u)
{
    return tts_cancelled(u->options->cancel) ? -ECANCELED : 0;
}

/* Latent frames (latent, n) through the vocoder. */
static int make_samples(const struct utterance *u, struct vits_stream *stream, const float *latent,
                        size_t ld, size_t n, bool last, vits_emit emit, void *arg)
{
    const float *pcm = NULL;
    size_t n_samples = 0;
    int err = 0;

    for (size_t at = 0; !err && at < n;) {
        size_t some = n - at < FRAMES_VOCODER ? n - at : FRAMES_VOCODER;

        err = vits_stream_push(stream, latent + at, ld, some, last && at + some == n, &pcm,
                               &n_samples);
        at += some;
        if (!err)
            err = is_cancelled(u);
        if (!err && n_samples)
            err = emit(arg, pcm, n_samples);
    }
    return err;
}

/* Flow and vocoder, a few frames at a time. */
static int make_sound(const struct utterance *u, vits_emit emit, void *arg)
{
    const struct vits *vits = u->vits;
    const struct vits_plane *z = &u->z;
    struct vits_flow_stream *flow = NULL;
    struct vits_stream *stream = NULL;
    const float *latent = NULL;
    size_t ld = 0, made = 0;
    int err = vits_flow_stream_create(vits->compute, &vits->flow, u->speaker, &flow);

    if (!err)
        err = vits_stream_create(vits->compute, &vits->vocoder, u->speaker, &stream);
    for (size_t at = 0; !err && at < z->n;) {
        size_t n = z->n - at < FRAMES_FLOW ? z->n - at : FRAMES_FLOW;
        bool last = at + n == z->n;

        err = vits_flow_stream_push(flow, z->data + at, z->ld, n, last, &latent, &ld, &made);
        at += n;
        if (!err)
            err = is_cancelled(u);
        if (!err)
            err = make_samples(u, stream, latent, ld, made, last, emit, arg);
    }
    vits_flow_stream_destroy(&flow);
    vits_stream_destroy(&stream);
    return err;
}

int vits_speak(const struct vits *vits, const int64_t *ids, size_t n,
               const struct vits_options *options, vits_emit emit, void *arg)
{
    struct utterance u = {.vits = vits, .options = options};
    int err;

    if (n == 0 || options->speaker < 0 ||
        (options->speaker > 0 && (uint64_t)options->speaker >= vits->n_speakers))
        return -EINVAL;
    if (n > VITS_MAX_IDS)
        return -E2BIG;
    if (vits->speakers)
        u.speaker = vits->speakers + (size_t)options->speaker * vits->speaker_channels;
    vits_noise_seed(&u.noise, options->seed);
    err = make_prior(&u, ids, n);
    if (!err)
        err = make_sound(&u, emit, arg);
    utterance_fini(&u);
    return err;
}
