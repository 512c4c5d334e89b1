/*
 * utf8.h - characters in bytes that may be anything
 *
 * Valid is what Unicode's table 3-7 says: no overlong forms, no surrogates, nothing past U+10FFFF.
 * NUL is a character like any other here; who wants C strings checks for it.
 */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UTF8_REPLACEMENT 0xFFFDu

/** Bytes of the longest valid start of text; `size` when all of it is valid. */
size_t utf8_valid_prefix(const char *text, size_t size);
bool utf8_valid(const char *text, size_t size);

/**
 * Read one character.
 *
 * @param code_point  the character; UTF8_REPLACEMENT for bytes that are none
 * @return bytes read: 1..4, never more than size; 0 only when size is 0. A broken sequence is read
 *         up to its first byte that does not fit (Unicode's "maximal subpart")
 */
size_t utf8_decode(const char *text, size_t size, uint32_t *code_point);

/** Write one character, UTF8_REPLACEMENT for what is none. out (4). @return bytes written, 1..4 */
size_t utf8_encode(uint32_t code_point, char *out);

/** Bytes at the end that begin a character whose rest is not there (0..3): keep them for the next piece. */
size_t utf8_incomplete_tail(const char *text, size_t size);

/** The start of the last character before `offset`; 0 at the start. Valid text only. */
size_t utf8_previous(const char *text, size_t offset);

/** White space as Unicode's White_Space property says. */
bool utf8_is_space(uint32_t code_point);
bool utf8_is_digit(uint32_t code_point); /* ASCII, Arabic-Indic, full width, Devanagari */
/** Letters that have two cases: Latin, Greek, Cyrillic, Armenian, Georgian. */
bool utf8_is_upper(uint32_t code_point);
bool utf8_is_lower(uint32_t code_point);

#ifdef __cplusplus
}
#endif

#endif
