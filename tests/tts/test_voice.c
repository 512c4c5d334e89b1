/* A voice's configuration, and ids of phonemes. */
#include "tests/support/golden.h"
#include "tts/vits/voice.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct vits_voice voice;

static int read_tiny(void **state)
{
    char error[256] = "";
    size_t size = 0;
    char *json = golden_text(GOLDEN_DIR "/en_GB-tiny-high.onnx.json", &size);

    (void)state;
    if (vits_voice_read(json, size, "tiny", error, sizeof(error), &voice) < 0)
        fail_msg("%s", error);
    free(json);
    return 0;
}

static int forget_tiny(void **state)
{
    (void)state;
    vits_voice_fini(&voice);
    return 0;
}

static void configuration_is_read(void **state)
{
    (void)state;
    assert_string_equal(voice.name, "tiny");
    assert_string_equal(voice.language, "en");
    assert_string_equal(voice.region, "GB");
    assert_string_equal(voice.espeak_voice, "en-us");
    assert_int_equal(voice.sample_rate, 8000);
    assert_true(voice.length_scale == 1.5f && voice.noise_scale == 0.5f && voice.noise_w == 0.6f);
    assert_int_equal(voice.n_speakers, 3);
    assert_string_equal(voice.speakers[1], "bob");
    assert_null(voice.speakers[3]);
}

static void speakers_have_names_and_numbers(void **state)
{
    (void)state;
    assert_int_equal(vits_voice_speaker(&voice, NULL), 0);
    assert_int_equal(vits_voice_speaker(&voice, ""), 0);
    assert_int_equal(vits_voice_speaker(&voice, "eve"), 2);
    assert_int_equal(vits_voice_speaker(&voice, "1"), 1);
    assert_int_equal(vits_voice_speaker(&voice, "3"), -1);
    assert_int_equal(vits_voice_speaker(&voice, "-1"), -1);
    assert_int_equal(vits_voice_speaker(&voice, "nobody"), -1);
}

static void assert_ids(const char *phonemes, const int64_t *want, size_t n_want, size_t n_known)
{
    int64_t *ids = NULL;
    size_t n = 0, known = 0;

    assert_int_equal(vits_voice_ids(&voice, phonemes, &ids, &n, &known), 0);
    assert_int_equal(n, n_want);
    assert_int_equal(known, n_known);
    assert_memory_equal(ids, want, n * sizeof(*ids));
    free(ids);
}

/* Ids are places in make_voice.py's list of phonemes: "_" 0, "^" 1, "$" 2, " " 3, "a" 10, "b" 11. */
static void ids_are_padded(void **state)
{
    static const int64_t ab[] = {1, 0, 10, 0, 11, 0, 2};
    static const int64_t two[] = {1, 0, 53, 54, 0, 2}; /* one symbol of two ids */
    static const int64_t cluster[] = {1, 0, 11, 0, 52, 0, 2};
    static const int64_t none[] = {1, 0, 2};

    (void)state;
    assert_ids("ab", ab, 7, 2);
    assert_ids("a%b", ab, 7, 2); /* what is unknown is left out */
    assert_ids("x", two, 6, 1);
    assert_ids("baɪ", cluster, 7, 2);
    assert_ids("", none, 3, 0);
    assert_ids("\xff\xfe", none, 3, 0);
}

static void assert_refused(const char *json, const char *why)
{
    struct vits_voice bad;
    char error[256] = "";

    assert_int_equal(vits_voice_read(json, strlen(json), "bad", error, sizeof(error), &bad),
                     -EBADMSG);
    if (!strstr(error, why))
        fail_msg("'%s' does not say '%s'", error, why);
}

#define AUDIO "{\"audio\": {\"sample_rate\": 22050}, "
#define ESPEAK AUDIO "\"espeak\": {\"voice\": \"en-us\"}, "

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    assert_refused("", "line 1");
    assert_refused("[]", "");
    assert_refused("{}", "sample_rate");
    assert_refused("{\"audio\": {\"sample_rate\": 1}}", "sample_rate");
    assert_refused("{\"audio\": {\"sample_rate\": -22050}}", "sample_rate");
    assert_refused(AUDIO "\"x\": 1}", "espeak.voice");
    assert_refused(ESPEAK "\"x\": 1}", "phoneme_id_map");
    assert_refused(ESPEAK "\"phoneme_type\": \"pinyin\"}", "pinyin");
    assert_refused(ESPEAK "\"phoneme_id_map\": {\"a\": []}}", "'a'");
    assert_refused(ESPEAK "\"phoneme_id_map\": {\"a\": [-1]}}", "'a'");
    assert_refused(ESPEAK "\"phoneme_id_map\": {\"a\": [\"1\"]}}", "'a'");
    assert_refused(ESPEAK "\"num_speakers\": 2, \"speaker_id_map\": {\"ann\": 2}}", "'ann'");
    assert_refused(ESPEAK "\"num_speakers\": 99999999}", "num_speakers");
    assert_refused(ESPEAK "\"phoneme_id_map\": {\"a\": [1]}, \"vowel_clusters\": [[1]]}",
                   "vowel_clusters");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_is_read),
        cmocka_unit_test(speakers_have_names_and_numbers),
        cmocka_unit_test(ids_are_padded),
        cmocka_unit_test(bad_configurations_are_refused),
    };

    return cmocka_run_group_tests(tests, read_tiny, forget_tiny);
}
