#include "audio/decode.h"

#include "audio/mp3.h"
#include "audio/resample.h"
#include "audio/vorbis.h"

#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 4096 /* frames decoded at once */
#define CHANNELS_MAX 16

struct memory_file {
    const uint8_t *data;
    sf_count_t size, position;
};

struct audio_decoder {
    struct memory_file file;
    SNDFILE *sndfile; /* these three NULL: raw samples */
    struct mp3_decoder *mp3;
    struct vorbis_decoder *vorbis;
    struct audio_resampler *resampler;
    const char *kind;
    uint32_t channels;
    float *frames; /* (BLOCK, channels) as decoded */
    float *mono;   /* (BLOCK) */
    size_t mono_at, mono_end;
    bool input_over;
    uint64_t produced, limit; /* samples; limit 0: none */
};

/* A file in memory, as libsndfile wants one. */

static sf_count_t memory_length(void *arg)
{
    return ((struct memory_file *)arg)->size;
}

static sf_count_t memory_seek(sf_count_t offset, int whence, void *arg)
{
    struct memory_file *file = arg;
    sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file->position : file->size;

    if (offset < -base || offset > file->size - base)
        return -1;
    file->position = base + offset;
    return file->position;
}

static sf_count_t memory_read(void *out, sf_count_t n, void *arg)
{
    struct memory_file *file = arg;

    if (n > file->size - file->position)
        n = file->size - file->position;
    if (n <= 0)
        return 0;
    memcpy(out, file->data + file->position, (size_t)n);
    file->position += n;
    return n;
}

static sf_count_t memory_write(const void *data, sf_count_t n, void *arg)
{
    (void)data, (void)n, (void)arg;
    return 0;
}

static sf_count_t memory_tell(void *arg)
{
    return ((struct memory_file *)arg)->position;
}

static SF_VIRTUAL_IO memory_io = {memory_length, memory_seek, memory_read, memory_write,
                                  memory_tell};

/* What a file is. libsndfile reads thirty formats; it gets WAV, FLAC and Ogg with Opus or FLAC. */

static bool starts_with(const struct audio_source *source, size_t at, const char *magic)
{
    size_t n = strlen(magic);

    return source->size >= at + n && !memcmp((const char *)source->data + at, magic, n);
}

static bool is_mp3(const struct audio_source *source)
{
    const uint8_t *bytes = source->data;

    if (starts_with(source, 0, "ID3"))
        return true;
    return source->size >= 4 && bytes[0] == 0xff && (bytes[1] & 0xe0) == 0xe0 &&
           (bytes[1] & 0x06) != 0; /* layer bits 00 are AAC's (ADTS) */
}

static const char *kind_of(const struct audio_source *source)
{
    if ((starts_with(source, 0, "RIFF") || starts_with(source, 0, "RF64")) &&
        starts_with(source, 8, "WAVE"))
        return "wav";
    if (starts_with(source, 0, "fLaC"))
        return "flac";
    if (starts_with(source, 0, "OggS"))
        return "ogg";
    return is_mp3(source) ? "mp3" : NULL;
}

/* Audio that we know by sight but do not read. */
static const char *foreign_kind(const struct audio_source *source)
{
    const uint8_t *bytes = source->data;

    if (starts_with(source, 4, "ftyp"))
        return "MP4 (m4a)";
    if (starts_with(source, 0, "\x1a\x45\xdf\xa3"))
        return "Matroska (webm)";
    if (source->size >= 2 && bytes[0] == 0xff && (bytes[1] & 0xf6) == 0xf0)
        return "AAC (adts)";
    if (starts_with(source, 0, "FORM"))
        return "AIFF";
    if (starts_with(source, 0, ".snd"))
        return "AU";
    if (starts_with(source, 0, "#!AMR"))
        return "AMR";
    return NULL;
}

static int refuse(const struct audio_source *source, char *error)
{
    const char *foreign = foreign_kind(source);

    if (!source->size)
        snprintf(error, AUDIO_ERROR_MAX, "not audio: it is empty");
    else if (foreign)
        snprintf(error, AUDIO_ERROR_MAX,
                 "%s audio is not read: convert it to wav, flac, mp3 or ogg (vorbis, opus)",
                 foreign);
    else
        snprintf(error, AUDIO_ERROR_MAX,
                 "not audio: neither wav, flac, mp3 nor ogg (vorbis, opus) by its first bytes");
    return foreign ? -ENOTSUP : -EBADMSG;
}

