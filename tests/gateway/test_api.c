/*
 * The HTTP API over a whole stack in one process: broker, recogniser, translator, voice, gateway.
 *
 * Real models, except one translator made here ("pt-es": capitals), for paths of two hops.
 */
#include "asr/service.h"
#include "base/clock.h"
#include "broker/broker.h"
#include "gateway/gateway.h"
#include "mesh/server.h"
#include "proto/translate.pb-c.h"
#include "tests/gateway/client.h"
#include "tests/support/golden.h"
#include "translate/service.h"
#include "tts/service.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define RECORDING                                                                                  \
    "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0880.wav"
#define FRONT "inproc://front"
#define BACK "inproc://back"
#define JSON_TYPE "Content-Type: application/json\r\n"

static void *context;
static struct broker *broker;
static struct mesh_harness *workers[3];
static struct mesh_server *capitals;
static struct gateway *gateway;
static int port;
static char *recording;
static size_t recording_size;

/* The translator made here. */

static char *in_capitals(const char *text)
{
    char *copy = strdup(text);

    for (char *c = copy; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return copy;
}

static void capitals_translate(Dragoman__Translate__V1__Translator_Service *self,
                               const Dragoman__Translate__V1__TranslateRequest *request,
                               Dragoman__Translate__V1__TranslateResponse_Closure reply, void *call)
{
    Dragoman__Translate__V1__TranslateResponse response =
        DRAGOMAN__TRANSLATE__V1__TRANSLATE_RESPONSE__INIT;
    Dragoman__Translate__V1__Translation one = DRAGOMAN__TRANSLATE__V1__TRANSLATION__INIT,
                                         *list = &one;

    (void)self;
    one.text = in_capitals(request->texts[0]);
    response.translations = &list;
    response.n_translations = 1;
    reply(&response, call);
    free(one.text);
}

static void capitals_translate_stream(Dragoman__Translate__V1__Translator_Service *self,
                                      const Dragoman__Translate__V1__TranslateStreamRequest *none,
                                      Dragoman__Translate__V1__Sentence_Closure reply, void *call)
{
    ProtobufCMessage *message;

    (void)self, (void)none;
    while (mesh_call_read(call, &message, -1) == 0) {
        const Dragoman__Translate__V1__TranslateStreamRequest *request = (void *)message;
        Dragoman__Translate__V1__Sentence sentence = DRAGOMAN__TRANSLATE__V1__SENTENCE__INIT;

        sentence.source = request->text;
        sentence.target = in_capitals(request->text);
        reply(&sentence, call);
        free(sentence.target);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static void capitals_detect_language(Dragoman__Translate__V1__Translator_Service *self,
                                     const Dragoman__Translate__V1__DetectLanguageRequest *request,
                                     Dragoman__Translate__V1__DetectLanguageResponse_Closure reply,
                                     void *call)
{
    (void)self, (void)request;
    mesh_call_fail(call, STATUS_UNIMPLEMENTED, "not here");
    reply(NULL, call);
}

static Dragoman__Translate__V1__Translator_Service capitals_service =
    DRAGOMAN__TRANSLATE__V1__TRANSLATOR__INIT(capitals_);

static void start_capitals(void)
{
    static const enum mesh_kind kinds[] = {MESH_UNARY, MESH_BIDI_STREAMING, MESH_UNARY};
    const struct mesh_server_options options = {
        .endpoint = BACK, .name = "capitals", .context = context, .capacity = 2};

    assert_int_equal(mesh_server_create(&options, &capitals), 0);
    assert_int_equal(
        mesh_server_add_service(capitals, (ProtobufCService *)&capitals_service, kinds), 0);
    mesh_server_add_label(capitals, "pair", "pt-es");
    mesh_server_add_label(capitals, "source", "pt");
    mesh_server_add_label(capitals, "target", "es");
    mesh_server_add_label(capitals, "model", "capitals");
    assert_int_equal(mesh_server_start(capitals), 0);
}

static void start_workers(void)
{
    const struct mesh_harness_options options = {.broker = BACK, .context = context};
    char tiny[4096], pair[4096];
    struct asr_config asr = {.engine = "whisper", .compute_type = "f32"};
    struct translate_config translate = {.engine = "marian", .compute_type = "int8"};
    const struct tts_config tts = {.engine = "espeak"};

    snprintf(tiny, sizeof(tiny), "%s", golden_model("whisper-tiny.en"));
    snprintf(pair, sizeof(pair), "%s", golden_model("marian-en-pt"));
    asr.model = tiny;
    translate.model = pair;
    assert_int_equal(mesh_harness_start(&asr_service, &asr, &options, &workers[0]), 0);
    assert_int_equal(mesh_harness_start(&translate_service, &translate, &options, &workers[1]), 0);
    assert_int_equal(mesh_harness_start(&tts_service, &tts, &options, &workers[2]), 0);
    start_capitals();
}

static json_t *get_json(const char *path, int status)
{
    struct reply reply;
    json_t *json;

    client_request(port, "GET", path, "", NULL, 0, &reply);
    if (reply.status != status)
        fail_msg("%s: %d %s", path, reply.status, (char *)reply.body.data);
    json = json_loadb((char *)reply.body.data, reply.body.size, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    reply_fini(&reply);
    return json;
}

/* Until the gateway has seen all workers: the broker tells it, but not at once. */
static void wait_ready(void)
{
    int64_t until = clock_now_ms() + 10000;
    size_t n = 0;

    while (n < 4 && clock_now_ms() < until) {
        json_t *models = get_json("/v1/models", 200);

        n = json_array_size(json_object_get(models, "data"));
        json_decref(models);
        usleep(10000);
    }
    assert_int_equal(n, 4);
    json_decref(get_json("/readyz", 200));
}

static int start(void **state)
{
    static const char *const front[] = {FRONT, NULL}, *const back[] = {BACK, NULL};
    const struct gateway_options options = {.listen = "127.0.0.1:0", .broker = FRONT};
    struct gateway_options mine = options;

    (void)state;
    context = zmq_ctx_new();
    assert_int_equal(
        broker_start(&(struct broker_options){.front = front, .back = back, .context = context},
                     &broker),
        0);
    mine.context = context;
    assert_int_equal(gateway_start(&mine, &gateway), 0);
    port = gateway_port(gateway);
    json_decref(get_json("/readyz", 503));
    start_workers();
    wait_ready();
    recording = golden_text(RECORDING, &recording_size);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    gateway_stop(&gateway, 1000);
    for (size_t i = 0; i < 3; i++)
        mesh_harness_stop(&workers[i], 1000);
    mesh_server_destroy(&capitals);
    broker_stop(&broker, 1000);
    zmq_ctx_term(context);
    free(recording);
    return 0;
}

/* Helpers. */

static const char *text(const json_t *json, const char *key)
{
    const char *value = json_string_value(json_object_get(json, key));

    if (!value)
        fail_msg("no string '%s' in %s", key, json_dumps(json, JSON_ENCODE_ANY));
    return value ? value : "";
}

static void contains(const char *haystack, const char *needle)
{
    if (!haystack || !strstr(haystack, needle))
        fail_msg("no '%s' in: %.600s", needle, haystack ? haystack : "nothing");
}

#define upload(path, reply, ...) upload_file(path, recording, recording_size, reply, __VA_ARGS__)
#define upload_file(path, file, n_bytes, reply, ...)                                               \
    do {                                                                                           \
        struct buffer form_;                                                                       \
                                                                                                   \
        client_form(&form_, file, n_bytes, "a.wav", __VA_ARGS__);                                  \
        client_request(port, "POST", path, CLIENT_FORM_TYPE, form_.data, form_.size, reply);       \
        buffer_fini(&form_);                                                                       \
    } while (0)

static json_t *body_json(struct reply *reply, int status)
{
    json_t *json;

    if (reply->status != status)
        fail_msg("%d: %.600s", reply->status, (char *)reply->body.data);
    json = json_loadb((char *)reply->body.data, reply->body.size, JSON_DECODE_ANY, NULL);
    if (!json)
        fail_msg("not JSON: %.600s", (char *)reply->body.data);
    reply_fini(reply);
    return json;
}

/* OpenAI's shape, all four keys, and what the message must name. */
static void openai_error(struct reply *reply, int status, const char *param, const char *phrase)
{
    json_t *json = body_json(reply, status), *error = json_object_get(json, "error");

    assert_int_equal(json_object_size(json), 1);
    assert_int_equal(json_object_size(error), 4);
    contains(text(error, "message"), phrase);
    assert_true(json_is_string(json_object_get(error, "type")));
    assert_non_null(json_object_get(error, "code"));
    if (param)
        assert_string_equal(text(error, "param"), param);
    else
        assert_true(json_is_null(json_object_get(error, "param")));
    json_decref(json);
}

static void post_json(const char *path, const char *body, struct reply *reply)
{
    client_request(port, "POST", path, JSON_TYPE, body, strlen(body), reply);
}

/* The JSON of every "data: " line. */
static json_t *events(struct reply *reply)
{
    json_t *list = json_array();
    char *at = (char *)reply->body.data, *line;

    assert_int_equal(reply->status, 200);
    assert_string_equal(reply_header(reply, "Content-Type"), "text/event-stream");
    assert_true(reply->whole);
    while ((line = strsep(&at, "\n"))) {
        json_t *event;

        if (!*line)
            continue;
        assert_memory_equal(line, "data: {", 7);
        event = json_loads(line + 6, 0, NULL);
        assert_non_null(event);
        json_array_append_new(list, event);
    }
    reply_fini(reply);
    return list;
}

/* /v1/models */

static void models(void **state)
{
    json_t *json = get_json("/v1/models", 200), *model;
    struct reply reply;
    size_t i;

    (void)state;
    assert_string_equal(text(json, "object"), "list");
    json_array_foreach(json_object_get(json, "data"), i, model)
    {
        assert_string_equal(text(model, "object"), "model");
        text(model, "id");
        text(model, "owned_by");
        assert_true(json_is_integer(json_object_get(model, "created")));
    }
    json_decref(json);
    json = get_json("/v1/models/whisper-tiny.en", 200);
    assert_string_equal(text(json, "id"), "whisper-tiny.en");
    json_decref(json);
    client_request(port, "GET", "/v1/models/gpt-9", "", NULL, 0, &reply);
    openai_error(&reply, 404, "model", "gpt-9");
}

/* /v1/audio/transcriptions */

static void transcription_shapes(void **state)
{
    struct reply reply;
    json_t *json, *usage, *segment;

    (void)state;
    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", NULL);
    json = body_json(&reply, 200);
    contains(text(json, "text"), "young man");
    usage = json_object_get(json, "usage");
    assert_string_equal(text(usage, "type"), "duration");
    assert_true(json_integer_value(json_object_get(usage, "seconds")) >= 2);
    json_decref(json);

    upload("/v1/audio/transcriptions", &reply, "model", "whisper-tiny.en", "response_format",
           "verbose_json", "timestamp_granularities[]", "word", "timestamp_granularities[]",
           "segment", NULL);
    json = body_json(&reply, 200);
    assert_string_equal(text(json, "task"), "transcribe");
    assert_string_equal(text(json, "language"), "english");
    assert_true(json_real_value(json_object_get(json, "duration")) > 2);
    segment = json_array_get(json_object_get(json, "segments"), 0);
    for (const char *const *key =
             (const char *const[]){"id", "seek", "start", "end", "text", "tokens", "temperature",
                                   "avg_logprob", "compression_ratio", "no_speech_prob", NULL};
         *key; key++)
        assert_non_null(json_object_get(segment, *key));
    text(json_array_get(json_object_get(json, "words"), 0), "word");
    json_decref(json);

    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", "response_format", "text",
           NULL);
    assert_int_equal(reply.status, 200);
    contains((char *)reply.body.data, "young man");
    assert_true(reply.body.data[0] != ' ');
    reply_fini(&reply);
    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", "response_format", "srt",
           NULL);
    assert_memory_equal(reply.body.data, "1\n00:00:00,", 11);
    contains((char *)reply.body.data, " --> 00:00:0");
    reply_fini(&reply);
    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", "response_format", "vtt",
           NULL);
    assert_memory_equal(reply.body.data, "WEBVTT\n\n00:00:00.", 17);
    reply_fini(&reply);
}

static void transcription_events(void **state)
{
    struct reply reply;
    json_t *list, *event;
    char deltas[1000] = "";
    size_t i;

    (void)state;
    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", "stream", "true", NULL);
    list = events(&reply);
    json_array_foreach(list, i, event)
    {
        if (!strcmp(text(event, "type"), "transcript.text.delta"))
            strcat(deltas, text(event, "delta"));
    }
    event = json_array_get(list, json_array_size(list) - 1);
    assert_string_equal(text(event, "type"), "transcript.text.done");
    assert_string_equal(text(event, "text"), deltas); /* the pieces are the whole */
    assert_true(json_is_object(json_object_get(event, "usage")));
    json_decref(list);
}

static void transcription_errors(void **state)
{
    static const struct {
        const char *field, *value, *param, *phrase;
        int status;
    } cases[] = {
        {"model", "whisper-9", "model", "whisper-tiny.en", 404},
        {"language", "klingonese", "language", "ISO 639-1", 400},
        {"language", "fi", "model", "'fi'", 400},
        {"response_format", "xml", "response_format", "verbose_json", 400},
        {"response_format", "diarized_json", "response_format", "verbose_json", 400},
        {"timestamp_granularities[]", "word", "timestamp_granularities", "verbose_json", 400},
        {"timestamp_granularities[]", "verse", "timestamp_granularities", "segment", 400},
        {"temperature", "hot", "temperature", "from 0 to 1", 400},
        {"temperature", "1.5", "temperature", "from 0 to 1", 400},
        {"include[]", "logprobs", "include", "log-probabilities", 400},
    };
    struct reply reply;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        upload("/v1/audio/transcriptions", &reply, cases[i].field, cases[i].value, NULL);
        openai_error(&reply, cases[i].status, cases[i].param, cases[i].phrase);
    }
    upload_file("/v1/audio/transcriptions", NULL, 0, &reply, "model", "whisper-1", NULL);
    openai_error(&reply, 400, "file", "'file' is missing");
    upload_file("/v1/audio/transcriptions", "no audio", 8, &reply, "model", "whisper-1", NULL);
    openai_error(&reply, 400, "file", "'a.wav': not audio");
    client_request(port, "POST", "/v1/audio/transcriptions", CLIENT_FORM_TYPE, "--Xb", 4, &reply);
    openai_error(&reply, 400, NULL, "form");
}

