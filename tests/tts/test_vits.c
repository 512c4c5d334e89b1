/* The network against onnxruntime: golden/make_tts.py says how its data was made. */
#include "tests/support/golden.h"
#include "tests/tts/support.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-3f /* of samples: what the project promises */

static const struct vits_options silent = {.length_scale = 1.5f};

static float *tiny_golden(int speaker, const char *what, size_t *n)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/tiny_%d_%s.f32", GOLDEN_DIR, speaker, what);
    return golden_all_f32(path, n);
}

static void assert_plane_near(const struct vits_plane *got, int speaker, const char *what,
                              float tolerance)
{
    size_t n = 0;
    float *want = tiny_golden(speaker, what, &n);

    assert_int_equal(n, got->c * got->n);
    for (size_t c = 0; c < got->c; c++)
        assert_near(vits_plane_row(got, c), want + c * got->n, got->n, tolerance);
    free(want);
}

/* The flow, all frames at once and a few at a time: near the reference, and the same. */
static void check_flow(struct vits *vits, const float *embedded, const struct vits_plane *z,
                       int speaker)
{
    static const size_t sizes[] = {1000, 1, 5, 48};
    struct vits_plane whole = {0}, pieces;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct vits_flow_stream *stream = NULL;
        const float *made = NULL;
        size_t ld = 0, n_made = 0, done = 0;

        assert_int_equal(vits_plane_init(&pieces, z->c, z->n, 0), 0);
        assert_int_equal(vits_flow_stream_create(vits->compute, &vits->flow, embedded, &stream), 0);
        for (size_t at = 0; at < z->n; at += sizes[i]) {
            size_t n = z->n - at < sizes[i] ? z->n - at : sizes[i];

            assert_int_equal(vits_flow_stream_push(stream, z->data + at, z->ld, n, at + n == z->n,
                                                   &made, &ld, &n_made),
                             0);
            assert_true(done + n_made <= z->n);
            for (size_t c = 0; c < z->c; c++)
                memcpy(vits_plane_row(&pieces, c) + done, made + c * ld, n_made * sizeof(*made));
            done += n_made;
        }
        assert_int_equal(done, z->n);
        vits_flow_stream_destroy(&stream);
        if (i == 0) {
            assert_plane_near(&pieces, speaker, "z", 1e-4f);
            whole = pieces;
            continue;
        }
        for (size_t c = 0; c < z->c; c++)
            assert_memory_equal(vits_plane_row(&pieces, c), vits_plane_row(&whole, c),
                                z->n * sizeof(float));
        vits_plane_fini(&pieces);
    }
    vits_plane_fini(&whole);
}

/* Every stage by itself, each from what ours made before it. */
static void check_stages(struct vits *vits, int speaker)
{
    struct vits_plane x, prior, z;
    struct vits_noise noise;
    size_t n = 0, n_log_w = 0;
    int64_t *ids = golden_s64(GOLDEN_DIR "/tiny_ids.s64", &n);
    float *want = tiny_golden(speaker, "log_w", &n_log_w);
    float *log_w = calloc(n, sizeof(*log_w)), *noise_w = calloc(2 * n, sizeof(*noise_w));
    uint32_t *frames = calloc(n, sizeof(*frames));
    const float *embedded = vits->speakers + (size_t)speaker * vits->speaker_channels;
    int64_t total;

    assert_int_equal(
        vits_text_encoder_run(vits->compute, &vits->text_encoder, ids, n, NULL, &x, &prior), 0);
    assert_plane_near(&x, speaker, "x", 1e-5f);
    assert_plane_near(&prior, speaker, "prior", 1e-5f);

    assert_int_equal(
        vits_duration_run(vits->compute, &vits->duration, &x, embedded, NULL, noise_w, log_w), 0);
    assert_int_equal(n, n_log_w);
    assert_near(log_w, want, n, 1e-4f);

    vits_noise_seed(&noise, 1);
    total = vits_frames_of(log_w, n, silent.length_scale, frames);
    assert_true(total > 0);
    assert_int_equal(vits_sample_prior(&prior, frames, (size_t)total, 0.0f, &noise, &z), 0);
    check_flow(vits, embedded, &z, speaker);

    vits_plane_fini(&x);
    vits_plane_fini(&prior);
    vits_plane_fini(&z);
    free(want);
    free(log_w);
    free(noise_w);
    free(frames);
    free(ids);
}

static void stages_match_onnxruntime(void **state)
{
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);

    (void)state;
    assert_int_equal(vits->n_speakers, 3);
    check_stages(vits, 0);
    check_stages(vits, 2);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

