#include "translate/marian/marian.h"

#include "base/buffer.h"
#include "translate/marian/folder.h"
#include "translate/marian/pieces.h"
#include "translate/marian/search.h"
#include "translate/marian/shortlist.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PIECES 128    /* of a part, without </s>; what the students saw in training */
#define MOST_POSITIONS 512 /* of a translation */
#define BATCH_PIECES 1024  /* of the parts of one batch */

struct translate_model {
    struct compute *pool;  /* batches run in parallel on it */
    struct compute *alone; /* and each on one thread */
    struct marian_folder folder;
    struct marian_model *weights;
    struct sentencepiece_model *source, *target;
    struct shortlist *shortlist; /* NULL: all words, always */
    struct marian_output all;    /* without a shortlist */
    struct marian_search search; /* the model's own settings */
};

static int fail(char *error, size_t size, int err, const char *path, const char *why)
{
    snprintf(error, size, "cannot load '%s': %s", path, why);
    return err;
}

static int load_vocabs(struct translate_model *model, char *error, size_t size)
{
    const struct marian_folder *folder = &model->folder;
    const char *path = folder->source_vocab;
    int err = sentencepiece_load(path, &model->source);

    if (!err) {
        path = folder->target_vocab;
        err = sentencepiece_load(path, &model->target);
    }
    if (err)
        return fail(error, size, err, path,
                    err == -EBADMSG ? "it is no SentencePiece model" : strerror(-err));
    if (sentencepiece_size(model->source) != model->weights->source.n ||
        sentencepiece_size(model->target) != model->weights->target.n)
        return fail(error, size, -EBADMSG, path, "it has not as many pieces as the model");
    if (sentencepiece_eos(model->target) < 0 || sentencepiece_eos(model->source) < 0)
        return fail(error, size, -EBADMSG, path, "it has no piece for a sentence's end");
    return 0;
}

static int load_words(struct translate_model *model, char *error, size_t size)
{
    const struct marian_model *weights = model->weights;
    char why[200];
    int err;

    if (!model->folder.shortlist[0]) {
        err = marian_output_create(weights, NULL, 0, &model->all);
        return err ? fail(error, size, err, model->folder.model, strerror(-err)) : 0;
    }
    err = shortlist_open(model->folder.shortlist, weights->source.n, weights->target.n, why,
                         sizeof(why), &model->shortlist);
    return err ? fail(error, size, err, model->folder.shortlist, why) : 0;
}

static int load_all(struct translate_model *model, const char *folder, int n_threads, bool f32,
                    char *error, size_t size)
{
    char why[200];
    int err = marian_folder_read(folder, error, size, &model->folder);

    if (err)
        return err;
    err = compute_create(n_threads, &model->pool);
    if (!err)
        err = compute_create(1, &model->alone);
    if (err)
        return fail(error, size, err, folder, "no threads to compute on");
    err = marian_model_load(model->folder.model, model->alone, f32, MOST_POSITIONS, why,
                            sizeof(why), &model->weights);
    if (err)
        return fail(error, size, err, model->folder.model, why);
    err = load_vocabs(model, error, size);
    return err ? err : load_words(model, error, size);
}

static void marian_unload(struct translate_model **out)
{
    struct translate_model *model = *out;

    if (!model)
        return;
    marian_output_fini(&model->all);
    shortlist_destroy(&model->shortlist);
    if (model->source)
        sentencepiece_destroy(&model->source);
    if (model->target)
        sentencepiece_destroy(&model->target);
    marian_model_destroy(&model->weights);
    compute_destroy(&model->alone);
    compute_destroy(&model->pool);
    free(model);
    *out = NULL;
}

