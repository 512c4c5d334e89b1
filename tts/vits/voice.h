/*
 * voice.h - what a Piper voice's .onnx.json says
 */
#ifndef TTS_VITS_VOICE_H
#define TTS_VITS_VOICE_H

#include <stddef.h>
#include <stdint.h>

struct vits_voice {
    char *name;                  /* of the file, without ".onnx" */
    char language[8], region[8]; /* "en", "US"; region may be empty */
    char *espeak_voice;          /* "en-us" */
    int from_text;               /* phonemes are the text's characters */
    uint32_t sample_rate;
    float noise_scale, length_scale, noise_w;
    char **speakers; /* by id, ended by NULL; NULL for one speaker */
    size_t n_speakers;
    struct vits_symbol *symbols; /* (n_symbols) sorted by text */
    size_t n_symbols;
    size_t widest;   /* most ids of a symbol */
    char **clusters; /* (n_clusters) characters that make one symbol together */
    size_t n_clusters;
};

struct vits_symbol {
    char *text; /* decomposed: one character, or a cluster of them */
    int64_t *ids;
    size_t n_ids;
};

/**
 * Read a configuration.
 *
 * @param json   (size) the file's bytes
 * @param name   of the voice, copied
 * @param error  (error_size) what is wrong with it
 * @return 0; -EBADMSG; -ENOMEM
 */
int vits_voice_read(const char *json, size_t size, const char *name, char *error, size_t error_size,
                    struct vits_voice *out);
void vits_voice_fini(struct vits_voice *voice);

/**
 * Ids of a sentence: start, then each symbol with padding after it, end. What the voice has no symbol
 * for is left out.
 *
 * @param ids  (*n) free() it; the symbols between start and end are none when nothing was known
 * @param known  how many symbols were found
 * @return 0; -ENOMEM
 */
int vits_voice_ids(const struct vits_voice *voice, const char *phonemes, int64_t **ids, size_t *n,
                   size_t *known);

/** Id of a speaker by name or by number; NULL or "" is the first. @return -1 when there is none */
int64_t vits_voice_speaker(const struct vits_voice *voice, const char *speaker);

#endif
