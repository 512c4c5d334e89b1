#include "tts/vits/phonemes.h"

#include "base/buffer.h"
#include "text/utf8.h"
#include "tts/espeak/process.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uchar.h>
#include <utf8proc.h>

/*
 * What ends a clause for espeak-ng, by the mark that voices were trained with. Marks that may stand
 * without a space after them ("…", "。") end clauses too, but leave no mark: so it was in training.
 */
static const struct {
    char mark;
    bool sentence;
    const char32_t *characters;
} terminators[] = {
    {',', false,
     U",\u055d\u060c\u0702\u07f8\u0f14\u1363\u1802\u1808\u2e32\u2e34\u2e41\ufe10\ufe11"
     U"\ufe50\ufe51\uff64"},
    {'.', true,
     U".\u06d4\u0701\u0704\u1362\u166e\u1803\u1809\u2cf9\u2cfe\u2e33\u2e3c\ufe12\ufe52"
     U"\uff61"},
    {'?', true, U"?\u037e\u061f\u0709\u1367\u1945\u2047\u2753\u2754\u2cfa\u2cfb\ufe16\ufe56"},
    {'!', true, U"!\u0703\u07f9\u1944\u203c\u2755\u2757\u2762\u2763\ufe15\ufe57"},
    {':', false, U":\u0706\u0707\u1365\u1366\u1804\u2982\ufe13\ufe55"},
    {';', false,
     U";\u0387\u061b\u0708\u1364\u2013\u2014\u204f\u2e35\u2e3a\u2e3b\ufe14\ufe31\ufe32"
     U"\ufe54"},
    {'\0', true,
     U"\u0589\u0700\u0964\u0965\u0df4\u0f0d\u0f0e\u10fb\u1368\u2029\u3002\uff01\uff0e"
     U"\uff1f"},
    {'\0', false,
     U"\u00a1\u00bf\u1801\u2026\u22ee\u22ef\u22f0\u22f1\u3001\ufe19\uff0c\uff1a"
     U"\uff1b"},
};

/* @return the row of `terminators`; -1 */
static int terminator_of(uint32_t c)
{
    for (size_t i = 0; i < sizeof(terminators) / sizeof(*terminators); i++)
        for (const char32_t *t = terminators[i].characters; *t; t++)
            if (*t == c)
                return (int)i;
    return -1;
}

/* What may stand between the mark and the next clause. */
static bool closes(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
        return true;
    default:
        return c == '"' || c == '\'' || c == '`' || utf8_is_space(c);
    }
}

/* The character before `at`. */
static uint32_t character_before(const char *text, size_t *at)
{
    uint32_t c = 0;
    size_t from = utf8_previous(text, *at);

    utf8_decode(text + from, *at - from, &c);
    *at = from;
    return c;
}

/* Whether the last character is of the next clause: neither a mark that ends this one, nor what closes
 * behind it. A mark after a space begins something: ".py". */
static bool reaches_into_next(const char *text, size_t size)
{
    size_t at = size;
    uint32_t c = size ? character_before(text, &at) : ' ';

    if (closes(c))
        return false;
    return terminator_of(c) < 0 || (at && utf8_is_space(character_before(text, &at)));
}

int vits_clause_end(const char *text, size_t size, int more, char *mark)
{
    size_t at = size, next = size, dots = 0;
    int found = -1, row = 0;
    uint32_t c = 0;

    *mark = '\0';
    if (more && reaches_into_next(text, size))
        character_before(text, &at);
    for (next = at; next && closes(character_before(text, &next)); at = next)
        ;
    /* Of several marks the first counts; three full stops are an ellipsis. */
    while (at && row >= 0) {
        c = character_before(text, &at);
        row = terminator_of(c);
        if (row >= 0)
            found = row;
        dots += row >= 0 && c == '.';
    }
    if (found < 0)
        return true;
    if (terminators[found].mark == '.' && dots >= 3)
        return false;
    *mark = terminators[found].mark;
    return terminators[found].sentence;
}

/* Where Debian's espeak-ng 1.51 writes a sound otherwise than the one that voices were trained with. */
static const struct {
    const char *voice, *from, *to;
} respelled[] = {
    {"en", "oːɹ", "ɔːɹ"}, /* "four", "port" */
};

