/* easynmt.c - EasyNMT's routes: texts, language detection, and what there is */
#include "base/clock.h"
#include "gateway/api/api.h"
#include "proto/translate.pb-c.h"
#include "text/language.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXTS_MAX 1024
#define VALUES_MAX 256
#define BEAM_MAX 16

struct job {
    struct http_exchange *exchange;
    const struct api *api;
    const struct directory_view *view;
    json_t *texts;      /* array of strings */
    bool single;        /* a string was posted: strings come back */
    json_t *target_raw; /* as the client wrote them */
    json_t *source_raw;
    const char *target, *source; /* source NULL: detect */
    uint32_t beam_size;
    bool no_splitting;
    const char **sources; /* of each text */
    json_t *translated;
    struct rpc_waiter waiter;
};

/* FastAPI's way to say that a query parameter is missing. */
static void fail_missing(struct http_exchange *exchange, const char *where, const char *name)
{
    api_respond_json(exchange, 422,
                     json_pack("{s:[{s:[s, s], s:s, s:s}]}", "detail", "loc", where, name, "msg",
                               "field required", "type", "value_error.missing"));
}

/* What EasyNMT answers when a translation fails; overload and absence keep their own status. */
static void fail_status(struct http_exchange *exchange, const struct status *status)
{
    int http_status = api_http_status(status->code);
    char message[STATUS_MESSAGE_MAX + 16];

    if (http_status != 400 && http_status != 404) {
        api_fail_status(exchange, status, NULL);
        return;
    }
    snprintf(message, sizeof(message), "Error: %s", status->message);
    api_fail(exchange, 403, message);
}

/* Check the texts and their language fields, whichever way they came. @return 0; -1 answered */
static int check(struct job *job)
{
    const char *target = json_string_value(job->target_raw);
    const char *source = json_string_value(job->source_raw);
    size_t total = 0, i;
    json_t *text;

    if (!target || !*target) {
        fail_missing(job->exchange, job->single || source ? "body" : "query", "target_lang");
        return -1;
    }
    job->target = language_code(target);
    job->source = source && *source ? language_code(source) : NULL;
    if (!job->target || (source && *source && !job->source)) {
        char message[96];

        snprintf(message, sizeof(message), "Error: '%.32s' is no language that is known",
                 job->target ? source : target);
        api_fail(job->exchange, 403, message);
        return -1;
    }
    json_array_foreach(job->texts, i, text)
    {
        if (!json_is_string(text)) {
            api_fail(job->exchange, 422, "text must be a string or a list of strings");
            return -1;
        }
        total += json_string_length(text);
    }
    if (total > job->api->max_text_bytes || json_array_size(job->texts) > TEXTS_MAX) {
        api_fail_param(job->exchange, 413, NULL, NULL,
                       "the text is too long: %zu bytes in %zu texts, where %zu in %d are taken",
                       total, json_array_size(job->texts), job->api->max_text_bytes, TEXTS_MAX);
        return -1;
    }
    return 0;
}

static int read_query(struct job *job, const struct form *form)
{
    const char *beam = form_text(form, "beam_size");
    const char *splitting = form_text(form, "perform_sentence_splitting");

    job->texts = json_array();
    for (size_t i = 0; i < form->n; i++) {
        if (!strcmp(form->fields[i].name, "text") && form->fields[i].text)
            json_array_append_new(job->texts, json_string(form->fields[i].text));
    }
    if (form_text(form, "target_lang"))
        job->target_raw = json_string(form_text(form, "target_lang"));
    if (form_text(form, "source_lang"))
        job->source_raw = json_string(form_text(form, "source_lang"));
    job->beam_size = beam ? (uint32_t)strtoul(beam, NULL, 10) : 0;
    job->no_splitting = splitting && !api_truth(splitting);
    if (!job->target_raw) {
        fail_missing(job->exchange, "query", "target_lang");
        return -1;
    }
    return check(job);
}

