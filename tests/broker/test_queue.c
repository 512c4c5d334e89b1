#include "broker/queue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT 1000
#define BYTES_LIMIT 100000

typedef Dragoman__Mesh__V1__Label label;

static struct queue queue;
static struct queue_entry entries[LIMIT + 1];

static int setup(void **state)
{
    (void)state;
    memset(entries, 0, sizeof(entries));
    queue_init(&queue, LIMIT, BYTES_LIMIT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i <= LIMIT; i++) {
        if (entries[i].lane)
            queue_remove(&queue, &entries[i]);
        if (entries[i].tenant)
            queue_tenant_put(&queue, entries[i].tenant);
    }
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue.bytes, 0);
    assert_int_equal(queue.tenants.count, 0);
    queue_fini(&queue);
    return 0;
}

static label make_label(const char *value, char **room)
{
    label made = DRAGOMAN__MESH__V1__LABEL__INIT;

    *room = (char *)value;
    made.key = (char *)"pair";
    made.values = room;
    made.n_values = 1;
    return made;
}

static int push(size_t i, const char *tenant, const char *pair, int64_t due_ns, size_t bytes)
{
    struct selector *selector = NULL;
    char *value = NULL;
    label one = make_label(pair, &value);
    label *labels[] = {&one};
    int err;

    assert_int_equal(selector_create(labels, pair ? 1 : 0, &selector), 0);
    if (!entries[i].tenant)
        entries[i].tenant = queue_tenant_get(&queue, tenant);
    entries[i].due_ns = due_ns;
    entries[i].bytes = bytes;
    err = queue_push(&queue, &entries[i], &selector);
    selector_destroy(&selector);
    return err;
}

/* Index of the next entry for a worker of that pair; -1: none. */
static int take(const char *pair)
{
    char *value = NULL;
    label one = make_label(pair, &value);
    label *labels[] = {&one};
    struct queue_entry *entry = queue_take(&queue, labels, pair ? 1 : 0);

    return entry ? (int)(entry - entries) : -1;
}

static void earliest_first_then_in_order(void **state)
{
    static const int64_t DUE[] = {50, 20, 50, 10, 20, 50};
    static const int ORDER[] = {3, 1, 4, 0, 2, 5};

    (void)state;
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(push(i, "", NULL, DUE[i], 1), 0);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(take(NULL), ORDER[i]);
    assert_int_equal(take(NULL), -1);
}

static void order_survives_removals(void **state)
{
    unsigned seed = 5;
    int64_t last = -1;
    int n = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(push(i, "", NULL, rand_r(&seed) % 100, 1), 0);
    for (size_t i = 0; i < 500; i += 3)
        queue_remove(&queue, &entries[i]);
    for (int i; (i = take(NULL)) >= 0; n++) {
        assert_int_not_equal(i % 3, 0);
        assert_true(entries[i].due_ns >= last);
        last = entries[i].due_ns;
    }
    assert_int_equal(n, 333);
}

static void lanes_pass_each_other(void **state)
{
    (void)state;
    push(0, "", "en-xx", 1, 1);
    push(1, "", "en-pt", 2, 1);
    push(2, "", NULL, 3, 1);
    assert_int_equal(take("en-pt"), 1);
    assert_int_equal(take("en-pt"), 2);
    assert_int_equal(take("en-pt"), -1);
    assert_int_equal(take(NULL), -1);
    assert_int_equal(take("en-xx"), 0);
}

static void full_by_count_and_by_bytes(void **state)
{
    (void)state;
    assert_int_equal(push(0, "", NULL, 0, BYTES_LIMIT - 10), 0);
    assert_int_equal(push(1, "", NULL, 0, 11), -ENOSPC);
    assert_int_equal(push(1, "", NULL, 0, SIZE_MAX), -ENOSPC);
    assert_int_equal(push(1, "", NULL, 0, 10), 0);
    queue_remove(&queue, &entries[0]);
    for (size_t i = 2; i <= LIMIT; i++)
        assert_int_equal(push(i, "", NULL, 0, 1), 0);
    assert_int_equal(push(0, "", NULL, 0, 1), -ENOSPC);
}

/* A tenant with a thousand calls and one with ten take turns. */
static void tenants_take_turns(void **state)
{
    int modest = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++)
        push(i, "greedy", NULL, 0, 1);
    for (size_t i = 500; i < 510; i++)
        push(i, "modest", NULL, 100, 1);
    for (int i = 0; i < 20; i++)
        modest += take(NULL) >= 500;
    assert_int_equal(modest, 10);
}

/* Its calls take four times as long: it gets a quarter as many. */
static void long_calls_cost_more(void **state)
{
    int quick = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++) {
        push(i, "long", NULL, 0, 1);
        push(500 + i, "quick", NULL, 0, 1);
    }
    for (int i = 0; i < 50; i++) {
        queue_tenant_charge(entries[0].tenant, 4000);
        queue_tenant_charge(entries[500].tenant, 1000);
    }
    for (int i = 0; i < 500; i++)
        quick += take(NULL) >= 500;
    assert_in_range(quick, 390, 410);
}

static void turns_do_not_save_up(void **state)
{
    int b = 0;

    (void)state;
    for (size_t i = 0; i < 100; i++)
        push(i, "a", "en-pt", 0, 1);
    for (size_t i = 100; i < 200; i++)
        push(i, "b", "pt-en", 0, 1);
    for (int i = 0; i < 50; i++)
        assert_in_range(take("en-pt"), 0, 99);
    for (size_t i = 200; i < 300; i++)
        push(i, "b", "en-pt", 0, 1);
    for (int i = 0; i < 50; i++)
        b += take("en-pt") >= 200;
    assert_in_range(b, 24, 26);
}

static void victim_is_the_greediest_ones_last(void **state)
{
    struct queue_tenant *newcomer = queue_tenant_get(&queue, "new");

    (void)state;
    assert_null(queue_victim(&queue, newcomer));
    push(0, "one", NULL, 0, 1);
    assert_null(queue_victim(&queue, newcomer)); /* no more than the newcomer would have */
    push(1, "two", NULL, 10, 1);
    push(2, "two", "en-pt", 99, 1);
    push(3, "two", NULL, 50, 1);
    assert_ptr_equal(queue_victim(&queue, newcomer), &entries[2]);
    assert_null(queue_victim(&queue, entries[2].tenant));
    queue_tenant_put(&queue, newcomer);
}

static void counts_what_is_ahead(void **state)
{
    (void)state;
    push(0, "", NULL, 10, 1);
    push(1, "", NULL, 20, 1);
    push(2, "", NULL, 30, 1);
    assert_int_equal(queue_ahead(entries[0].tenant, NULL, 5), 0);
    assert_int_equal(queue_ahead(entries[0].tenant, NULL, 20), 2);
    assert_int_equal(queue_ahead(entries[0].tenant, NULL, 99), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(earliest_first_then_in_order), TEST(order_survives_removals),
        TEST(lanes_pass_each_other),        TEST(full_by_count_and_by_bytes),
        TEST(tenants_take_turns),           TEST(long_calls_cost_more),
        TEST(turns_do_not_save_up),         TEST(victim_is_the_greediest_ones_last),
        TEST(counts_what_is_ahead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
