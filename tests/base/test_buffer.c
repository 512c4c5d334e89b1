#include "base/buffer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void appends_and_consumes(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 1000);
    assert_int_equal(buffer_append(&buffer, "hello ", 6), 0);
    assert_int_equal(buffer_printf(&buffer, "%d worlds", 3), 0);
    assert_int_equal(buffer.size, 14);
    assert_string_equal((char *)buffer.data, "hello 3 worlds");
    buffer_consume(&buffer, 6);
    assert_string_equal((char *)buffer.data, "3 worlds");
    buffer_consume(&buffer, 100);
    assert_int_equal(buffer.size, 0);
    buffer_fini(&buffer);
    assert_null(buffer.data);
}

static void refuses_past_its_limit(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 8);
    assert_int_equal(buffer_append(&buffer, "12345678", 8), 0);
    assert_int_equal(buffer_append(&buffer, "9", 1), -EMSGSIZE);
    assert_int_equal(buffer_printf(&buffer, "x"), -EMSGSIZE);
    assert_int_equal(buffer_append(&buffer, "", 0), 0);
    assert_int_equal(buffer_append(&buffer, "x", SIZE_MAX), -EMSGSIZE);
    assert_string_equal((char *)buffer.data, "12345678");
    buffer_fini(&buffer);
}

static void grows_byte_by_byte(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 5000);
    for (int i = 0; i < 5000; i++) {
        char c = (char)('a' + i % 26);

        assert_int_equal(buffer_append(&buffer, &c, 1), 0);
        assert_int_equal(buffer.data[buffer.size], 0);
    }
    for (int i = 0; i < 5000; i++)
        assert_int_equal(buffer.data[i], 'a' + i % 26);
    buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_and_consumes),
        cmocka_unit_test(refuses_past_its_limit),
        cmocka_unit_test(grows_byte_by_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
