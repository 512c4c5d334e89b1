/* What the encoder writes, the decoder (for AAC: the frames' own headers) finds again. */
#include "audio/decode.h"
#include "audio/encode.h"
#include "tests/audio/tone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void encode_tone(enum audio_format format, uint32_t rate, size_t piece, uint64_t announced,
                        struct buffer *out)
{
    int16_t *tone = tone_s16(440, rate, 2 * rate);
    struct audio_encoder *encoder = NULL;

    buffer_init(out, 10 << 20);
    assert_int_equal(audio_encoder_create(format, rate, announced, tone_sink, out, &encoder), 0);
    for (size_t at = 0; at < 2 * rate; at += piece)
        assert_int_equal(
            audio_encoder_write(encoder, tone + at, 2 * rate - at < piece ? 2 * rate - at : piece),
            0);
    assert_int_equal(audio_encoder_finish(encoder), 0);
    audio_encoder_destroy(&encoder);
    free(tone);
}

static void round_trips(void **state)
{
    static const struct {
        enum audio_format format;
        const char *kind;
        double tolerance;
    } cases[] = {{AUDIO_WAV, "wav", 0.002},
                 {AUDIO_FLAC, "flac", 0.002},
                 {AUDIO_MP3, "mp3", 0.05},
                 {AUDIO_OPUS, "ogg", 0.05}};
    static const uint32_t rates[] = {16000, 22050, 24000};

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
            struct buffer file;
            const char *kind = NULL;
            float *pcm;
            size_t n;

            encode_tone(cases[c].format, rates[r], 501, AUDIO_LENGTH_UNKNOWN, &file);
            pcm = tone_decode(file.data, file.size, &n, &kind);
            assert_string_equal(kind, cases[c].kind);
            assert_in_range(n, 31900, 35000); /* MP3 pads its ends */
            assert_float_equal(tone_level(pcm + 4000, 16000, 440, 16000), 0.5, cases[c].tolerance);
            free(pcm);
            buffer_fini(&file);
        }
    }
}

static void raw_samples_come_at_24_khz(void **state)
{
    struct buffer file;
    struct audio_source source = {.raw_rate = AUDIO_PCM_RATE};
    struct audio_decoder *decoder = NULL;
    char error[AUDIO_ERROR_MAX];
    static float pcm[40000];

    (void)state;
    encode_tone(AUDIO_PCM, 22050, 4096, AUDIO_LENGTH_UNKNOWN, &file);
    assert_in_range(file.size / 2, 47990, 48010); /* two seconds */
    source.data = file.data;
    source.size = file.size;
    assert_int_equal(audio_decoder_create(&source, error, &decoder), 0);
    assert_in_range(audio_decoder_read(decoder, pcm, 40000), 31990, 32010);
    assert_float_equal(tone_level(pcm + 4000, 16000, 440, 16000), 0.5, 0.002);
    audio_decoder_destroy(&decoder);
    buffer_fini(&file);
}

static void wav_header_tells_the_length_when_it_is_known(void **state)
{
    struct buffer known, unknown;

    (void)state;
    encode_tone(AUDIO_WAV, 22050, 1000, 44100, &known);
    encode_tone(AUDIO_WAV, 22050, 1000, AUDIO_LENGTH_UNKNOWN, &unknown);
    assert_int_equal(known.size, 44 + 88200);
    assert_memory_equal(known.data + 40, "\x88\x58\x01\x00", 4); /* 88200 */
    assert_memory_equal(known.data + 4, "\xac\x58\x01\x00", 4);  /* + 36 */
    assert_memory_equal(unknown.data + 40, "\xff\xff\xff\xff", 4);
    assert_memory_equal(unknown.data + 44, known.data + 44, 88200);
    buffer_fini(&known);
    buffer_fini(&unknown);
}

/* Walk the ADTS frames by their 13-bit lengths (ISO/IEC 13818-7, 6.2). */
static void aac_frames_are_whole(void **state)
{
    struct buffer file;
    size_t frames = 0;

    (void)state;
    encode_tone(AUDIO_AAC, 22050, 777, AUDIO_LENGTH_UNKNOWN, &file);
    for (size_t at = 0; at < file.size; frames++) {
        const uint8_t *head = file.data + at;

        assert_true(file.size - at > 7);
        assert_int_equal(head[0], 0xff);
        assert_int_equal(head[1] & 0xf6, 0xf0);
        assert_int_equal(head[2] >> 2 & 15, 7); /* 22,050 Hz */
        at += (size_t)(head[3] & 3) << 11 | (size_t)head[4] << 3 | head[5] >> 5;
        assert_true(at <= file.size);
    }
    assert_in_range(frames, 43, 46); /* 1024 samples each */
    buffer_fini(&file);
}

