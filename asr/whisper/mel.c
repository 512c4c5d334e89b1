#include "asr/whisper/mel.h"

#include "asr/whisper/isa.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BINS (MEL_WINDOW / 2 + 1)
#define HALF (MEL_WINDOW / 2) /* points of the complex transform that does the real one */
#define LANES 8               /* frames that one pass transforms side by side */
#define MAX_BANDS 128
#define N_STAGES 4
#define MAX_RADIX 5

/* Eight frames' values of one point; the compiler splits it for narrower machines. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

struct points {
    lanes re[HALF], im[HALF];
};

struct band {
    int first, end; /* bins [first, end) have a weight */
    const float *weights;
};

struct mel {
    int n_bands;
    float window[MEL_WINDOW];                     /* Hann */
    float twiddle_re[N_STAGES][HALF * MAX_RADIX]; /* (m, radix, radix) a stage */
    float twiddle_im[N_STAGES][HALF * MAX_RADIX];
    float untangle_re[BINS], untangle_im[BINS]; /* exp(-i pi k / HALF) */
    struct band bands[MAX_BANDS];
    float weights[MAX_BANDS * BINS];
    void (*transform)(const struct mel *mel, struct points *a, struct points *b, lanes *power);
};

/* 200 = 4 * 5 * 5 * 2 */
static const int radices[N_STAGES] = {4, 5, 5, 2};

/* One pass of Stockham's transform: x of sub-transforms of length n, `stride` of them side by side,
 * becomes y of sub-transforms of length n / radix. W carries both the small transform's factors and
 * the twiddles. */
static inline __attribute__((always_inline)) void pass(const struct points *x, struct points *y,
                                                       int n, int radix, int stride,
                                                       const float *w_re, const float *w_im)
{
    int m = n / radix;

    for (int p = 0; p < m; p++) {
        for (int j = 0; j < radix; j++) {
            const float *cos_row = w_re + (p * radix + j) * radix;
            const float *sin_row = w_im + (p * radix + j) * radix;

            for (int q = 0; q < stride; q++) {
                lanes re = {0}, im = {0};

                for (int i = 0; i < radix; i++) {
                    int from = q + stride * (p + m * i);

                    re += x->re[from] * cos_row[i] - x->im[from] * sin_row[i];
                    im += x->re[from] * sin_row[i] + x->im[from] * cos_row[i];
                }
                y->re[q + stride * (radix * p + j)] = re;
                y->im[q + stride * (radix * p + j)] = im;
            }
        }
    }
}

/* Power of the real transform's bins, from the complex one's points k and HALF - k. */
static inline __attribute__((always_inline)) void bin_powers(const struct mel *mel,
                                                             const struct points *z, lanes *power)
{
    for (int k = 0; k < BINS; k++) {
        int a = k % HALF, b = (HALF - k) % HALF;
        lanes even_re = (z->re[a] + z->re[b]) * 0.5F, even_im = (z->im[a] - z->im[b]) * 0.5F;
        lanes odd_re = (z->im[a] + z->im[b]) * 0.5F, odd_im = (z->re[b] - z->re[a]) * 0.5F;
        float c = mel->untangle_re[k], s = mel->untangle_im[k];
        lanes re = even_re + odd_re * c - odd_im * s;
        lanes im = even_im + odd_re * s + odd_im * c;

        power[k] = re * re + im * im;
    }
}

/* Four passes, a -> b -> a -> b -> a: an even number, so the result is where the input was. */
static inline __attribute__((always_inline)) void
transform_body(const struct mel *mel, struct points *a, struct points *b, lanes *power)
{
    pass(a, b, 200, 4, 1, mel->twiddle_re[0], mel->twiddle_im[0]);
    pass(b, a, 50, 5, 4, mel->twiddle_re[1], mel->twiddle_im[1]);
    pass(a, b, 10, 5, 20, mel->twiddle_re[2], mel->twiddle_im[2]);
    pass(b, a, 2, 2, 100, mel->twiddle_re[3], mel->twiddle_im[3]);
    bin_powers(mel, a, power);
}

static void transform_portable(const struct mel *mel, struct points *a, struct points *b,
                               lanes *power)
{
    transform_body(mel, a, b, power);
}

#ifdef ISA_X86
ISA_AVX2 static void transform_avx2(const struct mel *mel, struct points *a, struct points *b,
                                    lanes *power)
{
    transform_body(mel, a, b, power);
}

ISA_AVX512 static void transform_avx512(const struct mel *mel, struct points *a, struct points *b,
                                        lanes *power)
{
    transform_body(mel, a, b, power);
}
#endif

static void choose_transform(struct mel *mel, enum compute_isa isa)
{
    mel->transform = transform_portable;
#ifdef ISA_X86
    if (isa >= COMPUTE_AVX512)
        mel->transform = transform_avx512;
    else if (isa >= COMPUTE_AVX2)
        mel->transform = transform_avx2;
#else
    (void)isa;
#endif
}

