#include "tts/service.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/model_folder.h"
#include "proto/tts.pb-c.h"
#include "text/language.h"
#include "text/sentences.h"
#include "text/utf8.h"
#include "tts/engine.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_TEXT_BYTES 65536
#define SPEED_LEAST 0.25F
#define SPEED_MOST 4.0F
#define NOISE_MOST 10.0F
#define SILENCE_MOST_MS 60000.0F
#define CHUNK_SAMPLES 8192 /* of silence, and at most of sound, in one message */

typedef Dragoman__Tts__V1__SynthesizeConfig Config;
typedef Dragoman__Tts__V1__SynthesizeRequest Request;
typedef Dragoman__Tts__V1__SynthesizeResponse Response;
typedef Dragoman__Tts__V1__SynthesizeResponse_Closure Reply;

struct synthesizer {
    Dragoman__Tts__V1__Synthesizer_Service base; /* first: handlers get its address */
    const struct tts_engine *engine;
    struct tts_model *model;
    char name[MODEL_NAME_BYTES];
    const struct tts_voice *voices;
    size_t n_voices;
    size_t max_text_bytes;
    struct metric *audio_seconds, *compute_seconds, *sentences, *bytes, *first_audio;
};

static struct tts_config flags = {.engine = "vits", .model = "", .compute_type = "f32"};
static const char *models_folder = "";

static const struct config_option options[] = {
    {"engine", CONFIG_CHOICE, &flags.engine, "NAME", "what speaks", "vits|espeak", 0, 0},
    {"model", CONFIG_STRING, &flags.model, "FOLDER",
     "the voice's folder, or its name within --models; none for espeak", NULL, 0, 0},
    {"models", CONFIG_STRING, &models_folder, "DIR",
     "where models are; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
    {"model-name", CONFIG_STRING, &flags.model_name, "NAME",
     "what the model is announced as; the folder's name otherwise", NULL, 0, 0},
    {"compute-type", CONFIG_CHOICE, &flags.compute_type, "TYPE", "what is computed with", "f32", 0,
     0},
    {"threads", CONFIG_INT, &flags.threads, "N", "threads that compute; 0: all processors", NULL, 0,
     1024},
    {"max-text-bytes", CONFIG_INT, &flags.max_text_bytes, "BYTES",
     "longest text of one request; 0: 65536", NULL, 0, 1 << 24},
    {.name = NULL},
};

/* One call that speaks. */
struct speech {
    struct synthesizer *self;
    void *call;
    Reply reply;
    const struct tts_voice *voice; /* NULL until configured */
    struct tts_settings settings;
    char *speaker; /* the settings' own copy */
    bool wants_phonemes;
    size_t silence; /* samples after each sentence */
    uint32_t n_sentences;
    int64_t since_ns; /* the call's begin, until the first sound left */

    /* The sentence being spoken. */
    const char *text;  /* until the first chunk left */
    char *phonemes;    /* the engine's answer */
    int64_t waited_ns; /* of its time, for the caller to take chunks */
    size_t n_samples;
};

/* Voices or languages that there are, for people: as many as fit, then "and N more". */
static void list_names(const struct synthesizer *self, bool languages, char *text, size_t size)
{
    const char *last = "";
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < self->n_voices; i++) {
        const char *name = languages ? self->voices[i].language : self->voices[i].name;

        if (languages && !strcmp(name, last))
            continue;
        last = name;
        if (strlen(name) + 24 > size - at) {
            snprintf(text + at, size - at, " and more");
            return;
        }
        at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "", name);
    }
}

static int refuse_voice(const struct speech *speech, const Config *config)
{
    char known[320];

    list_names(speech->self, !*config->voice, known, sizeof(known));
    if (*config->voice)
        mesh_call_fail(speech->call, STATUS_NOT_FOUND, "no voice '%.64s' here: there is %s",
                       config->voice, known);
    else
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "no voice here speaks '%.32s': they speak %s", config->language, known);
    return -ENOENT;
}