static void audio_may_be_the_body(void **state)
{
    struct reply reply;
    json_t *json;

    (void)state;
    client_request(port, "POST", "/v1/audio/transcriptions?model=whisper-1",
                   "Content-Type: audio/wav\r\n", recording, recording_size, &reply);
    json = body_json(&reply, 200);
    contains(text(json, "text"), "young man");
    json_decref(json);
    client_request(port, "POST", "/v1/audio/transcriptions",
                   "Content-Type: audio/pcm;rate=16000\r\n", recording + 44, recording_size - 44,
                   &reply);
    json = body_json(&reply, 200);
    contains(text(json, "text"), "young man");
    json_decref(json);
}

static void translations_without_a_model_that_translates(void **state)
{
    struct reply reply;
    json_t *json;

    (void)state;
    /* tiny.en only transcribes: English to English is no translation. */
    upload("/v1/audio/translations", &reply, "model", "whisper-1", NULL);
    json = body_json(&reply, 200);
    contains(text(json, "text"), ""); /* there, and a string */
    json_decref(json);
    upload("/v1/audio/translations", &reply, "model", "whisper-1", "target_language", "pt",
           "response_format", "verbose_json", NULL);
    json = body_json(&reply, 200);
    assert_string_equal(text(json, "task"), "translate");
    assert_string_equal(text(json, "language"), "portuguese");
    contains(text(json, "text"), "jovem");
    json_decref(json);
    upload("/v1/audio/translations", &reply, "model", "whisper-1", "response_format", "srt", NULL);
    openai_error(&reply, 400, "model", "whisper-base");
}

