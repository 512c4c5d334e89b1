#include "tests/audio/tone.h"

#include "audio/decode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int16_t *tone_s16(double hz, double rate, size_t n)
{
    int16_t *pcm = malloc(n * sizeof(*pcm));

    assert_non_null(pcm);
    for (size_t i = 0; i < n; i++)
        pcm[i] = (int16_t)lrint(16384.0 * sin(2 * M_PI * hz * (double)i / rate));
    return pcm;
}

double tone_level(const float *pcm, size_t n, double hz, double rate)
{
    double re = 0, im = 0;

    for (size_t i = 0; i < n; i++) {
        re += (double)pcm[i] * cos(2 * M_PI * hz * (double)i / rate);
        im += (double)pcm[i] * sin(2 * M_PI * hz * (double)i / rate);
    }
    return 2 * sqrt(re * re + im * im) / (double)n;
}

int tone_sink(void *arg, const void *data, size_t size)
{
    return buffer_append(arg, data, size);
}

float *tone_decode(const void *data, size_t size, size_t *n, const char **kind)
{
    struct audio_source source = {.data = data, .size = size, .max_seconds = 60};
    struct audio_decoder *decoder = NULL;
    char error[AUDIO_ERROR_MAX];
    float *pcm = malloc(60 * AUDIO_RATE * sizeof(*pcm));
    ssize_t got;

    assert_non_null(pcm);
    if (audio_decoder_create(&source, error, &decoder) < 0)
        fail_msg("%s", error);
    if (kind)
        *kind = audio_decoder_kind(decoder);
    *n = 0;
    while ((got = audio_decoder_read(decoder, pcm + *n, 1000)) > 0)
        *n += (size_t)got;
    assert_int_equal(got, 0);
    audio_decoder_destroy(&decoder);
    return pcm;
}
