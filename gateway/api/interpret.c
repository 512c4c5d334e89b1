/* interpret.c - /v1/interpret: speech in, speech out; docs/api.md */
#include "gateway/api/api.h"
#include "text/language.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 512
#define TEXT_MAX (64 << 20)
#define AUDIO_BYTES_MAX ((size_t)64 << 20) /* of a JSON answer: 25 minutes */

/*
 * GET: what can be interpreted.
 */

static json_t *language_json(const char *code)
{
    const char *name = language_name(code);

    return json_pack("{s:s, s:s}", "code", code, "name", name ? name : code);
}

/* Whether some language that is heard leads to `target`. */
static bool reachable(const struct directory_view *view, const char *const *sources,
                      size_t n_sources, const char *target)
{
    struct plan plan;

    for (size_t i = 0; i < n_sources; i++) {
        if (plan_find(view->pairs, view->n_pairs, sources[i], target, &plan) == 0)
            return true;
    }
    return false;
}

static void add_voices(json_t *out, const Dragoman__Mesh__V1__WorkerState *worker)
{
    for (size_t i = 0; i < worker->n_labels; i++) {
        for (size_t v = 0;
             !strcmp(worker->labels[i]->key, "voice") && v < worker->labels[i]->n_values; v++)
            json_array_append_new(out, json_string(worker->labels[i]->values[v]));
    }
}

/* "pt", "pt-br", "pt_BR-faber-medium": of a worker with many languages, only this one's. */
static bool voice_of(const char *voice, const char *language)
{
    size_t n = strlen(language);

    return !strncmp(voice, language, n) && (!voice[n] || strchr("-_", voice[n]));
}

static json_t *voices_json(const struct directory_view *view, const char *language)
{
    json_t *voices = json_array();

    for (int many = 0; many < 2; many++) { /* voices made for the language first */
        for (size_t i = 0; i < view->n_workers; i++) {
            const Dragoman__Mesh__V1__WorkerState *worker = view->workers[i];
            json_t *own, *voice;
            size_t at;

            if (!worker_offers(worker, SERVICE_TTS) || !worker_has(worker, "lang", language) ||
                (worker_label_count(worker, "lang") > 1) != many)
                continue;
            own = json_array();
            add_voices(own, worker);
            json_array_foreach(own, at, voice)
            {
                if (!many || voice_of(json_string_value(voice), language))
                    json_array_append(voices, voice);
            }
            json_decref(own);
        }
    }
    return voices;
}

void api_interpret_languages(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    const char *sources[VALUES_MAX], *targets[VALUES_MAX];
    size_t n_sources = directory_values(view, SERVICE_ASR, "lang", sources, VALUES_MAX);
    size_t n_targets = directory_values(view, SERVICE_TTS, "lang", targets, VALUES_MAX);
    json_t *heard = json_array(), *spoken = json_array();

    for (size_t i = 0; i < n_sources; i++)
        json_array_append_new(heard, language_json(sources[i]));
    for (size_t i = 0; i < n_targets; i++) {
        json_t *target;

        if (!reachable(view, sources, n_sources, targets[i]))
            continue;
        target = language_json(targets[i]);
        json_object_set_new(target, "voices", voices_json(view, targets[i]));
        json_array_append_new(spoken, target);
    }
    api_respond_json(exchange, 200, json_pack("{s:o, s:o}", "sources", heard, "targets", spoken));
    directory_release(&view);
}

/*
 * POST.
 */

enum delivery { AS_JSON, AS_AUDIO, AS_EVENTS };

struct job {
    struct http_exchange *exchange;
    const struct api *api;
    const struct directory_view *view;
    struct form form;
    enum delivery delivery;
    enum audio_format format;
    const char *target;
    double speed;
    struct selection asr;
    struct chain_result result;
    struct buffer transcript, translation, pcm; /* pcm for AS_JSON */
    json_t *segments, *sentences;
    struct audio_encoder *encoder; /* for AS_AUDIO */
    uint32_t rate_hz;
};

static int read_delivery(struct job *job)
{
    const char *format = form_text(&job->form, "response_format");

    if (api_truth(form_text(&job->form, "stream"))) {
        job->delivery = AS_EVENTS;
    } else if (format && strcmp(format, "json")) {
        job->delivery = AS_AUDIO;
        if (audio_format_parse(format, &job->format) < 0) {
            api_fail_param(job->exchange, 400, "response_format", NULL,
                           "response_format '%.32s' is not served: json, " AUDIO_FORMATS, format);
            return -1;
        }
    }
    return 0;
}

