/*
 * pieces.h - sentences as the model takes them: pieces, and long ones in parts
 */
#ifndef TRANSLATE_MARIAN_PIECES_H
#define TRANSLATE_MARIAN_PIECES_H

#include "text/sentencepiece.h"

#include <stdbool.h>

struct part {
    size_t sentence; /* which it belongs to */
    bool glued;      /* no white space before it in the sentence */
    uint32_t *ids;   /* (n) with </s>; owned */
    size_t n;
    char **texts; /* (n_texts) its translations, the best first; owned */
    size_t n_texts;
    float log_prob;                /* of the best */
    const volatile int *cancelled; /* set when nobody wants it any more; borrowed */
};

struct parts {
    struct part *list; /* (n) in the order of the sentences */
    size_t n, capacity;
};

/**
 * Append a sentence, cut where it hurts least when it has more than `most` pieces: behind punctuation,
 * else at white space, else anywhere, always near the middle of what is too long. An empty one adds
 * nothing.
 *
 * @return 0; -EILSEQ; -ENOMEM
 */
int parts_add(struct parts *parts, const struct sentencepiece_model *vocab, uint32_t eos,
              size_t most, const char *text, size_t size, size_t sentence);
void parts_fini(struct parts *parts);

#endif
