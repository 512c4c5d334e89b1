#include "base/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#define ARGS_MAX 16

static struct {
    const char *name;
    int64_t limit;
    bool fast;
    double beam;
    const char *device;
    struct config_list front;
} got;

static const struct config_option OPTIONS[] = {
    {"name", CONFIG_STRING, &got.name, "NAME", "what to call it", NULL, 0, 0},
    {"", CONFIG_STRING, NULL, NULL, "Limits:", NULL, 0, 0},
    {"queue-limit", CONFIG_INT, &got.limit, "N", "waiting calls", NULL, 1, 1000},
    {"fast", CONFIG_BOOL, &got.fast, NULL, "hurry", NULL, 0, 0},
    {"beam", CONFIG_DOUBLE, &got.beam, "X", "how wide", NULL, 0.5, 2},
    {"device", CONFIG_CHOICE, &got.device, NULL, "where", "cpu|cuda|auto", 0, 0},
    {"front", CONFIG_LIST, &got.front, "ENDPOINT", "where callers connect", NULL, 0, 0},
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};
static const struct config_option *const TABLES[] = {OPTIONS, NULL};

static char output[1 << 16]; /* both streams of the last parse */
static char *arguments[ARGS_MAX + 1];
static int first;
static int exit_status;

static int setup(void **state)
{
    static const char *const NAMES[] = {"NAME", "QUEUE_LIMIT", "FAST", "BEAM", "DEVICE", "FRONT"};
    char name[64];

    (void)state;
    memset(&got, 0, sizeof(got));
    got.limit = 64;
    got.beam = 1;
    got.device = "auto";
    got.front = (struct config_list){.count = 2, .items = {"tcp://a:1", "ipc://b"}};
    for (size_t i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "DRAGOMAN_%s", NAMES[i]);
        unsetenv(name);
    }
    return 0;
}

/* Parse the words of a command line, catching what is printed. */
static int parse_as(const char *operands, bool commands, const char *line)
{
    static char words[1024];
    struct config_spec spec = {"dragoman-test", "Tests.", operands, TABLES, commands};
    FILE *file = tmpfile();
    int out = dup(STDOUT_FILENO);
    int err = dup(STDERR_FILENO);
    int n = 0;
    int result;
    size_t size;

    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        arguments[n++] = word;
    arguments[n] = NULL;
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    first = -1;
    exit_status = -1;
    result = config_parse(&spec, n, arguments, &first, &exit_status);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    rewind(file);
    size = fread(output, 1, sizeof(output) - 1, file);
    output[size] = '\0';
    fclose(file);
    return result;
}

static int parse(const char *line)
{
    return parse_as(NULL, false, line);
}

static void refused(const char *line, const char *message)
{
    assert_int_equal(parse(line), 1);
    assert_int_equal(exit_status, 2);
    assert_string_equal(output, message);
}

static void flags_fill_every_type(void **state)
{
    (void)state;
    assert_int_equal(parse("x --name=n --queue-limit 7 --fast --beam=0.5 --device cuda "
                           "--front tcp://c:1 --front=tcp://d:1,2"),
                     0);
    assert_string_equal(output, "");
    assert_string_equal(got.name, "n");
    assert_int_equal(got.limit, 7);
    assert_true(got.fast);
    assert_true(got.beam == 0.5);
    assert_string_equal(got.device, "cuda");
    assert_int_equal(got.front.count, 2);
    assert_string_equal(got.front.items[0], "tcp://c:1");
    assert_string_equal(got.front.items[1], "tcp://d:1,2");
}

static void defaults_stay(void **state)
{
    (void)state;
    assert_int_equal(parse("x"), 0);
    assert_int_equal(exit_status, 0);
    assert_int_equal(first, 1);
    assert_int_equal(got.limit, 64);
    assert_int_equal(got.front.count, 2);
}

static void environment_yields_to_flags(void **state)
{
    (void)state;
    setenv("DRAGOMAN_QUEUE_LIMIT", "9", 1);
    setenv("DRAGOMAN_FAST", "yes", 1);
    setenv("DRAGOMAN_NAME", "", 1);
    setenv("DRAGOMAN_FRONT", "tcp://x:1,ipc://y,inproc://z", 1);
    got.name = "kept";
    assert_int_equal(parse("x --fast=no"), 0);
    assert_int_equal(got.limit, 9);
    assert_false(got.fast);
    assert_string_equal(got.name, "kept");
    assert_int_equal(got.front.count, 3);
    assert_string_equal(got.front.items[2], "inproc://z");
    assert_int_equal(parse("x --front tcp://only:1"), 0);
    assert_int_equal(got.front.count, 1);
}