/* A target that no language that is heard leads to is refused before anything runs. */
static int check_target(struct job *job, struct status *status)
{
    const char *sources[VALUES_MAX];
    size_t n_sources;
    struct plan plan;

    if (job->asr.language[0])
        return select_path(job->view, job->asr.language, job->target, &plan, status);
    n_sources = directory_values(job->view, SERVICE_ASR, "lang", sources, VALUES_MAX);
    if (reachable(job->view, sources, n_sources, job->target))
        return 0;
    return select_no_target(job->view, job->target, status);
}

/* @return 0; 1 answered; -1 with *status and *param */
static int read_request(struct job *job, struct status *status, const char **param)
{
    const char *source;

    job->speed = 1;
    if (read_delivery(job) < 0 ||
        api_language(job->exchange, "to", form_text(&job->form, "to"), &job->target) < 0 ||
        api_language(job->exchange, "from", form_text(&job->form, "from"), &source) < 0 ||
        api_number(job->exchange, &job->form, "speed", 0.25, 4, &job->speed) < 0)
        return 1;
    *param = "to";
    if (!job->target) {
        status_set(status, STATUS_INVALID_ARGUMENT,
                   "'to' is missing: name the language wanted, such as to=pt");
        return -1;
    }
    *param = "from";
    if (select_asr(job->view, form_text(&job->form, "model"), source, false, &job->asr, status) < 0)
        return -1;
    *param = "to";
    return check_target(job, status);
}

/* Events of the chain. */

static int begin_events(struct job *job)
{
    return http_begun(job->exchange) ? 0 : api_events_begin(job->exchange);
}

static int on_language(void *arg, const char *code, float probability)
{
    struct job *job = arg;

    /* A path is looked for only after this: errors still find a status line to stand on. */
    (void)code, (void)probability;
    return job->delivery == AS_EVENTS && job->asr.language[0] ? begin_events(job) : 0;
}

static json_t *segment_json(const Dragoman__Asr__V1__Segment *segment)
{
    return json_pack("{s:I, s:o, s:o, s:s}", "id", (json_int_t)segment->id, "start",
                     api_real((double)segment->start_ms / 1000), "end",
                     api_real((double)segment->end_ms / 1000), "text", segment->text);
}

/* Announce the language before the first segment that is in it. */
static int send_language(struct job *job)
{
    if (http_begun(job->exchange) && job->result.segments > 1)
        return 0;
    if (begin_events(job) < 0)
        return -EPIPE;
    return api_event(job->exchange, json_pack("{s:s, s:s, s:o}", "type", "interpret.language",
                                              "language", job->result.source, "probability",
                                              api_real((double)job->result.source_probability)));
}

/* The object as an event: its type comes first. Takes `json` over. */
static json_t *typed(const char *type, json_t *json)
{
    json_t *event = json_pack("{s:s}", "type", type);

    json_object_update(event, json);
    json_decref(json);
    return event;
}

static int on_segment(void *arg, const Dragoman__Asr__V1__Segment *segment)
{
    struct job *job = arg;
    int err = buffer_append(&job->transcript, segment->text, strlen(segment->text));

    json_array_append_new(job->segments, segment_json(segment));
    if (err || job->delivery != AS_EVENTS)
        return err;
    err = send_language(job);
    return err ? err : api_event(job->exchange, typed("interpret.segment", segment_json(segment)));
}

static int on_sentence(void *arg, unsigned id, const char *source, const char *target)
{
    struct job *job = arg;
    json_t *json =
        json_pack("{s:I, s:s, s:s}", "id", (json_int_t)id, "source", source, "text", target);
    int err = buffer_printf(&job->translation, "%s%s", job->translation.size ? " " : "", target);

    json_array_append(job->sentences, json);
    if (!err && job->delivery == AS_EVENTS)
        err = api_event(job->exchange, typed("interpret.sentence", json_incref(json)));
    json_decref(json);
    return err;
}

static int to_client(void *arg, const void *data, size_t size)
{
    struct job *job = arg;

    return http_write(job->exchange, data, size);
}

