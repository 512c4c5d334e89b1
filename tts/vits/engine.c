#include "tts/vits/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "text/utf8.h"
#include "tts/espeak/process.h"
#include "tts/vits/phonemes.h"
#include "tts/vits/vits.h"
#include "tts/vits/voice.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define VOICES_MAX 64
#define CONFIG_MAX_BYTES (4 << 20)
#define SPEED_MIN 0.05f /* so that no length overflows; the service's own limits are closer */

struct tts_model {
    struct compute *compute;
    struct tts_voice voices[VOICES_MAX]; /* (n_voices) what is shown of the following */
    struct vits_voice configs[VOICES_MAX];
    struct vits *networks[VOICES_MAX];
    char licence[64];
    size_t n_voices;
    _Atomic uint64_t seed; /* of the next sentence */
};

static int read_file(const char *path, char **text, size_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat st;
    int err = 0;

    if (!file)
        return -errno;
    if (fstat(fileno(file), &st) < 0)
        err = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX_BYTES)
        err = -EBADMSG;
    *text = err ? NULL : malloc((size_t)st.st_size + 1);
    if (!err && !*text)
        err = -ENOMEM;
    if (!err && fread(*text, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
        err = -EIO;
    fclose(file);
    if (err < 0) {
        free(*text);
        *text = NULL;
        return err;
    }
    *size = (size_t)st.st_size;
    (*text)[*size] = '\0';
    return 0;
}

/* "* License: CC0" of the MODEL_CARD that Piper's voices come with. */
static void read_licence(const char *folder, char *licence, size_t size)
{
    char path[4096], *card = NULL, *line;
    size_t n = 0;

    snprintf(path, sizeof(path), "%s/MODEL_CARD", folder);
    if (read_file(path, &card, &n) < 0)
        return;
    line = strstr(card, "License: ");
    if (line) {
        line += strlen("License: ");
        line[strcspn(line, "\r\n")] = '\0';
        snprintf(licence, size, "%s", line);
    }
    free(card);
}

static int load_config(const char *path, const char *name, char *error, size_t size,
                       struct vits_voice *out)
{
    char config[4200], why[256] = "", *json = NULL;
    size_t n = 0;
    int err;

    snprintf(config, sizeof(config), "%s.json", path);
    err = read_file(config, &json, &n);
    if (err < 0) {
        snprintf(error, size, "cannot read '%s': %s", config, strerror(-err));
        return err;
    }
    err = vits_voice_read(json, n, name, why, sizeof(why), out);
    if (err < 0)
        snprintf(error, size, "cannot read '%s': %s", config, why);
    free(json);
    return err;
}

static int load_voice(struct tts_model *model, const char *folder, const char *file, char *error,
                      size_t size)
{
    struct vits_voice *config = &model->configs[model->n_voices];
    struct vits **network = &model->networks[model->n_voices];
    char path[4096], name[256];
    int64_t since = clock_now_ms();
    int err;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    snprintf(name, sizeof(name), "%.*s", (int)(strlen(file) - strlen(".onnx")), file);
    err = load_config(path, name, error, size, config);
    if (err < 0)
        return err;
    err = vits_load(model->compute, path, error, size, network);
    if (err < 0) {
        vits_voice_fini(config);
        return err;
    }
    model->voices[model->n_voices] = (struct tts_voice){
        .name = config->name,
        .language = config->language,
        .region = config->region,
        .licence = model->licence,
        .speakers = (const char *const *)config->speakers,
        .sample_rate = config->sample_rate,
    };
    model->n_voices++;
    log_info("tts: voice '%s', %zu speakers, %u Hz, loaded in %lld ms with %s kernels", name,
             config->n_speakers, config->sample_rate, (long long)(clock_now_ms() - since),
             (*network)->vocoder.pre.kernels->name);
    return 0;
}

static int is_voice(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name), suffix = strlen(".onnx");

    return n > suffix && n < 256 && !strcmp(entry->d_name + n - suffix, ".onnx");
}

static int load_voices(struct tts_model *model, const char *folder, char *error, size_t size)
{
    struct dirent **files = NULL;
    int n = scandir(folder, &files, is_voice, alphasort), err = 0;

    if (n < 0) {
        err = -errno;
        snprintf(error, size, "cannot open '%s': %s", folder, strerror(-err));
        return err;
    }
    if (n == 0) {
        err = -ENOENT;
        snprintf(error, size, "no voice (NAME.onnx with NAME.onnx.json) in '%s'", folder);
    }
    if (n > VOICES_MAX) {
        err = -E2BIG;
        snprintf(error, size, "%d voices in '%s': at most %d in one folder", n, folder, VOICES_MAX);
    }
    for (int i = 0; !err && i < n; i++)
        err = load_voice(model, folder, files[i]->d_name, error, size);
    for (int i = 0; i < n; i++)
        free(files[i]);
    free(files);
    return err;
}

static void unload(struct tts_model **model)
{
    struct tts_model *self = *model;

    if (!self)
        return;
    for (size_t i = 0; i < self->n_voices; i++) {
        vits_voice_fini(&self->configs[i]);
        vits_destroy(&self->networks[i]);
    }
    compute_destroy(&self->compute);
    free(self);
    *model = NULL;
}

