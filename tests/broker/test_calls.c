/* The life of a call, as its caller and its worker see it. */
#include "base/status.h"
#include "tests/broker/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- calls ----------------------------------------------------------------------------------- */

static void unary_goes_there_and_back(void **state)
{
    const struct seen *open = NULL;

    (void)state;
    pair(1);
    puppet_open(&puppet, CALLER, 7, (struct opening){.timeout_ms = 500, .bytes = 100});
    open = at_worker(MESH_OPEN);
    assert_int_equal(open->body_size, 100);
    assert_int_equal(open->header.timeout_ns, 500 * PUPPET_MS);
    assert_true(open->header.flags & MESH_END_SEND);
    assert_int_not_equal(open->header.call_id, 7);
    puppet_end(&puppet, WORKER, open->header.call_id, STATUS_OK);
    open = at_caller(MESH_END);
    assert_int_equal(open->header.call_id, 7);
    assert_int_equal(open->header.status, STATUS_OK);
    assert_int_equal(open->body_size, 3);
    assert_true(broker_core_idle(puppet.core));
}

static void streams_are_relayed_both_ways(void **state)
{
    struct mesh_header credit = {.kind = MESH_CREDIT, .credit_messages = 9, .credit_bytes = 99};
    struct mesh_header data = {.kind = MESH_DATA, .seq = 2};
    const struct seen *seen = NULL;
    uint64_t id;

    (void)state;
    pair(1);
    id = opened(1, (struct opening){.stream = true});
    credit.call_id = id;
    credit.kind = MESH_ACCEPT;
    puppet_send(&puppet, BROKER_BACK, WORKER, &credit, NULL, NULL);
    seen = at_caller(MESH_ACCEPT);
    assert_int_equal(seen->header.call_id, 1);
    assert_int_equal(seen->header.credit_messages, 9);
    data.call_id = 1;
    puppet_send_bytes(&puppet, BROKER_FRONT, CALLER, &data, NULL, 20000);
    seen = at_worker(MESH_DATA);
    assert_int_equal(seen->header.call_id, id);
    assert_int_equal(seen->header.seq, 2);
    assert_int_equal(seen->body_size, 20000);
    credit.kind = MESH_CREDIT;
    credit.call_id = 1;
    puppet_send(&puppet, BROKER_FRONT, CALLER, &credit, NULL, NULL);
    assert_int_equal(at_worker(MESH_CREDIT)->header.credit_bytes, 99);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_INITIAL, id);
    at_caller(MESH_INITIAL);
    data.call_id = id;
    puppet_send_bytes(&puppet, BROKER_BACK, WORKER, &data, NULL, 5);
    assert_int_equal(at_caller(MESH_DATA)->header.call_id, 1);
    puppet_end(&puppet, WORKER, id, STATUS_NOT_FOUND);
    caller_got_end(1, STATUS_NOT_FOUND);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void slots_are_never_exceeded(void **state)
{
    uint64_t first;
    uint64_t second;

    (void)state;
    pair(2);
    first = opened(1, (struct opening){0});
    opened(2, (struct opening){0});
    puppet_open(&puppet, CALLER, 3, (struct opening){0});
    puppet_open(&puppet, CALLER, 4, (struct opening){0});
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    puppet_end(&puppet, WORKER, first, STATUS_OK);
    caller_got_end(1, STATUS_OK);
    second = at_worker(MESH_OPEN)->header.call_id;
    assert_true(second > first);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void least_loaded_worker_is_chosen(void **state)
{
    (void)state;
    pair(4);
    puppet_worker(&puppet, SECOND, "test.Echo", 2, NULL);
    for (uint64_t id = 1; id <= 6; id++) /* loads, as shares: 1/4, 1/2, 2/4, 3/4, 2/2, 4/4 */
        puppet_open(&puppet, CALLER, id, (struct opening){0});
    for (int i = 0; i < 4; i++)
        at_worker(MESH_OPEN);
    for (int i = 0; i < 2; i++)
        puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
}

static void equal_workers_take_turns(void **state)
{
    uint32_t before = 0;

    (void)state;
    pair(8);
    puppet_worker(&puppet, SECOND, "test.Echo", 8, NULL);
    for (uint64_t id = 1; id <= 6; id++) {
        uint32_t chosen;

        puppet_wait(&puppet, 1);
        puppet_open(&puppet, CALLER, id, (struct opening){0});
        chosen = puppet.first->peer;
        assert_int_not_equal(chosen, before);
        before = chosen;
        puppet_end(&puppet, chosen,
                   puppet_take(&puppet, BROKER_BACK, chosen, MESH_OPEN)->header.call_id, STATUS_OK);
        caller_got_end(id, STATUS_OK);
    }
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void unknown_service_is_unimplemented(void **state)
{
    const struct seen *end = NULL;

    (void)state;
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){.service = "no.Such"});
    end = at_caller(MESH_END);
    assert_int_equal(end->header.status, STATUS_UNIMPLEMENTED);
    assert_true(end->header.flags & MESH_UNPROCESSED);
    assert_string_equal(end->message, "no worker has ever offered no.Such");
}