static int open_mp3(struct audio_decoder *decoder, const struct audio_source *source, char *error,
                    uint32_t *rate)
{
    int err =
        mp3_decoder_create(source->data, source->size, &decoder->mp3, rate, &decoder->channels);

    if (err < 0)
        snprintf(error, AUDIO_ERROR_MAX, "not audio: damaged mp3 file: no frame can be read");
    return err;
}

/* Whether an Ogg file's first page begins a Vorbis stream (RFC 3533, 6; Vorbis I, 4.2.1). */
static bool is_vorbis(const struct audio_source *source)
{
    const uint8_t *bytes = source->data;

    return starts_with(source, 0, "OggS") && source->size > 27 &&
           starts_with(source, 27u + bytes[26], "\x01vorbis");
}

static int open_vorbis(struct audio_decoder *decoder, const struct audio_source *source,
                       char *error, uint32_t *rate)
{
    int err = vorbis_decoder_create(source->data, source->size, &decoder->vorbis, rate,
                                    &decoder->channels);

    if (err < 0)
        snprintf(error, AUDIO_ERROR_MAX, "not audio: damaged ogg file: its headers cannot be read");
    return err;
}

static int check_channels(const struct audio_decoder *decoder, char *error)
{
    if (decoder->channels >= 1 && decoder->channels <= CHANNELS_MAX)
        return 0;
    snprintf(error, AUDIO_ERROR_MAX, "%u channels: 1 to %d are read", decoder->channels,
             CHANNELS_MAX);
    return -ENOTSUP;
}

static int open_file(struct audio_decoder *decoder, const struct audio_source *source, char *error,
                     uint32_t *rate)
{
    SF_INFO info = {0};

    decoder->kind = kind_of(source);
    if (!decoder->kind)
        return refuse(source, error);
    if (!strcmp(decoder->kind, "mp3"))
        return open_mp3(decoder, source, error, rate);
    if (is_vorbis(source))
        return open_vorbis(decoder, source, error, rate);
    decoder->file = (struct memory_file){source->data, (sf_count_t)source->size, 0};
    decoder->sndfile = sf_open_virtual(&memory_io, SFM_READ, &info, &decoder->file);
    if (!decoder->sndfile) {
        char why[160];

        snprintf(why, sizeof(why), "%s", sf_strerror(NULL));
        why[strcspn(why, "\n")] = '\0';
        snprintf(error, AUDIO_ERROR_MAX, "not audio: damaged %s file: %s", decoder->kind, why);
        return -EBADMSG;
    }
    decoder->channels = info.channels > 0 ? (uint32_t)info.channels : 0;
    *rate = info.samplerate > 0 ? (uint32_t)info.samplerate : 0;
    return 0;
}

static int open_raw(struct audio_decoder *decoder, const struct audio_source *source, char *error)
{
    decoder->kind = "pcm";
    decoder->channels = source->raw_channels ? source->raw_channels : 1;
    if (decoder->channels > CHANNELS_MAX || source->size % (2 * decoder->channels)) {
        snprintf(error, AUDIO_ERROR_MAX,
                 "not audio: %zu bytes are no whole number of 16-bit samples in %u channels",
                 source->size, decoder->channels);
        return -EBADMSG;
    }
    decoder->file = (struct memory_file){source->data, (sf_count_t)source->size, 0};
    return 0;
}

