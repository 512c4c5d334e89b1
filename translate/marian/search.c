#include "translate/marian/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NONE SIZE_MAX

/* A word and the one before it; hypotheses share their beginnings. */
struct node {
    uint32_t word;
    size_t before; /* NONE at the first */
};

struct path {
    size_t node; /* NONE: empty */
    float score; /* log probability */
    float rank;  /* score normalized, once it has ended */
};

struct beam {
    size_t places;                           /* hypotheses that it may still hold */
    size_t longest;                          /* words */
    struct path ended[TRANSLATE_MOST_BEAMS]; /* (n_ended) the best first */
    size_t n_ended;
};

struct candidate {
    float score;
    size_t row;
    uint32_t word;
};

/* Everything of one marian_search(). */
struct state {
    const struct marian_model *model;
    struct marian_scratch *scratch;
    const struct marian_memory *memory;
    const struct marian_search *search;
    const struct marian_output *outputs;
    size_t n_outputs;

    struct beam *beams; /* (n_sentences) */
    struct marian_rows rows, next;
    struct path *paths, *next_paths; /* (rows.n) what each row stands for */
    struct node *nodes;
    size_t n_nodes, nodes_capacity;
    double *room;
    float *y;
    float *logits;    /* (most rows, widest output) or of one sentence's rows */
    float *log_probs; /* (widest output) */
};

static size_t n_sentences(const struct state *state)
{
    return state->memory->batch->n_sentences;
}

static int rows_init(const struct marian_model *model, size_t capacity, struct marian_rows *rows)
{
    size_t cells = capacity * model->n_decoder * model->d;

    rows->sentence = calloc(capacity, sizeof(*rows->sentence));
    rows->word = calloc(capacity, sizeof(*rows->word));
    rows->cells = compute_alloc(sizeof(float) * cells);
    if (!rows->sentence || !rows->word || !rows->cells)
        return -ENOMEM;
    memset(rows->cells, 0, sizeof(float) * cells);
    return 0;
}

static void rows_fini(struct marian_rows *rows)
{
    free(rows->sentence);
    free(rows->word);
    free(rows->cells);
}

static size_t widest_output(const struct state *state)
{
    size_t widest = 0;

    for (size_t i = 0; i < state->n_outputs; i++)
        if (widest < state->outputs[i].linear.out)
            widest = state->outputs[i].linear.out;
    return widest;
}

static void start_beams(struct state *state)
{
    const size_t *starts = state->memory->batch->starts;

    for (size_t i = 0; i < n_sentences(state); i++) {
        double most =
            (double)state->search->max_length_factor * (double)(starts[i + 1] - starts[i]);
        size_t longest = (size_t)most + 2;

        state->beams[i] = (struct beam){.places = state->search->beam_size, .longest = longest};
        if (longest > state->model->n_positions)
            state->beams[i].longest = state->model->n_positions;
        state->rows.sentence[i] = i;
        state->rows.word[i] = -1;
        state->paths[i] = (struct path){.node = NONE};
    }
    state->rows.n = n_sentences(state);
}

static int state_init(struct state *state)
{
    size_t capacity = n_sentences(state) * state->search->beam_size;
    size_t widest = widest_output(state), d = state->model->d;
    size_t scored = state->n_outputs == 1 ? capacity : state->search->beam_size;

    state->beams = calloc(n_sentences(state), sizeof(*state->beams));
    state->paths = calloc(capacity, sizeof(*state->paths));
    state->next_paths = calloc(capacity, sizeof(*state->next_paths));
    state->room =
        compute_alloc(sizeof(double) * marian_decode_room(state->model, state->memory, capacity));
    state->y = compute_alloc(sizeof(float) * capacity * d);
    state->logits = compute_alloc(sizeof(float) * scored * widest);
    state->log_probs = compute_alloc(sizeof(float) * widest);
    if (!state->beams || !state->paths || !state->next_paths || !state->room || !state->y ||
        !state->logits || !state->log_probs ||
        rows_init(state->model, capacity, &state->rows) < 0 ||
        rows_init(state->model, capacity, &state->next) < 0)
        return -ENOMEM;
    start_beams(state);
    return 0;
}

static void state_fini(struct state *state)
{
    free(state->beams);
    free(state->paths);
    free(state->next_paths);
    free(state->nodes);
    free(state->room);
    free(state->y);
    free(state->logits);
    free(state->log_probs);
    rows_fini(&state->rows);
    rows_fini(&state->next);
}

