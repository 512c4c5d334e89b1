/*
 * cancel.h - the flag by which another thread says stop
 */
#ifndef TTS_CANCEL_H
#define TTS_CANCEL_H

#include <stdbool.h>
#include <stddef.h>

/** @param cancel  may be NULL: never */
static inline bool tts_cancelled(const volatile int *cancel)
{
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

#endif