static void known_service_without_worker_is_unavailable(void **state)
{
    (void)state;
    pair(1);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    caller_got_end(1, STATUS_UNAVAILABLE);
}

static void unmatched_selector_is_named(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, "pair=en-pt|pt-en model=tiny");
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){.selector = "pair=en-xx"});
    assert_string_equal(at_caller(MESH_END)->message, "no worker of test.Echo serves pair=en-xx");
    assert_int_equal(puppet.taken.header.status, STATUS_UNAVAILABLE);
    puppet_open(&puppet, CALLER, 2, (struct opening){.selector = "pair=xx|pt-en model=tiny"});
    at_worker(MESH_OPEN);
    puppet_open(&puppet, CALLER, 3, (struct opening){.selector = "pair=pt-en model=big"});
    assert_string_equal(at_caller(MESH_END)->message,
                        "no worker of test.Echo serves model=big, pair=pt-en");
}

static void full_queue_refuses_with_a_delay(void **state)
{
    const struct seen *end = NULL;

    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    for (uint64_t id = 2; id <= 5; id++)
        puppet_open(&puppet, CALLER, id, (struct opening){0});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_open(&puppet, CALLER, 6, (struct opening){0});
    end = at_caller(MESH_END);
    assert_int_equal(end->header.call_id, 6);
    assert_int_equal(end->header.status, STATUS_RESOURCE_EXHAUSTED);
    assert_true(end->retry_delay_ms > 0);
    assert_true(end->header.flags & MESH_UNPROCESSED);
}

static void queue_is_bounded_in_bytes(void **state)
{
    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.bytes = 700000});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_open(&puppet, CALLER, 3, (struct opening){.bytes = 700000});
    caller_got_end(3, STATUS_RESOURCE_EXHAUSTED);
    puppet_open(&puppet, CALLER, 4, (struct opening){.bytes = 1000});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void flooding_tenant_makes_room(void **state)
{
    (void)state;
    pair(1);
    puppet_caller(&puppet, OTHER);
    opened(1, (struct opening){0});
    for (uint64_t id = 2; id <= 5; id++)
        puppet_open(&puppet, CALLER, id, (struct opening){.tenant = "greedy"});
    puppet_open(&puppet, OTHER, 1, (struct opening){.tenant = "modest"});
    caller_got_end(5, STATUS_RESOURCE_EXHAUSTED); /* the greedy one's last */
    puppet_silence(&puppet, BROKER_FRONT, OTHER);
}

static void large_message_is_refused(void **state)
{
    (void)state;
    pair(1);
    puppet_open(&puppet, CALLER, 1, (struct opening){.bytes = (1 << 20) + 1});
    caller_got_end(1, STATUS_RESOURCE_EXHAUSTED);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void passed_deadline_is_refused(void **state)
{
    (void)state;
    pair(1);
    puppet_open(&puppet, CALLER, 1, (struct opening){.timeout_ms = -1});
    caller_got_end(1, STATUS_DEADLINE_EXCEEDED);
}

static void hopeless_deadline_is_refused_at_once(void **state)
{
    (void)state;
    pair(1);
    for (uint64_t id = 1; id <= 8; id++) { /* calls take 100 ms */
        uint64_t call = opened(id, (struct opening){0});

        puppet_wait(&puppet, 100);
        puppet_end(&puppet, WORKER, call, STATUS_OK);
        caller_got_end(id, STATUS_OK);
    }
    opened(9, (struct opening){0});
    puppet_open(&puppet, CALLER, 10, (struct opening){.timeout_ms = 150});
    puppet_open(&puppet, CALLER, 11, (struct opening){.timeout_ms = 210});
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* 100 ms ahead of it: may do */
    puppet_open(&puppet, CALLER, 12, (struct opening){.timeout_ms = 290});
    caller_got_end(12, STATUS_DEADLINE_EXCEEDED); /* 200 ms ahead of it, and its own 100: cannot */
    puppet_open(&puppet, CALLER, 14, (struct opening){.timeout_ms = 90});
    caller_got_end(14, STATUS_DEADLINE_EXCEEDED); /* nor can one that has less than a call takes */
    puppet_open(&puppet, CALLER, 15, (struct opening){.timeout_ms = 10000});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void ready_waiters_get_the_first_worker(void **state)
{
    (void)state;
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){.flags = MESH_WAIT});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_open(&puppet, CALLER, 2, (struct opening){0}); /* does not wait: still never offered */
    caller_got_end(2, STATUS_UNIMPLEMENTED);
    puppet_worker(&puppet, WORKER, "test.Echo", 1, NULL);
    at_worker(MESH_OPEN);
}

