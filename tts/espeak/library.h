/*
 * library.h - libespeak-ng, which is one voice for the whole process
 *
 * It keeps its voice, its text and its parameters in globals. Whoever uses it holds the lock from
 * choosing the voice until the last result is copied.
 */
#ifndef TTS_ESPEAK_LIBRARY_H
#define TTS_ESPEAK_LIBRARY_H

#include <stddef.h>

/** Initialise once for the process. @return the sample rate in Hz; -ENOENT without its data */
int espeak_library_open(void);

void espeak_library_lock(void);
void espeak_library_unlock(void);

/** @param name  "en-us", "pt"; the lock is held. @return 0; -ENOENT when there is no such voice */
int espeak_library_set_voice(const char *name);

#endif
