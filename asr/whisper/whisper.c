#include "asr/whisper/whisper.h"

#include "asr/whisper/frames.h"
#include "asr/whisper/search.h"
#include "asr/whisper/transcribe.h"
#include "base/clock.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW WHISPER_WINDOW_FRAMES
#define MOST_WHOLE (3600 * 100) /* frames kept before the first window, an hour's */
#define PARTIAL_FRAMES 100      /* new audio that a partial result must have */
#define PARTIAL_REST 2          /* at most one part in so many of the time goes to them */
#define MAX_PARTIAL_BYTES ((size_t)1 << 16)

static const float default_temperatures[] = {0, 0.2F, 0.4F, 0.6F, 0.8F, 1};

struct asr_session {
    struct asr_model *model;
    struct asr_events events;
    struct transcribe_options options;
    struct transcribe_history history;
    uint32_t *hotwords;
    uint8_t *candidates; /* (n_languages of the vocabulary) whether detection may choose it */
    bool whole_audio, announced;

    struct frames frames;
    size_t seek; /* frame where the next window begins */

    /* Partial results. */
    bool partials;
    size_t partial_frames;      /* there were at the last one */
    int64_t next_partial;       /* no other before this, ns */
    struct buffer partial_text; /* its text */
};

static void session_destroy(struct asr_session **session)
{
    struct asr_session *s = *session;

    if (!s)
        return;
    transcribe_history_free(&s->history);
    free(s->hotwords);
    free(s->candidates);
    frames_fini(&s->frames);
    buffer_fini(&s->partial_text);
    free(s);
    *session = NULL;
}

static int choose_language(struct asr_session *s, const struct asr_settings *settings)
{
    const struct vocab *vocab = &s->model->vocab;

    if (settings->language && *settings->language) {
        s->options.language = vocab_language(vocab, settings->language);
        return s->options.language ? 0 : -EINVAL;
    }
    if (!vocab->multilingual) {
        s->options.language = &vocab->languages[0];
        return 0;
    }
    s->candidates = calloc(vocab->n_languages, 1);
    if (!s->candidates)
        return -ENOMEM;
    for (size_t i = 0; i < settings->n_languages; i++) {
        const struct vocab_language *language = vocab_language(vocab, settings->languages[i]);

        if (!language)
            return -EINVAL;
        s->candidates[language - vocab->languages] = 1;
    }
    if (settings->n_languages == 0)
        memset(s->candidates, 1, vocab->n_languages);
    return 0;
}

static int choose_temperatures(struct transcribe_options *options,
                               const struct asr_settings *settings)
{
    const float *from = settings->n_temperatures ? settings->temperatures : default_temperatures;
    size_t n = settings->n_temperatures
                   ? settings->n_temperatures
                   : sizeof(default_temperatures) / sizeof(default_temperatures[0]);

    if (n > ASR_MAX_TEMPERATURES)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (!(from[i] >= 0 && from[i] <= ASR_MAX_TEMPERATURE))
            return -EINVAL;
        options->temperatures[i] = from[i];
    }
    options->n_temperatures = n;
    return 0;
}

static int read_texts(struct asr_session *s, const struct asr_settings *settings)
{
    uint32_t *prompt = NULL;
    size_t n = 0;
    int err = 0;

    if (settings->prompt && *settings->prompt) {
        err = vocab_encode_prompt(&s->model->vocab, settings->prompt, &prompt, &n);
        if (err == 0)
            err = transcribe_remember(&s->history, prompt, n);
        free(prompt);
    }
    if (err == 0 && settings->keywords && *settings->keywords) {
        err = vocab_encode_prompt(&s->model->vocab, settings->keywords, &s->hotwords,
                                  &s->options.n_hotwords);
        s->options.hotwords = s->hotwords;
    }
    return err;
}

static int session_create(struct asr_model *model, const struct asr_settings *settings,
                          const struct asr_events *events, struct asr_session **out)
{
    struct asr_session *s;
    int err;

    if (settings->beam_size < 0 || settings->beam_size > DECODER_SLOTS ||
        (settings->translate && !model->vocab.multilingual))
        return -EINVAL;
    if (settings->word_times && model->vocab.n_alignment_heads == 0)
        return -ENOTSUP;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->model = model;
    s->events = *events;
    s->whole_audio = settings->whole_audio;
    s->partials = settings->partial_results && events->partial;
    buffer_init(&s->partial_text, MAX_PARTIAL_BYTES);
    frames_init(&s->frames, model->mel);
    s->options = (struct transcribe_options){
        .translate = settings->translate,
        .without_timestamps = settings->without_timestamps,
        .condition_on_previous = !settings->no_condition_on_previous_text,
        .word_times = settings->word_times,
        .beam_size = settings->beam_size ? settings->beam_size : 5,
        .no_speech_threshold =
            settings->no_speech_threshold > 0 ? settings->no_speech_threshold : 0.6F,
        .cancel = settings->cancel,
    };
    if ((err = choose_language(s, settings)) == 0 &&
        (err = choose_temperatures(&s->options, settings)) == 0)
        err = read_texts(s, settings);
    if (err < 0)
        session_destroy(&s);
    else
        *out = s;
    return err;
}