/* What an answer of audio alone can tell beside it. */
static int begin_audio(struct job *job)
{
    int err;

    http_add_header(job->exchange, "X-Source-Language", job->result.source);
    http_add_header(job->exchange, "X-Target-Language", job->target);
    err = http_begin(job->exchange, 200, audio_format_mime(job->format));
    return err ? err
               : audio_encoder_create(job->format, job->rate_hz, AUDIO_LENGTH_UNKNOWN, to_client,
                                      job, &job->encoder);
}

static int send_audio_event(struct job *job, const int16_t *pcm, size_t n, unsigned sentence)
{
    char *text = n ? api_base64(pcm, n * sizeof(*pcm)) : NULL;
    int err;

    if (!n)
        return 0;
    err =
        text ? api_event(job->exchange, json_pack("{s:s, s:I, s:s, s:I}", "type", "interpret.audio",
                                                  "sentence", (json_int_t)sentence, "audio", text,
                                                  "sample_rate", (json_int_t)job->rate_hz))
             : -ENOMEM;
    free(text);
    return err;
}

static int on_audio(void *arg, const int16_t *pcm, size_t n, uint32_t rate_hz, unsigned sentence,
                    bool sentence_end)
{
    struct job *job = arg;
    int err;

    (void)sentence_end;
    job->rate_hz = rate_hz;
    if (job->delivery == AS_EVENTS)
        return send_audio_event(job, pcm, n, sentence);
    if (job->delivery == AS_JSON)
        return buffer_append(&job->pcm, pcm, n * sizeof(*pcm));
    err = job->encoder ? 0 : begin_audio(job);
    return err ? err : audio_encoder_write(job->encoder, pcm, n);
}

/* Answers. */

/* From a stage's first input to its last result; 0 when it had nothing to do. */
static json_int_t span_ms(const struct chain_stage_times *times)
{
    return times->last_ms < 0 ? 0 : times->last_ms - times->input_ms;
}

static json_t *stages_json(const struct chain_result *result)
{
    json_t *json = json_pack(
        "{s:I, s:I, s:I, s:I, s:I}", "decode_ms", (json_int_t)(result->decode_ns / 1000000),
        "recognise_ms", span_ms(&result->asr), "translate_ms", span_ms(&result->translate),
        "speak_ms", span_ms(&result->tts), "total_ms", (json_int_t)result->total_ms);

    if (result->tts.first_ms >= 0)
        json_object_set_new(json, "first_audio_ms", json_integer(result->tts.first_ms));
    return json;
}

static json_t *path_json(const struct job *job)
{
    json_t *path = json_array();

    json_array_append_new(path, json_string(job->result.source));
    for (size_t i = 0; i < job->result.plan.n_hops; i++)
        json_array_append_new(path, json_string(job->result.plan.hops[i].target));
    return path;
}

static const char *text_of(const struct buffer *buffer)
{
    const char *text = buffer->size ? (const char *)buffer->data : "";

    return text + strspn(text, " ");
}

static json_t *summary(const struct job *job)
{
    const struct chain_result *result = &job->result;

    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:O, s:O, s:o, s:o, s:{s:s, s:s, s:s}}", "source",
                     result->source, "target", job->target, "path", path_json(job), "transcript",
                     text_of(&job->transcript), "translation", text_of(&job->translation),
                     "segments", job->segments, "sentences", job->sentences, "duration",
                     api_real((double)result->audio_ms / 1000), "stages", stages_json(result),
                     "models", "asr", result->asr_model, "tts", result->tts_model, "voice",
                     result->voice);
}

static int append_sink(void *arg, const void *data, size_t size)
{
    return buffer_append(arg, data, size);
}

/* A WAV file whose header knows its length. @return 0; -errno */
static int make_wav(const struct job *job, uint32_t rate_hz, struct buffer *file)
{
    struct audio_encoder *encoder = NULL;
    size_t n = job->pcm.size / sizeof(int16_t);
    int err = audio_encoder_create(AUDIO_WAV, rate_hz, n, append_sink, file, &encoder);

    if (!err && n)
        err = audio_encoder_write(encoder, (const int16_t *)(const void *)job->pcm.data, n);
    audio_encoder_destroy(&encoder);
    return err;
}

