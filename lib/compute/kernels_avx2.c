/*
 * kernels_avx2.c - 8 floats at a time; compiled with -mavx2 -mfma -mf16c
 */
#define LANE 8
#define HALVES_TO_FLOATS(out, src)                                                                 \
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(src))))

#define s8_sums __m256i
#define S8_ZERO() _mm256_setzero_si256()
#define S8_LOAD(at) _mm256_loadu_si256((const __m256i *)(const void *)(at))
#define S8_STORE(at, v) _mm256_storeu_si256((__m256i *)(void *)(at), v)
#define S8_WIDEN(at) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(at)))
#define S8_MADD(sum, w, pair) _mm256_add_epi32(sum, _mm256_madd_epi16(w, _mm256_set1_epi32(pair)))

#include <immintrin.h>

static inline float sum_lanes(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#include "compute/kernels_body.h"

const struct kernels kernels_avx2 = {
    .isa = COMPUTE_AVX2,
    KERNELS_OF_BODY,
    .s8_panel = LANE,
    .s8_group = 2,
    .gemm_s8 = gemm_s8,
};
