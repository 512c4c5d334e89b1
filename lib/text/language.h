/*
 * language.h - languages: their codes, their names, and which one a text is in
 */
#ifndef TEXT_LANGUAGE_H
#define TEXT_LANGUAGE_H

#include <stddef.h>

struct language {
    const char *code;  /* ISO 639-1, "en"; ISO 639-3 where there is none */
    const char *code3; /* ISO 639-3, "eng" */
    const char *name;  /* "English" */
};

/** The table, by code. */
const struct language *language_table(size_t *n);

/**
 * The language that people mean: a code of two or three letters, a name, or either with a region
 * or script behind it ("pt-BR", "zh_Hant", "English"); case does not matter.
 *
 * @return the language; NULL when it is none that is known
 */
const struct language *language_find(const char *text);

/** The ISO 639-1 code of language_find(); NULL. */
const char *language_code(const char *text);
/** The English name; NULL. */
const char *language_name(const char *text);

/**
 * Guess a text's language.
 *
 * @param text        UTF-8; at most its first 64 KiB count
 * @param candidates  codes it may be, ended by NULL; NULL: any
 * @param code        ISO 639-1, static; "" when nothing can be said
 * @param confidence  0..1
 */
void language_detect(const char *text, size_t size, const char *const *candidates,
                     const char **code, float *confidence);

#endif
