/* The engine against faster-whisper in float32, case by case of golden/asr.json (by golden/make_asr.py)
 * and golden/tiny.json (by golden/make_tiny.py): the same tokens, times, texts and decisions. */
#include "asr/engine.h"
#include "tests/asr/speech.h"
#include "tests/support/golden.h"

#include <errno.h>
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
    size_t n_temperatures; /* tried; 0: all */
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
    const float zero = 0;
    struct check check = {.want = want};
    const struct asr_events events = {check_language, check_segment, &check, NULL};
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
        .temperatures = &zero,
        .n_temperatures = fixture->n_temperatures,
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

static int set_up(void **state, const char *model_name, const char *folder, const char *cases)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    char error[512] = "";

    fixture->engine = asr_engine_find("whisper");
    fixture->model_name = model_name;
    fixture->cases = json_load_file(cases, 0, NULL);
    assert_non_null(fixture->cases);
    if (fixture->engine->load(folder, 0, "f32", error, sizeof(error), &fixture->model) < 0)
        fail_msg("%s", error);
    *state = fixture;
    return 0;
}

static int set_up_tiny_en(void **state)
{
    return set_up(state, "whisper-tiny.en", golden_model("whisper-tiny.en"),
                  GOLDEN_DIR "/asr.json");
}

static int set_up_base(void **state)
{
    return set_up(state, "whisper-base", golden_model("whisper-base"), GOLDEN_DIR "/asr.json");
}

static int set_up_random(void **state)
{
    int err = set_up(state, "tiny", GOLDEN_DIR "/tiny", GOLDEN_DIR "/tiny.json");

    ((struct fixture *)*state)->n_temperatures = 1; /* its first results never look good */
    return err;
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

/* What was heard, in one line. */
struct transcript {
    uint32_t tokens[8192];
    size_t n_tokens;
    float temperature; /* the highest */
};

static int take_down(void *arg, const struct asr_segment *segment)
{
    struct transcript *transcript = arg;

    for (size_t i = 0; i < segment->n_tokens; i++)
        transcript->tokens[transcript->n_tokens++] = segment->tokens[i];
    transcript->temperature = fmaxf(transcript->temperature, segment->temperature);
    return 0;
}

static void transcribe(const struct fixture *fixture, const struct asr_settings *settings,
                       const float *pcm, size_t n, struct transcript *out)
{
    const struct asr_events events = {NULL, take_down, out, NULL};
    struct asr_session *session = NULL;

    memset(out, 0, sizeof(*out));
    assert_int_equal(fixture->engine->session_create(fixture->model, settings, &events, &session),
                     0);
    assert_int_equal(fixture->engine->session_feed(session, pcm, n), 0);
    assert_int_equal(fixture->engine->session_finish(session), 0);
    assert_true(fixture->engine->session_tokens(session) >= out->n_tokens);
    fixture->engine->session_destroy(&session);
}

/* Nonsense makes the ladder of temperatures run to its end; the samples come again every time. */
static void bad_results_are_sampled_again(void **state)
{
    const struct fixture *fixture = *state;
    static struct transcript first, second, cold;
    const float zero = 0;
    size_t n = 0;
    float *pcm = speech_join(json_object_get(json_array_get(fixture->cases, 0), "parts"), &n);

    transcribe(fixture, &(struct asr_settings){.beam_size = 1}, pcm, n, &first);
    transcribe(fixture, &(struct asr_settings){.beam_size = 1}, pcm, n, &second);
    transcribe(fixture,
               &(struct asr_settings){.beam_size = 1, .temperatures = &zero, .n_temperatures = 1},
               pcm, n, &cold);
    assert_true(first.n_tokens > 0);
    assert_true(first.temperature > 0);
    assert_true(cold.temperature == 0);
    assert_int_equal(first.n_tokens, second.n_tokens);
    assert_memory_equal(first.tokens, second.tokens, first.n_tokens * sizeof(*first.tokens));
    free(pcm);
}

/* However the audio arrives, the windows are the same. */
static void pieces_make_no_difference(void **state)
{
    const struct fixture *fixture = *state;
    const float zero = 0;
    const struct asr_settings settings = {
        .beam_size = 1, .temperatures = &zero, .n_temperatures = 1};
    static struct transcript whole, pieces;
    const struct asr_events events = {NULL, take_down, &pieces, NULL};
    size_t n = 0;
    float *pcm = speech_join(json_object_get(json_array_get(fixture->cases, 0), "parts"), &n);

    transcribe(fixture, &settings, pcm, n, &whole);
    for (size_t piece = 1000; piece <= 1000000; piece = piece * 10 + 7) {
        struct asr_session *session = NULL;

        memset(&pieces, 0, sizeof(pieces));
        fixture->engine->session_create(fixture->model, &settings, &events, &session);
        for (size_t at = 0; at < n; at += piece)
            assert_int_equal(
                fixture->engine->session_feed(session, pcm + at, n - at < piece ? n - at : piece),
                0);
        assert_int_equal(fixture->engine->session_finish(session), 0);
        fixture->engine->session_destroy(&session);
        assert_int_equal(pieces.n_tokens, whole.n_tokens);
        assert_memory_equal(pieces.tokens, whole.tokens, whole.n_tokens * sizeof(*whole.tokens));
    }
    free(pcm);
}

static void hardly_any_audio_is_no_trouble(void **state)
{
    const struct fixture *fixture = *state;
    static struct transcript transcript;
    const size_t sizes[] = {0, 1, 40, 159, 160, 161, 199, 200, 201, 319, 320, 400, 500, 1000};
    float pcm[1000];

    for (size_t i = 0; i < 1000; i++)
        pcm[i] = (float)(i % 50) / 50;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int words = 0; words < 2; words++)
            transcribe(fixture, &(struct asr_settings){.word_times = words}, pcm, sizes[i],
                       &transcript);
}

