/* Files good and hostile. Speech files come from Debian's packages, the rest is made here. */
#include "audio/decode.h"
#include "audio/encode.h"
#include "tests/audio/tone.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Open and read to the end. Returns samples, or what went wrong (then `error` says more). */
static ssize_t decode(struct audio_source source, char *error)
{
    struct audio_decoder *decoder = NULL;
    static float pcm[16000];
    ssize_t total = 0, got;
    int err = audio_decoder_create(&source, error, &decoder);

    if (err < 0)
        return err;
    while ((got = audio_decoder_read(decoder, pcm, 16000)) > 0)
        total += got;
    audio_decoder_destroy(&decoder);
    return got < 0 ? got : total;
}

static void refused(const void *data, size_t size, int want, const char *phrase)
{
    char error[AUDIO_ERROR_MAX] = "";

    assert_int_equal(decode((struct audio_source){.data = data, .size = size}, error), want);
    if (!strstr(error, phrase))
        fail_msg("'%s' does not say '%s'", error, phrase);
}

static void what_is_no_audio_is_named(void **state)
{
    (void)state;
    refused("", 0, -EBADMSG, "empty");
    refused("x", 1, -EBADMSG, "not audio");
    refused("this is no audio at all", 23, -EBADMSG, "wav, flac, mp3 nor ogg");
    refused("\0\0\0\x18"
            "ftypM4A \0\0\0\0",
            16, -ENOTSUP, "m4a");
    refused("\x1a\x45\xdf\xa3\x01\0\0\0", 8, -ENOTSUP, "webm");
    refused("FORM\0\0\0\x40"
            "AIFFCOMM",
            16, -ENOTSUP, "AIFF");
    refused("RIFF\x10\0\0\0WAVE", 12, -EBADMSG, "wav");
    refused("RIFF\x10\0\0\0AVI LIST", 16, -EBADMSG, "not audio");
}

static void wav(struct buffer *file, uint32_t rate, size_t n)
{
    struct audio_encoder *encoder = NULL;
    int16_t *tone = tone_s16(440, rate, n);

    buffer_init(file, 64 << 20);
    assert_int_equal(audio_encoder_create(AUDIO_WAV, rate, n, tone_sink, file, &encoder), 0);
    assert_int_equal(audio_encoder_write(encoder, tone, n), 0);
    assert_int_equal(audio_encoder_finish(encoder), 0);
    audio_encoder_destroy(&encoder);
    free(tone);
}

static void the_limit_is_on_decoded_length(void **state)
{
    struct buffer file;
    char error[AUDIO_ERROR_MAX];
    struct audio_source source = {0};

    (void)state;
    wav(&file, 8000, 40000); /* 5 s */
    source = (struct audio_source){.data = file.data, .size = file.size, .max_seconds = 4};
    assert_int_equal(decode(source, error), -EFBIG);
    source.max_seconds = 6;
    assert_in_range(decode(source, error), 79990, 80010);
    buffer_fini(&file);
}

static void a_length_that_lies_is_cut_at_the_end(void **state)
{
    struct buffer file;
    char error[AUDIO_ERROR_MAX];

    (void)state;
    wav(&file, 16000, 16000);
    memcpy(file.data + 40, "\xff\xff\xff\xff", 4);
    assert_int_equal(decode((struct audio_source){.data = file.data, .size = file.size}, error),
                     16000);
    memcpy(file.data + 4, "\xff\xff\xff\xff", 4); /* as streaming encoders write */
    assert_int_equal(decode((struct audio_source){.data = file.data, .size = file.size}, error),
                     16000);
    buffer_fini(&file);
}

static void odd_headers_are_refused(void **state)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
    } changes[] = {{24, "\x01\0\0\0", 4},       /* 1 Hz: 16,000 samples out for each in */
                   {24, "\xff\xff\xff\x7f", 4}, /* 2 GHz */
                   {22, "\xff\xff", 2},         /* 65,535 channels */
                   {22, "\0\0", 2},
                   {20, "\x99\x99", 2}};
    char error[AUDIO_ERROR_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct buffer file;
        ssize_t got;

        wav(&file, 16000, 1600);
        memcpy(file.data + changes[i].at, changes[i].bytes, changes[i].n);
        got = decode((struct audio_source){.data = file.data, .size = file.size}, error);
        if (got != -EBADMSG && got != -ENOTSUP)
            fail_msg("change %zu: %zd", i, got);
        assert_true(error[0]);
        buffer_fini(&file);
    }
}

