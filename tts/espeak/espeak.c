#include "tts/espeak/espeak.h"

#include "base/buffer.h"
#include "text/language.h"
#include "tts/espeak/process.h"
#include "tts/vits/phonemes.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MOST 700 /* words per minute; past 450 the library skips over time */
#define EMIT_SAMPLES 4096

struct tts_model {
    struct tts_voice *voices; /* (n_voices) of a language, the library's preferred one first */
    struct voice_text {
        char name[24], language[12], region[8];
        int priority;
    } * texts; /* (n_voices) what their pointers point to */
    size_t n_voices;
    int sample_rate;
};

/* "2en-gb" of the library's list: a priority, then a tag. */
static int read_voice(const espeak_VOICE *voice, struct voice_text *out)
{
    const char *tag = voice->languages ? voice->languages + 1 : "";
    const char *region = strchr(tag, '-');
    const char *code;
    char bare[12];
    size_t n = strcspn(tag, "-");

    /* Voices of another synthesizer's data are listed too; they may not be installed. */
    if (!*tag || strlen(tag) >= sizeof(out->name) || n >= sizeof(bare) ||
        (voice->identifier && !strncmp(voice->identifier, "mb/", 3)))
        return -ENOENT;
    memset(out, 0, sizeof(*out));
    memcpy(bare, tag, n);
    bare[n] = '\0';
    code = language_code(bare);
    snprintf(out->name, sizeof(out->name), "%s", tag);
    snprintf(out->language, sizeof(out->language), "%s", code ? code : bare);
    if (region && strlen(region + 1) == 2)
        snprintf(out->region, sizeof(out->region), "%c%c", region[1] & ~0x20, region[2] & ~0x20);
    out->priority = voice->languages[0];
    return 0;
}

/* 0 for "pt" and "fr-fr", 1 for "fr-be". */
static int is_regional(const struct voice_text *text)
{
    return strchr(text->name, '-') && strcasecmp(text->language, text->region) != 0;
}

/* By language; within one its plain tag first, then by priority, then by name. */
static int compare_texts(const void *a, const void *b)
{
    const struct voice_text *x = a, *y = b;
    int order = strcmp(x->language, y->language);
    int plain = is_regional(x) - is_regional(y);

    if (order == 0)
        order = plain;
    if (order == 0)
        order = x->priority - y->priority;
    return order ? order : strcmp(x->name, y->name);
}

static int list_voices(struct tts_model *model)
{
    const espeak_VOICE **list;
    size_t n = 0, kept = 0;

    list = espeak_ListVoices(NULL);
    while (list && list[n])
        n++;
    model->texts = calloc(n + 1, sizeof(*model->texts));
    model->voices = calloc(n + 1, sizeof(*model->voices));
    for (size_t i = 0; model->texts && i < n; i++)
        if (read_voice(list[i], &model->texts[kept]) == 0)
            kept++;
    if (!model->texts || !model->voices)
        return -ENOMEM;
    qsort(model->texts, kept, sizeof(*model->texts), compare_texts);
    for (size_t i = 0; i < kept; i++) {
        struct voice_text *text = &model->texts[i];

        if (i && !strcmp(text->name, model->texts[i - 1].name))
            continue;
        model->voices[model->n_voices++] = (struct tts_voice){
            .name = text->name,
            .language = text->language,
            .region = text->region,
            .licence = "GPL-3.0-or-later",
            .sample_rate = (uint32_t)model->sample_rate,
        };
    }
    return model->n_voices ? 0 : -ENOENT;
}

static void unload(struct tts_model **model)
{
    struct tts_model *self = *model;

    if (!self)
        return;
    free(self->voices);
    free(self->texts);
    free(self);
    *model = NULL;
}

static int load(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct tts_model **out)
{
    struct tts_model *model = calloc(1, sizeof(*model));
    int err = model ? espeak_open() : -ENOMEM;

    (void)folder; /* its data comes with the library */
    (void)n_threads;
    (void)compute_type;
    if (err >= 0) {
        model->sample_rate = err;
        err = list_voices(model);
    }
    if (err < 0) {
        snprintf(error, size, "espeak-ng finds no voices: install its data (espeak-ng-data)");
        unload(&model);
        return err;
    }
    *out = model;
    return 0;
}