static int add_node(struct state *state, uint32_t word, size_t before, size_t *out)
{
    if (state->n_nodes == state->nodes_capacity) {
        size_t capacity = state->nodes_capacity ? state->nodes_capacity * 2 : 1024;
        struct node *nodes = realloc(state->nodes, capacity * sizeof(*nodes));

        if (!nodes)
            return -ENOMEM;
        state->nodes = nodes;
        state->nodes_capacity = capacity;
    }
    state->nodes[state->n_nodes] = (struct node){word, before};
    *out = state->n_nodes++;
    return 0;
}

/* Where a word is in an output's list; -1 when it is not. */
static int64_t index_of(const struct marian_output *output, int64_t word)
{
    size_t low = 0, high = output->linear.out;

    if (word < 0 || !output->ids)
        return word < (int64_t)high ? word : -1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (output->ids[middle] == word)
            return (int64_t)middle;
        if (output->ids[middle] < word)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* Keep the `most` best candidates in order; of equals the first. */
static size_t insert(struct candidate *kept, size_t n, size_t most, struct candidate candidate)
{
    size_t at;

    if (n == most) {
        if (candidate.score <= kept[n - 1].score)
            return n;
        n--;
    }
    for (at = n; at > 0 && kept[at - 1].score < candidate.score; at--)
        kept[at] = kept[at - 1];
    kept[at] = candidate;
    return n + 1;
}

/* Candidates of one row, whose logits are `logits` (output->linear.out). */
static size_t row_candidates(struct state *state, const struct marian_output *output, float *logits,
                             size_t row, size_t most, struct candidate *kept, size_t n)
{
    size_t width = output->linear.out;
    int64_t unk = index_of(output, state->search->unk);
    float score = state->paths[row].score;

    state->model->exact->log_softmax(logits, width, state->log_probs);
    if (unk >= 0)
        state->log_probs[unk] = logits[unk] = -INFINITY;
    if (most == 1) { /* by the logit: the logarithm may round two of them to one */
        size_t best = compute_argmax(logits, width);

        return insert(kept, n, 1,
                      (struct candidate){score + state->log_probs[best], row, (uint32_t)best});
    }
    for (size_t i = 0; i < width; i++)
        if (n < most || score + state->log_probs[i] > kept[n - 1].score)
            n = insert(kept, n, most,
                       (struct candidate){score + state->log_probs[i], row, (uint32_t)i});
    return n;
}

/* A path of n words, </s> among them when it has one, is at its end. */
static void end_path(struct state *state, struct beam *beam, struct path path, size_t n)
{
    const struct marian_search *search = state->search;
    size_t at = beam->n_ended++;

    path.rank = (path.score - search->word_penalty * (float)n) /
                (search->normalize != 0 ? powf((float)n, search->normalize) : 1);
    beam->places--;
    for (; at > 0 && beam->ended[at - 1].rank < path.rank; at--)
        beam->ended[at] = beam->ended[at - 1];
    beam->ended[at] = path;
}

static void add_row(struct state *state, size_t parent, uint32_t word, struct path path)
{
    size_t cells = state->model->n_decoder * state->model->d, at = state->next.n++;

    state->next.sentence[at] = state->rows.sentence[parent];
    state->next.word[at] = word;
    memcpy(state->next.cells + at * cells, state->rows.cells + parent * cells,
           sizeof(float) * cells);
    state->next_paths[at] = path;
}

/* Step one sentence on: its rows are [first, first + n), its logits (n, output->linear.out). */
static int step_beam(struct state *state, size_t first, size_t n, size_t at,
                     const struct marian_output *output, float *logits)
{
    struct beam *beam = &state->beams[state->rows.sentence[first]];
    struct candidate kept[TRANSLATE_MOST_BEAMS];
    size_t n_kept = 0, most = beam->places;

    for (size_t i = 0; i < n; i++)
        n_kept = row_candidates(state, output, logits + i * output->linear.out, first + i, most,
                                kept, n_kept);
    for (size_t i = 0; i < n_kept; i++) {
        uint32_t word = output->ids ? output->ids[kept[i].word] : kept[i].word;
        struct path path = {state->paths[kept[i].row].node, kept[i].score, 0};
        int err;

        if (word == state->search->eos) {
            end_path(state, beam, path, at + 1);
            continue;
        }
        err = add_node(state, word, path.node, &path.node);
        if (err < 0)
            return err;
        if (at + 1 >= beam->longest)
            end_path(state, beam, path, at + 1);
        else
            add_row(state, kept[i].row, word, path);
    }
    return 0;
}

static int step(struct state *state, size_t at)
{
    const struct marian_output *output = state->outputs;
    struct marian_rows *rows = &state->rows;
    size_t d = state->model->d, n;
    bool shared = state->n_outputs == 1;
    int err = 0;

    marian_decode(state->model, state->scratch, state->memory, rows, at, state->room, state->y);
    if (shared)
        marian_linear(state->model, state->scratch, &output->linear, state->y, rows->n,
                      state->logits);
    state->next.n = 0;
    for (size_t first = 0; first < rows->n && !err; first += n) {
        float *logits = state->logits;

        for (n = 1; first + n < rows->n && rows->sentence[first + n] == rows->sentence[first];)
            n++;
        if (shared) {
            logits += first * output->linear.out;
        } else {
            output = &state->outputs[rows->sentence[first]];
            marian_linear(state->model, state->scratch, &output->linear, state->y + first * d, n,
                          logits);
        }
        err = step_beam(state, first, n, at, output, logits);
    }
    return err;
}

static void swap_rows(struct state *state)
{
    struct marian_rows rows = state->rows;
    struct path *paths = state->paths;

    state->rows = state->next;
    state->paths = state->next_paths;
    state->next = rows;
    state->next_paths = paths;
}

static int take_words(const struct state *state, const struct path *path,
                      struct marian_hypothesis *out)
{
    size_t n = 0, at;

    for (size_t node = path->node; node != NONE; node = state->nodes[node].before)
        n++;
    out->words = malloc(sizeof(*out->words) * (n ? n : 1));
    if (!out->words)
        return -ENOMEM;
    out->n = at = n;
    for (size_t node = path->node; node != NONE; node = state->nodes[node].before)
        out->words[--at] = state->nodes[node].word;
    out->log_prob = path->score;
    return 0;
}

static int take_best(const struct state *state, struct marian_hypothesis *best)
{
    size_t n_best = state->search->n_best;
    int err = 0;

    for (size_t i = 0; i < n_sentences(state); i++)
        for (size_t j = 0; j < n_best && j < state->beams[i].n_ended && !err; j++)
            err = take_words(state, &state->beams[i].ended[j], &best[i * n_best + j]);
    return err;
}

/* Rows of sentences that nobody wants any more make room. */
static void drop_cancelled(struct state *state)
{
    const struct marian_batch *batch = state->memory->batch;
    size_t cells = state->model->n_decoder * state->model->d, kept = 0;
    struct marian_rows *rows = &state->rows;

    for (size_t i = 0; i < rows->n; i++) {
        if (__atomic_load_n(batch->cancelled[rows->sentence[i]], __ATOMIC_RELAXED))
            continue;
        if (kept < i) {
            rows->sentence[kept] = rows->sentence[i];
            rows->word[kept] = rows->word[i];
            memcpy(rows->cells + kept * cells, rows->cells + i * cells, sizeof(float) * cells);
            state->paths[kept] = state->paths[i];
        }
        kept++;
    }
    rows->n = kept;
}

static int run(struct state *state, struct marian_hypothesis *best)
{
    int err = 0;

    drop_cancelled(state);
    for (size_t at = 0; state->rows.n && !err; at++) {
        err = step(state, at);
        swap_rows(state);
        drop_cancelled(state);
    }
    return err ? err : take_best(state, best);
}

int marian_search(const struct marian_model *model, struct marian_scratch *scratch,
                  const struct marian_memory *memory, const struct marian_search *search,
                  const struct marian_output *outputs, size_t n_outputs,
                  struct marian_hypothesis *best)
{
    struct state state = {.model = model,
                          .scratch = scratch,
                          .memory = memory,
                          .search = search,
                          .outputs = outputs,
                          .n_outputs = n_outputs};
    size_t n = memory->batch->n_sentences * search->n_best;
    int err;

    memset(best, 0, sizeof(*best) * n);
    err = state_init(&state);
    if (!err)
        err = run(&state, best);
    if (err)
        for (size_t i = 0; i < n; i++) {
            free(best[i].words);
            best[i] = (struct marian_hypothesis){0};
        }
    state_fini(&state);
    return err;
}
