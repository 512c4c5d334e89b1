/* Sessions, workers, and what the broker answers itself. */
#include "base/status.h"
#include "tests/broker/scene.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- sessions -------------------------------------------------------------------------------- */

static void hello_comes_first(void **state)
{
    (void)state;
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_FAILED_PRECONDITION);
    assert_string_equal(puppet.taken.message, "say HELLO first");
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_BYE, 0);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_ERROR, 0);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_PONG, 0);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void other_versions_are_refused(void **state)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};

    (void)state;
    hello.version_min = 2;
    hello.version_max = 3;
    puppet_send(&puppet, BROKER_FRONT, CALLER, &header, NULL, &hello.base);
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_UNIMPLEMENTED);
}

static void second_hello_starts_over(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_caller(&puppet, CALLER);
    assert_int_equal(at_worker(MESH_CANCEL)->header.call_id, running);
    puppet_open(&puppet, CALLER, 1, (struct opening){0}); /* ids start over as well */
    puppet_end(&puppet, WORKER, running, STATUS_CANCELLED);
    at_worker(MESH_OPEN);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void repeated_id_breaks_the_protocol(void **state)
{
    (void)state;
    pair(2);
    opened(5, (struct opening){0});
    puppet_open(&puppet, CALLER, 5, (struct opening){0});
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_INVALID_ARGUMENT);
    at_worker(MESH_CANCEL);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void foreign_ids_break_the_protocol(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_CANCEL, 9);
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_INVALID_ARGUMENT);
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){0});
    running = puppet_take(&puppet, BROKER_BACK, puppet.first->peer, MESH_OPEN)->header.call_id;
    puppet_end(&puppet, puppet.taken.peer == WORKER ? SECOND : WORKER, running, STATUS_OK);
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* another worker's call is not ended by it */
}

static void wrong_side_breaks_the_protocol(void **state)
{
    (void)state;
    pair(1);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_REGISTER, 0);
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_INVALID_ARGUMENT);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_OPEN, 1);
    assert_int_equal(at_worker(MESH_ERROR)->header.status, STATUS_INVALID_ARGUMENT);
}

static void unknown_kinds_are_ignored_unless_critical(void **state)
{
    struct mesh_header header = {.kind = 99, .flags = MESH_CRITICAL};

    (void)state;
    pair(1);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, 99, 0);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_send(&puppet, BROKER_FRONT, CALLER, &header, NULL, NULL);
    assert_int_equal(at_caller(MESH_ERROR)->header.status, STATUS_UNIMPLEMENTED);
}

static void rubbish_ends_the_session(void **state)
{
    struct broker_event event = {
        .kind = BROKER_RUBBISH, .side = BROKER_BACK, .peer = WORKER, .error = -EBADMSG};

    (void)state;
    pair(1);
    opened(1, (struct opening){0});
    puppet_step(&puppet, &event);
    at_worker(MESH_ERROR);
    caller_got_end(1, STATUS_UNAVAILABLE);
}

static void nonsense_is_not_registered(void **state)
{
    Dragoman__Mesh__V1__Register offer = DRAGOMAN__MESH__V1__REGISTER__INIT;
    struct mesh_header header = {.kind = MESH_REGISTER};

    (void)state;
    offer.capacity = 1;
    puppet_hello(&puppet, BROKER_BACK, WORKER);
    at_worker(MESH_WELCOME);
    puppet_send(&puppet, BROKER_BACK, WORKER, &header, NULL, &offer.base);
    assert_string_equal(at_worker(MESH_ERROR)->message, "no service is offered");
    puppet_hello(&puppet, BROKER_BACK, WORKER);
    at_worker(MESH_WELCOME);
    puppet_send_bytes(&puppet, BROKER_BACK, WORKER, &header, NULL, 99);
    assert_string_equal(at_worker(MESH_ERROR)->message, "REGISTER does not parse");
}

/* ---- workers --------------------------------------------------------------------------------- */

