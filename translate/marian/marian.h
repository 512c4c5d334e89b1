/*
 * marian.h - the engine "marian": Marian students of the Bergamot project, on the CPU
 *
 * int8 arithmetic is exact and each sentence is computed as if it were alone, so a translation does not
 * depend on what else is in the batch, on threads or on the instruction set.
 */
#ifndef TRANSLATE_MARIAN_MARIAN_H
#define TRANSLATE_MARIAN_MARIAN_H

#include "translate/engine.h"

extern const struct translate_engine marian_engine;

#endif