static size_t voices_of(const struct tts_model *model, const struct tts_voice **voices)
{
    *voices = model->voices;
    return model->n_voices;
}

static int clamp(float value, int least, int most)
{
    return value < (float)least ? least : value > (float)most ? most : (int)value;
}

/* In the child: append what the library made. @return non-zero to stop */
static int record(short *samples, int n, espeak_EVENT *events)
{
    struct buffer *out = events->user_data;

    return samples && n > 0 && buffer_append(out, samples, (size_t)n * sizeof(*samples)) < 0;
}

/* In the child: the sentence as int16_t. */
static int speak_into(const char *voice, const char *text, int rate, struct buffer *out)
{
    (void)voice;
    espeak_SetSynthCallback(record);
    espeak_SetParameter(espeakRATE, rate, 0);
    if (espeak_Synth(text, strlen(text) + 1, 0, POS_CHARACTER, 0, espeakCHARS_UTF8, NULL, out) !=
        EE_OK)
        return -EIO;
    return out->size + EMIT_SAMPLES > ESPEAK_ANSWER_MAX ? -E2BIG : 0;
}

static int emit_all(const struct buffer *samples,
                    int (*emit)(void *arg, const float *pcm, size_t n_samples), void *arg)
{
    const int16_t *at = (const int16_t *)(const void *)samples->data;
    size_t left = samples->size / sizeof(*at);
    float pcm[EMIT_SAMPLES];
    int err = 0;

    while (!err && left) {
        size_t n = left < EMIT_SAMPLES ? left : EMIT_SAMPLES;

        for (size_t i = 0; i < n; i++)
            pcm[i] = (float)at[i] / 32768.0f;
        err = emit(arg, pcm, n);
        at += n;
        left -= n;
    }
    return err;
}

/* IPA of the sentence, clauses joined. */
static int phonemes_of(const char *voice, const char *sentence, const volatile int *cancel,
                       char **phonemes)
{
    struct buffer all;
    char **parts = NULL;
    size_t n = 0;
    int err = vits_phonemes_of(voice, sentence, cancel, &parts, &n);

    buffer_init(&all, ESPEAK_ANSWER_MAX);
    for (size_t i = 0; !err && i < n; i++)
        err = buffer_printf(&all, "%s%s", i ? " " : "", parts[i]);
    if (!err && n == 0)
        err = buffer_append(&all, "", 1);
    vits_phonemes_free(&parts, n);
    if (err < 0)
        buffer_fini(&all);
    else
        *phonemes = (char *)all.data; /* the caller's now */
    return err;
}

static int speak(struct tts_model *model, const char *sentence, const struct tts_settings *settings,
                 int (*emit)(void *arg, const float *pcm, size_t n_samples), void *arg,
                 char **phonemes)
{
    const struct tts_voice *voice =
        tts_voice_find(model->voices, model->n_voices, settings->voice, settings->language);
    float speed = settings->speed == 0.0f ? 1.0f : settings->speed;
    int rate = clamp(speed * espeakRATE_NORMAL, espeakRATE_MINIMUM, RATE_MOST), err = 0;
    struct buffer samples;
    char *ipa = NULL;

    if (!voice)
        return -ENOENT;
    if (settings->speaker && *settings->speaker)
        return -EINVAL;
    buffer_init(&samples, ESPEAK_ANSWER_MAX);
    if (phonemes)
        err = phonemes_of(voice->name, sentence, settings->cancel, &ipa);
    if (!err)
        err = espeak_run(speak_into, voice->name, sentence, rate, settings->cancel, &samples);
    if (!err && phonemes)
        *phonemes = ipa;
    if (!err)
        err = emit_all(&samples, emit, arg);
    if (err) {
        free(ipa);
        if (phonemes)
            *phonemes = NULL;
    }
    buffer_fini(&samples);
    return err;
}

const struct tts_engine tts_espeak_engine = {
    .name = "espeak",
    .load = load,
    .unload = unload,
    .voices = voices_of,
    .speak = speak,
};