/* /v1/audio/speech */

static void speech_formats(void **state)
{
    static const struct {
        const char *format, *type, *magic;
    } cases[] = {{"mp3", "audio/mpeg", "\xff"},  {"wav", "audio/wav", "RIFF"},
                 {"flac", "audio/flac", "fLaC"}, {"opus", "audio/opus", "OggS"},
                 {"aac", "audio/aac", "\xff"},   {"pcm", "audio/pcm", ""}};
    struct reply reply;
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(body, sizeof(body),
                 "{\"model\":\"tts-1\",\"voice\":\"alloy\",\"input\":\"Good morning.\","
                 "\"response_format\":\"%s\"}",
                 cases[i].format);
        post_json("/v1/audio/speech", body, &reply);
        assert_int_equal(reply.status, 200);
        assert_true(reply.whole);
        assert_string_equal(reply_header(&reply, "Content-Type"), cases[i].type);
        assert_memory_equal(reply.body.data, cases[i].magic, strlen(cases[i].magic));
        if (reply.body.size < 2000)
            fail_msg("%s: only %zu bytes", cases[i].format, reply.body.size);
        reply_fini(&reply);
    }
}

static size_t speech_bytes(const char *more)
{
    struct reply reply;
    char body[512];
    size_t n;

    snprintf(body, sizeof(body),
             "{\"model\":\"tts-1\",\"response_format\":\"pcm\",\"input\":"
             "\"One two three four five six seven.\"%s}",
             more);
    post_json("/v1/audio/speech", body, &reply);
    if (reply.status != 200)
        fail_msg("%s: %s", more, (char *)reply.body.data);
    n = reply.body.size;
    reply_fini(&reply);
    return n;
}

