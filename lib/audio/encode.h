/*
 * encode.h - samples to audio files that leave while they are made
 *
 * The length need not be known before: WAV says "unknown" in its header, as streaming servers do,
 * and no format goes back to mend one. Only FLAC is kept until its header is right, some minutes of
 * it: few readers take one without a length.
 */
#ifndef AUDIO_ENCODE_H
#define AUDIO_ENCODE_H

#include <stddef.h>
#include <stdint.h>

enum audio_format {
    AUDIO_WAV,  /* 16 bit, the rate of the samples */
    AUDIO_PCM,  /* no header: signed 16-bit little-endian at AUDIO_PCM_RATE, as OpenAI's */
    AUDIO_FLAC, /* the rate of the samples */
    AUDIO_MP3,
    AUDIO_OPUS, /* in Ogg */
    AUDIO_AAC,  /* LC, ADTS frames */
};

#define AUDIO_PCM_RATE 24000
#define AUDIO_LENGTH_UNKNOWN UINT64_MAX
#define AUDIO_FORMATS "wav, pcm, flac, mp3, opus, aac"

/** By name, "mp3". @return 0; -EINVAL */
int audio_format_parse(const char *name, enum audio_format *out);
const char *audio_format_name(enum audio_format format);
/** "audio/mpeg". */
const char *audio_format_mime(enum audio_format format);
/** The rate of what comes out when samples at rate_hz go in. */
uint32_t audio_format_rate(enum audio_format format, uint32_t rate_hz);

struct audio_encoder;

/** Takes encoded bytes; anything but 0 stops the encoder, which returns it. */
typedef int (*audio_sink)(void *arg, const void *data, size_t size);

/**
 * @param rate_hz    of the samples, mono
 * @param n_samples  how many will come, for WAV's header; or AUDIO_LENGTH_UNKNOWN
 * @return 0; -EINVAL for a rate that cannot be; -ENOMEM; what the sink returned
 */
int audio_encoder_create(enum audio_format format, uint32_t rate_hz, uint64_t n_samples,
                         audio_sink sink, void *arg, struct audio_encoder **out);
/** @return 0; -EIO; what the sink returned */
int audio_encoder_write(struct audio_encoder *encoder, const int16_t *pcm, size_t n);
/** The last bytes. Nothing may be written after. */
int audio_encoder_finish(struct audio_encoder *encoder);
void audio_encoder_destroy(struct audio_encoder **encoder);

#endif