/* Norwegian is asked for as "no" by most; its written form that voices speak is "nb". */
static const char *other_code(const char *code)
{
    return !strcmp(code, "no") ? "nb" : !strcmp(code, "nb") ? "no" : NULL;
}

/* Of the voices that speak a language the first of the asked-for region, else the first. A request
 * that names neither voice nor language gets English where it is spoken. */
static const struct tts_voice *voice_of(const struct synthesizer *self, const Config *config)
{
    const char *code = *config->language ? language_code(config->language) : NULL;
    const char *region = strpbrk(config->language, "-_");
    const struct tts_voice *found = NULL;

    if (*config->language && !code)
        return NULL;
    for (size_t i = 0; !*config->voice && region && i < self->n_voices; i++)
        if (!strcmp(self->voices[i].language, code) &&
            !strcasecmp(self->voices[i].region, region + 1))
            return &self->voices[i];
    if (!*config->voice && !code)
        found = tts_voice_find(self->voices, self->n_voices, NULL, "en");
    if (!found)
        found = tts_voice_find(self->voices, self->n_voices, config->voice, code);
    if (!found && code && other_code(code))
        found = tts_voice_find(self->voices, self->n_voices, config->voice, other_code(code));
    return found;
}

/* A voice that is there, but speaks something else. */
static int refuse_mismatch(const struct speech *speech, const Config *config,
                           const struct tts_voice *voice)
{
    mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT, "the voice '%s' speaks '%s', not '%.32s'",
                   voice->name, voice->language, config->language);
    return -EINVAL;
}

static int choose_voice(struct speech *speech, const Config *config)
{
    const struct synthesizer *self = speech->self;
    const struct tts_voice *named = NULL;

    speech->voice = voice_of(self, config);
    if (speech->voice)
        return 0;
    if (*config->voice)
        named = tts_voice_find(self->voices, self->n_voices, config->voice, NULL);
    return named ? refuse_mismatch(speech, config, named) : refuse_voice(speech, config);
}

static bool within(float value, float least, float most)
{
    return value >= least && value <= most; /* false for NaN */
}

static int check_numbers(const struct speech *speech, const Config *config)
{
    if (config->speed != 0 && !within(config->speed, SPEED_LEAST, SPEED_MOST))
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT, "speed %g: 0.25 to 4 are possible",
                       (double)config->speed);
    else if (isnan(config->noise_scale) || config->noise_scale > NOISE_MOST ||
             isnan(config->noise_w) || config->noise_w > NOISE_MOST)
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "noise_scale %g and noise_w %g: at most 10 is possible",
                       (double)config->noise_scale, (double)config->noise_w);
    else if (!within(config->sentence_silence_ms, 0, SILENCE_MOST_MS))
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "sentence_silence_ms %g: 0 to 60000 are possible",
                       (double)config->sentence_silence_ms);
    else
        return 0;
    return -EINVAL;
}

static bool has_speaker(const struct tts_voice *voice, const char *speaker)
{
    for (const char *const *at = voice->speakers; at && *at; at++)
        if (!strcmp(*at, speaker))
            return true;
    return false;
}

static int check_speaker(const struct speech *speech, const Config *config)
{
    const char *const *speakers = speech->voice->speakers;

    if (!*config->speaker || has_speaker(speech->voice, config->speaker))
        return 0;
    if (!speakers)
        mesh_call_fail(speech->call, STATUS_NOT_FOUND,
                       "the voice '%s' has no speaker '%.64s': it has one, leave the field empty",
                       speech->voice->name, config->speaker);
    else
        mesh_call_fail(speech->call, STATUS_NOT_FOUND,
                       "the voice '%s' has no speaker '%.64s': ListVoices names them, the first "
                       "is '%.64s'",
                       speech->voice->name, config->speaker, speakers[0]);
    return -ENOENT;
}

