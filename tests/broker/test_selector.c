#include "broker/selector.h"
#include "broker/table.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef Dragoman__Mesh__V1__Label label;

#define LABEL(name, k, ...)                                                                        \
    char *name##_values[] = {__VA_ARGS__};                                                         \
    label name = DRAGOMAN__MESH__V1__LABEL__INIT;                                                  \
    name.key = (char *)(k);                                                                        \
    name.values = name##_values;                                                                   \
    name.n_values = sizeof(name##_values) / sizeof(char *)

static void each_key_needs_one_of_its_values(void **state)
{
    LABEL(lang, "lang", (char *)"en", (char *)"pt");
    LABEL(model, "model", (char *)"tiny");
    LABEL(one, "lang", (char *)"fr", (char *)"pt");
    LABEL(none, "lang", (char *)"fr", (char *)"de");
    LABEL(voice, "voice", (char *)"joe");
    label *worker[] = {&model, &lang};
    label *met[] = {&one, &model};
    label *unmet[] = {&model, &none};
    label *unknown[] = {&voice};
    struct selector *selector = NULL;

    (void)state;
    assert_true(selector_matches(NULL, worker, 2));
    assert_int_equal(selector_create(met, 2, &selector), 0);
    assert_true(selector_matches(selector, worker, 2));
    assert_false(selector_matches(selector, worker, 1)); /* model alone */
    selector_destroy(&selector);
    assert_int_equal(selector_create(unmet, 2, &selector), 0);
    assert_false(selector_matches(selector, worker, 2));
    selector_destroy(&selector);
    assert_int_equal(selector_create(unknown, 1, &selector), 0);
    assert_false(selector_matches(selector, worker, 2));
    selector_destroy(&selector);
}

/* A worker may name a key twice: values of a key add up. */
static void repeated_keys_of_a_worker_add_up(void **state)
{
    LABEL(en, "lang", (char *)"en");
    LABEL(pt, "lang", (char *)"pt");
    label *worker[] = {&en, &pt};
    label *wanted[] = {&pt};
    struct selector *selector = NULL;

    (void)state;
    assert_int_equal(selector_create(wanted, 1, &selector), 0);
    assert_true(selector_matches(selector, worker, 2));
    selector_destroy(&selector);
}

static void order_does_not_matter(void **state)
{
    LABEL(a, "a", (char *)"1", (char *)"2");
    LABEL(a_turned, "a", (char *)"2", (char *)"1");
    LABEL(b, "b", (char *)"3");
    label *one[] = {&a, &b};
    label *other[] = {&b, &a_turned};
    struct selector *first = NULL;
    struct selector *second = NULL;
    struct selector *third = NULL;
    char text[64];

    (void)state;
    assert_int_equal(selector_create(one, 2, &first), 0);
    assert_int_equal(selector_create(other, 2, &second), 0);
    assert_int_equal(selector_create(one, 1, &third), 0);
    assert_true(selector_equal(first, second));
    assert_false(selector_equal(first, third));
    assert_false(selector_equal(first, NULL));
    assert_true(selector_equal(NULL, NULL));
    selector_text(second, text, sizeof(text));
    assert_string_equal(text, "a=1|2, b=3");
    selector_text(second, text, 6);
    assert_int_equal(strlen(text), 5);
    selector_text(NULL, text, sizeof(text));
    assert_string_equal(text, "");
    selector_destroy(&first);
    selector_destroy(&second);
    selector_destroy(&third);
}

static void nothing_wanted_is_no_selector(void **state)
{
    label empty = DRAGOMAN__MESH__V1__LABEL__INIT;
    label *labels[] = {&empty};
    struct selector *selector = NULL;

    (void)state;
    assert_int_equal(selector_create(NULL, 0, &selector), 0);
    assert_null(selector);
    empty.key = (char *)"lang";
    assert_int_equal(selector_create(labels, 1, &selector), -EINVAL);
    assert_null(selector);
}

struct thing {
    int number;
    struct table_node node;
};

static void table_holds_many_and_keys_that_repeat(void **state)
{
    static struct thing things[5000];
    struct table table;

    (void)state;
    table_init(&table, 7);
    assert_null(table_find(&table, 1));
    for (int i = 0; i < 5000; i++) {
        things[i].number = i;
        assert_int_equal(table_add(&table, &things[i].node, (uint64_t)(i / 2)), 0);
    }
    for (int i = 0; i < 5000; i++) {
        struct table_node *node = table_find(&table, (uint64_t)(i / 2));
        int sum = 0;

        for (; node; node = table_next(node))
            sum += container_of(node, struct thing, node)->number;
        assert_int_equal(sum, 4 * (i / 2) + 1);
    }
    for (int i = 0; i < 5000; i += 2)
        table_remove(&table, &things[i].node);
    assert_int_equal(table.count, 2500);
    assert_ptr_equal(table_find(&table, 9), &things[19].node);
    assert_null(table_next(&things[19].node));
    table_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_needs_one_of_its_values),
        cmocka_unit_test(repeated_keys_of_a_worker_add_up),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(nothing_wanted_is_no_selector),
        cmocka_unit_test(table_holds_many_and_keys_that_repeat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