static int read_body(struct job *job, const json_t *body)
{
    json_t *text = json_object_get(body, "text");
    const json_t *beam = json_object_get(body, "beam_size");

    job->single = json_is_string(text);
    job->texts = job->single ? json_pack("[O]", text) : json_incref(text);
    if (!json_is_array(job->texts)) {
        fail_missing(job->exchange, "body", "text");
        return -1;
    }
    job->target_raw = json_incref(json_object_get(body, "target_lang"));
    job->source_raw = json_incref(json_object_get(body, "source_lang"));
    job->beam_size = json_is_integer(beam) && json_integer_value(beam) > 0
                         ? (uint32_t)json_integer_value(beam)
                         : 0;
    job->no_splitting = json_is_false(json_object_get(body, "perform_sentence_splitting"));
    return check(job);
}

/* The languages from which the target can be had, and itself. */
static size_t candidates(const struct directory_view *view, const char *target, const char **out)
{
    const char *sources[VALUES_MAX];
    size_t n_sources = directory_values(view, SERVICE_TRANSLATE, "source", sources, VALUES_MAX);
    size_t n = 0;
    struct plan plan;

    out[n++] = target;
    for (size_t i = 0; i < n_sources; i++) {
        if (strcmp(sources[i], target) &&
            plan_find(view->pairs, view->n_pairs, sources[i], target, &plan) == 0)
            out[n++] = sources[i];
    }
    out[n] = NULL;
    return n;
}

static const char *detect(const char *text, const char *const *among, const char *otherwise)
{
    const char *code = "";
    float confidence = 0;

    language_detect(text, strlen(text), among, &code, &confidence);
    return *code ? code : otherwise;
}

/* The language of every text. @return 0; -1 with *status */
static int find_sources(struct job *job, struct status *status)
{
    const char *among[VALUES_MAX + 2];
    size_t n = candidates(job->view, job->target, among), i;
    json_t *text;

    if (!job->source && n == 1)
        return select_no_target(job->view, job->target, status);

    job->sources = calloc(json_array_size(job->texts) + 1, sizeof(*job->sources));
    if (!job->sources) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return -1;
    }
    json_array_foreach(job->texts, i, text)
    {
        const char *words = json_string_value(text);

        /* What cannot be told is taken for the first language that can be translated. */
        job->sources[i] =
            job->source ? job->source : detect(words, among, n > 1 ? among[1] : job->target);
    }
    return 0;
}

/* Send some texts one hop on, in place. @return 0; -1 with *status */
static int translate_hop(struct job *job, const struct plan_pair *pair, char **texts, size_t n,
                         struct status *status)
{
    Dragoman__Translate__V1__TranslateConfig config =
        DRAGOMAN__TRANSLATE__V1__TRANSLATE_CONFIG__INIT;
    Dragoman__Translate__V1__TranslateRequest request =
        DRAGOMAN__TRANSLATE__V1__TRANSLATE_REQUEST__INIT;
    Dragoman__Translate__V1__TranslateResponse *response = NULL;
    ProtobufCMessage *message = NULL;
    char selector[SELECTOR_MAX];
    int result = -1;

    config.source = (char *)pair->source;
    config.target = (char *)pair->target;
    config.beam_size = job->beam_size > BEAM_MAX ? BEAM_MAX : job->beam_size;
    config.no_sentence_splitting = job->no_splitting;
    request.config = &config;
    request.texts = texts;
    request.n_texts = n;
    snprintf(selector, sizeof(selector), "pair=%s-%s", pair->source, pair->target);
    if (rpc_call(&job->waiter, job->api->channel, &dragoman__translate__v1__translator__descriptor,
                 "Translate", selector, &request.base, &message, status) < 0)
        return -1;
    response = (Dragoman__Translate__V1__TranslateResponse *)message;
    if (response->n_translations != n) {
        status_set(status, STATUS_INTERNAL, "%zu texts came back for %zu", response->n_translations,
                   n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        char *text = strdup(response->translations[i]->text);

        if (!text) {
            status_set(status, STATUS_RESOURCE_EXHAUSTED, "out of memory");
            goto done;
        }
        free(texts[i]);
        texts[i] = text;
    }
    result = 0;
done:
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}

/* Translate the texts that are in the language of text `first`. */
static int translate_group(struct job *job, size_t first, struct status *status)
{
    const size_t n_texts = json_array_size(job->texts);
    const char *source = job->sources[first];
    char **texts = calloc(n_texts, sizeof(*texts));
    size_t n = 0, at = 0;
    struct plan plan;
    int result = -1;

    if (!texts) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return -1;
    }
    if (select_path(job->view, source, job->target, &plan, status) < 0)
        goto done;
    for (size_t i = first; i < n_texts; i++) {
        if (!strcmp(job->sources[i], source))
            texts[n++] = strdup(json_string_value(json_array_get(job->texts, i)));
    }
    for (size_t hop = 0; hop < plan.n_hops; hop++) {
        if (translate_hop(job, &plan.hops[hop], texts, n, status) < 0)
            goto done;
    }
    for (size_t i = first; i < n_texts; i++) {
        if (!strcmp(job->sources[i], source))
            json_array_set_new(job->translated, i, json_string(texts[at++]));
    }
    result = 0;
done:
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
    return result;
}

