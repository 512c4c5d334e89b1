/*
 * kernels_avx512.c - 16 floats at a time; compiled with -mavx512f and its bw, dq and vl
 */
#define LANE 16
#define HALVES_TO_FLOATS(out, src)                                                                 \
    _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(src))))

#define s8_sums __m512i
#define S8_ZERO() _mm512_setzero_si512()
#define S8_LOAD(at) _mm512_loadu_si512(at)
#define S8_STORE(at, v) _mm512_storeu_si512(at, v)
#define S8_WIDEN(at) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(at)))
#define S8_MADD(sum, w, pair) _mm512_add_epi32(sum, _mm512_madd_epi16(w, _mm512_set1_epi32(pair)))

#include <immintrin.h>

static inline float sum_lanes(__m512 v)
{
    return _mm512_reduce_add_ps(v);
}

#include "compute/kernels_body.h"

const struct kernels kernels_avx512 = {
    .isa = COMPUTE_AVX512,
    KERNELS_OF_BODY,
    .s8_panel = LANE,
    .s8_group = 2,
    .gemm_s8 = gemm_s8,
};

/*
 * VNNI multiplies unsigned by signed bytes and adds four products, in 32 bits and so exactly. The
 * weights are stored with 128 added; each row's sum starts at -128 times the sum of its inputs.
 */

#define VNNI_ROWS 6
#define VNNI_PANELS 4

/* What a row adds beside its inputs by fours. */
struct vnni_row {
    int32_t start;
    int32_t rest; /* its last inputs, filled up with zeros, when k is no multiple of 4 */
};

/* sum += products of unsigned w and signed q. Not the intrinsic: gcc 12 copies the sum to and fro. */
INLINE void vnni_add(__m512i *sum, __m512i w, __m512i q)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(q));
}

INLINE void vnni_step(__m512i sums[VNNI_ROWS][VNNI_PANELS], const int32_t *fours, size_t rows,
                      const int8_t *w, size_t ld_panel, size_t panels)
{
    __m512i weights[VNNI_PANELS];

#pragma GCC unroll 4
    for (size_t p = 0; p < panels; p++)
        weights[p] = _mm512_loadu_si512(w + p * ld_panel);
#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++) {
        __m512i four = _mm512_set1_epi32(fours[r]);

#pragma GCC unroll 4
        for (size_t p = 0; p < panels; p++)
            vnni_add(&sums[r][p], weights[p], four);
    }
}

INLINE void vnni_tile(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t ld_panel,
                      size_t panels, size_t n, const struct vnni_row *row, int32_t *out,
                      size_t ld_out)
{
    __m512i sums[VNNI_ROWS][VNNI_PANELS];
    int32_t fours[VNNI_ROWS];
    size_t j = 0;

#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t p = 0; p < panels; p++)
            sums[r][p] = _mm512_set1_epi32(row[r].start);
    for (; j + 4 <= k; j += 4) {
#pragma GCC unroll 6
        for (size_t r = 0; r < rows; r++)
            memcpy(&fours[r], q + r * k + j, 4);
        vnni_step(sums, fours, rows, w + j * LANE, ld_panel, panels);
    }
    if (j < k) {
#pragma GCC unroll 6
        for (size_t r = 0; r < rows; r++)
            fours[r] = row[r].rest;
        vnni_step(sums, fours, rows, w + j * LANE, ld_panel, panels);
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t p = 0; p < panels; p++) {
            size_t left = n - p * LANE;
            __mmask16 mask = left >= LANE ? 0xffff : (__mmask16)((1u << left) - 1);

            _mm512_mask_storeu_epi32(out + r * ld_out + p * LANE, mask, sums[r][p]);
        }
}

#define VNNI_TILE(rows, panels) vnni_tile(q, rows, k, w, ld_panel, panels, n, row, out, ld_out)

#define VNNI_TILE_OF(panels)                                                                       \
    rows == 6   ? VNNI_TILE(6, panels)                                                             \
    : rows == 5 ? VNNI_TILE(5, panels)                                                             \
    : rows == 4 ? VNNI_TILE(4, panels)                                                             \
    : rows == 3 ? VNNI_TILE(3, panels)                                                             \
    : rows == 2 ? VNNI_TILE(2, panels)                                                             \
                : VNNI_TILE(1, panels)

static void vnni_block(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t ld_panel,
                       size_t n, const struct vnni_row *row, int32_t *out, size_t ld_out)
{
    if (n > 3 * LANE) {
        VNNI_TILE_OF(4);
        return;
    }
    for (; n > LANE; n -= LANE, w += ld_panel, out += LANE)
        VNNI_TILE_OF(1);
    VNNI_TILE_OF(1);
}

static struct vnni_row vnni_row(const int8_t *q, size_t k)
{
    struct vnni_row row = {0, 0};
    int32_t total = 0;

    for (size_t j = 0; j < k; j++)
        total += q[j];
    row.start = -128 * total;
    memcpy(&row.rest, q + k / 4 * 4, k % 4);
    return row;
}

static void gemm_s8_vnni(const int8_t *q, size_t rows, size_t k, const int8_t *w, size_t n,
                         int32_t *out, size_t ld_out)
{
    enum { BATCH = 4 * VNNI_ROWS };
    size_t ld_panel = (k + 3) / 4 * 4 * LANE, step = VNNI_PANELS * LANE;
    struct vnni_row row[BATCH];

    for (size_t first = 0; first < rows; first += BATCH) {
        size_t batch = rows - first < BATCH ? rows - first : BATCH;

        for (size_t r = 0; r < batch; r++)
            row[r] = vnni_row(q + (first + r) * k, k);
        for (size_t i = 0; i < n; i += step)
            for (size_t r = 0; r < batch; r += VNNI_ROWS)
                vnni_block(q + (first + r) * k, batch - r < VNNI_ROWS ? batch - r : VNNI_ROWS, k,
                           w + i / LANE * ld_panel, ld_panel, n - i < step ? n - i : step, row + r,
                           out + (first + r) * ld_out + i, ld_out);
    }
}

const struct kernels kernels_avx512_vnni = {
    .isa = COMPUTE_AVX512_VNNI,
    KERNELS_OF_BODY,
    .s8_panel = LANE,
    .s8_group = 4,
    .s8_offset = 128,
    .gemm_s8 = gemm_s8_vnni,
};
