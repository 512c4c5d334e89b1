/*
 * vorbis.h - Ogg Vorbis in memory to samples, for decode.c
 *
 * Not through libsndfile, whose 1.2.0 leaks a decoder for every file with damaged headers.
 */
#ifndef AUDIO_VORBIS_H
#define AUDIO_VORBIS_H

#include <stddef.h>
#include <stdint.h>

struct vorbis_decoder;

/** @param data (size) borrowed. @return 0; -EBADMSG when it is none, or damaged; -ENOMEM */
int vorbis_decoder_create(const void *data, size_t size, struct vorbis_decoder **out,
                          uint32_t *rate_hz, uint32_t *channels);
/** @param frames (n, channels). @return how many; 0: the end, or damaged past repair */
size_t vorbis_decoder_read(struct vorbis_decoder *vorbis, float *frames, size_t n);
void vorbis_decoder_destroy(struct vorbis_decoder **vorbis);

#endif
