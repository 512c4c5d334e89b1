/*
 * api.h - what the handlers of gateway/api/ share: their context, errors, forms, JSON, events
 */
#ifndef GATEWAY_API_API_H
#define GATEWAY_API_API_H

#include "audio/encode.h"
#include "base/status.h"
#include "gateway/chain.h"
#include "gateway/directory.h"
#include "gateway/form.h"
#include "gateway/http.h"
#include "gateway/rpc.h"

#include <jansson.h>

/** What the handlers are given. Constant while requests run. */
struct api {
    struct mesh_channel *channel;
    struct directory *directory;
    const char *const *api_keys; /* ended by NULL; NULL: none asked for */
    size_t max_text_bytes;
    uint32_t max_audio_s;
    int64_t request_timeout_ms;
};

/*
 * Errors. Their shape is the path's: OpenAI's {"error": {message, type, param, code}}, EasyNMT's
 * {"detail"}.
 */

void api_fail(struct http_exchange *exchange, int http_status, const char *message);
/** With the field that is wrong, and OpenAI's code; NULL: none. */
void api_fail_param(struct http_exchange *exchange, int http_status, const char *param,
                    const char *code, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/** A call's status: mapped, with Retry-After where a delay is known. Nothing when the client has
 * gone. */
void api_fail_status(struct http_exchange *exchange, const struct status *status,
                     const char *param);
/** The same as an OpenAI error object. */
json_t *api_error_json(int http_status, const char *message, const char *param, const char *code);
int api_http_status(enum status_code code);

/*
 * Requests.
 */

/** Fields of the query and the body (multipart, form or, for anything else, none). @return 0; -1
 * answered */
int api_form(struct http_exchange *exchange, struct form *form);
/** The body as a JSON object. @return NULL: answered */
json_t *api_json_body(struct http_exchange *exchange);
/** The recording: the field `file`, or a body that is audio. @return 0; -1 answered */
int api_recording(struct http_exchange *exchange, const struct api *api, const struct form *form,
                  struct audio_decoder **out);
/** A language field as ISO 639-1; *out NULL when it is missing or "auto". @return 0; -1 answered */
int api_language(struct http_exchange *exchange, const char *field, const char *value,
                 const char **out);
/** A number field within [min, max]; *out keeps its default when missing. @return 0; -1 answered */
int api_number(struct http_exchange *exchange, const struct form *form, const char *field,
               double min, double max, double *out);
bool api_truth(const char *text); /* "true", "1", "yes", "on" */

/*
 * Answers.
 */

/** Takes `json` over. */
void api_respond_json(struct http_exchange *exchange, int http_status, json_t *json);
/** A double with at most six decimals, as JSON shows it best. */
json_t *api_real(double value);

int api_events_begin(struct http_exchange *exchange);
/** One `data: {...}` line; takes `json` over. @return 0; -EPIPE */
int api_event(struct http_exchange *exchange, json_t *json);

/** Base64 of data; NULL without memory. free() */
char *api_base64(const void *data, size_t size);

/** Whether the request carries one of the keys. Else 401 has been answered. */
bool api_admit(struct http_exchange *exchange, void *context);

/* The handlers, by file. */
void api_healthz(struct http_exchange *exchange, void *context);
void api_readyz(struct http_exchange *exchange, void *context);
/** Whether each service has a worker: what api_readyz() answers. */
bool api_is_ready(const struct api *api);
/** Workers in the directory, as last heard. */
size_t api_workers(const struct api *api);
void api_metrics(struct http_exchange *exchange, void *context);
void api_page(struct http_exchange *exchange, void *context);
void api_models(struct http_exchange *exchange, void *context);
void api_model(struct http_exchange *exchange, void *context);
void api_transcriptions(struct http_exchange *exchange, void *context);
void api_translations(struct http_exchange *exchange, void *context);
void api_speech(struct http_exchange *exchange, void *context);
void api_interpret_languages(struct http_exchange *exchange, void *context);
void api_interpret(struct http_exchange *exchange, void *context);
void api_easynmt_translate(struct http_exchange *exchange, void *context);
void api_easynmt_detect(struct http_exchange *exchange, void *context);
void api_easynmt_pairs(struct http_exchange *exchange, void *context);
void api_easynmt_languages(struct http_exchange *exchange, void *context);
void api_easynmt_model(struct http_exchange *exchange, void *context);

#endif
