#include "compute/compute.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#define N 10007

struct count {
    struct compute *compute;
    atomic_int seen[N];
    atomic_int small; /* pieces shorter than the grain that are not the last */
    size_t n, grain;
};

static void count_piece(void *arg, size_t begin, size_t end)
{
    struct count *count = arg;

    if (end - begin < count->grain && end != count->n)
        atomic_fetch_add(&count->small, 1);
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(&count->seen[i], 1);
}

static void check_once(struct count *count, size_t n, size_t grain)
{
    for (size_t i = 0; i < N; i++)
        atomic_store(&count->seen[i], 0);
    count->n = n;
    count->grain = grain;
    compute_parallel_for(count->compute, n, grain, count_piece, count);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(atomic_load(&count->seen[i]), i < n);
    assert_int_equal(atomic_load(&count->small), 0);
}

static void every_index_is_visited_once(void **state)
{
    static struct count count;
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, N};
    static const size_t grains[] = {1, 3, 64, 5000, 2 * N};

    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads++) {
        assert_int_equal(compute_create(n_threads, &count.compute), 0);
        assert_int_equal(compute_n_threads(count.compute), n_threads);
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
            for (size_t g = 0; g < sizeof(grains) / sizeof(grains[0]); g++)
                check_once(&count, sizes[s], grains[g]);
        compute_destroy(&count.compute);
        assert_null(count.compute);
    }
}

struct sum {
    struct compute *compute;
    size_t depth;
    atomic_size_t total;
};

static void sum_piece(void *arg, size_t begin, size_t end)
{
    struct sum *sum = arg;
    struct sum inner = {.compute = sum->compute, .depth = sum->depth - 1};

    for (size_t i = begin; i < end; i++) {
        if (sum->depth == 0) {
            atomic_fetch_add(&sum->total, i);
            continue;
        }
        atomic_store(&inner.total, 0);
        compute_parallel_for(sum->compute, 100, 1, sum_piece, &inner);
        assert_int_equal(atomic_load(&inner.total), 4950);
        atomic_fetch_add(&sum->total, i);
    }
}

static void an_operation_may_use_the_pool_that_runs_it(void **state)
{
    struct sum sum = {.depth = 1};

    (void)state;
    assert_int_equal(compute_create(3, &sum.compute), 0);
    compute_parallel_for(sum.compute, 100, 1, sum_piece, &sum);
    assert_int_equal(atomic_load(&sum.total), 4950);
    compute_destroy(&sum.compute);
}

static void *sum_often(void *arg)
{
    struct compute *compute = arg;
    size_t wrong = 0;

    for (int i = 0; i < 300; i++) {
        struct sum sum = {.compute = compute};

        compute_parallel_for(compute, 1000, 10, sum_piece, &sum);
        wrong += atomic_load(&sum.total) != 499500;
    }
    return (void *)wrong;
}

static void callers_from_several_threads_get_their_own_results(void **state)
{
    struct compute *compute = NULL;
    pthread_t threads[4];

    (void)state;
    assert_int_equal(compute_create(2, &compute), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sum_often, compute), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;

        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    compute_destroy(&compute);
}

static void senseless_thread_counts_are_refused(void **state)
{
    struct compute *compute = NULL;

    (void)state;
    assert_int_equal(compute_create(-1, &compute), -EINVAL);
    assert_int_equal(compute_create(100000, &compute), -EINVAL);
    assert_null(compute);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(an_operation_may_use_the_pool_that_runs_it),
        cmocka_unit_test(callers_from_several_threads_get_their_own_results),
        cmocka_unit_test(senseless_thread_counts_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
