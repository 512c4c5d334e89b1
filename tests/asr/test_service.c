/* dragoman.asr.v1.Recognizer over the mesh, answered straight without a broker. */
#include "asr/engine.h"
#include "asr/service.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "mesh/channel.h"
#include "proto/asr.pb-c.h"
#include "tests/asr/speech.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include <cmocka.h>

#define ENDPOINT "inproc://asr"
#define SERVICE (&dragoman__asr__v1__recognizer__descriptor)
#define MAX_AUDIO_S 60
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LATE_MS 30000 /* a step takes long there */
#else
#define LATE_MS 2000
#endif

typedef Dragoman__Asr__V1__RecognizeConfig Config;
typedef Dragoman__Asr__V1__RecognizeRequest Request;
typedef Dragoman__Asr__V1__RecognizeResponse Response;

struct rig {
    void *context;
    struct mesh_server *server;
    void *service;
    struct mesh_channel *channel;
};

static int set_up(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    const struct asr_config config = {
        .engine = "whisper",
        .model = golden_model("whisper-tiny.en"),
        .compute_type = "f32",
        .threads = 2,
        .max_audio_s = MAX_AUDIO_S,
    };

    rig->context = zmq_ctx_new();
    assert_int_equal(mesh_server_create(&(struct mesh_server_options){.endpoint = ENDPOINT,
                                                                      .bind = true,
                                                                      .name = "asr",
                                                                      .context = rig->context,
                                                                      .capacity = 4},
                                        &rig->server),
                     0);
    assert_int_equal(asr_service.start(&config, rig->server, &rig->service), 0);
    assert_int_equal(mesh_server_start(rig->server), 0);
    assert_int_equal(mesh_channel_create(&(struct mesh_channel_options){.endpoint = ENDPOINT,
                                                                        .name = "test",
                                                                        .context = rig->context},
                                         &rig->channel),
                     0);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    mesh_channel_destroy(&rig->channel);
    mesh_server_destroy(&rig->server);
    asr_service.stop(rig->service);
    zmq_ctx_term(rig->context);
    free(rig);
    return 0;
}

static Config plain_config(void)
{
    Config config = DRAGOMAN__ASR__V1__RECOGNIZE_CONFIG__INIT;

    config.beam_size = 1;
    config.language = (char *)"en";
    return config;
}

static struct mesh_stream *open_call(const struct rig *rig)
{
    const struct mesh_call_options options = {.timeout_ms = 120000, .wait_for_ready = true};
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(rig->channel, SERVICE, "Recognize", &options, &stream), 0);
    return stream;
}

static int send(struct mesh_stream *stream, Config *config, const void *pcm, size_t n_bytes)
{
    Request request = DRAGOMAN__ASR__V1__RECOGNIZE_REQUEST__INIT;

    request.config = config;
    request.pcm.data = (uint8_t *)pcm;
    request.pcm.len = n_bytes;
    return mesh_stream_write(stream, &request.base, 60000);
}

/* LibriVox sentence as the wire wants it. */
static int16_t *sentence(const char *number, size_t *n_samples)
{
    float *pcm = speech_sentence(number, n_samples);
    int16_t *samples = malloc(*n_samples * sizeof(*samples));

    for (size_t i = 0; i < *n_samples; i++)
        samples[i] = (int16_t)lrintf(pcm[i] * 32768);
    free(pcm);
    return samples;
}

/* What a call answered. */
struct heard {
    char text[2048], language[16];
    size_t n_segments, n_words, n_languages, n_done, n_partials;
    int64_t audio_ms, end_ms;
    struct status status;
};

