#include "translate/service.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/model_folder.h"
#include "proto/translate.pb-c.h"
#include "text/language.h"
#include "text/sentences.h"
#include "text/utf8.h"
#include "translate/engine.h"
#include "translate/items.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TEXT_BYTES (1 << 20)
#define STREAM_BATCH 16 /* most sentences of a stream that are translated at once */

typedef Dragoman__Translate__V1__TranslateConfig Config;
typedef Dragoman__Translate__V1__TranslateRequest Request;
typedef Dragoman__Translate__V1__TranslateResponse Response;
typedef Dragoman__Translate__V1__Translation Translation;
typedef Dragoman__Translate__V1__Sentence Sentence;
typedef Dragoman__Translate__V1__TranslateStreamRequest StreamRequest;
typedef Dragoman__Translate__V1__DetectLanguageRequest DetectRequest;
typedef Dragoman__Translate__V1__DetectLanguageResponse DetectResponse;
typedef Dragoman__Translate__V1__LanguageGuess Guess;

struct translator {
    Dragoman__Translate__V1__Translator_Service service; /* must be the first member */
    const struct translate_engine *engine;
    struct translate_model *model;
    const char *source, *target;
    char model_name[MODEL_NAME_BYTES];
    size_t max_text_bytes;
    struct metric *sentences, *words, *seconds;
};

/* "pt-BR" is pt; who names none takes what there is. */
static bool is_language(const char *asked, const char *served)
{
    const char *code = language_code(asked);

    return !asked[0] || (code && strcmp(code, served) == 0);
}

/* Whether the configuration asks for what this worker does; ends the call when it does not. */
static bool accept_config(const struct translator *self, const Config *config, void *call)
{
    if (!config)
        return true;
    if (!is_language(config->source, self->source) || !is_language(config->target, self->target)) {
        mesh_call_fail(call, STATUS_INVALID_ARGUMENT,
                       "cannot translate from '%.32s' to '%.32s': this worker has only %s-%s",
                       config->source, config->target, self->source, self->target);
        return false;
    }
    if (config->beam_size > TRANSLATE_MOST_BEAMS || config->alternatives >= TRANSLATE_MOST_BEAMS) {
        mesh_call_fail(call, STATUS_INVALID_ARGUMENT,
                       "cannot search with beam_size %u and alternatives %u: at most %d and %d",
                       config->beam_size, config->alternatives, TRANSLATE_MOST_BEAMS,
                       TRANSLATE_MOST_BEAMS - 1);
        return false;
    }
    if (config->n_glossary > 0) {
        mesh_call_fail(call, STATUS_UNIMPLEMENTED,
                       "cannot mind a glossary: model '%s' has no use for one", self->model_name);
        return false;
    }
    return true;
}

static struct translate_settings settings_of(const Config *config, void *call)
{
    struct translate_settings settings = {.cancel = mesh_call_cancel_flag(call)};

    if (config) {
        settings.beam_size = (int)config->beam_size;
        settings.alternatives = config->alternatives;
    }
    return settings;
}

/* Translate items [first, first + n). Ends the call when that fails. */
static int run_engine(struct translator *self, struct items *items, size_t first, size_t n,
                      const struct translate_settings *settings, void *call)
{
    int64_t begin = clock_now_ns();
    size_t words = 0;
    int err = items_translate(items, first, n, self->engine, self->model, settings, &words);

    if (err) {
        mesh_call_fail(call, status_from_errno(err), "cannot translate %zu sentences: %s", n,
                       strerror(-err));
        return err;
    }
    metric_add(self->sentences, (double)n);
    metric_add(self->words, (double)words);
    metric_observe(self->seconds, (double)(clock_now_ns() - begin) * 1e-9);
    return 0;
}

