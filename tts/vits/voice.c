#include "tts/vits/voice.h"

#include "text/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYMBOLS_MAX 65536
#define SYMBOL_IDS_MAX 16
#define SPEAKERS_MAX 65536

static int say(char *error, size_t size, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int say(char *error, size_t size, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (size)
        vsnprintf(error, size, fmt, args);
    va_end(args);
    return err;
}

static int compare_symbols(const void *a, const void *b)
{
    return strcmp(((const struct vits_symbol *)a)->text, ((const struct vits_symbol *)b)->text);
}

static int read_symbol(const char *text, const json_t *ids, struct vits_symbol *out)
{
    size_t n = json_array_size(ids);

    if (!*text || n == 0 || n > SYMBOL_IDS_MAX)
        return -EBADMSG;
    out->text = strdup(text);
    out->ids = calloc(n, sizeof(*out->ids));
    if (!out->text || !out->ids)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return -EBADMSG;
        out->ids[i] = json_integer_value(id);
    }
    out->n_ids = n;
    return 0;
}

static int read_symbols(const json_t *root, char *error, size_t size, struct vits_voice *out)
{
    json_t *map = json_object_get(root, "phoneme_id_map"), *ids;
    const char *text;
    int err = 0;

    if (!json_is_object(map) || json_object_size(map) == 0 || json_object_size(map) > SYMBOLS_MAX)
        return say(error, size, -EBADMSG, "no object 'phoneme_id_map'");
    out->symbols = calloc(json_object_size(map), sizeof(*out->symbols));
    if (!out->symbols)
        return -ENOMEM;
    json_object_foreach(map, text, ids)
    {
        err = read_symbol(text, ids, &out->symbols[out->n_symbols++]);
        if (err < 0)
            return say(error, size, err, "'phoneme_id_map' has no ids for '%s'", text);
        if (json_array_size(ids) > out->widest)
            out->widest = json_array_size(ids);
    }
    qsort(out->symbols, out->n_symbols, sizeof(*out->symbols), compare_symbols);
    return 0;
}

/* ["a", "ɪ"] is the symbol "aɪ". */
static int read_cluster(const json_t *parts, char **out)
{
    size_t size = 1;

    for (size_t i = 0; i < json_array_size(parts); i++) {
        if (!json_is_string(json_array_get(parts, i)))
            return -EBADMSG;
        size += json_string_length(json_array_get(parts, i));
    }
    if (size == 1)
        return -EBADMSG;
    *out = calloc(size, 1);
    if (!*out)
        return -ENOMEM;
    for (size_t i = 0; i < json_array_size(parts); i++)
        strcat(*out, json_string_value(json_array_get(parts, i)));
    return 0;
}

static int read_clusters(const json_t *root, char *error, size_t size, struct vits_voice *out)
{
    const json_t *clusters = json_object_get(root, "vowel_clusters");
    size_t n = json_array_size(clusters);
    int err = 0;

    if (n == 0)
        return 0;
    out->clusters = calloc(n, sizeof(*out->clusters));
    if (!out->clusters)
        return -ENOMEM;
    while (!err && out->n_clusters < n) {
        err = read_cluster(json_array_get(clusters, out->n_clusters),
                           &out->clusters[out->n_clusters]);
        out->n_clusters++;
    }
    return err == -EBADMSG ? say(error, size, err, "'vowel_clusters' holds no lists of phonemes")
                           : err;
}

static const char *string_at(const json_t *root, const char *object, const char *key)
{
    return json_string_value(json_object_get(json_object_get(root, object), key));
}

static int read_speakers(const json_t *root, char *error, size_t size, struct vits_voice *out)
{
    json_t *map = json_object_get(root, "speaker_id_map"), *id;
    json_int_t n = json_integer_value(json_object_get(root, "num_speakers"));
    char number[24];
    const char *name;

    out->n_speakers = n > 1 ? (size_t)n : 1;
    if (n > SPEAKERS_MAX)
        return say(error, size, -EBADMSG, "'num_speakers' is %lld", (long long)n);
    if (n <= 1)
        return 0;
    out->speakers = calloc((size_t)n + 1, sizeof(*out->speakers));
    if (!out->speakers)
        return -ENOMEM;
    json_object_foreach(map, name, id)
    {
        json_int_t at = json_integer_value(id);

        if (!json_is_integer(id) || at < 0 || at >= n)
            return say(error, size, -EBADMSG, "speaker '%s' has no id below %lld", name,
                       (long long)n);
        free(out->speakers[at]);
        out->speakers[at] = strdup(name);
        if (!out->speakers[at])
            return -ENOMEM;
    }
    for (size_t i = 0; i < out->n_speakers; i++) {
        if (out->speakers[i])
            continue;
        snprintf(number, sizeof(number), "%zu", i);
        out->speakers[i] = strdup(number);
        if (!out->speakers[i])
            return -ENOMEM;
    }
    return 0;
}

static float scale_at(const json_t *root, const char *key, float fallback)
{
    const json_t *value = json_object_get(json_object_get(root, "inference"), key);
    double scale = json_is_number(value) ? json_number_value(value) : (double)fallback;

    return scale >= 0.0 && scale <= 100.0 ? (float)scale : fallback;
}

