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

enum { ANY, EN_PT, PT_EN, N_LINES };

static struct queue queue;
static struct queue_line lines[N_LINES];
static struct queue_entry entries[LIMIT + 1];
static const struct queue_weight WEIGHTS[] = {{"heavy", 3}, {"light", 1}};

static int setup(void **state)
{
    (void)state;
    memset(entries, 0, sizeof(entries));
    queue_init(&queue, LIMIT, BYTES_LIMIT);
    queue.weights = WEIGHTS;
    queue.n_weights = 2;
    for (int i = 0; i < N_LINES; i++)
        queue_line_init(&lines[i]);
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
    assert_null(heap_first(&queue.greedy));
    queue_fini(&queue);
    for (int i = 0; i < N_LINES; i++) {
        assert_int_equal(lines[i].count, 0);
        queue_line_fini(&lines[i]);
    }
    return 0;
}

static int push_to(size_t i, const char *tenant, int line, int64_t due_ns, size_t bytes)
{
    if (!entries[i].tenant)
        entries[i].tenant = queue_tenant_get(&queue, tenant);
    entries[i].due_ns = due_ns;
    entries[i].bytes = bytes;
    return queue_push(&queue, &lines[line], &entries[i]);
}

static int push(size_t i, const char *tenant, int64_t due_ns, size_t bytes)
{
    return push_to(i, tenant, ANY, due_ns, bytes);
}

/* Index of the next entry for a worker that serves this line besides those who demand nothing; -1: none. */
static int take(int line)
{
    struct queue_entry *any = queue_first(&lines[ANY]);
    struct queue_entry *own = queue_first(&lines[line]);
    struct queue_entry *next = !any || (own && queue_before(own, any)) ? own : any;

    if (!next)
        return -1;
    queue_take(&queue, next);
    return (int)(next - entries);
}

static void earliest_first_then_in_order(void **state)
{
    static const int64_t DUE[] = {50, 20, 50, 10, 20, 50};
    static const int ORDER[] = {3, 1, 4, 0, 2, 5};

    (void)state;
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(push(i, "", DUE[i], 1), 0);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(take(ANY), ORDER[i]);
    assert_int_equal(take(ANY), -1);
}

static void order_survives_removals(void **state)
{
    unsigned seed = 5;
    int64_t last = -1;
    int n = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(push(i, "", rand_r(&seed) % 100, 1), 0);
    for (size_t i = 0; i < 500; i += 3)
        queue_remove(&queue, &entries[i]);
    for (int i; (i = take(ANY)) >= 0; n++) {
        assert_int_not_equal(i % 3, 0);
        assert_true(entries[i].due_ns >= last);
        last = entries[i].due_ns;
    }
    assert_int_equal(n, 333);
}

static void lanes_pass_each_other(void **state)
{
    (void)state;
    push_to(0, "", PT_EN, 1, 1);
    push_to(1, "", EN_PT, 2, 1);
    push_to(2, "", ANY, 3, 1);
    assert_int_equal(take(EN_PT), 1);
    assert_int_equal(take(EN_PT), 2);
    assert_int_equal(take(EN_PT), -1);
    assert_int_equal(take(ANY), -1);
    assert_int_equal(take(PT_EN), 0);
}

static void full_by_count_and_by_bytes(void **state)
{
    (void)state;
    assert_int_equal(push(0, "", 0, BYTES_LIMIT - 10), 0);
    assert_int_equal(push(1, "", 0, 11), -ENOSPC);
    assert_int_equal(push(1, "", 0, SIZE_MAX), -ENOSPC);
    assert_int_equal(push(1, "", 0, 10), 0);
    queue_remove(&queue, &entries[0]);
    for (size_t i = 2; i <= LIMIT; i++)
        assert_int_equal(push(i, "", 0, 1), 0);
    assert_int_equal(push(0, "", 0, 1), -ENOSPC);
}

/* A tenant with a thousand calls and one with ten take turns. */
static void tenants_take_turns(void **state)
{
    int modest = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++)
        push(i, "greedy", 0, 1);
    for (size_t i = 500; i < 510; i++)
        push(i, "modest", 100, 1);
    for (int i = 0; i < 20; i++)
        modest += take(ANY) >= 500;
    assert_int_equal(modest, 10);
}

/* Its calls take four times as long: it gets a quarter as many. */
static void long_calls_cost_more(void **state)
{
    int quick = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++) {
        push(i, "long", 0, 1);
        push(500 + i, "quick", 0, 1);
    }
    for (int i = 0; i < 50; i++) {
        queue_tenant_charge(entries[0].tenant, 4000);
        queue_tenant_charge(entries[500].tenant, 1000);
    }
    for (int i = 0; i < 500; i++)
        quick += take(ANY) >= 500;
    assert_in_range(quick, 390, 410);
}

