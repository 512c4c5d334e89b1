/* The service over a real channel, with the tiny model behind it. */
#include "base/log.h"
#include "mesh/channel.h"
#include "proto/translate.pb-c.h"
#include "translate/service.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <zmq.h>

#define SERVICE (&dragoman__translate__v1__translator__descriptor)
#define LIMIT 4096

typedef Dragoman__Translate__V1__TranslateConfig Config;
typedef Dragoman__Translate__V1__TranslateRequest Request;
typedef Dragoman__Translate__V1__TranslateResponse Response;
typedef Dragoman__Translate__V1__Sentence Sentence;
typedef Dragoman__Translate__V1__TranslateStreamRequest StreamRequest;
typedef Dragoman__Translate__V1__DetectLanguageRequest DetectRequest;
typedef Dragoman__Translate__V1__DetectLanguageResponse DetectResponse;

struct rig {
    void *context, *service;
    struct mesh_server *server;
    struct mesh_channel *channel;
};

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    const struct translate_config config = {.engine = "marian",
                                            .model = GOLDEN_DIR "/tiny",
                                            .compute_type = "int8",
                                            .threads = 1,
                                            .max_text_bytes = LIMIT};
    struct mesh_server_options server = {.endpoint = "inproc://translate",
                                         .bind = true,
                                         .name = "translate",
                                         .capacity = translate_service.default_capacity};
    struct mesh_channel_options channel = {.endpoint = "inproc://translate", .name = "test"};

    rig->context = server.context = channel.context = zmq_ctx_new();
    assert_int_equal(mesh_server_create(&server, &rig->server), 0);
    assert_int_equal(translate_service.start(&config, rig->server, &rig->service), 0);
    assert_int_equal(mesh_server_start(rig->server), 0);
    for (int i = 0; i < 1000 && !mesh_server_ready(rig->server); i++)
        sleep_ms(5);
    assert_int_equal(mesh_channel_create(&channel, &rig->channel), 0);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    mesh_channel_destroy(&rig->channel);
    mesh_server_destroy(&rig->server);
    translate_service.stop(rig->service);
    zmq_ctx_term(rig->context);
    free(rig);
    return 0;
}

static struct mesh_call_options patient(void)
{
    return (struct mesh_call_options){.timeout_ms = 20000, .wait_for_ready = true};
}

static struct status translate(struct rig *rig, const Config *config, char **texts, size_t n,
                               Response **response)
{
    Request request = DRAGOMAN__TRANSLATE__V1__TRANSLATE_REQUEST__INIT;
    struct mesh_call_options options = patient();
    ProtobufCMessage *message = NULL;
    struct status status;

    request.config = (Config *)config;
    request.texts = texts;
    request.n_texts = n;
    mesh_unary(rig->channel, SERVICE, "Translate", &request.base, &options, &message, &status);
    *response = (Response *)message;
    return status;
}

static void free_message(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

static void texts_come_back_with_their_white_space(void **state)
{
    char *texts[] = {"  The river rises.\n\nThe lake freezes every winter.  Yes! ", "", "Good"};
    Response *response = NULL;
    struct status status = translate(*state, NULL, texts, 3, &response);
    const Dragoman__Translate__V1__Translation *first;
    char *joined = NULL;

    assert_string_equal(status.message, "");
    assert_int_equal(status.code, STATUS_OK);
    assert_int_equal(response->n_translations, 3);
    assert_string_equal(response->model, "tiny");
    first = response->translations[0];
    assert_int_equal(first->n_sentences, 3);
    assert_string_equal(first->sentences[0]->source, "The river rises.");
    assert_string_equal(first->sentences[1]->source, "The lake freezes every winter.");
    assert_string_equal(first->sentences[2]->source, "Yes!");
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(first->sentences[i]->id, i);
        assert_true(first->sentences[i]->log_prob < 0);
    }
    assert_true(asprintf(&joined, "  %s\n\n%s  %s ", first->sentences[0]->target,
                         first->sentences[1]->target, first->sentences[2]->target) > 0);
    assert_string_equal(first->text, joined);
    assert_string_equal(response->translations[1]->text, "");
    assert_int_equal(response->translations[1]->n_sentences, 0);
    assert_int_equal(response->translations[2]->n_sentences, 1);
    free(joined);
    free_message(response);
}

