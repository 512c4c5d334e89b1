/* The service over a real channel: a server bound in this process, the tiny voice or espeak-ng. */
#include "base/clock.h"
#include "mesh/channel.h"
#include "proto/tts.pb-c.h"
#include "tts/service.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define ENDPOINT "inproc://tts-test"
#define SERVICE (&dragoman__tts__v1__synthesizer__descriptor)

typedef Dragoman__Tts__V1__SynthesizeConfig Config;
typedef Dragoman__Tts__V1__SynthesizeRequest Request;
typedef Dragoman__Tts__V1__SynthesizeResponse Response;

struct rig {
    void *context;
    struct mesh_server *server;
    struct mesh_channel *channel;
    void *service;
};

/* The tiny voice lies in a folder with other golden data: what counts is *.onnx. */
static const struct tts_config tiny = {
    .engine = "vits", .model = GOLDEN_DIR, .threads = 1, .max_text_bytes = 4096};
static const struct tts_config espeak = {.engine = "espeak"};

static void rig_start(struct rig *rig, const struct tts_config *config)
{
    struct mesh_server_options server = {
        .endpoint = ENDPOINT, .bind = true, .name = "tts", .capacity = 2};
    struct mesh_channel_options channel = {.endpoint = ENDPOINT, .name = "test"};

    rig->context = zmq_ctx_new();
    server.context = channel.context = rig->context;
    assert_int_equal(mesh_server_create(&server, &rig->server), 0);
    assert_int_equal(tts_service.start(config, rig->server, &rig->service), 0);
    assert_int_equal(mesh_server_start(rig->server), 0);
    assert_int_equal(mesh_channel_create(&channel, &rig->channel), 0);
}

static void rig_stop(struct rig *rig)
{
    mesh_channel_destroy(&rig->channel);
    mesh_server_destroy(&rig->server);
    tts_service.stop(rig->service);
    zmq_ctx_destroy(rig->context);
}

static struct rig rig;

static int start_tiny(void **state)
{
    (void)state;
    rig_start(&rig, &tiny);
    return 0;
}

static int start_espeak(void **state)
{
    (void)state;
    rig_start(&rig, &espeak);
    return 0;
}

static int stop_rig(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

/* What a call answered, put together. */
struct answer {
    struct status status;
    int16_t *pcm;
    size_t n_samples, n_messages, n_ends;
    uint32_t sample_rate, n_sentences;
    char text[1024], phonemes[1024]; /* of all sentences, "|" behind each */
};

static void answer_fini(struct answer *answer)
{
    free(answer->pcm);
    answer->pcm = NULL;
}

static void note(struct answer *answer, const Response *message)
{
    answer->pcm = realloc(answer->pcm, answer->n_samples * 2 + message->pcm.len + 1);
    assert_non_null(answer->pcm);
    if (message->pcm.len)
        memcpy(answer->pcm + answer->n_samples, message->pcm.data, message->pcm.len);
    assert_int_equal(message->pcm.len % 2, 0);
    answer->n_samples += message->pcm.len / 2;
    if (answer->n_messages++)
        assert_int_equal(message->sample_rate, answer->sample_rate);
    answer->sample_rate = message->sample_rate;
    /* Sentences come one after another, and their numbers count their ends. */
    assert_int_equal(message->sentence, answer->n_ends);
    answer->n_ends += message->sentence_end != 0;
    answer->n_sentences = message->sentence + 1;
    if (*message->text)
        strcat(strncat(answer->text, message->text, 200), "|");
    if (*message->phonemes)
        strcat(strncat(answer->phonemes, message->phonemes, 200), "|");
}

static struct mesh_stream *open_call(const char *method)
{
    struct mesh_call_options options = {.timeout_ms = 20000, .wait_for_ready = true};
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(rig.channel, SERVICE, method, &options, &stream), 0);
    return stream;
}

