/* Which tokens may come next, on a vocabulary of 20: 0..9 text, 10 the end, 11..14 special, 15..19
 * timestamps. */
#include "asr/whisper/rules.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define V 20
#define EOT 10
#define NO_TIMESTAMPS 14
#define T0 15

static uint32_t suppress[] = {3, 11}, suppress_begin[] = {4, EOT};

static const struct vocab vocab = {
    .n_tokens = V,
    .eot = EOT,
    .sot = 11,
    .no_timestamps = NO_TIMESTAMPS,
    .timestamp_begin = T0,
    .suppress = suppress,
    .n_suppress = 2,
    .suppress_begin = suppress_begin,
    .n_suppress_begin = 2,
};

/* Which tokens are left, as a bit set; `likely` is a timestamp or text that has most of the mass. */
static uint32_t allowed(bool timestamps, const uint32_t *tokens, size_t n, size_t likely)
{
    const struct rules rules = {&vocab, timestamps, T0 + 2};
    float logits[V] = {0};
    uint32_t set = 0;
    double sum = 0;

    logits[likely] = 9;
    rules_apply(&rules, tokens, n, logits);
    for (size_t i = 0; i < V; i++) {
        if (logits[i] > -1000)
            set |= 1U << i;
        sum += exp((double)logits[i]);
    }
    assert_true(fabs(sum - 1) < 1e-5);
    return set;
}

static uint32_t all_but(uint32_t excluded)
{
    return ((1U << V) - 1) & ~(excluded | 1U << 3 | 1U << 11);
}

static uint32_t range(size_t begin, size_t end)
{
    return ((1U << end) - 1) & ~((1U << begin) - 1);
}

static void without_timestamps_only_lists_count(void **state)
{
    (void)state;
    assert_int_equal(allowed(false, NULL, 0, 1), all_but(1U << 4 | 1U << EOT));
    assert_int_equal(allowed(false, (const uint32_t[]){1}, 1, 1), all_but(0));
}

static void the_first_is_an_early_timestamp(void **state)
{
    (void)state;
    assert_int_equal(allowed(true, NULL, 0, 1), range(T0, T0 + 3));
}

static void a_segment_begins_with_text(void **state)
{
    (void)state;
    /* <|0|>: text or a special token, no timestamp */
    assert_int_equal(allowed(true, (const uint32_t[]){T0}, 1, 1),
                     all_but(range(T0, V) | 1U << NO_TIMESTAMPS));
    /* text <|2|> <|2|>: likewise */
    assert_int_equal(allowed(true, (const uint32_t[]){T0, 1, T0 + 2, T0 + 2}, 4, 1),
                     all_but(range(T0, V) | 1U << NO_TIMESTAMPS));
}

static void a_closed_segment_opens_another_or_ends(void **state)
{
    (void)state;
    /* text <|2|>, the end likely: the end, special tokens, or a timestamp that is no earlier */
    assert_int_equal(allowed(true, (const uint32_t[]){T0, 1, T0 + 2}, 3, EOT),
                     all_but(range(0, EOT) | range(T0, T0 + 2) | 1U << NO_TIMESTAMPS));
}

static void time_does_not_go_back(void **state)
{
    (void)state;
    /* <|1|> text, text likely: anything but a timestamp up to <|1|> */
    assert_int_equal(allowed(true, (const uint32_t[]){T0 + 1, 1}, 2, 1),
                     all_but(range(T0, T0 + 2) | 1U << NO_TIMESTAMPS));
}

static void likely_timestamps_win(void **state)
{
    (void)state;
    /* the timestamps' joint probability is above any text's: text is out */
    assert_int_equal(allowed(true, (const uint32_t[]){T0 + 1, 1}, 2, T0 + 3), range(T0 + 2, V));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_timestamps_only_lists_count),
        cmocka_unit_test(the_first_is_an_early_timestamp),
        cmocka_unit_test(a_segment_begins_with_text),
        cmocka_unit_test(a_closed_segment_opens_another_or_ends),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(likely_timestamps_win),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
