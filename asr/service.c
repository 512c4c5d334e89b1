#include "asr/service.h"

#include "asr/engine.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/model_folder.h"
#include "proto/asr.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_PER_S 16000
#define FULL_SCALE 32768.0F
#define FEED_SAMPLES 16000 /* converted at a time */
#define MAX_AUDIO_S (4 * 3600)
#define MAX_PROMPT_BYTES 8192
#define MAX_LIST 256 /* languages and keywords of one call */
#define DETECT_MAX 256

typedef Dragoman__Asr__V1__RecognizeConfig Config;
typedef Dragoman__Asr__V1__RecognizeRequest Request;
typedef Dragoman__Asr__V1__RecognizeResponse Response;
typedef Dragoman__Asr__V1__RecognizeResponse_Closure Reply;

struct recognizer {
    Dragoman__Asr__V1__Recognizer_Service base; /* first: handlers get its address */
    const struct asr_engine *engine;
    struct asr_model *model;
    char name[MODEL_NAME_BYTES];
    int64_t max_audio_s;
    struct metric *audio_seconds, *compute_seconds, *segments, *tokens;
};

static struct asr_config flags = {.engine = "whisper", .model = "", .compute_type = "f32"};
static const char *models_folder = "";

static const struct config_option options[] = {
    {"engine", CONFIG_CHOICE, &flags.engine, "NAME", "what runs the model", "whisper", 0, 0},
    {"model", CONFIG_STRING, &flags.model, "FOLDER",
     "the model's folder, or its name within --models", NULL, 0, 0},
    {"models", CONFIG_STRING, &models_folder, "DIR",
     "where models are; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
    {"model-name", CONFIG_STRING, &flags.model_name, "NAME",
     "what the model is announced as; the folder's name otherwise", NULL, 0, 0},
    {"compute-type", CONFIG_CHOICE, &flags.compute_type, "TYPE", "what is computed with", "f32", 0,
     0},
    {"threads", CONFIG_INT, &flags.threads, "N", "threads that compute; 0: all processors", NULL, 0,
     1024},
    {"max-audio-s", CONFIG_INT, &flags.max_audio_s, "S", "longest audio of one call; 0: four hours",
     NULL, 0, 1000000},
    {.name = NULL},
};

/* One call of Recognize. */
struct recognition {
    struct recognizer *self;
    void *call;
    Reply reply;
    struct asr_session *session;
    int64_t n_samples;
    int64_t compute_ns;
    uint32_t n_segments;
};

static int64_t to_ms(int64_t n_samples)
{
    return n_samples * 1000 / SAMPLES_PER_S;
}

static void answer(struct recognition *r, const Response *response)
{
    r->reply(response, r->call);
}

/* After cancellation replies go nowhere: stop. */
static int go_on(const struct recognition *r)
{
    return mesh_call_cancelled(r->call) ? -ECANCELED : 0;
}

static int on_language(void *arg, const char *code, float probability)
{
    Dragoman__Asr__V1__Language language = DRAGOMAN__ASR__V1__LANGUAGE__INIT;
    Response response = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__INIT;

    language.code = (char *)code;
    language.probability = probability;
    response.event_case = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_LANGUAGE;
    response.language = &language;
    answer(arg, &response);
    return go_on(arg);
}

static void fill_words(const struct asr_segment *from, Dragoman__Asr__V1__Word *words,
                       Dragoman__Asr__V1__Word **pointers)
{
    for (size_t i = 0; i < from->n_words; i++) {
        words[i] = (Dragoman__Asr__V1__Word)DRAGOMAN__ASR__V1__WORD__INIT;
        words[i].text = (char *)from->words[i].text;
        words[i].start_ms = from->words[i].start_ms;
        words[i].end_ms = from->words[i].end_ms;
        words[i].probability = from->words[i].probability;
        pointers[i] = &words[i];
    }
}

static int on_segment(void *arg, const struct asr_segment *from)
{
    struct recognition *r = arg;
    Dragoman__Asr__V1__Segment segment = DRAGOMAN__ASR__V1__SEGMENT__INIT;
    Response response = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__INIT;
    Dragoman__Asr__V1__Word *words = calloc(from->n_words + 1, sizeof(*words));
    Dragoman__Asr__V1__Word **pointers = calloc(from->n_words + 1, sizeof(*pointers));
    int err = words && pointers ? 0 : -ENOMEM;

    if (err == 0) {
        fill_words(from, words, pointers);
        segment.id = r->n_segments++;
        segment.start_ms = from->start_ms;
        segment.end_ms = from->end_ms;
        segment.seek_ms = from->seek_ms;
        segment.text = (char *)from->text;
        segment.n_tokens = from->n_tokens;
        segment.tokens = (uint32_t *)from->tokens;
        segment.avg_log_prob = from->avg_log_prob;
        segment.no_speech_prob = from->no_speech_prob;
        segment.compression_ratio = from->compression_ratio;
        segment.temperature = from->temperature;
        segment.n_words = from->n_words;
        segment.words = pointers;
        response.event_case = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_SEGMENT;
        response.segment = &segment;
        answer(r, &response);
        metric_add(r->self->segments, 1);
        err = go_on(r);
    }
    free(words);
    free(pointers);
    return err;
}

static int on_partial(void *arg, const char *text, size_t n_stable)
{
    Dragoman__Asr__V1__Partial partial = DRAGOMAN__ASR__V1__PARTIAL__INIT;
    Response response = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__INIT;

    partial.text = (char *)text;
    partial.stable_chars = (uint32_t)n_stable;
    response.event_case = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_PARTIAL;
    response.partial = &partial;
    answer(arg, &response);
    return go_on(arg);
}

static int send_done(struct recognition *r)
{
    Dragoman__Asr__V1__Done done = DRAGOMAN__ASR__V1__DONE__INIT;
    Response response = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__INIT;

    done.audio_ms = to_ms(r->n_samples);
    done.compute_ms = r->compute_ns / 1000000;
    done.model = r->self->name;
    done.tokens = (uint32_t)r->self->engine->session_tokens(r->session);
    response.event_case = DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_DONE;
    response.done = &done;
    answer(r, &response);
    return go_on(r);
}

/* "en, es, fr": as many as fit, "and N more" for the rest. */
static void list_languages(const struct recognizer *self, char *text, size_t size)
{
    const char *const *codes = self->engine->languages(self->model);
    size_t at = 0, n = 0;

    while (codes[n])
        n++;
    text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (size - at < 32) {
            snprintf(text + at, size - at, " and %zu more", n - i);
            return;
        }
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? ", " : "", codes[i]);
    }
}