static void read_all(struct mesh_stream *stream, struct answer *answer)
{
    ProtobufCMessage *message = NULL;

    while (mesh_stream_read(stream, &message, -1) == 0) {
        note(answer, (const Response *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_true(mesh_stream_status(stream, &answer->status));
}

static void write_text(struct mesh_stream *stream, const char *text, Config *config)
{
    Request request = DRAGOMAN__TTS__V1__SYNTHESIZE_REQUEST__INIT;

    request.text = (char *)(uintptr_t)text;
    request.config = config;
    assert_int_equal(mesh_stream_write(stream, &request.base, -1), 0);
}

static void synthesize(const char *text, Config *config, struct answer *answer)
{
    struct mesh_stream *stream = open_call("Synthesize");

    memset(answer, 0, sizeof(*answer));
    write_text(stream, text, config);
    mesh_stream_finish(stream);
    read_all(stream, answer);
    mesh_stream_destroy(&stream);
}

static const Config plain = DRAGOMAN__TTS__V1__SYNTHESIZE_CONFIG__INIT;

static void assert_ok(const struct answer *answer)
{
    if (answer->status.code != STATUS_OK)
        fail_msg("%s: %s", status_name(answer->status.code), answer->status.message);
}

static void sentences_come_in_order(void **state)
{
    struct answer answer;
    Config config = plain;

    (void)state;
    config.phonemes = true;
    config.noise_scale = config.noise_w = -1;
    synthesize("Good morning. How are you?\nFine!", &config, &answer);
    assert_ok(&answer);
    assert_int_equal(answer.sample_rate, 8000);
    assert_int_equal(answer.n_ends, 3);
    assert_string_equal(answer.text, "Good morning.|How are you?|Fine!|");
    assert_non_null(strstr(answer.phonemes, "mˈɔːɹnɪŋ.|"));
    assert_true(answer.n_samples > 3 * 64);
    answer_fini(&answer);
}

static void empty_configuration_is_the_default(void **state)
{
    struct answer answer;

    (void)state;
    synthesize("Hello.", NULL, &answer);
    assert_ok(&answer);
    assert_true(answer.n_samples > 0);
    assert_string_equal(answer.phonemes, "");
    answer_fini(&answer);
}

/* Noise off makes it the same every time. */
static void settings_reach_the_voice(void **state)
{
    struct answer fast, slow, again, other, silent;
    Config config = plain;

    (void)state;
    config.noise_scale = config.noise_w = -1;
    config.speed = 2;
    synthesize("Where is the station?", &config, &fast);
    config.speed = 0.5f;
    synthesize("Where is the station?", &config, &slow);
    synthesize("Where is the station?", &config, &again);
    config.speaker = "eve";
    synthesize("Where is the station?", &config, &other);
    config.sentence_silence_ms = 1000;
    synthesize("Where is the station?", &config, &silent);
    assert_ok(&fast);
    assert_ok(&other);
    assert_true(slow.n_samples > fast.n_samples);
    assert_int_equal(slow.n_samples, again.n_samples);
    assert_memory_equal(slow.pcm, again.pcm, slow.n_samples * 2);
    assert_true(other.n_samples != slow.n_samples ||
                memcmp(slow.pcm, other.pcm, slow.n_samples * 2) != 0);
    assert_int_equal(silent.n_samples, other.n_samples + 8000);
    answer_fini(&fast);
    answer_fini(&slow);
    answer_fini(&again);
    answer_fini(&other);
    answer_fini(&silent);
}

static void nothing_to_say_is_an_answer(void **state)
{
    static const char *const texts[] = {"", "  \n ", "...", "\"\""};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct answer answer;

        synthesize(texts[i], NULL, &answer);
        assert_ok(&answer);
        assert_true(answer.n_messages > 0);
        assert_int_equal(answer.sample_rate, 8000);
        assert_int_equal(answer.n_samples, 0);
        answer_fini(&answer);
    }
}

static void assert_refused(const char *text, Config *config, enum status_code code, const char *why)
{
    struct answer answer;

    synthesize(text, config, &answer);
    if (answer.status.code != code || !strstr(answer.status.message, why))
        fail_msg("'%s' is %s: %s; want %s: %s", text, status_name(answer.status.code),
                 answer.status.message, status_name(code), why);
    assert_int_equal(answer.n_samples, 0);
    answer_fini(&answer);
}

static void wrong_requests_are_explained(void **state)
{
    char *much = malloc(4098);
    Config config = plain;

    (void)state;
    config.voice = "nobody";
    assert_refused("Hi.", &config, STATUS_NOT_FOUND, "'nobody' here: there is en_GB-tiny-high");
    config = plain;
    config.language = "pt";
    assert_refused("Olá.", &config, STATUS_INVALID_ARGUMENT, "speaks 'pt': they speak en");
    config.language = "no such language";
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "they speak en");
    config.language = "de";
    config.voice = "en_GB-tiny-high";
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "speaks 'en', not 'de'");
    config = plain;
    config.speaker = "zoe";
    assert_refused("Hi.", &config, STATUS_NOT_FOUND, "no speaker 'zoe'");
    config = plain;
    config.speed = 5;
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "speed 5: 0.25 to 4");
    config.speed = -1;
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "speed -1");
    config.speed = (float)atof("nan");
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "speed");
    config = plain;
    config.noise_w = 11;
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "noise_w 11");
    config = plain;
    config.sentence_silence_ms = -1;
    assert_refused("Hi.", &config, STATUS_INVALID_ARGUMENT, "sentence_silence_ms");
    assert_refused("\xff", NULL, STATUS_INVALID_ARGUMENT, "not UTF-8 from byte 0");

    memset(much, 'a', 4097);
    much[4097] = '\0';
    assert_refused(much, NULL, STATUS_RESOURCE_EXHAUSTED, "4097 bytes is longer than the 4096");
    free(much);
}

