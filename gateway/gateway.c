#include "gateway/gateway.h"

#include "base/log.h"
#include "gateway/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define KEYS_MAX 64

struct gateway {
    struct mesh_channel *channel;
    struct directory *directory;
    struct http_server *server;
    struct api api;
    const char *keys[KEYS_MAX + 1]; /* copies */
};

static const struct http_route routes[] = {
    {"GET", "/", HTTP_INLINE | HTTP_OPEN, api_page},
    {"GET", "/page.css", HTTP_INLINE | HTTP_OPEN, api_page},
    {"GET", "/page.js", HTTP_INLINE | HTTP_OPEN, api_page},
    {"GET", "/healthz", HTTP_INLINE | HTTP_OPEN, api_healthz},
    {"GET", "/readyz", HTTP_INLINE | HTTP_OPEN, api_readyz},
    {"GET", "/metrics", HTTP_INLINE | HTTP_OPEN, api_metrics},

    {"GET", "/v1/interpret", HTTP_INLINE, api_interpret_languages},
    {"POST", "/v1/interpret", HTTP_UPLOAD, api_interpret},

    {"GET", "/v1/models", HTTP_INLINE, api_models},
    {"GET", "/v1/models/*", HTTP_INLINE, api_model},
    {"POST", "/v1/audio/transcriptions", HTTP_UPLOAD, api_transcriptions},
    {"POST", "/v1/audio/translations", HTTP_UPLOAD, api_translations},
    {"POST", "/v1/audio/speech", 0, api_speech},

    {"GET", "/translate", 0, api_easynmt_translate},
    {"POST", "/translate", 0, api_easynmt_translate},
    {"GET", "/language_detection", 0, api_easynmt_detect},
    {"POST", "/language_detection", 0, api_easynmt_detect},
    {"GET", "/lang_pairs", HTTP_INLINE, api_easynmt_pairs},
    {"GET", "/get_languages", HTTP_INLINE, api_easynmt_languages},
    {"GET", "/model_name", HTTP_INLINE, api_easynmt_model},
    {0},
};

/* A value or its default. */
static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value ? value : otherwise;
}

static int copy_keys(struct gateway *gateway, const char *const *keys)
{
    for (size_t i = 0; keys && keys[i]; i++) {
        if (i == KEYS_MAX)
            return -EINVAL;
        gateway->keys[i] = strdup(keys[i]);
        if (!gateway->keys[i])
            return -ENOMEM;
    }
    return 0;
}

static int start_server(struct gateway *gateway, const struct gateway_options *options)
{
    const char *origin = options->cors_origin ? options->cors_origin : "*";
    const struct http_server_options server = {
        .listen = options->listen,
        .routes = routes,
        .context = &gateway->api,
        .fail = api_fail,
        .admit = api_admit,
        .cors_origin = *origin ? origin : NULL,
        .max_body_bytes = (size_t)or_default((int64_t)options->max_upload_bytes, 100 * MIB),
        /* Texts in JSON, with room for escapes and names. */
        .max_small_bytes = 2 * gateway->api.max_text_bytes,
        .max_buffered_bytes = (size_t)or_default((int64_t)options->max_buffered_bytes, 512 * MIB),
        .threads = (uint32_t)or_default(options->request_threads, 64),
        .queue_limit = (uint32_t)or_default(options->queue_limit, 128),
        .max_connections = (uint32_t)or_default(options->max_connections, 1024),
        .idle_timeout_ms = or_default(options->idle_timeout_ms, 60000)};

    return http_server_start(&server, &gateway->server);
}

int gateway_start(const struct gateway_options *options, struct gateway **out)
{
    const struct mesh_channel_options channel = {.endpoint = options->broker,
                                                 .name = "gateway",
                                                 .context = options->context,
                                                 .security = options->security};
    struct gateway *gateway = calloc(1, sizeof(*gateway));
    int err = -ENOMEM;

    if (!gateway)
        return err;
    err = copy_keys(gateway, options->api_keys);
    if (!err)
        err = mesh_channel_create(&channel, &gateway->channel);
    if (!err)
        err = directory_create(gateway->channel, &gateway->directory);
    gateway->api =
        (struct api){.channel = gateway->channel,
                     .directory = gateway->directory,
                     .api_keys = gateway->keys,
                     .max_text_bytes = (size_t)or_default((int64_t)options->max_text_bytes, MIB),
                     .max_audio_s = (uint32_t)or_default(options->max_audio_s, 4 * 3600),
                     .request_timeout_ms = or_default(options->request_timeout_ms, 30 * 60000)};
    if (!err)
        err = start_server(gateway, options);
    if (err) {
        gateway_stop(&gateway, 0);
        return err;
    }
    *out = gateway;
    return 0;
}

int gateway_port(const struct gateway *gateway)
{
    return http_server_port(gateway->server);
}

bool gateway_ready(const struct gateway *gateway)
{
    return api_is_ready(&gateway->api);
}

size_t gateway_workers(const struct gateway *gateway)
{
    return api_workers(&gateway->api);
}

void gateway_stop(struct gateway **gateway, int64_t grace_ms)
{
    if (!*gateway)
        return;
    http_server_stop(&(*gateway)->server, grace_ms);
    directory_destroy(&(*gateway)->directory);
    mesh_channel_destroy(&(*gateway)->channel);
    for (size_t i = 0; i < KEYS_MAX; i++)
        free((char *)(*gateway)->keys[i]);
    free(*gateway);
    *gateway = NULL;
}
