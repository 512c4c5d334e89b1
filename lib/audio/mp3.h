/*
 * mp3.h - MPEG audio in memory to samples, for decode.c
 *
 * Not through libsndfile: it stops at a length guessed from the first frames, which cuts files of
 * variable bit rate that carry no index, and its mpg123 writes about every damaged frame to
 * standard error.
 */
#ifndef AUDIO_MP3_H
#define AUDIO_MP3_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mp3_decoder;

/** @param data (size) borrowed. @return 0; -EBADMSG when no frame is found; -ENOMEM */
int mp3_decoder_create(const void *data, size_t size, struct mp3_decoder **out, uint32_t *rate_hz,
                       uint32_t *channels);
/** @param frames (n, channels). @return how many; 0: the end, or damaged past repair */
size_t mp3_decoder_read(struct mp3_decoder *mp3, float *frames, size_t n);
void mp3_decoder_destroy(struct mp3_decoder **mp3);

#endif