static void speech_options(void **state)
{
    size_t plain = speech_bytes(",\"voice\":\"en-us\"");

    (void)state;
    assert_in_range(speech_bytes(",\"voice\":{\"id\":\"en-us\"},\"speed\":2"), plain / 3,
                    plain * 2 / 3);
    speech_bytes(",\"voice\":\"pt\"");
    speech_bytes(",\"voice\":\"nova\",\"language\":\"pt-BR\"");
    speech_bytes("");
}

static void speech_events(void **state)
{
    struct reply reply;
    json_t *list, *last;

    (void)state;
    post_json("/v1/audio/speech",
              "{\"model\":\"tts-1\",\"voice\":\"alloy\",\"input\":\"Hi there.\","
              "\"response_format\":\"pcm\",\"stream_format\":\"sse\"}",
              &reply);
    list = events(&reply);
    assert_string_equal(text(json_array_get(list, 0), "type"), "speech.audio.delta");
    text(json_array_get(list, 0), "audio");
    last = json_array_get(list, json_array_size(list) - 1);
    assert_string_equal(text(last, "type"), "speech.audio.done");
    assert_non_null(json_object_get(json_object_get(last, "usage"), "total_tokens"));
    json_decref(list);
}

static void speech_errors(void **state)
{
    static const struct {
        const char *body, *param, *phrase;
        int status;
    } cases[] = {
        {"", NULL, "empty", 400},
        {"{", NULL, "JSON", 400},
        {"[1]", NULL, "object", 400},
        {"{\"model\":\"tts-1\",\"voice\":\"alloy\"}", "input", "input", 400},
        {"{\"model\":\"tts-1\",\"voice\":\"alloy\",\"input\":\"\"}", "input", "input", 400},
        {"{\"model\":\"tts-1\",\"voice\":\"alloy\",\"input\":7}", "input", "string", 400},
        {"{\"model\":7,\"voice\":\"alloy\",\"input\":\"a\"}", "model", "string", 400},
        {"{\"model\":\"tts-9\",\"voice\":\"alloy\",\"input\":\"a\"}", "model", "tts-9", 404},
        {"{\"voice\":\"who-is-this\",\"input\":\"a\"}", "voice", "who-is-this", 400},
        {"{\"voice\":7,\"input\":\"a\"}", "voice", "string", 400},
        {"{\"input\":\"a\",\"speed\":9}", "speed", "0.25 to 4", 400},
        {"{\"input\":\"a\",\"speed\":\"fast\"}", "speed", "0.25 to 4", 400},
        {"{\"input\":\"a\",\"response_format\":\"midi\"}", "response_format", "opus", 400},
        {"{\"input\":\"a\",\"stream_format\":\"tape\"}", "stream_format", "sse", 400},
    };
    struct reply reply;
    char *long_body = malloc(6000);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        post_json("/v1/audio/speech", cases[i].body, &reply);
        openai_error(&reply, cases[i].status, cases[i].param, cases[i].phrase);
    }
    sprintf(long_body, "{\"input\":\"%05000d\"}", 0);
    post_json("/v1/audio/speech", long_body, &reply);
    openai_error(&reply, 400, "input", "4096");
    free(long_body);
}