static int configure(struct speech *speech, const Config *config)
{
    static const Config defaults = DRAGOMAN__TTS__V1__SYNTHESIZE_CONFIG__INIT;
    int err;

    config = config ? config : &defaults;
    if ((err = choose_voice(speech, config)) < 0 || (err = check_numbers(speech, config)) < 0 ||
        (err = check_speaker(speech, config)) < 0)
        return err;
    speech->speaker = strdup(config->speaker);
    if (!speech->speaker)
        return -ENOMEM;
    speech->wants_phonemes = config->phonemes;
    speech->silence =
        (size_t)(config->sentence_silence_ms * (float)speech->voice->sample_rate / 1000.0F);
    speech->settings = (struct tts_settings){
        .voice = speech->voice->name,
        .language = speech->voice->language,
        .speaker = speech->speaker,
        .speed = config->speed,
        .noise_scale = config->noise_scale,
        .noise_w = config->noise_w,
        .cancel = mesh_call_cancel_flag(speech->call),
    };
    return 0;
}

/* Send a chunk of the sentence, samples as they are on the wire. */
static int send(struct speech *speech, const uint8_t *pcm, size_t bytes, const Response *more)
{
    Response response = *more;
    int64_t start = clock_now_ns();

    response.pcm.data = (uint8_t *)(uintptr_t)pcm;
    response.pcm.len = bytes;
    response.sample_rate = speech->voice->sample_rate;
    response.sentence = speech->n_sentences;
    if (speech->text) {
        response.text = (char *)(uintptr_t)speech->text;
        if (speech->wants_phonemes && speech->phonemes)
            response.phonemes = speech->phonemes;
        speech->text = NULL;
    }
    if (bytes && speech->since_ns) {
        metric_observe(speech->self->first_audio, (double)(start - speech->since_ns) / 1e9);
        speech->since_ns = 0;
    }
    speech->reply(&response, speech->call);
    speech->n_samples += bytes / 2;
    speech->waited_ns += clock_now_ns() - start;
    return mesh_call_cancelled(speech->call) ? -ECANCELED : 0;
}

static void convert(const float *pcm, size_t n_samples, uint8_t *bytes)
{
    for (size_t i = 0; i < n_samples; i++) {
        float x = pcm[i] > -1.0F ? (pcm[i] < 1.0F ? pcm[i] : 1.0F) : -1.0F;
        uint16_t sample = (uint16_t)(int16_t)lrintf(x * 32767.0F);

        bytes[2 * i] = (uint8_t)(sample & 0xff);
        bytes[2 * i + 1] = (uint8_t)(sample >> 8);
    }
}

static int on_sound(void *arg, const float *pcm, size_t n_samples)
{
    static const Response plain = DRAGOMAN__TTS__V1__SYNTHESIZE_RESPONSE__INIT;
    uint8_t bytes[2 * CHUNK_SAMPLES];
    int err = 0;

    while (err == 0 && n_samples > 0) {
        size_t n = n_samples < CHUNK_SAMPLES ? n_samples : CHUNK_SAMPLES;

        convert(pcm, n, bytes);
        err = send(arg, bytes, 2 * n, &plain);
        pcm += n;
        n_samples -= n;
    }
    return err;
}

static int send_silence(struct speech *speech)
{
    static const float nothing[CHUNK_SAMPLES];
    size_t left = speech->silence;
    int err = 0;

    while (err == 0 && left > 0) {
        size_t n = left < CHUNK_SAMPLES ? left : CHUNK_SAMPLES;

        err = on_sound(speech, nothing, n);
        left -= n;
    }
    return err;
}

/* The last message of a sentence: no sound, but what is known only now. */
static int send_end(struct speech *speech, int64_t compute_ns)
{
    Response response = DRAGOMAN__TTS__V1__SYNTHESIZE_RESPONSE__INIT;

    response.sentence_end = true;
    response.compute_ms = compute_ns / 1000000;
    return send(speech, NULL, 0, &response);
}

