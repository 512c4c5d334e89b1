/*
 * marian.h - the engine "marian": Marian students of the Bergamot project, on the CPU
 *
 * int8 products are exact, the floats between them are added in one order (exact.h), and each sentence
 * is computed as if it were alone: a translation does not depend on what else is in the batch, on
 * threads, or on the machine.
 */
#ifndef TRANSLATE_MARIAN_MARIAN_H
#define TRANSLATE_MARIAN_MARIAN_H

#include "translate/engine.h"

extern const struct translate_engine marian_engine;

#endif
