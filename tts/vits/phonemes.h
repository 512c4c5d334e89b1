/*
 * phonemes.h - text to phonemes as Piper's voices were trained on them: espeak-ng's IPA, clause by
 * clause, with the punctuation that ends each clause
 */
#ifndef TTS_VITS_PHONEMES_H
#define TTS_VITS_PHONEMES_H

#include <stddef.h>

/**
 * Phonemes of a text.
 *
 * @param voice      of espeak-ng, "en-us"
 * @param text       UTF-8, NUL-terminated
 * @param sentences  (*n) decomposed IPA (NFD), one string a sentence; vits_phonemes_free() them.
 *                   None for a text without anything to say
 * @param cancel     non-zero: give up; may be NULL
 * @return 0; -ENOENT when espeak-ng has no such voice or no data; -EILSEQ when it cannot cope with
 *         the text; -ECANCELED; -ENOMEM
 */
int vits_phonemes_of(const char *voice, const char *text, const volatile int *cancel,
                     char ***sentences, size_t *n);

/** The characters themselves, decomposed: for voices trained on text ("phoneme_type": "text"). */
int vits_phonemes_of_text(const char *text, char ***sentences, size_t *n);

void vits_phonemes_free(char ***sentences, size_t n);

/**
 * How the clause that espeak-ng read as [text, text + size) ends.
 *
 * @param more  another clause follows: the text may reach a character into it
 * @param mark  the punctuation that the voices know: one of ",.?!:;", or NUL
 * @return whether a sentence ends here
 */
int vits_clause_end(const char *text, size_t size, int more, char *mark);

#endif
