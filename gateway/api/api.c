#include "gateway/api/api.h"

#include "text/language.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEY_MAX 256

int api_http_status(enum status_code code)
{
    switch (code) {
    case STATUS_OK:
        return 200;
    case STATUS_INVALID_ARGUMENT:
    case STATUS_FAILED_PRECONDITION:
    case STATUS_OUT_OF_RANGE:
        return 400;
    case STATUS_UNAUTHENTICATED:
        return 401;
    case STATUS_PERMISSION_DENIED:
        return 403;
    case STATUS_NOT_FOUND:
        return 404;
    case STATUS_ALREADY_EXISTS:
    case STATUS_ABORTED:
        return 409;
    case STATUS_RESOURCE_EXHAUSTED:
        return 429;
    case STATUS_CANCELLED:
        return 499;
    case STATUS_UNIMPLEMENTED:
        return 501;
    case STATUS_UNAVAILABLE:
        return 503;
    case STATUS_DEADLINE_EXCEEDED:
        return 504;
    default:
        return 500;
    }
}

static const char *openai_type(int http_status)
{
    switch (http_status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return http_status >= 500 ? "server_error" : "invalid_request_error";
    }
}

json_t *api_error_json(int http_status, const char *message, const char *param, const char *code)
{
    return json_pack("{s:s, s:s, s:s?, s:s?}", "message", message, "type", openai_type(http_status),
                     "param", param, "code", code);
}

/* EasyNMT's routes stand outside of /v1. */
static bool is_easynmt(const struct http_exchange *exchange)
{
    static const char *const paths[] = {"/translate",     "/language_detection", "/lang_pairs",
                                        "/get_languages", "/model_name",         NULL};

    for (const char *const *path = paths; *path; path++) {
        if (!strcmp(http_head(exchange)->path, *path))
            return true;
    }
    return false;
}

static void fail(struct http_exchange *exchange, int http_status, const char *param,
                 const char *code, const char *message)
{
    json_t *json =
        is_easynmt(exchange)
            ? json_pack("{s:s}", "detail", message)
            : json_pack("{s:o}", "error", api_error_json(http_status, message, param, code));

    if (!json) { /* the message is not UTF-8, or memory is out */
        json = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message",
                         "the request cannot be served", "type", openai_type(http_status), "param",
                         "code");
    }
    api_respond_json(exchange, http_status, json);
}

void api_fail(struct http_exchange *exchange, int http_status, const char *message)
{
    fail(exchange, http_status, NULL, NULL, message);
}

