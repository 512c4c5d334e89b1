/* The engine against faster-whisper in float32, case by case of golden/asr.json (made by
 * golden/make_asr.py): the same tokens, times, texts and decisions. */
#include "asr/engine.h"
#include "tests/asr/speech.h"
#include "tests/support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LONGEST_S 31 /* slow there: only single windows */
#else
#define LONGEST_S 1000
#endif

struct check {
    json_t *want; /* the case */
    size_t n_segments;
};

struct fixture {
    const struct asr_engine *engine;
    struct asr_model *model;
    json_t *cases;
    const char *model_name;
};

static void near(const char *name, const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s: %s is %g, not %g", name, what, got, want);
}

static int check_language(void *arg, const char *code, float probability)
{
    struct check *check = arg;
    const char *name = json_string_value(json_object_get(check->want, "name"));

    assert_string_equal(code, json_string_value(json_object_get(check->want, "language")));
    /* The reference looks at one frame more of the audio than it recognises. */
    near(name, "the language's probability", probability,
         json_number_value(json_object_get(check->want, "language_probability")), 0.02);
    return 0;
}

static void check_tokens(const char *name, json_t *want, const struct asr_segment *got)
{
    json_t *tokens = json_object_get(want, "tokens");

    for (size_t i = 0; i < json_array_size(tokens) && i < got->n_tokens; i++)
        if (got->tokens[i] != json_integer_value(json_array_get(tokens, i)))
            fail_msg("%s: token %zu is %u, not %lld, in '%s'", name, i, got->tokens[i],
                     (long long)json_integer_value(json_array_get(tokens, i)), got->text);
    assert_int_equal(got->n_tokens, json_array_size(tokens));
}

static void check_words(const char *name, json_t *want, const struct asr_segment *got)
{
    json_t *words = json_object_get(want, "words");

    for (size_t i = 0; i < got->n_words && i < json_array_size(words); i++) {
        json_t *word = json_array_get(words, i);
        const struct asr_word *w = &got->words[i];

        assert_string_equal(w->text, json_string_value(json_array_get(word, 0)));
        near(name, w->text, (double)w->start_ms, json_number_value(json_array_get(word, 1)), 1);
        near(name, w->text, (double)w->end_ms, json_number_value(json_array_get(word, 2)), 1);
        near(name, w->text, w->probability, json_number_value(json_array_get(word, 3)), 2e-3);
    }
    assert_int_equal(got->n_words, json_array_size(words));
}

static int check_segment(void *arg, const struct asr_segment *got)
{
    struct check *check = arg;
    const char *name = json_string_value(json_object_get(check->want, "name"));
    json_t *want = json_array_get(json_object_get(check->want, "segments"), check->n_segments++);

    if (!want)
        fail_msg("%s: a segment too many: '%s'", name, got->text);
    check_tokens(name, want, got);
    assert_string_equal(got->text, json_string_value(json_object_get(want, "text")));
    assert_int_equal(got->start_ms, json_integer_value(json_object_get(want, "start_ms")));
    assert_int_equal(got->end_ms, json_integer_value(json_object_get(want, "end_ms")));
    assert_int_equal(got->seek_ms, json_integer_value(json_object_get(want, "seek_ms")));
    near(name, "avg_log_prob", got->avg_log_prob,
         json_number_value(json_object_get(want, "avg_log_prob")), 1e-3);
    near(name, "no_speech_prob", got->no_speech_prob,
         json_number_value(json_object_get(want, "no_speech_prob")), 1e-3);
    near(name, "compression_ratio", got->compression_ratio,
         json_number_value(json_object_get(want, "compression_ratio")), 1e-4);
    near(name, "temperature", got->temperature, 0, 0);
    check_words(name, want, got);
    return 0;
}

static void run_case(const struct fixture *fixture, json_t *want, bool whole, size_t piece)
{
    json_t *options = json_object_get(want, "options");
    const char *task = json_string_value(json_object_get(options, "task"));
    struct check check = {.want = want};
    const struct asr_events events = {check_language, check_segment, &check};
    const struct asr_settings settings = {
        .language = json_string_value(json_object_get(options, "language")),
        .translate = task && strcmp(task, "translate") == 0,
        .beam_size = (int)json_integer_value(json_object_get(options, "beam_size")),
        .prompt = json_string_value(json_object_get(options, "initial_prompt")),
        .keywords = json_string_value(json_object_get(options, "hotwords")),
        .word_times = json_is_true(json_object_get(options, "word_timestamps")),
        .without_timestamps = json_is_true(json_object_get(options, "without_timestamps")),
        .no_condition_on_previous_text =
            json_is_false(json_object_get(options, "condition_on_previous_text")),
        .whole_audio = whole,
    };
    struct asr_session *session = NULL;
    size_t n_samples = 0;
    float *pcm = speech_join(json_object_get(want, "parts"), &n_samples);

    if (n_samples <= LONGEST_S * 16000) {
        print_message("%s\n", json_string_value(json_object_get(want, "name")));
        assert_int_equal(
            fixture->engine->session_create(fixture->model, &settings, &events, &session), 0);
        for (size_t at = 0; at < n_samples; at += piece)
            assert_int_equal(
                fixture->engine->session_feed(session, pcm + at,
                                              n_samples - at < piece ? n_samples - at : piece),
                0);
        assert_int_equal(fixture->engine->session_finish(session), 0);
        assert_int_equal(check.n_segments, json_array_size(json_object_get(want, "segments")));
        fixture->engine->session_destroy(&session);
    }
    free(pcm);
}

static int set_up(void **state, const char *model_name)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char error[512] = "";

    fixture->engine = asr_engine_find("whisper");
    fixture->model_name = model_name;
    fixture->cases = json_load_file(GOLDEN_DIR "/asr.json", 0, NULL);
    assert_non_null(fixture->cases);
    if (fixture->engine->load(golden_model(model_name), 0, "f32", error, sizeof(error),
                              &fixture->model) < 0)
        fail_msg("%s", error);
    *state = fixture;
    return 0;
}

static int set_up_tiny(void **state)
{
    return set_up(state, "whisper-tiny.en");
}

static int set_up_base(void **state)
{
    return set_up(state, "whisper-base");
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    fixture->engine->unload(&fixture->model);
    json_decref(fixture->cases);
    free(fixture);
    return 0;
}

static void same_as_faster_whisper(void **state)
{
    const struct fixture *fixture = *state;
    size_t i, n = 0;
    json_t *want;

    json_array_foreach(fixture->cases, i, want)
    {
        if (strcmp(json_string_value(json_object_get(want, "model")), fixture->model_name) != 0)
            continue;
        run_case(fixture, want, true, 100000);
        n++;
    }
    assert_true(n > 5);
}

/* A live stream hears the same: its pieces may have any size. */
static void same_from_a_stream(void **state)
{
    const struct fixture *fixture = *state;
    const size_t pieces[] = {160, 1, 7919, 480001};

    for (size_t i = 0; i < 4; i++)
        run_case(fixture, json_array_get(fixture->cases, 2 * i + 1), false, pieces[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tiny[] = {
        cmocka_unit_test(same_as_faster_whisper),
        cmocka_unit_test(same_from_a_stream),
    };
    const struct CMUnitTest base[] = {cmocka_unit_test(same_as_faster_whisper)};

    if (argc > 1 && strcmp(argv[1], "base") == 0)
        return cmocka_run_group_tests(base, set_up_base, tear_down);
    return cmocka_run_group_tests(tiny, set_up_tiny, tear_down);
}
