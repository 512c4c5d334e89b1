#include "gateway/chain.h"

#include "base/clock.h"
#include "proto/translate.pb-c.h"
#include "proto/tts.pb-c.h"
#include "text/sentences.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (AUDIO_RATE / 2) /* samples a message: half a second */
#define SOURCES_MAX 64         /* sentences between the first and the last hop */

/* One call of the chain. `pending` is what it must send next; while it is full, nobody reads
 * upstream. */
struct stage {
    struct mesh_stream *stream;
    char *pending;
    bool has_pending;
    bool flush;      /* a sentence ends with it */
    bool input_over; /* nothing more will be pending */
    bool finished;   /* half-closed */
    bool over;       /* its answers are all read */
};

struct chain {
    const struct chain_options *options;
    struct rpc_waiter *waiter;
    struct chain_result *result;
    struct status *status;
    int64_t began_ms;
    struct stage asr, hops[PLAN_HOPS_MAX], tts;
    bool config_sent;
    bool planned; /* the language is known, the hops are set up */
    int16_t piece[PIECE];
    size_t piece_size; /* samples of `piece` not yet sent */
    bool recording_over;
    char *sources[SOURCES_MAX]; /* ring: what the speaker said, for sentences on their way */
    size_t sources_at, n_sources;
    unsigned n_sentences;
    uint32_t rate_hz;
    struct selection voice;
};

static int fail(struct chain *chain, enum status_code code, const char *message)
{
    status_set(chain->status, code, "%s", message);
    return -1;
}

static void stamp_input(struct chain *chain, struct chain_stage_times *times)
{
    if (times->input_ms < 0)
        times->input_ms = clock_now_ms() - chain->began_ms;
}

static void stamp(struct chain *chain, struct chain_stage_times *times)
{
    times->last_ms = clock_now_ms() - chain->began_ms;
    if (times->first_ms < 0)
        times->first_ms = times->last_ms;
}

static struct stage *last_hop(struct chain *chain)
{
    return chain->result->plan.n_hops ? &chain->hops[chain->result->plan.n_hops - 1] : &chain->asr;
}

/* Where recognised text goes: the first hop, else straight to the voice; NULL: nowhere. */
static struct stage *after_asr(struct chain *chain)
{
    if (chain->result->plan.n_hops)
        return &chain->hops[0];
    return chain->options->speak ? &chain->tts : NULL;
}

static struct stage *after_hop(struct chain *chain, size_t i)
{
    if (i + 1 < chain->result->plan.n_hops)
        return &chain->hops[i + 1];
    return chain->options->speak ? &chain->tts : NULL;
}

