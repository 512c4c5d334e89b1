/* Rates change, tones do not. */
#include "audio/resample.h"
#include "tests/audio/tone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Resample `in` in pieces of `piece`; returns how many came out. */
static size_t convert(uint32_t from, uint32_t to, const float *in, size_t n, size_t piece,
                      float *out, size_t room)
{
    struct audio_resampler *resampler = NULL;
    size_t at = 0, have = 0;

    assert_int_equal(audio_resampler_create(from, to, &resampler), 0);
    for (;;) {
        size_t left = n - at, consumed = 0, produced = 0;

        assert_int_equal(audio_resample(resampler, left ? in + at : NULL,
                                        left < piece ? left : piece, &consumed, out + have,
                                        room - have < 777 ? room - have : 777, &produced),
                         0);
        at += consumed;
        have += produced;
        assert_true(have < room);
        if (!left && !produced)
            break;
    }
    audio_resampler_destroy(&resampler);
    return have;
}

static void tones_survive(void **state)
{
    static const uint32_t rates[] = {8000, 11025, 16000, 22050, 24000, 44100, 48000};
    float *out = malloc(200000 * sizeof(*out));

    (void)state;
    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        int16_t *tone = tone_s16(440, rates[r], rates[r]);
        float *in = malloc(rates[r] * sizeof(*in));
        size_t n;

        for (size_t i = 0; i < rates[r]; i++)
            in[i] = (float)tone[i] / 32768.0f;
        n = convert(rates[r], 16000, in, rates[r], 1000, out, 200000);
        assert_in_range(n, 15998, 16002); /* one second stays one second */
        assert_float_equal(tone_level(out + 1000, 8000, 440, 16000), 0.5, 0.002);
        assert_float_equal(tone_level(out + 1000, 8000, 3000, 16000), 0, 0.002);
        free(tone);
        free(in);
    }
    free(out);
}

static void pieces_make_no_difference(void **state)
{
    int16_t *tone = tone_s16(1000, 44100, 44100);
    float in[44100], whole[17000], pieces[17000];
    size_t n;

    (void)state;
    for (size_t i = 0; i < 44100; i++)
        in[i] = (float)tone[i] / 32768.0f;
    n = convert(44100, 16000, in, 44100, 44100, whole, 17000);
    assert_int_equal(convert(44100, 16000, in, 44100, 13, pieces, 17000), n);
    assert_memory_equal(whole, pieces, n * sizeof(whole[0]));
    free(tone);
}

static void impossible_rates_are_refused(void **state)
{
    struct audio_resampler *resampler = NULL;

    (void)state;
    assert_int_equal(audio_resampler_create(0, 16000, &resampler), -EINVAL);
    assert_int_equal(audio_resampler_create(16000, AUDIO_RATE_MAX + 1, &resampler), -EINVAL);
    assert_null(resampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tones_survive),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(impossible_rates_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