static void hear(const Response *response, struct heard *heard)
{
    switch (response->event_case) {
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_LANGUAGE:
        assert_int_equal(heard->n_segments + heard->n_done, 0);
        heard->n_languages++;
        strcpy(heard->language, response->language->code);
        break;
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_SEGMENT:
        assert_int_equal(response->segment->id, heard->n_segments);
        assert_int_equal(heard->n_done, 0);
        assert_true(response->segment->n_tokens > 0);
        strcat(heard->text, response->segment->text);
        heard->n_words += response->segment->n_words;
        heard->end_ms = response->segment->end_ms;
        heard->n_segments++;
        break;
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_PARTIAL:
        assert_true(response->partial->text[0] != '\0');
        assert_true(response->partial->stable_chars <= strlen(response->partial->text));
        assert_int_equal(heard->n_done, 0);
        heard->n_partials++;
        break;
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_DONE:
        assert_string_equal(response->done->model, "whisper-tiny.en");
        assert_true(response->done->compute_ms >= 0);
        heard->audio_ms = response->done->audio_ms;
        heard->n_done++;
        break;
    default:
        fail_msg("an event of an unexpected kind: %d", (int)response->event_case);
    }
}

static struct heard listen(struct mesh_stream *stream)
{
    struct heard heard = {0};
    ProtobufCMessage *message = NULL;
    int err;

