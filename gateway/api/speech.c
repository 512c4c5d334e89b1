/* speech.c - POST /v1/audio/speech, as OpenAI's */
#include "gateway/api/api.h"
#include "proto/tts.pb-c.h"
#include "text/language.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 4096 /* characters, OpenAI's limit */
#define LANGUAGES_MAX 256
#define SURE 0.5f

struct speech {
    struct http_exchange *exchange;
    const struct api *api;
    json_t *body;
    const char *input, *voice, *model, *language;
    size_t n_characters;
    double speed;
    enum audio_format format;
    bool events;
    struct audio_encoder *encoder;
    size_t n_samples;
};

/* A string field; *out keeps its default when missing. @return 0; -1 answered */
static int text_field(struct speech *speech, const char *name, const char **out)
{
    const json_t *value = json_object_get(speech->body, name);

    if (!value || json_is_null(value))
        return 0;
    if (!json_is_string(value)) {
        api_fail_param(speech->exchange, 400, name, NULL, "'%s' must be a string", name);
        return -1;
    }
    *out = json_string_value(value);
    return 0;
}

static size_t count_characters(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static int read_input(struct speech *speech)
{
    if (text_field(speech, "input", &speech->input) < 0)
        return -1;
    if (!speech->input || !*speech->input) {
        api_fail_param(speech->exchange, 400, "input", NULL, "'input' is missing or empty");
        return -1;
    }
    speech->n_characters = count_characters(speech->input);
    if (speech->n_characters <= INPUT_MAX)
        return 0;
    api_fail_param(speech->exchange, 400, "input", "string_above_max_length",
                   "'input' has %zu characters, more than the %d allowed", speech->n_characters,
                   INPUT_MAX);
    return -1;
}

static int read_voice(struct speech *speech)
{
    const json_t *voice = json_object_get(speech->body, "voice");

    if (json_is_object(voice)) /* {"id": "voice_1234"} */
        voice = json_object_get(voice, "id");
    if (json_is_string(voice)) {
        speech->voice = json_string_value(voice);
        return 0;
    }
    if (!voice || json_is_null(voice))
        return 0;
    api_fail_param(speech->exchange, 400, "voice", NULL, "'voice' must be a string");
    return -1;
}

static int read_speed(struct speech *speech)
{
    const json_t *speed = json_object_get(speech->body, "speed");

    if (!speed || json_is_null(speed))
        return 0;
    speech->speed = json_number_value(speed);
    if (json_is_number(speed) && speech->speed >= 0.25 && speech->speed <= 4)
        return 0;
    api_fail_param(speech->exchange, 400, "speed", NULL, "'speed' must be a number from 0.25 to 4");
    return -1;
}

static int read_formats(struct speech *speech)
{
    const char *format = "mp3", *stream = "audio";

    if (text_field(speech, "response_format", &format) < 0 ||
        text_field(speech, "stream_format", &stream) < 0)
        return -1;
    if (audio_format_parse(format, &speech->format) < 0) {
        api_fail_param(speech->exchange, 400, "response_format", NULL,
                       "response_format '%.32s' is not served: " AUDIO_FORMATS, format);
        return -1;
    }
    speech->events = !strcmp(stream, "sse");
    if (speech->events || !strcmp(stream, "audio"))
        return 0;
    api_fail_param(speech->exchange, 400, "stream_format", NULL,
                   "stream_format '%.32s' is not served: audio, sse", stream);
    return -1;
}

static int read_request(struct speech *speech)
{
    const char *language = NULL;

    speech->speed = 1;
    return read_input(speech) < 0 || read_voice(speech) < 0 || read_speed(speech) < 0 ||
                   read_formats(speech) < 0 || text_field(speech, "model", &speech->model) < 0 ||
                   text_field(speech, "language", &language) < 0 ||
                   api_language(speech->exchange, "language", language, &speech->language) < 0
               ? -1
               : 0;
}

/* Clients of OpenAI's name no language: guess among those that some voice speaks. */
static const char *guess_language(const struct directory_view *view, const char *text)
{
    const char *languages[LANGUAGES_MAX + 1], *code = "";
    size_t n = directory_values(view, SERVICE_TTS, "lang", languages, LANGUAGES_MAX);
    float confidence = 0;

    languages[n] = NULL;
    language_detect(text, strlen(text), languages, &code, &confidence);
    if (*code && confidence >= SURE)
        return code;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(languages[i], "en"))
            return "en";
    }
    return n ? languages[0] : "en";
}

