#include "base/log.h"
#include "base/trace.h"

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
#include <unistd.h>

/* Standard error goes to a file meanwhile. */
static char written[1 << 20];
static FILE *target;
static int saved;

static void capture(void)
{
    target = tmpfile();
    assert_non_null(target);
    saved = dup(STDERR_FILENO);
    dup2(fileno(target), STDERR_FILENO);
}

static const char *captured(void)
{
    size_t n;

    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(target);
    n = fread(written, 1, sizeof(written) - 1, target);
    written[n] = '\0';
    fclose(target);
    return written;
}

static void json_is_one_line_and_escaped(void **state)
{
    const char *line = NULL;

    (void)state;
    log_init("te\"st", LOG_INFO, LOG_FORMAT_JSON);
    trace_set_current(&(struct trace_context){.trace_id = {0xab, [15] = 0xff}});
    capture();
    log_warn("a \"quote\", a \\, a\nline, a tab\t, a \xC3\xA9 and a bad \xFF byte");
    line = captured();
    trace_set_current(NULL);
    assert_non_null(strstr(line, "\"level\":\"warn\",\"process\":\"te\\\"st\",\"trace\":"
                                 "\"ab0000000000000000000000000000ff\","
                                 "\"message\":\"a \\\"quote\\\", a \\\\, a\\nline, a tab\\u0009, "
                                 "a \xC3\xA9 and a bad \xEF\xBF\xBD byte\"}\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void text_keeps_one_line(void **state)
{
    const char *line = NULL;

    (void)state;
    log_init("broker", LOG_INFO, LOG_FORMAT_TEXT);
    capture();
    log_error("first\nsecond \x1B[31m");
    line = captured();
    assert_non_null(strstr(line, " error broker: first\\nsecond \\u001b[31m\n"));
}

static void auto_is_json_in_a_file(void **state)
{
    (void)state;
    log_init("x", LOG_INFO, LOG_FORMAT_AUTO);
    capture();
    log_info("hello");
    assert_int_equal(captured()[0], '{');
}

static void lower_levels_are_silent(void **state)
{
    enum log_level level;

    (void)state;
    assert_int_equal(log_level_parse("warn", &level), 0);
    assert_int_equal(log_level_parse("loud", &level), -EINVAL);
    log_init("x", level, LOG_FORMAT_TEXT);
    capture();
    log_debug("no");
    log_info("no");
    assert_string_equal(captured(), "");
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("thread %s says it all in one line", (const char *)arg);
    return NULL;
}

static void lines_of_threads_stay_whole(void **state)
{
    pthread_t threads[4];
    const char *at = NULL;
    int n = 0;

    (void)state;
    log_init("x", LOG_INFO, LOG_FORMAT_JSON);
    capture();
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, chatter, (void *)"A");
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (at = captured(); *at; at = strchr(at, '\n') + 1, n++) {
        assert_int_equal(strncmp(at, "{\"time\":\"", 9), 0);
        assert_int_equal(strcspn(at, "\n"),
                         strlen("{\"time\":\"2026-01-01T00:00:00.000Z\",\"level\":"
                                "\"info\",\"process\":\"x\",\"message\":\"thread "
                                "A says it all in one line\"}"));
    }
    assert_int_equal(n, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_one_line_and_escaped), cmocka_unit_test(text_keeps_one_line),
        cmocka_unit_test(auto_is_json_in_a_file),       cmocka_unit_test(lower_levels_are_silent),
        cmocka_unit_test(lines_of_threads_stay_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
