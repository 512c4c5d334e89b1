#include "asr/whisper/search.h"

#include "compute/ops.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CANDIDATES (2 * DECODER_SLOTS)
#define MAX_INITIAL_TIMESTAMP 50 /* 1 s */

struct candidate {
    float score; /* log probability so far */
    uint32_t origin, token;
};

/* A search under way. Row i of `tokens` is what hypothesis i has sampled. */
struct run {
    const struct search *search;
    struct rules rules;
    size_t start;     /* position of the prompt's last token */
    size_t max_steps; /* tokens that may be sampled */
    size_t n_alive;
    float scores[DECODER_SLOTS];
    uint32_t slots[DECODER_SLOTS];   /* the decoder's, of each that is alive */
    uint32_t *tokens, *tokens_spare; /* (DECODER_SLOTS, max_steps) */

    uint32_t *best; /* (max_steps) the best finished one */
    size_t n_best, n_finished;
    float best_score;
};

static int run_create(const struct search *search, struct run *run)
{
    const struct whisper_weights *weights = search->decoder->weights;
    size_t room;

    memset(run, 0, sizeof(*run));
    run->search = search;
    if (search->n_prompt == 0 || search->n_prompt >= weights->n_text)
        return -EINVAL;
    run->start = search->n_prompt - 1;
    room = weights->n_text - run->start;
    run->max_steps = room < weights->n_text / 2 ? room : weights->n_text / 2;
    run->rules = (struct rules){
        .vocab = search->vocab,
        .timestamps = search->prompt[run->start] != search->vocab->no_timestamps,
        .max_initial_timestamp = search->vocab->timestamp_begin + MAX_INITIAL_TIMESTAMP,
    };
    run->tokens = calloc(DECODER_SLOTS * run->max_steps, sizeof(uint32_t));
    run->tokens_spare = calloc(DECODER_SLOTS * run->max_steps, sizeof(uint32_t));
    run->best = calloc(run->max_steps, sizeof(uint32_t));
    return run->tokens && run->tokens_spare && run->best ? 0 : -ENOMEM;
}

static void run_free(struct run *run)
{
    free(run->tokens);
    free(run->tokens_spare);
    free(run->best);
}

static uint32_t *tokens_of(const struct run *run, size_t i)
{
    return run->tokens + i * run->max_steps;
}

/* exp(logits[id]) over the sum of all. */
static float probability(const float *logits, size_t n, uint32_t id)
{
    float best = logits[compute_argmax(logits, n)], sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += expf(logits[i] - best);
    return expf(logits[id] - best) / sum;
}

/* The prompt but for its last token, which the first step feeds. The probability of silence is taken
 * where <|startoftranscript|> is. */
static int feed_prompt(struct run *run, float *no_speech_prob)
{
    const struct search *s = run->search;
    struct decoder_row *rows;
    int err;

    if (run->start == 0)
        return 0;
    rows = calloc(run->start, sizeof(*rows));
    if (!rows)
        return -ENOMEM;
    for (size_t i = 0; i < run->start; i++)
        rows[i] = (struct decoder_row){s->prompt[i], (uint32_t)i, 0};
    err = decoder_feed(s->decoder, rows, run->start, NULL, s->cancel);
    for (size_t i = 0; i < run->start && err == 0; i++) {
        if (s->prompt[i] != s->vocab->sot)
            continue;
        decoder_logits(s->decoder, i, 1, s->logits);
        *no_speech_prob = probability(s->logits, s->vocab->n_tokens, s->vocab->no_speech);
        break;
    }
    free(rows);
    return err;
}

