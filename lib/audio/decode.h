/*
 * decode.h - audio files in memory to samples: mono, 16 kHz, in pieces
 *
 * WAV, FLAC, Ogg (Vorbis, Opus) and MP3 by their content, whatever the name says; raw samples when
 * the caller says so. Nothing is decoded ahead of what is read, so a small file that would unpack
 * to days of audio costs nothing past the limit.
 */
#ifndef AUDIO_DECODE_H
#define AUDIO_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AUDIO_RATE 16000 /* Hz, of what a decoder gives */
#define AUDIO_ERROR_MAX 256

struct audio_decoder;

struct audio_source {
    const void *data; /* (size) borrowed until the decoder is destroyed */
    size_t size;
    uint32_t raw_rate;     /* 0: a file; else signed 16-bit little-endian samples at this rate */
    uint32_t raw_channels; /* of raw samples, interleaved; 0: 1 */
    uint32_t max_seconds;  /* 0: no limit */
};

/**
 * Look at the head of the source.
 *
 * @param error  (AUDIO_ERROR_MAX) what is wrong and what would do, on failure
 * @return 0; -EBADMSG: not audio, or damaged; -ENOTSUP: audio of a kind that is not read; -ENOMEM
 */
int audio_decoder_create(const struct audio_source *source, char *error,
                         struct audio_decoder **out);
void audio_decoder_destroy(struct audio_decoder **decoder);

/**
 * Decode on.
 *
 * @param pcm  (n) mono, full scale 1.0, AUDIO_RATE
 * @return how many samples; 0: the end; -EFBIG: longer than max_seconds; -EBADMSG; -EIO
 */
ssize_t audio_decoder_read(struct audio_decoder *decoder, float *pcm, size_t n);

/** "wav", "flac", "ogg", "mp3", "pcm". */
const char *audio_decoder_kind(const struct audio_decoder *decoder);

/** Samples to signed 16-bit, rounded and clipped. */
void audio_to_s16(const float *pcm, size_t n, int16_t *out);

#endif