static bool serves(const struct recognizer *self, const char *code)
{
    for (const char *const *at = self->engine->languages(self->model); *at; at++)
        if (strcmp(*at, code) == 0)
            return true;
    return false;
}

static int check_language(const struct recognition *r, const char *code)
{
    char known[256];

    if (serves(r->self, code))
        return 0;
    list_languages(r->self, known, sizeof(known));
    mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                   "cannot recognise '%.32s' with the model '%s': it takes %s", code, r->self->name,
                   known);
    return -EINVAL;
}

static int check_languages(const struct recognition *r, const Config *config)
{
    int err = 0;

    if (config->n_languages > MAX_LIST) {
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT, "%zu candidate languages: at most %d",
                       config->n_languages, MAX_LIST);
        return -EINVAL;
    }
    if (config->language[0])
        return check_language(r, config->language);
    for (size_t i = 0; i < config->n_languages && err == 0; i++)
        err = check_language(r, config->languages[i]);
    return err;
}

static int check_task(const struct recognition *r, const Config *config)
{
    const struct recognizer *self = r->self;

    if (config->task == DRAGOMAN__ASR__V1__TASK__TASK_TRANSCRIBE)
        return 0;
    if (config->task == DRAGOMAN__ASR__V1__TASK__TASK_TRANSLATE &&
        self->engine->can_translate(self->model))
        return 0;
    if (config->task == DRAGOMAN__ASR__V1__TASK__TASK_TRANSLATE)
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "the model '%s' cannot translate: it only transcribes English", self->name);
    else
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT, "task %d is unknown", (int)config->task);
    return -EINVAL;
}

