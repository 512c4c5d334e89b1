/* Marian's weights, up to a loaded model, from damaged files. */
#include "compute/weights/marian.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/translate/golden/tiny/model.frde.bin", NULL, 0},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 5000;

static void look_at(const struct weights *weights)
{
    for (size_t i = 0; i < weights->n_tensors; i++) {
        float *values = malloc(sizeof(float) * (weights->tensors[i].count + 1));

        if (!values)
            abort();
        weights_to_f32(&weights->tensors[i], values); /* reads every byte that is promised */
        free(values);
    }
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct weights weights = {0};
    char error[200], *config = NULL;

    if (marian_read(bytes, size, error, sizeof(error), &weights, &config) != 0)
        return;
    look_at(&weights);
    free(config);
    weights_close(&weights);
}
