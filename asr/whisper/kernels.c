#include "asr/whisper/kernels.h"

#include "asr/whisper/isa.h"
#include "compute/ops.h"

#include <string.h>

#define PORTABLE_CHUNK 256 /* weights widened at a time by the portable path */
#define INLINE static inline __attribute__((always_inline))

typedef float vec8 __attribute__((vector_size(32)));
typedef float loose_vec16 __attribute__((vector_size(64), aligned(4)));
typedef float loose_vec8 __attribute__((vector_size(32), aligned(4)));

/* Written without intrinsics; each instruction set compiles them again. */

INLINE void pick_dot_body(const float *q, const float *cache, const uint32_t *rows, size_t n,
                          size_t heads, size_t d, float *scores)
{
    for (size_t t = 0; t < n; t++) {
        const float *row = cache + rows[t] * heads * d;

        for (size_t h = 0; h < heads; h++) {
            vec8 a = {0}, b = {0};
            float sum = 0;

            for (size_t i = 0; i < d; i += 16) {
                a += *(const loose_vec8 *)(row + h * d + i) * *(const loose_vec8 *)(q + h * d + i);
                b += *(const loose_vec8 *)(row + h * d + i + 8) *
                     *(const loose_vec8 *)(q + h * d + i + 8);
            }
            a += b;
            for (size_t i = 0; i < 8; i++)
                sum += a[i];
            scores[h * n + t] = sum;
        }
    }
}

INLINE void pick_sum_body(const float *weights, const float *cache, const uint32_t *rows, size_t n,
                          size_t heads, size_t d, float *out)
{
    memset(out, 0, heads * d * sizeof(float));
    for (size_t t = 0; t < n; t++) {
        const float *row = cache + rows[t] * heads * d;

        for (size_t h = 0; h < heads; h++) {
            float weight = weights[h * n + t];

            for (size_t i = 0; i < d; i += 8)
                *(loose_vec8 *)(out + h * d + i) += weight * *(const loose_vec8 *)(row + h * d + i);
        }
    }
}

/* `tile` vectors of columns for `rows` rows: tile * rows sums live in registers. Both are constants
 * where this is inlined. */
#define DEFINE_COLUMNS(name, attribute, vector)                                                    \
    attribute INLINE void name(const float *a, size_t ld_a, size_t rows, const float *b,           \
                               size_t ld_b, size_t k, size_t tile, float *out, size_t ld_out)      \
    {                                                                                              \
        enum { WIDTH = sizeof(vector) / sizeof(float) };                                           \
        vector sums[KERNELS_MAX_ROWS * 4] = {0};                                                   \
                                                                                                   \
        for (size_t i = 0; i < k; i++) {                                                           \
            for (size_t t = 0; t < tile; t++) {                                                    \
                vector values = *(const vector *)(b + i * ld_b + t * WIDTH);                       \
                                                                                                   \
                for (size_t r = 0; r < rows; r++)                                                  \
                    sums[r * tile + t] += a[r * ld_a + i] * values;                                \
            }                                                                                      \
        }                                                                                          \
        for (size_t r = 0; r < rows; r++)                                                          \
            for (size_t t = 0; t < tile; t++)                                                      \
                *(vector *)(out + r * ld_out + t * WIDTH) = sums[r * tile + t];                    \
    }

/* The columns that no vector covers. */
INLINE void last_columns(const float *a, size_t ld_a, size_t rows, const float *b, size_t ld_b,
                         size_t k, size_t n, float *out, size_t ld_out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;

            for (size_t i = 0; i < k; i++)
                sum += a[r * ld_a + i] * b[i * ld_b + j];
            out[r * ld_out + j] = sum;
        }
}

