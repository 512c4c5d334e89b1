#include "asr/whisper/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void workspace_destroy(struct workspace **workspace)
{
    struct workspace *w = *workspace;

    if (!w)
        return;
    encoder_buffers_free(&w->encoder);
    decoder_state_free(&w->decoder);
    free(w->feats);
    free(w->logits);
    free(w);
    *workspace = NULL;
}

static int workspace_create(const struct asr_model *model, struct workspace **out)
{
    const struct whisper_weights *weights = &model->weights;
    struct workspace *w = calloc(1, sizeof(*w));
    int err = -ENOMEM;

    if (!w)
        return err;
    w->feats = compute_alloc(weights->n_mels * WHISPER_WINDOW_FRAMES * sizeof(float));
    w->logits = compute_alloc(DECODER_SLOTS * weights->n_vocab * sizeof(float));
    if (w->feats && w->logits)
        err = encoder_buffers_create(weights, &w->encoder);
    if (err == 0)
        err = decoder_state_create(weights, model->compute, model->kernels, w->encoder.scratch,
                                   &w->decoder);
    if (err == 0)
        *out = w;
    else
        workspace_destroy(&w);
    return err;
}

int model_take_workspace(struct asr_model *model, struct workspace **out)
{
    struct workspace *w;

    pthread_mutex_lock(&model->lock);
    w = model->idle;
    if (w)
        model->idle = w->next;
    pthread_mutex_unlock(&model->lock);
    if (!w)
        return workspace_create(model, out);
    *out = w;
    return 0;
}

void model_give_workspace(struct asr_model *model, struct workspace **workspace)
{
    if (!*workspace)
        return;
    pthread_mutex_lock(&model->lock);
    (*workspace)->next = model->idle;
    model->idle = *workspace;
    pthread_mutex_unlock(&model->lock);
    *workspace = NULL;
}

static int load_parts(struct asr_model *model, const char *folder, int n_threads, char *error,
                      size_t size)
{
    char path[4096];
    int err = compute_create(n_threads, &model->compute);

    if (err < 0) {
        snprintf(error, size, "cannot start the compute threads: %s", strerror(-err));
        return err;
    }
    model->kernels = whisper_kernels_for(compute_isa(model->compute));
    snprintf(path, sizeof(path), "%s/model.bin", folder);
    if ((err = whisper_weights_load(path, error, size, &model->weights)) < 0 ||
        (err = vocab_load(folder, model->weights.n_vocab, error, size, &model->vocab)) < 0)
        return err;
    err = mel_create((int)model->weights.n_mels, compute_isa(model->compute), &model->mel);
    if (err == -EINVAL) {
        snprintf(error, size, "cannot use '%s': %zu mel bands, only 80 and 128 are known", path,
                 model->weights.n_mels);
        return -ENOTSUP;
    }
    return err;
}

int model_load(const char *folder, int n_threads, const char *compute_type, char *error,
               size_t size, struct asr_model **out)
{
    struct asr_model *model;
    int err;

    if (compute_type && *compute_type && strcmp(compute_type, "f32") != 0) {
        snprintf(error, size, "compute type '%s' is not offered by whisper: use f32", compute_type);
        return -ENOTSUP;
    }
    model = calloc(1, sizeof(*model));
    if (!model) {
        snprintf(error, size, "out of memory");
        return -ENOMEM;
    }
    pthread_mutex_init(&model->lock, NULL);
    err = load_parts(model, folder, n_threads, error, size);
    if (err == 0) {
        *out = model;
        model = NULL;
    }
    model_unload(&model);
    return err;
}

void model_unload(struct asr_model **model)
{
    struct asr_model *m = *model;

    if (!m)
        return;
    while (m->idle) {
        struct workspace *w = m->idle;

        m->idle = w->next;
        workspace_destroy(&w);
    }
    vocab_free(&m->vocab);
    whisper_weights_free(&m->weights);
    mel_destroy(&m->mel);
    compute_destroy(&m->compute);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *model = NULL;
}