static void respond_json(struct job *job)
{
    uint32_t rate_hz = job->rate_hz ? job->rate_hz : AUDIO_PCM_RATE;
    struct buffer file;
    char *text = NULL;
    json_t *json = NULL;

    buffer_init(&file, AUDIO_BYTES_MAX + 64);
    if (make_wav(job, rate_hz, &file) == 0)
        text = api_base64(file.data, file.size);
    if (text)
        json = summary(job);
    if (json)
        json_object_set_new(
            json, "audio",
            json_pack("{s:s, s:I, s:o, s:s}", "format", "wav", "sample_rate", (json_int_t)rate_hz,
                      "seconds", api_real((double)job->result.speech_ms / 1000), "data", text));
    api_respond_json(job->exchange, 200, json);
    free(text);
    buffer_fini(&file);
}

static int finish(struct job *job)
{
    int err = 0;

    switch (job->delivery) {
    case AS_JSON:
        respond_json(job);
        return 0;
    case AS_EVENTS:
        err = begin_events(job);
        return err ? err : api_event(job->exchange, typed("interpret.done", summary(job)));
    case AS_AUDIO:
        if (!job->encoder) { /* nothing was said */
            job->rate_hz = AUDIO_PCM_RATE;
            err = begin_audio(job);
        }
        return err ? err : audio_encoder_finish(job->encoder);
    }
    return err;
}

static void fail(struct job *job, const struct status *status, const char *param)
{
    if (!http_begun(job->exchange))
        api_fail_status(job->exchange, status, param);
    else if (job->delivery == AS_EVENTS)
        api_event(job->exchange, json_pack("{s:s, s:o}", "type", "error", "error",
                                           api_error_json(api_http_status(status->code),
                                                          status->message, NULL, NULL)));
    else
        http_abort(job->exchange); /* the audio stops short */
}

static void run(struct job *job, struct audio_decoder *decoder)
{
    Dragoman__Asr__V1__RecognizeConfig config = DRAGOMAN__ASR__V1__RECOGNIZE_CONFIG__INIT;
    const struct chain_options options = {.channel = job->api->channel,
                                          .view = job->view,
                                          .decoder = decoder,
                                          .asr = &job->asr,
                                          .config = &config,
                                          .target = job->target,
                                          .speak = true,
                                          .voice = form_text(&job->form, "voice"),
                                          .speed = (float)job->speed,
                                          .events = {.language = on_language,
                                                     .segment = on_segment,
                                                     .sentence = on_sentence,
                                                     .audio = on_audio,
                                                     .arg = job}};
    struct rpc_waiter waiter;
    struct status status;
    int err;

    config.language = job->asr.language;
    config.whole_audio = true;
    rpc_waiter_init(&waiter, job->exchange, job->api->request_timeout_ms);
    err = chain_run(&waiter, &options, &job->result, &status);
    rpc_waiter_fini(&waiter);
    if (err < 0) {
        fail(job, &status, NULL);
    } else if (finish(job) < 0) {
        status_set(&status, STATUS_INTERNAL, "the answer cannot be made or delivered");
        fail(job, &status, NULL);
    }
}

void api_interpret(struct http_exchange *exchange, void *context)
{
    struct job job = {.exchange = exchange, .api = context};
    struct audio_decoder *decoder = NULL;
    const char *param = NULL;
    struct status status;
    int err;

    if (api_form(exchange, &job.form) < 0)
        return;
    job.view = directory_acquire(job.api->directory);
    job.segments = json_array();
    job.sentences = json_array();
    buffer_init(&job.transcript, TEXT_MAX);
    buffer_init(&job.translation, TEXT_MAX);
    buffer_init(&job.pcm, AUDIO_BYTES_MAX);
    err = read_request(&job, &status, &param);
    if (err < 0)
        api_fail_status(exchange, &status, param);
    else if (!err && api_recording(exchange, job.api, &job.form, &decoder) == 0)
        run(&job, decoder);
    audio_decoder_destroy(&decoder);
    audio_encoder_destroy(&job.encoder);
    buffer_fini(&job.transcript);
    buffer_fini(&job.translation);
    buffer_fini(&job.pcm);
    json_decref(job.segments);
    json_decref(job.sentences);
    directory_release(&job.view);
    form_fini(&job.form);
}