static int stop_at_once(void *arg, const struct asr_segment *segment)
{
    (void)arg;
    (void)segment;
    return -EPIPE;
}

static void events_and_flags_stop_it(void **state)
{
    const struct fixture *fixture = *state;
    const struct asr_events events = {NULL, stop_at_once, NULL, NULL};
    const volatile int cancelled = 1;
    struct asr_session *session = NULL;
    size_t n = 0;
    float *pcm = speech_sentence("0930", &n);

    fixture->engine->session_create(fixture->model, &(struct asr_settings){.beam_size = 1}, &events,
                                    &session);
    fixture->engine->session_feed(session, pcm, n);
    assert_int_equal(fixture->engine->session_finish(session), -EPIPE);
    fixture->engine->session_destroy(&session);
    fixture->engine->session_create(fixture->model, &(struct asr_settings){.cancel = &cancelled},
                                    &events, &session);
    assert_int_equal(fixture->engine->session_feed(session, pcm, n), -ECANCELED);
    fixture->engine->session_destroy(&session);
    free(pcm);
}

static void impossible_settings_are_refused(void **state)
{
    const struct fixture *fixture = *state;
    const float hot = 2.5F, many[ASR_MAX_TEMPERATURES + 1] = {0};
    const struct asr_settings wrong[] = {
        {.language = "es"},
        {.translate = true},
        {.beam_size = -1},
        {.beam_size = fixture->engine->max_beam_size + 1},
        {.temperatures = &hot, .n_temperatures = 1},
        {.temperatures = many, .n_temperatures = ASR_MAX_TEMPERATURES + 1},
    };
    struct asr_session *session = NULL;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(fixture->engine->session_create(fixture->model, &wrong[i],
                                                         &(struct asr_events){0}, &session),
                         -EINVAL);
    assert_null(session);
}

static void refuses_folder(const char *folder, const char *compute_type, int want,
                           const char *words)
{
    struct asr_model *model = NULL;
    char error[512] = "";
    int err =
        asr_engine_find("whisper")->load(folder, 1, compute_type, error, sizeof(error), &model);

    if (err != want || !strstr(error, words))
        fail_msg("'%s': %d '%s', not %d with '%s'", folder, err, error, want, words);
    assert_null(model);
}