static int marian_load(const char *folder, int n_threads, const char *compute_type, char *error,
                       size_t size, struct translate_model **out)
{
    bool f32 = compute_type && strcmp(compute_type, "float32") == 0;
    struct translate_model *model;
    int err;

    if (compute_type && !f32 && strcmp(compute_type, "int8") != 0) {
        snprintf(error, size, "compute type '%s' is not possible here: int8 or float32 are",
                 compute_type);
        return -ENOTSUP;
    }
    model = calloc(1, sizeof(*model));
    if (!model) {
        snprintf(error, size, "out of memory");
        return -ENOMEM;
    }
    err = load_all(model, folder, n_threads, f32, error, size);
    if (err) {
        marian_unload(&model);
        return err;
    }
    model->search = (struct marian_search){
        .beam_size = model->folder.beam_size > 1 ? (size_t)model->folder.beam_size : 1,
        .normalize = (float)model->folder.normalize,
        .word_penalty = (float)model->folder.word_penalty,
        .max_length_factor = (float)model->folder.max_length_factor,
        .eos = (uint32_t)sentencepiece_eos(model->target),
        .unk = sentencepiece_unk(model->target)};
    *out = model;
    return 0;
}

static const char *marian_source(const struct translate_model *model)
{
    return model->folder.source;
}

static const char *marian_target(const struct translate_model *model)
{
    return model->folder.target;
}

/* What is translated together: parts of similar length. */
struct batch {
    struct part **parts; /* (n) */
    size_t n;
};

struct job {
    struct translate_model *model;
    struct marian_search search;
    struct batch *batches;
    atomic_int err; /* the first batch that fails stops the others */
};

/* Everything that a batch allocates. */
struct work {
    uint32_t *pieces;
    size_t *starts;
    float *encoded;
    struct marian_scratch scratch;
    struct marian_memory memory;
    struct marian_output *outputs;  /* (n) with a shortlist */
    struct marian_hypothesis *best; /* (n, n_best) */
};

static void work_fini(struct work *work, size_t n, size_t n_best)
{
    for (size_t i = 0; work->outputs && i < n; i++)
        marian_output_fini(&work->outputs[i]);
    for (size_t i = 0; work->best && i < n * n_best; i++)
        free(work->best[i].words);
    marian_memory_fini(&work->memory);
    marian_scratch_fini(&work->scratch);
    free(work->outputs);
    free(work->best);
    free(work->pieces);
    free(work->starts);
    free(work->encoded);
}

static int lay_out(const struct translate_model *model, const struct batch *batch, size_t n_best,
                   struct work *work, struct marian_batch *out)
{
    size_t n_pieces = 0, at = 0;

    for (size_t i = 0; i < batch->n; i++)
        n_pieces += batch->parts[i]->n;
    work->pieces = malloc(sizeof(*work->pieces) * n_pieces);
    work->starts = malloc(sizeof(*work->starts) * (batch->n + 1));
    work->encoded = compute_alloc(sizeof(float) * n_pieces * model->weights->d);
    work->best = calloc(batch->n * n_best, sizeof(*work->best));
    if (!work->pieces || !work->starts || !work->encoded || !work->best)
        return -ENOMEM;
    for (size_t i = 0; i < batch->n; i++) {
        work->starts[i] = at;
        memcpy(work->pieces + at, batch->parts[i]->ids, sizeof(uint32_t) * batch->parts[i]->n);
        at += batch->parts[i]->n;
    }
    work->starts[batch->n] = at;
    *out = (struct marian_batch){work->pieces, work->starts, batch->n, n_pieces};
    return 0;
}

/* Each part's own words, and room for the widest list. */
static int choose_words(const struct translate_model *model, const struct batch *batch,
                        struct work *work)
{
    size_t widest = model->all.linear.out;
    int err = 0;

    if (model->shortlist) {
        work->outputs = calloc(batch->n, sizeof(*work->outputs));
        if (!work->outputs)
            return -ENOMEM;
    }
    for (size_t i = 0; work->outputs && i < batch->n && !err; i++) {
        uint32_t *ids = NULL;
        size_t n = 0;

        err = shortlist_words(model->shortlist, batch->parts[i]->ids, batch->parts[i]->n, &ids, &n);
        if (!err && (err = marian_output_create(model->weights, ids, n, &work->outputs[i])))
            free(ids);
        if (widest < n)
            widest = n;
    }
    return err ? err : marian_scratch_init(&work->scratch, model->weights, widest);
}