#define DEFINE_FEW_ROWS(name, attribute, columns, width)                                           \
    attribute INLINE void name##_of(const float *a, size_t ld_a, size_t rows, const float *b,      \
                                    size_t ld_b, size_t k, size_t n, float *out, size_t ld_out,    \
                                    size_t tile)                                                   \
    {                                                                                              \
        size_t j = 0;                                                                              \
                                                                                                   \
        for (; j + tile * (width) <= n; j += tile * (width))                                       \
            columns(a, ld_a, rows, b + j, ld_b, k, tile, out + j, ld_out);                         \
        for (; j + (width) <= n; j += (width))                                                     \
            columns(a, ld_a, rows, b + j, ld_b, k, 1, out + j, ld_out);                            \
        last_columns(a, ld_a, rows, b + j, ld_b, k, n - j, out + j, ld_out);                       \
    }                                                                                              \
    attribute static void name(const float *a, size_t ld_a, size_t rows, const float *b,           \
                               size_t ld_b, size_t k, size_t n, float *out, size_t ld_out)         \
    {                                                                                              \
        switch (rows) {                                                                            \
        case 1:                                                                                    \
            name##_of(a, ld_a, 1, b, ld_b, k, n, out, ld_out, 4);                                  \
            break;                                                                                 \
        case 2:                                                                                    \
            name##_of(a, ld_a, 2, b, ld_b, k, n, out, ld_out, 4);                                  \
            break;                                                                                 \
        case 3:                                                                                    \
            name##_of(a, ld_a, 3, b, ld_b, k, n, out, ld_out, 4);                                  \
            break;                                                                                 \
        case 4:                                                                                    \
            name##_of(a, ld_a, 4, b, ld_b, k, n, out, ld_out, 2);                                  \
            break;                                                                                 \
        case 5:                                                                                    \
            name##_of(a, ld_a, 5, b, ld_b, k, n, out, ld_out, 2);                                  \
            break;                                                                                 \
        case 6:                                                                                    \
            name##_of(a, ld_a, 6, b, ld_b, k, n, out, ld_out, 2);                                  \
            break;                                                                                 \
        case 7:                                                                                    \
            name##_of(a, ld_a, 7, b, ld_b, k, n, out, ld_out, 2);                                  \
            break;                                                                                 \
        default:                                                                                   \
            name##_of(a, ld_a, 8, b, ld_b, k, n, out, ld_out, 2);                                  \
            break;                                                                                 \
        }                                                                                          \
    }

DEFINE_COLUMNS(columns_portable, , loose_vec8)
DEFINE_FEW_ROWS(few_rows_portable, , columns_portable, 8)

static void pick_dot_portable(const float *q, const float *cache, const uint32_t *rows, size_t n,
                              size_t heads, size_t d, float *scores)
{
    pick_dot_body(q, cache, rows, n, heads, d, scores);
}

static void pick_sum_portable(const float *weights, const float *cache, const uint32_t *rows,
                              size_t n, size_t heads, size_t d, float *out)
{
    pick_sum_body(weights, cache, rows, n, heads, d, out);
}

static float dot_portable(const float *x, const float *y, size_t n)
{
    vec8 sum = {0};
    float total = 0;

    for (size_t i = 0; i < n; i += 8)
        sum += *(const loose_vec8 *)(x + i) * *(const loose_vec8 *)(y + i);
    for (size_t i = 0; i < 8; i++)
        total += sum[i];
    return total;
}

static void linear_f16_portable(const float *x, size_t rows, const void *w, const float *bias,
                                size_t begin, size_t end, size_t n, size_t k, float *out)
{
    float wide[PORTABLE_CHUNK];

    for (size_t i = begin; i < end; i++) {
        float sums[KERNELS_MAX_ROWS] = {0};

        for (size_t at = 0; at < k; at += PORTABLE_CHUNK) {
            size_t count = k - at < PORTABLE_CHUNK ? k - at : PORTABLE_CHUNK;

            compute_f16_to_f32((const char *)w + (i * k + at) * 2, count, wide);
            for (size_t r = 0; r < rows; r++)
                sums[r] += dot_portable(x + r * k + at, wide, count);
        }
        for (size_t r = 0; r < rows; r++)
            out[r * n + i] = sums[r] + (bias ? bias[i] : 0);
    }
}

static const struct whisper_kernels portable = {linear_f16_portable, pick_dot_portable,
                                                few_rows_portable, pick_sum_portable};

#ifdef ISA_X86

#include <immintrin.h>

ISA_AVX2 static void pick_dot_avx2(const float *q, const float *cache, const uint32_t *rows,
                                   size_t n, size_t heads, size_t d, float *scores)
{
    pick_dot_body(q, cache, rows, n, heads, d, scores);
}

ISA_AVX2 static void pick_sum_avx2(const float *weights, const float *cache, const uint32_t *rows,
                                   size_t n, size_t heads, size_t d, float *out)
{
    pick_sum_body(weights, cache, rows, n, heads, d, out);
}

DEFINE_COLUMNS(columns_avx2, ISA_AVX2, loose_vec8)
DEFINE_FEW_ROWS(few_rows_avx2, ISA_AVX2, columns_avx2, 8)
DEFINE_COLUMNS(columns_avx512, ISA_AVX512, loose_vec16)
DEFINE_FEW_ROWS(few_rows_avx512, ISA_AVX512, columns_avx512, 16)

