/* Audio files: any change to good ones gives samples or an error, within the limit on their length.
 */
#include "audio/decode.h"
#include "tests/fuzz/replay.h"

#include <math.h>
#include <stdlib.h>

#define SECONDS 5

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/fuzz/audio/tone.flac", NULL, 0},
    {SOURCE_DIR "/tests/fuzz/audio/tone.mp3", NULL, 0},
    {SOURCE_DIR "/tests/fuzz/audio/tone.opus", NULL, 0},
    {SOURCE_DIR "/tests/fuzz/audio/tone.ogg", NULL, 0},
    SEED("RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x10\0"
         "data\x10\0\0\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0\x07\0\x08\0"),
    SEED("RIFF\x32\0\0\0WAVEfmt \x12\0\0\0\x03\0\x01\0\x80\x3e\0\0\0\xfa\0\0\x04\0\x20\0\0\0"
         "data\x0c\0\0\0\0\0\x80\x7f\0\0\xc0\x7f\0\0\x80\x3f"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 6000;

static void decode(struct audio_source source)
{
    static float pcm[16000];
    struct audio_decoder *decoder = NULL;
    char error[AUDIO_ERROR_MAX] = "";
    ssize_t got, total = 0;

    if (audio_decoder_create(&source, error, &decoder) < 0) {
        if (!error[0])
            abort();
        return;
    }
    while ((got = audio_decoder_read(decoder, pcm, 16000)) > 0) {
        total += got;
        for (ssize_t i = 0; i < got; i++) {
            if (!isfinite(pcm[i]))
                abort();
        }
    }
    if (total > SECONDS * AUDIO_RATE)
        abort();
    audio_decoder_destroy(&decoder);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    decode((struct audio_source){.data = bytes, .size = size, .max_seconds = SECONDS});
    decode((struct audio_source){.data = bytes,
                                 .size = size,
                                 .raw_rate = 8000 + (uint32_t)size % 50000,
                                 .raw_channels = 1 + (uint32_t)size % 3,
                                 .max_seconds = SECONDS});
}
