#include "base/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void names_are_grpcs(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_OK), "OK");
    assert_string_equal(status_name(STATUS_RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED");
    assert_string_equal(status_name(STATUS_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(status_name((enum status_code)17), "UNKNOWN");
    assert_string_equal(status_name((enum status_code) - 1), "UNKNOWN");
}

static void errnos_have_codes(void **state)
{
    (void)state;
    assert_int_equal(status_from_errno(0), STATUS_OK);
    assert_int_equal(status_from_errno(-EINVAL), STATUS_INVALID_ARGUMENT);
    assert_int_equal(status_from_errno(-ENOMEM), STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(status_from_errno(-ETIMEDOUT), STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(status_from_errno(-ECANCELED), STATUS_CANCELLED);
    assert_int_equal(status_from_errno(-ENOENT), STATUS_NOT_FOUND);
    assert_int_equal(status_from_errno(-12345), STATUS_INTERNAL);
}

static void message_is_formatted(void **state)
{
    struct status status = {.retry_delay_ms = 9};

    (void)state;
    status_set(&status, STATUS_NOT_FOUND, "no model '%s'", "x");
    assert_int_equal(status.code, STATUS_NOT_FOUND);
    assert_int_equal(status.retry_delay_ms, 0);
    assert_string_equal(status.message, "no model 'x'");
}

/* A message of n filler bytes, then one character of four. */
static void cut(size_t n, struct status *status)
{
    char text[STATUS_MESSAGE_MAX + 8];

    memset(text, 'a', n);
    strcpy(text + n, "\xF0\x9F\x98\x88");
    status_set(status, STATUS_UNKNOWN, "%s", text);
}

static void long_message_is_cut_at_a_character(void **state)
{
    struct status status;

    (void)state;
    cut(STATUS_MESSAGE_MAX - 5, &status); /* just fits */
    assert_int_equal(strlen(status.message), STATUS_MESSAGE_MAX - 1);
    for (size_t over = 1; over <= 4; over++) {
        cut(STATUS_MESSAGE_MAX - 5 + over, &status);
        assert_int_equal(strlen(status.message), STATUS_MESSAGE_MAX - 5 + over);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_grpcs),
        cmocka_unit_test(errnos_have_codes),
        cmocka_unit_test(message_is_formatted),
        cmocka_unit_test(long_message_is_cut_at_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
