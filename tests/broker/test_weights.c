#include "broker/weights.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void names_and_numbers(void **state)
{
    struct queue_weight *weights = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(weights_parse("gold=10,a=b=1,trial=1000", &weights, &n), 0);
    assert_int_equal(n, 3);
    assert_string_equal(weights[0].tenant, "gold");
    assert_int_equal(weights[0].weight, 10);
    assert_string_equal(weights[1].tenant, "a=b");
    assert_int_equal(weights[1].weight, 1);
    assert_int_equal(weights[2].weight, 1000);
    free(weights);
}

static void nothing_is_no_weight(void **state)
{
    struct queue_weight *weights = NULL;
    size_t n = 1;

    (void)state;
    assert_int_equal(weights_parse(NULL, &weights, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(weights_parse("", &weights, &n), 0);
    assert_null(weights);
}

static void nonsense_is_refused(void **state)
{
    static const char *const NONSENSE[] = {"a",    "a=",    "=1",   "a=0",     "a=1001", "a=-1",
                                           "a=1x", "a=1,,", "a=1,", "a=1,a=2", "a= 1",   ","};
    struct queue_weight *weights = NULL;
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(NONSENSE) / sizeof(*NONSENSE); i++) {
        if (weights_parse(NONSENSE[i], &weights, &n) != -EINVAL)
            fail_msg("'%s' was taken", NONSENSE[i]);
        assert_null(weights);
        assert_int_equal(n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers),
        cmocka_unit_test(nothing_is_no_weight),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