static void drained_after_its_last_call(void **state)
{
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){.flags = MESH_WAIT});
    puppet_open(&puppet, CALLER, 3, (struct opening){0});
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_DRAIN, 0);
    caller_got_end(3, STATUS_UNAVAILABLE);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    caller_got_end(1, STATUS_OK);
    at_worker(MESH_DRAINED);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_BYE, 0);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_take(&puppet, BROKER_BACK, SECOND, MESH_OPEN);
}

static void capacity_changes(void **state)
{
    struct mesh_header capacity = {.kind = MESH_CAPACITY, .credit_messages = 3};
    uint64_t first;

    (void)state;
    pair(1);
    first = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_open(&puppet, CALLER, 3, (struct opening){0});
    puppet_send(&puppet, BROKER_BACK, WORKER, &capacity, NULL, NULL);
    at_worker(MESH_OPEN);
    at_worker(MESH_OPEN);
    capacity.credit_messages = 1;
    puppet_send(&puppet, BROKER_BACK, WORKER, &capacity, NULL, NULL);
    puppet_open(&puppet, CALLER, 4, (struct opening){0});
    puppet_end(&puppet, WORKER, first, STATUS_OK); /* two still run */
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

/* ---- the broker's own ------------------------------------------------------------------------ */

static Dragoman__Mesh__V1__DirectoryResponse *directory(uint8_t kind)
{
    const struct seen *seen = at_caller(kind);
    Dragoman__Mesh__V1__DirectoryResponse *response =
        dragoman__mesh__v1__directory_response__unpack(NULL, seen->body_size, seen->body);

    assert_non_null(response);
    return response;
}

static void directory_lists_services_and_workers(void **state)
{
    Dragoman__Mesh__V1__DirectoryResponse *response = NULL;

    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 3, "pair=a|b");
    puppet_worker(&puppet, SECOND, "test.Other", 1, NULL);
    puppet_caller(&puppet, CALLER);
    opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2,
                (struct opening){.service = "dragoman.mesh.v1.Directory", .method = "List"});
    response = directory(MESH_END);
    assert_int_equal(puppet.taken.header.status, STATUS_OK);
    assert_int_equal(puppet.taken.header.seq, 1);
    assert_int_equal(response->n_services, 2);
    assert_int_equal(response->n_workers, 2);
    assert_string_equal(response->services[0]->name, "test.Echo");
    assert_int_equal(response->services[0]->capacity, 3);
    assert_int_equal(response->services[0]->running, 1);
    assert_string_equal(response->services[0]->methods[0], "Say");
    assert_string_equal(response->workers[1]->labels[0]->values[1], "b");
    assert_string_equal(response->workers[1]->name, "peer-200");
    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
}

static void directory_watch_follows_changes(void **state)
{
    struct mesh_header credit = {.kind = MESH_CREDIT, .call_id = 1, .credit_messages = 2};
    Dragoman__Mesh__V1__DirectoryRequest request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    Dragoman__Mesh__V1__DirectoryResponse *response = NULL;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header open = {
        .kind = MESH_OPEN, .call_id = 1, .credit_messages = 1, .credit_bytes = 1 << 20};

    (void)state;
    puppet_caller(&puppet, CALLER);
    meta.method = (char *)"/dragoman.mesh.v1.Directory/Watch";
    puppet_send(&puppet, BROKER_FRONT, CALLER, &open, &meta, NULL);
    assert_int_equal(at_caller(MESH_ACCEPT)->header.credit_messages, 1);
    open.kind = MESH_DATA;
    open.flags = MESH_END_SEND;
    puppet_send(&puppet, BROKER_FRONT, CALLER, &open, NULL, &request.base);
    response = directory(MESH_DATA);
    assert_int_equal(response->n_workers, 0);
    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);

    puppet_worker(&puppet, WORKER, "test.Echo", 3, NULL);
    puppet_wait(&puppet, 600);
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* no credit */
    puppet_send(&puppet, BROKER_FRONT, CALLER, &credit, NULL, NULL);
    response = directory(MESH_DATA);
    assert_int_equal(puppet.taken.header.seq, 2);
    assert_int_equal(response->n_workers, 1);
    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);

    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_CANCEL, 1);
    caller_got_end(1, STATUS_CANCELLED);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    puppet_wait(&puppet, 600);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static int health_status(uint8_t kind)
{
    const struct seen *seen = at_caller(kind);
    Dragoman__Mesh__V1__HealthCheckResponse *response =
        dragoman__mesh__v1__health_check_response__unpack(NULL, seen->body_size, seen->body);
    int status;

    assert_non_null(response);
    status = (int)response->status;
    dragoman__mesh__v1__health_check_response__free_unpacked(response, NULL);
    return status;
}

