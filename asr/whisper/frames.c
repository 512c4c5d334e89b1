#include "asr/whisper/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAD (MEL_WINDOW / 2) /* samples before a frame's centre */
#define FIRST_CAPACITY (3000 + 1 + FRAMES_AT_ONCE)

void frames_init(struct frames *f, const struct mel *mel)
{
    memset(f, 0, sizeof(*f));
    f->mel = mel;
    f->loudest = -10;
    f->n_pcm = LEAD;
}

void frames_fini(struct frames *f)
{
    free(f->power);
    f->power = NULL;
}

static size_t n_bands(const struct frames *f)
{
    return (size_t)mel_n_bands(f->mel);
}

static int reserve(struct frames *f, size_t more)
{
    size_t need = f->n - f->first + more;
    size_t capacity = f->capacity ? f->capacity : FIRST_CAPACITY;
    float *grown;

    if (need <= f->capacity)
        return 0;
    while (capacity < need)
        capacity += capacity / 2;
    grown = realloc(f->power, capacity * n_bands(f) * sizeof(float));
    if (!grown)
        return -ENOMEM;
    f->power = grown;
    f->capacity = capacity;
    return 0;
}

static void mirror(struct frames *f)
{
    for (size_t i = 1; i <= LEAD; i++)
        f->pcm[LEAD - i] = f->pcm[LEAD + i];
    f->mirrored = true;
}

/* All frames that the samples in hand are enough for. */
static int compute(struct frames *f)
{
    size_t n = f->n_pcm >= MEL_WINDOW ? (f->n_pcm - MEL_WINDOW) / MEL_HOP + 1 : 0;
    float *power;

    if (n == 0)
        return 0;
    if (reserve(f, n) < 0)
        return -ENOMEM;
    if (!f->mirrored)
        mirror(f);
    power = f->power + (f->n - f->first) * n_bands(f);
    mel_compute(f->mel, f->pcm, n, power);
    for (size_t i = 0; i < n * n_bands(f); i++)
        if (power[i] > f->loudest)
            f->loudest = power[i];
    f->n += n;
    f->n_pcm -= n * MEL_HOP;
    memmove(f->pcm, f->pcm + n * MEL_HOP, f->n_pcm * sizeof(float));
    return 0;
}

/* Samples that are missing for frames up to `most`, as many as fit. */
static size_t wanted(const struct frames *f, size_t most)
{
    size_t n = most - f->n < FRAMES_AT_ONCE ? most - f->n : FRAMES_AT_ONCE;
    size_t need = (n - 1) * MEL_HOP + MEL_WINDOW;

    return need - f->n_pcm;
}

int frames_push(struct frames *f, const float *pcm, size_t n_samples, size_t most, size_t *taken)
{
    size_t n = wanted(f, most);

    if (n > n_samples)
        n = n_samples;
    memcpy(f->pcm + f->n_pcm, pcm, n * sizeof(float));
    f->n_pcm += n;
    f->n_samples += n;
    *taken = n;
    return compute(f);
}

int frames_end(struct frames *f)
{
    size_t all = frames_content(f) + 1;
    int err = 0;

    while (f->n < all && err == 0) {
        size_t n = wanted(f, all);

        memset(f->pcm + f->n_pcm, 0, n * sizeof(float));
        f->n_pcm += n;
        err = compute(f);
    }
    return err;
}

size_t frames_content(const struct frames *f)
{
    return f->n_samples / MEL_HOP;
}

const float *frames_at(const struct frames *f, size_t i)
{
    return f->power + (i - f->first) * n_bands(f);
}

void frames_drop(struct frames *f, size_t i)
{
    size_t n = (i < f->n ? i : f->n) - f->first;

    if (n == 0)
        return;
    memmove(f->power, f->power + n * n_bands(f),
            (f->n - f->first - n) * n_bands(f) * sizeof(float));
    f->first += n;
}