static int deliver(void *arg, const void *data, size_t size)
{
    struct speech *speech = arg;
    char *text;
    int err;

    if (!speech->events)
        return http_write(speech->exchange, data, size);
    text = api_base64(data, size);
    err = text ? api_event(speech->exchange,
                           json_pack("{s:s, s:s}", "type", "speech.audio.delta", "audio", text))
               : -ENOMEM;
    free(text);
    return err;
}

/* The first samples are there: the answer begins. */
static int begin(struct speech *speech, uint32_t rate_hz)
{
    int err = speech->events ? api_events_begin(speech->exchange)
                             : http_begin(speech->exchange, 200, audio_format_mime(speech->format));

    return err ? err
               : audio_encoder_create(speech->format, rate_hz, AUDIO_LENGTH_UNKNOWN, deliver,
                                      speech, &speech->encoder);
}

static int take(struct speech *speech, const Dragoman__Tts__V1__SynthesizeResponse *response)
{
    size_t n = response->pcm.len / sizeof(int16_t);
    int err = 0;

    if (!speech->encoder && response->sample_rate)
        err = begin(speech, response->sample_rate);
    if (err || !speech->encoder)
        return err;
    speech->n_samples += n;
    return audio_encoder_write(speech->encoder, (const int16_t *)(const void *)response->pcm.data,
                               n);
}

static int finish(struct speech *speech)
{
    int err = speech->encoder ? 0 : begin(speech, AUDIO_PCM_RATE); /* nothing to say */

    if (!err)
        err = audio_encoder_finish(speech->encoder);
    if (err || !speech->events)
        return err;
    /* No tokens are counted here: characters go in, samples come out. */
    return api_event(speech->exchange,
                     json_pack("{s:s, s:{s:I, s:I, s:I}}", "type", "speech.audio.done", "usage",
                               "input_tokens", (json_int_t)speech->n_characters, "output_tokens",
                               (json_int_t)speech->n_samples, "total_tokens",
                               (json_int_t)(speech->n_characters + speech->n_samples)));
}

static int synthesize(struct speech *speech, const struct selection *voice, struct status *status)
{
    Dragoman__Tts__V1__SynthesizeConfig config = DRAGOMAN__TTS__V1__SYNTHESIZE_CONFIG__INIT;
    Dragoman__Tts__V1__SynthesizeRequest request = DRAGOMAN__TTS__V1__SYNTHESIZE_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    struct rpc_waiter waiter;
    int result, err = 0;

    config.voice = (char *)voice->voice;
    config.language = (char *)voice->language;
    config.speed = (float)speech->speed;
    request.config = &config;
    request.text = (char *)speech->input;
    rpc_waiter_init(&waiter, speech->exchange, speech->api->request_timeout_ms);
    result = rpc_open(&waiter, speech->api->channel, &dragoman__tts__v1__synthesizer__descriptor,
                      "Synthesize", voice->selector, &stream, status);
    if (result == 0)
        result = rpc_write(&waiter, stream, &request.base, status);
    if (result == 0) {
        mesh_stream_finish(stream);
        while (!err && (result = rpc_read(&waiter, stream, &message, status)) > 0) {
            err = take(speech, (const Dragoman__Tts__V1__SynthesizeResponse *)message);
            protobuf_c_message_free_unpacked(message, NULL);
        }
    }
    if (result == 0 && !err)
        err = finish(speech);
    mesh_stream_destroy(&stream);
    rpc_waiter_fini(&waiter);
    if (result >= 0 && err) {
        status_set(status, err == -EPIPE ? STATUS_CANCELLED : STATUS_INTERNAL,
                   "the speech cannot be encoded or delivered");
        result = -1;
    }
    return result;
}

void api_speech(struct http_exchange *exchange, void *context)
{
    const struct api *api = context;
    const struct directory_view *view = directory_acquire(api->directory);
    struct speech speech = {.exchange = exchange, .api = api, .body = api_json_body(exchange)};
    struct selection voice;
    struct status status;

    if (!speech.body || read_request(&speech) < 0)
        goto done;
    if (select_tts(view, speech.model, speech.voice,
                   speech.language ? speech.language : guess_language(view, speech.input), &voice,
                   &status) < 0) {
        api_fail_status(exchange, &status, status.code == STATUS_NOT_FOUND ? "model" : "voice");
        goto done;
    }
    if (synthesize(&speech, &voice, &status) < 0) {
        if (http_begun(exchange))
            http_abort(exchange); /* it must not look whole */
        else
            api_fail_status(exchange, &status, NULL);
    }
done:
    audio_encoder_destroy(&speech.encoder);
    json_decref(speech.body);
    directory_release(&view);
}
