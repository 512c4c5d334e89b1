#include "asr/whisper/transcribe.h"

#include "asr/whisper/search.h"
#include "asr/whisper/words.h"
#include "text/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define BEST_OF 5 /* samples at temperatures above 0 */
#define MAX_COMPRESSION_RATIO 2.4
#define MIN_AVG_LOG_PROB (-1.0)
#define RESET_TEMPERATURE 0.5F /* a text sampled above this does not steer the next window */
#define FRAME_S 0.01
#define FRAMES_PER_S 100
#define TIMESTAMP_S 0.02
#define TIMESTAMP_FRAMES 2
#define MAX_TEXT_BYTES ((size_t)1 << 20)

/* One attempt at a window. */
struct attempt {
    struct search_result result;
    double avg_log_prob, compression_ratio;
    float temperature;
};

static size_t append(uint32_t *to, size_t at, const uint32_t *tokens, size_t n)
{
    if (n)
        memcpy(to + at, tokens, n * sizeof(*tokens));
    return at + n;
}

int transcribe_remember(struct transcribe_history *history, const uint32_t *tokens, size_t n)
{
    if (history->n_tokens + n > history->capacity) {
        size_t capacity = 2 * (history->n_tokens + n);
        uint32_t *grown = realloc(history->tokens, capacity * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        history->tokens = grown;
        history->capacity = capacity;
    }
    history->n_tokens = append(history->tokens, history->n_tokens, tokens, n);
    return 0;
}

void transcribe_history_free(struct transcribe_history *history)
{
    free(history->tokens);
    memset(history, 0, sizeof(*history));
}

/* White space as Python's str.strip() sees it, which is how the reference trims. */
static bool is_blank(uint32_t point)
{
    return utf8_is_space(point) || (point >= 0x1C && point <= 0x1F);
}

/* The part of a text without the white space around it. */
static void trim(const char **text, size_t *size)
{
    size_t begin = 0, end = 0, at = 0;
    bool started = false;

    while (at < *size) {
        uint32_t point = 0;
        size_t length = utf8_decode(*text + at, *size - at, &point);

        if (!is_blank(point)) {
            if (!started)
                begin = at;
            started = true;
            end = at + length;
        }
        at += length;
    }
    *text += begin;
    *size = end - begin;
}

/* How well the text deflates: repetitions do very well. */
static int compression_ratio(const struct vocab *vocab, const uint32_t *tokens, size_t n,
                             double *out)
{
    struct buffer text;
    const char *trimmed;
    size_t size;
    uLongf packed;
    Bytef *bytes;
    int err;

    buffer_init(&text, MAX_TEXT_BYTES);
    err = bpe_decode(vocab->bpe, tokens, n, &text);
    trimmed = text.data ? (const char *)text.data : "";
    size = text.size;
    trim(&trimmed, &size);
    packed = compressBound(size);
    bytes = malloc(packed);
    if (err == 0 && (!bytes || compress(bytes, &packed, (const Bytef *)trimmed, size) != Z_OK))
        err = -ENOMEM;
    if (err == 0)
        *out = (double)size / (double)packed;
    free(bytes);
    buffer_fini(&text);
    return err;
}

/* <|startoftranscript|> [language, task] */
static size_t append_start(const struct vocab *vocab, const struct transcribe_options *options,
                           uint32_t *to, size_t at)
{
    to[at++] = vocab->sot;
    if (vocab->multilingual) {
        to[at++] = options->language->id;
        to[at++] = options->translate ? vocab->translate : vocab->transcribe;
    }
    return at;
}

/* [<|startofprev|> words to favour, previous text] start [<|notimestamps|>] */
static size_t make_prompt(const struct vocab *vocab, const struct transcribe_options *options,
                          const struct transcribe_history *history, size_t n_text, uint32_t *prompt)
{
    size_t n = 0, n_past = history->n_tokens - history->reset, most = n_text / 2 - 1;
    size_t n_hot = options->n_hotwords < most ? options->n_hotwords : most;

    if (n_hot + n_past > most) /* both must leave half the positions to the answer */
        n_past = most - n_hot;
    if (n_past || n_hot) {
        prompt[n++] = vocab->sot_prev;
        n = append(prompt, n, options->hotwords, n_hot);
        n = append(prompt, n, history->tokens + history->n_tokens - n_past, n_past);
    }
    n = append_start(vocab, options, prompt, n);
    if (options->without_timestamps)
        prompt[n++] = vocab->no_timestamps;
    return n;
}

static int attempt_at(struct asr_model *model, struct workspace *workspace,
                      const struct transcribe_options *options, const uint32_t *prompt,
                      size_t n_prompt, float temperature, uint64_t seed, struct attempt *out)
{
    struct search search = {
        .decoder = &workspace->decoder,
        .vocab = &model->vocab,
        .prompt = prompt,
        .n_prompt = n_prompt,
        .beam_size = temperature > 0 ? BEST_OF : options->beam_size,
        .temperature = temperature,
        .seed = seed,
        .cancel = options->cancel,
        .logits = workspace->logits,
    };
    struct search_result *result = &out->result;
    int err = search_run(&search, result);

    if (err < 0)
        return err;
    out->temperature = temperature;
    /* Not a number for an empty result; every comparison below is false then. */
    out->avg_log_prob =
        (double)result->score * (double)result->n_tokens / (double)(result->n_tokens + 1);
    return compression_ratio(&model->vocab, result->tokens, result->n_tokens,
                             &out->compression_ratio);
}

static bool is_bad(const struct attempt *a, const struct transcribe_options *options)
{
    bool unlikely = a->avg_log_prob < MIN_AVG_LOG_PROB;

    if (unlikely && a->result.no_speech_prob > options->no_speech_threshold)
        return false; /* silence, which no temperature makes better */
    return unlikely || a->compression_ratio > MAX_COMPRESSION_RATIO;
}

/* Of bad attempts the likeliest, of those that do not repeat themselves if there are any. */
static size_t best_of_bad(const struct attempt *attempts, size_t n)
{
    size_t best = n;

    for (size_t i = 0; i < n; i++)
        if (attempts[i].compression_ratio <= MAX_COMPRESSION_RATIO &&
            (best == n || attempts[i].avg_log_prob > attempts[best].avg_log_prob))
            best = i;
    if (best < n)
        return best;
    best = 0;
    for (size_t i = 1; i < n; i++)
        if (attempts[i].avg_log_prob > attempts[best].avg_log_prob)
            best = i;
    return best;
}

/* Try each temperature until a result looks good. */
static int decode(struct asr_model *model, struct workspace *workspace,
                  const struct transcribe_options *options, size_t seek,
                  struct transcribe_history *history, struct attempt *out)
{
    struct attempt attempts[ASR_MAX_TEMPERATURES] = {0};
    size_t n_text = model->weights.n_text, n = 0, n_prompt, chosen;
    uint32_t *prompt = malloc(n_text * sizeof(*prompt));
    int err = prompt ? 0 : -ENOMEM;

    if (err < 0)
        return err;
    n_prompt = make_prompt(&model->vocab, options, history, n_text, prompt);
    while (n < options->n_temperatures && err == 0) {
        float temperature = options->temperatures[n];

        err = attempt_at(model, workspace, options, prompt, n_prompt, temperature,
                         seek * ASR_MAX_TEMPERATURES + n, &attempts[n]);
        history->n_decoded += attempts[n].result.n_tokens;
        n++;
        if (err == 0 && !is_bad(&attempts[n - 1], options))
            break;
    }
    free(prompt);
    if (err == 0) {
        chosen = is_bad(&attempts[n - 1], options) ? best_of_bad(attempts, n) : n - 1;
        *out = attempts[chosen];
        out->temperature = attempts[n - 1].temperature;
        attempts[chosen].result.tokens = NULL;
    }
    for (size_t i = 0; i < n; i++)
        free(attempts[i].result.tokens);
    return err;
}

static bool is_silence(const struct attempt *a, const struct transcribe_options *options)
{
    return a->result.no_speech_prob > options->no_speech_threshold &&
           !(a->avg_log_prob > MIN_AVG_LOG_PROB);
}

/* Without timestamps in the prompt a text may begin with none: that is the window's start. */
static double timestamp_s(const struct vocab *vocab, uint32_t token)
{
    if (token < vocab->timestamp_begin)
        return 0;
    return (double)(token - vocab->timestamp_begin) * TIMESTAMP_S;
}

/* One segment for all, ending at its last timestamp if it has one that says anything. */
static size_t whole_span(const struct vocab *vocab, const uint32_t *tokens, size_t n, size_t seek,
                         size_t n_frames, struct span *spans)
{
    double length = (double)n_frames * FRAME_S, offset = (double)seek * FRAME_S;
    size_t i = n;

    while (i > 0 && tokens[i - 1] < vocab->timestamp_begin)
        i--;
    if (i > 0 && tokens[i - 1] != vocab->timestamp_begin)
        length = timestamp_s(vocab, tokens[i - 1]);
    spans[0] =
        (struct span){.tokens = tokens, .n_tokens = n, .start = offset, .end = offset + length};
    return 1;
}

static struct span span_between(const struct vocab *vocab, const uint32_t *tokens, size_t begin,
                                size_t end, size_t seek)
{
    double offset = (double)seek * FRAME_S;

    return (struct span){.tokens = tokens + begin,
                         .n_tokens = end - begin,
                         .start = offset + timestamp_s(vocab, tokens[begin]),
                         .end = offset + timestamp_s(vocab, tokens[end - 1])};
}

/* Two timestamps in a row are where one segment ends and the next begins. What follows the last such
 * place is unfinished, and heard again in the next window, unless it ends with a timestamp alone
 * (`closed`): then nothing is said after it. */
static size_t split(const struct vocab *vocab, const uint32_t *tokens, size_t n, size_t seek,
                    size_t n_frames, struct span *spans, bool *closed, size_t *next)
{
    uint32_t first = vocab->timestamp_begin;
    size_t count = 0, begin = 0;

    *closed = n >= 2 && tokens[n - 2] < first && tokens[n - 1] >= first;
    for (size_t i = 1; i < n; i++) {
        if (tokens[i] < first || tokens[i - 1] < first)
            continue;
        spans[count++] = span_between(vocab, tokens, begin, i, seek);
        begin = i;
    }
    *next = seek + n_frames;
    if (count == 0)
        return whole_span(vocab, tokens, n, seek, n_frames, spans);
    if (*closed)
        spans[count++] = span_between(vocab, tokens, begin, n, seek);
    else
        *next = seek + (size_t)(tokens[begin - 1] - first) * TIMESTAMP_FRAMES;
    return count;
}

/* End of the last word; of the last segment when there are none. */
static double last_end(const struct span *spans, size_t n)
{
    for (size_t i = n; i-- > 0;)
        if (spans[i].n_words)
            return spans[i].words[spans[i].n_words - 1].end;
    return spans[n - 1].end;
}

/* Word times; the next window then begins where the last word ends. */
static int add_words(struct asr_model *model, struct workspace *workspace,
                     const struct transcribe_options *options, size_t seek, size_t n_frames,
                     struct span *spans, size_t n_spans, bool closed,
                     struct transcribe_history *history, struct words *words, size_t *next)
{
    uint32_t start[4];
    size_t n_start = append_start(&model->vocab, options, start, 0);
    double end;
    int err = words_find(model, workspace, start, n_start, options->language->code, seek, n_frames,
                         history->last_speech, options->cancel, spans, n_spans, words);

    if (err < 0)
        return err;
    end = last_end(spans, n_spans);
    if (!closed && end > (double)seek * FRAME_S)
        *next = (size_t)nearbyint(end * FRAMES_PER_S);
    history->last_speech = end;
    return 0;
}

static int64_t to_ms(double seconds)
{
    return llround(seconds * 1000);
}

static int send(const struct attempt *attempt, const struct span *span, size_t seek,
                const char *text, const struct asr_events *events)
{
    struct asr_word *words = calloc(span->n_words + 1, sizeof(*words));
    struct asr_segment segment = {
        .start_ms = to_ms(span->start),
        .end_ms = to_ms(span->end),
        .seek_ms = to_ms((double)seek * FRAME_S),
        .text = text,
        .tokens = span->tokens,
        .n_tokens = span->n_tokens,
        .avg_log_prob = (float)attempt->avg_log_prob,
        .no_speech_prob = attempt->result.no_speech_prob,
        .compression_ratio = (float)attempt->compression_ratio,
        .temperature = attempt->temperature,
        .words = words,
        .n_words = span->n_words,
    };
    int err;

    if (!words)
        return -ENOMEM;
    for (size_t i = 0; i < span->n_words; i++)
        words[i] = (struct asr_word){span->words[i].text, to_ms(span->words[i].start),
                                     to_ms(span->words[i].end), (float)span->words[i].probability};
    err = events->segment(events->arg, &segment);
    free(words);
    return err;
}

/* Segments that say nothing, or last no time, are dropped. */
static int emit(struct asr_model *model, const struct attempt *attempt, const struct span *span,
                size_t seek, const struct asr_events *events, struct transcribe_history *history)
{
    struct buffer text;
    const char *trimmed;
    size_t size;
    int err;

    buffer_init(&text, MAX_TEXT_BYTES);
    err = bpe_decode(model->vocab.bpe, span->tokens, span->n_tokens, &text);
    if (err == 0)
        err = buffer_append(&text, "", 1);
    if (err == 0) {
        trimmed = (const char *)text.data;
        size = text.size - 1;
        trim(&trimmed, &size);
        if (size > 0 && span->start != span->end) {
            err = transcribe_remember(history, span->tokens, span->n_tokens);
            if (err == 0 && events->segment)
                err = send(attempt, span, seek, (const char *)text.data, events);
        }
    }
    buffer_fini(&text);
    return err;
}

/* A good attempt's tokens to segments. */
static int emit_all(struct asr_model *model, struct workspace *workspace,
                    const struct transcribe_options *options, size_t seek, size_t n_frames,
                    const struct attempt *attempt, const struct asr_events *events,
                    struct transcribe_history *history, size_t *next)
{
    size_t n = attempt->result.n_tokens, n_spans;
    struct span *spans = calloc(n + 1, sizeof(*spans));
    struct words words = {0};
    bool closed = false;
    int err = 0;

    if (!spans)
        return -ENOMEM;
    n_spans = split(&model->vocab, attempt->result.tokens, n, seek, n_frames, spans, &closed, next);
    if (options->word_times)
        err = add_words(model, workspace, options, seek, n_frames, spans, n_spans, closed, history,
                        &words, next);
    for (size_t i = 0; i < n_spans && err == 0; i++)
        err = emit(model, attempt, &spans[i], seek, events, history);
    words_free(&words);
    free(spans);
    return err;
}

int transcribe_window(struct asr_model *model, struct workspace *workspace,
                      const struct transcribe_options *options, size_t seek, size_t n_frames,
                      const struct asr_events *events, struct transcribe_history *history,
                      size_t *next)
{
    struct attempt attempt = {0};
    int err = decode(model, workspace, options, seek, history, &attempt);

    *next = seek + n_frames;
    if (err == 0 && !is_silence(&attempt, options)) {
        err = emit_all(model, workspace, options, seek, n_frames, &attempt, events, history, next);
        if (!options->condition_on_previous || attempt.temperature > RESET_TEMPERATURE)
            history->reset = history->n_tokens;
    }
    if (*next <= seek || *next > seek + n_frames) /* never hear a window twice, nor skip audio */
        *next = seek + n_frames;
    free(attempt.result.tokens);
    return err;
}

int transcribe_partial(struct asr_model *model, struct workspace *workspace,
                       const struct transcribe_options *options,
                       const struct transcribe_history *history, struct buffer *text)
{
    struct transcribe_options greedy = *options;
    struct attempt attempt = {0};
    size_t n_text = model->weights.n_text, n_prompt;
    uint32_t *prompt = malloc(n_text * sizeof(*prompt));
    int err;

    if (!prompt)
        return -ENOMEM;
    greedy.beam_size = 1;
    n_prompt = make_prompt(&model->vocab, &greedy, history, n_text, prompt);
    err = attempt_at(model, workspace, &greedy, prompt, n_prompt, 0, 0, &attempt);
    if (err == 0 && !is_silence(&attempt, options))
        err = bpe_decode(model->vocab.bpe, attempt.result.tokens, attempt.result.n_tokens, text);
    free(attempt.result.tokens);
    free(prompt);
    return err;
}