/* Sizes and characters, before anything is done. Ends the call when they are not right. */
static bool accept_texts(const struct translator *self, char **texts, size_t n, void *call)
{
    size_t total = 0;

    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(texts[i]), valid = utf8_valid_prefix(texts[i], size);

        total += size;
        if (total > self->max_text_bytes) {
            mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                           "cannot take %zu bytes of text or more: the limit of a call is %zu",
                           total, self->max_text_bytes);
            return false;
        }
        if (valid < size) {
            mesh_call_fail(call, STATUS_INVALID_ARGUMENT,
                           "cannot read text %zu: byte %zu is not UTF-8", i, valid);
            return false;
        }
    }
    return true;
}

static void fill_sentence(const struct item *item, uint32_t id, Sentence *out)
{
    dragoman__translate__v1__sentence__init(out);
    out->id = id;
    out->source = item->source;
    out->target = item->result.text;
    out->log_prob = item->result.log_prob;
}

/* The parts of a response; the strings of sentences stay the items'. */
struct answer {
    Response response;
    Translation *translations; /* (n_texts) */
    Translation **pointers;
    Sentence *sentences; /* (n_items) */
    Sentence **sentence_pointers;
    size_t n_texts;
};

static void answer_fini(struct answer *answer)
{
    for (size_t i = 0; answer->translations && i < answer->n_texts; i++) {
        Translation *translation = &answer->translations[i];

        if (translation->text != protobuf_c_empty_string)
            free(translation->text);
        for (size_t j = 0; j < translation->n_alternatives; j++)
            free(translation->alternatives[j]);
        free(translation->alternatives);
    }
    free(answer->translations);
    free(answer->pointers);
    free(answer->sentences);
    free(answer->sentence_pointers);
}

static int fill_alternatives(const struct items *items, size_t first, size_t n, const char *text,
                             Translation *out)
{
    size_t most = items_most_alternatives(items, first, n);
    int err = 0;

    if (!most)
        return 0;
    out->alternatives = calloc(most, sizeof(*out->alternatives));
    if (!out->alternatives)
        return -ENOMEM;
    for (size_t rank = 1; rank <= most && !err; rank++) {
        err = items_join(items, first, n, text, rank, &out->alternatives[rank - 1]);
        out->n_alternatives += !err;
    }
    return err;
}

static int answer_fill(const struct items *items, char **texts, size_t n_texts,
                       struct answer *answer)
{
    size_t at = 0;
    int err = 0;

    answer->n_texts = n_texts;
    answer->translations = calloc(n_texts + 1, sizeof(*answer->translations));
    answer->pointers = calloc(n_texts + 1, sizeof(*answer->pointers));
    answer->sentences = calloc(items->n + 1, sizeof(*answer->sentences));
    answer->sentence_pointers = calloc(items->n + 1, sizeof(*answer->sentence_pointers));
    if (!answer->translations || !answer->pointers || !answer->sentences ||
        !answer->sentence_pointers) {
        answer->n_texts = 0;
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_texts; i++) {
        dragoman__translate__v1__translation__init(&answer->translations[i]);
        answer->pointers[i] = &answer->translations[i];
    }
    for (size_t i = 0; i < n_texts && !err; i++) {
        Translation *out = &answer->translations[i];
        size_t first = at;

        out->sentences = answer->sentence_pointers + at;
        for (; at < items->n && items->list[at].text == i; at++) {
            if (!items->list[at].source[0])
                continue; /* white space at the end */
            fill_sentence(&items->list[at], (uint32_t)out->n_sentences, &answer->sentences[at]);
            out->sentences[out->n_sentences++] = &answer->sentences[at];
        }
        err = items_join(items, first, at - first, texts[i], 0, &out->text);
        if (!err)
            err = fill_alternatives(items, first, at - first, texts[i], out);
    }
    return err;
}