static void fill_transform(struct mel *mel)
{
    int n = HALF;

    for (int i = 0; i < MEL_WINDOW; i++)
        mel->window[i] = (float)(0.5 - 0.5 * cos(2 * M_PI * i / MEL_WINDOW));
    for (int k = 0; k < BINS; k++) {
        mel->untangle_re[k] = (float)cos(M_PI * k / HALF);
        mel->untangle_im[k] = (float)-sin(M_PI * k / HALF);
    }
    for (int s = 0; s < N_STAGES; s++) {
        int radix = radices[s];

        for (int p = 0; p < n / radix; p++)
            for (int j = 0; j < radix; j++)
                for (int i = 0; i < radix; i++) {
                    double angle = -2 * M_PI * ((double)i * j / radix + (double)p * j / n);

                    mel->twiddle_re[s][(p * radix + j) * radix + i] = (float)cos(angle);
                    mel->twiddle_im[s][(p * radix + j) * radix + i] = (float)sin(angle);
                }
        n /= radix;
    }
}

/* Slaney's mel scale: linear below 1 kHz, logarithmic above. */
static double mel_to_hz(double m)
{
    const double hz_per_mel = 200.0 / 3, corner_hz = 1000, corner = corner_hz / hz_per_mel;

    return m < corner ? m * hz_per_mel : corner_hz * exp(log(6.4) / 27 * (m - corner));
}

/* Triangles of equal area, evenly spaced in mel up to 8 kHz. */
static void fill_bands(struct mel *mel)
{
    const double top = 45.245640471924965; /* 8 kHz in mel */
    double step = top / (mel->n_bands + 1);

    for (int b = 0; b < mel->n_bands; b++) {
        double low = mel_to_hz(step * b), mid = mel_to_hz(step * (b + 1));
        double high = b + 2 == mel->n_bands + 1 ? mel_to_hz(top) : mel_to_hz(step * (b + 2));
        struct band *band = &mel->bands[b];
        float *weights = mel->weights + b * BINS;

        band->first = BINS;
        for (int k = 0; k < BINS; k++) {
            double hz = (double)k * MEL_SAMPLE_RATE / MEL_WINDOW;
            double weight = fmin((hz - low) / (mid - low), (high - hz) / (high - mid));

            weights[k] = weight > 0 ? (float)(weight * 2 / (high - low)) : 0;
            if (weights[k] > 0 && band->first == BINS)
                band->first = k;
            if (weights[k] > 0)
                band->end = k + 1;
        }
        band->weights = weights;
    }
}

int mel_create(int n_bands, enum compute_isa isa, struct mel **out)
{
    struct mel *mel;

    if (n_bands != 80 && n_bands != 128)
        return -EINVAL;
    mel = calloc(1, sizeof(*mel));
    if (!mel)
        return -ENOMEM;
    mel->n_bands = n_bands;
    choose_transform(mel, isa);
    fill_transform(mel);
    fill_bands(mel);
    *out = mel;
    return 0;
}

void mel_destroy(struct mel **mel)
{
    free(*mel);
    *mel = NULL;
}

int mel_n_bands(const struct mel *mel)
{
    return mel->n_bands;
}

/* Even samples become the real parts, odd ones the imaginary parts. */
static void load_frames(const struct mel *mel, const float *pcm, size_t n_frames,
                        struct points *points)
{
    memset(points, 0, sizeof(*points));
    for (size_t f = 0; f < n_frames; f++) {
        const float *x = pcm + f * MEL_HOP;

        for (int i = 0; i < HALF; i++) {
            points->re[i][f] = x[2 * i] * mel->window[2 * i];
            points->im[i][f] = x[2 * i + 1] * mel->window[2 * i + 1];
        }
    }
}

static void store_bands(const struct mel *mel, const lanes *power, size_t n_frames, float *out)
{
    for (int b = 0; b < mel->n_bands; b++) {
        const struct band *band = &mel->bands[b];
        lanes sum = {0};

        for (int k = band->first; k < band->end; k++)
            sum += power[k] * band->weights[k];
        for (size_t f = 0; f < n_frames; f++)
            out[f * (size_t)mel->n_bands + (size_t)b] = log10f(fmaxf(sum[f], 1e-10F));
    }
}

void mel_compute(const struct mel *mel, const float *pcm, size_t n_frames, float *power)
{
    struct points a, b;
    lanes bins[BINS];

    for (size_t done = 0; done < n_frames; done += LANES) {
        size_t n = n_frames - done < LANES ? n_frames - done : LANES;

        load_frames(mel, pcm + done * MEL_HOP, n, &a);
        mel->transform(mel, &a, &b, bins);
        store_bands(mel, bins, n, power + done * (size_t)mel->n_bands);
    }
}

void mel_normalise(const struct mel *mel, const float *power, size_t n_frames, float loudest,
                   size_t n_window, float *feats)
{
    size_t n_bands = (size_t)mel->n_bands;
    float floor_power = loudest - 8;

    for (size_t b = 0; b < n_bands; b++) {
        float *row = feats + b * n_window;

        for (size_t f = 0; f < n_frames; f++)
            row[f] = (fmaxf(power[f * n_bands + b], floor_power) + 4) / 4;
        memset(row + n_frames, 0, (n_window - n_frames) * sizeof(float));
    }
}
