/* tokenizer.json, damaged; whatever still loads must take any text and any tokens. */
#include "asr/whisper/bpe.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/asr/golden/tiny/tokenizer.json", NULL, 0},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 20000;

static void try_text(const struct bpe *bpe, const char *text, size_t size)
{
    uint32_t *ids = NULL;
    size_t n = 0;
    struct buffer back;

    if (bpe_encode(bpe, text, size, &ids, &n) < 0)
        abort();
    buffer_init(&back, 1 << 20);
    if (bpe_decode(bpe, ids, n, &back) < 0)
        abort();
    buffer_fini(&back);
    free(ids);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    static const char text[] = " the and -- (in) \xF0\x9F\x98\x80 \xC3\x28 1234 \t\n don't";
    const uint32_t ids[] = {0, 255, 269, 270, 300, 5000, UINT32_MAX};
    struct bpe *bpe = NULL;
    struct buffer back;
    char error[200];

    if (bpe_parse((const char *)bytes, size, error, sizeof(error), &bpe) != 0)
        return;
    try_text(bpe, text, sizeof(text) - 1);
    try_text(bpe, (const char *)bytes, size < 512 ? size : 512);
    buffer_init(&back, 1 << 20);
    bpe_decode(bpe, ids, sizeof(ids) / sizeof(ids[0]), &back);
    bpe_special(bpe, "<|endoftext|>");
    buffer_fini(&back);
    bpe_destroy(&bpe);
}
