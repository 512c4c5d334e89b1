#include "tts/vits/noise.h"

#include <math.h>
#include <string.h>

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t next(uint64_t s[4])
{
    uint64_t result = rotate(s[0] + s[3], 23) + s[0], shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Uniform in (-1, 1). */
static float uniform(uint64_t s[4])
{
    return (float)((double)(next(s) >> 11) * 0x1p-52 - 1.0);
}

void vits_noise_seed(struct vits_noise *noise, uint64_t seed)
{
    noise->has_spare = false;
    for (int i = 0; i < 4; i++) { /* splitmix64, as xoshiro's authors advise */
        uint64_t z = seed += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        noise->state[i] = z ^ z >> 31;
    }
}

static float gaussian(struct vits_noise *noise)
{
    float u, v, square, factor;

    if (noise->has_spare) {
        noise->has_spare = false;
        return noise->spare;
    }
    do {
        u = uniform(noise->state);
        v = uniform(noise->state);
        square = u * u + v * v;
    } while (square >= 1.0f || square == 0.0f);
    factor = sqrtf(-2.0f * logf(square) / square);
    noise->spare = v * factor;
    noise->has_spare = true;
    return u * factor;
}

void vits_noise_fill(struct vits_noise *noise, float scale, float *out, size_t n)
{
    if (scale == 0.0f) {
        memset(out, 0, n * sizeof(*out));
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = gaussian(noise) * scale;
}