static void ready_waiters_wait_for_their_selector(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, "pair=a");
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){.selector = "pair=b", .flags = MESH_WAIT});
    puppet_open(&puppet, CALLER, 2, (struct opening){.selector = "pair=a"}); /* passes the other */
    at_worker(MESH_OPEN);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, "pair=b");
    puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void earliest_deadline_is_first(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){.bytes = 1});
    puppet_open(&puppet, CALLER, 2, (struct opening){.bytes = 2});
    puppet_open(&puppet, CALLER, 3, (struct opening){.timeout_ms = 9000, .bytes = 3});
    puppet_open(&puppet, CALLER, 4, (struct opening){.timeout_ms = 5000, .bytes = 4});
    puppet_open(&puppet, CALLER, 5, (struct opening){.bytes = 5});
    for (size_t i = 0; i < 4; i++) {
        static const size_t BYTES[] = {4, 3, 2, 5};

        puppet_end(&puppet, WORKER, running, STATUS_OK);
        running = at_worker(MESH_OPEN)->header.call_id;
        assert_int_equal(puppet.taken.body_size, BYTES[i]);
    }
}

static void deadline_ends_a_waiting_call(void **state)
{
    const struct seen *end = NULL;

    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.timeout_ms = 50});
    puppet_wait(&puppet, 49);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_wait(&puppet, 1);
    end = at_caller(MESH_END);
    assert_int_equal(end->header.status, STATUS_DEADLINE_EXCEEDED);
    assert_true(end->header.flags & MESH_UNPROCESSED);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void timeout_shrinks_while_it_waits(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.timeout_ms = 100});
    puppet_wait(&puppet, 30);
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    assert_int_equal(at_worker(MESH_OPEN)->header.timeout_ns, 70 * PUPPET_MS);
}

static void waiting_call_is_one_open(void **state)
{
    struct mesh_header credit = {
        .kind = MESH_CREDIT, .call_id = 2, .credit_messages = 40, .credit_bytes = 123456};
    struct mesh_header done = {.kind = MESH_DATA, .call_id = 2, .flags = MESH_END_SEND, .seq = 1};
    const struct seen *open = NULL;
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.stream = true});
    puppet_send(&puppet, BROKER_FRONT, CALLER, &credit, NULL, NULL);
    puppet_send(&puppet, BROKER_FRONT, CALLER, &done, NULL, NULL);
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    open = at_worker(MESH_OPEN);
    assert_true(open->header.flags & MESH_END_SEND);
    assert_int_equal(open->header.credit_messages, 40);
    assert_int_equal(open->header.credit_bytes, 123456);
}

static void message_without_credit_ends_the_call(void **state)
{
    struct mesh_header data = {.kind = MESH_DATA, .call_id = 2, .seq = 2};

    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.stream = true});
    puppet_send_bytes(&puppet, BROKER_FRONT, CALLER, &data, NULL, 1);
    caller_got_end(2, STATUS_INTERNAL);
}

/* ---- cancels and deadlines ------------------------------------------------------------------- */

static void cancel_ends_and_keeps_the_slot(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_CANCEL, 1);
    caller_got_end(1, STATUS_CANCELLED);
    assert_int_equal(at_worker(MESH_CANCEL)->header.call_id, running);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_CANCEL, 1);       /* late: nothing */
    puppet_silence(&puppet, BROKER_BACK, WORKER);                     /* the slot is still taken */
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_INITIAL, running); /* late: dropped */
    puppet_end(&puppet, WORKER, running, STATUS_CANCELLED);
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* one END */
    at_worker(MESH_OPEN);
}

static void cancelled_while_waiting_never_runs(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_CANCEL, 2);
    caller_got_end(2, STATUS_CANCELLED);
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    assert_true(broker_core_idle(puppet.core));
}

static void deadline_ends_a_running_call(void **state)
{
    const struct seen *cancel = NULL;
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){.timeout_ms = 20});
    puppet_wait(&puppet, 20);
    caller_got_end(1, STATUS_DEADLINE_EXCEEDED);
    cancel = at_worker(MESH_CANCEL);
    assert_int_equal(cancel->header.call_id, running);
    assert_int_equal(cancel->header.status, STATUS_DEADLINE_EXCEEDED);
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    puppet_end(&puppet, WORKER, running, STATUS_CANCELLED);
    at_worker(MESH_OPEN);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static void lost_worker_ends_its_calls(void **state)
{
    const struct seen *end = NULL;

    (void)state;
    pair(2);
    opened(1, (struct opening){0});
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    end = at_caller(MESH_END);
    assert_int_equal(end->header.status, STATUS_UNAVAILABLE);
    assert_false(end->header.flags & MESH_UNPROCESSED);
    assert_string_equal(end->message,
                        "worker 'peer-200' of test.Echo is gone: its connection was closed");
}