static void check_samples(struct vits *vits, const char *ids_path, const char *pcm_path,
                          int64_t speaker)
{
    struct vits_options options = silent;
    struct heard heard = {0};
    size_t n = 0, n_samples = 0;
    int64_t *ids = golden_s64(ids_path, &n);
    float *want = golden_all_f32(pcm_path, &n_samples);

    options.speaker = speaker;
    assert_int_equal(vits_speak(vits, ids, n, &options, hear, &heard), 0);
    assert_int_equal(heard.n_samples, n_samples);
    assert_near(heard.pcm, want, n_samples, TOLERANCE / 10);
    heard_fini(&heard);
    free(ids);
    free(want);
}

/* Speakers, residual blocks of kind 1, on every path of kernels. */
static void samples_match_onnxruntime(void **state)
{
    (void)state;
    for (int isa = COMPUTE_PORTABLE; isa <= COMPUTE_AVX512; isa++) {
        struct compute *compute = NULL;
        struct vits *vits = load_voice(&compute, TINY, 1, isa);

        check_samples(vits, GOLDEN_DIR "/tiny_ids.s64", GOLDEN_DIR "/tiny_0_pcm.f32", 0);
        check_samples(vits, GOLDEN_DIR "/tiny_ids.s64", GOLDEN_DIR "/tiny_2_pcm.f32", 2);
        vits_destroy(&vits);
        compute_destroy(&compute);
    }
}

/* One id, one frame: every convolution sees more padding than signal. */
static void shortest_matches_onnxruntime(void **state)
{
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);
    struct vits_options options = {.length_scale = 1.0f, .speaker = 1};
    struct heard heard = {0};
    size_t n = 0;
    float *want = golden_all_f32(GOLDEN_DIR "/tiny_one_pcm.f32", &n);
    const int64_t id = 1;

    (void)state;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), 0);
    assert_int_equal(heard.n_samples, n);
    assert_near(heard.pcm, want, n, TOLERANCE / 10);
    heard_fini(&heard);
    free(want);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

/* All frames at once against a few at a time: not near, the same. */
static void chunks_do_not_change_samples(void **state)
{
    static const size_t sizes[] = {1, 2, 7, 1000};
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);
    struct vits_plane z;
    struct heard whole = {0};
    size_t n = 0;
    float *latent = tiny_golden(0, "z", &n);

    (void)state;
    assert_int_equal(vits_plane_init(&z, vits->vocoder.c_in, n / vits->vocoder.c_in, 0), 0);
    for (size_t c = 0; c < z.c; c++)
        memcpy(vits_plane_row(&z, c), latent + c * z.n, z.n * sizeof(*latent));
    for (size_t i = sizeof(sizes) / sizeof(*sizes); i-- > 0;) {
        struct vits_stream *stream = NULL;
        struct heard heard = {0};
        const float *pcm = NULL;
        size_t n_samples = 0;

        assert_int_equal(vits_stream_create(compute, &vits->vocoder, vits->speakers, &stream), 0);
        for (size_t at = 0; at < z.n; at += sizes[i]) {
            size_t some = z.n - at < sizes[i] ? z.n - at : sizes[i];

            assert_int_equal(vits_stream_push(stream, z.data + at, z.ld, some, at + some == z.n,
                                              &pcm, &n_samples),
                             0);
            hear(&heard, pcm, n_samples);
        }
        vits_stream_destroy(&stream);
        assert_int_equal(heard.n_samples, z.n * vits->vocoder.hop);
        if (!whole.pcm)
            whole = heard;
        else
            assert_memory_equal(heard.pcm, whole.pcm, whole.n_samples * sizeof(float));
        if (heard.pcm != whole.pcm)
            heard_fini(&heard);
    }
    heard_fini(&whole);
    vits_plane_fini(&z);
    free(latent);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

static void threads_do_not_change_samples(void **state)
{
    struct heard heard[2] = {{0}, {0}};
    size_t n = 0;
    int64_t *ids = golden_s64(GOLDEN_DIR "/tiny_ids.s64", &n);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct compute *compute = NULL;
        struct vits *vits = load_voice(&compute, TINY, i ? 3 : 1, -1);

        assert_int_equal(vits_speak(vits, ids, n, &silent, hear, &heard[i]), 0);
        vits_destroy(&vits);
        compute_destroy(&compute);
    }
    assert_int_equal(heard[0].n_samples, heard[1].n_samples);
    assert_near(heard[1].pcm, heard[0].pcm, heard[0].n_samples, 1e-6f);
    heard_fini(&heard[0]);
    heard_fini(&heard[1]);
    free(ids);
}

static void the_seed_is_all_that_noise_depends_on(void **state)
{
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);
    struct vits_options options = {.length_scale = 1.5f, .noise_scale = 0.5f, .noise_w = 0.6f};
    static const uint64_t seeds[] = {5, 5, 6};
    struct heard heard[3] = {{0}, {0}, {0}};
    size_t n = 0;
    int64_t *ids = golden_s64(GOLDEN_DIR "/tiny_ids.s64", &n);

    (void)state;
    for (int i = 0; i < 3; i++) {
        options.seed = seeds[i];
        assert_int_equal(vits_speak(vits, ids, n, &options, hear, &heard[i]), 0);
    }
    assert_int_equal(heard[0].n_samples, heard[1].n_samples);
    assert_memory_equal(heard[0].pcm, heard[1].pcm, heard[0].n_samples * sizeof(float));
    assert_true(heard[0].n_samples != heard[2].n_samples ||
                memcmp(heard[0].pcm, heard[2].pcm, heard[0].n_samples * sizeof(float)) != 0);
    for (int i = 0; i < 3; i++)
        heard_fini(&heard[i]);
    free(ids);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

