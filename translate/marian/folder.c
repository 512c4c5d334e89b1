#include "translate/marian/folder.h"

#include "text/language.h"
#include "translate/engine.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The students' own files ask for greedy search; a second hypothesis is worth half a BLEU (docs/translate.md). */
#define LEAST_BEAM 2

#define CONFIG_BYTES 65536

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool ends(const char *name, const char *with)
{
    size_t n = strlen(name), m = strlen(with);

    return n >= m && strcmp(name + n - m, with) == 0;
}

/* Of several the first by name, so that the choice is the same everywhere. */
static void keep(char *path, const char *folder, const char *name)
{
    char candidate[PATH_MAX];

    snprintf(candidate, sizeof(candidate), "%.*s/%s", PATH_MAX - NAME_MAX - 2, folder, name);
    if (!path[0] || strcmp(candidate, path) < 0)
        memcpy(path, candidate, sizeof(candidate));
}

/* "enpt" of "model.enpt.intgemm.alphas.bin"; else the end of the folder's name, "...-en-pt". */
static int find_pair(const char *folder, struct marian_folder *out)
{
    const char *name = strrchr(out->model, '/') + 1 + strlen("model.");
    char trimmed[PATH_MAX], *dash;
    const char *source = NULL, *target = NULL;
    char codes[2][9] = {"", ""};

    if (strcspn(name, ".") == 4) {
        snprintf(codes[0], sizeof(codes[0]), "%.2s", name);
        snprintf(codes[1], sizeof(codes[1]), "%.2s", name + 2);
    } else {
        snprintf(trimmed, sizeof(trimmed), "%s", folder);
        while (ends(trimmed, "/"))
            trimmed[strlen(trimmed) - 1] = '\0';
        for (int i = 1; i >= 0 && (dash = strrchr(trimmed, '-')); i--) {
            snprintf(codes[i], sizeof(codes[i]), "%s", dash + 1);
            *dash = '\0';
        }
    }
    source = language_code(codes[0]);
    target = language_code(codes[1]);
    if (!source || !target)
        return -EBADMSG;
    snprintf(out->source, sizeof(out->source), "%s", source);
    snprintf(out->target, sizeof(out->target), "%s", target);
    return 0;
}

/* The number of a line "key: number". */
static double setting(const char *config, const char *key, double otherwise)
{
    size_t n = strlen(key);

    for (const char *line = config; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0 && line[n] == ':')
            return strtod(line + n + 1, NULL);
    }
    return otherwise;
}

static void read_settings(const char *path, struct marian_folder *out)
{
    char config[CONFIG_BYTES] = "";
    FILE *file = path[0] ? fopen(path, "rb") : NULL;

    if (file) {
        config[fread(config, 1, sizeof(config) - 1, file)] = '\0';
        fclose(file);
    }
    out->max_length_factor = setting(config, "max-length-factor", 2.5);
    out->normalize = setting(config, "normalize", 1);
    out->word_penalty = setting(config, "word-penalty", 0);
    out->beam_size = (long)setting(config, "beam-size", LEAST_BEAM);
    if (!(out->max_length_factor >= 1 && out->max_length_factor <= 20))
        out->max_length_factor = 2.5;
    if (!(out->beam_size >= LEAST_BEAM && out->beam_size <= TRANSLATE_MOST_BEAMS))
        out->beam_size = LEAST_BEAM;
}

int marian_folder_read(const char *path, char *error, size_t size, struct marian_folder *out)
{
    char vocab[PATH_MAX] = "", config[PATH_MAX] = "";
    struct dirent *entry;
    DIR *dir = opendir(path);

    if (!dir) {
        snprintf(error, size, "cannot open model folder '%s': %s", path, strerror(errno));
        return errno == ENOENT || errno == ENOTDIR ? -ENOENT : -EIO;
    }
    memset(out, 0, sizeof(*out));
    while ((entry = readdir(dir))) {
        const char *name = entry->d_name;

        if (begins(name, "model.") && ends(name, ".bin"))
            keep(out->model, path, name);
        else if (begins(name, "vocab.") && ends(name, ".spm"))
            keep(vocab, path, name);
        else if (begins(name, "srcvocab.") && ends(name, ".spm"))
            keep(out->source_vocab, path, name);
        else if (begins(name, "trgvocab.") && ends(name, ".spm"))
            keep(out->target_vocab, path, name);
        else if (begins(name, "lex.") && ends(name, ".bin"))
            keep(out->shortlist, path, name);
        else if (begins(name, "config") && ends(name, ".yml"))
            keep(config, path, name);
    }
    closedir(dir);
    if (!out->source_vocab[0] || !out->target_vocab[0]) {
        memcpy(out->source_vocab, vocab, sizeof(vocab));
        memcpy(out->target_vocab, vocab, sizeof(vocab));
    }
    if (!out->model[0] || !out->source_vocab[0]) {
        snprintf(error, size, "'%s' holds no Marian model: no %s in it", path,
                 out->model[0] ? "vocab.*.spm" : "model.*.bin");
        return -ENOENT;
    }
    if (find_pair(path, out) < 0) {
        snprintf(
            error, size,
            "the languages of '%s' are unknown: name it model.XXYY.bin or its folder ...-XX-YY",
            out->model);
        return -EBADMSG;
    }
    read_settings(config, out);
    return 0;
}
