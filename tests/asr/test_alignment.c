/* Dynamic time warping against every path there is. */
#include "asr/whisper/alignment.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS 4
#define COLUMNS 6

static float gain[ROWS * COLUMNS];

/* The most that a path from (i, j) to the last cell brings. */
static float best_from(size_t i, size_t j)
{
    float here = gain[i * COLUMNS + j], best = -INFINITY;

    if (i == ROWS - 1 && j == COLUMNS - 1)
        return here;
    if (i + 1 < ROWS)
        best = fmaxf(best, best_from(i + 1, j));
    if (j + 1 < COLUMNS)
        best = fmaxf(best, best_from(i, j + 1));
    if (i + 1 < ROWS && j + 1 < COLUMNS)
        best = fmaxf(best, best_from(i + 1, j + 1));
    return here + best;
}

/* What the path brings that enters each row at begins[i] and leaves it just before or at the next. */
static float gain_of(const size_t *begins)
{
    float sum = 0;

    for (size_t i = 0; i < ROWS; i++) {
        size_t end = i + 1 < ROWS ? begins[i + 1] : COLUMNS - 1;
        float with = 0, without = -INFINITY;

        for (size_t j = begins[i]; j <= end; j++) {
            if (j == end && i + 1 < ROWS && end > begins[i])
                without = with; /* the next row may be reached diagonally */
            with += gain[i * COLUMNS + j];
        }
        sum += fmaxf(with, without);
    }
    return sum;
}

static void finds_the_best_path(void **state)
{
    uint32_t seed = 7;

    (void)state;
    for (int round = 0; round < 200; round++) {
        size_t begins[ROWS];

        for (size_t i = 0; i < ROWS * COLUMNS; i++) {
            seed = seed * 1664525 + 1013904223;
            gain[i] = (float)(int32_t)seed / 2147483648.0F;
        }
        assert_int_equal(alignment_warp(gain, ROWS, COLUMNS, begins), 0);
        assert_int_equal(begins[0], 0);
        for (size_t i = 1; i < ROWS; i++)
            assert_true(begins[i] >= begins[i - 1]);
        if (fabsf(gain_of(begins) - best_from(0, 0)) > 1e-5F)
            fail_msg("round %d: %g, but a path brings %g", round, (double)gain_of(begins),
                     (double)best_from(0, 0));
    }
}

static void follows_a_clear_diagonal(void **state)
{
    size_t begins[ROWS];

    (void)state;
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        gain[i] = -1;
    gain[0] = gain[1] = gain[COLUMNS + 2] = gain[2 * COLUMNS + 3] = gain[2 * COLUMNS + 4] =
        gain[3 * COLUMNS + 5] = 1;
    assert_int_equal(alignment_warp(gain, ROWS, COLUMNS, begins), 0);
    assert_memory_equal(begins, ((const size_t[]){0, 2, 3, 5}), sizeof(begins));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_best_path),
        cmocka_unit_test(follows_a_clear_diagonal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
