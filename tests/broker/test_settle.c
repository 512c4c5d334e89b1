/* A broker that has just started: its workers may still come, so nothing is refused for want of one. */
#include "base/log.h"
#include "base/status.h"
#include "tests/broker/puppet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CALLER 100
#define WORKER 200
#define SETTLE_MS 1000

static struct puppet puppet;

static int setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    puppet_init(&puppet, (struct broker_core_options){.settle_ms = SETTLE_MS});
    puppet_caller(&puppet, CALLER);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    puppet_fini(&puppet);
    return 0;
}

static void caller_got(uint64_t id, uint16_t status)
{
    const struct seen *end = puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END);

    assert_int_equal(end->header.call_id, id);
    assert_int_equal(end->header.status, status);
}

static void calls_wait_for_workers_that_come_back(void **state)
{
    uint64_t id;

    (void)state;
    puppet_open(&puppet, CALLER, 1, (struct opening){.timeout_ms = 5000});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_wait(&puppet, SETTLE_MS / 2);
    puppet_worker(&puppet, WORKER, "test.Echo", 1, NULL);
    id = puppet_take(&puppet, BROKER_BACK, WORKER, MESH_OPEN)->header.call_id;
    puppet_end(&puppet, WORKER, id, STATUS_OK);
    caller_got(1, STATUS_OK);
}

static void then_they_are_refused(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Known", 1, "pair=a");
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2,
                (struct opening){.service = "test.Known", .selector = "pair=b"});
    puppet_open(&puppet, CALLER, 3, (struct opening){.flags = MESH_WAIT});
    puppet_wait(&puppet, SETTLE_MS - 1);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_wait(&puppet, 2);
    for (int i = 0; i < 2; i++) { /* services in any order */
        const struct seen *end = puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END);

        assert_int_equal(end->header.status,
                         end->header.call_id == 1 ? STATUS_UNIMPLEMENTED : STATUS_UNAVAILABLE);
        assert_in_range(end->header.call_id, 1, 2);
    }
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* the third wanted to wait */
    puppet_open(&puppet, CALLER, 4, (struct opening){.service = "test.Never"});
    caller_got(4, STATUS_UNIMPLEMENTED);
}

static void a_worker_lost_meanwhile_may_come_again(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, NULL);
    puppet_open(&puppet, CALLER, 1, (struct opening){.stream = true});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    caller_got(1, STATUS_UNAVAILABLE); /* it ran */
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_worker(&puppet, WORKER + 1, "test.Echo", 1, NULL);
    puppet_take(&puppet, BROKER_BACK, WORKER + 1, MESH_OPEN);
}

static void deadlines_hold_all_the_same(void **state)
{
    (void)state;
    puppet_open(&puppet, CALLER, 1, (struct opening){.timeout_ms = 100});
    puppet_wait(&puppet, 150);
    caller_got(1, STATUS_DEADLINE_EXCEEDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(calls_wait_for_workers_that_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(then_they_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_worker_lost_meanwhile_may_come_again, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_hold_all_the_same, setup, teardown),
    };

    return cmocka_run_group_tests_name("settle", tests, NULL, NULL);
}