static void settings_are_followed(void **state)
{
    char *texts[] = {"\tThe river rises. The lake freezes. \n", "  "};
    Config config = DRAGOMAN__TRANSLATE__V1__TRANSLATE_CONFIG__INIT;
    Response *response = NULL;
    char *want = NULL;

    config.source = "fr-CA"; /* the tiny model calls itself French to German */
    config.target = "German";
    config.alternatives = 2;
    config.no_sentence_splitting = true;
    assert_int_equal(translate(*state, &config, texts, 2, &response).code, STATUS_OK);
    assert_int_equal(response->translations[0]->n_sentences, 1);
    assert_string_equal(response->translations[0]->sentences[0]->source,
                        "The river rises. The lake freezes.");
    assert_true(asprintf(&want, "\t%s \n", response->translations[0]->sentences[0]->target) > 0);
    assert_string_equal(response->translations[0]->text, want);
    assert_string_equal(response->translations[1]->text, texts[1]);
    assert_int_equal(response->translations[1]->n_sentences, 0);
    free(want);
    assert_int_equal(response->translations[0]->n_alternatives, 2);
    assert_string_not_equal(response->translations[0]->text,
                            response->translations[0]->alternatives[0]);
    free_message(response);
}

static void assert_refused(struct rig *rig, const Config *config, char *text, enum status_code code,
                           const char *naming)
{
    Response *response = NULL;
    struct status status = translate(rig, config, &text, 1, &response);

    assert_int_equal(status.code, code);
    assert_null(response);
    if (!strstr(status.message, naming))
        fail_msg("'%s' does not name '%s'", status.message, naming);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    Config config = DRAGOMAN__TRANSLATE__V1__TRANSLATE_CONFIG__INIT;
    Dragoman__Translate__V1__GlossaryEntry entry = DRAGOMAN__TRANSLATE__V1__GLOSSARY_ENTRY__INIT;
    Dragoman__Translate__V1__GlossaryEntry *glossary = &entry;
    char *long_text = calloc(1, LIMIT + 2);

    config.source = "en";
    config.target = "pt";
    assert_refused(*state, &config, "Hello.", STATUS_INVALID_ARGUMENT, "'en' to 'pt'");
    assert_refused(*state, &config, "Hello.", STATUS_INVALID_ARGUMENT, "fr-de");
    config.source = "fr";
    config.target = "klingon";
    assert_refused(*state, &config, "Hello.", STATUS_INVALID_ARGUMENT, "klingon");
    config.target = "de";
    config.beam_size = 1000;
    assert_refused(*state, &config, "Hello.", STATUS_INVALID_ARGUMENT, "1000");
    config.beam_size = 0;
    config.n_glossary = 1;
    config.glossary = &glossary;
    assert_refused(*state, &config, "Hello.", STATUS_UNIMPLEMENTED, "glossary");
    assert_refused(*state, NULL, "Hel\xFFlo.", STATUS_INVALID_ARGUMENT, "byte 3");
    memset(long_text, 'a', LIMIT + 1);
    assert_refused(*state, NULL, long_text, STATUS_RESOURCE_EXHAUSTED, "4097");
    assert_refused(*state, NULL, long_text, STATUS_RESOURCE_EXHAUSTED, "4096");
    free(long_text);
}

static struct mesh_stream *open_stream(struct rig *rig)
{
    struct mesh_call_options options = patient();
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(rig->channel, SERVICE, "TranslateStream", &options, &stream),
                     0);
    return stream;
}

static void write_text(struct mesh_stream *stream, const char *text, bool flush)
{
    StreamRequest request = DRAGOMAN__TRANSLATE__V1__TRANSLATE_STREAM_REQUEST__INIT;

    request.text = (char *)text;
    request.flush = flush;
    assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
}

static void assert_next(struct mesh_stream *stream, uint32_t id, const char *source)
{
    ProtobufCMessage *message = NULL;
    const Sentence *sentence;

    assert_int_equal(mesh_stream_read(stream, &message, 10000), 0);
    sentence = (const Sentence *)message;
    assert_int_equal(sentence->id, id);
    assert_string_equal(sentence->source, source);
    assert_true(sentence->target[0] != '\0');
    free_message(message);
}

static enum status_code end_of(struct mesh_stream *stream)
{
    ProtobufCMessage *message = NULL;
    struct status status;

    assert_int_equal(mesh_stream_read(stream, &message, 10000), -ENODATA);
    assert_true(mesh_stream_status(stream, &status));
    return status.code;
}