/* Keep a translation of a part unless it reads like one that is there. */
static int keep_text(const struct translate_model *model, const struct marian_hypothesis *words,
                     struct part *part)
{
    char *text = NULL;
    int err = sentencepiece_decode(model->target, words->words, words->n, &text);

    for (size_t i = 0; i < part->n_texts && text; i++)
        if (strcmp(part->texts[i], text) == 0) {
            free(text);
            text = NULL;
        }
    if (text)
        part->texts[part->n_texts++] = text;
    return err;
}

static int keep_texts(const struct translate_model *model, const struct batch *batch, size_t n_best,
                      const struct work *work)
{
    int err = 0;

    for (size_t i = 0; i < batch->n && !err; i++) {
        const struct marian_hypothesis *best = work->best + i * n_best;
        struct part *part = batch->parts[i];

        part->log_prob = best->log_prob;
        part->texts = calloc(n_best, sizeof(*part->texts));
        err = part->texts ? 0 : -ENOMEM;
        for (size_t j = 0; j < n_best && best[j].words && !err; j++)
            err = keep_text(model, &best[j], part);
    }
    return err;
}

static int translate_batch(const struct job *job, const struct batch *batch)
{
    const struct translate_model *model = job->model;
    const struct marian_output *outputs;
    struct marian_batch layout;
    struct work work = {0};
    size_t n_best = job->search.n_best;
    int err = lay_out(model, batch, n_best, &work, &layout);

    if (!err)
        err = choose_words(model, batch, &work);
    if (!err)
        err =
            marian_encode(model->weights, &work.scratch, &layout, job->search.cancel, work.encoded);
    if (!err)
        err = marian_memory_create(model->weights, &work.scratch, &layout, work.encoded,
                                   &work.memory);
    outputs = work.outputs ? work.outputs : &model->all;
    if (!err)
        err = marian_search(model->weights, &work.scratch, &work.memory, &job->search, outputs,
                            work.outputs ? batch->n : 1, work.best);
    if (!err)
        err = keep_texts(model, batch, n_best, &work);
    work_fini(&work, batch->n, n_best);
    return err;
}

static void run_batches(void *arg, size_t begin, size_t end)
{
    struct job *job = arg;

    for (size_t i = begin; i < end && !atomic_load(&job->err); i++) {
        int err = translate_batch(job, &job->batches[i]);

        if (err)
            atomic_store(&job->err, err);
    }
}

static int by_length(const void *a, const void *b)
{
    const struct part *left = *(struct part *const *)a, *right = *(struct part *const *)b;

    if (left->n != right->n)
        return left->n < right->n ? 1 : -1; /* longest first: the tail is short */
    return left < right ? -1 : 1;
}

/* Cut the sorted parts into batches: of few enough rows and pieces, and at least one a thread. */
static size_t make_batches(const struct translate_model *model, size_t beam_size,
                           struct part **sorted, size_t n, struct batch *batches)
{
    size_t threads = (size_t)compute_n_threads(model->pool), n_batches = 0;
    size_t most = MARIAN_MOST_ROWS / beam_size, pieces = 0;

    if (most > (n + threads - 1) / threads)
        most = (n + threads - 1) / threads;
    for (size_t i = 0; i < n; i++) {
        struct batch *last = &batches[n_batches - 1];

        if (!n_batches || last->n >= most || pieces + sorted[i]->n > BATCH_PIECES) {
            last = &batches[n_batches++];
            *last = (struct batch){sorted + i, 0};
            pieces = 0;
        }
        last->n++;
        pieces += sorted[i]->n;
    }
    return n_batches;
}

static int translate_parts(struct translate_model *model, const struct parts *parts,
                           const struct marian_search *search)
{
    struct part **sorted = malloc(sizeof(*sorted) * (parts->n + 1));
    struct batch *batches = malloc(sizeof(*batches) * (parts->n + 1));
    struct job job = {model, *search, batches, 0};
    size_t n;

    if (!sorted || !batches) {
        free(sorted);
        free(batches);
        return -ENOMEM;
    }
    for (size_t i = 0; i < parts->n; i++)
        sorted[i] = &parts->list[i];
    qsort(sorted, parts->n, sizeof(*sorted), by_length);
    n = make_batches(model, search->beam_size, sorted, parts->n, batches);
    if (n == 1)
        run_batches(&job, 0, 1);
    else
        compute_parallel_for(model->pool, n, 1, run_batches, &job);
    free(sorted);
    free(batches);
    return atomic_load(&job.err);
}

