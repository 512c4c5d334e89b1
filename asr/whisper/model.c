#include "asr/whisper/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CANCEL_POLL_NS 10000000 /* how often a waiting call looks whether it was cancelled */

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

struct workspace_waiter {
    struct workspace_waiter *next;
    struct workspace *workspace; /* once it is this one's turn */
};

static void leave_queue(struct asr_model *model, struct workspace_waiter *waiter)
{
    struct workspace_waiter **at = &model->first, *before = NULL;

    while (*at != waiter) {
        before = *at;
        at = &before->next;
    }
    *at = waiter->next;
    if (model->last == waiter)
        model->last = before;
}

static int wait_for_turn(struct asr_model *model, struct workspace_waiter *waiter,
                         const volatile int *cancel)
{
    while (!waiter->workspace) { /* whoever sets it took the waiter off the queue */
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += CANCEL_POLL_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&model->given, &model->lock, &until);
        if (!waiter->workspace && asr_cancelled(cancel)) {
            leave_queue(model, waiter);
            return -ECANCELED;
        }
    }
    return 0;
}

/* Under the lock. */
static int wait_in_queue(struct asr_model *model, const volatile int *cancel,
                         struct workspace **out)
{
    struct workspace_waiter *waiter = calloc(1, sizeof(*waiter));
    int err;

    if (!waiter)
        return -ENOMEM;
    if (model->last)
        model->last->next = waiter;
    else
        model->first = waiter;
    model->last = waiter;
    err = wait_for_turn(model, waiter, cancel);
    if (err == 0)
        *out = waiter->workspace;
    free(waiter);
    return err;
}

int model_take_workspace(struct asr_model *model, const volatile int *cancel,
                         struct workspace **out)
{
    int err = 0;

    pthread_mutex_lock(&model->lock);
    if (model->idle) {
        *out = model->idle;
        model->idle = model->idle->next;
    } else if (model->n_workspaces < model->most_workspaces) {
        err = workspace_create(model, out);
        if (err == 0)
            model->n_workspaces++;
    } else {
        err = wait_in_queue(model, cancel, out);
    }
    pthread_mutex_unlock(&model->lock);
    return err;
}

void model_give_workspace(struct asr_model *model, struct workspace **workspace)
{
    struct workspace_waiter *waiter;

    pthread_mutex_lock(&model->lock);
    waiter = model->first;
    if (waiter) {
        waiter->workspace = *workspace;
        leave_queue(model, waiter);
        pthread_cond_broadcast(&model->given);
    } else {
        (*workspace)->next = model->idle;
        model->idle = *workspace;
    }
    pthread_mutex_unlock(&model->lock);
    *workspace = NULL;
}

/* Heads that the file names must be heads that the network has. */
static int check_heads(const struct asr_model *model, char *error, size_t size)
{
    const struct vocab *vocab = &model->vocab;

    for (size_t i = 0; i < vocab->n_alignment_heads; i++)
        if (vocab->alignment_heads[i].layer >= model->weights.n_decoder_layers ||
            vocab->alignment_heads[i].head >= model->weights.decoder_heads) {
            snprintf(error, size,
                     "its config.json names the head %u of layer %u, which is not there",
                     vocab->alignment_heads[i].head, vocab->alignment_heads[i].layer);
            return -EBADMSG;
        }
    return 0;
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
    model->most_workspaces = (size_t)compute_n_threads(model->compute);
    model->kernels = whisper_kernels_for(compute_isa(model->compute));
    snprintf(path, sizeof(path), "%s/model.bin", folder);
    if ((err = whisper_weights_load(path, error, size, &model->weights)) < 0 ||
        (err = vocab_load(folder, model->weights.n_vocab, error, size, &model->vocab)) < 0 ||
        (err = check_heads(model, error, size)) < 0)
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
    pthread_cond_init(&model->given, NULL);
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
    pthread_cond_destroy(&m->given);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *model = NULL;
}
