/* models.c - GET /v1/models and /v1/models/{id}, as OpenAI's: what the connected workers serve */
#include "gateway/api/api.h"

#include <string.h>
#include <time.h>

#define MODELS_MAX 256

/* The process's start: models have no other date that all their formats tell. */
static json_int_t created(void)
{
    static json_int_t since;

    if (!since)
        since = (json_int_t)time(NULL);
    return since;
}

static json_t *describe(const struct directory_view *view, const char *service, const char *id)
{
    const char *task = !strcmp(service, SERVICE_ASR)   ? "automatic-speech-recognition"
                       : !strcmp(service, SERVICE_TTS) ? "text-to-speech"
                                                       : "translation";
    const char *key = !strcmp(service, SERVICE_TRANSLATE) ? "pair" : "lang";
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:s, s:n, s:s}", "id", id, "object", "model", "created",
                  created(), "owned_by", "dragoman", "shutdown_date", "task", task);
    json_t *languages = json_array();

    for (size_t w = 0; w < view->n_workers; w++) {
        const Dragoman__Mesh__V1__WorkerState *worker = view->workers[w];

        if (!worker_offers(worker, service) || !worker_has(worker, "model", id))
            continue;
        for (size_t i = 0; i < worker->n_labels; i++) {
            for (size_t v = 0;
                 !strcmp(worker->labels[i]->key, key) && v < worker->labels[i]->n_values; v++)
                json_array_append_new(languages, json_string(worker->labels[i]->values[v]));
        }
        break;
    }
    json_object_set_new(json, !strcmp(key, "pair") ? "pairs" : "languages", languages);
    return json;
}

static const char *const services[] = {SERVICE_ASR, SERVICE_TRANSLATE, SERVICE_TTS, NULL};

void api_models(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    json_t *data = json_array();

    for (const char *const *service = services; *service; service++) {
        const char *models[MODELS_MAX];
        size_t n = directory_values(view, *service, "model", models, MODELS_MAX);

        for (size_t i = 0; i < n; i++)
            json_array_append_new(data, describe(view, *service, models[i]));
    }
    api_respond_json(exchange, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
    directory_release(&view);
}

void api_model(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const char *id = http_head(exchange)->path + strlen("/v1/models/");
    const struct directory_view *view = directory_acquire(api->directory);
    bool found = false;

    for (const char *const *service = services; *service && !found; service++) {
        for (size_t i = 0; i < view->n_workers && !found; i++)
            found = worker_offers(view->workers[i], *service) &&
                    worker_has(view->workers[i], "model", id);
        if (found)
            api_respond_json(exchange, 200, describe(view, *service, id));
    }
    if (!found)
        api_fail_param(exchange, 404, "model", "model_not_found",
                       "the model '%.100s' is not served: GET /v1/models lists what is", id);
    directory_release(&view);
}