/* /v1/interpret */

static void interpret_languages(void **state)
{
    json_t *json = get_json("/v1/interpret", 200), *target;
    char codes[200] = "";
    size_t i;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(json, "sources")), 1);
    assert_string_equal(text(json_array_get(json_object_get(json, "sources"), 0), "name"),
                        "English");
    json_array_foreach(json_object_get(json, "targets"), i, target)
    {
        strcat(codes, text(target, "code"));
        strcat(codes, " ");
        assert_true(json_array_size(json_object_get(target, "voices")) > 0);
    }
    assert_string_equal(codes, "en es pt ");
    json_decref(json);
}

/* Bytes of base64 text. */
static size_t base64_bytes(const char *encoded)
{
    size_t n = strlen(encoded);

    assert_int_equal(n % 4, 0);
    return n / 4 * 3 - (n && encoded[n - 1] == '=') - (n > 1 && encoded[n - 2] == '=');
}

static void interpret_as_json(void **state)
{
    struct reply reply;
    json_t *json, *audio, *stages;
    double seconds;

    (void)state;
    upload("/v1/interpret", &reply, "to", "pt", NULL);
    json = body_json(&reply, 200);
    assert_string_equal(text(json, "source"), "en");
    assert_string_equal(text(json, "target"), "pt");
    contains(text(json, "transcript"), "young man");
    contains(text(json, "translation"), "jovem");
    assert_int_equal(json_array_size(json_object_get(json, "path")), 2);
    assert_true(json_array_size(json_object_get(json, "segments")) > 0);
    text(json_array_get(json_object_get(json, "sentences"), 0), "source");
    audio = json_object_get(json, "audio");
    assert_string_equal(text(audio, "format"), "wav");
    assert_memory_equal(text(audio, "data"), "UklGR", 5); /* RIFF */
    seconds = json_real_value(json_object_get(audio, "seconds"));
    assert_true(seconds > 1);
    assert_true(base64_bytes(text(audio, "data")) >
                (size_t)((seconds - 0.1) * 2 *
                         (double)json_integer_value(json_object_get(audio, "sample_rate"))));
    stages = json_object_get(json, "stages");
    for (const char *const *key =
             (const char *const[]){"decode_ms", "recognise_ms", "translate_ms", "speak_ms",
                                   "first_audio_ms", "total_ms", NULL};
         *key; key++)
        assert_true(json_is_integer(json_object_get(stages, *key)));
    json_decref(json);
}

static void interpret_over_two_hops(void **state)
{
    struct reply reply;
    json_t *json, *sentence;

    (void)state;
    upload("/v1/interpret", &reply, "to", "es", "from", "en", NULL);
    json = body_json(&reply, 200);
    assert_int_equal(json_array_size(json_object_get(json, "path")), 3);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "path"), 1)), "pt");
    sentence = json_array_get(json_object_get(json, "sentences"), 0);
    contains(text(sentence, "source"), "young man"); /* what was said, not the step between */
    contains(text(sentence, "text"), "JOVEM");
    json_decref(json);
}

static void interpret_into_the_same_language(void **state)
{
    struct reply reply;
    json_t *json;

    (void)state;
    upload("/v1/interpret", &reply, "to", "en", NULL);
    json = body_json(&reply, 200);
    assert_int_equal(json_array_size(json_object_get(json, "path")), 1);
    contains(text(json, "translation"), "young man");
    assert_true(strlen(text(json_object_get(json, "audio"), "data")) > 10000);
    json_decref(json);
}