static int announce(struct asr_session *s, float probability)
{
    s->announced = true;
    if (!s->events.language)
        return 0;
    return s->events.language(s->events.arg, s->options.language->code, probability);
}

/* The likeliest of the candidates; its probability is among them. */
static int detect(struct asr_session *s, struct workspace *workspace,
                  const struct vocab_language **out, float *probability)
{
    const struct vocab *vocab = &s->model->vocab;
    float *probs = malloc(vocab->n_languages * sizeof(*probs));
    float sum = 0;
    size_t best = vocab->n_languages;
    int err = probs ? 0 : -ENOMEM;

    if (err == 0)
        err = search_language(&workspace->decoder, vocab, workspace->logits, s->options.cancel,
                              probs);
    for (size_t i = 0; i < vocab->n_languages && err == 0; i++) {
        if (!s->candidates[i])
            continue;
        sum += probs[i];
        if (best == vocab->n_languages || probs[i] > probs[best])
            best = i;
    }
    if (err == 0) {
        *out = &vocab->languages[best];
        *probability = sum > 0 ? probs[best] / sum : 0;
    }
    free(probs);
    return err;
}

/* Once, from the first whole window. */
static int settle_language(struct asr_session *s, struct workspace *workspace)
{
    float probability = 0;
    int err = detect(s, workspace, &s->options.language, &probability);

    return err < 0 ? err : announce(s, probability);
}

/* Hear n_frames frames from `seek` on. */
static int encode(struct asr_session *s, struct workspace *workspace, size_t n_frames)
{
    struct asr_model *model = s->model;
    int err;

    mel_normalise(model->mel, frames_at(&s->frames, s->seek), n_frames, s->frames.loudest, WINDOW,
                  workspace->feats);
    err = encoder_run(&model->weights, model->compute, workspace->feats, s->options.cancel,
                      &workspace->encoder);
    if (err == 0)
        decoder_set_audio(&workspace->decoder, workspace->encoder.x);
    return err;
}

/* The window at `seek`, of n_frames frames. */
static int recognise(struct asr_session *s, size_t n_frames)
{
    struct workspace *workspace = NULL;
    size_t next = s->seek;
    int err = model_take_workspace(s->model, s->options.cancel, &workspace);

    if (err < 0)
        return err;
    err = encode(s, workspace, n_frames);
    if (err == 0 && !s->options.language)
        err = settle_language(s, workspace);
    if (err == 0)
        err = transcribe_window(s->model, workspace, &s->options, s->seek, n_frames, &s->events,
                                &s->history, &next);
    model_give_workspace(s->model, &workspace);
    if (err == 0) {
        s->seek = next;
        frames_drop(&s->frames, s->seek);
        s->partial_text.size = 0;
        s->partial_frames = s->frames.n;
    }
    return err;
}

/* Characters at the start that two texts share. */
static size_t count_shared(const struct buffer *a, const struct buffer *b)
{
    size_t n = 0, at = 0;

    while (at < a->size && at < b->size) {
        uint32_t x = 0, y = 0;
        size_t length = utf8_decode((const char *)a->data + at, a->size - at, &x);

        utf8_decode((const char *)b->data + at, b->size - at, &y);
        if (x != y)
            break;
        at += length;
        n++;
    }
    return n;
}

/* Hear the unfinished window. The language may still change with it, and is not announced. */
static int hear_unfinished(struct asr_session *s, struct buffer *text)
{
    struct transcribe_options options = s->options;
    struct workspace *workspace = NULL;
    float probability;
    int err = model_take_workspace(s->model, s->options.cancel, &workspace);

    if (err < 0)
        return err;
    err = encode(s, workspace, s->frames.n - s->seek);
    if (err == 0 && !options.language)
        err = detect(s, workspace, &options.language, &probability);
    if (err == 0)
        err = transcribe_partial(s->model, workspace, &options, &s->history, text);
    model_give_workspace(s->model, &workspace);
    return err;
}

/* A partial result, if there is new audio and the last one was not just now. */
static int recognise_partial(struct asr_session *s)
{
    int64_t start = clock_now_ns();
    struct buffer text;
    size_t n_stable;
    int err;

    if (!s->partials || s->whole_audio || start < s->next_partial || s->frames.n <= s->seek ||
        s->frames.n < s->partial_frames + PARTIAL_FRAMES)
        return 0;
    s->partial_frames = s->frames.n;
    buffer_init(&text, MAX_PARTIAL_BYTES);
    err = hear_unfinished(s, &text);
    s->next_partial = start + PARTIAL_REST * (clock_now_ns() - start);
    if (err == 0)
        err = buffer_append(&text, "", 1);
    if (err == 0) {
        text.size--; /* the NUL is behind it */
        n_stable = count_shared(&s->partial_text, &text);
        buffer_fini(&s->partial_text);
        s->partial_text = text;
        return text.size ? s->events.partial(s->events.arg, (char *)text.data, n_stable) : 0;
    }
    buffer_fini(&text);
    return err;
}

