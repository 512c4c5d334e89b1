#include "text/sentencepiece.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A vocabulary of 300 pieces, made by tests/translate/golden/make_translate.py. */
#define VOCAB SOURCE_DIR "/tests/translate/golden/tiny/srcvocab.frde.spm"

static struct sentencepiece_model *load(void)
{
    struct sentencepiece_model *model = NULL;

    assert_int_equal(sentencepiece_load(VOCAB, &model), 0);
    return model;
}

static void text_survives_the_way_there_and_back(void **state)
{
    const char *text = "The river rises in the mountains and flows into the ocean.";
    struct sentencepiece_model *model = load();
    uint32_t *ids = NULL;
    size_t n = 0;
    char *back = NULL;

    (void)state;
    assert_int_equal(sentencepiece_eos(model), 0);
    assert_int_equal(sentencepiece_unk(model), 1);
    assert_int_equal(sentencepiece_encode(model, text, strlen(text), &ids, &n), 0);
    assert_in_range(n, 10, strlen(text) + 1);
    for (size_t i = 0; i < n; i++)
        assert_true(ids[i] > 1 && ids[i] < sentencepiece_size(model));
    assert_int_equal(sentencepiece_decode(model, ids, n, &back), 0);
    assert_string_equal(back, text);
    free(back);
    free(ids);
    sentencepiece_destroy(&model);
    assert_null(model);
}

static void hostile_input_is_refused(void **state)
{
    struct sentencepiece_model *model = load();
    uint32_t *ids = NULL, far = 1000000;
    char *text = NULL;
    size_t n = 1;

    (void)state;
    assert_int_equal(sentencepiece_encode(model, "\xFF", 1, &ids, &n), -EILSEQ);
    assert_int_equal(sentencepiece_encode(model, "", 0, &ids, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(sentencepiece_encode(model, "a\0b", 3, &ids, &n), 0); /* NUL is a character */
    free(ids);
    assert_int_equal(sentencepiece_decode(model, &far, 1, &text), -ERANGE);
    far = UINT32_MAX;
    assert_int_equal(sentencepiece_decode(model, &far, 1, &text), -ERANGE);
    assert_int_equal(sentencepiece_decode(model, NULL, 0, &text), 0);
    assert_string_equal(text, "");
    free(text);
    sentencepiece_destroy(&model);
}

static void files_that_are_no_model_are_refused(void **state)
{
    struct sentencepiece_model *model = NULL;

    (void)state;
    assert_int_equal(sentencepiece_load("/nowhere/at.all", &model), -ENOENT);
    assert_int_equal(sentencepiece_load(SOURCE_DIR "/README.md", &model), -EBADMSG);
    assert_null(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_survives_the_way_there_and_back),
        cmocka_unit_test(hostile_input_is_refused),
        cmocka_unit_test(files_that_are_no_model_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