/* One step: the newest token of each hypothesis, then log probabilities of the next. */
static int step(struct run *run, size_t at, float *no_speech_prob)
{
    const struct search *s = run->search;
    size_t n_vocab = s->vocab->n_tokens;
    struct decoder_row rows[DECODER_SLOTS];
    int err;

    for (size_t i = 0; i < run->n_alive; i++)
        rows[i] = (struct decoder_row){at ? tokens_of(run, i)[at - 1] : s->prompt[run->start],
                                       (uint32_t)(run->start + at), run->slots[i]};
    err = decoder_feed(s->decoder, rows, run->n_alive, NULL, s->cancel);
    if (err < 0)
        return err;
    decoder_logits(s->decoder, 0, run->n_alive, s->logits);
    if (at == 0 && s->prompt[run->start] == s->vocab->sot)
        *no_speech_prob = probability(s->logits, n_vocab, s->vocab->no_speech);
    for (size_t i = 0; i < run->n_alive; i++)
        rules_apply(&run->rules, tokens_of(run, i), at, s->logits + i * n_vocab);
    return 0;
}

/* Keep a finished hypothesis when it is the best so far. */
static void finish(struct run *run, const uint32_t *tokens, size_t n, float score)
{
    float normalised = score / (float)n;

    if (run->n_finished++ > 0 && !(normalised > run->best_score))
        return;
    memcpy(run->best, tokens, n * sizeof(*tokens));
    run->n_best = n;
    run->best_score = normalised;
}

/* The `n` best continuations of all hypotheses, best first. */
static size_t best_candidates(const struct run *run, size_t n, struct candidate *out)
{
    size_t n_vocab = run->search->vocab->n_tokens, count = 0;

    for (size_t b = 0; b < run->n_alive; b++) {
        const float *log_probs = run->search->logits + b * n_vocab;
        float score = run->scores[b];

        for (size_t i = 0; i < n_vocab; i++) {
            float total = log_probs[i] + score;
            size_t at;

            if (count == n && !(total > out[n - 1].score))
                continue;
            at = count < n ? count++ : n - 1;
            for (; at > 0 && total > out[at - 1].score; at--)
                out[at] = out[at - 1];
            out[at] = (struct candidate){total, (uint32_t)b, (uint32_t)i};
        }
    }
    return count;
}

/* A finished candidate's place goes to the next best one that has not ended. */
static size_t replacement(const struct run *run, const struct candidate *candidates, size_t n,
                          size_t *next, size_t otherwise)
{
    while (*next < n) {
        size_t at = (*next)++;

        if (candidates[at].token != run->search->vocab->eot)
            return at;
    }
    return otherwise;
}

/* The chosen candidates become the hypotheses. */
static void advance(struct run *run, const struct candidate *candidates, const size_t *chosen,
                    size_t n, size_t at)
{
    uint32_t origins[DECODER_SLOTS];
    uint32_t *old = run->tokens;

    for (size_t i = 0; i < n; i++) {
        const struct candidate *c = &candidates[chosen[i]];
        uint32_t *tokens = run->tokens_spare + i * run->max_steps;

        memcpy(tokens, old + c->origin * run->max_steps, at * sizeof(*tokens));
        tokens[at] = c->token;
        run->scores[i] = c->score;
        run->slots[i] = (uint32_t)i;
        origins[i] = c->origin;
    }
    run->tokens = run->tokens_spare;
    run->tokens_spare = old;
    run->n_alive = n;
    decoder_reorder(run->search->decoder, origins, n, run->start + at + 1);
}

static void beam_step(struct run *run, size_t at)
{
    struct candidate candidates[MAX_CANDIDATES];
    size_t beam = (size_t)run->search->beam_size, next = beam;
    size_t n = best_candidates(run, 2 * beam, candidates);
    size_t chosen[DECODER_SLOTS];
    bool last = at + 1 == run->max_steps;
    uint32_t *ended = run->tokens_spare; /* free until advance() */

    for (size_t k = 0; k < beam; k++) {
        const struct candidate *c = &candidates[k];
        bool eot = c->token == run->search->vocab->eot;

        chosen[k] = k;
        if (!eot && !last)
            continue;
        memcpy(ended, tokens_of(run, c->origin), at * sizeof(*ended));
        ended[at] = c->token;
        finish(run, ended, eot ? at : at + 1, c->score);
        chosen[k] = replacement(run, candidates, n, &next, k);
    }
    if (last || run->n_finished >= beam)
        run->n_alive = 0;
    else
        advance(run, candidates, chosen, beam, at);
}

