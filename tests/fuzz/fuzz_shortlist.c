/* Lexical shortlists. */
#include "tests/fuzz/replay.h"
#include "translate/marian/shortlist.h"

#include <stdlib.h>

#define N_SOURCE 4
#define N_TARGET 40

/* As tests/translate/test_shortlist.c has it: four pieces, seven words. */
static const char small[] =
    "\xF5\x17\x34\x01\xD5\x48\x1A\xF1\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
    "\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0"
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0"
    "\x0A\0\0\0\x14\0\0\0\x01\0\0\0\x1E\0\0\0\x27\0\0\0\x14\0\0\0\x15\0\0\0";

const struct fuzz_seed fuzz_seeds[] = {
    {NULL, small, sizeof(small) - 1},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 500000;

void fuzz_one(const uint8_t *bytes, size_t size)
{
    const uint32_t pieces[] = {0, 1, 2, 3};
    struct shortlist *shortlist = NULL;
    uint32_t *ids = NULL;
    char error[200];
    size_t n = 0;

    if (shortlist_read(bytes, size, N_SOURCE, N_TARGET, error, sizeof(error), &shortlist) != 0)
        return;
    if (shortlist_words(shortlist, pieces, 4, 12, &ids, &n) != 0 || n == 0 || n > N_TARGET)
        abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= N_TARGET)
            abort();
    free(ids);
    shortlist_destroy(&shortlist);
}
