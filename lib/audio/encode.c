#include "audio/encode.h"

#include "audio/aac.h"
#include "audio/decode.h"
#include "audio/resample.h"
#include "base/buffer.h"

#include <errno.h>
#include <sndfile.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 2048             /* samples resampled at once */
#define PENDING_MAX (16 << 20) /* a codec never holds back more */
#define FLAC_HOLD (8 << 20)    /* bytes kept until its header knows the length: minutes of speech */
#define OPUS_RATE 24000
#define UNKNOWN_SIZE 0xffffffffu
#define RIFF_OVERHEAD 36 /* bytes of the RIFF chunk before the samples */

struct audio_encoder {
    enum audio_format format;
    audio_sink sink;
    void *arg;
    struct audio_resampler *resampler; /* NULL: the rate stays */
    SNDFILE *sndfile;
    struct aac_encoder *aac;
    /* libsndfile's file: `pending` begins at byte `sent`; what lies before has left for good. */
    struct buffer pending;
    sf_count_t sent, position;
};

static const struct {
    const char *name, *mime;
} formats[] = {
    [AUDIO_WAV] = {"wav", "audio/wav"},    [AUDIO_PCM] = {"pcm", "audio/pcm"},
    [AUDIO_FLAC] = {"flac", "audio/flac"}, [AUDIO_MP3] = {"mp3", "audio/mpeg"},
    [AUDIO_OPUS] = {"opus", "audio/opus"}, [AUDIO_AAC] = {"aac", "audio/aac"},
};

