#include "gateway/select.h"

#include "text/language.h"

#include <stdio.h>
#include <string.h>

#define LISTED 40 /* names in a message */

static bool in_list(const char *name, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(name, *list))
            return true;
    }
    return false;
}

/* What OpenAI's clients ask for without knowing what is served here. */
static bool any_asr(const char *model)
{
    static const char *const names[] = {"whisper-1",
                                        "whisper",
                                        "default",
                                        "gpt-transcribe",
                                        "gpt-4o-transcribe",
                                        "gpt-4o-mini-transcribe",
                                        "gpt-4o-mini-transcribe-2025-12-15",
                                        "gpt-4o-transcribe-diarize",
                                        NULL};

    return !model || in_list(model, names);
}

static bool any_tts(const char *model)
{
    static const char *const names[] = {"tts-1", "tts-1-hd", "gpt-4o-mini-tts",
                                        "tts",   "default",  NULL};

    return !model || in_list(model, names);
}

static bool any_voice(const char *voice)
{
    static const char *const names[] = {"alloy", "ash",   "ballad", "coral",   "echo",
                                        "fable", "onyx",  "nova",   "sage",    "shimmer",
                                        "verse", "marin", "cedar",  "default", NULL};

    return !voice || in_list(voice, names);
}

/* Nobody at all: the broker or every worker of a kind is away, which may pass. */
static int check_there(const struct directory_view *view, const char *service, const char *what,
                       struct status *status)
{
    if (!view->connected) {
        status_set(status, STATUS_UNAVAILABLE,
                   "the broker does not answer: start dragoman-broker, or check --broker");
        return -1;
    }
    if (!directory_offers(view, service)) {
        status_set(status, STATUS_UNAVAILABLE, "no %s is connected: start a worker for it", what);
        return -1;
    }
    return 0;
}

static void set_name(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", name ? name : "");
}

static int unknown_model(const struct directory_view *view, const char *service, const char *model,
                         struct status *status)
{
    char served[400];

    directory_list(view, service, "model", LISTED, served, sizeof(served));
    status_set(status, STATUS_NOT_FOUND, "the model '%.64s' is not served: %s", model, served);
    return -1;
}

static bool serves_model(const struct directory_view *view, const char *service, const char *model)
{
    for (size_t i = 0; i < view->n_workers; i++) {
        const Dragoman__Mesh__V1__WorkerState *worker = view->workers[i];

        if (worker_offers(worker, service) &&
            (worker_has(worker, "model", model) || worker_has(worker, "engine", model)))
            return true;
    }
    return false;
}

static bool asr_fits(const Dragoman__Mesh__V1__WorkerState *worker, const char *model,
                     const char *language, bool translate)
{
    return worker_offers(worker, SERVICE_ASR) &&
           (any_asr(model) || worker_has(worker, "model", model)) &&
           (!language || worker_has(worker, "lang", language)) &&
           (!translate || worker_has(worker, "task", "translate"));
}

static int no_asr(const struct directory_view *view, const char *model, const char *language,
                  bool translate, struct status *status)
{
    char served[300];

    if (!any_asr(model) && !serves_model(view, SERVICE_ASR, model))
        return unknown_model(view, SERVICE_ASR, model, status);
    directory_list(view, SERVICE_ASR, "lang", LISTED, served, sizeof(served));
    if (translate)
        status_set(status, STATUS_INVALID_ARGUMENT,
                   "no recogniser that is served translates%s%.16s into English: a multilingual "
                   "model does, such as whisper-base",
                   language ? " " : "", language ? language : "");
    else if (any_asr(model))
        status_set(status, STATUS_INVALID_ARGUMENT, "no recogniser takes the language '%.16s': %s",
                   language, served);
    else
        status_set(status, STATUS_INVALID_ARGUMENT,
                   "the model '%.64s' does not take the language '%.16s'", model, language);
    return -1;
}

int select_asr(const struct directory_view *view, const char *model, const char *language,
               bool translate, struct selection *out, struct status *status)
{
    const Dragoman__Mesh__V1__WorkerState *best = NULL;
    size_t best_languages = 0;

    if (check_there(view, SERVICE_ASR, "recogniser (asr)", status) < 0)
        return -1;
    for (size_t i = 0; i < view->n_workers; i++) {
        size_t languages = worker_label_count(view->workers[i], "lang");

        if (!asr_fits(view->workers[i], model, language, translate))
            continue;
        if (!best || (language ? languages < best_languages : languages > best_languages)) {
            best = view->workers[i];
            best_languages = languages;
        }
    }
    if (!best)
        return no_asr(view, model, language, translate, status);
    *out = (struct selection){0};
    set_name(out->model, sizeof(out->model), worker_label(best, "model"));
    set_name(out->language, sizeof(out->language),
             language              ? language
             : best_languages == 1 ? worker_label(best, "lang")
                                   : NULL);
    snprintf(out->selector, sizeof(out->selector), "model=%s", out->model);
    return 0;
}

