/* A whole model whose weights are damaged: refused, or it recognises something. */
#include "asr/engine.h"
#include "tests/fuzz/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "fuzz_whisper.model"
#define RUN_EVERY 8 /* recognising takes longer than loading */

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/asr/golden/tiny/model.bin", NULL, 0},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 400;

static void link_to(const char *name)
{
    char from[4096], to[256];

    snprintf(from, sizeof(from), SOURCE_DIR "/tests/asr/golden/tiny/%s", name);
    snprintf(to, sizeof(to), FOLDER "/%s", name);
    unlink(to);
    if (symlink(from, to) < 0)
        abort();
}

static void write_model(const uint8_t *bytes, size_t size)
{
    FILE *file;

    mkdir(FOLDER, 0777);
    link_to("tokenizer.json");
    link_to("config.json");
    unlink(FOLDER "/model.bin");
    file = fopen(FOLDER "/model.bin", "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void recognise(const struct asr_engine *engine, struct asr_model *model)
{
    const float temperatures[] = {0, 0.5F};
    const struct asr_settings settings = {
        .beam_size = 2, .temperatures = temperatures, .n_temperatures = 2, .word_times = true};
    struct asr_session *session = NULL;
    float pcm[8000];

    for (size_t i = 0; i < 8000; i++)
        pcm[i] = (float)(i * i % 97) / 97 - 0.5F;
    if (engine->session_create(model, &settings, &(struct asr_events){0}, &session) < 0)
        return;
    engine->session_feed(session, pcm, 8000);
    engine->session_finish(session);
    engine->session_destroy(&session);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    static unsigned loaded;
    const struct asr_engine *engine = asr_engine_find("whisper");
    struct asr_model *model = NULL;
    char error[512];

    write_model(bytes, size);
    if (engine->load(FOLDER, 1, "f32", error, sizeof(error), &model) != 0)
        return;
    if (loaded++ % RUN_EVERY == 0)
        recognise(engine, model);
    engine->unload(&model);
}
