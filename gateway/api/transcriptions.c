/* transcriptions.c - POST /v1/audio/transcriptions and /v1/audio/translations, as OpenAI's */
#include "gateway/api/api.h"
#include "gateway/api/transcript.h"
#include "text/language.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANGUAGES_MAX 32
#define KEYWORDS_MAX 64

enum shape { SHAPE_JSON, SHAPE_TEXT, SHAPE_SRT, SHAPE_VERBOSE, SHAPE_VTT };

struct job {
    struct http_exchange *exchange;
    const struct api *api;
    struct form form;
    enum shape shape;
    bool stream, words, segments;
    const char *target; /* of a translation by a translator; NULL */
    struct transcript transcript;
    struct buffer translation;
    struct chain_result result;
};

static int read_shape(struct job *job)
{
    static const char *const names[] = {"json", "text", "srt", "verbose_json", "vtt"};
    const char *format = form_text(&job->form, "response_format");

    if (!format)
        return 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(format, names[i])) {
            job->shape = (enum shape)i;
            return 0;
        }
    }
    api_fail_param(job->exchange, 400, "response_format", NULL,
                   "response_format '%.32s' is not served: json, text, srt, verbose_json, vtt",
                   format);
    return -1;
}

/* Fields that may come several times: `name` or `name[]`. */
static int read_granularities(struct job *job)
{
    for (size_t i = 0; i < job->form.n; i++) {
        const struct form_field *field = &job->form.fields[i];

        if (strcmp(field->name, "timestamp_granularities") || !field->text)
            continue;
        if (!strcmp(field->text, "word"))
            job->words = true;
        else if (!strcmp(field->text, "segment"))
            job->segments = true;
        else {
            api_fail_param(job->exchange, 400, "timestamp_granularities", NULL,
                           "timestamp_granularities '%.32s' is not served: word, segment",
                           field->text);
            return -1;
        }
    }
    if ((job->words || job->segments) && job->shape != SHAPE_VERBOSE) {
        api_fail_param(job->exchange, 400, "timestamp_granularities", NULL,
                       "timestamp_granularities needs response_format=verbose_json");
        return -1;
    }
    job->segments |= !job->words;
    return 0;
}

static int refuse_what_is_not_there(struct job *job)
{
    if (!form_text(&job->form, "include"))
        return 0;
    api_fail_param(job->exchange, 400, "include", NULL,
                   "log-probabilities of tokens are not given: leave 'include' out");
    return -1;
}

/* Collect the texts of a repeated field. @return how many */
static size_t repeated(const struct form *form, const char *name, char **out, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < form->n && n < max; i++) {
        if (!strcmp(form->fields[i].name, name) && form->fields[i].text && form->fields[i].text[0])
            out[n++] = form->fields[i].text;
    }
    return n;
}

/* Events of the chain. */

static int on_segment(void *arg, const Dragoman__Asr__V1__Segment *segment)
{
    struct job *job = arg;
    bool first = !job->transcript.n;
    const char *text = segment->text + (first ? strspn(segment->text, " ") : 0);

    if (transcript_add(&job->transcript, segment) < 0)
        return -ENOMEM;
    if (!job->stream || job->target)
        return 0;
    if (!http_begun(job->exchange) && api_events_begin(job->exchange) < 0)
        return -EPIPE;
    return api_event(job->exchange,
                     json_pack("{s:s, s:s}", "type", "transcript.text.delta", "delta", text));
}

static int on_sentence(void *arg, unsigned id, const char *source, const char *target)
{
    struct job *job = arg;
    int err;

    (void)source;
    if (!job->target)
        return 0;
    err = buffer_printf(&job->translation, "%s%s", id ? " " : "", target);
    if (err || !job->stream)
        return err;
    if (!http_begun(job->exchange) && api_events_begin(job->exchange) < 0)
        return -EPIPE;
    return api_event(job->exchange, json_pack("{s:s, s:s+}", "type", "transcript.text.delta",
                                              "delta", id ? " " : "", target));
}

static json_t *usage(const struct job *job)
{
    return json_pack("{s:s, s:I}", "type", "duration", "seconds",
                     (json_int_t)((job->result.audio_ms + 999) / 1000));
}

static const char *whole_text(struct job *job)
{
    if (job->target)
        return job->translation.size ? (const char *)job->translation.data : "";
    return transcript_text(&job->transcript);
}