void api_fail_param(struct http_exchange *exchange, int http_status, const char *param,
                    const char *code, const char *fmt, ...)
{
    char message[STATUS_MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    fail(exchange, http_status, param, code, message);
}

void api_fail_status(struct http_exchange *exchange, const struct status *status, const char *param)
{
    int http_status = api_http_status(status->code);
    const char *code = status->code == STATUS_NOT_FOUND ? "model_not_found" : NULL;
    char delay[16];

    if (http_begun(exchange) || http_gone(exchange))
        return;
    if (http_status == 429 || status->retry_delay_ms) {
        snprintf(delay, sizeof(delay), "%u",
                 status->retry_delay_ms ? (status->retry_delay_ms + 999) / 1000 : 1);
        http_add_header(exchange, "Retry-After", delay);
    }
    fail(exchange, http_status, http_status < 429 ? param : NULL, code,
         status->message[0] ? status->message : status_name(status->code));
}

int api_form(struct http_exchange *exchange, struct form *form)
{
    const struct http_head *head = http_head(exchange);
    const char *type = http_head_get(head, "content-type");
    char error[FORM_ERROR_MAX] = "";
    size_t size;
    const uint8_t *body = http_body(exchange, &size);
    int err = form_add_query(form, head->query, strlen(head->query), error);

    if (!err && size && type && !strncasecmp(type, "multipart/form-data", 19))
        err = form_add_multipart(form, type, body, size, error);
    else if (!err && size && type && !strncasecmp(type, "application/x-www-form-urlencoded", 33))
        err = form_add_query(form, (const char *)body, size, error);
    if (err < 0) {
        api_fail_param(exchange, err == -ENOMEM ? 500 : 400, NULL, NULL, "malformed form: %s",
                       error);
        form_fini(form);
        return -1;
    }
    return 0;
}

json_t *api_json_body(struct http_exchange *exchange)
{
    json_error_t error;
    size_t size;
    const uint8_t *body = http_body(exchange, &size);
    json_t *json;

    if (!size) {
        api_fail(exchange, 400, "the body is empty: send a JSON object");
        return NULL;
    }
    json = json_loadb((const char *)body, size, 0, &error);
    if (json && json_is_object(json))
        return json;
    if (json)
        api_fail(exchange, 400, "the body is no JSON object");
    else
        api_fail_param(exchange, 400, NULL, NULL, "the body is not JSON: %.160s (at byte %d)",
                       error.text, error.position);
    json_decref(json);
    return NULL;
}

/* Raw samples are told by their type: "audio/pcm;rate=16000", "audio/l16;rate=16000;channels=1". */
static uint32_t raw_rate(const char *type, uint32_t *channels)
{
    char value[16];

    if (!type || (strncasecmp(type, "audio/pcm", 9) && strncasecmp(type, "audio/l16", 9) &&
                  strncasecmp(type, "audio/x-raw", 11)))
        return 0;
    *channels = form_parameter(type, "channels", value, sizeof(value))
                    ? (uint32_t)strtoul(value, NULL, 10)
                    : 1;
    return form_parameter(type, "rate", value, sizeof(value)) ? (uint32_t)strtoul(value, NULL, 10)
                                                              : AUDIO_PCM_RATE;
}

int api_recording(struct http_exchange *exchange, const struct api *api, const struct form *form,
                  struct audio_decoder **out)
{
    const struct form_field *file = form_find(form, "file");
    const char *type = http_head_get(http_head(exchange), "content-type");
    struct audio_source source = {.max_seconds = api->max_audio_s};
    char error[AUDIO_ERROR_MAX];
    const char *name = "the body";

    if (file) {
        source.data = file->data ? file->data : (const uint8_t *)file->text;
        source.size = file->size;
        type = file->content_type;
        name = file->filename && file->filename[0] ? file->filename : "file";
    } else if (type &&
               (!strncasecmp(type, "audio/", 6) || !strcasecmp(type, "application/octet-stream"))) {
        source.data = http_body(exchange, &source.size);
    } else {
        api_fail_param(exchange, 400, "file", NULL,
                       "the field 'file' is missing: send the recording as multipart/form-data");
        return -1;
    }
    source.raw_rate = raw_rate(type, &source.raw_channels);
    if (audio_decoder_create(&source, error, out) < 0) {
        api_fail_param(exchange, 400, "file", NULL, "'%.100s': %s", name, error);
        return -1;
    }
    return 0;
}

int api_language(struct http_exchange *exchange, const char *field, const char *value,
                 const char **out)
{
    *out = NULL;
    if (!value || !*value || !strcasecmp(value, "auto"))
        return 0;
    *out = language_code(value);
    if (*out && strlen(*out) < PLAN_CODE_MAX)
        return 0;
    api_fail_param(exchange, 400, field, NULL,
                   "'%.32s' is no language that is known: use ISO 639-1, such as 'en' or 'pt'",
                   value);
    return -1;
}

int api_number(struct http_exchange *exchange, const struct form *form, const char *field,
               double min, double max, double *out)
{
    const char *text = form_text(form, field);
    char *end = NULL;
    double value;

    if (!text)
        return 0;
    value = strtod(text, &end);
    if (*end || !(value >= min && value <= max)) {
        api_fail_param(exchange, 400, field, NULL,
                       "'%s' must be a number from %g to %g, not '%.32s'", field, min, max, text);
        return -1;
    }
    *out = value;
    return 0;
}

bool api_truth(const char *text)
{
    return text && (!strcasecmp(text, "true") || !strcmp(text, "1") || !strcasecmp(text, "yes") ||
                    !strcasecmp(text, "on"));
}

void api_respond_json(struct http_exchange *exchange, int http_status, json_t *json)
{
    char *text =
        json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;

    json_decref(json);
    if (text)
        http_respond(exchange, http_status, "application/json", text, strlen(text));
    else
        http_respond(exchange, 500, "text/plain", "out of memory\n", 14);
    free(text);
}

json_t *api_real(double value)
{
    return json_real(isfinite(value) ? round(value * 1e6) / 1e6 : 0);
}

int api_events_begin(struct http_exchange *exchange)
{
    http_add_header(exchange, "Cache-Control", "no-cache");
    http_add_header(exchange, "X-Accel-Buffering", "no");
    return http_begin(exchange, 200, "text/event-stream");
}

int api_event(struct http_exchange *exchange, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    struct buffer line;
    int err = -ENOMEM;

    json_decref(json);
    if (text) {
        buffer_init(&line, SIZE_MAX / 2);
        err = buffer_printf(&line, "data: %s\n\n", text);
        if (!err)
            err = http_write(exchange, line.data, line.size);
        buffer_fini(&line);
    }
    free(text);
    return err;
}

char *api_base64(const void *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = data;
    char *text = malloc((size + 2) / 3 * 4 + 1), *out = text;

    if (!text)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (i + 1 < size ? bytes[i + 1] : 0u) << 8 |
                         (i + 2 < size ? bytes[i + 2] : 0u);

        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = i + 1 < size ? digits[group >> 6 & 63] : '=';
        *out++ = i + 2 < size ? digits[group & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* Equal or not in a time that tells nothing of where they differ. */
static bool same_key(const char *a, const char *b)
{
    volatile unsigned difference = 0;
    size_t n_a = strlen(a), n_b = strlen(b);

    for (size_t i = 0; i < KEY_MAX; i++)
        difference |= (unsigned)((i < n_a ? a[i] : 0) ^ (i < n_b ? b[i] : 0));
    return !difference && n_a == n_b && n_a <= KEY_MAX;
}

bool api_admit(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const char *header = http_head_get(http_head(exchange), "authorization");
    bool allowed = !api->api_keys || !*api->api_keys;

    if (allowed)
        return true;
    if (header && !strncasecmp(header, "Bearer ", 7)) {
        for (const char *const *key = api->api_keys; *key; key++)
            allowed |= same_key(header + 7, *key);
    }
    if (!allowed) {
        http_add_header(exchange, "WWW-Authenticate", "Bearer");
        fail(exchange, 401, NULL, "invalid_api_key",
             header ? "the API key is not one of this server's"
                    : "no API key: send it as 'Authorization: Bearer KEY'");
    }
    return allowed;
}