/* What is wrong with the numbers of a configuration; NULL when nothing is. */
static const char *wrong_number(const Config *config)
{
    for (size_t i = 0; i < config->n_temperatures; i++)
        if (!(config->temperatures[i] >= 0 && config->temperatures[i] <= ASR_MAX_TEMPERATURE))
            return "temperatures are 0 to 2";
    if (config->n_temperatures > ASR_MAX_TEMPERATURES)
        return "at most 16 temperatures are tried";
    if (!(config->no_speech_threshold >= 0 && config->no_speech_threshold <= 1))
        return "no_speech_threshold is 0 to 1";
    if (strlen(config->prompt) > MAX_PROMPT_BYTES)
        return "a prompt has at most 8192 bytes";
    if (config->n_keywords > MAX_LIST)
        return "there are at most 256 keywords";
    return NULL;
}

static int check_numbers(const struct recognition *r, const Config *config)
{
    const char *wrong = wrong_number(config);

    if (config->beam_size > (uint32_t)r->self->engine->max_beam_size)
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT, "beam_size %u: 0 to %d are possible",
                       config->beam_size, r->self->engine->max_beam_size);
    else if (wrong)
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT, "the configuration is wrong: %s", wrong);
    else
        return 0;
    return -EINVAL;
}

static int check_config(const struct recognition *r, const Config *config)
{
    int err;

    if ((err = check_languages(r, config)) < 0 || (err = check_task(r, config)) < 0 ||
        (err = check_numbers(r, config)) < 0)
        return err;
    if (config->alternatives > 0) {
        mesh_call_fail(r->call, STATUS_UNIMPLEMENTED,
                       "the engine '%s' gives no alternatives: ask for 0", r->self->engine->name);
        return -ENOTSUP;
    }
    return 0;
}

/* "a, b, c"; NULL without keywords. */
static int join_keywords(const struct recognition *r, const Config *config, struct buffer *text)
{
    int err = 0;

    for (size_t i = 0; i < config->n_keywords && err == 0; i++)
        err = buffer_printf(text, "%s%s", i ? ", " : "", config->keywords[i]);
    if (err < 0)
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "the keywords are too long, at most %d bytes are taken", MAX_PROMPT_BYTES);
    return err;
}

static int open_session(struct recognition *r, const Config *config)
{
    const struct asr_events events = {on_language, on_segment, r, on_partial};
    struct buffer keywords;
    struct asr_settings settings = {
        .language = config->language,
        .translate = config->task == DRAGOMAN__ASR__V1__TASK__TASK_TRANSLATE,
        .beam_size = (int)config->beam_size,
        .temperatures = config->temperatures,
        .n_temperatures = config->n_temperatures,
        .prompt = config->prompt,
        .no_speech_threshold = config->no_speech_threshold,
        .word_times = config->word_times,
        .partial_results = config->partial_results,
        .without_timestamps = config->without_timestamps,
        .no_condition_on_previous_text = config->no_condition_on_previous_text,
        .languages = (const char *const *)config->languages,
        .n_languages = config->n_languages,
        .whole_audio = config->whole_audio,
        .cancel = mesh_call_cancel_flag(r->call),
    };
    int err = check_config(r, config);

    if (err < 0)
        return err;
    buffer_init(&keywords, MAX_PROMPT_BYTES);
    err = join_keywords(r, config, &keywords);
    settings.keywords = (const char *)keywords.data;
    if (err == 0) {
        err = r->self->engine->session_create(r->self->model, &settings, &events, &r->session);
        if (err < 0)
            mesh_call_fail(r->call, status_from_errno(err), "cannot begin to recognise: %s",
                           strerror(-err));
    }
    buffer_fini(&keywords);
    return err;
}

static int check_pcm(const struct recognition *r, const ProtobufCBinaryData *pcm)
{
    int64_t limit = r->self->max_audio_s * SAMPLES_PER_S;

    if (pcm->len % 2) {
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "pcm of %zu bytes is no whole number of 16-bit samples", pcm->len);
        return -EINVAL;
    }
    if ((int64_t)(pcm->len / 2) > limit - r->n_samples) {
        mesh_call_fail(r->call, STATUS_RESOURCE_EXHAUSTED,
                       "the audio is longer than the %lld s that one call may have: send it in "
                       "parts, or start the service with a larger --max-audio-s",
                       (long long)r->self->max_audio_s);
        return -EFBIG;
    }
    return 0;
}

static void convert(const uint8_t *bytes, size_t n_samples, float *pcm)
{
    for (size_t i = 0; i < n_samples; i++)
        pcm[i] = (float)(int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8) / FULL_SCALE;
}

