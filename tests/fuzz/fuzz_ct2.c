/* CTranslate2's weights from damaged files. */
#include "compute/weights/ct2.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>

/* One vector of two floats, and another name for it. */
#define SMALL                                                                                      \
    "\6\0\0\0\2\0S\0\3\0\0\0\1\0\0\0\2\0a\0\1\2\0\0\0\0\10\0\0\0ABCDEFGH\1\0\0\0\2\0b\0\2\0a"

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/asr/golden/tiny/model.bin", NULL, 0},
    {NULL, SMALL, sizeof(SMALL)}, /* its last NUL belongs to it */
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 5000;

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct weights weights = {0};
    char error[200];

    if (ct2_read(bytes, size, NULL, error, sizeof(error), &weights) != 0)
        return;
    for (size_t i = 0; i < weights.n_tensors; i++) {
        float *values = malloc(sizeof(float) * (weights.tensors[i].count + 1));

        if (!values)
            abort();
        weights_to_f32(&weights.tensors[i], values); /* reads every byte that is promised */
        free(values);
    }
    weights_close(&weights);
}