static int load(const char *folder, int n_threads, const char *compute_type, char *error,
                size_t size, struct tts_model **out)
{
    struct tts_model *model;
    uint64_t seed = 0;
    int err;

    if (compute_type && *compute_type && strcmp(compute_type, "f32") != 0) {
        snprintf(error, size, "no compute type '%s' for voices: only f32", compute_type);
        return -ENOTSUP;
    }
    if (!folder || !*folder) {
        snprintf(error, size, "no folder with a voice was named");
        return -ENOENT;
    }
    model = calloc(1, sizeof(*model));
    err = model ? compute_create(n_threads, &model->compute) : -ENOMEM;
    if (err < 0) {
        snprintf(error, size, "cannot start threads: %s", strerror(-err));
        free(model);
        return err;
    }
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
        seed = (uint64_t)clock_now_ns();
    model->seed = seed;
    espeak_open(); /* its data is read while nobody waits; phonemes tell when it is missing */
    read_licence(folder, model->licence, sizeof(model->licence));
    err = load_voices(model, folder, error, size);
    if (!err) {
        *out = model;
        model = NULL; /* the caller's now */
    }
    unload(&model);
    return err;
}

static size_t voices_of(const struct tts_model *model, const struct tts_voice **voices)
{
    *voices = model->voices;
    return model->n_voices;
}

/* One sentence being spoken, its pieces one after another. */
struct speech {
    const struct vits *network;
    const struct vits_voice *config;
    struct vits_options options;
    int (*emit)(void *arg, const float *pcm, size_t n_samples);
    void *arg;
};

static float scale_of(float asked, float own)
{
    return asked < 0.0f ? 0.0f : asked == 0.0f ? own : asked;
}

static int speak_ids(struct speech *speech, const char *phonemes)
{
    int64_t *ids = NULL;
    size_t n = 0, known = 0;
    int err = vits_voice_ids(speech->config, phonemes, &ids, &n, &known);

    if (!err && known)
        err = vits_speak(speech->network, ids, n, &speech->options, speech->emit, speech->arg);
    speech->options.seed++;
    free(ids);
    return err;
}

/* Bytes of the phonemes to speak at once: all, or up to the last space that fits. */
static size_t piece_of(const struct vits_voice *config, const char *phonemes)
{
    size_t most = VITS_MAX_IDS / (2 * config->widest) - 2, size = strlen(phonemes), at = most;

    if (size <= most)
        return size;
    while (at && phonemes[at - 1] != ' ')
        at--;
    return at ? at : utf8_valid_prefix(phonemes, most);
}

static int speak_sentence(struct speech *speech, char *phonemes)
{
    int err = 0;

    while (!err && *phonemes) {
        size_t n = piece_of(speech->config, phonemes);
        char next;

        n = n ? n : strlen(phonemes);
        next = phonemes[n];
        phonemes[n] = '\0';
        err = speak_ids(speech, phonemes);
        phonemes[n] = next;
        phonemes += n;
    }
    return err;
}

/* All sentences in one string, a space between them. */
static char *join(char *const *sentences, size_t n)
{
    size_t size = 1;
    char *joined, *at;

    for (size_t i = 0; i < n; i++)
        size += strlen(sentences[i]) + 1;
    joined = at = calloc(size, 1);
    for (size_t i = 0; joined && i < n; i++) {
        if (i)
            *at++ = ' ';
        at = stpcpy(at, sentences[i]);
    }
    return joined;
}

static int speak(struct tts_model *model, const char *sentence, const struct tts_settings *settings,
                 int (*emit)(void *arg, const float *pcm, size_t n_samples), void *arg,
                 char **phonemes)
{
    const struct tts_voice *voice =
        tts_voice_find(model->voices, model->n_voices, settings->voice, settings->language);
    float speed = settings->speed == 0.0f ? 1.0f : settings->speed;
    struct speech speech = {.emit = emit, .arg = arg};
    char **sentences = NULL, *joined = NULL;
    size_t n = 0;
    int err;

    if (!voice)
        return -ENOENT;
    speech.network = model->networks[voice - model->voices];
    speech.config = &model->configs[voice - model->voices];
    speech.options = (struct vits_options){
        .noise_scale = scale_of(settings->noise_scale, speech.config->noise_scale),
        .noise_w = scale_of(settings->noise_w, speech.config->noise_w),
        .length_scale = speech.config->length_scale / speed,
        .speaker = vits_voice_speaker(speech.config, settings->speaker),
        .seed = settings->seed ? settings->seed : model->seed++,
        .cancel = settings->cancel,
    };
    if (speech.options.speaker < 0 || !(speed >= SPEED_MIN))
        return -EINVAL;
    err = speech.config->from_text ? vits_phonemes_of_text(sentence, &sentences, &n)
                                   : vits_phonemes_of(speech.config->espeak_voice, sentence,
                                                      settings->cancel, &sentences, &n);
    if (!err && phonemes) {
        joined = join(sentences, n);
        err = joined ? 0 : -ENOMEM;
        *phonemes = err ? *phonemes : joined;
    }
    for (size_t i = 0; !err && i < n; i++)
        err = speak_sentence(&speech, sentences[i]);
    vits_phonemes_free(&sentences, n);
    if (err && joined) {
        *phonemes = NULL;
        free(joined);
    }
    return err;
}

const struct tts_engine tts_vits_engine = {
    .name = "vits",
    .load = load,
    .unload = unload,
    .voices = voices_of,
    .speak = speak,
};