/* Which parts are of one sentence: [begin, end). */
struct span {
    size_t begin, end;
};

/* The parts' translations of this rank, joined as the source was; the best where there are fewer. */
static int join(const struct parts *parts, struct span span, size_t rank, char **out)
{
    struct buffer text;
    int err;

    buffer_init(&text, SIZE_MAX / 2);
    err = buffer_append(&text, "", 0);
    for (size_t i = span.begin; i < span.end && !err; i++) {
        const struct part *part = &parts->list[i];

        err = buffer_printf(&text, "%s%s", text.size && !part->glued ? " " : "",
                            part->texts[rank < part->n_texts ? rank : 0]);
    }
    if (err)
        buffer_fini(&text);
    else
        *out = (char *)text.data;
    return err;
}

static int join_alternatives(const struct parts *parts, struct span span,
                             struct translate_result *result)
{
    size_t most = 0;
    int err = 0;

    for (size_t i = span.begin; i < span.end; i++)
        if (most < parts->list[i].n_texts)
            most = parts->list[i].n_texts;
    if (most < 2)
        return 0;
    result->alternatives = calloc(most - 1, sizeof(*result->alternatives));
    if (!result->alternatives)
        return -ENOMEM;
    for (size_t rank = 1; rank < most && !err; rank++) {
        err = join(parts, span, rank, &result->alternatives[rank - 1]);
        result->n_alternatives += !err;
    }
    return err;
}

static int join_all(const struct parts *parts, size_t n, struct translate_result *results)
{
    struct span span = {0, 0};
    int err = 0;

    memset(results, 0, sizeof(*results) * n);
    for (size_t i = 0; i < n && !err; i++) {
        span.begin = span.end;
        for (; span.end < parts->n && parts->list[span.end].sentence == i; span.end++)
            results[i].log_prob += parts->list[span.end].log_prob;
        err = join(parts, span, 0, &results[i].text);
        if (!err)
            err = join_alternatives(parts, span, &results[i]);
    }
    for (size_t i = 0; err && i < n; i++)
        translate_result_fini(&results[i]);
    return err;
}

/* What a call wants of the search. */
static struct marian_search search_of(const struct translate_model *model,
                                      const struct translate_settings *settings)
{
    struct marian_search search = model->search;

    search.n_best = 1;
    if (!settings)
        return search;
    if (settings->beam_size > 0)
        search.beam_size = (size_t)settings->beam_size;
    if (settings->alternatives > 0) {
        search.n_best = settings->alternatives < TRANSLATE_MOST_BEAMS ? settings->alternatives + 1
                                                                      : TRANSLATE_MOST_BEAMS;
        if (search.beam_size < search.n_best)
            search.beam_size = search.n_best;
    }
    if (search.beam_size > TRANSLATE_MOST_BEAMS)
        search.beam_size = TRANSLATE_MOST_BEAMS;
    search.cancel = settings->cancel;
    return search;
}

static int marian_translate(struct translate_model *model, const char *const *sentences, size_t n,
                            const struct translate_settings *settings,
                            struct translate_result *results)
{
    struct marian_search search = search_of(model, settings);
    struct parts parts = {0};
    uint32_t eos = (uint32_t)sentencepiece_eos(model->source);
    int err = 0;

    for (size_t i = 0; i < n && !err; i++)
        err = parts_add(&parts, model->source, eos, MOST_PIECES, sentences[i], strlen(sentences[i]),
                        i);
    if (!err && parts.n)
        err = translate_parts(model, &parts, &search);
    if (!err)
        err = join_all(&parts, n, results);
    parts_fini(&parts);
    return err;
}

const struct translate_engine marian_engine = {.name = "marian",
                                               .load = marian_load,
                                               .unload = marian_unload,
                                               .source = marian_source,
                                               .target = marian_target,
                                               .translate = marian_translate};
