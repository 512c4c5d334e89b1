/*
 * text.h - what of a text may reach libespeak-ng
 *
 * The library (1.51) reads freed memory after letters of some alphabets that its voice does not write,
 * obeys control characters, and ends the process over "words" of a few hundred characters. Texts come
 * from anybody. So a voice gets its own alphabet and Latin, the rest becomes a space, and long runs
 * are cut. Ordinary text comes through unchanged.
 */
#ifndef TTS_ESPEAK_TEXT_H
#define TTS_ESPEAK_TEXT_H

/** Characters without white space between them, at most. */
#define ESPEAK_RUN_MAX 60

/**
 * @param voice  of espeak-ng, "en-us"
 * @param text   UTF-8, NUL-terminated; what is none becomes a space, too
 * @return a copy for free(); NULL when memory is out
 */
char *espeak_text_clean(const char *voice, const char *text);

#endif