/* Every language among the texts is one group, in the order of its first text. */
static int translate_all(struct job *job, struct status *status)
{
    size_t n = json_array_size(job->texts);

    job->translated = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(job->translated, json_null());
    for (size_t i = 0; i < n; i++) {
        if (json_is_null(json_array_get(job->translated, i)) && translate_group(job, i, status) < 0)
            return -1;
    }
    return 0;
}

static json_t *detected_json(const struct job *job)
{
    json_t *codes = json_array();

    for (size_t i = 0; i < json_array_size(job->texts); i++)
        json_array_append_new(codes, json_string(job->sources[i]));
    return codes;
}

static json_t *single_or_list(const struct job *job, json_t *list)
{
    json_t *one = job->single ? json_incref(json_array_get(list, 0)) : NULL;

    if (!one)
        return list;
    json_decref(list);
    return one;
}

static void respond(struct job *job, int64_t began_ns)
{
    json_t *json = json_object();

    json_object_set(json, "target_lang", job->target_raw);
    json_object_set_new(json, "source_lang",
                        job->source ? json_incref(job->source_raw) : json_null());
    if (!job->source)
        json_object_set_new(json, "detected_langs", single_or_list(job, detected_json(job)));
    json_object_set_new(json, "translated", single_or_list(job, json_incref(job->translated)));
    json_object_set_new(json, "translation_time",
                        api_real((double)(clock_now_ns() - began_ns) / 1e9));
    api_respond_json(job->exchange, 200, json);
}

static void run(struct job *job)
{
    int64_t began_ns = clock_now_ns();
    struct status status;

    rpc_waiter_init(&job->waiter, job->exchange, job->api->request_timeout_ms);
    if (find_sources(job, &status) < 0 || translate_all(job, &status) < 0)
        fail_status(job->exchange, &status);
    else
        respond(job, began_ns);
    rpc_waiter_fini(&job->waiter);
}

void api_easynmt_translate(struct http_exchange *exchange, void *context)
{
    struct job job = {.exchange = exchange, .api = context};
    struct form form = {0};
    json_t *body = NULL;
    int err = -1;

    job.view = directory_acquire(job.api->directory);
    if (!strcmp(http_route(exchange)->method, "POST")) {
        body = api_json_body(exchange);
        if (body)
            err = read_body(&job, body);
    } else if (api_form(exchange, &form) == 0) {
        err = read_query(&job, &form);
    }
    if (!err)
        run(&job);
    json_decref(job.texts);
    json_decref(job.target_raw);
    json_decref(job.source_raw);
    json_decref(job.translated);
    free(job.sources);
    json_decref(body);
    form_fini(&form);
    directory_release(&job.view);
}

/* Detection needs no worker: the gateway does it. */

static json_t *detect_json(const json_t *text)
{
    return json_is_string(text) ? json_string(detect(json_string_value(text), NULL, "")) : NULL;
}

/* A string, a list or an object of strings: the same shape comes back. NULL for anything else. */
static json_t *detect_shape(json_t *text)
{
    json_t *out, *value;
    const char *key;
    size_t i;
    int err = 0;

    if (json_is_string(text))
        return detect_json(text);
    if (json_is_array(text)) {
        out = json_array();
        json_array_foreach(text, i, value) err |= json_array_append_new(out, detect_json(value));
    } else {
        out = json_object();
        json_object_foreach(text, key, value) err |=
            json_object_set_new(out, key, detect_json(value));
    }
    if (err) {
        json_decref(out);
        return NULL;
    }
    return out;
}