static void translate(struct translator *self, const Request *request,
                      Dragoman__Translate__V1__TranslateResponse_Closure reply, void *call)
{
    struct translate_settings settings = settings_of(request->config, call);
    bool whole = request->config && request->config->no_sentence_splitting;
    struct answer answer = {.response = DRAGOMAN__TRANSLATE__V1__TRANSLATE_RESPONSE__INIT};
    struct items items = {0};
    int64_t begin = clock_now_ms();
    int err = 0;

    for (size_t i = 0; i < request->n_texts && !err; i++)
        err = items_add_text(&items, i, request->texts[i], whole ? NULL : self->source);
    if (!err)
        err = run_engine(self, &items, 0, items.n, &settings, call);
    if (!err)
        err = answer_fill(&items, request->texts, request->n_texts, &answer);
    if (err == -ENOMEM)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "cannot translate: out of memory");
    answer.response.n_translations = request->n_texts;
    answer.response.translations = answer.pointers;
    answer.response.compute_ms = clock_now_ms() - begin;
    answer.response.model = self->model_name;
    reply(err ? NULL : &answer.response, call);
    answer_fini(&answer);
    items_fini(&items);
}

static void translator__translate(Dragoman__Translate__V1__Translator_Service *service,
                                  const Request *request,
                                  Dragoman__Translate__V1__TranslateResponse_Closure reply,
                                  void *call)
{
    struct translator *self = (struct translator *)service;

    if (accept_config(self, request->config, call) &&
        accept_texts(self, request->texts, request->n_texts, call))
        translate(self, request, reply, call);
    else
        reply(NULL, call);
}

/* A stream of text on its way. */
struct stream {
    struct translator *self;
    Dragoman__Translate__V1__Sentence_Closure reply;
    void *call;
    struct translate_settings settings;
    struct sentences *sentences; /* NULL until the first message */
    bool whole;                  /* sentences end only where the caller says */
    struct buffer text;          /* what waits then */
    struct items items;
    uint32_t id;
};

/* Translate and send what is collected: the first sentence alone, so that it leaves at once. */
static int stream_send(struct stream *stream)
{
    size_t most = 1;
    int err = 0;

    for (size_t at = 0, n; at < stream->items.n && !err; at += n) {
        n = stream->items.n - at < most ? stream->items.n - at : most;
        err = run_engine(stream->self, &stream->items, at, n, &stream->settings, stream->call);
        for (size_t i = at; i < at + n && !err; i++) {
            Sentence sentence;

            fill_sentence(&stream->items.list[i], stream->id++, &sentence);
            stream->reply(&sentence, stream->call);
        }
        most = most * 2 < STREAM_BATCH ? most * 2 : STREAM_BATCH;
    }
    items_clear(&stream->items);
    return err;
}

/* The text since the last flush is one sentence. */
static int take_whole(struct stream *stream)
{
    const char *text = (const char *)stream->text.data;
    struct sentence sentence = {.space = text, .text = text, .size = stream->text.size};
    int err = 0;

    if (!utf8_valid(text, sentence.size))
        err = -EILSEQ;
    else if (sentence.size)
        err = items_add(&stream->items, 0, 0, &sentence);
    buffer_consume(&stream->text, stream->text.size);
    return err;
}

/* Take the sentences that are complete. */
static int take_sentences(struct stream *stream, bool flush)
{
    struct sentence sentence;
    int err = 0;

    while (!err && sentences_next(stream->sentences, flush, &sentence))
        if (sentence.size)
            err = items_add(&stream->items, 0, 0, &sentence);
    return !err && flush && sentences_cut_inside_character(stream->sentences) ? -EILSEQ : err;
}

static int stream_append(struct stream *stream, const char *text, bool flush)
{
    size_t size = strlen(text);
    int err = stream->whole ? buffer_append(&stream->text, text, size)
                            : sentences_feed(stream->sentences, text, size);

    if (err)
        return err;
    if (!stream->whole)
        return take_sentences(stream, flush);
    return flush ? take_whole(stream) : 0;
}

static void stream_fail(struct stream *stream, int err)
{
    if (err == -EILSEQ)
        mesh_call_fail(stream->call, STATUS_INVALID_ARGUMENT,
                       "cannot read the text after sentence %u: it is not UTF-8", stream->id);
    else if (err == -EMSGSIZE)
        mesh_call_fail(
            stream->call, STATUS_RESOURCE_EXHAUSTED,
            "cannot keep the text after sentence %u: the limit of what waits is %zu bytes",
            stream->id, stream->self->max_text_bytes);
    else
        mesh_call_fail(stream->call, status_from_errno(err), "cannot translate: %s",
                       strerror(-err));
}