static void ask_health(uint64_t id, const char *method, const char *service)
{
    Dragoman__Mesh__V1__HealthCheckRequest request = DRAGOMAN__MESH__V1__HEALTH_CHECK_REQUEST__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header open = {.kind = MESH_OPEN,
                               .flags = MESH_END_SEND,
                               .call_id = id,
                               .credit_messages = 16,
                               .credit_bytes = 65536};
    char path[TEXT_MAX];

    snprintf(path, sizeof(path), "/dragoman.mesh.v1.Health/%s", method);
    meta.method = path;
    request.service = (char *)service;
    puppet_send(&puppet, BROKER_FRONT, CALLER, &open, &meta, &request.base);
}

static void health_is_checked_and_watched(void **state)
{
    (void)state;
    puppet_caller(&puppet, CALLER);
    ask_health(1, "Check", "");
    assert_int_equal(health_status(MESH_END), 1);
    ask_health(2, "Check", "test.Echo");
    caller_got_end(2, STATUS_NOT_FOUND);
    ask_health(3, "Watch", "test.Echo");
    assert_int_equal(health_status(MESH_DATA), 3); /* SERVICE_UNKNOWN */
    puppet_worker(&puppet, WORKER, "test.Echo", 1, NULL);
    puppet_wait(&puppet, 30);
    assert_int_equal(health_status(MESH_DATA), 1);
    puppet_worker(&puppet, SECOND, "test.Echo", 1, NULL);
    puppet_wait(&puppet, 30);
    puppet_silence(&puppet, BROKER_FRONT, CALLER); /* as before: nothing to tell */
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    puppet_lost(&puppet, BROKER_BACK, SECOND);
    puppet_wait(&puppet, 30);
    assert_int_equal(health_status(MESH_DATA), 2);
    ask_health(4, "Guess", "");
    caller_got_end(4, STATUS_UNIMPLEMENTED);
}

static void draining_broker_finishes_and_refuses(void **state)
{
    struct broker_event drain = {.kind = BROKER_DRAIN};
    struct broker_event stop = {.kind = BROKER_STOP};
    uint64_t running;

    (void)state;
    pair(1);
    running = opened(1, (struct opening){0});
    puppet_open(&puppet, CALLER, 2, (struct opening){0});
    puppet_step(&puppet, &drain);
    at_caller(MESH_GOAWAY);
    puppet_open(&puppet, CALLER, 3, (struct opening){0});
    caller_got_end(3, STATUS_UNAVAILABLE);
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    caller_got_end(1, STATUS_OK);
    at_worker(MESH_OPEN); /* the one that waited goes on */
    assert_false(broker_core_idle(puppet.core));
    puppet_step(&puppet, &stop);
    caller_got_end(2, STATUS_UNAVAILABLE);
    at_caller(MESH_BYE);
    at_worker(MESH_CANCEL);
    at_worker(MESH_BYE);
    assert_true(broker_core_idle(puppet.core));
}

