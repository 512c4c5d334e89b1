/*
 * service.h - the translator as a mesh service: dragoman.translate.v1.Translator
 *
 * Labels: pair ("en-pt"), source, target, model, engine.
 */
#ifndef TRANSLATE_SERVICE_H
#define TRANSLATE_SERVICE_H

#include "mesh/harness.h"

struct translate_config {
    const char *engine;       /* "marian" */
    const char *model;        /* the folder */
    const char *model_name;   /* announced; NULL: the folder's last part */
    const char *compute_type; /* "int8" */
    int64_t threads;          /* 0: all */
    int64_t max_text_bytes;   /* longest text of one call; 0: 1 MiB */
};

extern const struct mesh_harness_service translate_service;

#endif