/* What the engine said no to, unless the call is over anyway. */
static int fail_engine(const struct recognition *r, int err)
{
    if (err < 0)
        mesh_call_fail(r->call, status_from_errno(err), "cannot recognise after %lld ms: %s",
                       (long long)to_ms(r->n_samples), strerror(-err));
    return err;
}

static int feed(struct recognition *r, const ProtobufCBinaryData *bytes)
{
    float pcm[FEED_SAMPLES];
    size_t n_samples = bytes->len / 2;
    int64_t start = clock_now_ns();
    int err = check_pcm(r, bytes);

    if (err < 0)
        return err;
    for (size_t at = 0; at < n_samples && err == 0; at += FEED_SAMPLES) {
        size_t n = n_samples - at < FEED_SAMPLES ? n_samples - at : FEED_SAMPLES;

        convert(bytes->data + 2 * at, n, pcm);
        r->n_samples += (int64_t)n;
        err = r->self->engine->session_feed(r->session, pcm, n);
    }
    r->compute_ns += clock_now_ns() - start;
    return fail_engine(r, err);
}

static int take(struct recognition *r, const Request *request)
{
    int err = 0;

    if (!r->session && !request->config) {
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "the first message must hold the configuration");
        return -EINVAL;
    }
    if (r->session && request->config) {
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "only the first message may hold a configuration");
        return -EINVAL;
    }
    if (!r->session)
        err = open_session(r, request->config);
    return err < 0 ? err : feed(r, &request->pcm);
}