    while ((err = mesh_stream_read(stream, &message, 120000)) == 0) {
        hear((const Response *)message, &heard);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_int_equal(err, -ENODATA);
    assert_true(mesh_stream_status(stream, &heard.status));
    return heard;
}

/* A whole call with audio in pieces. */
static struct heard recognise(const struct rig *rig, Config *config, const char *number,
                              size_t piece)
{
    struct mesh_stream *stream = open_call(rig);
    size_t n = 0;
    int16_t *pcm = sentence(number, &n);
    struct heard heard;

    assert_int_equal(send(stream, config, NULL, 0), 0);
    for (size_t at = 0; at < n; at += piece)
        assert_int_equal(send(stream, NULL, pcm + at, 2 * (n - at < piece ? n - at : piece)), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    heard = listen(stream);
    mesh_stream_destroy(&stream);
    free(pcm);
    return heard;
}

static void says(const struct heard *heard, const char *text)
{
    if (heard->status.code != STATUS_OK)
        fail_msg("%s: %s", status_name(heard->status.code), heard->status.message);
    assert_string_equal(heard->text, text);
    assert_string_equal(heard->language, "en");
    assert_int_equal(heard->n_languages, 1);
    assert_int_equal(heard->n_done, 1);
}

#define SENTENCE_2 " Unless to be rather cold-hearted and rather selfish is to be ill-disposed."
#define SENTENCE_4 " He might even have been made amiable himself."

static void speech_becomes_segments(void **state)
{
    Config config = plain_config();
    struct heard heard = recognise(*state, &config, "0890", 1600);

    says(&heard, SENTENCE_2);
    assert_int_equal(heard.audio_ms, 5300);
    assert_true(heard.end_ms > 4000 && heard.end_ms <= 5300);
    assert_int_equal(heard.n_words, 0);
}

static void audio_may_ride_with_the_configuration(void **state)
{
    struct mesh_stream *stream = open_call(*state);
    Config config = plain_config();
    size_t n = 0;
    int16_t *pcm = sentence("0930", &n);
    struct heard heard;

    config.language = (char *)""; /* an English-only model knows without asking */
    assert_int_equal(send(stream, &config, pcm, 2 * n), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    heard = listen(stream);
    says(&heard, SENTENCE_4);
    mesh_stream_destroy(&stream);
    free(pcm);
}

static void words_have_times(void **state)
{
    Config config = plain_config();
    struct heard heard;

    config.word_times = true;
    heard = recognise(*state, &config, "0930", 8000);
    says(&heard, SENTENCE_4);
    assert_int_equal(heard.n_words, 8);
}

static void partial_results_come_before(void **state)
{
    Config config = plain_config();
    struct heard heard = recognise(*state, &config, "0890", 16000);

    assert_int_equal(heard.n_partials, 0);
    config.partial_results = true;
    heard = recognise(*state, &config, "0890", 16000);
    says(&heard, SENTENCE_2);
    assert_true(heard.n_partials >= 1 && heard.n_partials <= 4); /* as time allows */
    config.whole_audio = true; /* nothing before the end of a file */
    heard = recognise(*state, &config, "0890", 16000);
    says(&heard, SENTENCE_2);
    assert_int_equal(heard.n_partials, 0);
}

static void no_audio_is_no_segment(void **state)
{
    struct mesh_stream *stream = open_call(*state);
    Config config = plain_config();
    struct heard heard;

    assert_int_equal(send(stream, &config, NULL, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    heard = listen(stream);
    says(&heard, "");
    assert_int_equal(heard.audio_ms, 0);
    mesh_stream_destroy(&stream);
}

static void expect_failure(struct mesh_stream *stream, enum status_code code, const char *words)
{
    struct heard heard = listen(stream);

    if (heard.status.code != code || !strstr(heard.status.message, words))
        fail_msg("%s: '%s', not %s with '%s'", status_name(heard.status.code), heard.status.message,
                 status_name(code), words);
    assert_int_equal(heard.n_done, 0);
    mesh_stream_destroy(&stream);
}

/* A call that ends for its configuration alone. */
static void refuses(const struct rig *rig, Config config, enum status_code code, const char *words)
{
    struct mesh_stream *stream = open_call(rig);

    send(stream, &config, NULL, 0);
    expect_failure(stream, code, words);
}

static void wrong_configurations_are_named(void **state)
{
    const struct rig *rig = *state;
    char *languages[] = {(char *)"en", (char *)"tlh"};
    float temperatures[17] = {0, 3};
    char *long_prompt = malloc(9001);
    Config config = plain_config();

    config.language = (char *)"es";
    refuses(rig, config, STATUS_INVALID_ARGUMENT,
            "'es' with the model 'whisper-tiny.en': it takes en");
    config = plain_config();
    config.language = (char *)"";
    config.languages = languages;
    config.n_languages = 2;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "'tlh'");
    config = plain_config();
    config.task = DRAGOMAN__ASR__V1__TASK__TASK_TRANSLATE;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "cannot translate");
    config.task = (Dragoman__Asr__V1__Task)7;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "task 7");
    config = plain_config();
    config.beam_size = 9;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "beam_size 9: 0 to 8");
    config = plain_config();
    config.temperatures = temperatures;
    config.n_temperatures = 2;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "temperatures are 0 to 2");
    temperatures[1] = 0;
    config.n_temperatures = 17;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "at most 16 temperatures");
    config = plain_config();
    config.no_speech_threshold = 2;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "no_speech_threshold is 0 to 1");
    config = plain_config();
    config.alternatives = 1;
    refuses(rig, config, STATUS_UNIMPLEMENTED, "alternatives");
    memset(long_prompt, 'a', 9000);
    long_prompt[9000] = '\0';
    config = plain_config();
    config.prompt = long_prompt;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "8192 bytes");
    config = plain_config();
    config.keywords = &long_prompt;
    config.n_keywords = 1;
    refuses(rig, config, STATUS_INVALID_ARGUMENT, "keywords are too long");
    free(long_prompt);
}

static void wrong_messages_are_named(void **state)
{
    const struct rig *rig = *state;
    Config config = plain_config();
    struct mesh_stream *stream = open_call(rig);

    mesh_stream_finish(stream);
    expect_failure(stream, STATUS_INVALID_ARGUMENT, "the first message must hold the config");

    stream = open_call(rig);
    send(stream, NULL, "ab", 2);
    expect_failure(stream, STATUS_INVALID_ARGUMENT, "the first message must hold the config");

    stream = open_call(rig);
    send(stream, &config, NULL, 0);
    send(stream, &config, NULL, 0);
    expect_failure(stream, STATUS_INVALID_ARGUMENT, "only the first message");

    stream = open_call(rig);
    send(stream, &config, "abc", 3);
    expect_failure(stream, STATUS_INVALID_ARGUMENT, "3 bytes is no whole number");
}

