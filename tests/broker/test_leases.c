/* Workers that share their slots out among several brokers: what each of these has to do. */
#include "base/status.h"
#include "tests/broker/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int setup(void **state)
{
    scene_setup(state);
    puppet_caller(&puppet, CALLER);
    return 0;
}

static void capacity_is(uint32_t worker, uint32_t n)
{
    struct mesh_header capacity = {.kind = MESH_CAPACITY, .credit_messages = n};

    puppet_send(&puppet, BROKER_BACK, worker, &capacity, NULL, NULL);
}

static void bounce(uint32_t worker, uint64_t id)
{
    struct mesh_header end = {.kind = MESH_END,
                              .flags = MESH_UNPROCESSED,
                              .call_id = id,
                              .status = STATUS_RESOURCE_EXHAUSTED};

    puppet_send(&puppet, BROKER_BACK, worker, &end, NULL, NULL);
}

static void lent_slots_let_calls_wait(void **state)
{
    const struct seen *pong = NULL;

    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 0, "pair=a");
    puppet_open(&puppet, CALLER, 1, (struct opening){.selector = "pair=a"});
    pong = at_worker(MESH_PONG);
    assert_int_equal(pong->header.call_id, 0);
    assert_int_equal(pong->header.credit_messages, 1);
    puppet_open(&puppet, CALLER, 2, (struct opening){.selector = "pair=b"});
    caller_got_end(2, STATUS_UNAVAILABLE); /* nobody ever serves that */
    capacity_is(WORKER, 1);
    at_worker(MESH_OPEN);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void demand_is_told_when_asked(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, "pair=a");
    puppet_worker(&puppet, SECOND, "test.Echo", 1, "pair=b");
    for (uint64_t id = 1; id <= 3; id++)
        puppet_open(&puppet, CALLER, id, (struct opening){.selector = "pair=a"});
    at_worker(MESH_OPEN);
    puppet_open(&puppet, CALLER, 4, (struct opening){.selector = "pair=b"});
    puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_PING, 77);
    puppet_kind(&puppet, BROKER_BACK, SECOND, MESH_PING, 78);
    assert_int_equal(at_worker(MESH_PONG)->header.credit_messages, 2);
    assert_int_equal(puppet_take(&puppet, BROKER_BACK, SECOND, MESH_PONG)->header.credit_messages,
                     0);
}

/* A flood of calls is not a flood of PONGs. */
static void demand_is_told_now_and_then(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 0, NULL);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    assert_int_equal(at_worker(MESH_PONG)->header.credit_messages, 1);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    puppet_wait(&puppet, 200);
    puppet_open(&puppet, CALLER, 3, (struct opening){0});
    assert_int_equal(at_worker(MESH_PONG)->header.credit_messages, 3);
}

/* CAPACITY and OPEN have crossed: the call goes to the head of the queue, as it came. */
static void bounced_call_is_next(void **state)
{
    uint64_t first;
    struct mesh_header credit = {
        .kind = MESH_CREDIT, .call_id = 2, .credit_messages = 99, .credit_bytes = 999999};

    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 2, 4);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    first = at_worker(MESH_OPEN)->header.call_id;
    puppet_open(&puppet, CALLER, 2, (struct opening){.stream = true, .timeout_ms = 900});
    puppet_send(&puppet, BROKER_FRONT, CALLER, &credit, NULL, NULL);
    puppet_open(&puppet, CALLER, 3, (struct opening){.timeout_ms = 500});
    capacity_is(WORKER, 1);
    bounce(WORKER, at_worker(MESH_OPEN)->header.call_id);
    at_worker(MESH_CREDIT);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_end(&puppet, WORKER, first, STATUS_OK);
    caller_got_end(1, STATUS_OK);
    {
        const struct seen *open = at_worker(MESH_OPEN); /* not 3, which is due before */

        assert_int_equal(open->header.credit_messages, 99);
        assert_int_equal(open->header.attempt, 0);
        assert_true(open->header.call_id > first);
        assert_false(open->header.flags & MESH_END_SEND);
    }
}

static void bounced_call_goes_to_a_free_worker(void **state)
{
    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 1, 2);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    capacity_is(WORKER, 0);
    bounce(WORKER, at_worker(MESH_OPEN)->header.call_id);
    puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

/* A worker that takes nothing, whatever it says of its slots, does not play with a call for ever. */
static void bounces_are_bounded(void **state)
{
    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 1, 2);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    for (int i = 0; i < 4; i++) {
        puppet_silence(&puppet, BROKER_FRONT, CALLER);
        bounce(WORKER, at_worker(MESH_OPEN)->header.call_id);
    }
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    caller_got_end(1, STATUS_RESOURCE_EXHAUSTED);
    assert_true(broker_core_idle(puppet.core));
}

/* Once an answer has begun, the call has run. */
static void begun_answer_is_not_bounced(void **state)
{
    uint64_t id;

    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 1, 2);
    puppet_open(&puppet, CALLER, 1, (struct opening){.stream = true});
    id = at_worker(MESH_OPEN)->header.call_id;
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_ACCEPT, id);
    puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_ACCEPT);
    bounce(WORKER, id);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    caller_got_end(1, STATUS_RESOURCE_EXHAUSTED);
}

/* What is kept to be sent again is no second try of a call that may run once only. */
static void kept_call_does_not_run_twice(void **state)
{
    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 1, 2);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    at_worker(MESH_OPEN);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    puppet_silence(&puppet, BROKER_BACK, SECOND);
    caller_got_end(1, STATUS_UNAVAILABLE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scene_teardown)
    const struct CMUnitTest tests[] = {
        TEST(lent_slots_let_calls_wait),          TEST(demand_is_told_when_asked),
        TEST(demand_is_told_now_and_then),        TEST(bounced_call_is_next),
        TEST(bounced_call_goes_to_a_free_worker), TEST(bounces_are_bounded),
        TEST(begun_answer_is_not_bounced),        TEST(kept_call_does_not_run_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
