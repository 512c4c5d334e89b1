/*
 * transcript.h - what a recogniser said, in the five shapes of OpenAI's transcription routes
 */
#ifndef GATEWAY_API_TRANSCRIPT_H
#define GATEWAY_API_TRANSCRIPT_H

#include "base/buffer.h"
#include "proto/asr.pb-c.h"

#include <jansson.h>
#include <stdbool.h>

struct transcript {
    struct buffer text; /* of all segments, as the model wrote them */
    json_t *segments;   /* for verbose_json */
    json_t *words;
    struct buffer srt, vtt;
    unsigned n;
};

/** @return 0; -ENOMEM */
int transcript_init(struct transcript *transcript);
void transcript_fini(struct transcript *transcript);
int transcript_add(struct transcript *transcript, const Dragoman__Asr__V1__Segment *segment);
/** The whole text without white space around it; borrowed until the next add. */
const char *transcript_text(struct transcript *transcript);

#endif
