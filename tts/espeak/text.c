#include "tts/espeak/text.h"

#include "text/utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    GREEK = 1 << 0,
    CYRILLIC = 1 << 1,
    ARMENIAN = 1 << 2,
    HEBREW = 1 << 3,
    ARABIC = 1 << 4,
    DEVANAGARI = 1 << 5,
    BENGALI = 1 << 6,
    GURMUKHI = 1 << 7,
    GUJARATI = 1 << 8,
    ORIYA = 1 << 9,
    TAMIL = 1 << 10,
    TELUGU = 1 << 11,
    KANNADA = 1 << 12,
    MALAYALAM = 1 << 13,
    SINHALA = 1 << 14,
    THAI = 1 << 15,
    MYANMAR = 1 << 16,
    GEORGIAN = 1 << 17,
    HANGUL = 1 << 18,
    ETHIOPIC = 1 << 19,
    CHEROKEE = 1 << 20,
    KANA = 1 << 21,
    HAN = 1 << 22,
    OTHERS = 1 << 23, /* Lao, Tibetan, Khmer, Mongolian and what no voice writes */
    PRIVATE = 1 << 24,
};

/* Blocks of letters, in order. What lies between them (Latin, marks, symbols) is everybody's. */
static const struct {
    uint32_t first, last, alphabet;
} blocks[] = {
    {0x0370, 0x03ff, GREEK},      {0x0400, 0x052f, CYRILLIC},   {0x0530, 0x058f, ARMENIAN},
    {0x0590, 0x05ff, HEBREW},     {0x0600, 0x06ff, ARABIC},     {0x0700, 0x074f, OTHERS},
    {0x0750, 0x077f, ARABIC},     {0x0780, 0x089f, OTHERS},     {0x08a0, 0x08ff, ARABIC},
    {0x0900, 0x097f, DEVANAGARI}, {0x0980, 0x09ff, BENGALI},    {0x0a00, 0x0a7f, GURMUKHI},
    {0x0a80, 0x0aff, GUJARATI},   {0x0b00, 0x0b7f, ORIYA},      {0x0b80, 0x0bff, TAMIL},
    {0x0c00, 0x0c7f, TELUGU},     {0x0c80, 0x0cff, KANNADA},    {0x0d00, 0x0d7f, MALAYALAM},
    {0x0d80, 0x0dff, SINHALA},    {0x0e00, 0x0e7f, THAI},       {0x0e80, 0x0fff, OTHERS},
    {0x1000, 0x109f, MYANMAR},    {0x10a0, 0x10ff, GEORGIAN},   {0x1100, 0x11ff, HANGUL},
    {0x1200, 0x139f, ETHIOPIC},   {0x13a0, 0x13ff, CHEROKEE},   {0x1400, 0x1cff, OTHERS},
    {0x1f00, 0x1fff, GREEK},      {0x2800, 0x28ff, OTHERS},     {0x2c00, 0x2c5f, OTHERS},
    {0x2c80, 0x2d7f, OTHERS},     {0x2d80, 0x2ddf, ETHIOPIC},   {0x2de0, 0x2dff, CYRILLIC},
    {0x2e80, 0x2fff, HAN},        {0x3005, 0x3007, HAN},        {0x3040, 0x30ff, KANA},
    {0x3100, 0x312f, HAN},        {0x3130, 0x318f, HANGUL},     {0x31a0, 0x31ef, HAN},
    {0x31f0, 0x31ff, KANA},       {0x3200, 0x33ff, HAN},        {0x3400, 0x9fff, HAN},
    {0xa000, 0xa63f, OTHERS},     {0xa640, 0xa69f, CYRILLIC},   {0xa6a0, 0xa6ff, OTHERS},
    {0xa800, 0xa8df, OTHERS},     {0xa8e0, 0xa8ff, DEVANAGARI}, {0xa900, 0xa95f, OTHERS},
    {0xa960, 0xa97f, HANGUL},     {0xa980, 0xa9df, OTHERS},     {0xa9e0, 0xa9ff, MYANMAR},
    {0xaa00, 0xaa5f, OTHERS},     {0xaa60, 0xaa7f, MYANMAR},    {0xaa80, 0xab2f, OTHERS},
    {0xab70, 0xabbf, CHEROKEE},   {0xabc0, 0xabff, OTHERS},     {0xac00, 0xd7ff, HANGUL},
    {0xe000, 0xf8ff, PRIVATE},    {0xf900, 0xfaff, HAN},        {0xfb13, 0xfb17, ARMENIAN},
    {0xfb1d, 0xfb4f, HEBREW},     {0xfb50, 0xfdff, ARABIC},     {0xfe70, 0xfefc, ARABIC},
    {0xff66, 0xff9f, KANA},       {0xffa0, 0xffdc, HANGUL},     {0x10000, 0x1bfff, OTHERS},
    {0x1e000, 0x1efff, OTHERS},   {0x20000, 0x3ffff, HAN},      {0xf0000, 0x10ffff, PRIVATE},
};

