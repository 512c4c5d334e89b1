/*
 * batch.h - several parts of sentences through the model at once
 */
#ifndef TRANSLATE_MARIAN_BATCH_H
#define TRANSLATE_MARIAN_BATCH_H

#include "translate/marian/pieces.h"
#include "translate/marian/search.h"
#include "translate/marian/shortlist.h"

/* All that a folder holds; never changes after loading. */
struct marian_student {
    struct marian_model *weights;
    struct sentencepiece_model *source, *target; /* often one and the same */
    struct shortlist *shortlist;                 /* NULL: all words, always */
    struct marian_output all;                    /* without a shortlist */
};

#define BATCH_MOST_PIECES 1024 /* of all parts together */

/**
 * Translate parts, at most MARIAN_MOST_ROWS / beam_size of them; fills their texts. A part whose
 * `cancelled` is set drops out within a decoder step, without a text.
 *
 * @return 0; -ENOMEM
 */
int batch_translate(const struct marian_student *student, const struct marian_search *search,
                    struct part **parts, size_t n);

#endif