static void interpret_as_audio(void **state)
{
    struct reply reply;

    (void)state;
    upload("/v1/interpret", &reply, "to", "pt", "response_format", "flac", NULL);
    assert_int_equal(reply.status, 200);
    assert_true(reply.whole);
    assert_string_equal(reply_header(&reply, "Content-Type"), "audio/flac");
    assert_string_equal(reply_header(&reply, "X-Source-Language"), "en");
    assert_memory_equal(reply.body.data, "fLaC", 4);
    reply_fini(&reply);
}

static void interpret_as_events(void **state)
{
    struct reply reply;
    json_t *list, *event;
    size_t i, bytes = 0;
    char order[8] = "";

    (void)state;
    upload("/v1/interpret", &reply, "to", "pt", "stream", "true", NULL);
    list = events(&reply);
    json_array_foreach(list, i, event)
    {
        const char *type = text(event, "type") + strlen("interpret.");

        if (!strchr(order, *type)) /* language, Segment is 's', Sentence 's' too: by length */
            strncat(order, type, 1);
        if (!strcmp(type, "audio"))
            bytes += base64_bytes(text(event, "audio"));
    }
    assert_string_equal(order, "lsad");
    assert_true(bytes > 22050);
    event = json_array_get(list, json_array_size(list) - 1);
    assert_string_equal(text(event, "type"), "interpret.done");
    assert_null(json_object_get(event, "audio"));
    contains(text(event, "translation"), "jovem");
    json_decref(list);
}

static void interpret_errors(void **state)
{
    struct reply reply;

    (void)state;
    upload("/v1/interpret", &reply, "from", "en", NULL);
    openai_error(&reply, 400, "to", "'to' is missing");
    upload("/v1/interpret", &reply, "to", "fi", NULL);
    openai_error(&reply, 400, "to", "pt");
    upload("/v1/interpret", &reply, "to", "pt", "from", "ja", NULL);
    openai_error(&reply, 400, "from", "'ja'");
    upload("/v1/interpret", &reply, "to", "pt", "voice", "who-is-this", NULL);
    openai_error(&reply, 400, NULL, "who-is-this");
    upload("/v1/interpret", &reply, "to", "pt", "speed", "5", NULL);
    openai_error(&reply, 400, "speed", "0.25 to 4");
    upload("/v1/interpret", &reply, "to", "pt", "response_format", "midi", NULL);
    openai_error(&reply, 400, "response_format", "json, wav");
    upload_file("/v1/interpret", "RIFF but no", 11, &reply, "to", "pt", NULL);
    openai_error(&reply, 400, "file", "not audio");
}

/* Silence is heard as nothing, said as nothing, and is no error. */
static void interpret_silence(void **state)
{
    static const char *const formats[] = {"json", "wav"};
    char *silence = calloc(1, 44 + 32000);
    struct reply reply;

    (void)state;
    memcpy(silence, recording, 44);
    for (size_t i = 0; i < 2; i++) {
        upload_file("/v1/interpret", silence, 44 + 32000, &reply, "to", "pt", "response_format",
                    formats[i], NULL);
        assert_int_equal(reply.status, 200);
        assert_true(reply.whole);
        reply_fini(&reply);
    }
    free(silence);
}

/* EasyNMT */

static void easynmt_translate(void **state)
{
    struct reply reply;
    json_t *json = get_json("/translate?target_lang=pt&source_lang=en&text=Good+morning.", 200);

    (void)state;
    assert_int_equal(json_object_size(json), 4); /* no detected_langs */
    assert_string_equal(text(json, "target_lang"), "pt");
    assert_string_equal(text(json, "source_lang"), "en");
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "translated"), 0)),
                        "Bom dia.");
    assert_true(json_is_real(json_object_get(json, "translation_time")));
    json_decref(json);

    json = get_json("/translate?target_lang=pt&text=Good+morning,+my+dear+friend.&text=The+house.",
                    200);
    assert_true(json_is_null(json_object_get(json, "source_lang")));
    assert_int_equal(json_array_size(json_object_get(json, "detected_langs")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "translated")), 2);
    json_decref(json);

    post_json("/translate", "{\"text\":\"The weather is very nice today.\",\"target_lang\":\"pt\"}",
              &reply);
    json = body_json(&reply, 200);
    assert_string_equal(text(json, "detected_langs"), "en"); /* a string in, strings out */
    text(json, "translated");
    json_decref(json);

    post_json("/translate",
              "{\"text\":[\"Good morning.\",\"\"],\"target_lang\":\"es\",\"source_lang\":\"en\","
              "\"beam_size\":2,\"perform_sentence_splitting\":false}",
              &reply);
    /* Two hops; the test's own translator takes one text at a time. */
    assert_true(reply.status == 200 || reply.status == 500);
    reply_fini(&reply);

    post_json("/translate",
              "{\"text\":[\"Good morning.\"],\"target_lang\":\"es\",\"source_lang\":\"en\"}",
              &reply);
    json = body_json(&reply, 200);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "translated"), 0)),
                        "BOM DIA.");
    json_decref(json);

    post_json("/translate",
              "{\"text\":[\"Bom dia.\"],\"target_lang\":\"pt\",\"source_lang\":\"pt\"}", &reply);
    json = body_json(&reply, 200);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "translated"), 0)),
                        "Bom dia.");
    json_decref(json);
}