/* @return bytes read; *size of what to write instead at *text */
static size_t respell(const char *voice, const char *ipa, const char **text, size_t *size)
{
    for (size_t i = 0; i < sizeof(respelled) / sizeof(*respelled); i++) {
        size_t n = strlen(respelled[i].from);

        if (strncmp(voice, respelled[i].voice, strlen(respelled[i].voice)) != 0 ||
            strncmp(ipa, respelled[i].from, n) != 0)
            continue;
        *text = respelled[i].to;
        *size = strlen(*text);
        return n;
    }
    *text = ipa;
    *size = 1;
    return 1;
}

/* IPA without "(en)", "(pt)": where espeak-ng switches languages. */
static int append_ipa(struct buffer *out, const char *voice, const char *ipa)
{
    const char *text;
    size_t size;

    while (*ipa) {
        const char *close = *ipa == '(' ? strchr(ipa, ')') : NULL;

        if (close && close > ipa + 1) {
            ipa = close + 1;
            continue;
        }
        ipa += respell(voice, ipa, &text, &size);
        if (buffer_append(out, text, size) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int append_mark(struct buffer *out, char mark)
{
    const char text[2] = {mark, ' '};

    if (!mark)
        return 0;
    return buffer_append(out, text, strchr(",:;", mark) ? 2 : 1);
}

/* One clause of the text. @return whether it ends a sentence; -ENOMEM */
static int read_clause(const char *voice, const char **text, const char *end, struct buffer *out)
{
    const void *next = *text;
    const char *ipa = espeak_TextToPhonemes(&next, espeakCHARS_UTF8, espeakPHONEMES_IPA);
    const char *stop = next ? next : end;
    char mark;
    int ends;

    /* The library may look past the end by its own terminator. */
    stop = stop > end ? end : stop;
    ends = vits_clause_end(*text, (size_t)(stop - *text), next != NULL, &mark);
    *text = next;
    if (!ipa || !*ipa)
        return ends;
    if (append_ipa(out, voice, ipa) < 0 || append_mark(out, mark) < 0)
        return -ENOMEM;
    return ends;
}

/* Close the sentence that began at `since`, if there is any of it. */
static int end_sentence(struct buffer *out, size_t *since)
{
    int err = out->size > *since ? buffer_append(out, "", 1) : 0;

    *since = out->size;
    return err;
}

/* In the child: sentences, a NUL behind each. */
static int read_sentences(const char *voice, const char *text, int unused, struct buffer *out)
{
    const char *end = text + strlen(text);
    size_t since = 0;
    int err = 0, ends;

    (void)unused;
    while (!err && text) {
        ends = read_clause(voice, &text, end, out);
        if (ends < 0)
            err = ends;
        else if (ends)
            err = end_sentence(out, &since);
    }
    return err ? err : end_sentence(out, &since);
}

static int add_sentence(const char *text, char ***sentences, size_t *n)
{
    char *decomposed = (char *)utf8proc_NFD((const utf8proc_uint8_t *)text);
    char **more = decomposed ? realloc(*sentences, (*n + 1) * sizeof(*more)) : NULL;

    if (!more) {
        free(decomposed);
        return -ENOMEM;
    }
    *sentences = more;
    more[(*n)++] = decomposed;
    return 0;
}

int vits_phonemes_of(const char *voice, const char *text, const volatile int *cancel,
                     char ***sentences, size_t *n)
{
    struct buffer all;
    int err;

    *sentences = NULL;
    *n = 0;
    buffer_init(&all, ESPEAK_ANSWER_MAX);
    err = espeak_run(read_sentences, voice, text, 0, cancel, &all);
    for (size_t at = 0; !err && at < all.size; at += strlen((char *)all.data + at) + 1)
        err = add_sentence((const char *)all.data + at, sentences, n);
    buffer_fini(&all);
    if (err < 0)
        vits_phonemes_free(sentences, *n);
    return err;
}

int vits_phonemes_of_text(const char *text, char ***sentences, size_t *n)
{
    *sentences = NULL;
    *n = 0;
    return *text ? add_sentence(text, sentences, n) : 0;
}

void vits_phonemes_free(char ***sentences, size_t n)
{
    for (size_t i = 0; *sentences && i < n; i++)
        free((*sentences)[i]);
    free(*sentences);
    *sentences = NULL;
}