static int fail_engine(const struct speech *speech, int err)
{
    if (err == -E2BIG)
        mesh_call_fail(speech->call, STATUS_RESOURCE_EXHAUSTED,
                       "sentence %u is longer than the engine '%s' speaks at once: send it in "
                       "parts",
                       speech->n_sentences, speech->self->engine->name);
    else if (err == -EILSEQ)
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "cannot speak sentence %u: espeak-ng could not cope with it",
                       speech->n_sentences);
    else if (err != -ECANCELED)
        mesh_call_fail(speech->call, status_from_errno(err), "cannot speak sentence %u: %s",
                       speech->n_sentences, strerror(-err));
    return err;
}

static void count_sentence(const struct speech *speech, size_t bytes, int64_t compute_ns)
{
    const struct synthesizer *self = speech->self;

    metric_add(self->sentences, 1);
    metric_add(self->bytes, (double)bytes);
    metric_add(self->compute_seconds, (double)compute_ns / 1e9);
    metric_add(self->audio_seconds, (double)speech->n_samples / (double)speech->voice->sample_rate);
}

static int speak_sentence(struct speech *speech, const char *text)
{
    const struct synthesizer *self = speech->self;
    int64_t start = clock_now_ns(), compute_ns;
    int err;

    speech->text = text;
    speech->n_samples = 0;
    speech->waited_ns = 0;
    err = self->engine->speak(self->model, text, &speech->settings, on_sound, speech,
                              speech->wants_phonemes ? &speech->phonemes : NULL);
    compute_ns = clock_now_ns() - start - speech->waited_ns;
    if (err == 0)
        err = send_silence(speech);
    if (err == 0)
        err = send_end(speech, compute_ns);
    count_sentence(speech, strlen(text), compute_ns);
    free(speech->phonemes);
    speech->phonemes = NULL;
    speech->n_sentences++;
    return err < 0 ? fail_engine(speech, err) : err;
}

static int check_text(const struct speech *speech, const char *text, size_t size)
{
    if (size > speech->self->max_text_bytes) {
        mesh_call_fail(speech->call, STATUS_RESOURCE_EXHAUSTED,
                       "a text of %zu bytes is longer than the %zu that one request may have: "
                       "send it in parts, or start the service with a larger --max-text-bytes",
                       size, speech->self->max_text_bytes);
        return -EFBIG;
    }
    if (!utf8_valid(text, size)) {
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "the text is not UTF-8 from byte %zu on", utf8_valid_prefix(text, size));
        return -EILSEQ;
    }
    return 0;
}

static int speak_text(struct speech *speech, const char *text)
{
    size_t size = strlen(text), offset = 0;
    struct sentence sentence;
    int err = check_text(speech, text, size);

    while (err == 0 && sentences_next_of(speech->voice->language, text, size, &offset, &sentence)) {
        char *copy = sentence.size ? strndup(sentence.text, sentence.size) : NULL;

        if (sentence.size && !copy)
            return fail_engine(speech, -ENOMEM);
        if (copy)
            err = speak_sentence(speech, copy);
        free(copy);
    }
    return err;
}

/* Nothing was there to say: the answer still tells what sound it would have been. */
static void answer_nothing(struct speech *speech)
{
    static const Response plain = DRAGOMAN__TTS__V1__SYNTHESIZE_RESPONSE__INIT;

    if (speech->n_sentences == 0)
        send(speech, NULL, 0, &plain);
}

static void synthesizer__synthesize(Dragoman__Tts__V1__Synthesizer_Service *base,
                                    const Request *input, Reply reply, void *call)
{
    struct speech speech = {.self = (struct synthesizer *)base,
                            .call = call,
                            .reply = reply,
                            .since_ns = clock_now_ns()};

    if (configure(&speech, input->config) == 0 && speak_text(&speech, input->text) == 0)
        answer_nothing(&speech);
    free(speech.speaker);
    reply(NULL, call);
}

