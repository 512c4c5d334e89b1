/* A random model of other depths and widths, with two vocabularies and no shortlist: what the engine
 * does, on a model that is always there. */
#include "tests/translate/lines.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define TINY GOLDEN_DIR "/tiny"

static const struct translate_engine *engine(void)
{
    return translate_engine_find("marian");
}

static void assert_lines(const char *want_path, int beam_size, const char *type)
{
    struct translate_model *model = load(TINY, 1, type);
    struct lines source = lines_read(TINY "/sentences.txt"), want = lines_read(want_path);
    struct translate_result *results = calloc(source.n, sizeof(*results));

    assert_int_equal(source.n, want.n);
    translate_some(model, &source, 0, source.n, beam_size, results);
    for (size_t i = 0; i < source.n; i++)
        assert_string_equal(results[i].text, want.list[i]);
    free_results(results, source.n);
    free(source.text);
    free(want.text);
    unload(&model);
}

static void greedy_and_beam_are_the_reference(void **state)
{
    (void)state;
    assert_lines(TINY "/greedy.txt", 1, "int8");
    assert_lines(TINY "/beam3.txt", 3, "int8");
}

static void names_tell_the_languages(void **state)
{
    struct translate_model *model = load(TINY, 1, NULL);

    (void)state;
    assert_string_equal(engine()->source(model), "fr");
    assert_string_equal(engine()->target(model), "de");
    unload(&model);
}

/* Settings beside the model that no search could follow are not followed. */
static void odd_settings_do_no_harm(void **state)
{
    static const char *const settings[] = {"beam-size: 1000\nmax-length-factor: 1e9\n",
                                           "beam-size: -5\nmax-length-factor: nan\n",
                                           "beam-size: 0\nnormalize: 0\n", ""};
    const char *const sentence[] = {"The river rises."};

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        char folder[] = "/tmp/dragoman-test-XXXXXX", command[512], path[64];
        struct translate_model *model;
        struct translate_result result;
        FILE *file;

        assert_non_null(mkdtemp(folder));
        snprintf(command, sizeof(command), "ln -s " TINY "/*.spm " TINY "/*.bin %s", folder);
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof(path), "%s/config.yml", folder);
        file = fopen(path, "w");
        assert_true(file && fputs(settings[i], file) >= 0);
        fclose(file);
        model = load(folder, 1, "int8");
        assert_int_equal(engine()->translate(model, sentence, 1, NULL, &result), 0);
        assert_true(strlen(result.text) < 2000);
        translate_result_fini(&result);
        unload(&model);
        snprintf(command, sizeof(command), "rm -r %s", folder);
        assert_int_equal(system(command), 0);
    }
}

static void nothing_becomes_nothing(void **state)
{
    const char *const blanks[] = {"", " ", "\n\t", "\u00a0"};
    struct translate_model *model = load(TINY, 1, "int8");
    struct translate_result results[4];

    (void)state;
    assert_int_equal(engine()->translate(model, blanks, 4, NULL, results), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(results[i].text, "");
        assert_true(results[i].log_prob == 0);
        translate_result_fini(&results[i]);
    }
    assert_int_equal(engine()->translate(model, blanks, 0, NULL, results), 0);
    unload(&model);
}

static void alternatives_differ_and_come_in_order(void **state)
{
    struct translate_model *model = load(TINY, 1, "int8");
    struct lines source = lines_read(TINY "/sentences.txt");
    struct translate_settings settings = {.alternatives = 3};
    struct translate_result results[4], best;

    (void)state;
    assert_int_equal(engine()->translate(model, source.list, 4, &settings, results), 0);
    translate_some(model, &source, 0, 1, 4, &best); /* the beam that they need */
    assert_string_equal(results[0].text, best.text);
    translate_result_fini(&best);
    for (size_t i = 0; i < 4; i++) {
        assert_in_range(results[i].n_alternatives, 1, 3);
        for (size_t j = 0; j < results[i].n_alternatives; j++) {
            assert_string_not_equal(results[i].text, results[i].alternatives[j]);
            for (size_t k = 0; k < j; k++)
                assert_string_not_equal(results[i].alternatives[k], results[i].alternatives[j]);
        }
        translate_result_fini(&results[i]);
    }
    free(source.text);
    unload(&model);
}

static void bad_text_is_refused(void **state)
{
    const char *const texts[] = {"fine", "\xC3\x28"};
    struct translate_model *model = load(TINY, 1, "int8");
    struct translate_result results[2];

    (void)state;
    assert_int_equal(engine()->translate(model, texts, 2, NULL, results), -EILSEQ);
    unload(&model);
}

static void *cancel_soon(void *arg)
{
    usleep(20000);
    __atomic_store_n((volatile int *)arg, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void cancelled_work_stops(void **state)
{
    struct translate_model *model = load(TINY, 1, "int8");
    size_t size = 1 << 17;
    char *text = malloc(size);
    const char *list[1] = {text};
    volatile int cancel = 1;
    struct translate_settings settings = {.beam_size = 8, .cancel = &cancel};
    struct translate_result result;
    pthread_t thread;

    (void)state;
    for (size_t i = 0; i + 1 < size; i++)
        text[i] = i % 6 == 5 ? ' ' : (char)('a' + i % 23);
    text[size - 1] = '\0';
    assert_int_equal(engine()->translate(model, list, 1, &settings, &result), -ECANCELED);
    cancel = 0;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, (void *)(uintptr_t)&cancel), 0);
    assert_int_equal(engine()->translate(model, list, 1, &settings, &result), -ECANCELED);
    pthread_join(thread, NULL);
    free(text);
    unload(&model);
}