static json_t *verbose_json(struct job *job, bool translated)
{
    const char *name =
        language_name(translated ? (job->target ? job->target : "en") : job->result.source);
    char language[48];
    json_t *json;

    snprintf(language, sizeof(language), "%s", name ? name : job->result.source);
    for (char *c = language; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    json = json_pack("{s:s, s:s, s:o, s:s}", "task", translated ? "translate" : "transcribe",
                     "language", language, "duration",
                     api_real((double)job->result.audio_ms / 1000), "text", whole_text(job));
    if (job->words)
        json_object_set(json, "words", job->transcript.words);
    if (job->segments)
        json_object_set(json, "segments", job->transcript.segments);
    json_object_set_new(json, "usage", usage(job));
    return json;
}

static void respond_text(struct job *job, const char *type, const char *text)
{
    http_respond(job->exchange, 200, type, text, strlen(text));
}

static void respond(struct job *job, bool translated)
{
    char *text = NULL;

    switch (job->shape) {
    case SHAPE_JSON:
        api_respond_json(job->exchange, 200,
                         json_pack("{s:s, s:o}", "text", whole_text(job), "usage", usage(job)));
        break;
    case SHAPE_VERBOSE:
        api_respond_json(job->exchange, 200, verbose_json(job, translated));
        break;
    case SHAPE_TEXT:
        if (asprintf(&text, "%s\n", whole_text(job)) < 0)
            text = NULL;
        respond_text(job, "text/plain; charset=utf-8", text ? text : "");
        free(text);
        break;
    case SHAPE_SRT:
        respond_text(job, "text/plain; charset=utf-8",
                     job->transcript.srt.size ? (const char *)job->transcript.srt.data : "");
        break;
    case SHAPE_VTT:
        respond_text(job, "text/vtt; charset=utf-8", (const char *)job->transcript.vtt.data);
        break;
    }
}

static void finish(struct job *job, bool translated)
{
    if (!job->stream) {
        respond(job, translated);
        return;
    }
    if (!http_begun(job->exchange))
        api_events_begin(job->exchange);
    api_event(job->exchange, json_pack("{s:s, s:s, s:o}", "type", "transcript.text.done", "text",
                                       whole_text(job), "usage", usage(job)));
}

/* In the middle of a stream the status line has left: say it as an event. */
static void fail(struct job *job, const struct status *status)
{
    if (!http_begun(job->exchange)) {
        api_fail_status(job->exchange, status, NULL);
        return;
    }
    api_event(job->exchange, json_pack("{s:s, s:o}", "type", "error", "error",
                                       api_error_json(api_http_status(status->code),
                                                      status->message, NULL, NULL)));
}

static int fill_config(struct job *job, Dragoman__Asr__V1__RecognizeConfig *config,
                       float *temperature, char **languages, char **keywords)
{
    double value = 0;

    if (api_number(job->exchange, &job->form, "temperature", 0, 1, &value) < 0)
        return -1;
    *temperature = (float)value;
    if (value > 0) { /* 0 is OpenAI's default: the ladder, as the service has it */
        config->temperatures = temperature;
        config->n_temperatures = 1;
    }
    if (form_text(&job->form, "prompt"))
        config->prompt = (char *)form_text(&job->form, "prompt");
    config->word_times = job->words;
    config->whole_audio = true;
    config->languages = languages;
    config->n_languages = repeated(&job->form, "languages", languages, LANGUAGES_MAX);
    config->keywords = keywords;
    config->n_keywords = repeated(&job->form, "keywords", keywords, KEYWORDS_MAX);
    return 0;
}

/* Who hears it, and with `translate` whether it or a translator puts it into English. */
static int choose(struct job *job, const struct directory_view *view, bool translate,
                  struct selection *asr, Dragoman__Asr__V1__RecognizeConfig *config,
                  struct status *status)
{
    const char *model = form_text(&job->form, "model");
    const char *language, *target;

    if (api_language(job->exchange, "language", form_text(&job->form, "language"), &language) < 0 ||
        api_language(job->exchange, "target_language", form_text(&job->form, "target_language"),
                     &target) < 0)
        return 1;
    if (translate && (!target || !strcmp(target, "en")) &&
        select_asr(view, model, language, true, asr, status) == 0) {
        config->task = DRAGOMAN__ASR__V1__TASK__TASK_TRANSLATE;
    } else {
        if (select_asr(view, model, language, false, asr, status) < 0)
            return -1;
        if (translate)
            job->target = target ? target : "en";
    }
    if (job->target && (job->shape == SHAPE_SRT || job->shape == SHAPE_VTT)) {
        status_set(status, STATUS_INVALID_ARGUMENT,
                   "subtitles of a translation need a recogniser that translates, such as "
                   "whisper-base; here a translator does it, which knows no times");
        return -1;
    }
    config->language = asr->language;
    return 0;
}

static void run(struct job *job, bool translate)
{
    Dragoman__Asr__V1__RecognizeConfig config = DRAGOMAN__ASR__V1__RECOGNIZE_CONFIG__INIT;
    struct chain_options options = {
        .channel = job->api->channel,
        .config = &config,
        .events = {.segment = on_segment, .sentence = on_sentence, .arg = job}};
    const struct directory_view *view = directory_acquire(job->api->directory);
    char *languages[LANGUAGES_MAX], *keywords[KEYWORDS_MAX];
    struct selection asr;
    struct rpc_waiter waiter;
    struct status status;
    float temperature;
    int err;

    if (api_recording(job->exchange, job->api, &job->form, &options.decoder) < 0)
        goto done;
    if (fill_config(job, &config, &temperature, languages, keywords) < 0)
        goto done;
    err = choose(job, view, translate, &asr, &config, &status);
    if (err) {
        if (err < 0)
            api_fail_status(job->exchange, &status, "model");
        goto done;
    }
    options.view = view;
    options.asr = &asr;
    options.target = job->target;
    rpc_waiter_init(&waiter, job->exchange, job->api->request_timeout_ms);
    err = chain_run(&waiter, &options, &job->result, &status);
    rpc_waiter_fini(&waiter);
    if (err < 0)
        fail(job, &status);
    else
        finish(job, translate);
done:
    audio_decoder_destroy(&options.decoder);
    directory_release(&view);
}

static void handle(struct http_exchange *exchange, const struct api *api, bool translate)
{
    struct job job = {.exchange = exchange, .api = api};

    if (api_form(exchange, &job.form) < 0)
        return;
    buffer_init(&job.translation, 64 << 20);
    job.stream = api_truth(form_text(&job.form, "stream"));
    if (transcript_init(&job.transcript) < 0)
        api_fail(exchange, 500, "out of memory");
    else if (read_shape(&job) == 0 && read_granularities(&job) == 0 &&
             refuse_what_is_not_there(&job) == 0)
        run(&job, translate);
    transcript_fini(&job.transcript);
    buffer_fini(&job.translation);
    form_fini(&job.form);
}

void api_transcriptions(struct http_exchange *exchange, void *context)
{
    handle(exchange, context, false);
}

void api_translations(struct http_exchange *exchange, void *context)
{
    handle(exchange, context, true);
}