/* Once, each at its own time, and no more than asked: calls go on, and new ones are taken. */
static void old_callers_are_asked_to_come_anew(void **state)
{
    enum { CALLERS = 20 };
    int64_t told_ms[CALLERS] = {0};
    int64_t least = INT64_MAX, most = 0;
    uint64_t running;

    (void)state;
    puppet_fini(&puppet);
    puppet_init(&puppet,
                (struct broker_core_options){.max_session_age_ms = 10000, .heartbeat_ms = 60000});
    puppet_worker(&puppet, WORKER, "test.Echo", 2, NULL);
    for (uint64_t i = 0; i < CALLERS; i++)
        puppet_caller(&puppet, CALLER + i);
    running = opened(1, (struct opening){0});
    for (int64_t ms = 50; ms <= 30000; ms += 50) {
        puppet_wait(&puppet, 50);
        for (uint64_t i = 0; i < CALLERS; i++) {
            if (!puppet_has(&puppet, BROKER_FRONT, CALLER + i, MESH_GOAWAY))
                continue;
            assert_int_equal(told_ms[i], 0);
            told_ms[i] = ms;
            puppet_take(&puppet, BROKER_FRONT, CALLER + i, MESH_GOAWAY);
            assert_int_equal(puppet.taken.header.flags, MESH_RETURN);
        }
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_in_range(told_ms[i], 9000, 11050);
        least = told_ms[i] < least ? told_ms[i] : least;
        most = told_ms[i] > most ? told_ms[i] : most;
    }
    assert_true(most - least > 500);
    opened(2, (struct opening){0});
    puppet_end(&puppet, WORKER, running, STATUS_OK);
    caller_got_end(1, STATUS_OK);
    puppet_silence(&puppet, BROKER_BACK, WORKER);
}

static void who_has_left_or_is_to_leave_is_not_asked(void **state)
{
    struct broker_event drain = {.kind = BROKER_DRAIN};

    (void)state;
    puppet_fini(&puppet);
    puppet_init(&puppet,
                (struct broker_core_options){.max_session_age_ms = 10000, .heartbeat_ms = 60000});
    puppet_caller(&puppet, CALLER);
    puppet_wait(&puppet, 5000);
    puppet_kind(&puppet, BROKER_FRONT, CALLER, MESH_BYE, 0);
    puppet_wait(&puppet, 10000);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_caller(&puppet, CALLER);
    puppet_step(&puppet, &drain);
    at_caller(MESH_GOAWAY);
    puppet_wait(&puppet, 12000);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
}

static void draining_broker_waits_for_no_worker(void **state)
{
    struct broker_event drain = {.kind = BROKER_DRAIN};

    (void)state;
    puppet_worker(&puppet, WORKER, "test.Echo", 1, "pair=a");
    puppet_caller(&puppet, CALLER);
    puppet_open(&puppet, CALLER, 1, (struct opening){.service = "test.Other", .flags = MESH_WAIT});
    puppet_open(&puppet, CALLER, 2, (struct opening){.selector = "pair=b", .flags = MESH_WAIT});
    puppet_open(&puppet, CALLER, 3, (struct opening){.service = "test.Other", .flags = MESH_WAIT});
    puppet_open(&puppet, CALLER, 4, (struct opening){.selector = "pair=a"});
    at_worker(MESH_OPEN);
    puppet_open(&puppet, CALLER, 5, (struct opening){.selector = "pair=a", .flags = MESH_WAIT});
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_step(&puppet, &drain);
    at_caller(MESH_GOAWAY);
    for (int i = 0; i < 3; i++)
        assert_in_range(at_caller(MESH_END)->header.call_id, 1, 3);
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_lost(&puppet, BROKER_BACK, WORKER);
    caller_got_end(4, STATUS_UNAVAILABLE);
    caller_got_end(5, STATUS_UNAVAILABLE);
    assert_true(broker_core_idle(puppet.core));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)
    const struct CMUnitTest tests[] = {
        TEST(hello_comes_first),
        TEST(other_versions_are_refused),
        TEST(second_hello_starts_over),
        TEST(repeated_id_breaks_the_protocol),
        TEST(foreign_ids_break_the_protocol),
        TEST(wrong_side_breaks_the_protocol),
        TEST(unknown_kinds_are_ignored_unless_critical),
        TEST(rubbish_ends_the_session),
        TEST(nonsense_is_not_registered),
        TEST(drained_after_its_last_call),
        TEST(capacity_changes),
        TEST(directory_lists_services_and_workers),
        TEST(directory_watch_follows_changes),
        TEST(health_is_checked_and_watched),
        TEST(draining_broker_finishes_and_refuses),
        TEST(draining_broker_waits_for_no_worker),
        TEST(old_callers_are_asked_to_come_anew),
        TEST(who_has_left_or_is_to_leave_is_not_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