struct caller {
    struct translate_model *model;
    const struct lines *source;
    const struct translate_result *want;
};

static void *call_many_times(void *arg)
{
    const struct caller *caller = arg;
    size_t bad = 0;

    for (int round = 0; round < 5; round++) {
        struct translate_result *got = calloc(caller->source->n, sizeof(*got));

        if (engine()->translate(caller->model, caller->source->list, caller->source->n, NULL,
                                got) != 0)
            return "failed";
        for (size_t i = 0; i < caller->source->n; i++)
            bad += strcmp(got[i].text, caller->want[i].text) != 0;
        free_results(got, caller->source->n);
    }
    return bad ? "differs" : NULL;
}

static void several_threads_may_call(void **state)
{
    struct translate_model *model = load(TINY, 2, "int8");
    struct lines source = lines_read(TINY "/sentences.txt");
    struct translate_result *want = calloc(source.n, sizeof(*want));
    struct caller caller = {model, &source, want};
    pthread_t threads[4];

    (void)state;
    translate_some(model, &source, 0, source.n, 2, want); /* what a call gets that asks for none */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many_times, &caller), 0);
    for (size_t i = 0; i < 4; i++) {
        void *complaint = NULL;

        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    free_results(want, source.n);
    free(source.text);
    unload(&model);
}

struct bulk {
    struct translate_model *model;
    const struct lines *source;
    volatile int cancel, ended;
    int result;
};

/* Some thousand sentences in one call. */
static void *translate_bulk(void *arg)
{
    struct bulk *bulk = arg;
    size_t n = 20000;
    const char **list = calloc(n, sizeof(*list));
    struct translate_result *results = calloc(n, sizeof(*results));
    struct translate_settings settings = {.beam_size = 2, .cancel = &bulk->cancel};

    for (size_t i = 0; i < n; i++)
        list[i] = bulk->source->list[i % bulk->source->n];
    bulk->result = engine()->translate(bulk->model, list, n, &settings, results);
    __atomic_store_n(&bulk->ended, 1, __ATOMIC_RELAXED);
    free_results(results, n);
    free(list);
    return NULL;
}

/* One caller with much to do and others with little, who search otherwise: they take turns, and giving
 * up the large one ends it at once. */
static void long_calls_do_not_hold_up_short_ones(void **state)
{
    struct translate_model *model = load(TINY, 1, "int8");
    struct lines source = lines_read(TINY "/sentences.txt"), want = lines_read(TINY "/greedy.txt");
    struct bulk bulk = {.model = model, .source = &source};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, translate_bulk, &bulk), 0);
    usleep(50000);
    for (size_t i = 0; i < 5; i++) {
        struct translate_result result;

        translate_some(model, &source, i, 1, 1, &result);
        assert_string_equal(result.text, want.list[i]);
        translate_result_fini(&result);
        assert_false(__atomic_load_n(&bulk.ended, __ATOMIC_RELAXED));
    }
    __atomic_store_n(&bulk.cancel, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_int_equal(bulk.result, -ECANCELED);
    free(source.text);
    free(want.text);
    unload(&model); /* while its last round may still run */
}

static void what_is_wrong_with_a_folder_is_said(void **state)
{
    struct translate_model *model = NULL;
    char error[512], folder[] = "/tmp/dragoman-test-XXXXXX", path[64], command[64];
    FILE *file;

    (void)state;
    assert_int_equal(engine()->load("/nowhere", 1, "int8", error, sizeof(error), &model), -ENOENT);
    assert_non_null(strstr(error, "/nowhere"));
    assert_int_equal(engine()->load(TINY, 1, "int4", error, sizeof(error), &model), -ENOTSUP);
    assert_non_null(strstr(error, "int4"));
    assert_non_null(mkdtemp(folder));
    assert_int_equal(engine()->load(folder, 1, "int8", error, sizeof(error), &model), -ENOENT);
    assert_non_null(strstr(error, "no model.*.bin"));
    snprintf(path, sizeof(path), "%s/model.enpt.bin", folder);
    file = fopen(path, "w");
    assert_true(file && fputs("not a model at all, but some bytes", file) >= 0);
    fclose(file);
    assert_int_equal(engine()->load(folder, 1, "int8", error, sizeof(error), &model), -ENOENT);
    assert_non_null(strstr(error, "vocab"));
    snprintf(path, sizeof(path), "%s/vocab.enpt.spm", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(engine()->load(folder, 1, "int8", error, sizeof(error), &model), -ENOTSUP);
    assert_non_null(strstr(error, "model.enpt.bin"));
    assert_null(model);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_and_beam_are_the_reference),
        cmocka_unit_test(names_tell_the_languages),
        cmocka_unit_test(odd_settings_do_no_harm),
        cmocka_unit_test(nothing_becomes_nothing),
        cmocka_unit_test(alternatives_differ_and_come_in_order),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(cancelled_work_stops),
        cmocka_unit_test(several_threads_may_call),
        cmocka_unit_test(long_calls_do_not_hold_up_short_ones),
        cmocka_unit_test(what_is_wrong_with_a_folder_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