/* What a language is called may carry a region. */
static void languages_may_have_regions(void **state)
{
    static const char *const names[] = {"en", "en-GB", "en_US", "English", "eng"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct answer answer;
        Config config = plain;

        config.language = (char *)(uintptr_t)names[i];
        synthesize("Hi.", &config, &answer);
        assert_ok(&answer);
        answer_fini(&answer);
    }
}

static void streams_speak_while_text_comes(void **state)
{
    struct mesh_stream *stream = open_call("SynthesizeStream");
    struct answer answer = {.n_messages = 0};
    ProtobufCMessage *message = NULL;
    Config config = plain;

    (void)state;
    config.noise_scale = config.noise_w = -1;
    write_text(stream, "First, without a full stop", &config);
    while (answer.n_ends < 1) { /* spoken before the second is sent */
        assert_int_equal(mesh_stream_read(stream, &message, 20000), 0);
        note(&answer, (const Response *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    write_text(stream, "Second. Third.", NULL);
    write_text(stream, "", NULL);
    mesh_stream_finish(stream);
    read_all(stream, &answer);
    assert_ok(&answer);
    assert_string_equal(answer.text, "First, without a full stop|Second.|Third.|");
    assert_int_equal(answer.n_ends, 3);
    answer_fini(&answer);
    mesh_stream_destroy(&stream);
}

static void streams_are_configured_once(void **state)
{
    struct mesh_stream *stream = open_call("SynthesizeStream");
    struct answer answer = {.n_messages = 0};
    Config config = plain;

    (void)state;
    write_text(stream, "One.", &config);
    write_text(stream, "Two.", &config);
    mesh_stream_finish(stream);
    read_all(stream, &answer);
    assert_int_equal(answer.status.code, STATUS_INVALID_ARGUMENT);
    assert_string_equal(answer.text, "One.|");
    answer_fini(&answer);
    mesh_stream_destroy(&stream);
}

static void streams_without_text_are_answered(void **state)
{
    struct mesh_stream *stream = open_call("SynthesizeStream");
    struct answer answer = {.n_messages = 0};

    (void)state;
    mesh_stream_finish(stream);
    read_all(stream, &answer);
    assert_ok(&answer);
    assert_int_equal(answer.n_messages, 1);
    assert_int_equal(answer.sample_rate, 8000);
    answer_fini(&answer);
    mesh_stream_destroy(&stream);
}

/* Both slots of the server are taken by long texts; cancelled, they are free at once. */
static void cancelled_calls_free_their_slot(void **state)
{
    struct mesh_stream *streams[2];
    struct answer answer;
    ProtobufCMessage *message = NULL;
    char *text = malloc(4001);
    Config config = plain;
    int64_t since;

    (void)state;
    for (size_t i = 0; i < 4000; i += 8)
        memcpy(text + i, "banana. ", 8);
    text[4000] = '\0';
    config.speed = 0.25f;
    for (int i = 0; i < 2; i++) {
        streams[i] = open_call("Synthesize");
        write_text(streams[i], text, &config);
        mesh_stream_finish(streams[i]);
        assert_int_equal(mesh_stream_read(streams[i], &message, 20000), 0);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    since = clock_now_ms();
    for (int i = 0; i < 2; i++)
        mesh_stream_cancel(streams[i]);
    synthesize("Hi.", NULL, &answer);
    assert_ok(&answer);
    assert_true(clock_now_ms() - since < 2000);
    answer_fini(&answer);
    for (int i = 0; i < 2; i++)
        mesh_stream_destroy(&streams[i]);
    free(text);
}

static Dragoman__Tts__V1__ListVoicesResponse *list_voices(const char *language)
{
    Dragoman__Tts__V1__ListVoicesRequest request = DRAGOMAN__TTS__V1__LIST_VOICES_REQUEST__INIT;
    struct mesh_call_options options = {.timeout_ms = 20000, .wait_for_ready = true};
    ProtobufCMessage *response = NULL;
    struct status status;

    request.language = (char *)(uintptr_t)language;
    if (mesh_unary(rig.channel, SERVICE, "ListVoices", &request.base, &options, &response,
                   &status) < 0)
        fail_msg("%s: %s", status_name(status.code), status.message);
    return (Dragoman__Tts__V1__ListVoicesResponse *)response;
}

static void voices_are_listed(void **state)
{
    Dragoman__Tts__V1__ListVoicesResponse *response = list_voices("");

    (void)state;
    assert_int_equal(response->n_voices, 1);
    assert_string_equal(response->voices[0]->name, "en_GB-tiny-high");
    assert_string_equal(response->voices[0]->language, "en");
    assert_string_equal(response->voices[0]->region, "GB");
    assert_string_equal(response->voices[0]->engine, "vits");
    assert_int_equal(response->voices[0]->sample_rate, 8000);
    assert_int_equal(response->voices[0]->n_speakers, 3);
    assert_string_equal(response->voices[0]->speakers[2], "eve");
    protobuf_c_message_free_unpacked(&response->base, NULL);

    response = list_voices("en-US");
    assert_int_equal(response->n_voices, 1);
    protobuf_c_message_free_unpacked(&response->base, NULL);
    response = list_voices("pt");
    assert_int_equal(response->n_voices, 0);
    protobuf_c_message_free_unpacked(&response->base, NULL);
}

static void espeak_speaks_many_languages(void **state)
{
    Dragoman__Tts__V1__ListVoicesResponse *response = list_voices("");
    struct answer answer;
    Config config = plain;
    size_t n;

    (void)state;
    assert_true(response->n_voices > 80);
    protobuf_c_message_free_unpacked(&response->base, NULL);

    config.phonemes = true;
    synthesize("Good day.", &config, &answer); /* neither voice nor language: English */
    assert_ok(&answer);
    assert_non_null(strstr(answer.phonemes, "d dˈeɪ"));
    answer_fini(&answer);
    config.language = "no"; /* Norwegian's voice is "nb" */
    synthesize("God dag.", &config, &answer);
    assert_ok(&answer);
    answer_fini(&answer);

    config.language = "pt-BR";
    synthesize("Bom dia. Tudo bem?", &config, &answer);
    assert_ok(&answer);
    assert_int_equal(answer.sample_rate, 22050);
    assert_int_equal(answer.n_ends, 2);
    assert_true(answer.n_samples > 22050);
    assert_non_null(strstr(answer.phonemes, "dʒ")); /* Brazil's "dia" */
    answer_fini(&answer);

    config.language = "";
    config.voice = "pt";
    synthesize("Bom dia. Tudo bem?", &config, &answer);
    assert_ok(&answer);
    assert_null(strstr(answer.phonemes, "dʒ")); /* Portugal's */
    n = answer.n_samples;
    answer_fini(&answer);

    config.speed = 2;
    synthesize("Bom dia. Tudo bem?", &config, &answer);
    assert_ok(&answer);
    assert_true(answer.n_samples > n / 3 && answer.n_samples < n * 2 / 3);
    answer_fini(&answer);
}

static void models_that_are_not_there_are_named(void **state)
{
    static const struct tts_config configs[] = {
        {.engine = "vits", .model = "/nowhere/voice"},
        {.engine = "vits", .model = ""},
        {.engine = "vits", .model = SOURCE_DIR "/docs"},
        {.engine = "no such engine"},
        {.engine = "vits", .model = GOLDEN_DIR, .compute_type = "int8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(configs) / sizeof(*configs); i++) {
        struct mesh_server_options options = {
            .endpoint = "tcp://127.0.0.1:*", .bind = true, .name = "tts"};
        struct mesh_server *server = NULL;
        void *service = NULL;

        assert_int_equal(mesh_server_create(&options, &server), 0);
        assert_true(tts_service.start(&configs[i], server, &service) < 0);
        assert_null(service);
        mesh_server_destroy(&server);
    }
}

int main(void)
{
    const struct CMUnitTest with_tiny[] = {
        cmocka_unit_test(sentences_come_in_order),
        cmocka_unit_test(empty_configuration_is_the_default),
        cmocka_unit_test(settings_reach_the_voice),
        cmocka_unit_test(nothing_to_say_is_an_answer),
        cmocka_unit_test(wrong_requests_are_explained),
        cmocka_unit_test(languages_may_have_regions),
        cmocka_unit_test(streams_speak_while_text_comes),
        cmocka_unit_test(streams_are_configured_once),
        cmocka_unit_test(streams_without_text_are_answered),
        cmocka_unit_test(cancelled_calls_free_their_slot),
        cmocka_unit_test(voices_are_listed),
    };
    const struct CMUnitTest with_espeak[] = {
        cmocka_unit_test(espeak_speaks_many_languages),
    };
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(models_that_are_not_there_are_named),
    };

    return cmocka_run_group_tests(with_tiny, start_tiny, stop_rig) +
           cmocka_run_group_tests(with_espeak, start_espeak, stop_rig) +
           cmocka_run_group_tests(alone, NULL, NULL);
}
