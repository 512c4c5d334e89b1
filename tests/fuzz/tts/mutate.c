#include "tests/fuzz/tts/mutate.h"

#include <stdlib.h>
#include <string.h>

uint32_t mutate_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void damage(uint8_t *bytes, size_t n, size_t window, uint32_t *seed)
{
    static const uint8_t foreign[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '[', '{'};
    size_t at = mutate_random(seed) % window, length = 1 + mutate_random(seed) % 16;
    size_t from = mutate_random(seed) % n;

    length = n - at < length ? n - at : length;
    length = n - from < length ? n - from : length;
    switch (mutate_random(seed) % 4) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << mutate_random(seed) % 8);
        break;
    case 1:
        bytes[at] = foreign[mutate_random(seed) % sizeof(foreign)];
        break;
    case 2:
        bytes[at] = (uint8_t)mutate_random(seed);
        break;
    default:
        memmove(bytes + at, bytes + from, length);
        break;
    }
}

uint8_t *mutate(const uint8_t *bytes, size_t n, size_t window, uint32_t *seed, size_t *out)
{
    size_t kept = mutate_random(seed) % 8 ? n : 1 + mutate_random(seed) % n;
    uint8_t *copy = malloc(kept);

    if (!copy)
        abort();
    memcpy(copy, bytes, kept);
    window = window && window < kept ? window : kept;
    for (uint32_t i = mutate_random(seed) % 4; i < 4; i++)
        damage(copy, kept, window, seed);
    *out = kept;
    return copy;
}
