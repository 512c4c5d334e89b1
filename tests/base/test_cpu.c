#include "base/cpu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sched.h>

static void one_cpu_of_affinity_is_one(void **state)
{
    cpu_set_t before;
    cpu_set_t one;
    int count = cpu_count();

    (void)state;
    assert_true(count >= 1);
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_true(count <= CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(cpu_count(), count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_cpu_of_affinity_is_one)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
