/*
 * mutate.h - damage that parsers meet: flipped bits, foreign bytes, lost, doubled and moved stretches
 */
#ifndef TESTS_FUZZ_TTS_MUTATE_H
#define TESTS_FUZZ_TTS_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/** The next number of a sequence that a seed fixes. */
uint32_t mutate_random(uint32_t *seed);

/**
 * A damaged copy.
 *
 * @param window  where damage may fall: bytes from the start; 0: anywhere
 * @param out     bytes of the copy, exactly as many as are allocated
 */
uint8_t *mutate(const uint8_t *bytes, size_t n, size_t window, uint32_t *seed, size_t *out);

#endif
