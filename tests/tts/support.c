#include "tests/tts/support.h"

#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int hear(void *arg, const float *pcm, size_t n_samples)
{
    struct heard *heard = arg;
    float *more = realloc(heard->pcm, (heard->n_samples + n_samples + 1) * sizeof(*more));

    assert_non_null(more);
    heard->pcm = more;
    if (n_samples)
        memcpy(more + heard->n_samples, pcm, n_samples * sizeof(*pcm));
    heard->n_samples += n_samples;
    heard->n_chunks++;
    return heard->stop_after && heard->n_chunks >= heard->stop_after ? heard->answer : 0;
}

void heard_fini(struct heard *heard)
{
    free(heard->pcm);
    memset(heard, 0, sizeof(*heard));
}

struct vits *load_voice(struct compute **compute, const char *path, int n_threads, int isa)
{
    struct vits *vits = NULL;
    char error[512] = "";

    assert_int_equal(compute_create(n_threads, compute), 0);
    if (isa >= 0)
        compute_limit_isa(*compute, (enum compute_isa)isa);
    if (vits_load(*compute, path, error, sizeof(error), &vits) < 0)
        fail_msg("%s", error);
    return vits;
}

int64_t *golden_s64(const char *path, size_t *n)
{
    size_t size = 0;
    int64_t *values = (int64_t *)(void *)golden_text(path, &size);

    assert_int_equal(size % sizeof(*values), 0);
    *n = size / sizeof(*values);
    return values;
}

float *golden_all_f32(const char *path, size_t *n)
{
    size_t size = 0;
    float *values = (float *)(void *)golden_text(path, &size);

    assert_int_equal(size % sizeof(*values), 0);
    *n = size / sizeof(*values);
    return values;
}
