/*
 * aac.h - AAC-LC in ADTS frames, for encode.c
 */
#ifndef AUDIO_AAC_H
#define AUDIO_AAC_H

#include <stddef.h>
#include <stdint.h>

struct aac_encoder;

/** @param rate_hz  one of MPEG's, 8000 to 48000. @return 0; -EINVAL; -ENOMEM */
int aac_encoder_create(uint32_t rate_hz, struct aac_encoder **out);
int aac_encoder_write(struct aac_encoder *aac, const int16_t *pcm, size_t n,
                      int (*sink)(void *arg, const void *data, size_t size), void *arg);
/** Pads the last frame with silence. */
int aac_encoder_finish(struct aac_encoder *aac,
                       int (*sink)(void *arg, const void *data, size_t size), void *arg);
void aac_encoder_destroy(struct aac_encoder **aac);

#endif
