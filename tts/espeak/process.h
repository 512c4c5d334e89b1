/*
 * process.h - libespeak-ng, in a process of its own
 *
 * The library (1.51) can be made to overrun its buffers by text, and text comes from anybody. So what
 * touches text runs in a child: when that dies, one call fails and the next has a new child. It also is
 * one voice for the whole process, with everything in globals: the child takes one task at a time.
 */
#ifndef TTS_ESPEAK_PROCESS_H
#define TTS_ESPEAK_PROCESS_H

#include "base/buffer.h"

#include <stdint.h>

/** What the child may answer to one task. */
#define ESPEAK_ANSWER_MAX (64u << 20)
/** How long one task may take: some hundred times what the longest sentence takes. */
#define ESPEAK_TASK_MS 20000

/** Initialise the library. @return the sample rate in Hz; -ENOENT without its data */
int espeak_open(void);

/**
 * A task: runs in the child, with the library to itself and the voice chosen. Must not touch what other
 * threads of the parent use.
 *
 * @param text  as espeak_text_clean() left it
 * @return 0; a negative errno
 */
typedef int (*espeak_task)(const char *voice, const char *text, int argument, struct buffer *out);

/**
 * Have a task done. Any thread may ask; they wait for one another.
 *
 * @param voice   of the library, "en-us"
 * @param cancel  non-zero: give up; may be NULL
 * @param out     initialised, empty; the task's answer
 * @return 0; what the task returned; -ENOENT no such voice; -EILSEQ the library could not cope with the
 *         text; -ECANCELED; -EMSGSIZE past ESPEAK_ANSWER_MAX; -ENOMEM; -errno of starting a process
 */
int espeak_run(espeak_task task, const char *voice, const char *text, int argument,
               const volatile int *cancel, struct buffer *out);

#endif
