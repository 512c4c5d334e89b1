#include "gateway/directory.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS 200
#define READ_MS 100 /* how long a stop may go unnoticed */
#define VALUES_MAX 1024

struct snapshot {
    struct directory_view view; /* first: a view is its snapshot */
    atomic_int references;
    Dragoman__Mesh__V1__DirectoryResponse *state; /* NULL while the broker is away */
};

struct directory {
    struct mesh_channel *channel;
    pthread_t thread;
    atomic_bool stopping;
    pthread_mutex_t lock;
    struct snapshot *latest;
    struct plan_pair seen[VALUES_MAX]; /* the watching thread's alone */
    size_t n_seen;
};

static void snapshot_release(struct snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->references, 1) > 1)
        return;
    free((void *)snapshot->view.workers);
    free((void *)snapshot->view.pairs);
    free((void *)snapshot->view.seen);
    if (snapshot->state)
        dragoman__mesh__v1__directory_response__free_unpacked(snapshot->state, NULL);
    free(snapshot);
}

bool worker_offers(const Dragoman__Mesh__V1__WorkerState *worker, const char *service)
{
    for (size_t i = 0; i < worker->n_services; i++) {
        if (!strcmp(worker->services[i], service))
            return true;
    }
    return false;
}

static const Dragoman__Mesh__V1__Label *find_label(const Dragoman__Mesh__V1__WorkerState *worker,
                                                   const char *key)
{
    for (size_t i = 0; i < worker->n_labels; i++) {
        if (!strcmp(worker->labels[i]->key, key))
            return worker->labels[i];
    }
    return NULL;
}

bool worker_has(const Dragoman__Mesh__V1__WorkerState *worker, const char *key, const char *value)
{
    const Dragoman__Mesh__V1__Label *label = find_label(worker, key);

    for (size_t i = 0; label && i < label->n_values; i++) {
        if (!strcmp(label->values[i], value))
            return true;
    }
    return false;
}

const char *worker_label(const Dragoman__Mesh__V1__WorkerState *worker, const char *key)
{
    const Dragoman__Mesh__V1__Label *label = find_label(worker, key);

    return label && label->n_values ? label->values[0] : NULL;
}

size_t worker_label_count(const Dragoman__Mesh__V1__WorkerState *worker, const char *key)
{
    const Dragoman__Mesh__V1__Label *label = find_label(worker, key);

    return label ? label->n_values : 0;
}

bool directory_offers(const struct directory_view *view, const char *service)
{
    for (size_t i = 0; i < view->n_workers; i++) {
        if (worker_offers(view->workers[i], service))
            return true;
    }
    return false;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

size_t directory_values(const struct directory_view *view, const char *service, const char *key,
                        const char **values, size_t max)
{
    size_t n = 0, unique = 0;

    for (size_t w = 0; w < view->n_workers; w++) {
        const Dragoman__Mesh__V1__Label *label =
            worker_offers(view->workers[w], service) ? find_label(view->workers[w], key) : NULL;

        for (size_t i = 0; label && i < label->n_values && n < max; i++)
            values[n++] = label->values[i];
    }
    qsort(values, n, sizeof(*values), compare_text);
    for (size_t i = 0; i < n; i++) {
        if (!i || strcmp(values[i], values[i - 1]))
            values[unique++] = values[i];
    }
    return unique;
}

void directory_list(const struct directory_view *view, const char *service, const char *key,
                    size_t max, char *out, size_t size)
{
    const char *values[VALUES_MAX];
    size_t n = directory_values(view, service, key, values, VALUES_MAX), at = 0;

    snprintf(out, size, "none");
    for (size_t i = 0; i < n && i < max && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", values[i]);
    if (n > max && at < size)
        snprintf(out + at, size - at, " and %zu more", n - max);
}

static bool pair_known(const struct plan_pair *pairs, size_t n, const struct plan_pair *pair)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(pairs[i].source, pair->source) && !strcmp(pairs[i].target, pair->target))
            return true;
    }
    return false;
}

/* The pairs of all translators, each once. @return 0; -ENOMEM */
static int collect_pairs(struct snapshot *snapshot)
{
    const char *values[VALUES_MAX];
    size_t n = directory_values(&snapshot->view, SERVICE_TRANSLATE, "pair", values, VALUES_MAX);
    struct plan_pair *pairs = calloc(n ? n : 1, sizeof(*pairs));

    if (!pairs)
        return -ENOMEM;
    snapshot->view.pairs = pairs;
    for (size_t i = 0; i < n; i++) {
        struct plan_pair pair;

        if (plan_pair_parse(values[i], &pair) == 0 &&
            !pair_known(pairs, snapshot->view.n_pairs, &pair))
            pairs[snapshot->view.n_pairs++] = pair;
    }
    return 0;
}

