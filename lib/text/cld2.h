/*
 * cld2.h - the C face of Compact Language Detector 2, for language.c alone
 */
#ifndef TEXT_CLD2_H
#define TEXT_CLD2_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLD2_GUESSES 3

struct cld2_guess {
    const char *code; /* as CLD2 names it, static: "en", "iw", "zh-Hant" */
    float share;      /* of the text, 0..1 */
    bool reliable;
};

/** @param hint  a code to lean to; NULL. @return how many guesses, the likeliest first */
size_t cld2_detect(const char *text, size_t size, const char *hint,
                   struct cld2_guess guesses[CLD2_GUESSES]);

#ifdef __cplusplus
}
#endif

#endif
