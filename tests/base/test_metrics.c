#include "base/metrics.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

static const char *page(void)
{
    static struct buffer out;

    buffer_fini(&out);
    buffer_init(&out, 1 << 20);
    assert_int_equal(metrics_render(&out), 0);
    return (const char *)out.data;
}

static void assert_line(const char *line)
{
    const char *text = page();
    const char *at = strstr(text, line);

    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("no line '%s' in:\n%s", line, text);
}

static void counters_and_gauges(void **state)
{
    struct metric *calls = metrics_counter("t_calls_total", "Calls.", "status=\"OK\"");
    struct metric *depth = metrics_gauge("t_depth", "Depth.", NULL);

    (void)state;
    metric_add(calls, 1);
    metric_add(calls, 2);
    metric_set(depth, 5);
    metric_add(depth, -1.5);
    assert_ptr_equal(metrics_counter("t_calls_total", "other help", "status=\"OK\""), calls);
    metric_add(metrics_counter("t_calls_total", NULL, "status=\"INTERNAL\""), 1);
    assert_line("# HELP t_calls_total Calls.");
    assert_line("# TYPE t_calls_total counter");
    assert_line("t_calls_total{status=\"OK\"} 3");
    assert_line("t_calls_total{status=\"INTERNAL\"} 1");
    assert_line("t_depth 3.5");
    metric_add(NULL, 1);
    metric_set(NULL, 1);
    metric_observe(NULL, 1);
}

static void histogram_buckets_add_up(void **state)
{
    struct metric *wait = metrics_histogram("t_wait_seconds", "Wait.", "q=\"a\"");

    (void)state;
    metric_observe(wait, 0.00001);
    metric_observe(wait, 0.25);
    metric_observe(wait, 1000);
    assert_line("t_wait_seconds_bucket{q=\"a\",le=\"1e-05\"} 1");
    assert_line("t_wait_seconds_bucket{q=\"a\",le=\"0.2\"} 1");
    assert_line("t_wait_seconds_bucket{q=\"a\",le=\"0.3\"} 2");
    assert_line("t_wait_seconds_bucket{q=\"a\",le=\"100\"} 2");
    assert_line("t_wait_seconds_bucket{q=\"a\",le=\"+Inf\"} 3");
    assert_line("t_wait_seconds_count{q=\"a\"} 3");
    assert_non_null(strstr(page(), "t_wait_seconds_sum{q=\"a\"} 1000.25001"));
}

static void too_many_series_share_one(void **state)
{
    char labels[64];

    (void)state;
    for (int i = 0; i < METRICS_SERIES_MAX + 10; i++) {
        snprintf(labels, sizeof(labels), "a=\"%d\\\"\",b=\"x\"", i);
        metric_add(metrics_counter("t_many_total", "Many.", labels), 1);
    }
    assert_line("t_many_total{a=\"255\\\"\",b=\"x\"} 1");
    assert_line("t_many_total{a=\"other\",b=\"other\"} 10");
    assert_line("dragoman_metrics_overflow_total 10");
    assert_null(strstr(page(), "a=\"256"));
}

static void *add_many(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        metric_add(metrics_counter("t_threads_total", "Threads.", NULL), 1);
        metric_observe(arg, 0.1);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    struct metric *histogram = metrics_histogram("t_threads_seconds", "Threads.", NULL);
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add_many, histogram);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_line("t_threads_total 40000");
    assert_line("t_threads_seconds_count 40000");
}

static void process_is_described(void **state)
{
    const char *resident = strstr(page(), "\nprocess_resident_memory_bytes ");

    (void)state;
    assert_non_null(resident);
    assert_true(atof(strchr(resident, ' ')) > 100000);
    assert_line("dragoman_build_info{version=\"" DRAGOMAN_VERSION "\"} 1");
}

static void small_buffer_is_refused(void **state)
{
    struct buffer out;

    (void)state;
    buffer_init(&out, 10);
    assert_int_equal(metrics_render(&out), -EMSGSIZE);
    buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges),       cmocka_unit_test(histogram_buckets_add_up),
        cmocka_unit_test(too_many_series_share_one), cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(process_is_described),      cmocka_unit_test(small_buffer_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