static void stereo_is_mixed(void **state)
{
    int16_t frames[3200];
    struct audio_source source = {
        .data = frames, .size = sizeof(frames), .raw_rate = 16000, .raw_channels = 2};
    struct audio_decoder *decoder = NULL;
    char error[AUDIO_ERROR_MAX];
    float pcm[2000];

    (void)state;
    for (size_t i = 0; i < 1600; i++) {
        frames[2 * i] = 16384;
        frames[2 * i + 1] = -8192;
    }
    assert_int_equal(audio_decoder_create(&source, error, &decoder), 0);
    assert_int_equal(audio_decoder_read(decoder, pcm, 2000), 1600);
    assert_float_equal(pcm[0], 0.125f, 1e-6f);
    assert_float_equal(pcm[1599], 0.125f, 1e-6f);
    audio_decoder_destroy(&decoder);

    source.size--;
    assert_int_equal(audio_decoder_create(&source, error, &decoder), -EBADMSG);
}

static void librivox_reads_whole(void **state)
{
    size_t size = 0;
    char *file = golden_text("/usr/share/pocketsphinx/test/data/librivox/"
                             "sense_and_sensibility_01_austen_64kb-0870.wav",
                             &size);
    char error[AUDIO_ERROR_MAX];

    (void)state;
    /* 16 kHz 16-bit mono behind a header of 44 bytes: sample for sample. */
    assert_int_equal(decode((struct audio_source){.data = file, .size = size}, error),
                     (size - 44) / 2);
    free(file);
}

/* Written with Python's soundfile: 0.2 s at 8 kHz, 300 Hz at 0.4. */
static void files_of_others(void **state)
{
    static const char *const names[] = {"tone.flac", "tone.mp3", "tone.opus", "tone.ogg"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char path[512];
        size_t size, n;
        char *file;
        float *pcm;

        snprintf(path, sizeof(path), "%s/tests/fuzz/audio/%s", SOURCE_DIR, names[i]);
        file = golden_text(path, &size);
        pcm = tone_decode(file, size, &n, NULL);
        assert_in_range(n, 3190, 6000); /* MP3 pads its ends */
        assert_float_equal(tone_level(pcm + 1000, 1600, 300, 16000), 0.4, 0.03);
        free(pcm);
        free(file);
    }
}

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Any change to a good file gives samples or an error, within the limit, and leaves the process
 * whole. */
static void damaged_files_do_no_harm(void **state)
{
    static const enum audio_format formats[] = {AUDIO_WAV, AUDIO_FLAC, AUDIO_MP3, AUDIO_OPUS};
    uint32_t seed = 7;

    (void)state;
    for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
        struct audio_encoder *encoder = NULL;
        struct buffer file;
        int16_t *tone = tone_s16(300, 16000, 8000);

        buffer_init(&file, 1 << 20);
        assert_int_equal(audio_encoder_create(formats[f], 16000, AUDIO_LENGTH_UNKNOWN, tone_sink,
                                              &file, &encoder),
                         0);
        assert_int_equal(audio_encoder_write(encoder, tone, 8000), 0);
        assert_int_equal(audio_encoder_finish(encoder), 0);
        audio_encoder_destroy(&encoder);
        free(tone);
        for (int round = 0; round < 300; round++) {
            struct audio_source source = {.size = file.size, .max_seconds = 10};
            uint8_t *copy = malloc(file.size);
            char error[AUDIO_ERROR_MAX];

            memcpy(copy, file.data, file.size);
            for (uint32_t n = random_next(&seed) % 8 + 1; n; n--)
                copy[random_next(&seed) % (round % 2 ? 200 : file.size)] =
                    (uint8_t)random_next(&seed);
            if (round % 3 == 0)
                source.size = random_next(&seed) % file.size;
            source.data = copy;
            assert_true(decode(source, error) <= 10 * AUDIO_RATE + 16000);
            free(copy);
        }
        buffer_fini(&file);
    }
}

static void rounding_clips(void **state)
{
    const float pcm[] = {0, 1, -1, 2, -2, 0.5f / 32768, 1.6f / 32768};
    const int16_t want[] = {0, 32767, -32768, 32767, -32768, 0, 2};
    int16_t got[7];

    (void)state;
    audio_to_s16(pcm, 7, got);
    assert_memory_equal(got, want, sizeof(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_audio_is_named),
        cmocka_unit_test(the_limit_is_on_decoded_length),
        cmocka_unit_test(a_length_that_lies_is_cut_at_the_end),
        cmocka_unit_test(odd_headers_are_refused),
        cmocka_unit_test(stereo_is_mixed),
        cmocka_unit_test(librivox_reads_whole),
        cmocka_unit_test(files_of_others),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(rounding_clips),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
