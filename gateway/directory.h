/*
 * directory.h - who serves what right now, as the broker tells it
 *
 * A thread watches the broker's directory and keeps the latest answer. Requests take a reference
 * and see one unchanging picture for as long as they hold it.
 */
#ifndef GATEWAY_DIRECTORY_H
#define GATEWAY_DIRECTORY_H

#include "base/buffer.h"
#include "gateway/plan.h"
#include "mesh/channel.h"
#include "proto/mesh.pb-c.h"

#include <stdbool.h>

#define SERVICE_ASR "dragoman.asr.v1.Recognizer"
#define SERVICE_TRANSLATE "dragoman.translate.v1.Translator"
#define SERVICE_TTS "dragoman.tts.v1.Synthesizer"

struct directory;

struct directory_view {
    bool connected;                                        /* the broker answers */
    const Dragoman__Mesh__V1__WorkerState *const *workers; /* (n_workers) that are not draining */
    size_t n_workers;
    const struct plan_pair *pairs; /* (n_pairs) that translators announce, each once */
    size_t n_pairs;
    const struct plan_pair
        *seen; /* (n_seen) all ever announced: what is missing now may come back */
    size_t n_seen;
};

/** @param channel  borrowed until destroy. @return 0; -ENOMEM */
int directory_create(struct mesh_channel *channel, struct directory **out);
void directory_destroy(struct directory **directory);

/** Never NULL. */
const struct directory_view *directory_acquire(struct directory *directory);
void directory_release(const struct directory_view **view);

bool worker_offers(const Dragoman__Mesh__V1__WorkerState *worker, const char *service);
bool worker_has(const Dragoman__Mesh__V1__WorkerState *worker, const char *key, const char *value);
/** First value of a label; NULL. */
const char *worker_label(const Dragoman__Mesh__V1__WorkerState *worker, const char *key);
size_t worker_label_count(const Dragoman__Mesh__V1__WorkerState *worker, const char *key);

bool directory_offers(const struct directory_view *view, const char *service);
/**
 * The values of a label over all workers of a service, sorted, each once.
 *
 * @param values  (max) borrowed from the view
 * @return how many
 */
size_t directory_values(const struct directory_view *view, const char *service, const char *key,
                        const char **values, size_t max);
/** The same as text, "en, es, pt", cut after `max` values ("... and 90 more"). */
void directory_list(const struct directory_view *view, const char *service, const char *key,
                    size_t max, char *out, size_t size);

#endif