/* Everything the caller sends, until it half-closes. */
static int listen(struct recognition *r)
{
    int err = 0;

    while (err == 0) {
        ProtobufCMessage *message = NULL;

        err = mesh_call_read(r->call, &message, -1);
        if (err < 0)
            break;
        err = take(r, (const Request *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return err == -ENODATA ? 0 : err;
}

static int finish(struct recognition *r)
{
    int64_t start = clock_now_ns();
    int err;

    if (!r->session) {
        mesh_call_fail(r->call, STATUS_INVALID_ARGUMENT,
                       "the first message must hold the configuration: there was none");
        return -EINVAL;
    }
    err = r->self->engine->session_finish(r->session);
    r->compute_ns += clock_now_ns() - start;
    if (err < 0)
        return fail_engine(r, err);
    return send_done(r);
}

static void recognizer__recognize(Dragoman__Asr__V1__Recognizer_Service *base, const Request *input,
                                  Reply reply, void *call)
{
    struct recognizer *self = (struct recognizer *)base;
    struct recognition r = {.self = self, .call = call, .reply = reply};

    (void)input; /* a stream: read from the call */
    if (listen(&r) == 0)
        finish(&r);
    if (r.session) {
        metric_add(self->audio_seconds, (double)r.n_samples / SAMPLES_PER_S);
        metric_add(self->compute_seconds, (double)r.compute_ns / 1e9);
        metric_add(self->tokens, (double)self->engine->session_tokens(r.session));
        self->engine->session_destroy(&r.session);
    }
    reply(NULL, call);
}

static int guess_languages(struct recognition *r, const ProtobufCBinaryData *bytes,
                           const char **codes, float *probs)
{
    const struct recognizer *self = r->self;
    size_t n = bytes->len / 2, most = 30 * SAMPLES_PER_S;
    float *pcm;
    int count = check_pcm(r, bytes);

    if (count < 0)
        return count;
    n = n < most ? n : most;
    pcm = malloc((n + 1) * sizeof(*pcm));
    if (!pcm)
        return fail_engine(r, -ENOMEM);
    convert(bytes->data, n, pcm);
    count = self->engine->detect_language(self->model, pcm, n, codes, probs, DETECT_MAX);
    free(pcm);
    return fail_engine(r, count);
}

static void recognizer__detect_language(Dragoman__Asr__V1__Recognizer_Service *base,
                                        const Dragoman__Asr__V1__DetectLanguageRequest *request,
                                        Dragoman__Asr__V1__DetectLanguageResponse_Closure reply,
                                        void *call)
{
    struct recognition r = {.self = (struct recognizer *)base, .call = call};
    Dragoman__Asr__V1__DetectLanguageResponse response =
        DRAGOMAN__ASR__V1__DETECT_LANGUAGE_RESPONSE__INIT;
    Dragoman__Asr__V1__Language languages[DETECT_MAX], *pointers[DETECT_MAX];
    const char *codes[DETECT_MAX];
    float probs[DETECT_MAX];
    int n = guess_languages(&r, &request->pcm, codes, probs);

    for (int i = 0; i < n; i++) {
        languages[i] = (Dragoman__Asr__V1__Language)DRAGOMAN__ASR__V1__LANGUAGE__INIT;
        languages[i].code = (char *)codes[i];
        languages[i].probability = probs[i];
        pointers[i] = &languages[i];
    }
    response.n_languages = n > 0 ? (size_t)n : 0;
    response.languages = pointers;
    reply(n < 0 ? NULL : &response, call);
}

static int load(struct recognizer *self, const struct asr_config *config)
{
    char error[512] = "", folder[4096];
    int64_t start = clock_now_ns();
    int err;

    self->engine = asr_engine_find(config->engine ? config->engine : "whisper");
    if (!self->engine) {
        log_error("cannot find the engine '%s': this program has whisper", config->engine);
        return -EINVAL;
    }
    err = model_folder_open(models_folder, config->model, config->model_name,
                            "name one with --model, e.g. whisper-tiny.en", folder, sizeof(folder),
                            self->name);
    if (err < 0)
        return err;
    err = self->engine->load(folder, (int)config->threads, config->compute_type, error,
                             sizeof(error), &self->model);
    if (err < 0) {
        log_error("%s: get it again with 'dragoman models pull %s'", error, self->name);
        return err;
    }
    log_info("loaded '%s' in %lld ms", self->name, (long long)((clock_now_ns() - start) / 1000000));
    return 0;
}

static int announce(const struct recognizer *self, struct mesh_server *server)
{
    int err = mesh_server_add_label(server, "model", self->name);

    if (err == 0)
        err = mesh_server_add_label(server, "engine", self->engine->name);
    if (err == 0)
        err = mesh_server_add_label(server, "task", "transcribe");
    if (err == 0 && self->engine->can_translate(self->model))
        err = mesh_server_add_label(server, "task", "translate");
    for (const char *const *at = self->engine->languages(self->model); *at && err == 0; at++)
        err = mesh_server_add_label(server, "lang", *at);
    return err;
}

static void make_metrics(struct recognizer *self)
{
    char labels[256];

    snprintf(labels, sizeof(labels), "model=\"%.200s\"", self->name);
    self->audio_seconds =
        metrics_counter("dragoman_asr_audio_seconds_total", "Audio that was recognised.", labels);
    self->compute_seconds =
        metrics_counter("dragoman_asr_compute_seconds_total", "Time spent recognising.", labels);
    self->segments =
        metrics_counter("dragoman_asr_segments_total", "Segments that were sent.", labels);
    self->tokens = metrics_counter("dragoman_asr_tokens_total",
                                   "Tokens that were decoded, all attempts.", labels);
}

static void stop(void *state)
{
    struct recognizer *self = state;

    if (self->model)
        self->engine->unload(&self->model);
    free(self);
}

static int start(const void *given, struct mesh_server *server, void **state)
{
    static const enum mesh_kind kinds[] = {MESH_BIDI_STREAMING, MESH_UNARY};
    static const Dragoman__Asr__V1__Recognizer_Service methods =
        DRAGOMAN__ASR__V1__RECOGNIZER__INIT(recognizer__);
    const struct asr_config *config = given ? given : &flags;
    struct recognizer *self = calloc(1, sizeof(*self));
    int err;

    if (!self)
        return -ENOMEM;
    self->base = methods;
    self->max_audio_s = config->max_audio_s ? config->max_audio_s : MAX_AUDIO_S;
    err = load(self, config);
    if (err == 0) {
        make_metrics(self);
        err = mesh_server_add_service(server, (ProtobufCService *)&self->base, kinds);
    }
    if (err == 0)
        err = announce(self, server);
    if (err < 0)
        stop(self);
    else
        *state = self;
    return err;
}

const struct mesh_harness_service asr_service = {
    .program = "dragoman-asr",
    .name = "asr",
    .summary = "Speech to text: offers dragoman.asr.v1.Recognizer to a broker.",
    .options = options,
    .default_capacity = 8, /* a live stream is a call that mostly waits for its speaker */
    .start = start,
    .stop = stop,
};