static void easynmt_errors(void **state)
{
    json_t *json = get_json("/translate?text=a", 422), *detail;
    struct reply reply;

    (void)state;
    detail = json_array_get(json_object_get(json, "detail"), 0);
    assert_string_equal(text(detail, "msg"), "field required");
    assert_string_equal(text(detail, "type"), "value_error.missing");
    assert_string_equal(json_string_value(json_array_get(json_object_get(detail, "loc"), 1)),
                        "target_lang");
    json_decref(json);
    json = get_json("/translate?target_lang=fi&source_lang=en&text=a", 403);
    assert_memory_equal(text(json, "detail"), "Error: ", 7);
    contains(text(json, "detail"), "pt");
    json_decref(json);
    json_decref(get_json("/translate?target_lang=xx-none&text=a", 403));
    post_json("/translate", "{\"text\":7,\"target_lang\":\"pt\"}", &reply);
    json_decref(body_json(&reply, 422));
    post_json("/translate", "{\"text\":[7],\"target_lang\":\"pt\"}", &reply);
    json_decref(body_json(&reply, 422));
    post_json("/translate", "{\"text\":\"a\"}", &reply);
    json_decref(body_json(&reply, 422));
    post_json("/translate", "{\"text\":\"a\"", &reply);
    json_decref(body_json(&reply, 400));
}

static void easynmt_directories(void **state)
{
    json_t *json = get_json("/lang_pairs", 200);
    char *dump = json_dumps(json, 0);

    (void)state;
    assert_string_equal(dump, "[\"en-es\", \"en-pt\", \"pt-es\"]");
    free(dump);
    json_decref(json);
    json = get_json("/get_languages", 200);
    dump = json_dumps(json, 0);
    assert_string_equal(dump, "[\"en\", \"es\", \"pt\"]");
    free(dump);
    json_decref(json);
    json = get_json("/get_languages?source_lang=en", 200);
    dump = json_dumps(json, 0);
    assert_string_equal(dump, "[\"es\", \"pt\"]");
    free(dump);
    json_decref(json);
    json = get_json("/get_languages?target_lang=es", 200);
    dump = json_dumps(json, 0);
    assert_string_equal(dump, "[\"en\", \"pt\"]");
    free(dump);
    json_decref(json);
    json = get_json("/model_name", 200);
    assert_true(json_is_string(json));
    json_decref(json);
}

static void easynmt_detection(void **state)
{
    json_t *json = get_json("/language_detection?text=O+tempo+est%C3%A1+muito+bom+hoje", 200);
    struct reply reply;

    (void)state;
    assert_string_equal(json_string_value(json), "pt");
    json_decref(json);
    post_json("/language_detection",
              "{\"text\":[\"This is an English sentence.\",\"Das ist ein deutscher Satz.\"]}",
              &reply);
    json = body_json(&reply, 200);
    assert_string_equal(json_string_value(json_array_get(json, 0)), "en");
    assert_string_equal(json_string_value(json_array_get(json, 1)), "de");
    json_decref(json);
    post_json("/language_detection", "{\"text\":{\"k\":\"Ceci est une phrase.\"}}", &reply);
    json = body_json(&reply, 200);
    assert_string_equal(text(json, "k"), "fr");
    json_decref(json);
    json_decref(get_json("/language_detection", 422));
    post_json("/language_detection", "{\"text\":[7]}", &reply);
    json_decref(body_json(&reply, 422));
}

/* Around it */