/* One output of `rows` rows, a constant where this is inlined, so that the sums are registers. The rows of
 * w are taken one after the other: memory is then read as one stream, which the processor foresees best,
 * and what comes a page later is asked for besides. Several at once are slower by half. */
#define PREFETCH_BYTES 4096

#define DEFINE_OUTPUT(name, attribute, vector, step, zero, widen, load, fma, reduce)               \
    attribute INLINE void name(const float *x, size_t rows, const char *w, float bias, size_t n,   \
                               size_t k, float *out)                                               \
    {                                                                                              \
        vector sums[KERNELS_MAX_ROWS];                                                             \
                                                                                                   \
        for (size_t r = 0; r < rows; r++)                                                          \
            sums[r] = zero();                                                                      \
        for (size_t at = 0; at < k; at += (step)) {                                                \
            vector weights = widen(w + at * 2);                                                    \
                                                                                                   \
            _mm_prefetch(w + at * 2 + PREFETCH_BYTES, _MM_HINT_T0);                                \
            for (size_t r = 0; r < rows; r++)                                                      \
                sums[r] = fma(weights, load(x + r * k + at), sums[r]);                             \
        }                                                                                          \
        for (size_t r = 0; r < rows; r++)                                                          \
            out[r * n] = reduce(sums[r]) + bias;                                                   \
    }

/* One loop for each number of rows. */
#define DEFINE_ROWS(name, attribute, output, rows)                                                 \
    attribute static void name(const float *x, const char *w, const float *bias, size_t begin,     \
                               size_t end, size_t n, size_t k, float *out)                         \
    {                                                                                              \
        for (size_t i = begin; i < end; i++)                                                       \
            output(x, rows, w + i * k * 2, bias ? bias[i] : 0, n, k, out + i);                     \
    }

#define DEFINE_LINEAR(name, attribute, output)                                                     \
    DEFINE_ROWS(name##_1, attribute, output, 1)                                                    \
    DEFINE_ROWS(name##_2, attribute, output, 2)                                                    \
    DEFINE_ROWS(name##_3, attribute, output, 3)                                                    \
    DEFINE_ROWS(name##_4, attribute, output, 4)                                                    \
    DEFINE_ROWS(name##_5, attribute, output, 5)                                                    \
    DEFINE_ROWS(name##_6, attribute, output, 6)                                                    \
    DEFINE_ROWS(name##_7, attribute, output, 7)                                                    \
    DEFINE_ROWS(name##_8, attribute, output, 8)                                                    \
    static void name(const float *x, size_t rows, const void *w, const float *bias, size_t begin,  \
                     size_t end, size_t n, size_t k, float *out)                                   \
    {                                                                                              \
        static void (*const by_rows[])(const float *, const char *, const float *, size_t, size_t, \
                                       size_t, size_t, float *) = {                                \
            name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8};       \
                                                                                                   \
        by_rows[rows - 1](x, w, bias, begin, end, n, k, out);                                      \
    }

ISA_AVX2 INLINE float reduce_ymm(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
    return _mm_cvtss_f32(s);
}

#define WIDEN8(address) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(address)))
#define WIDEN16(address)                                                                           \
    _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(address)))

DEFINE_OUTPUT(output_avx2, ISA_AVX2, __m256, 8, _mm256_setzero_ps, WIDEN8, _mm256_loadu_ps,
              _mm256_fmadd_ps, reduce_ymm)
DEFINE_LINEAR(linear_f16_avx2, ISA_AVX2, output_avx2)

DEFINE_OUTPUT(output_avx512, ISA_AVX512, __m512, 16, _mm512_setzero_ps, WIDEN16, _mm512_loadu_ps,
              _mm512_fmadd_ps, _mm512_reduce_add_ps)
DEFINE_LINEAR(linear_f16_avx512, ISA_AVX512, output_avx512)

static const struct whisper_kernels avx2 = {linear_f16_avx2, pick_dot_avx2, few_rows_avx2,
                                            pick_sum_avx2};
static const struct whisper_kernels avx512 = {linear_f16_avx512, pick_dot_avx2, few_rows_avx512,
                                              pick_sum_avx2};

#endif

const struct whisper_kernels *whisper_kernels_for(enum compute_isa isa)
{
#ifdef ISA_X86
    if (isa >= COMPUTE_AVX512)
        return &avx512;
    if (isa >= COMPUTE_AVX2)
        return &avx2;
#endif
    (void)isa;
    return &portable;
}