static int session_feed(struct asr_session *s, const float *pcm, size_t n_samples)
{
    int err = 0;

    if (!s->announced && s->options.language)
        err = announce(s, 1);
    while (n_samples > 0 && err == 0) {
        /* A full window with the frame behind it, whose loudness counts too. */
        size_t most = s->whole_audio ? SIZE_MAX : s->seek + WINDOW + 1, n = 0;

        err = frames_push(&s->frames, pcm, n_samples, most, &n);
        pcm += n;
        n_samples -= n;
        if (err == 0 && asr_cancelled(s->options.cancel))
            err = -ECANCELED;
        if (s->frames.n >= MOST_WHOLE)
            s->whole_audio = false;
        while (err == 0 && !s->whole_audio && s->frames.n > s->seek + WINDOW)
            err = recognise(s, WINDOW);
        if (err == 0 && n_samples == 0)
            err = recognise_partial(s);
    }
    return err;
}

static int session_finish(struct asr_session *s)
{
    size_t content = frames_content(&s->frames);
    int err = 0;

    if (!s->announced && s->options.language)
        err = announce(s, 1);
    if (err == 0)
        err = frames_end(&s->frames);
    while (err == 0 && s->seek < content) {
        size_t left = content - s->seek;

        err = recognise(s, left < WINDOW ? left : WINDOW);
    }
    return err;
}

static size_t session_tokens(const struct asr_session *s)
{
    return s->history.n_decoded;
}

struct guess {
    const char *code;
    float probability;
};

static int likelier(const void *a, const void *b)
{
    const struct guess *x = a, *y = b;

    return (x->probability < y->probability) - (x->probability > y->probability);
}

static size_t store_guesses(const struct vocab *vocab, const float *probs, struct guess *guesses,
                            const char **codes, float *out, size_t max)
{
    size_t n = vocab->n_languages < max ? vocab->n_languages : max;

    for (size_t i = 0; i < vocab->n_languages; i++)
        guesses[i] = (struct guess){vocab->codes[i], probs[i]};
    qsort(guesses, vocab->n_languages, sizeof(*guesses), likelier);
    for (size_t i = 0; i < n; i++) {
        codes[i] = guesses[i].code;
        out[i] = guesses[i].probability;
    }
    return n;
}

/* The reference looks at the frame behind the audio, too. */
static int detect_with(struct asr_session *s, const float *pcm, size_t n_samples, float *probs)
{
    struct asr_model *model = s->model;
    struct workspace *workspace = NULL;
    size_t most = (size_t)WINDOW * MEL_HOP;
    int err;

    s->whole_audio = true;
    if ((err = session_feed(s, pcm, n_samples < most ? n_samples : most)) < 0 ||
        (err = frames_end(&s->frames)) < 0 ||
        (err = model_take_workspace(model, NULL, &workspace)) < 0)
        return err;
    err = encode(s, workspace, s->frames.n < WINDOW ? s->frames.n : WINDOW);
    if (err == 0)
        err = search_language(&workspace->decoder, &model->vocab, workspace->logits, NULL, probs);
    model_give_workspace(model, &workspace);
    return err;
}

static int detect_language(struct asr_model *model, const float *pcm, size_t n_samples,
                           const char **codes, float *probs, size_t max)
{
    const struct vocab *vocab = &model->vocab;
    struct asr_session *s = NULL;
    float *all = NULL;
    struct guess *guesses = NULL;
    int err;

    if (max == 0)
        return 0;
    if (!vocab->multilingual) {
        codes[0] = vocab->codes[0];
        probs[0] = 1;
        return 1;
    }
    err = session_create(model, &(struct asr_settings){0}, &(struct asr_events){0}, &s);
    if (err < 0)
        return err;
    all = calloc(vocab->n_languages, sizeof(*all));
    guesses = calloc(vocab->n_languages, sizeof(*guesses));
    err = all && guesses ? detect_with(s, pcm, n_samples, all) : -ENOMEM;
    if (err == 0)
        err = (int)store_guesses(vocab, all, guesses, codes, probs, max);
    free(all);
    free(guesses);
    session_destroy(&s);
    return err;
}

static const char *const *languages(const struct asr_model *model)
{
    return model->vocab.codes;
}

static bool can_translate(const struct asr_model *model)
{
    return model->vocab.multilingual;
}

const struct asr_engine whisper_engine = {
    .name = "whisper",
    .max_beam_size = DECODER_SLOTS,
    .load = model_load,
    .unload = model_unload,
    .languages = languages,
    .can_translate = can_translate,
    .session_create = session_create,
    .session_feed = session_feed,
    .session_finish = session_finish,
    .session_tokens = session_tokens,
    .session_destroy = session_destroy,
    .detect_language = detect_language,
};
