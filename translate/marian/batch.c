#include "translate/marian/batch.h"

#include "translate/marian/encoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Always in the shortlist: the 50 of the files lack words that no single piece was aligned to. */
#define FREQUENT_WORDS 512

struct batch {
    struct part **parts; /* (n) */
    size_t n;
};

/* Everything that a batch allocates. */
struct work {
    uint32_t *pieces;
    size_t *starts;
    const volatile int **cancelled;
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
    free(work->cancelled);
    free(work->encoded);
}

static int lay_out(const struct marian_student *student, const struct batch *batch, size_t n_best,
                   struct work *work, struct marian_batch *out)
{
    size_t n_pieces = 0, at = 0;

    for (size_t i = 0; i < batch->n; i++)
        n_pieces += batch->parts[i]->n;
    work->pieces = malloc(sizeof(*work->pieces) * n_pieces);
    work->starts = malloc(sizeof(*work->starts) * (batch->n + 1));
    work->cancelled = malloc(sizeof(*work->cancelled) * batch->n);
    work->encoded = compute_alloc(sizeof(float) * n_pieces * student->weights->d);
    work->best = calloc(batch->n * n_best, sizeof(*work->best));
    if (!work->pieces || !work->starts || !work->cancelled || !work->encoded || !work->best)
        return -ENOMEM;
    for (size_t i = 0; i < batch->n; i++) {
        work->starts[i] = at;
        work->cancelled[i] = batch->parts[i]->cancelled;
        memcpy(work->pieces + at, batch->parts[i]->ids, sizeof(uint32_t) * batch->parts[i]->n);
        at += batch->parts[i]->n;
    }
    work->starts[batch->n] = at;
    *out = (struct marian_batch){work->pieces, work->starts, work->cancelled, batch->n, n_pieces};
    return 0;
}

/* Each part's own words, and room for the widest list. */
static int choose_words(const struct marian_student *student, const struct batch *batch,
                        struct work *work)
{
    size_t widest = student->all.linear.out;
    int err = 0;

    if (student->shortlist) {
        work->outputs = calloc(batch->n, sizeof(*work->outputs));
        if (!work->outputs)
            return -ENOMEM;
    }
    for (size_t i = 0; work->outputs && i < batch->n && !err; i++) {
        uint32_t *ids = NULL;
        size_t n = 0;

        err = shortlist_words(student->shortlist, batch->parts[i]->ids, batch->parts[i]->n,
                              FREQUENT_WORDS, &ids, &n);
        if (!err && (err = marian_output_create(student->weights, ids, n, &work->outputs[i])))
            free(ids);
        if (widest < n)
            widest = n;
    }
    return err ? err : marian_scratch_init(&work->scratch, student->weights, widest);
}

/* Keep a translation of a part unless it reads like one that is there. */
static int keep_text(const struct marian_student *student, const struct marian_hypothesis *words,
                     struct part *part)
{
    char *text = NULL;
    int err = sentencepiece_decode(student->target, words->words, words->n, &text);

    for (size_t i = 0; i < part->n_texts && text; i++)
        if (strcmp(part->texts[i], text) == 0) {
            free(text);
            text = NULL;
        }
    if (text)
        part->texts[part->n_texts++] = text;
    return err;
}

static int keep_texts(const struct marian_student *student, const struct batch *batch,
                      size_t n_best, const struct work *work)
{
    int err = 0;

    for (size_t i = 0; i < batch->n && !err; i++) {
        const struct marian_hypothesis *best = work->best + i * n_best;
        struct part *part = batch->parts[i];

        if (!best->words)
            continue; /* cancelled */
        part->log_prob = best->log_prob;
        part->texts = calloc(n_best, sizeof(*part->texts));
        err = part->texts ? 0 : -ENOMEM;
        for (size_t j = 0; j < n_best && best[j].words && !err; j++)
            err = keep_text(student, &best[j], part);
    }
    return err;
}

/* A part whose call was given up has no translation, and none is missed. */
static int translate_laid_out(const struct marian_student *student,
                              const struct marian_search *search, const struct batch *batch,
                              const struct marian_batch *layout, struct work *work)
{
    const struct marian_output *outputs = work->outputs ? work->outputs : &student->all;
    int err = marian_encode(student->weights, &work->scratch, layout, work->encoded);

    if (!err)
        err = marian_memory_create(student->weights, &work->scratch, layout, work->encoded,
                                   &work->memory);
    if (!err)
        err = marian_search(student->weights, &work->scratch, &work->memory, search, outputs,
                            work->outputs ? batch->n : 1, work->best);
    return err ? err : keep_texts(student, batch, search->n_best, work);
}

int batch_translate(const struct marian_student *student, const struct marian_search *search,
                    struct part **parts, size_t n)
{
    struct batch batch = {parts, n};
    struct marian_batch layout;
    struct work work = {0};
    int err = lay_out(student, &batch, search->n_best, &work, &layout);

    if (!err)
        err = choose_words(student, &batch, &work);
    if (!err)
        err = translate_laid_out(student, search, &batch, &layout, &work);
    work_fini(&work, n, search->n_best);
    return err;
}
