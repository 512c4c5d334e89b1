/*
 * service.h - the recogniser as a mesh service: dragoman.asr.v1.Recognizer
 *
 * Labels: lang (each language), model, task (transcribe, translate), engine.
 */
#ifndef ASR_SERVICE_H
#define ASR_SERVICE_H

#include "mesh/harness.h"

struct asr_config {
    const char *engine;       /* "whisper" */
    const char *model;        /* the folder */
    const char *model_name;   /* announced; NULL: the folder's last part */
    const char *compute_type; /* "f32" */
    int64_t threads;          /* 0: all */
    int64_t max_audio_s;      /* longest audio of one call; 0: 4 hours */
};

extern const struct mesh_harness_service asr_service;

#endif
