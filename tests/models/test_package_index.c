#include "models/package_index.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/dragoman-test-XXXXXX";

static const char *write_config(const char *text)
{
    static char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/pip.conf", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

static void configured(const char *text, const char *want)
{
    char url[64] = "";
    int err = package_index_from_config(write_config(text), url, sizeof(url));

    assert_int_equal(err, want ? 0 : -ENOENT);
    if (want)
        assert_string_equal(url, want);
}

static void pips_files_are_read_as_pip_reads_them(void **state)
{
    (void)state;
    configured("[global]\nindex-url = http://a/simple\n", "http://a/simple");
    configured("# c\n[global]\ntimeout = 9\nindex_url=http://a/simple/\n", "http://a/simple");
    configured("[install]\nindex-url: http://a\n", "http://a");
    configured("[global]\nindex-url =\n    http://b/simple/\n", "http://b/simple");
    configured("[freeze]\nindex-url = http://a\n", NULL);
    configured("[global]\nextra-index-url = http://a\n", NULL);
    configured("[global]\nindex-url =\n", NULL);
    configured("", NULL);
    configured("[global]\nindex-url = http://a/"
               "01234567890123456789012345678901234567890123456789012345678901234\n",
               NULL); /* does not fit: another's address must not come of it */
}

static void the_option_wins_then_the_variables(void **state)
{
    struct failure failure = {""};
    char url[64];

    (void)state;
    setenv("DRAGOMAN_INDEX_URL", "http://second/", 1);
    setenv("PIP_INDEX_URL", "http://third", 1);
    assert_int_equal(package_index_url("http://first/simple/", url, sizeof(url), &failure), 0);
    assert_string_equal(url, "http://first/simple");
    assert_int_equal(package_index_url(NULL, url, sizeof(url), &failure), 0);
    assert_string_equal(url, "http://second");
    unsetenv("DRAGOMAN_INDEX_URL");
    assert_int_equal(package_index_url("", url, sizeof(url), &failure), 0);
    assert_string_equal(url, "http://third");
    unsetenv("PIP_INDEX_URL");
    setenv("PIP_CONFIG_FILE", write_config("[global]\nindex-url = http://fourth\n"), 1);
    assert_int_equal(package_index_url(NULL, url, sizeof(url), &failure), 0);
    assert_string_equal(url, "http://fourth");
    unsetenv("PIP_CONFIG_FILE");
}

/* No pip, no configuration: the message says what to do. */
static void nothing_known_is_an_error_with_the_remedy(void **state)
{
    struct failure failure = {""};
    char url[64], *path = strdup(getenv("PATH"));

    (void)state;
    setenv("PIP_CONFIG_FILE", "/dev/null", 1);
    setenv("PATH", folder, 1);
    assert_int_equal(package_index_url(NULL, url, sizeof(url), &failure), -ENOENT);
    assert_non_null(strstr(failure.text, "--index-url URL"));
    setenv("PATH", path, 1);
    unsetenv("PIP_CONFIG_FILE");
    free(path);
}

static void an_installed_pip_is_asked(void **state)
{
    struct failure failure = {""};
    char path[256], url[64], *old = strdup(getenv("PATH"));
    FILE *file;

    (void)state;
    snprintf(path, sizeof(path), "%s/python3", folder);
    file = fopen(path, "w"); /* stands for an interpreter with pip */
    assert_non_null(file);
    fputs("#!/bin/sh\ntest \"$1\" = -c && echo http://from.pip/simple\n", file);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    setenv("PIP_CONFIG_FILE", "/dev/null", 1);
    setenv("PATH", folder, 1);
    assert_int_equal(package_index_url(NULL, url, sizeof(url), &failure), 0);
    assert_string_equal(url, "http://from.pip/simple");
    setenv("PATH", old, 1);
    unsetenv("PIP_CONFIG_FILE");
    unlink(path);
    free(old);
}

static int make_folder(void **state)
{
    (void)state;
    unsetenv("VIRTUAL_ENV");
    return mkdtemp(folder) ? 0 : -1;
}

static int delete_folder(void **state)
{
    char path[256];

    (void)state;
    snprintf(path, sizeof(path), "%s/pip.conf", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pips_files_are_read_as_pip_reads_them),
        cmocka_unit_test(the_option_wins_then_the_variables),
        cmocka_unit_test(nothing_known_is_an_error_with_the_remedy),
        cmocka_unit_test(an_installed_pip_is_asked),
    };
    return cmocka_run_group_tests(tests, make_folder, delete_folder);
}
