#include "translate/marian/pieces.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sentencepiece_model *vocab(void)
{
    struct sentencepiece_model *model = NULL;

    assert_int_equal(sentencepiece_load(GOLDEN_DIR "/tiny/srcvocab.frde.spm", &model), 0);
    return model;
}

/* The text of the parts, joined. */
static char *joined(const struct sentencepiece_model *model, const struct parts *parts)
{
    char *all = calloc(1, 1);

    for (size_t i = 0; i < parts->n; i++) {
        char *text = NULL;
        size_t size = strlen(all);

        assert_int_equal(
            sentencepiece_decode(model, parts->list[i].ids, parts->list[i].n - 1, &text), 0);
        all = realloc(all, size + strlen(text) + 2);
        if (size && !parts->list[i].glued)
            all[size++] = ' ';
        strcpy(all + size, text);
        free(text);
    }
    return all;
}

static void long_sentences_are_cut_behind_marks(void **state)
{
    const char *text = "he opened the letter with trembling hands, and the lake was covered by ice "
                       "in the winter; the children are playing in the garden behind the school";
    struct sentencepiece_model *model = vocab();
    struct parts parts = {0};
    char *back;

    (void)state;
    assert_int_equal(parts_add(&parts, model, 0, 50, text, strlen(text), 7), 0);
    assert_in_range(parts.n, 2, 4);
    for (size_t i = 0; i < parts.n; i++) {
        assert_in_range(parts.list[i].n, 2, 51);
        assert_int_equal(parts.list[i].ids[parts.list[i].n - 1], 0); /* </s> */
        assert_int_equal(parts.list[i].sentence, 7);
        assert_false(parts.list[i].glued);
    }
    back = joined(model, &parts);
    assert_string_equal(back, text);
    free(back);
    parts_fini(&parts);
    sentencepiece_destroy(&model);
}

static void text_without_spaces_is_cut_between_characters(void **state)
{
    struct sentencepiece_model *model = vocab();
    struct parts parts = {0};
    char text[2001];
    char *back;

    (void)state;
    memset(text, 'e', 2000);
    text[2000] = '\0';
    assert_int_equal(parts_add(&parts, model, 0, 128, text, 2000, 0), 0);
    assert_true(parts.n > 2);
    for (size_t i = 0; i < parts.n; i++)
        assert_int_equal(parts.list[i].glued, i > 0);
    back = joined(model, &parts);
    assert_string_equal(back, text);
    free(back);
    parts_fini(&parts);
    sentencepiece_destroy(&model);
}

/* Megabytes of anything end, in parts that the model takes. */
static void hostile_texts_end(void **state)
{
    static const char *const fillers[] = {"a", " ", "\xF0\x9F\x98\x80", ", ", "\xCC\x81", "\n"};
    struct sentencepiece_model *model = vocab();
    size_t size = 1 << 17;
    char *text = malloc(size);

    (void)state;
    for (size_t f = 0; f < sizeof(fillers) / sizeof(fillers[0]); f++) {
        size_t n = strlen(fillers[f]), filled = size / n * n;
        struct parts parts = {0};

        for (size_t i = 0; i < filled; i++)
            text[i] = fillers[f][i % n];
        assert_int_equal(parts_add(&parts, model, 0, 128, text, filled, 0), 0);
        for (size_t i = 0; i < parts.n; i++)
            assert_in_range(parts.list[i].n, 2, 129);
        parts_fini(&parts);
    }
    text[size / 2] = (char)0xFF;
    assert_int_equal(parts_add(&(struct parts){0}, model, 0, 128, text, size, 0), -EILSEQ);
    free(text);
    sentencepiece_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_sentences_are_cut_behind_marks),
        cmocka_unit_test(text_without_spaces_is_cut_between_characters),
        cmocka_unit_test(hostile_texts_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