static int take(struct speech *speech, const Request *request)
{
    int err = 0;

    if (speech->voice && request->config) {
        mesh_call_fail(speech->call, STATUS_INVALID_ARGUMENT,
                       "only the first message may hold a configuration");
        return -EINVAL;
    }
    if (!speech->voice)
        err = configure(speech, request->config);
    return err < 0 ? err : speak_text(speech, request->text);
}

static void synthesizer__synthesize_stream(Dragoman__Tts__V1__Synthesizer_Service *base,
                                           const Request *input, Reply reply, void *call)
{
    struct speech speech = {.self = (struct synthesizer *)base, .call = call, .reply = reply};
    int err = 0;

    (void)input; /* a stream: read from the call */
    while (err == 0) {
        ProtobufCMessage *message = NULL;

        err = mesh_call_read(call, &message, -1);
        if (err < 0)
            break;
        if (speech.n_sentences == 0)
            speech.since_ns = clock_now_ns();
        err = take(&speech, (const Request *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (err == -ENODATA && (speech.voice || configure(&speech, NULL) == 0))
        answer_nothing(&speech);
    free(speech.speaker);
    reply(NULL, call);
}

static size_t count_speakers(const struct tts_voice *voice)
{
    size_t n = 0;

    while (voice->speakers && voice->speakers[n])
        n++;
    return n;
}

static void describe(const struct synthesizer *self, const struct tts_voice *from,
                     Dragoman__Tts__V1__Voice *voice)
{
    *voice = (Dragoman__Tts__V1__Voice)DRAGOMAN__TTS__V1__VOICE__INIT;
    voice->name = (char *)(uintptr_t)from->name;
    voice->language = (char *)(uintptr_t)from->language;
    voice->region = (char *)(uintptr_t)from->region;
    voice->licence = (char *)(uintptr_t)from->licence;
    voice->engine = (char *)(uintptr_t)self->engine->name;
    voice->sample_rate = from->sample_rate;
    voice->n_speakers = count_speakers(from);
    voice->speakers = (char **)(uintptr_t)from->speakers;
}

static void synthesizer__list_voices(Dragoman__Tts__V1__Synthesizer_Service *base,
                                     const Dragoman__Tts__V1__ListVoicesRequest *request,
                                     Dragoman__Tts__V1__ListVoicesResponse_Closure reply,
                                     void *call)
{
    const struct synthesizer *self = (struct synthesizer *)base;
    Dragoman__Tts__V1__ListVoicesResponse response = DRAGOMAN__TTS__V1__LIST_VOICES_RESPONSE__INIT;
    Dragoman__Tts__V1__Voice *voices = calloc(self->n_voices + 1, sizeof(*voices));
    Dragoman__Tts__V1__Voice **pointers = calloc(self->n_voices + 1, sizeof(*pointers));
    const char *code = *request->language ? language_code(request->language) : NULL;
    bool none = *request->language && !code;

    for (size_t i = 0; voices && pointers && !none && i < self->n_voices; i++) {
        if (code && strcmp(self->voices[i].language, code) != 0)
            continue;
        pointers[response.n_voices] = &voices[response.n_voices];
        describe(self, &self->voices[i], pointers[response.n_voices++]);
    }
    response.voices = pointers;
    if (!voices || !pointers)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "cannot list the voices: out of memory");
    reply(voices && pointers ? &response : NULL, call);
    free(voices);
    free(pointers);
}

/* The folder of an engine that needs one, and what the model is called. */
static int locate(struct synthesizer *self, const struct tts_config *config, char *folder,
                  size_t size)
{
    if (!strcmp(self->engine->name, "espeak")) {
        folder[0] = '\0';
        snprintf(self->name, sizeof(self->name), "%s",
                 config->model_name ? config->model_name : "espeak-ng");
        return 0;
    }
    return model_folder_open(models_folder, config->model, config->model_name,
                             "name one with --model, e.g. piper-en_US-joe-medium, or choose "
                             "--engine=espeak",
                             folder, size, self->name);
}

static int load(struct synthesizer *self, const struct tts_config *config)
{
    char error[512] = "", folder[4096];
    int64_t start = clock_now_ns();
    int err;

    self->engine = tts_engine_find(config->engine ? config->engine : "vits");
    if (!self->engine) {
        log_error("cannot find the engine '%s': this program has vits and espeak", config->engine);
        return -EINVAL;
    }
    err = locate(self, config, folder, sizeof(folder));
    if (err < 0)
        return err;
    err = self->engine->load(folder, (int)config->threads, config->compute_type, error,
                             sizeof(error), &self->model);
    if (*folder && (err == -ENOENT || err == -EBADMSG))
        log_error("%s: get it again with 'dragoman models pull %s'", error, self->name);
    else if (err < 0)
        log_error("%s", error);
    if (err < 0)
        return err;
    self->n_voices = self->engine->voices(self->model, &self->voices);
    log_info("loaded '%s' in %lld ms: %zu voices", self->name,
             (long long)((clock_now_ns() - start) / 1000000), self->n_voices);
    return 0;
}

static int announce(const struct synthesizer *self, struct mesh_server *server)
{
    const char *last = "";
    int err = mesh_server_add_label(server, "model", self->name);

    if (err == 0)
        err = mesh_server_add_label(server, "engine", self->engine->name);
    for (size_t i = 0; i < self->n_voices && err == 0; i++) {
        const struct tts_voice *voice = &self->voices[i];

        err = mesh_server_add_label(server, "voice", voice->name);
        if (err == 0 && strcmp(voice->language, last) != 0)
            err = mesh_server_add_label(server, "lang", voice->language);
        if (err == 0 && strcmp(voice->language, last) != 0 && other_code(voice->language))
            err = mesh_server_add_label(server, "lang", other_code(voice->language));
        last = voice->language;
    }
    return err;
}

static void make_metrics(struct synthesizer *self)
{
    char labels[256];

    snprintf(labels, sizeof(labels), "model=\"%.200s\"", self->name);
    self->audio_seconds =
        metrics_counter("dragoman_tts_audio_seconds_total", "Speech that was made.", labels);
    self->compute_seconds =
        metrics_counter("dragoman_tts_compute_seconds_total", "Time spent speaking.", labels);
    self->sentences =
        metrics_counter("dragoman_tts_sentences_total", "Sentences that were spoken.", labels);
    self->bytes = metrics_counter("dragoman_tts_text_bytes_total", "Text that was spoken.", labels);
    self->first_audio = metrics_histogram("dragoman_tts_first_audio_seconds",
                                          "From a call's begin to its first sound.", labels);
}

static void stop(void *state)
{
    struct synthesizer *self = state;

    if (self->model)
        self->engine->unload(&self->model);
    free(self);
}

static int start(const void *given, struct mesh_server *server, void **state)
{
    static const enum mesh_kind kinds[] = {MESH_SERVER_STREAMING, MESH_BIDI_STREAMING, MESH_UNARY};
    static const Dragoman__Tts__V1__Synthesizer_Service methods =
        DRAGOMAN__TTS__V1__SYNTHESIZER__INIT(synthesizer__);
    const struct tts_config *config = given ? given : &flags;
    struct synthesizer *self = calloc(1, sizeof(*self));
    int err;

    if (!self)
        return -ENOMEM;
    self->base = methods;
    self->max_text_bytes =
        config->max_text_bytes > 0 ? (size_t)config->max_text_bytes : MAX_TEXT_BYTES;
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

const struct mesh_harness_service tts_service = {
    .program = "dragoman-tts",
    .name = "tts",
    .summary = "Text to speech: offers dragoman.tts.v1.Synthesizer to a broker.",
    .options = options,
    .default_capacity = 4, /* the first has the threads of the pool, the others their own */
    .start = start,
    .stop = stop,
};
