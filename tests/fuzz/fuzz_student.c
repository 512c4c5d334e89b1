/* Damaged models, up to a translation by those that still load. */
#include "base/log.h"
#include "tests/fuzz/replay.h"
#include "translate/marian/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/translate/golden/tiny/model.frde.bin", NULL, 0},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 6000;

static void need(bool so)
{
    if (!so)
        abort();
}

/* Whatever the weights are: words of the vocabulary, and no more than the sentence may have. */
static void translate(const struct marian_model *model)
{
    const uint32_t pieces[] = {2, 5, 3, 0};
    const size_t starts[] = {0, 4};
    const volatile int running = 0;
    const volatile int *const cancelled[] = {&running};
    struct marian_batch batch = {pieces, starts, cancelled, 1, 4};
    struct marian_search search = {
        .beam_size = 3, .n_best = 1, .normalize = 1, .max_length_factor = 2, .unk = 1};
    struct marian_memory memory = {0};
    struct marian_output all = {0};
    struct marian_scratch scratch = {0};
    struct marian_hypothesis best = {0};
    float *encoded = compute_alloc(sizeof(float) * 4 * model->d);

    need(encoded && marian_output_create(model, NULL, 0, &all) == 0);
    need(marian_scratch_init(&scratch, model, all.linear.out) == 0);
    need(marian_encode(model, &scratch, &batch, encoded) == 0);
    need(marian_memory_create(model, &scratch, &batch, encoded, &memory) == 0);
    need(marian_search(model, &scratch, &memory, &search, &all, 1, &best) == 0);
    need(best.words && best.n <= 2 * 4 + 2);
    for (size_t i = 0; i < best.n; i++)
        need(best.words[i] < model->target.n);
    free(best.words);
    marian_memory_fini(&memory);
    marian_scratch_fini(&scratch);
    marian_output_fini(&all);
    free(encoded);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    static struct compute *compute; /* for all inputs */
    struct marian_model *model = NULL;
    char path[64], error[256] = "";
    int fd = memfd_create("model", 0);

    if (!compute) {
        log_init("fuzz", LOG_ERROR, LOG_FORMAT_TEXT);
        need(compute_create(1, &compute) == 0);
    }
    need(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (marian_model_load(path, compute, size % 2, 64, error, sizeof(error), &model) == 0) {
        if (model->source.n > 5 && model->target.n > 5)
            translate(model);
        marian_model_destroy(&model);
    } else {
        need(error[0] != '\0');
    }
    close(fd);
}