static void bad_input_is_refused(void **state)
{
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);
    struct vits_options options = silent;
    struct heard heard = {0};
    static int64_t many[VITS_MAX_IDS + 1];
    int64_t id = (int64_t)vits->text_encoder.n_symbols;
    volatile int cancelled = 1;

    (void)state;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), -EINVAL);
    id = -1;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), -EINVAL);
    assert_int_equal(vits_speak(vits, &id, 0, &options, hear, &heard), -EINVAL);
    assert_int_equal(vits_speak(vits, many, VITS_MAX_IDS + 1, &options, hear, &heard), -E2BIG);
    id = 1;
    options.speaker = 3;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), -EINVAL);
    options.speaker = 0;
    options.length_scale = 1e9f;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), -E2BIG);
    options.length_scale = 1.0f;
    options.cancel = &cancelled;
    assert_int_equal(vits_speak(vits, &id, 1, &options, hear, &heard), -ECANCELED);
    assert_int_equal(heard.n_chunks, 0);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

static void emit_can_stop(void **state)
{
    struct compute *compute = NULL;
    struct vits *vits = load_voice(&compute, TINY, 1, -1);
    struct heard heard = {.answer = 42, .stop_after = 2};
    size_t n = 0;
    int64_t *ids = golden_s64(GOLDEN_DIR "/tiny_ids.s64", &n);

    (void)state;
    assert_int_equal(vits_speak(vits, ids, n, &silent, hear, &heard), 42);
    assert_int_equal(heard.n_chunks, 2);
    heard_fini(&heard);
    free(ids);
    vits_destroy(&vits);
    compute_destroy(&compute);
}

/* Outside the tails the spline is the identity; inside it is monotonic and meets them. */
static void spline_is_monotonic(void **state)
{
    float params[29], before = -6.0f;

    (void)state;
    for (int i = 0; i < 29; i++)
        params[i] = 2.0f * (float)((i * 7) % 11) / 11.0f - 1.0f;
    assert_true(vits_spline_inverse(-5.5f, params, 1, 10, 1.0f) == -5.5f);
    assert_true(vits_spline_inverse(5.5f, params, 1, 10, 1.0f) == 5.5f);
    for (float y = -5.0f; y <= 5.0f; y += 0.01f) {
        float x = vits_spline_inverse(y, params, 1, 10, 1.0f);

        assert_true(x > before && x >= -5.001f && x <= 5.001f);
        before = x;
    }
}

/* A real voice, ids and samples of piper-tts 1.8.0. */
static void joe_matches_piper(void **state)
{
    struct compute *compute = NULL;
    struct vits_options options = {.length_scale = 1.0f};
    char path[4200];
    struct vits *vits;

    (void)state;
    snprintf(path, sizeof(path), "%s/en_US-joe-medium.onnx",
             golden_model("piper-en_US-joe-medium"));
    vits = load_voice(&compute, path, 1, -1);
    for (int i = 0; i < 2; i++) {
        struct heard heard = {0};
        size_t n = 0, bytes = 0;
        int64_t *ids;
        int16_t *want;

        snprintf(path, sizeof(path), "%s/joe_%d_ids.s64", GOLDEN_DIR, i);
        ids = golden_s64(path, &n);
        snprintf(path, sizeof(path), "%s/joe_%d_pcm.s16", GOLDEN_DIR, i);
        want = (int16_t *)(void *)golden_text(path, &bytes);
        assert_int_equal(vits_speak(vits, ids, n, &options, hear, &heard), 0);
        assert_int_equal(heard.n_samples, bytes / 2);
        for (size_t t = 0; t < heard.n_samples; t++) {
            float sample = (float)want[t] / 32767.0f;

            assert_near(&heard.pcm[t], &sample, 1, TOLERANCE);
        }
        heard_fini(&heard);
        free(ids);
        free(want);
    }
    vits_destroy(&vits);
    compute_destroy(&compute);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_match_onnxruntime),
        cmocka_unit_test(samples_match_onnxruntime),
        cmocka_unit_test(shortest_matches_onnxruntime),
        cmocka_unit_test(chunks_do_not_change_samples),
        cmocka_unit_test(threads_do_not_change_samples),
        cmocka_unit_test(the_seed_is_all_that_noise_depends_on),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(emit_can_stop),
        cmocka_unit_test(spline_is_monotonic),
        cmocka_unit_test(joe_matches_piper),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
