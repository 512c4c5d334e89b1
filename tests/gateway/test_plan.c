/* Paths over pairs. */
#include "gateway/plan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct plan_pair pairs[] = {
    {"en", "pt"}, {"pt", "en"}, {"es", "en"}, {"en", "de"}, {"de", "fr"},
    {"fr", "it"}, {"es", "ca"}, {"ca", "pt"}, {"it", "ja"}, {"xx", "yy"},
};

static void expect(const char *source, const char *target, const char *want)
{
    struct plan plan;
    char got[128] = "";
    int err = plan_find(pairs, sizeof(pairs) / sizeof(pairs[0]), source, target, &plan);

    if (err == 0) {
        snprintf(got, sizeof(got), "%s", source);
        for (size_t i = 0; i < plan.n_hops; i++)
            snprintf(got + strlen(got), sizeof(got) - strlen(got), ">%s", plan.hops[i].target);
    }
    assert_string_equal(got, want);
}

static void paths(void **state)
{
    (void)state;
    expect("en", "pt", "en>pt");
    expect("en", "en", "en");
    expect("zz", "zz", "zz");
    expect("es", "pt", "es>en>pt"); /* not over Catalan: English first */
    expect("pt", "de", "pt>en>de");
    expect("pt", "fr", "pt>en>de>fr");
    expect("pt", "it", ""); /* four hops */
    expect("pt", "es", "");
    expect("xx", "en", "");
    expect("yy", "xx", "");
}

static void order_of_announcement_makes_no_difference(void **state)
{
    const struct plan_pair forth[] = {{"a", "b"}, {"a", "c"}, {"b", "z"}, {"c", "z"}};
    const struct plan_pair back[] = {{"c", "z"}, {"b", "z"}, {"a", "c"}, {"a", "b"}};
    struct plan first, second;

    (void)state;
    assert_int_equal(plan_find(forth, 4, "a", "z", &first), 0);
    assert_int_equal(plan_find(back, 4, "a", "z", &second), 0);
    assert_string_equal(first.hops[0].target, "b");
    assert_string_equal(second.hops[0].target, "b");
}

static void nothing_served(void **state)
{
    struct plan plan;

    (void)state;
    assert_int_equal(plan_find(NULL, 0, "en", "pt", &plan), -ENOENT);
    assert_int_equal(plan_find(NULL, 0, "en", "en", &plan), 0);
    assert_int_equal(plan.n_hops, 0);
}

static void pairs_are_read(void **state)
{
    struct plan_pair pair;

    (void)state;
    assert_int_equal(plan_pair_parse("en-pt", &pair), 0);
    assert_string_equal(pair.source, "en");
    assert_string_equal(pair.target, "pt");
    assert_int_equal(plan_pair_parse("en", &pair), -EINVAL);
    assert_int_equal(plan_pair_parse("-pt", &pair), -EINVAL);
    assert_int_equal(plan_pair_parse("en-", &pair), -EINVAL);
    assert_int_equal(plan_pair_parse("en-pt-br", &pair), -EINVAL);
    assert_int_equal(plan_pair_parse("abcdefgh-pt", &pair), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(order_of_announcement_makes_no_difference),
        cmocka_unit_test(nothing_served),
        cmocka_unit_test(pairs_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
