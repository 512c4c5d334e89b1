/* health.c - what machines ask: /healthz, /readyz, /metrics; and the page for people */
#include "gateway/api/api.h"

#include "base/metrics.h"
#include "gateway/web.h"

#include <string.h>

#define METRICS_MAX (4 << 20)

void api_healthz(struct http_exchange *exchange, void *context)
{
    (void)context;
    api_respond_json(exchange, 200, json_pack("{s:s}", "status", "ok"));
}

static int count_workers(const struct directory_view *view, const char *service)
{
    int n = 0;

    for (size_t i = 0; i < view->n_workers; i++)
        n += worker_offers(view->workers[i], service);
    return n;
}

bool api_is_ready(const struct api *api)
{
    const struct directory_view *view = directory_acquire(api->directory);
    bool ready = count_workers(view, SERVICE_ASR) && count_workers(view, SERVICE_TRANSLATE) &&
                 count_workers(view, SERVICE_TTS);

    directory_release(&view);
    return ready;
}

size_t api_workers(const struct api *api)
{
    const struct directory_view *view = directory_acquire(api->directory);
    size_t n = view->n_workers;

    directory_release(&view);
    return n;
}

void api_readyz(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    int asr = count_workers(view, SERVICE_ASR), tts = count_workers(view, SERVICE_TTS);
    int translate = count_workers(view, SERVICE_TRANSLATE);
    bool ready = asr && translate && tts;

    api_respond_json(exchange, ready ? 200 : 503,
                     json_pack("{s:s, s:b, s:{s:i, s:i, s:i}}", "status",
                               ready ? "ready" : "degraded", "broker", view->connected, "workers",
                               "asr", asr, "translate", translate, "tts", tts));
    directory_release(&view);
}

void api_metrics(struct http_exchange *exchange, void *context)
{
    struct buffer page;

    (void)context;
    buffer_init(&page, METRICS_MAX);
    if (metrics_render(&page) == 0)
        http_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", page.data,
                     page.size);
    else
        api_fail(exchange, 500, "the metrics page is too large");
    buffer_fini(&page);
}

void api_page(struct http_exchange *exchange, void *context)
{
    const char *path = http_head(exchange)->path;
    const struct web_file *file = web_files;

    (void)context;
    while (file->path && strcmp(file->path, path))
        file++;
    if (!file->path) {
        api_fail(exchange, 404, "no such page");
        return;
    }
    http_add_header(exchange, "Cache-Control", "no-cache");
    http_add_header(exchange, "Content-Security-Policy",
                    "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
                    "script-src 'self' blob:; style-src 'self' 'unsafe-inline'");
    http_respond(exchange, 200, file->type, file->data, file->size);
}