static void keys(void **state)
{
    static const char *const list[] = {"first key", "second", NULL};
    const struct gateway_options options = {
        .listen = "127.0.0.1:0", .broker = FRONT, .context = context, .api_keys = list};
    struct gateway *locked = NULL;
    int mine = port;
    struct reply reply;
    json_t *json;

    (void)state;
    assert_int_equal(gateway_start(&options, &locked), 0);
    port = gateway_port(locked);
    client_request(port, "GET", "/v1/models", "", NULL, 0, &reply);
    json = body_json(&reply, 401);
    assert_string_equal(text(json_object_get(json, "error"), "code"), "invalid_api_key");
    json_decref(json);
    for (const char *const *wrong =
             (const char *const[]){"Bearer first", "Bearer first key ", "Bearer ", "second",
                                   "Basic second", NULL};
         *wrong; wrong++) {
        char head[64];

        snprintf(head, sizeof(head), "Authorization: %s\r\n", *wrong);
        client_request(port, "GET", "/v1/models", head, NULL, 0, &reply);
        /* Space at a header's end is not part of it (RFC 9112, 5.1): that key is the first. */
        assert_int_equal(reply.status, strcmp(*wrong, "Bearer first key ") ? 401 : 200);
        reply_fini(&reply);
    }
    client_request(port, "GET", "/v1/models", "Authorization: bearer second\r\n", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    reply_fini(&reply);
    client_request(port, "GET", "/healthz", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    reply_fini(&reply);
    port = mine;
    gateway_stop(&locked, 0);
}

/* One deadline for all of it: what takes longer ends, and says so. */
static void deadlines(void **state)
{
    const struct gateway_options options = {.listen = "127.0.0.1:0",
                                            .broker = FRONT,
                                            .context = context,
                                            .request_timeout_ms = 60,
                                            .max_audio_s = 2};
    struct gateway *hasty = NULL;
    int mine = port;
    struct reply reply;
    int64_t began;

    (void)state;
    assert_int_equal(gateway_start(&options, &hasty), 0);
    port = gateway_port(hasty);
    for (int status = 503; status == 503;) { /* until it knows the workers */
        began = clock_now_ms();
        upload_file("/v1/audio/transcriptions", recording, 44 + 32000, &reply, "model", "whisper-1",
                    NULL);
        status = reply.status;
        if (status != 503)
            openai_error(&reply, 504, NULL, "deadline");
        else
            reply_fini(&reply);
    }
    assert_true(clock_now_ms() - began < 1000);
    port = mine;
    gateway_stop(&hasty, 0);
}

static void recordings_over_the_limit(void **state)
{
    const struct gateway_options options = {
        .listen = "127.0.0.1:0", .broker = FRONT, .context = context, .max_audio_s = 1};
    struct gateway *brief = NULL;
    int mine = port, status = 503;
    struct reply reply;

    (void)state;
    assert_int_equal(gateway_start(&options, &brief), 0);
    port = gateway_port(brief);
    while (status == 503) {
        upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", NULL);
        status = reply.status;
        if (status != 503)
            openai_error(&reply, 400, NULL, "longer than");
        else
            reply_fini(&reply);
    }
    port = mine;
    gateway_stop(&brief, 0);
}

static void health_and_metrics(void **state)
{
    struct reply reply;
    json_t *json = get_json("/readyz", 200);

    (void)state;
    assert_string_equal(text(json, "status"), "ready");
    json_decref(json);
    client_request(port, "GET", "/metrics", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    contains((char *)reply.body.data,
             "dragoman_http_requests_total{route=\"/v1/interpret\",status=\"200\"}");
    reply_fini(&reply);
    client_request(port, "GET", "/", "", NULL, 0, &reply);
    assert_string_equal(reply_header(&reply, "Content-Type"), "text/html; charset=utf-8");
    contains((char *)reply.body.data, "page.js");
    reply_fini(&reply);
    client_request(port, "GET", "/page.js", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    reply_fini(&reply);
}

/* The service leaves in the middle: one status, at once, and the rest goes on. */
static void a_stage_that_is_gone(void **state)
{
    int64_t until = clock_now_ms() + 5000;
    struct reply reply;
    int status = 0;

    (void)state;
    mesh_harness_stop(&workers[2], 1000);
    while (status != 503 && clock_now_ms() < until) {
        upload("/v1/interpret", &reply, "to", "pt", "from", "en", NULL);
        status = reply.status;
        reply_fini(&reply);
    }
    assert_int_equal(status, 503);
    upload("/v1/interpret", &reply, "to", "pt", NULL);
    openai_error(&reply, 503, NULL, "tts");
    json_decref(get_json("/readyz", 503));
    upload("/v1/audio/transcriptions", &reply, "model", "whisper-1", NULL);
    assert_int_equal(reply.status, 200);
    reply_fini(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models),
        cmocka_unit_test(transcription_shapes),
        cmocka_unit_test(transcription_events),
        cmocka_unit_test(transcription_errors),
        cmocka_unit_test(audio_may_be_the_body),
        cmocka_unit_test(translations_without_a_model_that_translates),
        cmocka_unit_test(speech_formats),
        cmocka_unit_test(speech_options),
        cmocka_unit_test(speech_events),
        cmocka_unit_test(speech_errors),
        cmocka_unit_test(interpret_languages),
        cmocka_unit_test(interpret_as_json),
        cmocka_unit_test(interpret_over_two_hops),
        cmocka_unit_test(interpret_into_the_same_language),
        cmocka_unit_test(interpret_as_audio),
        cmocka_unit_test(interpret_as_events),
        cmocka_unit_test(interpret_errors),
        cmocka_unit_test(interpret_silence),
        cmocka_unit_test(easynmt_translate),
        cmocka_unit_test(easynmt_errors),
        cmocka_unit_test(easynmt_directories),
        cmocka_unit_test(easynmt_detection),
        cmocka_unit_test(keys),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(recordings_over_the_limit),
        cmocka_unit_test(health_and_metrics),
        cmocka_unit_test(a_stage_that_is_gone),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