int audio_decoder_create(const struct audio_source *source, char *error, struct audio_decoder **out)
{
    struct audio_decoder *decoder = calloc(1, sizeof(*decoder));
    uint32_t rate = source->raw_rate;
    int err = -ENOMEM;

    snprintf(error, AUDIO_ERROR_MAX, "out of memory");
    if (!decoder)
        goto done;
    decoder->limit = (uint64_t)source->max_seconds * AUDIO_RATE;
    err = rate ? open_raw(decoder, source, error) : open_file(decoder, source, error, &rate);
    if (!err)
        err = check_channels(decoder, error);
    if (err < 0)
        goto done;
    err = audio_resampler_create(rate, AUDIO_RATE, &decoder->resampler);
    if (err == -EINVAL) {
        snprintf(error, AUDIO_ERROR_MAX, "a rate of %u Hz: %d to %d are read", rate, AUDIO_RATE_MIN,
                 AUDIO_RATE_MAX);
        err = -ENOTSUP;
    }
    if (err < 0)
        goto done;
    err = -ENOMEM;
    decoder->frames = malloc(sizeof(float) * BLOCK * decoder->channels);
    decoder->mono = malloc(sizeof(float) * BLOCK);
    if (!decoder->frames || !decoder->mono)
        goto done;
    error[0] = '\0';
    *out = decoder;
    decoder = NULL;
    err = 0;
done:
    audio_decoder_destroy(&decoder);
    return err;
}

void audio_decoder_destroy(struct audio_decoder **decoder)
{
    if (!*decoder)
        return;
    if ((*decoder)->sndfile)
        sf_close((*decoder)->sndfile);
    mp3_decoder_destroy(&(*decoder)->mp3);
    vorbis_decoder_destroy(&(*decoder)->vorbis);
    audio_resampler_destroy(&(*decoder)->resampler);
    free((*decoder)->frames);
    free((*decoder)->mono);
    free(*decoder);
    *decoder = NULL;
}

static size_t read_raw(struct audio_decoder *decoder)
{
    struct memory_file *file = &decoder->file;
    size_t left = (size_t)(file->size - file->position) / (2 * decoder->channels);
    size_t n = left < BLOCK ? left : BLOCK;
    const uint8_t *bytes = file->data + file->position;

    for (size_t i = 0; i < n * decoder->channels; i++)
        decoder->frames[i] =
            (float)(int16_t)(uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8) / 32768.0f;
    file->position += (sf_count_t)(n * decoder->channels * 2);
    return n;
}

/* Decode a block and mix it down. Float files may hold anything: what is no number becomes silence.
 */
static void fill_mono(struct audio_decoder *decoder)
{
    const uint32_t channels = decoder->channels;
    sf_count_t n;

    if (decoder->sndfile)
        n = sf_readf_float(decoder->sndfile, decoder->frames, BLOCK);
    else if (decoder->mp3)
        n = (sf_count_t)mp3_decoder_read(decoder->mp3, decoder->frames, BLOCK);
    else if (decoder->vorbis)
        n = (sf_count_t)vorbis_decoder_read(decoder->vorbis, decoder->frames, BLOCK);
    else
        n = (sf_count_t)read_raw(decoder);
    if (n <= 0) {
        decoder->input_over = true;
        n = 0;
    }
    for (sf_count_t i = 0; i < n; i++) {
        float sum = 0;

        for (uint32_t c = 0; c < channels; c++)
            sum += decoder->frames[i * channels + c];
        sum /= (float)channels;
        decoder->mono[i] = isfinite(sum) ? fminf(fmaxf(sum, -1.0f), 1.0f) : 0.0f;
    }
    decoder->mono_at = 0;
    decoder->mono_end = (size_t)n;
}

ssize_t audio_decoder_read(struct audio_decoder *decoder, float *pcm, size_t n)
{
    size_t have = 0;

    while (have < n) {
        size_t consumed = 0, produced = 0;
        bool flush;
        int err;

        if (decoder->mono_at == decoder->mono_end && !decoder->input_over)
            fill_mono(decoder);
        flush = decoder->mono_at == decoder->mono_end;
        err = audio_resample(decoder->resampler, flush ? NULL : decoder->mono + decoder->mono_at,
                             decoder->mono_end - decoder->mono_at, &consumed, pcm + have, n - have,
                             &produced);
        if (err < 0)
            return err;
        decoder->mono_at += consumed;
        have += produced;
        if (flush && !produced)
            break;
    }
    decoder->produced += have;
    if (decoder->limit && decoder->produced > decoder->limit)
        return -EFBIG;
    return (ssize_t)have;
}

const char *audio_decoder_kind(const struct audio_decoder *decoder)
{
    return decoder->kind;
}

void audio_to_s16(const float *pcm, size_t n, int16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        float scaled = rintf(pcm[i] * 32768.0f);

        out[i] = (int16_t)fminf(fmaxf(scaled, -32768.0f), 32767.0f);
    }
}