static void bad_values_are_explained(void **state)
{
    (void)state;
    refused("x --queue-limit 12k", "dragoman-test: --queue-limit: '12k' is not allowed: give a "
                                   "whole number from 1 to 1000\n");
    refused("x --queue-limit=0", "dragoman-test: --queue-limit: '0' is not allowed: give a whole "
                                 "number from 1 to 1000\n");
    refused("x --queue-limit=", "dragoman-test: --queue-limit: '' is not allowed: give a whole "
                                "number from 1 to 1000\n");
    refused("x --beam nan", "dragoman-test: --beam: 'nan' is not allowed: give a number from 0.5 "
                            "to 2\n");
    refused("x --fast=maybe", "dragoman-test: --fast: 'maybe' is not allowed: give yes or no\n");
    refused("x --device cud", "dragoman-test: --device: 'cud' is not allowed: give one of "
                              "cpu|cuda|auto\n");
    refused("x --front=", "dragoman-test: --front: '' is not allowed: give at most 32 values, none "
                          "empty\n");
    setenv("DRAGOMAN_QUEUE_LIMIT", "99999999999999999999", 1);
    refused("x", "dragoman-test: DRAGOMAN_QUEUE_LIMIT: '99999999999999999999' is not allowed: give "
                 "a whole number from 1 to 1000\n");
    assert_int_equal(got.limit, 64);
}

static void wrong_usage_is_explained(void **state)
{
    (void)state;
    refused("x --queu-limit 3", "dragoman-test: unknown option '--queu-limit': did you mean "
                                "'--queue-limit'?\n");
    refused("x --zzzzzzzz", "dragoman-test: unknown option '--zzzzzzzz': 'dragoman-test --help' "
                            "lists them all\n");
    refused("x -q", "dragoman-test: unknown option '-q': options are long, '--name'\n");
    refused("x --queue-limit", "dragoman-test: --queue-limit needs a value: --queue-limit N\n");
    refused("x file", "dragoman-test: 'file' is not an option: nothing may follow the options\n");
}

static void operands_go_last(void **state)
{
    (void)state;
    assert_int_equal(parse_as("FILE...", false, "x a --name n b - --queue-limit 5 c"), 0);
    assert_int_equal(first, 5);
    assert_string_equal(arguments[5], "a");
    assert_string_equal(arguments[6], "b");
    assert_string_equal(arguments[7], "-");
    assert_string_equal(arguments[8], "c");
    assert_int_equal(got.limit, 5);
    assert_int_equal(parse_as("FILE...", false, "x a --fast b -- --name c"), 0);
    assert_int_equal(first, 3);
    assert_string_equal(arguments[3], "a");
    assert_string_equal(arguments[4], "b");
    assert_string_equal(arguments[5], "--name");
    assert_string_equal(arguments[6], "c");
    assert_int_equal(parse_as("FILE...", false, "x a --queue-limit"), 1); /* not 'a' */
}

static void a_command_ends_the_flags(void **state)
{
    (void)state;
    assert_int_equal(parse_as("COMMAND", true, "x --fast run --unknown --help"), 0);
    assert_true(got.fast);
    assert_int_equal(first, 2);
    assert_string_equal(arguments[2], "run");
    assert_string_equal(arguments[3], "--unknown");
}

static void help_tells_everything(void **state)
{
    (void)state;
    assert_int_equal(parse("x --queue-limit nonsense --help"), 1);
    assert_int_equal(exit_status, 0);
    assert_non_null(strstr(output, "Usage: dragoman-test [OPTIONS]\n"));
    assert_non_null(strstr(output, "\nOptions:\n  --name NAME "));
    assert_non_null(strstr(output, "\nLimits:\n  --queue-limit N "));
    assert_non_null(strstr(output, "[default 64; DRAGOMAN_QUEUE_LIMIT]"));
    assert_non_null(strstr(output, "--device cpu|cuda|auto "));
    assert_non_null(strstr(output, "[default tcp://a:1,ipc://b; DRAGOMAN_FRONT]"));
    assert_int_equal(parse("x --version"), 1);
    assert_int_equal(exit_status, 0);
    assert_string_equal(output, "dragoman-test " DRAGOMAN_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(flags_fill_every_type, setup),
        cmocka_unit_test_setup(defaults_stay, setup),
        cmocka_unit_test_setup(environment_yields_to_flags, setup),
        cmocka_unit_test_setup(bad_values_are_explained, setup),
        cmocka_unit_test_setup(wrong_usage_is_explained, setup),
        cmocka_unit_test_setup(operands_go_last, setup),
        cmocka_unit_test_setup(a_command_ends_the_flags, setup),
        cmocka_unit_test_setup(help_tells_everything, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
