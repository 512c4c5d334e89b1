#include "translate/marian/marian.h"

#include "base/buffer.h"
#include "translate/marian/folder.h"
#include "translate/marian/rounds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PIECES 128    /* of a part, without </s>; what the students saw in training */
#define MOST_POSITIONS 512 /* of a translation */

struct translate_model {
    struct compute *pool;  /* batches run side by side on it */
    struct compute *alone; /* and each on one thread */
    struct marian_folder folder;
    struct marian_student student;
    struct rounds *rounds;
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
    int err = sentencepiece_load(path, &model->student.source);

    if (!err && strcmp(folder->target_vocab, path) == 0) {
        model->student.target = model->student.source;
    } else if (!err) {
        path = folder->target_vocab;
        err = sentencepiece_load(path, &model->student.target);
    }
    if (err)
        return fail(error, size, err, path,
                    err == -EBADMSG ? "it is no SentencePiece model" : strerror(-err));
    if (sentencepiece_size(model->student.source) != model->student.weights->source.n ||
        sentencepiece_size(model->student.target) != model->student.weights->target.n)
        return fail(error, size, -EBADMSG, path, "it has not as many pieces as the model");
    if (sentencepiece_eos(model->student.target) < 0 ||
        sentencepiece_eos(model->student.source) < 0)
        return fail(error, size, -EBADMSG, path, "it has no piece for a sentence's end");
    return 0;
}

static int load_words(struct translate_model *model, char *error, size_t size)
{
    const struct marian_model *weights = model->student.weights;
    char why[200];
    int err;

    if (!model->folder.shortlist[0]) {
        err = marian_output_create(weights, NULL, 0, &model->student.all);
        return err ? fail(error, size, err, model->folder.model, strerror(-err)) : 0;
    }
    err = shortlist_open(model->folder.shortlist, weights->source.n, weights->target.n, why,
                         sizeof(why), &model->student.shortlist);
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
                            sizeof(why), &model->student.weights);
    if (err)
        return fail(error, size, err, model->folder.model, why);
    err = load_vocabs(model, error, size);
    if (!err)
        err = load_words(model, error, size);
    if (!err && (err = rounds_create(&model->student, model->pool, &model->rounds)))
        fail(error, size, err, folder, "no thread to translate on");
    return err;
}

static void marian_unload(struct translate_model **out)
{
    struct translate_model *model = *out;

    if (!model)
        return;
    rounds_destroy(&model->rounds);
    marian_output_fini(&model->student.all);
    shortlist_destroy(&model->student.shortlist);
    if (model->student.target && model->student.target != model->student.source)
        sentencepiece_destroy(&model->student.target);
    if (model->student.source)
        sentencepiece_destroy(&model->student.source);
    marian_model_destroy(&model->student.weights);
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
    model->search =
        (struct marian_search){.beam_size = (size_t)model->folder.beam_size,
                               .n_best = 1,
                               .normalize = (float)model->folder.normalize,
                               .word_penalty = (float)model->folder.word_penalty,
                               .max_length_factor = (float)model->folder.max_length_factor,
                               .eos = (uint32_t)sentencepiece_eos(model->student.target),
                               .unk = sentencepiece_unk(model->student.target)};
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
    return search;
}

static int marian_translate(struct translate_model *model, const char *const *sentences, size_t n,
                            const struct translate_settings *settings,
                            struct translate_result *results)
{
    struct marian_search search = search_of(model, settings);
    struct parts parts = {0};
    uint32_t eos = (uint32_t)sentencepiece_eos(model->student.source);
    int err = 0;

    for (size_t i = 0; i < n && !err; i++)
        err = parts_add(&parts, model->student.source, eos, MOST_PIECES, sentences[i],
                        strlen(sentences[i]), i);
    if (!err && parts.n)
        err = rounds_run(model->rounds, &parts, &search, settings ? settings->cancel : NULL);
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