static void turns_do_not_save_up(void **state)
{
    int b = 0;

    (void)state;
    for (size_t i = 0; i < 100; i++)
        push_to(i, "a", EN_PT, 0, 1);
    for (size_t i = 100; i < 200; i++)
        push_to(i, "b", PT_EN, 0, 1);
    for (int i = 0; i < 50; i++)
        assert_in_range(take(EN_PT), 0, 99);
    for (size_t i = 200; i < 300; i++)
        push_to(i, "b", EN_PT, 0, 1);
    for (int i = 0; i < 50; i++)
        b += take(EN_PT) >= 200;
    assert_in_range(b, 24, 26);
}

static void victim_is_the_greediest_ones_last(void **state)
{
    struct queue_tenant *newcomer = queue_tenant_get(&queue, "new");

    (void)state;
    assert_null(queue_victim(&queue, newcomer));
    push(0, "one", 0, 1);
    assert_null(queue_victim(&queue, newcomer)); /* no more than the newcomer would have */
    push(1, "two", 10, 1);
    push_to(2, "two", EN_PT, 99, 1);
    push(3, "two", 50, 1);
    assert_ptr_equal(queue_victim(&queue, newcomer), &entries[3]);
    assert_null(queue_victim(&queue, entries[2].tenant));
    queue_tenant_put(&queue, newcomer);
}

/* Three times the weight, three times the calls, as long as both wait. */
static void weights_share(void **state)
{
    int heavy = 0;

    (void)state;
    for (size_t i = 0; i < 400; i++) {
        push(i, "heavy", 0, 1);
        push(400 + i, "light", 0, 1);
    }
    for (int i = 0; i < 400; i++)
        heavy += take(ANY) < 400;
    assert_in_range(heavy, 299, 301);
}

/* It may have three times as many waiting before it has to make room. */
static void weights_count_for_room(void **state)
{
    struct queue_tenant *light = queue_tenant_get(&queue, "light");

    (void)state;
    for (size_t i = 0; i < 3; i++)
        push(i, "heavy", 0, 1);
    assert_null(queue_victim(&queue, light));
    push(3, "heavy", 0, 1);
    assert_ptr_equal(queue_victim(&queue, light), &entries[3]);
    queue_tenant_put(&queue, light);
}

static void returned_goes_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIMIT; i++)
        push(i, "", (int64_t)i, 1);
    assert_int_equal(take(ANY), 0);
    push(LIMIT, "", 0, 1);
    assert_int_equal(queue_return(&queue, &lines[ANY], &entries[0]), 0); /* though it is full */
    assert_int_equal(queue.count, LIMIT + 1);
    assert_int_equal(take(ANY), 0);
}

static void aged_ones_are_next(void **state)
{
    (void)state;
    entries[0].since_ns = 10;
    entries[1].since_ns = 20;
    push(0, "", 99, 1);
    push(1, "", 50, 1);
    assert_ptr_equal(queue_aged(queue_first(&lines[ANY]), 10), &entries[1]);
    assert_ptr_equal(queue_aged(queue_first(&lines[ANY]), 11), &entries[0]);
}

static void counts_what_is_ahead(void **state)
{
    const struct queue_tenant *other = NULL;

    (void)state;
    push(0, "", 10, 1);
    push(1, "", 20, 1);
    push(2, "", 30, 1);
    assert_int_equal(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 5), 0);
    assert_int_equal(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 20), 2);
    assert_int_equal(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 99), 3);
    for (size_t i = 10; i < 30; i++)
        push(i, "other", 1, 1);
    other = entries[10].tenant;
    assert_int_equal(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 99),
                     6); /* they take turns */
    assert_int_equal(queue_ahead(&queue, &lines[ANY], other, 0), 0);
    assert_int_equal(queue_ahead(&queue, &lines[ANY], other, 99), 23);
}

/* Of many it takes a sample. */
static void guesses_what_is_ahead_of_many(void **state)
{
    unsigned seed = 3;

    (void)state;
    for (size_t i = 0; i < LIMIT; i++)
        push(i, "", rand_r(&seed) % 1000, 1);
    assert_in_range(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 500), 350, 650);
    assert_int_equal(queue_ahead(&queue, &lines[ANY], entries[0].tenant, 1000), LIMIT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(earliest_first_then_in_order), TEST(order_survives_removals),
        TEST(lanes_pass_each_other),        TEST(full_by_count_and_by_bytes),
        TEST(tenants_take_turns),           TEST(long_calls_cost_more),
        TEST(turns_do_not_save_up),         TEST(victim_is_the_greediest_ones_last),
        TEST(counts_what_is_ahead),         TEST(weights_share),
        TEST(aged_ones_are_next),           TEST(weights_count_for_room),
        TEST(returned_goes_first),          TEST(guesses_what_is_ahead_of_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
