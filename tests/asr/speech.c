#include "tests/asr/speech.h"

#include <setjmp.h>
#include <sndfile.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RATE 16000
#define LIBRIVOX "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-"

static float *grow(float *pcm, size_t n, size_t more)
{
    float *grown = realloc(pcm, (n + more + 1) * sizeof(*pcm));

    assert_non_null(grown);
    memset(grown + n, 0, more * sizeof(*grown));
    return grown;
}

static float *append_file(const char *name, double seconds, float *pcm, size_t *n)
{
    char path[4096];
    SF_INFO info = {0};
    SNDFILE *file;
    size_t count;
    short *samples;

    snprintf(path, sizeof(path), "%s%s", name[0] == '/' ? "" : GOLDEN_DIR "/", name);
    file = sf_open(path, SFM_READ, &info);
    if (!file)
        fail_msg("cannot open '%s': %s (install pocketsphinx-testdata)", path, sf_strerror(NULL));
    assert_int_equal(info.samplerate, RATE);
    assert_int_equal(info.channels, 1);
    count = (size_t)info.frames;
    if (seconds > 0 && (size_t)(seconds * RATE) < count)
        count = (size_t)(seconds * RATE);
    samples = malloc(count * sizeof(*samples));
    assert_int_equal(sf_readf_short(file, samples, (sf_count_t)count), count);
    pcm = grow(pcm, *n, count);
    for (size_t i = 0; i < count; i++)
        pcm[*n + i] = (float)samples[i] / 32768.0F;
    *n += count;
    free(samples);
    sf_close(file);
    return pcm;
}

float *speech_join(json_t *parts, size_t *n_samples)
{
    float *pcm = grow(NULL, 0, 0);
    size_t n = 0, i;
    json_t *part;

    json_array_foreach(parts, i, part)
    {
        if (json_is_number(part)) {
            size_t silence = (size_t)(json_number_value(part) * RATE);

            pcm = grow(pcm, n, silence);
            n += silence;
        } else if (json_is_array(part)) {
            pcm = append_file(json_string_value(json_array_get(part, 0)),
                              json_number_value(json_array_get(part, 1)), pcm, &n);
        } else {
            pcm = append_file(json_string_value(part), 0, pcm, &n);
        }
    }
    *n_samples = n;
    return pcm;
}

float *speech_sentence(const char *number, size_t *n_samples)
{
    char path[256];

    snprintf(path, sizeof(path), LIBRIVOX "%s.wav", number);
    *n_samples = 0;
    return append_file(path, 0, NULL, n_samples);
}
