#include "text/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every code point survives the way out and back, and only code points do. */
static void all_code_points_round_trip(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        bool surrogate = c >= 0xD800 && c < 0xE000;

        assert_true(utf8_valid(bytes, n));
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, surrogate ? UTF8_REPLACEMENT : c);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_incomplete_tail(bytes, cut), cut);
        assert_int_equal(utf8_incomplete_tail(bytes, n), 0);
    }
    assert_int_equal(utf8_encode(0x110000, (char[4]){0}), 3);
}

struct broken {
    const char *bytes;
    size_t size, valid; /* bytes before the fault */
};

static const struct broken broken[] = {
    {"\x80", 1, 0},              /* a continuation alone */
    {"a\xC3", 2, 1},             /* cut */
    {"\xC0\xAF", 2, 0},          /* overlong '/' */
    {"\xC1\xBF", 2, 0},          /* overlong */
    {"\xE0\x80\xAF", 3, 0},      /* overlong in three */
    {"\xE0\x9F\xBF", 3, 0},      /* overlong, the last */
    {"\xF0\x80\x80\xAF", 4, 0},  /* overlong in four */
    {"\xF0\x8F\xBF\xBF", 4, 0},  /* overlong, the last */
    {"\xED\xA0\x80", 3, 0},      /* U+D800 */
    {"\xED\xBF\xBF", 3, 0},      /* U+DFFF */
    {"\xF4\x90\x80\x80", 4, 0},  /* U+110000 */
    {"\xF5\x80\x80\x80", 4, 0},  /* past everything */
    {"\xFF\xFE", 2, 0},          /* UTF-16's mark */
    {"12345678\xE2\x82", 10, 8}, /* behind a fast block */
    {"1234567\xE2\x82\xAC\xFF", 11, 10},
};

static void broken_sequences_are_found_where_they_begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        uint32_t c = 0;
        size_t n =
            utf8_decode(broken[i].bytes + broken[i].valid, broken[i].size - broken[i].valid, &c);

        assert_int_equal(utf8_valid_prefix(broken[i].bytes, broken[i].size), broken[i].valid);
        assert_int_equal(c, UTF8_REPLACEMENT);
        assert_in_range(n, 1, broken[i].size - broken[i].valid);
    }
}

/* U+FFFD stands for each maximal subpart: the example of Unicode's table 3-8. */
static void maximal_subparts_are_skipped(void **state)
{
    const char *bytes = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
    const uint32_t want[] = {'a', 0xFFFD, 0xFFFD, 0xFFFD, 'b', 0xFFFD, 'c', 0xFFFD, 0xFFFD, 'd'};
    size_t at = 0, size = strlen(bytes);

    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        uint32_t c = 0;

        at += utf8_decode(bytes + at, size - at, &c);
        assert_int_equal(c, want[i]);
    }
    assert_int_equal(at, size);
}

/* Random bytes: the prefix is valid, what follows is not, and no byte past the end is looked at. */
static void random_bytes_never_break_it(void **state)
{
    unsigned seed = 7;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand_r(&seed) % 24, at = 0, valid;
        char *bytes = malloc(size ? size : 1); /* exact, so that sanitizers see a step too far */
        uint32_t c = 0;

        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)(rand_r(&seed) % 3 ? 0x80 | rand_r(&seed) % 128 : rand_r(&seed) % 256);
        valid = utf8_valid_prefix(bytes, size);
        assert_true(valid <= size && utf8_valid(bytes, valid));
        while (at < size) {
            size_t n = utf8_decode(bytes + at, size - at, &c);

            assert_in_range(n, 1, 4);
            at += n;
        }
        assert_int_equal(at, size);
        assert_in_range(utf8_incomplete_tail(bytes, size), 0, 3);
        free(bytes);
    }
}

static void letters_have_their_case(void **state)
{
    const char *upper = "AZÀÞŒŠŽĄŁŃŐŞİΑΩЁЖЯԱ", *lower = "azßàþÿœšžąłńőşıαωёжяա";
    size_t size;
    uint32_t c = 0;

    (void)state;
    for (size_t at = 0; (size = utf8_decode(upper + at, strlen(upper) - at, &c)) > 0; at += size)
        if (!utf8_is_upper(c) || utf8_is_lower(c))
            fail_msg("U+%04X is a capital", (unsigned)c);
    for (size_t at = 0; (size = utf8_decode(lower + at, strlen(lower) - at, &c)) > 0; at += size)
        if (utf8_is_upper(c) || !utf8_is_lower(c))
            fail_msg("U+%04X is a small letter", (unsigned)c);
    assert_false(utf8_is_upper(0xD7) || utf8_is_lower(0xF7) || utf8_is_upper('1'));
}

static void previous_finds_starts(void **state)
{
    const char *text = "aé€😀";

    (void)state;
    assert_int_equal(utf8_previous(text, 10), 6);
    assert_int_equal(utf8_previous(text, 6), 3);
    assert_int_equal(utf8_previous(text, 3), 1);
    assert_int_equal(utf8_previous(text, 1), 0);
    assert_int_equal(utf8_previous(text, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_code_points_round_trip),
        cmocka_unit_test(broken_sequences_are_found_where_they_begin),
        cmocka_unit_test(maximal_subparts_are_skipped),
        cmocka_unit_test(random_bytes_never_break_it),
        cmocka_unit_test(letters_have_their_case),
        cmocka_unit_test(previous_finds_starts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
