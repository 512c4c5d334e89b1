/* golden/bpe.json: texts and their tokens by Hugging Face's tokenizers (golden/make_parts.py). */
#include "asr/whisper/bpe.h"
#include "asr/whisper/vocab.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const names[] = {"whisper-tiny.en", "whisper-base"};
static const size_t n_tokens[] = {51864, 51865};

struct fixture {
    json_t *golden;
    struct vocab vocab[2];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char error[512] = "";

    fixture->golden = json_load_file(GOLDEN_DIR "/bpe.json", 0, NULL);
    assert_non_null(fixture->golden);
    for (size_t i = 0; i < 2; i++)
        if (vocab_load(golden_model(names[i]), n_tokens[i], error, sizeof(error),
                       &fixture->vocab[i]) < 0)
            fail_msg("%s", error);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    json_decref(fixture->golden);
    vocab_free(&fixture->vocab[0]);
    vocab_free(&fixture->vocab[1]);
    free(fixture);
    return 0;
}

static void same_tokens(const struct bpe *bpe, const char *text, json_t *want)
{
    uint32_t *ids = NULL;
    size_t n = 0;

    assert_int_equal(bpe_encode(bpe, text, strlen(text), &ids, &n), 0);
    for (size_t i = 0; i < n && i < json_array_size(want); i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("'%s': token %zu is %u, not %lld", text, i, ids[i],
                     (long long)json_integer_value(json_array_get(want, i)));
    assert_int_equal(n, json_array_size(want));
    free(ids);
}

static void encodes_as_the_reference(void **state)
{
    const struct fixture *fixture = *state;

    for (size_t m = 0; m < 2; m++) {
        json_t *list = json_object_get(json_object_get(fixture->golden, names[m]), "encoded");
        json_t *pair;
        size_t i;

        assert_true(json_array_size(list) > 20);
        json_array_foreach(list, i, pair)
            same_tokens(fixture->vocab[m].bpe, json_string_value(json_array_get(pair, 0)),
                        json_array_get(pair, 1));
    }
}

static void decode_to(const struct bpe *bpe, const uint32_t *ids, size_t n, const char *want)
{
    struct buffer text;

    buffer_init(&text, 1 << 20);
    assert_int_equal(bpe_decode(bpe, ids, n, &text), 0);
    assert_int_equal(buffer_append(&text, "", 1), 0);
    assert_string_equal((char *)text.data, want);
    buffer_fini(&text);
}

static void decodes_as_the_reference(void **state)
{
    const struct fixture *fixture = *state;

    for (size_t m = 0; m < 2; m++) {
        json_t *list = json_object_get(json_object_get(fixture->golden, names[m]), "decoded");
        json_t *pair;
        size_t i;

        json_array_foreach(list, i, pair)
        {
            json_t *tokens = json_array_get(pair, 0);
            uint32_t ids[16];

            for (size_t t = 0; t < json_array_size(tokens); t++)
                ids[t] = (uint32_t)json_integer_value(json_array_get(tokens, t));
            decode_to(fixture->vocab[m].bpe, ids, json_array_size(tokens),
                      json_string_value(json_array_get(pair, 1)));
        }
    }
}

/* Whatever is encoded comes back. */
static void text_survives(void **state)
{
    const struct fixture *fixture = *state;
    json_t *list = json_object_get(json_object_get(fixture->golden, names[1]), "encoded");
    json_t *pair;
    size_t i;

    json_array_foreach(list, i, pair)
    {
        const char *text = json_string_value(json_array_get(pair, 0));
        uint32_t *ids = NULL;
        size_t n = 0;

        assert_int_equal(bpe_encode(fixture->vocab[1].bpe, text, strlen(text), &ids, &n), 0);
        decode_to(fixture->vocab[1].bpe, ids, n, text);
        free(ids);
    }
}

static bool is_in(uint32_t id, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void suppresses_as_the_reference(void **state)
{
    const struct fixture *fixture = *state;

    for (size_t m = 0; m < 2; m++) {
        json_t *want = json_object_get(json_object_get(fixture->golden, names[m]), "suppressed");
        const struct vocab *vocab = &fixture->vocab[m];
        json_t *id;
        size_t i;

        assert_int_equal(vocab->n_suppress, json_array_size(want));
        json_array_foreach(want, i, id) assert_true(
            is_in((uint32_t)json_integer_value(id), vocab->suppress, vocab->n_suppress));
    }
}

static void knows_its_languages(void **state)
{
    const struct fixture *fixture = *state;

    assert_false(fixture->vocab[0].multilingual);
    assert_int_equal(fixture->vocab[0].n_languages, 1);
    assert_null(vocab_language(&fixture->vocab[0], "es"));
    assert_true(fixture->vocab[1].multilingual);
    assert_int_equal(fixture->vocab[1].n_languages, 99);
    assert_int_equal(vocab_language(&fixture->vocab[1], "es")->id, 50262);
    assert_int_equal(vocab_language(&fixture->vocab[1], "haw")->id, 50352);
    assert_null(vocab_language(&fixture->vocab[1], "xx"));
    assert_string_equal(fixture->vocab[1].codes[0], "en");
    assert_null(fixture->vocab[1].codes[99]);
}

/* Special tokens cannot be smuggled in by a prompt's text. */
static void names_of_special_tokens_are_text(void **state)
{
    const struct fixture *fixture = *state;
    const char *text = "<|endoftext|><|startoftranscript|><|es|>";
    uint32_t *ids = NULL;
    size_t n = 0;

    assert_int_equal(vocab_encode_prompt(&fixture->vocab[1], text, &ids, &n), 0);
    assert_true(n > 10);
    for (size_t i = 0; i < n; i++)
        assert_true(ids[i] < fixture->vocab[1].eot);
    free(ids);
}

static void refuses(const char *json, int want)
{
    char error[256] = "";
    struct bpe *bpe = NULL;
    int err = bpe_parse(json, strlen(json), error, sizeof(error), &bpe);

    if (err != want || !error[0] || bpe)
        fail_msg("%s: %d ('%s'), not %d", json, err, error, want);
}

static void damaged_files_are_refused(void **state)
{
    char error[256] = "";
    struct bpe *bpe = NULL;

    (void)state;
    refuses("", -EBADMSG);
    refuses("{", -EBADMSG);
    refuses("[]", -EBADMSG);
    refuses("{\"model\": {\"type\": \"WordPiece\"}}", -ENOTSUP);
    refuses("{\"model\": {\"vocab\": {}, \"merges\": []}}", -EBADMSG);
    refuses("{\"model\": {\"vocab\": {}, \"merges\": []}, \"added_tokens\": []}", -ENOTSUP);
    refuses("{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}, \"added_tokens\": []}",
            -EBADMSG);
    refuses("{\"model\": {\"vocab\": {\"a\": \"b\"}, \"merges\": []}, \"added_tokens\": []}",
            -EBADMSG);
    refuses("{\"model\": {\"vocab\": {\"a\": 99999999999}, \"merges\": []}, \"added_tokens\": []}",
            -EBADMSG);
    refuses("{\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}, \"added_tokens\": []}",
            -EBADMSG);
    refuses("{\"model\": {\"vocab\": {}, \"merges\": []}, \"added_tokens\": [{\"id\": 3}]}",
            -EBADMSG);
    assert_int_equal(bpe_load("/nowhere/tokenizer.json", error, sizeof(error), &bpe), -ENOENT);
    assert_non_null(strstr(error, "/nowhere/tokenizer.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_as_the_reference),
        cmocka_unit_test(decodes_as_the_reference),
        cmocka_unit_test(text_survives),
        cmocka_unit_test(suppresses_as_the_reference),
        cmocka_unit_test(knows_its_languages),
        cmocka_unit_test(names_of_special_tokens_are_text),
        cmocka_unit_test(damaged_files_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
