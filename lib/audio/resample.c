#include "audio/resample.h"

#include <errno.h>
#include <soxr.h>
#include <stdlib.h>
#include <string.h>

struct audio_resampler {
    soxr_t soxr; /* NULL: the rates are equal, samples pass through */
};

static int rate_ok(uint32_t hz)
{
    return hz >= AUDIO_RATE_MIN && hz <= AUDIO_RATE_MAX;
}

int audio_resampler_create(uint32_t from_hz, uint32_t to_hz, struct audio_resampler **out)
{
    const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const soxr_runtime_spec_t runtime = soxr_runtime_spec(1); /* one thread: callers are many */
    struct audio_resampler *resampler;

    if (!rate_ok(from_hz) || !rate_ok(to_hz))
        return -EINVAL;
    resampler = calloc(1, sizeof(*resampler));
    if (!resampler)
        return -ENOMEM;
    if (from_hz != to_hz) {
        resampler->soxr = soxr_create(from_hz, to_hz, 1, NULL, &io, &quality, &runtime);
        if (!resampler->soxr) {
            free(resampler);
            return -ENOMEM;
        }
    }
    *out = resampler;
    return 0;
}

void audio_resampler_destroy(struct audio_resampler **resampler)
{
    if (!*resampler)
        return;
    if ((*resampler)->soxr)
        soxr_delete((*resampler)->soxr);
    free(*resampler);
    *resampler = NULL;
}

int audio_resample(struct audio_resampler *resampler, const float *in, size_t n_in,
                   size_t *consumed, float *out, size_t n_out, size_t *produced)
{
    if (!resampler->soxr) {
        size_t n = n_in < n_out ? n_in : n_out;

        if (!in)
            n = 0;
        if (n)
            memcpy(out, in, n * sizeof(*out));
        *consumed = *produced = n;
        return 0;
    }
    return soxr_process(resampler->soxr, in, in ? n_in : 0, consumed, out, n_out, produced) ? -EIO
                                                                                            : 0;
}
