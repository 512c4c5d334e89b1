/* Networks, damaged: read as ONNX, loaded as a voice, and made to speak where that works. */
#include "tests/fuzz/tts/mutate.h"
#include "tests/support/golden.h"
#include "tts/vits/vits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 600

static struct compute *compute;

static int swallow(void *arg, const float *pcm, size_t n_samples)
{
    size_t *total = arg;

    (void)pcm;
    *total += n_samples;
    return *total > 100000; /* enough of a voice that does not stop */
}

static void speak(struct vits *vits)
{
    static const int64_t ids[] = {1, 0, 9, 0, 21, 0, 2};
    const struct vits_options options = {
        .length_scale = 1.0f, .noise_scale = 1.0f, .noise_w = 1.0f};
    size_t total = 0;

    vits_speak(vits, ids, sizeof(ids) / sizeof(*ids), &options, swallow, &total);
}

static void try_one(const uint8_t *bytes, size_t n, size_t counts[2])
{
    struct onnx onnx;
    struct vits *vits = NULL;
    char error[256];

    if (onnx_read(bytes, n, error, sizeof(error), &onnx) < 0)
        return;
    counts[0]++;
    if (vits_load_graph(compute, &onnx, error, sizeof(error), &vits) == 0) {
        counts[1]++;
        speak(vits);
    }
    vits_destroy(&vits);
    onnx_close(&onnx);
}

static void damaged_networks(void **state)
{
    size_t size = 0, counts[2] = {0, 0};
    uint8_t *bytes = (uint8_t *)golden_text(VOICES "/en_GB-tiny-high.onnx", &size);
    uint32_t seed = 20261121;

    (void)state;
    assert_int_equal(compute_create(1, &compute), 0);
    for (int i = 0; i < ROUNDS; i++) {
        size_t n = 0;
        uint8_t *copy = mutate(bytes, size, 0, &seed, &n);

        try_one(copy, n, counts);
        free(copy);
    }
    print_message("%d networks: %zu were read, %zu spoke\n", ROUNDS, counts[0], counts[1]);
    assert_true(counts[1] > ROUNDS / 20);
    free(bytes);
    compute_destroy(&compute);
}

/* A changed name of a dimension, an operator, an attribute: bytes of convolutions' nodes alone. */
static void damaged_convolutions(void **state)
{
    size_t size = 0, counts[2] = {0, 0}, n_places = 0, places[512];
    uint8_t *bytes = (uint8_t *)golden_text(VOICES "/en_GB-tiny-high.onnx", &size);
    uint32_t seed = 7;

    (void)state;
    assert_int_equal(compute_create(1, &compute), 0);
    for (size_t i = 0; i + 8 < size && n_places < 512; i++)
        if (!memcmp(bytes + i, "strides", 7) || !memcmp(bytes + i, "dilation", 8) ||
            !memcmp(bytes + i, "group", 5) || !memcmp(bytes + i, "pads", 4))
            places[n_places++] = i;
    assert_true(n_places > 100);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t *copy = malloc(size);
        size_t at = places[mutate_random(&seed) % n_places] + 4 + mutate_random(&seed) % 12;

        memcpy(copy, bytes, size);
        copy[at] = (uint8_t)mutate_random(&seed);
        try_one(copy, size, counts);
        free(copy);
    }
    print_message("%d networks: %zu were read, %zu spoke\n", ROUNDS, counts[0], counts[1]);
    free(bytes);
    compute_destroy(&compute);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_networks),
                                       cmocka_unit_test(damaged_convolutions)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