void api_easynmt_detect(struct http_exchange *exchange, void *context)
{
    struct form form = {0};
    json_t *body = NULL, *text = NULL, *answer;

    (void)context;
    if (!strcmp(http_route(exchange)->method, "POST")) {
        body = api_json_body(exchange);
        if (!body)
            return;
        text = json_incref(json_object_get(body, "text"));
    } else {
        if (api_form(exchange, &form) < 0)
            return;
        if (form_text(&form, "text"))
            text = json_string(form_text(&form, "text"));
    }
    answer = json_is_string(text) || json_is_array(text) || json_is_object(text)
                 ? detect_shape(text)
                 : NULL;
    if (answer)
        api_respond_json(exchange, 200, answer);
    else
        fail_missing(exchange, body ? "body" : "query", "text");
    json_decref(text);
    json_decref(body);
    form_fini(&form);
}

/* Every pair that can be had, over pivots too. Calls `add` with each; returns how many. */
static void each_pair(const struct directory_view *view,
                      void (*add)(json_t *out, const char *source, const char *target,
                                  const struct form *form),
                      json_t *out, const struct form *form)
{
    const char *sources[VALUES_MAX], *targets[VALUES_MAX];
    size_t n_sources = directory_values(view, SERVICE_TRANSLATE, "source", sources, VALUES_MAX);
    size_t n_targets = directory_values(view, SERVICE_TRANSLATE, "target", targets, VALUES_MAX);
    struct plan plan;

    for (size_t s = 0; s < n_sources; s++) {
        for (size_t t = 0; t < n_targets; t++) {
            if (strcmp(sources[s], targets[t]) &&
                plan_find(view->pairs, view->n_pairs, sources[s], targets[t], &plan) == 0)
                add(out, sources[s], targets[t], form);
        }
    }
}

static void add_pair(json_t *out, const char *source, const char *target, const struct form *form)
{
    (void)form;
    json_array_append_new(out, json_sprintf("%s-%s", source, target));
}

void api_easynmt_pairs(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    json_t *pairs = json_array();

    each_pair(view, add_pair, pairs, NULL);
    api_respond_json(exchange, 200, pairs);
    directory_release(&view);
}

/* source_lang asks for targets, target_lang for sources, neither for all; the keys are a set. */
static void add_languages(json_t *set, const char *source, const char *target,
                          const struct form *form)
{
    const char *wanted_source = form_text(form, "source_lang");
    const char *wanted_target = form_text(form, "target_lang");

    if (!wanted_source && !wanted_target) {
        json_object_set_new(set, source, json_true());
        json_object_set_new(set, target, json_true());
    } else if (wanted_target && !strcmp(wanted_target, target)) {
        json_object_set_new(set, source, json_true());
    } else if (wanted_source && !strcmp(wanted_source, source)) {
        json_object_set_new(set, target, json_true());
    }
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted_keys(json_t *set)
{
    const char *codes[2 * VALUES_MAX], *code;
    json_t *list = json_array(), *unused;
    size_t n = 0;

    json_object_foreach(set, code, unused)
    {
        if (n < sizeof(codes) / sizeof(codes[0]))
            codes[n++] = code;
    }
    qsort(codes, n, sizeof(codes[0]), compare_text);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(codes[i]));
    return list;
}

void api_easynmt_languages(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view;
    struct form form = {0};
    json_t *set;

    if (api_form(exchange, &form) < 0)
        return;
    view = directory_acquire(api->directory);
    set = json_object();
    each_pair(view, add_languages, set, &form);
    api_respond_json(exchange, 200, sorted_keys(set));
    json_decref(set);
    directory_release(&view);
    form_fini(&form);
}

void api_easynmt_model(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    const char *models[VALUES_MAX];
    size_t n = directory_values(view, SERVICE_TRANSLATE, "model", models, VALUES_MAX);

    api_respond_json(exchange, 200, json_string(n == 1 ? models[0] : "dragoman"));
    directory_release(&view);
}
