/*
 * golden.h - reference data for tests, and comparisons that say where they fail
 */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include <stddef.h>

/** Read n little-endian floats; fails the test when the file is missing or of another size. free() */
float *golden_f32(const char *path, size_t n);

/** Whole file, NUL-terminated; fails the test when it cannot be read. free() */
char *golden_text(const char *path, size_t *size);

/** A model's folder: $DRAGOMAN_MODELS or ~/.local/share/dragoman/models, then the name; the test fails,
 *  naming `dragoman models pull`, when it is not there. Static storage. */
const char *golden_model(const char *name);

/** Every |got - want| <= tolerance, else fail naming the worst index and both values. */
void assert_near(const float *got, const float *want, size_t n, float tolerance);

#endif
