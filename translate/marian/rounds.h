/*
 * rounds.h - what callers hand in meanwhile is translated together
 *
 * One thread takes what waits, a part from each call in turn, up to what fills the processors, and
 * translates it; what comes in the meantime waits for the next round. So nobody waits for company: a
 * lone call runs at once, and a crowd shares its products. Long texts give way to short ones after each
 * round. Who shares a round with whom never changes a translation.
 */
#ifndef TRANSLATE_MARIAN_ROUNDS_H
#define TRANSLATE_MARIAN_ROUNDS_H

#include "translate/marian/batch.h"

struct rounds;

/** @param student, pool  borrowed until rounds_destroy(). @return 0; -ENOMEM; -EAGAIN */
int rounds_create(const struct marian_student *student, struct compute *pool, struct rounds **out);
/** No call may be in it. */
void rounds_destroy(struct rounds **rounds);

/**
 * Translate parts; any number of threads may.
 *
 * @param parts   filled with their translations on success; empty after -ECANCELED
 * @param cancel  non-zero: return at once, what runs drops out of its round; NULL: never
 * @return 0; -ECANCELED; -ENOMEM
 */
int rounds_run(struct rounds *rounds, struct parts *parts, const struct marian_search *search,
               const volatile int *cancel);

#endif