static void wrong_folders_are_refused(void **state)
{
    (void)state;
    refuses_folder("/nowhere", "f32", -ENOENT, "/nowhere/model.bin");
    refuses_folder(GOLDEN_DIR "/tiny", "int4", -ENOTSUP, "int4");
    refuses_folder(GOLDEN_DIR, "f32", -ENOENT, "model.bin");
    assert_null(asr_engine_find("parrot"));
}

static void detects_only_english(void **state)
{
    const struct fixture *fixture = *state;
    const char *codes[2];
    float probs[2];

    assert_int_equal(fixture->engine->detect_language(fixture->model, NULL, 0, codes, probs, 2), 1);
    assert_string_equal(codes[0], "en");
    assert_true(probs[0] == 1);
    assert_false(fixture->engine->can_translate(fixture->model));
    assert_string_equal(fixture->engine->languages(fixture->model)[0], "en");
    assert_null(fixture->engine->languages(fixture->model)[1]);
}

/* As faster-whisper's detect_language() says of the same 20 s. */
static void detects_spanish(void **state)
{
    const struct fixture *fixture = *state;
    json_t *parts = json_pack("[[s, i]]", "spanish.ogg", 20);
    const char *codes[99];
    float probs[99], sum = 0;
    size_t n = 0;
    float *pcm = speech_join(parts, &n);

    assert_int_equal(fixture->engine->detect_language(fixture->model, pcm, n, codes, probs, 99),
                     99);
    assert_string_equal(codes[0], "es");
    assert_string_equal(codes[1], "it");
    near("detection", "es", probs[0], 0.63668, 5e-3);
    near("detection", "it", probs[1], 0.24814, 5e-3);
    for (size_t i = 0; i < 99; i++) {
        sum += probs[i];
        assert_true(i == 0 || probs[i] <= probs[i - 1]);
    }
    assert_true(fabsf(sum - 1) < 1e-4F);
    json_decref(parts);
    free(pcm);
}

static int only_a_candidate(void *arg, const char *code, float probability)
{
    assert_string_equal(code, "it");
    assert_true(probability > 0.5F); /* of two */
    *(bool *)arg = true;
    return 0;
}

static void detects_among_candidates(void **state)
{
    const struct fixture *fixture = *state;
    json_t *parts = json_pack("[[s, i]]", "spanish.ogg", 5);
    const char *const candidates[] = {"ja", "it"};
    const struct asr_settings settings = {
        .beam_size = 1, .languages = candidates, .n_languages = 2};
    bool heard = false;
    const struct asr_events events = {only_a_candidate, NULL, &heard, NULL};
    struct asr_session *session = NULL;
    size_t n = 0;
    float *pcm = speech_join(parts, &n);

    assert_int_equal(fixture->engine->session_create(fixture->model, &settings, &events, &session),
                     0);
    assert_int_equal(fixture->engine->session_feed(session, pcm, n), 0);
    assert_int_equal(fixture->engine->session_finish(session), 0);
    assert_true(heard);
    fixture->engine->session_destroy(&session);
    json_decref(parts);
    free(pcm);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tiny_en[] = {
        cmocka_unit_test(same_as_faster_whisper),
        cmocka_unit_test(same_from_a_stream),
    };
    const struct CMUnitTest base[] = {
        cmocka_unit_test(same_as_faster_whisper),
        cmocka_unit_test(detects_spanish),
        cmocka_unit_test(detects_among_candidates),
    };
    const struct CMUnitTest random_weights[] = {
        cmocka_unit_test(same_as_faster_whisper),
        cmocka_unit_test(bad_results_are_sampled_again),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(hardly_any_audio_is_no_trouble),
        cmocka_unit_test(events_and_flags_stop_it),
        cmocka_unit_test(impossible_settings_are_refused),
        cmocka_unit_test(wrong_folders_are_refused),
        cmocka_unit_test(detects_only_english),
    };

    if (argc > 1 && strcmp(argv[1], "tiny.en") == 0)
        return cmocka_run_group_tests(tiny_en, set_up_tiny_en, tear_down);
    if (argc > 1 && strcmp(argv[1], "base") == 0)
        return cmocka_run_group_tests(base, set_up_base, tear_down);
    return cmocka_run_group_tests(random_weights, set_up_random, tear_down);
}
