/* Phonemes against Piper's own: golden/phonemes.json, made by golden/make_tts.py. */
#include "tests/support/golden.h"
#include "tts/vits/phonemes.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Piper bundles a later espeak-ng than Debian's 1.51, with other dictionaries: so many of a hundred
 * bytes may differ, over all sentences. Where clauses end may not differ at all. */
#define DIFFERENT_PER_CENT 2.0

static char *join(const char *const *sentences, size_t n)
{
    size_t size = 1;
    char *joined;

    for (size_t i = 0; i < n; i++)
        size += strlen(sentences[i]) + 1;
    joined = calloc(size, 1);
    for (size_t i = 0; i < n; i++)
        strcat(strcat(joined, sentences[i]), i + 1 < n ? "|" : "");
    return joined;
}

/* Only the marks, and "|" between sentences. */
static void keep_marks(const char *from, char *to)
{
    for (; *from; from++)
        if (strchr(",.?!:;|", *from))
            *to++ = *from;
    *to = '\0';
}

/* Levenshtein's distance, in bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(b), last, kept;
    size_t *row = calloc(n + 1, sizeof(*row));

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        last = row[0]++;
        for (size_t j = 0; j < n; j++) {
            kept = row[j + 1];
            last += a[i] != b[j];
            if (row[j] + 1 < last)
                last = row[j] + 1;
            if (kept + 1 < last)
                last = kept + 1;
            row[j + 1] = last;
            last = kept;
        }
    }
    last = row[n];
    free(row);
    return last;
}

static void check_text(const json_t *entry, size_t *different, size_t *total)
{
    const char *text = json_string_value(json_object_get(entry, "text"));
    const json_t *list = json_object_get(entry, "sentences");
    const char *expected[32];
    char **sentences = NULL, *got, *want, marks[2][256];
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(list); i++)
        expected[i] = json_string_value(json_array_get(list, i));
    assert_int_equal(vits_phonemes_of(json_string_value(json_object_get(entry, "voice")), text,
                                      NULL, &sentences, &n),
                     0);
    got = join((const char *const *)sentences, n);
    want = join(expected, json_array_size(list));
    keep_marks(got, marks[0]);
    keep_marks(want, marks[1]);
    if (strcmp(marks[0], marks[1]) != 0)
        fail_msg("'%s': got %s, want %s", text, got, want);
    *different += distance(got, want);
    *total += strlen(want);
    free(got);
    free(want);
    vits_phonemes_free(&sentences, n);
}

static void clauses_end_as_in_piper(void **state)
{
    char *json = golden_text(GOLDEN_DIR "/phonemes.json", NULL);
    json_t *entries = json_loads(json, 0, NULL), *entry;
    size_t i, different = 0, total = 0;

    (void)state;
    json_array_foreach(entries, i, entry) check_text(entry, &different, &total);
    print_message("%zu of %zu bytes of phonemes differ from Piper's\n", different, total);
    assert_true(total > 500);
    assert_true((double)different * 100 / (double)total < DIFFERENT_PER_CENT);
    json_decref(entries);
    free(json);
}

static void assert_end(const char *text, int more, char want, int ends)
{
    char mark = 'x';
    int got = vits_clause_end(text, strlen(text), more, &mark);

    if (got != ends || mark != want)
        fail_msg("'%s': got '%c', %d; want '%c', %d", text, mark ? mark : '0', got,
                 want ? want : '0', ends);
}

static void ends_of_clauses(void **state)
{
    (void)state;
    assert_end("Hello, w", 1, ',', 0);
    assert_end("orld. H", 1, '.', 1);
    assert_end("quoted.\"", 1, '.', 1);
    assert_end("said: \"", 1, ':', 0);
    assert_end("Really?!", 0, '?', 1);
    assert_end("Wait... w", 1, '\0', 0);
    assert_end("Wait\u2026 w", 1, '\0', 0);
    assert_end("a \u2014 b", 1, ';', 0);
    assert_end("one\n\nT", 1, '\0', 1);
    assert_end("the .rb, .", 1, ',', 0);
    assert_end("no end", 0, '\0', 1);
    assert_end("\u4f60\u597d\u3002\u4e16", 1, '\0', 1);
    assert_end("", 0, '\0', 1);
    assert_end("", 1, '\0', 1);
    assert_end("...", 0, '\0', 0);
    assert_end("\xff\xfe", 1, '\0', 1);
}

static void nothing_to_say_is_no_sentence(void **state)
{
    static const char *const texts[] = {"", " ", "\n", "...", "\"\"", "?!"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        char **sentences = NULL;
        size_t n = 1;

        assert_int_equal(vits_phonemes_of("en-us", texts[i], NULL, &sentences, &n), 0);
        assert_int_equal(n, 0);
        vits_phonemes_free(&sentences, n);
    }
}

static void unknown_voices_are_refused(void **state)
{
    char **sentences = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(vits_phonemes_of("xx-none", "text", NULL, &sentences, &n), -ENOENT);
    assert_null(sentences);
}

/* Words of another language are marked by the library; the marks are no phonemes. */
static void language_switches_leave_no_mark(void **state)
{
    char **sentences = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(
        vits_phonemes_of("de", "Das ist ein Computer von Microsoft.", NULL, &sentences, &n), 0);
    assert_int_equal(n, 1);
    assert_null(strchr(sentences[0], '('));
    vits_phonemes_free(&sentences, n);
}

static void characters_are_decomposed(void **state)
{
    char **sentences = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(vits_phonemes_of_text("\u00e9", &sentences, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(sentences[0], "e\u0301");
    vits_phonemes_free(&sentences, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clauses_end_as_in_piper),
        cmocka_unit_test(ends_of_clauses),
        cmocka_unit_test(nothing_to_say_is_no_sentence),
        cmocka_unit_test(unknown_voices_are_refused),
        cmocka_unit_test(language_switches_leave_no_mark),
        cmocka_unit_test(characters_are_decomposed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