static int put(struct chain *chain, struct stage *stage, const char *text)
{
    stage->pending = strdup(text);
    stage->has_pending = stage->pending != NULL;
    return stage->pending ? 0 : fail(chain, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

/*
 * Whether a sentence is over at the end of a segment, without the words that come next: asked by
 * putting a capital letter behind it. Without this the last sentence of a window waits for the next
 * window.
 */
static bool ends_sentence(const char *language, const char *text)
{
    struct sentence sentence = {0};
    size_t offset = 0, last = 0;
    char *longer = NULL;

    if (asprintf(&longer, "%s A", text) < 0)
        return false;
    while (sentences_next_of(language, longer, strlen(longer), &offset, &sentence)) {
        if (sentence.size)
            last = sentence.size;
    }
    free(longer);
    return last == 1;
}

static bool can_take(const struct stage *stage)
{
    return !stage || !stage->has_pending;
}

/* Send one message without waiting. @return 1 sent; 0 no credit; -1 with the status */
static int try_write(struct chain *chain, struct stage *stage, const ProtobufCMessage *message)
{
    int err = mesh_stream_write(stage->stream, message, 0);

    if (err == 0)
        return 1;
    if (err == -EAGAIN)
        return 0;
    if (err == -EMSGSIZE)
        return fail(chain, STATUS_INVALID_ARGUMENT,
                    "a text of the request is longer than a message may be");
    if (err != -EPIPE || !mesh_stream_status(stage->stream, chain->status) ||
        chain->status->code == STATUS_OK)
        return fail(chain, STATUS_INTERNAL, "a service ended its call before its input was over");
    return -1;
}

/* @return 1 a message; 0 none yet, or (stage->over) no more; -1 */
static int try_read(struct chain *chain, struct stage *stage, ProtobufCMessage **message)
{
    int err;

    if (!stage->stream || stage->over)
        return 0;
    err = mesh_stream_read(stage->stream, message, 0);
    if (err == 0)
        return 1;
    if (err == -EAGAIN)
        return 0;
    if (!mesh_stream_status(stage->stream, chain->status))
        return fail(chain, STATUS_INTERNAL, "a call is over but has no status");
    if (chain->status->code != STATUS_OK)
        return -1;
    stage->over = true;
    return 0;
}

/* What an event's return value means. */
static int stopped(struct chain *chain, int value)
{
    switch (value) {
    case 0:
        return 0;
    case -EMSGSIZE:
        return fail(chain, STATUS_INVALID_ARGUMENT,
                    "the answer is longer than one piece may be: ask for audio alone "
                    "(response_format) or for events (stream=true)");
    case -ENOMEM:
        return fail(chain, STATUS_RESOURCE_EXHAUSTED, "out of memory");
    default:
        return fail(chain, STATUS_CANCELLED, "the answer cannot be delivered");
    }
}

/* The recording, on its way to the recogniser. */

static int decode_piece(struct chain *chain)
{
    static _Thread_local float pcm[PIECE];
    int64_t begin_ns = clock_now_ns();
    ssize_t n = audio_decoder_read(chain->options->decoder, pcm, PIECE);

    chain->result->decode_ns += clock_now_ns() - begin_ns;
    if (n == -EFBIG)
        return fail(chain, STATUS_INVALID_ARGUMENT,
                    "the recording is longer than this server takes: split it, or raise "
                    "--max-audio-s");
    if (n < 0)
        return fail(chain, STATUS_INVALID_ARGUMENT, "not audio: the recording cannot be decoded");
    audio_to_s16(pcm, (size_t)n, chain->piece);
    chain->piece_size = (size_t)n;
    chain->recording_over = n < PIECE;
    chain->result->audio_ms += n * 1000 / AUDIO_RATE;
    return 0;
}

static int feed_asr(struct chain *chain, bool *moved)
{
    Dragoman__Asr__V1__RecognizeRequest request = DRAGOMAN__ASR__V1__RECOGNIZE_REQUEST__INIT;
    int result;

    if (chain->asr.finished)
        return 0;
    if (!chain->piece_size && !chain->recording_over && decode_piece(chain) < 0)
        return -1;
    if (chain->piece_size || !chain->config_sent) {
        if (!chain->config_sent)
            request.config = (Dragoman__Asr__V1__RecognizeConfig *)chain->options->config;
        request.pcm.data = (uint8_t *)chain->piece;
        request.pcm.len = chain->piece_size * sizeof(chain->piece[0]);
        result = try_write(chain, &chain->asr, &request.base);
        if (result <= 0)
            return result;
        stamp_input(chain, &chain->result->asr);
        chain->config_sent = true;
        chain->piece_size = 0;
        *moved = true;
    }
    if (chain->recording_over) {
        mesh_stream_finish(chain->asr.stream);
        chain->asr.finished = true;
    }
    return 0;
}

/* The language is known: choose the hops and the voice before anything is said in vain. */
static int plan_stages(struct chain *chain, const char *code, float probability)
{
    const struct chain_options *options = chain->options;
    struct chain_result *result = chain->result;
    int stop;

    if (chain->planned)
        return 0;
    chain->planned = true;
    snprintf(result->source, sizeof(result->source), "%s", code);
    result->source_probability = probability;
    stop = options->events.language
               ? options->events.language(options->events.arg, code, probability)
               : 0;
    if (stop)
        return stopped(chain, stop);
    if (options->target && select_path(options->view, result->source, options->target,
                                       &result->plan, chain->status) < 0)
        return -1;
    if (!options->speak)
        return 0;
    if (select_tts(options->view, options->tts_model, options->voice,
                   options->target ? options->target : result->source, &chain->voice,
                   chain->status) < 0)
        return -1;
    snprintf(result->tts_model, sizeof(result->tts_model), "%s", chain->voice.model);
    snprintf(result->voice, sizeof(result->voice), "%s", chain->voice.voice);
    return 0;
}

static int take_segment(struct chain *chain, const Dragoman__Asr__V1__Segment *segment)
{
    const struct chain_events *events = &chain->options->events;
    struct stage *next;
    int stop;

    if (!chain->planned &&
        plan_stages(chain, chain->options->asr->language[0] ? chain->options->asr->language : "en",
                    0) < 0)
        return -1;
    chain->result->segments++;
    stamp(chain, &chain->result->asr);
    stop = events->segment ? events->segment(events->arg, segment) : 0;
    if (stop)
        return stopped(chain, stop);
    next = after_asr(chain);
    if (!next || !segment->text[strspn(segment->text, " \t\n")])
        return 0;
    if (next == &chain->tts && events->sentence) { /* said again in its own language */
        stop = events->sentence(events->arg, chain->n_sentences++,
                                segment->text + strspn(segment->text, " "),
                                segment->text + strspn(segment->text, " "));
        chain->result->sentences++;
        if (stop)
            return stopped(chain, stop);
    }
    next->flush = ends_sentence(chain->result->source, segment->text);
    return put(chain, next, segment->text);
}

static int read_asr(struct chain *chain, bool *moved)
{
    struct stage *next = chain->planned ? after_asr(chain) : NULL;
    ProtobufCMessage *message = NULL;
    const Dragoman__Asr__V1__RecognizeResponse *response;
    int result = 0;

    if (!can_take(next))
        return 0;
    result = try_read(chain, &chain->asr, &message);
    if (result <= 0) {
        next = chain->planned ? after_asr(chain) : NULL;
        if (chain->asr.over && next && !next->input_over) {
            next->input_over = true;
            *moved = true;
        }
        return result;
    }
    *moved = true;
    response = (const Dragoman__Asr__V1__RecognizeResponse *)message;
    result = 0;
    switch (response->event_case) {
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_LANGUAGE:
        result = plan_stages(chain, response->language->code, response->language->probability);
        break;
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_SEGMENT:
        result = take_segment(chain, response->segment);
        break;
    case DRAGOMAN__ASR__V1__RECOGNIZE_RESPONSE__EVENT_DONE:
        chain->result->asr_compute_ms = response->done->compute_ms;
        chain->result->tokens = response->done->tokens;
        snprintf(chain->result->asr_model, sizeof(chain->result->asr_model), "%s",
                 response->done->model);
        break;
    default:
        break;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}

/* Translators. */

static int open_hop(struct chain *chain, size_t i)
{
    const struct plan_pair *pair = &chain->result->plan.hops[i];
    char selector[SELECTOR_MAX];

    snprintf(selector, sizeof(selector), "pair=%s-%s", pair->source, pair->target);
    return rpc_open(chain->waiter, chain->options->channel,
                    &dragoman__translate__v1__translator__descriptor, "TranslateStream", selector,
                    &chain->hops[i].stream, chain->status);
}

/* @return 1 sent; 0; -1. The first message holds the configuration. */
static int send_text(struct chain *chain, size_t i, bool first)
{
    struct plan_pair *pair = &chain->result->plan.hops[i];
    Dragoman__Translate__V1__TranslateConfig config =
        DRAGOMAN__TRANSLATE__V1__TRANSLATE_CONFIG__INIT;
    Dragoman__Translate__V1__TranslateStreamRequest request =
        DRAGOMAN__TRANSLATE__V1__TRANSLATE_STREAM_REQUEST__INIT;

    config.source = pair->source;
    config.target = pair->target;
    config.no_sentence_splitting = i > 0; /* sentences already: one in, one out */
    if (first)
        request.config = &config;
    request.text = chain->hops[i].pending;
    request.flush = i > 0 || chain->hops[i].flush;
    return try_write(chain, &chain->hops[i], &request.base);
}

static int feed_hop(struct chain *chain, size_t i, bool *moved)
{
    struct stage *hop = &chain->hops[i];
    bool first = !hop->stream;

    if (hop->has_pending) {
        int result;

        if (first && open_hop(chain, i) < 0)
            return -1;
        result = send_text(chain, i, first);
        if (result <= 0)
            return result;
        stamp_input(chain, &chain->result->translate);
        free(hop->pending);
        hop->pending = NULL;
        hop->has_pending = false;
        *moved = true;
    }
    if (hop->input_over && !hop->finished) {
        hop->finished = true;
        *moved = true;
        if (hop->stream)
            mesh_stream_finish(hop->stream);
        else
            hop->over = true; /* nothing was said */
    }
    return 0;
}

static int push_source(struct chain *chain, const char *text)
{
    size_t at = (chain->sources_at + chain->n_sources) % SOURCES_MAX;

    if (chain->n_sources == SOURCES_MAX)
        return fail(chain, STATUS_INTERNAL, "more sentences on their way than the chain remembers");
    chain->sources[at] = strdup(text);
    if (!chain->sources[at])
        return fail(chain, STATUS_RESOURCE_EXHAUSTED, "out of memory");
    chain->n_sources++;
    return 0;
}

static char *pop_source(struct chain *chain)
{
    char *text;

    if (!chain->n_sources)
        return NULL;
    text = chain->sources[chain->sources_at];
    chain->sources[chain->sources_at] = NULL;
    chain->sources_at = (chain->sources_at + 1) % SOURCES_MAX;
    chain->n_sources--;
    return text;
}

static int take_sentence(struct chain *chain, size_t i,
                         const Dragoman__Translate__V1__Sentence *sentence)
{
    const struct chain_events *events = &chain->options->events;
    struct stage *next = after_hop(chain, i);
    char *source = NULL;
    int stop = 0;

    if (i == 0 && push_source(chain, sentence->source) < 0)
        return -1;
    if (&chain->hops[i] == last_hop(chain)) {
        source = pop_source(chain);
        stamp(chain, &chain->result->translate);
        chain->result->sentences++;
        if (events->sentence)
            stop = events->sentence(events->arg, chain->n_sentences,
                                    source ? source : sentence->source, sentence->target);
        chain->n_sentences++;
        free(source);
    }
    if (stop)
        return stopped(chain, stop);
    if (!next || !sentence->target[strspn(sentence->target, " \t\n")])
        return 0;
    return put(chain, next, sentence->target);
}

static int read_hop(struct chain *chain, size_t i, bool *moved)
{
    struct stage *hop = &chain->hops[i], *next = after_hop(chain, i);
    ProtobufCMessage *message = NULL;
    int result;

    if (!can_take(next) || (i == 0 && chain->n_sources == SOURCES_MAX))
        return 0;
    result = try_read(chain, hop, &message);
    if (result <= 0) {
        if (hop->over && next && !next->input_over) {
            next->input_over = true;
            *moved = true;
        }
        return result;
    }
    *moved = true;
    result = take_sentence(chain, i, (const Dragoman__Translate__V1__Sentence *)message);
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}

/* The voice. */

static int feed_tts(struct chain *chain, bool *moved)
{
    struct stage *tts = &chain->tts;
    Dragoman__Tts__V1__SynthesizeConfig config = DRAGOMAN__TTS__V1__SYNTHESIZE_CONFIG__INIT;
    Dragoman__Tts__V1__SynthesizeRequest request = DRAGOMAN__TTS__V1__SYNTHESIZE_REQUEST__INIT;
    bool first = !tts->stream;

    if (tts->has_pending) {
        int result;

        if (first && rpc_open(chain->waiter, chain->options->channel,
                              &dragoman__tts__v1__synthesizer__descriptor, "SynthesizeStream",
                              chain->voice.selector, &tts->stream, chain->status) < 0)
            return -1;
        config.voice = chain->voice.voice;
        config.language = chain->voice.language;
        config.speed = chain->options->speed;
        if (first)
            request.config = &config;
        request.text = tts->pending;
        result = try_write(chain, tts, &request.base);
        if (result <= 0)
            return result;
        stamp_input(chain, &chain->result->tts);
        free(tts->pending);
        tts->pending = NULL;
        tts->has_pending = false;
        *moved = true;
    }
    if (tts->input_over && !tts->finished) {
        tts->finished = true;
        *moved = true;
        if (tts->stream)
            mesh_stream_finish(tts->stream);
        else
            tts->over = true;
    }
    return 0;
}

static int take_audio(struct chain *chain, const Dragoman__Tts__V1__SynthesizeResponse *response)
{
    const struct chain_events *events = &chain->options->events;
    size_t n = response->pcm.len / sizeof(int16_t);
    int stop = 0;

    if (response->sample_rate && chain->rate_hz && response->sample_rate != chain->rate_hz)
        return fail(chain, STATUS_INTERNAL, "the voice changed its sample rate");
    if (response->sample_rate)
        chain->rate_hz = response->sample_rate;
    if (n && !chain->rate_hz)
        return fail(chain, STATUS_INTERNAL, "the voice did not say its sample rate");
    if (n)
        stamp(chain, &chain->result->tts);
    chain->result->tts_compute_ms += response->compute_ms;
    if (chain->rate_hz)
        chain->result->speech_ms += (int64_t)n * 1000 / chain->rate_hz;
    if (events->audio && chain->rate_hz)
        stop = events->audio(events->arg, (const int16_t *)(const void *)response->pcm.data, n,
                             chain->rate_hz, response->sentence, response->sentence_end);
    return stopped(chain, stop);
}

static int read_tts(struct chain *chain, bool *moved)
{
    ProtobufCMessage *message = NULL;
    int result = try_read(chain, &chain->tts, &message);

    if (result <= 0)
        return result;
    *moved = true;
    result = take_audio(chain, (const Dragoman__Tts__V1__SynthesizeResponse *)message);
    protobuf_c_message_free_unpacked(message, NULL);
    return result;
}

/* One round over all stages, the last first: what is nearest to the listener goes first. */
static int step(struct chain *chain, bool *moved)
{
    if (chain->options->speak && chain->planned &&
        (read_tts(chain, moved) < 0 || feed_tts(chain, moved) < 0))
        return -1;
    for (size_t i = chain->result->plan.n_hops; i-- > 0;) {
        if (read_hop(chain, i, moved) < 0 || feed_hop(chain, i, moved) < 0)
            return -1;
    }
    return read_asr(chain, moved) < 0 || feed_asr(chain, moved) < 0 ? -1 : 0;
}

static bool all_over(const struct chain *chain)
{
    if (!chain->asr.over)
        return false;
    for (size_t i = 0; i < chain->result->plan.n_hops; i++) {
        if (!chain->hops[i].over)
            return false;
    }
    return !chain->options->speak || !chain->planned || chain->tts.over;
}

static int pump(struct chain *chain)
{
    while (!all_over(chain)) {
        bool moved = false;

        if (step(chain, &moved) < 0)
            return -1;
        if (!moved && !all_over(chain)) {
            int err = rpc_waiter_wait(chain->waiter);

            if (err < 0) {
                rpc_interrupted(err, chain->status);
                return -1;
            }
        }
    }
    return 0;
}

static void stage_fini(struct stage *stage)
{
    mesh_stream_destroy(&stage->stream);
    free(stage->pending);
}

int chain_run(struct rpc_waiter *waiter, const struct chain_options *options,
              struct chain_result *result, struct status *status)
{
    struct chain *chain = calloc(1, sizeof(*chain));
    int err = -1;

    *result =
        (struct chain_result){.asr = {-1, -1, -1}, .translate = {-1, -1, -1}, .tts = {-1, -1, -1}};
    if (!chain) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return -1;
    }
    chain->options = options;
    chain->waiter = waiter;
    chain->result = result;
    chain->status = status;
    chain->began_ms = clock_now_ms();
    snprintf(result->asr_model, sizeof(result->asr_model), "%s", options->asr->model);
    if (options->asr->language[0] && plan_stages(chain, options->asr->language, 0) < 0)
        goto done;
    if (rpc_open(waiter, options->channel, &dragoman__asr__v1__recognizer__descriptor, "Recognize",
                 options->asr->selector, &chain->asr.stream, status) < 0)
        goto done;
    err = pump(chain);
done:
    result->total_ms = clock_now_ms() - chain->began_ms;
    stage_fini(&chain->asr);
    for (size_t i = 0; i < PLAN_HOPS_MAX; i++)
        stage_fini(&chain->hops[i]);
    stage_fini(&chain->tts);
    while (chain->n_sources)
        free(pop_source(chain));
    free(chain);
    return err;
}