static int stream_begin(struct stream *stream, const Config *config)
{
    int err;

    if (!accept_config(stream->self, config, stream->call))
        return -EINVAL;
    stream->settings = settings_of(config, stream->call);
    stream->settings.alternatives = 0; /* a stream's sentences have none */
    stream->whole = config && config->no_sentence_splitting;
    err = sentences_create(stream->self->source, stream->self->max_text_bytes, &stream->sentences);
    if (err)
        mesh_call_fail(stream->call, STATUS_RESOURCE_EXHAUSTED, "cannot translate: out of memory");
    return err;
}

/* Take text, send what it completes. Ends the call when that fails. */
static int stream_take(struct stream *stream, const char *text, bool flush)
{
    int err = stream_append(stream, text, flush);

    if (err) {
        stream_fail(stream, err);
        return err;
    }
    return stream_send(stream);
}

static void translator__translate_stream(Dragoman__Translate__V1__Translator_Service *service,
                                         const StreamRequest *none,
                                         Dragoman__Translate__V1__Sentence_Closure reply,
                                         void *call)
{
    struct stream stream = {.self = (struct translator *)service, .reply = reply, .call = call};
    ProtobufCMessage *message = NULL;
    int err = 0;

    (void)none; /* a streaming method reads its requests */
    buffer_init(&stream.text, stream.self->max_text_bytes);
    while (!err && !(err = mesh_call_read(call, &message, -1))) {
        const StreamRequest *request = (const StreamRequest *)message;

        if (!stream.sentences)
            err = stream_begin(&stream, request->config);
        if (!err)
            err = stream_take(&stream, request->text, request->flush);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (err == -ENODATA && stream.sentences)
        stream_take(&stream, "", true);
    items_fini(&stream.items);
    sentences_destroy(&stream.sentences);
    buffer_fini(&stream.text);
}

static void translator__detect_language(
    Dragoman__Translate__V1__Translator_Service *service, const DetectRequest *request,
    Dragoman__Translate__V1__DetectLanguageResponse_Closure reply, void *call)
{
    DetectResponse response = DRAGOMAN__TRANSLATE__V1__DETECT_LANGUAGE_RESPONSE__INIT;
    size_t n = request->n_texts;
    Guess *guesses = NULL;

    if (!accept_texts((struct translator *)service, request->texts, n, call)) {
        reply(NULL, call);
        return;
    }
    guesses = calloc(n + 1, sizeof(*guesses));
    response.guesses = calloc(n + 1, sizeof(*response.guesses));
    for (size_t i = 0; guesses && response.guesses && i < n; i++) {
        const char *code = "";

        dragoman__translate__v1__language_guess__init(&guesses[i]);
        language_detect(request->texts[i], strlen(request->texts[i]), NULL, &code,
                        &guesses[i].confidence);
        guesses[i].code = (char *)code;
        response.guesses[response.n_guesses++] = &guesses[i];
    }
    if (response.n_guesses < n)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "cannot detect languages: out of memory");
    reply(response.n_guesses < n ? NULL : &response, call);
    free(response.guesses);
    free(guesses);
}

/* The options of the process; mesh_harness_main() fills them before start(). */
static struct translate_config flags = {.engine = "marian", .model = "", .compute_type = "int8"};
static const char *models_folder = "";

