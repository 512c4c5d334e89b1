/* The real models against the reference of golden/make_translate.py. */
#include "tests/translate/lines.h"

#include <stdio.h>
#include <unistd.h>

struct direction {
    const char *model, *source;
    const char *pair;
};

static const struct direction directions[] = {
    {"marian-en-pt", GOLDEN_DIR "/sentences.en.txt", "enpt"},
    {"marian-pt-en", GOLDEN_DIR "/enpt.int8.txt", "pten"},
};

#define N_DIRECTIONS (sizeof(directions) / sizeof(directions[0]))

/* Every line, to the letter: both add floats in the order of translate/marian/exact.h. */
static void assert_like_reference(struct translate_model *model, const struct direction *direction,
                                  const char *kind, int beam_size)
{
    char path[4096];
    struct lines source = lines_read(direction->source), want;
    struct translate_result *results;
    size_t equal = 0;

    snprintf(path, sizeof(path), GOLDEN_DIR "/%s.%s.txt", direction->pair, kind);
    want = lines_read(path);
    assert_true(want.n <= source.n);
    results = calloc(want.n, sizeof(*results));
    translate_some(model, &source, 0, want.n, beam_size, results);
    for (size_t i = 0; i < want.n; i++) {
        if (strcmp(results[i].text, want.list[i]) == 0)
            equal++;
        else
            print_message("%s %s %zu: '%s', not '%s'\n", direction->pair, kind, i + 1,
                          results[i].text, want.list[i]);
        assert_true(results[i].log_prob < 0);
    }
    if (equal < want.n)
        fail_msg("%s %s: only %zu of %zu lines are the reference's", direction->pair, kind, equal,
                 want.n);
    free_results(results, want.n);
    free(source.text);
    free(want.text);
}

static void shortlist_greedy_is_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_DIRECTIONS; i++) {
        struct translate_model *model = load(golden_model(directions[i].model), 0, "int8");

        assert_like_reference(model, &directions[i], "shortlist", 1);
        unload(&model);
    }
}

static void beam_of_four_is_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_DIRECTIONS; i++) {
        struct translate_model *model = load(golden_model(directions[i].model), 0, "int8");

        assert_like_reference(model, &directions[i], "beam4", 4);
        unload(&model);
    }
}

/* A folder with links to the model's files but the shortlist. */
static void link_without_shortlist(const char *model, const char *pair, const char *folder)
{
    const char *const files[] = {"model.%s.intgemm.alphas.bin", "vocab.%s.spm"};

    for (size_t i = 0; i < 2; i++) {
        char name[128], from[4352], to[4352];

        snprintf(name, sizeof(name), i ? "vocab.%s.spm" : files[0], pair);
        snprintf(from, sizeof(from), "%s/%s", golden_model(model), name);
        snprintf(to, sizeof(to), "%s/%s", folder, name);
        assert_int_equal(symlink(from, to), 0);
    }
}

static void all_words_greedy_is_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_DIRECTIONS; i++) {
        char folder[] = "/tmp/dragoman-test-XXXXXX", command[64];
        struct translate_model *model;

        assert_non_null(mkdtemp(folder));
        link_without_shortlist(directions[i].model, directions[i].pair, folder);
        model = load(folder, 0, "int8");
        assert_like_reference(model, &directions[i], "int8", 1);
        unload(&model);
        snprintf(command, sizeof(command), "rm -r %s", folder);
        assert_int_equal(system(command), 0);
    }
}

/* Alone, all together, or in any grouping, on one thread or two: the same bytes. */
static void batches_do_not_change_translations(void **state)
{
    struct translate_model *one = load(golden_model("marian-en-pt"), 1, "int8");
    struct translate_model *two = load(golden_model("marian-en-pt"), 2, "int8");
    struct lines source = lines_read(GOLDEN_DIR "/sentences.en.txt");

    (void)state;
    for (int beam = 1; beam <= 3; beam += 2) {
        size_t n = beam == 1 ? source.n : 30;
        struct translate_result *together = calloc(n, sizeof(*together));

        translate_some(two, &source, 0, n, beam, together);
        for (size_t group = 1; group <= 7; group += 3)
            for (size_t at = 0; at + group <= n; at += group) {
                struct translate_result some[7];

                translate_some(one, &source, at, group, beam, some);
                for (size_t i = 0; i < group; i++) {
                    assert_string_equal(some[i].text, together[at + i].text);
                    assert_memory_equal(&some[i].log_prob, &together[at + i].log_prob,
                                        sizeof(float));
                    translate_result_fini(&some[i]);
                }
            }
        free_results(together, n);
    }
    free(source.text);
    unload(&one);
    unload(&two);
}

/* A thousand words without a full stop: parts of what the model takes, nothing lost at the seams. */
static void long_sentence_is_translated_in_parts(void **state)
{
    struct translate_model *model = load(golden_model("marian-en-pt"), 0, "int8");
    const char *clause = "the river rises in the mountains and flows into the ocean";
    size_t n = 80, size = strlen(clause) + 2;
    char *text = calloc(n, size + 1);
    const char *list[1] = {text};
    struct translate_result result;
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < n; i++)
        sprintf(text + strlen(text), "%s%s", clause, i + 1 < n ? ", " : "");
    assert_int_equal(translate_engine_find("marian")->translate(model, list, 1, NULL, &result), 0);
    for (const char *at = result.text; (at = strstr(at, "oceano")); at++)
        seen++;
    assert_in_range(seen, n * 9 / 10, n);
    translate_result_fini(&result);
    free(text);
    unload(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shortlist_greedy_is_the_reference),
        cmocka_unit_test(beam_of_four_is_the_reference),
        cmocka_unit_test(all_words_greedy_is_the_reference),
        cmocka_unit_test(batches_do_not_change_translations),
        cmocka_unit_test(long_sentence_is_translated_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