/* "en" of "en_US" or "en-us"; the region is what follows, in capitals. */
static int read_language(const json_t *root, struct vits_voice *out)
{
    const char *code = string_at(root, "language", "code");
    const char *region = string_at(root, "language", "region"), *rest;
    size_t n;

    if (!code)
        code = out->espeak_voice;
    n = strcspn(code, "_-");
    rest = code[n] ? code + n + 1 : "";
    if (n < 2 || n >= sizeof(out->language))
        return -EBADMSG;
    memcpy(out->language, code, n);
    snprintf(out->region, sizeof(out->region), "%s", region ? region : rest);
    for (char *c = out->language; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    for (char *c = out->region; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    return 0;
}

static int read_settings(const json_t *root, char *error, size_t size, struct vits_voice *out)
{
    const char *espeak = string_at(root, "espeak", "voice");
    const char *type = json_string_value(json_object_get(root, "phoneme_type"));
    json_int_t rate =
        json_integer_value(json_object_get(json_object_get(root, "audio"), "sample_rate"));

    if (rate < 4000 || rate > 192000)
        return say(error, size, -EBADMSG, "'audio.sample_rate' is %lld", (long long)rate);
    if (type && strcmp(type, "espeak") != 0 && strcmp(type, "text") != 0)
        return say(error, size, -EBADMSG,
                   "'phoneme_type' is '%s': only 'espeak' and 'text' voices can be spoken", type);
    if (!espeak || !*espeak)
        return say(error, size, -EBADMSG, "no 'espeak.voice'");
    out->sample_rate = (uint32_t)rate;
    out->from_text = type && !strcmp(type, "text");
    out->noise_scale = scale_at(root, "noise_scale", 0.667f);
    out->length_scale = scale_at(root, "length_scale", 1.0f);
    out->noise_w = scale_at(root, "noise_w", 0.8f);
    out->espeak_voice = strdup(espeak);
    if (!out->espeak_voice)
        return -ENOMEM;
    if (read_language(root, out) < 0)
        return say(error, size, -EBADMSG, "no 'language.code'");
    return 0;
}

int vits_voice_read(const char *json, size_t size, const char *name, char *error, size_t error_size,
                    struct vits_voice *out)
{
    json_error_t why;
    json_t *root = json_loadb(json, size, 0, &why);
    int err = 0;

    memset(out, 0, sizeof(*out));
    if (!json_is_object(root)) {
        json_decref(root);
        return say(error, error_size, -EBADMSG, "line %d: %s", why.line, why.text);
    }
    out->name = strdup(name);
    if (!out->name)
        err = -ENOMEM;
    if (!err)
        err = read_settings(root, error, error_size, out);
    if (!err)
        err = read_speakers(root, error, error_size, out);
    if (!err)
        err = read_symbols(root, error, error_size, out);
    if (!err)
        err = read_clusters(root, error, error_size, out);
    json_decref(root);
    if (err == -ENOMEM)
        say(error, error_size, err, "out of memory");
    if (err < 0)
        vits_voice_fini(out);
    return err;
}

void vits_voice_fini(struct vits_voice *voice)
{
    for (size_t i = 0; voice->symbols && i < voice->n_symbols; i++) {
        free(voice->symbols[i].text);
        free(voice->symbols[i].ids);
    }
    for (size_t i = 0; voice->speakers && i < voice->n_speakers; i++)
        free(voice->speakers[i]);
    for (size_t i = 0; voice->clusters && i < voice->n_clusters; i++)
        free(voice->clusters[i]);
    free(voice->clusters);
    free(voice->symbols);
    free(voice->speakers);
    free(voice->espeak_voice);
    free(voice->name);
    memset(voice, 0, sizeof(*voice));
}

static const struct vits_symbol *find_symbol(const struct vits_voice *voice, const char *text,
                                             size_t size)
{
    size_t low = 0, high = voice->n_symbols;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(voice->symbols[middle].text, text, size);

        if (order == 0 && voice->symbols[middle].text[size] == '\0')
            return &voice->symbols[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The symbol at the start of a text: the longest cluster that stands there, else one character. */
static const struct vits_symbol *next_symbol(const struct vits_voice *voice, const char *text,
                                             size_t size, size_t *used)
{
    uint32_t c;

    *used = utf8_decode(text, size, &c);
    for (size_t i = 0; i < voice->n_clusters; i++) {
        size_t n = strlen(voice->clusters[i]);

        if (n > *used && n <= size && !memcmp(voice->clusters[i], text, n))
            *used = n;
    }
    return find_symbol(voice, text, *used);
}

static size_t append(int64_t *ids, size_t at, const struct vits_symbol *symbol)
{
    for (size_t i = 0; symbol && i < symbol->n_ids; i++)
        ids[at++] = symbol->ids[i];
    return at;
}

int vits_voice_ids(const struct vits_voice *voice, const char *phonemes, int64_t **ids, size_t *n,
                   size_t *known)
{
    size_t size = strlen(phonemes), used;
    const struct vits_symbol *pad = find_symbol(voice, "_", 1);

    *n = *known = 0;
    *ids = calloc(2 * voice->widest * (size + 2), sizeof(**ids));
    if (!*ids)
        return -ENOMEM;
    *n = append(*ids, *n, find_symbol(voice, "^", 1));
    *n = append(*ids, *n, pad);
    for (size_t at = 0; at < size; at += used) {
        const struct vits_symbol *symbol = next_symbol(voice, phonemes + at, size - at, &used);

        if (!symbol)
            continue;
        ++*known;
        *n = append(*ids, *n, symbol);
        *n = append(*ids, *n, pad);
    }
    *n = append(*ids, *n, find_symbol(voice, "$", 1));
    return 0;
}

int64_t vits_voice_speaker(const struct vits_voice *voice, const char *speaker)
{
    char *end = NULL;
    long long id;

    if (!speaker || !*speaker)
        return 0;
    for (size_t i = 0; voice->speakers && i < voice->n_speakers; i++)
        if (!strcmp(voice->speakers[i], speaker))
            return (int64_t)i;
    id = strtoll(speaker, &end, 10);
    return !*end && id >= 0 && (size_t)id < voice->n_speakers ? id : -1;
}