static bool tts_fits(const Dragoman__Mesh__V1__WorkerState *worker, const char *model)
{
    return worker_offers(worker, SERVICE_TTS) &&
           (any_tts(model) || worker_has(worker, "model", model) ||
            worker_has(worker, "engine", model));
}

/* The voice of that name, whichever worker has it. */
static const Dragoman__Mesh__V1__WorkerState *find_voice(const struct directory_view *view,
                                                         const char *model, const char *voice)
{
    for (size_t i = 0; i < view->n_workers; i++) {
        if (tts_fits(view->workers[i], model) && worker_has(view->workers[i], "voice", voice))
            return view->workers[i];
    }
    return NULL;
}

/* A voice of the language: one made for it before one that speaks a hundred. */
static const Dragoman__Mesh__V1__WorkerState *find_speaker(const struct directory_view *view,
                                                           const char *model, const char *language)
{
    const Dragoman__Mesh__V1__WorkerState *best = NULL;

    for (size_t i = 0; i < view->n_workers; i++) {
        const Dragoman__Mesh__V1__WorkerState *worker = view->workers[i];

        if (!tts_fits(worker, model) || !worker_has(worker, "lang", language))
            continue;
        if (!best || worker_label_count(worker, "lang") < worker_label_count(best, "lang"))
            best = worker;
    }
    return best;
}

static int no_voice(const struct directory_view *view, const char *model, const char *voice,
                    const char *language, struct status *status)
{
    char served[360];

    if (!any_tts(model) && !serves_model(view, SERVICE_TTS, model))
        return unknown_model(view, SERVICE_TTS, model, status);
    if (!any_voice(voice)) {
        directory_list(view, SERVICE_TTS, "voice", LISTED, served, sizeof(served));
        status_set(status, STATUS_INVALID_ARGUMENT, "the voice '%.64s' is not served: %s", voice,
                   served);
    } else {
        directory_list(view, SERVICE_TTS, "lang", LISTED, served, sizeof(served));
        status_set(status, STATUS_INVALID_ARGUMENT, "no voice speaks '%.16s': %s", language,
                   served);
    }
    return -1;
}

int select_tts(const struct directory_view *view, const char *model, const char *voice,
               const char *language, struct selection *out, struct status *status)
{
    const Dragoman__Mesh__V1__WorkerState *worker = NULL;
    bool named = false;

    if (check_there(view, SERVICE_TTS, "voice (tts)", status) < 0)
        return -1;
    if (!any_voice(voice)) {
        worker = find_voice(view, model, voice);
        named = worker;
        if (!worker)
            language = language_code(voice);
    }
    if (!worker && language)
        worker = find_speaker(view, model, language);
    if (!worker)
        return no_voice(view, model, voice, language ? language : "", status);
    *out = (struct selection){0};
    set_name(out->model, sizeof(out->model), worker_label(worker, "model"));
    if (named)
        set_name(out->voice, sizeof(out->voice), voice);
    else
        set_name(out->language, sizeof(out->language), language);
    snprintf(out->selector, sizeof(out->selector), "model=%s,%s=%s", out->model,
             named ? "voice" : "lang", named ? out->voice : out->language);
    return 0;
}

/* The languages that `source` can be turned into. */
static void list_targets(const struct directory_view *view, const char *source, char *out,
                         size_t size)
{
    const char *targets[256];
    size_t n = directory_values(view, SERVICE_TRANSLATE, "target", targets, 256), at = 0;
    struct plan plan;

    snprintf(out, size, "none");
    for (size_t i = 0; i < n && at < size; i++) {
        if (strcmp(targets[i], source) &&
            plan_find(view->pairs, view->n_pairs, source, targets[i], &plan) == 0)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", targets[i]);
    }
}

int select_path(const struct directory_view *view, const char *source, const char *target,
                struct plan *out, struct status *status)
{
    char targets[300];

    if (!strcmp(source, target)) {
        *out = (struct plan){0};
        return 0;
    }
    if (check_there(view, SERVICE_TRANSLATE, "translator (translate)", status) < 0)
        return -1;
    if (plan_find(view->pairs, view->n_pairs, source, target, out) == 0)
        return 0;
    if (plan_find(view->seen, view->n_seen, source, target, out) == 0) {
        status_set(status, STATUS_UNAVAILABLE,
                   "the translator from '%.16s' to '%.16s' is away: start it again, or try later",
                   source, target);
        return -1;
    }
    list_targets(view, source, targets, sizeof(targets));
    status_set(status, STATUS_INVALID_ARGUMENT,
               "nothing that is served translates '%.16s' into '%.16s'; from '%.16s' there is: %s",
               source, target, source, targets);
    return -1;
}

int select_no_target(const struct directory_view *view, const char *target, struct status *status)
{
    char targets[300];

    if (check_there(view, SERVICE_TRANSLATE, "translator (translate)", status) < 0)
        return -1;
    directory_list(view, SERVICE_TRANSLATE, "target", LISTED, targets, sizeof(targets));
    status_set(status, STATUS_INVALID_ARGUMENT,
               "nothing that is served translates into '%.16s'; there is: %s", target, targets);
    return -1;
}
