/* golden/mel_80.f32 and mel_128.f32: (n_bands, 101) float32 of one second of speech, by
 * golden/make_parts.py. */
#include "asr/whisper/mel.h"
#include "tests/asr/speech.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FRAMES 101
#define SAMPLES 16000
#define LEAD (MEL_WINDOW / 2)

/* As mel_compute() wants it: mirrored before the first sample, silence after the last. */
static float *padded_speech(void)
{
    size_t n = 0;
    float *speech = speech_sentence("0880", &n);
    float *pcm = calloc((FRAMES - 1) * MEL_HOP + MEL_WINDOW, sizeof(*pcm));

    assert_true(n >= 24000);
    memcpy(pcm + LEAD, speech + 8000, SAMPLES * sizeof(*pcm));
    for (size_t i = 1; i <= LEAD; i++)
        pcm[LEAD - i] = pcm[LEAD + i];
    free(speech);
    return pcm;
}

static void matches(int n_bands, enum compute_isa isa, const char *path)
{
    size_t n = FRAMES * (size_t)n_bands;
    float *want = golden_f32(path, n), *pcm = padded_speech();
    float *power = malloc(n * sizeof(*power)), *feats = malloc(n * sizeof(*feats));
    float loudest = -10;
    struct mel *mel = NULL;

    assert_int_equal(mel_create(n_bands, isa, &mel), 0);
    assert_int_equal(mel_n_bands(mel), n_bands);
    mel_compute(mel, pcm, FRAMES, power);
    for (size_t i = 0; i < n; i++)
        loudest = fmaxf(loudest, power[i]);
    mel_normalise(mel, power, FRAMES, loudest, FRAMES, feats);
    assert_near(feats, want, n, 1e-4F);
    mel_destroy(&mel);
    assert_null(mel);
    free(want);
    free(pcm);
    free(power);
    free(feats);
}

static enum compute_isa best_isa(void)
{
    struct compute *compute = NULL;
    enum compute_isa isa;

    assert_int_equal(compute_create(1, &compute), 0);
    isa = compute_isa(compute);
    compute_destroy(&compute);
    return isa;
}

static void speech_matches_numpy(void **state)
{
    (void)state;
    for (int isa = COMPUTE_PORTABLE; isa <= (int)best_isa(); isa++) {
        matches(80, (enum compute_isa)isa, GOLDEN_DIR "/mel_80.f32");
        matches(128, (enum compute_isa)isa, GOLDEN_DIR "/mel_128.f32");
    }
}

/* A frame is the same whichever frames are computed with it. */
static void pieces_make_no_difference(void **state)
{
    float *pcm = padded_speech();
    float whole[FRAMES * 80], single[80];
    struct mel *mel = NULL;

    (void)state;
    assert_int_equal(mel_create(80, best_isa(), &mel), 0);
    mel_compute(mel, pcm, FRAMES, whole);
    for (size_t f = 0; f < FRAMES; f++) {
        mel_compute(mel, pcm + f * MEL_HOP, 1, single);
        assert_memory_equal(single, whole + f * 80, sizeof(single));
    }
    mel_destroy(&mel);
    free(pcm);
}

/* Silence lies on the floor: 80 dB below the loudest, and zero past the audio. */
static void quiet_is_lifted_to_the_floor(void **state)
{
    float power[2 * 80], feats[80 * 4];
    struct mel *mel = NULL;

    (void)state;
    for (size_t i = 0; i < 2 * 80; i++)
        power[i] = i < 80 ? 2 : -10;
    assert_int_equal(mel_create(80, COMPUTE_PORTABLE, &mel), 0);
    mel_normalise(mel, power, 2, 2, 4, feats);
    for (size_t b = 0; b < 80; b++) {
        const float want[] = {1.5F, -0.5F, 0, 0};

        assert_near(feats + 4 * b, want, 4, 0);
    }
    mel_destroy(&mel);
}

static void other_bands_are_refused(void **state)
{
    struct mel *mel = NULL;

    (void)state;
    assert_int_equal(mel_create(81, COMPUTE_PORTABLE, &mel), -EINVAL);
    assert_null(mel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speech_matches_numpy),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(quiet_is_lifted_to_the_floor),
        cmocka_unit_test(other_bands_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
