/*
 * service.h - the voice as a mesh service: dragoman.tts.v1.Synthesizer
 *
 * Labels: lang, voice (each), model, engine.
 */
#ifndef TTS_SERVICE_H
#define TTS_SERVICE_H

#include "mesh/harness.h"

struct tts_config {
    const char *engine;       /* "vits" or "espeak" */
    const char *model;        /* the folder; unused by "espeak" */
    const char *model_name;   /* announced; NULL: the folder's last part */
    const char *compute_type; /* "f32" */
    int64_t threads;          /* 0: all */
    int64_t max_text_bytes;   /* longest text of one call; 0: 64 KiB */
};

extern const struct mesh_harness_service tts_service;

#endif