static const struct config_option options[] = {
    {"engine", CONFIG_CHOICE, &flags.engine, "NAME", "what runs the model", "marian", 0, 0},
    {"model", CONFIG_STRING, &flags.model, "FOLDER",
     "the model's folder, or its name within --models", NULL, 0, 0},
    {"models", CONFIG_STRING, &models_folder, "DIR",
     "where models are; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
    {"model-name", CONFIG_STRING, &flags.model_name, "NAME",
     "what the model is announced as; the folder's name otherwise", NULL, 0, 0},
    {"compute-type", CONFIG_CHOICE, &flags.compute_type, "TYPE",
     "what is computed with; float32 takes four times the memory", "int8|float32", 0, 0},
    {"threads", CONFIG_INT, &flags.threads, "N", "threads that compute; 0: all processors", NULL, 0,
     1024},
    {"max-text-bytes", CONFIG_INT, &flags.max_text_bytes, "N", "longest text of one call; 0: 1 MiB",
     NULL, 0, 1 << 30},
    {.name = NULL},
};

static const enum mesh_kind kinds[] = {MESH_UNARY, MESH_BIDI_STREAMING, MESH_UNARY};

static const Dragoman__Translate__V1__Translator_Service methods =
    DRAGOMAN__TRANSLATE__V1__TRANSLATOR__INIT(translator__);

static int load(struct translator *self, const struct translate_config *config)
{
    char folder[4096], error[512] = "";
    int64_t begin = clock_now_ns();
    int err;

    self->engine = translate_engine_find(config->engine ? config->engine : "marian");
    if (!self->engine) {
        log_error("cannot find the engine '%s': this program has marian", config->engine);
        return -EINVAL;
    }
    err = model_folder_open(models_folder, config->model, config->model_name,
                            "name one with --model, e.g. marian-en-pt", folder, sizeof(folder),
                            self->model_name);
    if (err < 0)
        return err;
    err = self->engine->load(folder, (int)config->threads, config->compute_type, error,
                             sizeof(error), &self->model);
    if (err < 0) {
        log_error("%s: get it again with 'dragoman models pull %s'", error, self->model_name);
        return err;
    }
    log_info("loaded '%s' in %lld ms", self->model_name,
             (long long)((clock_now_ns() - begin) / 1000000));
    return 0;
}

static int announce(struct translator *self, struct mesh_server *server)
{
    char pair[32];
    int err;

    snprintf(pair, sizeof(pair), "%s-%s", self->source, self->target);
    err = mesh_server_add_label(server, "pair", pair);
    if (!err)
        err = mesh_server_add_label(server, "source", self->source);
    if (!err)
        err = mesh_server_add_label(server, "target", self->target);
    if (!err)
        err = mesh_server_add_label(server, "model", self->model_name);
    if (!err)
        err = mesh_server_add_label(server, "engine", self->engine->name);
    return err ? err : mesh_server_add_service(server, &self->service.base, kinds);
}

static void make_metrics(struct translator *self)
{
    char labels[320];

    snprintf(labels, sizeof(labels), "model=\"%s\"", self->model_name);
    self->sentences =
        metrics_counter("dragoman_translate_sentences_total", "Sentences translated.", labels);
    self->words = metrics_counter("dragoman_translate_words_total",
                                  "Words of the sentences translated.", labels);
    self->seconds = metrics_histogram("dragoman_translate_batch_seconds",
                                      "Time to translate the sentences of one batch.", labels);
}

static void translator_stop(void *state)
{
    struct translator *self = state;

    if (self->model)
        self->engine->unload(&self->model);
    free(self);
}

static int translator_start(const void *given, struct mesh_server *server, void **state)
{
    const struct translate_config *config = given ? given : &flags;
    struct translator *self = calloc(1, sizeof(*self));
    int err = -ENOMEM;

    if (!self)
        return err;
    self->service = methods;
    err = load(self, config);
    if (!err) {
        self->source = self->engine->source(self->model);
        self->target = self->engine->target(self->model);
        self->max_text_bytes =
            config->max_text_bytes > 0 ? (size_t)config->max_text_bytes : DEFAULT_TEXT_BYTES;
        make_metrics(self);
        err = announce(self, server);
    }
    if (err) {
        translator_stop(self);
        return err;
    }
    *state = self;
    return 0;
}

const struct mesh_harness_service translate_service = {
    .program = "dragoman-translate",
    .name = "translate",
    .summary = "Text to text: offers dragoman.translate.v1.Translator to a broker.",
    .options = options,
    .default_capacity = 8,
    .start = translator_start,
    .stop = translator_stop,
};