/* STREAMINFO: 36 bits of total samples from byte 21 on (RFC 9639, 8.2). */
static void flac_knows_its_length_when_it_is_short(void **state)
{
    struct buffer file;
    const uint8_t *at;

    (void)state;
    encode_tone(AUDIO_FLAC, 22050, 1000, AUDIO_LENGTH_UNKNOWN, &file);
    assert_memory_equal(file.data, "fLaC", 4);
    at = file.data + 21;
    assert_int_equal((uint64_t)(at[0] & 15) << 32 | (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 |
                         (uint32_t)at[3] << 8 | at[4],
                     44100);
    buffer_fini(&file);
}

/* Minutes of noise, which FLAC cannot shrink: past the limit it leaves as it is made. */
static void flac_does_not_pile_up(void **state)
{
    static int16_t noise[16384];
    struct audio_encoder *encoder = NULL;
    struct buffer file;
    size_t fed = 0;
    uint32_t seed = 1;

    (void)state;
    buffer_init(&file, 64 << 20);
    assert_int_equal(
        audio_encoder_create(AUDIO_FLAC, 16000, AUDIO_LENGTH_UNKNOWN, tone_sink, &file, &encoder),
        0);
    for (size_t i = 0; i < 16384; i++)
        noise[i] = (int16_t)((seed = seed * 1664525u + 1013904223u) >> 16);
    for (; fed < 12 << 20; fed += sizeof(noise))
        assert_int_equal(audio_encoder_write(encoder, noise, 16384), 0);
    assert_true(file.size > 8 << 20);
    assert_int_equal(audio_encoder_finish(encoder), 0);
    assert_true(file.size > 11 << 20);
    audio_encoder_destroy(&encoder);
    buffer_fini(&file);
}

static void the_first_bytes_leave_early(void **state)
{
    static const enum audio_format formats[] = {AUDIO_WAV, AUDIO_PCM, AUDIO_MP3, AUDIO_OPUS,
                                                AUDIO_AAC};
    int16_t *tone = tone_s16(440, 22050, 22050);

    (void)state;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct audio_encoder *encoder = NULL;
        struct buffer file;

        buffer_init(&file, 1 << 20);
        assert_int_equal(audio_encoder_create(formats[i], 22050, AUDIO_LENGTH_UNKNOWN, tone_sink,
                                              &file, &encoder),
                         0);
        assert_int_equal(audio_encoder_write(encoder, tone, 11025), 0); /* half a second */
        if (file.size < 1000)
            fail_msg("%s: only %zu bytes of half a second", audio_format_name(formats[i]),
                     file.size);
        audio_encoder_destroy(&encoder); /* in the middle */
        buffer_fini(&file);
    }
    free(tone);
}

static int full_sink(void *arg, const void *data, size_t size)
{
    (void)arg, (void)data, (void)size;
    return -EPIPE;
}

static void a_closed_sink_stops_it(void **state)
{
    static const enum audio_format formats[] = {AUDIO_PCM, AUDIO_MP3, AUDIO_AAC};
    int16_t *tone = tone_s16(440, 22050, 44100);

    (void)state;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct audio_encoder *encoder = NULL;

        assert_int_equal(audio_encoder_create(formats[i], 22050, AUDIO_LENGTH_UNKNOWN, full_sink,
                                              NULL, &encoder),
                         0);
        assert_int_equal(audio_encoder_write(encoder, tone, 44100), -EPIPE);
        audio_encoder_destroy(&encoder);
    }
    free(tone);
}

static void names(void **state)
{
    enum audio_format format;

    (void)state;
    assert_int_equal(audio_format_parse("mp3", &format), 0);
    assert_string_equal(audio_format_mime(format), "audio/mpeg");
    assert_string_equal(audio_format_name(format), "mp3");
    assert_int_equal(audio_format_parse("MP3", &format), -EINVAL);
    assert_int_equal(audio_format_parse("", &format), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(raw_samples_come_at_24_khz),
        cmocka_unit_test(wav_header_tells_the_length_when_it_is_known),
        cmocka_unit_test(aac_frames_are_whole),
        cmocka_unit_test(flac_knows_its_length_when_it_is_short),
        cmocka_unit_test(flac_does_not_pile_up),
        cmocka_unit_test(the_first_bytes_leave_early),
        cmocka_unit_test(a_closed_sink_stops_it),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