/* What voices write besides Latin, by the first part of their names. */
static const struct {
    const char *voice;
    uint32_t alphabets;
} writing[] = {
    {"am", ETHIOPIC},   {"ar", ARABIC},     {"as", BENGALI},     {"ba", CYRILLIC},
    {"be", CYRILLIC},   {"bg", CYRILLIC},   {"bn", BENGALI},     {"bpy", BENGALI},
    {"chr", CHEROKEE},  {"cmn", HAN},       {"cv", CYRILLIC},    {"el", GREEK},
    {"en", GREEK},      {"fa", ARABIC},     {"grc", GREEK},      {"gu", GUJARATI},
    {"hak", HAN},       {"he", HEBREW},     {"hi", DEVANAGARI},  {"hy", ARMENIAN},
    {"hyw", ARMENIAN},  {"ja", KANA | HAN}, {"ka", GEORGIAN},    {"kk", CYRILLIC},
    {"kn", KANNADA},    {"ko", HANGUL},     {"kok", DEVANAGARI}, {"ky", CYRILLIC},
    {"mk", CYRILLIC},   {"ml", MALAYALAM},  {"mr", DEVANAGARI},  {"my", MYANMAR},
    {"ne", DEVANAGARI}, {"nog", CYRILLIC},  {"or", ORIYA},       {"pa", GURMUKHI},
    {"piqd", PRIVATE},  {"ru", CYRILLIC},   {"sd", ARABIC},      {"shn", MYANMAR},
    {"si", SINHALA},    {"sr", CYRILLIC},   {"ta", TAMIL},       {"te", TELUGU},
    {"th", THAI},       {"ti", ETHIOPIC},   {"tt", CYRILLIC},    {"ug", ARABIC},
    {"uk", CYRILLIC},   {"ur", ARABIC},     {"yue", HAN},        {"zh", HAN},
};

/* 0: of every voice. */
static uint32_t alphabet_of(uint32_t c)
{
    size_t low = 0, high = sizeof(blocks) / sizeof(*blocks);

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (c < blocks[middle].first)
            high = middle;
        else if (c > blocks[middle].last)
            low = middle + 1;
        else
            return blocks[middle].alphabet;
    }
    return 0;
}

static uint32_t alphabets_of(const char *voice)
{
    size_t n = strcspn(voice, "-");

    for (size_t i = 0; i < sizeof(writing) / sizeof(*writing); i++)
        if (strlen(writing[i].voice) == n && !memcmp(writing[i].voice, voice, n))
            return writing[i].alphabets;
    return 0;
}

/* Marks of every alphabet end clauses in every voice. */
static bool passes(uint32_t c, uint32_t alphabets)
{
    uint32_t alphabet = alphabet_of(c);

    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CS:
        return c == '\n';
    case UTF8PROC_CATEGORY_PO:
        return alphabet == 0 || (alphabet & (alphabets | HAN | ARABIC)) != 0;
    default:
        return alphabet == 0 || (alphabet & alphabets) != 0;
    }
}

char *espeak_text_clean(const char *voice, const char *text)
{
    uint32_t alphabets = alphabets_of(voice), c;
    size_t size = strlen(text), at = 0, run = 0, read;
    char *clean = malloc(2 * size + 1), *out = clean;

    while (clean && at < size) {
        read = utf8_decode(text + at, size - at, &c);
        if (c == UTF8_REPLACEMENT || !passes(c, alphabets) || utf8_is_space(c)) {
            *out++ = c == '\n' ? '\n' : ' ';
            run = 0;
        } else {
            if (run++ == ESPEAK_RUN_MAX) {
                *out++ = ' ';
                run = 1;
            }
            memcpy(out, text + at, read);
            out += read;
        }
        at += read;
    }
    if (clean)
        *out = '\0';
    return clean;
}
