/*
 * speech.h - audio of the golden cases
 */
#ifndef TESTS_ASR_SPEECH_H
#define TESTS_ASR_SPEECH_H

#include <jansson.h>
#include <stddef.h>

/**
 * Join a case's "parts": files (a name without a slash is one of golden/), seconds of silence, and
 * [file, seconds] for the beginning of one. Fails the test when a file is missing.
 *
 * @param n_samples  at 16 kHz
 * @return full scale 1.0, as 16-bit audio decodes; free()
 */
float *speech_join(json_t *parts, size_t *n_samples);

/** One LibriVox sentence of pocketsphinx-testdata: "0870", "0880", "0890", "0920" or "0930". */
float *speech_sentence(const char *number, size_t *n_samples);

#endif