static void too_much_audio_is_refused(void **state)
{
    struct mesh_stream *stream = open_call(*state);
    Config config = plain_config();
    int16_t *silence = calloc(MAX_AUDIO_S * 16000 + 1, sizeof(*silence));

    config.whole_audio = true; /* nothing is recognised before the limit is passed */
    send(stream, &config, silence, 2);
    send(stream, NULL, silence, MAX_AUDIO_S * 16000 * 2);
    expect_failure(stream, STATUS_RESOURCE_EXHAUSTED, "60 s");
    free(silence);
}

static double metric_value(const char *name)
{
    struct buffer page;
    double value = -1;
    const char *line;

    buffer_init(&page, 1 << 20);
    assert_int_equal(metrics_render(&page), 0);
    assert_int_equal(buffer_append(&page, "", 1), 0);
    line = strstr((char *)page.data, name);
    if (line)
        value = strtod(strchr(line, '}') + 1, NULL);
    buffer_fini(&page);
    return value;
}

static void metrics_count(void **state)
{
    const char *audio = "dragoman_asr_audio_seconds_total{model=\"whisper-tiny.en\"}";
    const char *segments = "dragoman_asr_segments_total{model=\"whisper-tiny.en\"}";
    const char *compute = "dragoman_asr_compute_seconds_total{model=\"whisper-tiny.en\"}";
    double audio_before = metric_value(audio), segments_before = metric_value(segments);
    double compute_before = metric_value(compute);
    Config config = plain_config();
    struct heard heard = recognise(*state, &config, "0930", 100000);

    says(&heard, SENTENCE_4);
    assert_true(fabs(metric_value(audio) - audio_before - 3.29) < 1e-3);
    assert_true(metric_value(segments) - segments_before == (double)heard.n_segments);
    assert_true(metric_value(compute) > compute_before);
}

/* A minute of speech, so that there is something to cut off. The call may end before it does. */
static void send_minute(struct mesh_stream *stream)
{
    size_t n = 0;
    int16_t *pcm = sentence("0870", &n);

    for (int i = 0; i < 8 && send(stream, NULL, pcm, 2 * n) == 0;)
        i++;
    free(pcm);
}