int audio_format_parse(const char *name, enum audio_format *out)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (!strcmp(name, formats[i].name)) {
            *out = (enum audio_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *audio_format_name(enum audio_format format)
{
    return formats[format].name;
}

const char *audio_format_mime(enum audio_format format)
{
    return formats[format].mime;
}

/* The rates that a codec takes; anything else is resampled. */
uint32_t audio_format_rate(enum audio_format format, uint32_t rate_hz)
{
    static const uint32_t mpeg[] = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000};

    if (format == AUDIO_PCM)
        return AUDIO_PCM_RATE;
    if (format == AUDIO_OPUS)
        return OPUS_RATE;
    if (format == AUDIO_WAV || format == AUDIO_FLAC)
        return rate_hz;
    for (size_t i = 0; i < sizeof(mpeg) / sizeof(mpeg[0]); i++) {
        if (mpeg[i] == rate_hz)
            return rate_hz;
    }
    return 24000;
}

/* A file that only grows: headers rewritten after they have left stay as they were sent. */

static sf_count_t pending_length(void *arg)
{
    const struct audio_encoder *encoder = arg;

    return encoder->sent + (sf_count_t)encoder->pending.size;
}

static sf_count_t pending_seek(sf_count_t offset, int whence, void *arg)
{
    struct audio_encoder *encoder = arg;
    sf_count_t base = whence == SEEK_SET   ? 0
                      : whence == SEEK_CUR ? encoder->position
                                           : pending_length(arg);

    if (offset < -base || offset > pending_length(arg) - base)
        return -1;
    encoder->position = base + offset;
    return encoder->position;
}

static sf_count_t pending_read(void *out, sf_count_t n, void *arg)
{
    (void)out, (void)n, (void)arg;
    return 0;
}

static sf_count_t pending_write(const void *data, sf_count_t n, void *arg)
{
    struct audio_encoder *encoder = arg;
    const uint8_t *bytes = data;
    sf_count_t left = n;

    for (; left > 0 && encoder->position < encoder->sent; left--, bytes++)
        encoder->position++; /* gone already */
    while (left > 0) {
        size_t at = (size_t)(encoder->position - encoder->sent);
        size_t room = encoder->pending.size - at;
        size_t now = room < (size_t)left ? room : (size_t)left;

        if (!now) {
            if (buffer_append(&encoder->pending, bytes, (size_t)left) < 0)
                return n - left;
            now = (size_t)left;
        } else {
            memcpy(encoder->pending.data + at, bytes, now);
        }
        encoder->position += (sf_count_t)now;
        bytes += now;
        left -= (sf_count_t)now;
    }
    return n;
}

static sf_count_t pending_tell(void *arg)
{
    return ((struct audio_encoder *)arg)->position;
}

static SF_VIRTUAL_IO pending_io = {pending_length, pending_seek, pending_read, pending_write,
                                   pending_tell};

static int send_pending(struct audio_encoder *encoder)
{
    size_t size = encoder->pending.size;
    int err = size ? encoder->sink(encoder->arg, encoder->pending.data, size) : 0;

    if (err)
        return err;
    encoder->sent += (sf_count_t)size;
    buffer_consume(&encoder->pending, size);
    return 0;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static int send_wav_header(struct audio_encoder *encoder, uint32_t rate_hz, uint64_t n_samples)
{
    uint8_t header[44] = "RIFF....WAVEfmt ";
    bool known = n_samples < (UNKNOWN_SIZE - RIFF_OVERHEAD) / 2;
    uint32_t size = known ? (uint32_t)n_samples * 2 : UNKNOWN_SIZE;

    put_u32(header + 4, known ? size + RIFF_OVERHEAD : UNKNOWN_SIZE);
    put_u32(header + 16, 16);          /* size of the format chunk */
    put_u32(header + 20, 1 | 1 << 16); /* PCM, mono */
    put_u32(header + 24, rate_hz);
    put_u32(header + 28, rate_hz * 2);
    put_u32(header + 32, 2 | 16 << 16); /* bytes a frame, bits a sample */
    memcpy(header + 36, "data", 4);
    put_u32(header + 40, size);
    return encoder->sink(encoder->arg, header, sizeof(header));
}

static int open_sndfile(struct audio_encoder *encoder, int format, uint32_t rate_hz)
{
    SF_INFO info = {.samplerate = (int)rate_hz, .channels = 1, .format = format};
    double latency_ms = 100;
    int constant = SF_BITRATE_MODE_CONSTANT; /* players judge the length by it: no index is kept */

    encoder->sndfile = sf_open_virtual(&pending_io, SFM_WRITE, &info, encoder);
    if (!encoder->sndfile)
        return -EINVAL;
    if (encoder->format == AUDIO_OPUS) /* a page a second is the default */
        sf_command(encoder->sndfile, SFC_SET_OGG_PAGE_LATENCY_MS, &latency_ms, sizeof(latency_ms));
    if (encoder->format == AUDIO_MP3)
        sf_command(encoder->sndfile, SFC_SET_BITRATE_MODE, &constant, sizeof(constant));
    return 0;
}

static int open_codec(struct audio_encoder *encoder, uint32_t rate_hz, uint64_t n_samples)
{
    switch (encoder->format) {
    case AUDIO_WAV:
        return send_wav_header(encoder, rate_hz, n_samples);
    case AUDIO_PCM:
        return 0;
    case AUDIO_FLAC:
        return open_sndfile(encoder, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, rate_hz);
    case AUDIO_MP3:
        return open_sndfile(encoder, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, rate_hz);
    case AUDIO_OPUS:
        return open_sndfile(encoder, SF_FORMAT_OGG | SF_FORMAT_OPUS, rate_hz);
    case AUDIO_AAC:
        return aac_encoder_create(rate_hz, &encoder->aac);
    }
    return -EINVAL;
}

int audio_encoder_create(enum audio_format format, uint32_t rate_hz, uint64_t n_samples,
                         audio_sink sink, void *arg, struct audio_encoder **out)
{
    struct audio_encoder *encoder;
    uint32_t codec_rate = audio_format_rate(format, rate_hz);
    int err = 0;

    if (rate_hz < AUDIO_RATE_MIN || rate_hz > AUDIO_RATE_MAX)
        return -EINVAL;
    encoder = calloc(1, sizeof(*encoder));
    if (!encoder)
        return -ENOMEM;
    encoder->format = format;
    encoder->sink = sink;
    encoder->arg = arg;
    buffer_init(&encoder->pending, PENDING_MAX);
    if (codec_rate != rate_hz)
        err = audio_resampler_create(rate_hz, codec_rate, &encoder->resampler);
    if (!err)
        err = open_codec(encoder, codec_rate, n_samples);
    if (err) {
        audio_encoder_destroy(&encoder);
        return err;
    }
    *out = encoder;
    return 0;
}

void audio_encoder_destroy(struct audio_encoder **encoder)
{
    if (!*encoder)
        return;
    if ((*encoder)->sndfile)
        sf_close((*encoder)->sndfile);
    aac_encoder_destroy(&(*encoder)->aac);
    audio_resampler_destroy(&(*encoder)->resampler);
    buffer_fini(&(*encoder)->pending);
    free(*encoder);
    *encoder = NULL;
}

static int encode(struct audio_encoder *encoder, const int16_t *pcm, size_t n)
{
    if (encoder->aac)
        return aac_encoder_write(encoder->aac, pcm, n, encoder->sink, encoder->arg);
    if (!encoder->sndfile)
        return n ? encoder->sink(encoder->arg, pcm, n * sizeof(*pcm)) : 0;
    if (n && sf_writef_short(encoder->sndfile, pcm, (sf_count_t)n) != (sf_count_t)n)
        return -EIO;
    if (encoder->format == AUDIO_FLAC && !encoder->sent && encoder->pending.size < FLAC_HOLD)
        return 0;
    return send_pending(encoder);
}

/* pcm NULL: the end, give out what the resampler holds back. */
static int resample_and_encode(struct audio_encoder *encoder, const int16_t *pcm, size_t n)
{
    float in[BLOCK], out[BLOCK];
    int16_t samples[BLOCK];

    for (;;) {
        size_t n_in = n < BLOCK ? n : BLOCK, consumed = 0, produced = 0;
        int err;

        for (size_t i = 0; i < n_in; i++)
            in[i] = (float)pcm[i] / 32768.0f;
        err = audio_resample(encoder->resampler, pcm ? in : NULL, n_in, &consumed, out, BLOCK,
                             &produced);
        if (err < 0)
            return err;
        audio_to_s16(out, produced, samples);
        err = encode(encoder, samples, produced);
        if (err)
            return err;
        if (pcm)
            pcm += consumed;
        n -= consumed;
        if (pcm ? !n : !produced)
            return 0;
    }
}

int audio_encoder_write(struct audio_encoder *encoder, const int16_t *pcm, size_t n)
{
    if (!n)
        return 0;
    return encoder->resampler ? resample_and_encode(encoder, pcm, n) : encode(encoder, pcm, n);
}

int audio_encoder_finish(struct audio_encoder *encoder)
{
    int err = encoder->resampler ? resample_and_encode(encoder, NULL, 0) : 0;

    if (!err && encoder->aac)
        err = aac_encoder_finish(encoder->aac, encoder->sink, encoder->arg);
    if (!err && encoder->sndfile) {
        int closed = sf_close(encoder->sndfile);

        encoder->sndfile = NULL;
        err = closed ? -EIO : send_pending(encoder);
    }
    return err;
}