/* Takes over `state`, also on failure. */
static struct snapshot *snapshot_create(Dragoman__Mesh__V1__DirectoryResponse *state)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    const Dragoman__Mesh__V1__WorkerState **workers;

    if (!snapshot) {
        if (state)
            dragoman__mesh__v1__directory_response__free_unpacked(state, NULL);
        return NULL;
    }
    atomic_init(&snapshot->references, 1);
    snapshot->state = state;
    if (!state)
        return snapshot;
    snapshot->view.connected = true;
    workers = calloc(state->n_workers + 1, sizeof(*workers));
    snapshot->view.workers = workers;
    for (size_t i = 0; workers && i < state->n_workers; i++) {
        if (!state->workers[i]->draining)
            workers[snapshot->view.n_workers++] = state->workers[i];
    }
    if (!workers || collect_pairs(snapshot) < 0) {
        snapshot_release(snapshot);
        return NULL;
    }
    return snapshot;
}

/* Add the pairs of a new picture to those seen before, and give it them all. */
static void remember_pairs(struct directory *directory, struct snapshot *snapshot)
{
    const struct directory_view *view = &snapshot->view;
    struct plan_pair *seen;

    for (size_t i = 0; i < view->n_pairs && directory->n_seen < VALUES_MAX; i++)
        if (!pair_known(directory->seen, directory->n_seen, &view->pairs[i]))
            directory->seen[directory->n_seen++] = view->pairs[i];
    seen = calloc(directory->n_seen + 1, sizeof(*seen));
    if (!seen)
        return; /* a worse message is all that is lost */
    memcpy(seen, directory->seen, directory->n_seen * sizeof(*seen));
    snapshot->view.seen = seen;
    snapshot->view.n_seen = directory->n_seen;
}

/* Show a new picture; NULL: the broker is away. Out of memory the old one stays. */
static void publish(struct directory *directory, Dragoman__Mesh__V1__DirectoryResponse *state)
{
    struct snapshot *snapshot = snapshot_create(state), *old;

    if (!snapshot)
        return;
    remember_pairs(directory, snapshot);
    pthread_mutex_lock(&directory->lock);
    old = directory->latest;
    directory->latest = snapshot;
    pthread_mutex_unlock(&directory->lock);
    snapshot_release(old);
}

/* One watch, until it ends. @return how it ended */
static struct status watch(struct directory *directory)
{
    const struct mesh_call_options options = {.wait_for_ready = true};
    const Dragoman__Mesh__V1__DirectoryRequest request =
        DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    struct status status = {.code = STATUS_UNAVAILABLE, .message = "the call cannot be opened"};
    int err = mesh_stream_open(directory->channel, &dragoman__mesh__v1__directory__descriptor,
                               "Watch", &options, &stream);

    if (err < 0)
        return status;
    if (mesh_stream_write(stream, &request.base, READ_MS) == 0)
        mesh_stream_finish(stream);
    while (err != -ENODATA && !atomic_load(&directory->stopping)) {
        ProtobufCMessage *message = NULL;

        err = mesh_stream_read(stream, &message, READ_MS);
        if (err == 0)
            publish(directory, (Dragoman__Mesh__V1__DirectoryResponse *)message);
    }
    mesh_stream_status(stream, &status);
    mesh_stream_destroy(&stream);
    return status;
}

static void *watch_thread(void *arg)
{
    struct directory *directory = arg;
    bool said = false;

    while (!atomic_load(&directory->stopping)) {
        struct status status = watch(directory);

        if (atomic_load(&directory->stopping))
            break;
        if (!said)
            log_warn("the broker's directory is away: %s", status.message);
        said = true;
        publish(directory, NULL);
        usleep(RETRY_MS * 1000);
    }
    return NULL;
}

int directory_create(struct mesh_channel *channel, struct directory **out)
{
    struct directory *directory = calloc(1, sizeof(*directory));

    if (!directory)
        return -ENOMEM;
    directory->channel = channel;
    pthread_mutex_init(&directory->lock, NULL);
    publish(directory, NULL);
    if (!directory->latest || pthread_create(&directory->thread, NULL, watch_thread, directory)) {
        snapshot_release(directory->latest);
        pthread_mutex_destroy(&directory->lock);
        free(directory);
        return -ENOMEM;
    }
    *out = directory;
    return 0;
}

void directory_destroy(struct directory **directory)
{
    if (!*directory)
        return;
    atomic_store(&(*directory)->stopping, true);
    pthread_join((*directory)->thread, NULL);
    snapshot_release((*directory)->latest);
    pthread_mutex_destroy(&(*directory)->lock);
    free(*directory);
    *directory = NULL;
}

const struct directory_view *directory_acquire(struct directory *directory)
{
    struct snapshot *snapshot;

    pthread_mutex_lock(&directory->lock);
    snapshot = directory->latest;
    atomic_fetch_add(&snapshot->references, 1);
    pthread_mutex_unlock(&directory->lock);
    return &snapshot->view;
}

void directory_release(const struct directory_view **view)
{
    snapshot_release((struct snapshot *)*view);
    *view = NULL;
}