/* splitmix64, to a number in [0, 1) */
static float next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ULL;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return (float)((z ^ z >> 31) >> 40) / (float)(1 << 24);
}

/* A token drawn with the probabilities that the temperature makes of them. */
static uint32_t draw(const float *log_probs, size_t n, float temperature, uint64_t *random)
{
    float best = log_probs[compute_argmax(log_probs, n)], inverse = 1 / temperature;
    double sum = 0, target;
    size_t last = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)expf((log_probs[i] - best) * inverse);
    target = (double)next_random(random) * sum;
    sum = 0;
    for (size_t i = 0; i < n; i++) {
        float weight = expf((log_probs[i] - best) * inverse);

        if (weight == 0)
            continue;
        sum += (double)weight;
        last = i;
        if (sum > target)
            break;
    }
    return (uint32_t)last;
}

/* Hypotheses that know nothing of each other: one greedy, or several samples. */
static void single_step(struct run *run, size_t at, uint64_t *random)
{
    const struct search *s = run->search;
    size_t n_vocab = s->vocab->n_tokens, kept = 0;

    for (size_t i = 0; i < run->n_alive; i++) {
        const float *log_probs = s->logits + i * n_vocab;
        uint32_t *tokens = tokens_of(run, i);
        uint32_t token = s->temperature > 0 ? draw(log_probs, n_vocab, s->temperature, random)
                                            : (uint32_t)compute_argmax(log_probs, n_vocab);
        float score = run->scores[i] + log_probs[token];

        tokens[at] = token;
        if (token == s->vocab->eot || at + 1 == run->max_steps) {
            finish(run, tokens, token == s->vocab->eot ? at : at + 1, score);
            continue;
        }
        memmove(tokens_of(run, kept), tokens, (at + 1) * sizeof(*tokens));
        run->scores[kept] = score;
        run->slots[kept++] = run->slots[i];
    }
    run->n_alive = kept;
}

/* Samples part ways after the prompt: each slot gets its past. */
static void start_samples(struct run *run)
{
    uint32_t origins[DECODER_SLOTS] = {0};

    run->n_alive = (size_t)run->search->beam_size;
    for (size_t i = 0; i < run->n_alive; i++)
        run->slots[i] = (uint32_t)i;
    decoder_reorder(run->search->decoder, origins, run->n_alive, run->start);
}

static int search_all(struct run *run, struct search_result *result)
{
    const struct search *s = run->search;
    uint64_t random = s->seed;
    int err = feed_prompt(run, &result->no_speech_prob);

    run->n_alive = 1;
    if (err == 0 && s->temperature > 0)
        start_samples(run);
    for (size_t at = 0; at < run->max_steps && run->n_alive > 0 && err == 0; at++) {
        err = step(run, at, &result->no_speech_prob);
        if (err < 0)
            break;
        if (s->beam_size > 1 && !(s->temperature > 0))
            beam_step(run, at);
        else
            single_step(run, at, &random);
        result->n_steps++;
    }
    return err;
}

int search_run(const struct search *search, struct search_result *result)
{
    struct run run;
    int err;

    assert(search->beam_size >= 1 && search->beam_size <= DECODER_SLOTS);
    memset(result, 0, sizeof(*result));
    err = run_create(search, &run);
    if (err == 0)
        err = search_all(&run, result);
    if (err == 0) {
        result->tokens = run.best;
        result->n_tokens = run.n_best;
        result->score = run.best_score;
        run.best = NULL;
    }
    run_free(&run);
    return err;
}

int search_language(struct decoder_state *decoder, const struct vocab *vocab, float *logits,
                    const volatile int *cancel, float *probs)
{
    struct decoder_row row = {vocab->sot, 0, 0};
    int err = decoder_feed(decoder, &row, 1, NULL, cancel);

    if (err < 0)
        return err;
    decoder_logits(decoder, 0, 1, logits);
    for (size_t i = 0; i < vocab->n_languages; i++)
        probs[i] = logits[vocab->languages[i].id];
    compute_softmax(decoder->compute, probs, 1, vocab->n_languages);
    return 0;
}