static void a_cancelled_call_frees_its_thread(void **state)
{
    const struct rig *rig = *state;
    struct mesh_stream *streams[8];
    Config config = plain_config();
    int64_t start;
    struct heard heard;

    config.beam_size = 8;
    config.whole_audio = true;
    for (size_t i = 0; i < 4; i++) { /* every place of the server, each with seconds of work */
        streams[i] = open_call(rig);
        assert_int_equal(send(streams[i], &config, NULL, 0), 0);
        send_minute(streams[i]);
        assert_int_equal(mesh_stream_finish(streams[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        mesh_stream_destroy(&streams[i]); /* hang up */
    config = plain_config();
    start = clock_now_ms();
    heard = recognise(rig, &config, "0930", 100000);
    says(&heard, SENTENCE_4);
    print_message("answered %lld ms after four calls were cancelled\n",
                  (long long)(clock_now_ms() - start));
}

static void deadlines_end_calls(void **state)
{
    const struct rig *rig = *state;
    const struct mesh_call_options options = {.timeout_ms = 300, .wait_for_ready = true};
    struct mesh_stream *stream = NULL;
    Config config = plain_config();
    struct heard heard;
    int64_t start = clock_now_ms();

    config.beam_size = 8;
    config.whole_audio = true;
    assert_int_equal(mesh_stream_open(rig->channel, SERVICE, "Recognize", &options, &stream), 0);
    assert_int_equal(send(stream, &config, NULL, 0), 0);
    send_minute(stream);
    mesh_stream_finish(stream);
    heard = listen(stream);
    assert_int_equal(heard.status.code, STATUS_DEADLINE_EXCEEDED);
    assert_true(clock_now_ms() - start < LATE_MS);
    mesh_stream_destroy(&stream);
}

struct caller {
    const struct rig *rig;
    const char *number;
    struct heard heard;
};

static void *call_on_a_thread(void *arg)
{
    struct caller *caller = arg;
    Config config = plain_config();

    caller->heard = recognise(caller->rig, &config, caller->number, 16000);
    return NULL;
}

static void calls_run_side_by_side(void **state)
{
    struct caller callers[6];
    pthread_t threads[6];

    for (size_t i = 0; i < 6; i++) {
        callers[i] = (struct caller){.rig = *state, .number = i % 2 ? "0890" : "0930"};
        assert_int_equal(pthread_create(&threads[i], NULL, call_on_a_thread, &callers[i]), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        says(&callers[i].heard, i % 2 ? SENTENCE_2 : SENTENCE_4);
    }
}

static void language_is_detected(void **state)
{
    const struct rig *rig = *state;
    const struct mesh_call_options options = {.timeout_ms = 60000, .wait_for_ready = true};
    Dragoman__Asr__V1__DetectLanguageRequest request =
        DRAGOMAN__ASR__V1__DETECT_LANGUAGE_REQUEST__INIT;
    const Dragoman__Asr__V1__DetectLanguageResponse *response;
    ProtobufCMessage *message = NULL;
    struct status status;
    size_t n = 0;
    int16_t *pcm = sentence("0930", &n);

    request.pcm.data = (uint8_t *)pcm;
    request.pcm.len = 2 * n;
    assert_int_equal(mesh_unary(rig->channel, SERVICE, "DetectLanguage", &request.base, &options,
                                &message, &status),
                     0);
    response = (const Dragoman__Asr__V1__DetectLanguageResponse *)message;
    assert_int_equal(response->n_languages, 1);
    assert_string_equal(response->languages[0]->code, "en");
    protobuf_c_message_free_unpacked(message, NULL);
    request.pcm.len = 3;
    assert_int_not_equal(mesh_unary(rig->channel, SERVICE, "DetectLanguage", &request.base,
                                    &options, &message, &status),
                         0);
    assert_int_equal(status.code, STATUS_INVALID_ARGUMENT);
    free(pcm);
}

static void a_missing_model_is_an_error(void **state)
{
    struct rig *rig = *state;
    struct mesh_server *server = NULL;
    void *service = NULL;

    assert_int_equal(mesh_server_create(&(struct mesh_server_options){.endpoint = "inproc://other",
                                                                      .bind = true,
                                                                      .name = "asr",
                                                                      .context = rig->context},
                                        &server),
                     0);
    assert_int_equal(
        asr_service.start(&(struct asr_config){.model = "/nowhere/whisper"}, server, &service),
        -ENOENT);
    assert_int_equal(asr_service.start(&(struct asr_config){.model = ""}, server, &service),
                     -EINVAL);
    assert_null(service);
    mesh_server_destroy(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speech_becomes_segments),
        cmocka_unit_test(audio_may_ride_with_the_configuration),
        cmocka_unit_test(words_have_times),
        cmocka_unit_test(partial_results_come_before),
        cmocka_unit_test(no_audio_is_no_segment),
        cmocka_unit_test(wrong_configurations_are_named),
        cmocka_unit_test(wrong_messages_are_named),
        cmocka_unit_test(too_much_audio_is_refused),
        cmocka_unit_test(metrics_count),
        cmocka_unit_test(a_cancelled_call_frees_its_thread),
        cmocka_unit_test(deadlines_end_calls),
        cmocka_unit_test(calls_run_side_by_side),
        cmocka_unit_test(language_is_detected),
        cmocka_unit_test(a_missing_model_is_an_error),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