static void stream_answers_while_it_is_fed(void **state)
{
    struct mesh_stream *stream = open_stream(*state);
    ProtobufCMessage *message = NULL;

    write_text(stream, "The river ri", false);
    write_text(stream, "ses. The la", false);
    assert_next(stream, 0, "The river rises."); /* the rest has not been sent yet */
    write_text(stream, "ke freezes", false);
    assert_int_equal(mesh_stream_read(stream, &message, 100), -EAGAIN);
    write_text(stream, "", true);
    assert_next(stream, 1, "The lake freezes");
    write_text(stream, " One. Two. Three. Four", false);
    assert_next(stream, 2, "One.");
    assert_next(stream, 3, "Two.");
    assert_next(stream, 4, "Three.");
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_next(stream, 5, "Four");
    assert_int_equal(end_of(stream), STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void stream_without_splitting_ends_at_flushes(void **state)
{
    StreamRequest request = DRAGOMAN__TRANSLATE__V1__TRANSLATE_STREAM_REQUEST__INIT;
    Config config = DRAGOMAN__TRANSLATE__V1__TRANSLATE_CONFIG__INIT;
    struct mesh_stream *stream = open_stream(*state);

    config.no_sentence_splitting = true;
    request.config = &config;
    request.text = "One. Two.";
    assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    write_text(stream, " Three.", true);
    assert_next(stream, 0, "One. Two. Three.");
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(end_of(stream), STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void bad_streams_end_with_their_reason(void **state)
{
    static const char *const texts[] = {"ol\xC3", "a\xFF", NULL};
    char *long_text = calloc(1, LIMIT + 2);

    memset(long_text, 'a', LIMIT + 1);
    for (size_t i = 0; i < 3; i++) {
        struct mesh_stream *stream = open_stream(*state);

        write_text(stream, texts[i] ? texts[i] : long_text, false);
        mesh_stream_finish(stream);
        assert_int_equal(end_of(stream),
                         texts[i] ? STATUS_INVALID_ARGUMENT : STATUS_RESOURCE_EXHAUSTED);
        mesh_stream_destroy(&stream);
    }
    free(long_text);
}

static void empty_stream_is_no_error(void **state)
{
    struct mesh_stream *stream = open_stream(*state);

    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(end_of(stream), STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* A call that is given up frees its thread: as many as there are, and then one more gets through. */
static void abandoned_calls_free_their_worker(void **state)
{
    char *texts[] = {"Good."}, text[LIMIT];
    Response *response = NULL;

    for (size_t i = 0; i + 1 < sizeof(text); i++)
        text[i] = i % 6 == 5 ? ' ' : (char)('a' + i % 23);
    text[sizeof(text) - 1] = '\0';
    for (uint32_t i = 0; i < translate_service.default_capacity * 2; i++) {
        struct mesh_stream *stream = open_stream(*state);

        write_text(stream, text, true);
        sleep_ms(5);
        mesh_stream_cancel(stream);
        mesh_stream_destroy(&stream);
    }
    assert_int_equal(translate(*state, NULL, texts, 1, &response).code, STATUS_OK);
    free_message(response);
}

static void languages_are_detected(void **state)
{
    char *texts[] = {"The weather will be warm and sunny for the rest of the week.",
                     "O tempo vai estar quente e ensolarado durante o resto da semana.", ""};
    DetectRequest request = DRAGOMAN__TRANSLATE__V1__DETECT_LANGUAGE_REQUEST__INIT;
    struct mesh_call_options options = patient();
    ProtobufCMessage *message = NULL;
    const DetectResponse *response;
    struct status status;

    request.texts = texts;
    request.n_texts = 3;
    assert_int_equal(mesh_unary(((struct rig *)*state)->channel, SERVICE, "DetectLanguage",
                                &request.base, &options, &message, &status),
                     0);
    response = (const DetectResponse *)message;
    assert_int_equal(response->n_guesses, 3);
    assert_string_equal(response->guesses[0]->code, "en");
    assert_string_equal(response->guesses[1]->code, "pt");
    assert_string_equal(response->guesses[2]->code, "");
    assert_true(response->guesses[0]->confidence > 0.5f);
    free_message(message);
}

static void missing_model_names_the_remedy(void **state)
{
    const struct translate_config config = {.model = "/nowhere/marian-xx-yy"};
    struct rig *rig = *state;
    void *service = NULL;

    assert_int_equal(translate_service.start(&config, rig->server, &service), -ENOENT);
    assert_null(service);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_with_their_white_space),
        cmocka_unit_test(settings_are_followed),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(stream_answers_while_it_is_fed),
        cmocka_unit_test(stream_without_splitting_ends_at_flushes),
        cmocka_unit_test(bad_streams_end_with_their_reason),
        cmocka_unit_test(empty_stream_is_no_error),
        cmocka_unit_test(abandoned_calls_free_their_worker),
        cmocka_unit_test(languages_are_detected),
        cmocka_unit_test(missing_model_names_the_remedy),
    };

    log_init("test", LOG_WARN, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, setup, teardown);
}