static void waiting_calls_without_workers_end(void **state)
{
    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_open(&puppet, CALLER, 3, (struct opening){.flags = MESH_WAIT});
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    caller_got_end(1, STATUS_UNAVAILABLE);
    caller_got_end(2, STATUS_UNAVAILABLE);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
}

static void idempotent_call_is_tried_once_more(void **state)
{
    const struct seen *open = NULL;

    (void)state;
    pair(1);
    opened(1, (struct opening){.flags = MESH_IDEMPOTENT, .bytes = 20000, .timeout_ms = 1000});
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_wait(&puppet, 100);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    open = puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
    assert_int_equal(open->header.attempt, 1);
    assert_int_equal(open->header.timeout_ns, 900 * PUPPET_MS);
    assert_int_equal(open->body_size, 20000);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_lost(&puppet, BROKER_BACK, SECOND);
    caller_got_end(1, STATUS_UNAVAILABLE); /* not a third time */
}

static void begun_answer_is_not_tried_again(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){.flags = MESH_IDEMPOTENT});
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_INITIAL, running);
    at_caller(MESH_INITIAL);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    caller_got_end(1, STATUS_UNAVAILABLE);
    puppet_silence(&puppet, BROKER_BACK, SECOND);
}

static void second_try_keeps_its_selector(void **state)
{
    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, "pair=a");
    puppet_worker(&puppet, SECOND, "test.Echo", 1, "pair=b");
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1,
                (struct opening){.flags = MESH_IDEMPOTENT, .selector = "pair=a"});
    at_worker(MESH_OPEN);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    caller_got_end(1, STATUS_UNAVAILABLE);
    puppet_silence(&puppet, BROKER_BACK, SECOND);
}

static void lost_caller_cancels_its_calls(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){.flags = MESH_IDEMPOTENT});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_lost(&puppet, BROKER_FRONT, CALLER);
    assert_int_equal(at_worker(MESH_CANCEL)->header.call_id, running);
    assert_false(broker_core_idle(puppet.core)); /* its slot is taken */
    puppet_end(&puppet, WORKER, running, STATUS_CANCELLED);
    assert_true(broker_core_idle(puppet.core));
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void silent_peers_are_dead_after_three_beats(void **state)
{
    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    for (int i = 0; i < 10; i++) { /* the caller lives, the worker is silent */
        puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_PING, 42);
        assert_int_equal(at_caller(MESH_PONG)->header.call_id, 42);
        puppet_wait(&puppet, 290);
    }
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_wait(&puppet, 1200);
    caller_got_end(1, STATUS_UNAVAILABLE);
    puppet_end(&puppet, WORKER, 1, STATUS_OK); /* it wakes up */
    assert_int_equal(at_worker(MESH_ERROR)->header.status, STATUS_FAILED_PRECONDITION);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)
    const struct CMUnitTest tests[] = {
        TEST(unary_goes_there_and_back),
        TEST(streams_are_relayed_both_ways),
        TEST(slots_are_never_exceeded),
        TEST(least_loaded_worker_is_chosen),
        TEST(equal_workers_take_turns),
        TEST(unknown_service_is_unimplemented),
        TEST(known_service_without_worker_is_unavailable),
        TEST(unmatched_selector_is_named),
        TEST(full_queue_refuses_with_a_delay),
        TEST(queue_is_bounded_in_bytes),
        TEST(flooding_tenant_makes_room),
        TEST(large_message_is_refused),
        TEST(passed_deadline_is_refused),
        TEST(hopeless_deadline_is_refused_at_once),
        TEST(ready_waiters_get_the_first_worker),
        TEST(ready_waiters_wait_for_their_selector),
        TEST(earliest_deadline_is_first),
        TEST(deadline_ends_a_waiting_call),
        TEST(timeout_shrinks_while_it_waits),
        TEST(waiting_call_is_one_open),
        TEST(message_without_credit_ends_the_call),
        TEST(cancel_ends_and_keeps_the_slot),
        TEST(cancelled_while_waiting_never_runs),
        TEST(deadline_ends_a_running_call),
        TEST(lost_worker_ends_its_calls),
        TEST(waiting_calls_without_workers_end),
        TEST(idempotent_call_is_tried_once_more),
        TEST(begun_answer_is_not_tried_again),
        TEST(second_try_keeps_its_selector),
        TEST(lost_caller_cancels_its_calls),
        TEST(silent_peers_are_dead_after_three_beats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
