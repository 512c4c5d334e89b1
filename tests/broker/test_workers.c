/* Which worker is given a call: weights, sessions, newcomers, and those that are not well. */
#include "base/log.h"
#include "base/status.h"
#include "broker/state.h"
#include "tests/broker/puppet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CALLER 100
#define WORKER 200
#define WORKERS 4
#define S 1000 /* ms */

static struct puppet puppet;
static uint64_t next_id;

static int setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    puppet_init(&puppet, (struct broker_core_options){.queue_limit = 1000, .heartbeat_ms = 60 * S});
    puppet_caller(&puppet, CALLER);
    next_id = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    puppet_fini(&puppet);
    return 0;
}

static void worker(uint64_t peer, uint32_t capacity, const char *labels)
{
    puppet_worker(&puppet, peer, "test.Echo", capacity, labels);
}

/* Start a call. @return which worker got it; 0: none. */
static uint32_t start(struct opening opening, uint64_t *id)
{
    puppet_open(&puppet, CALLER, ++next_id, opening);
    for (uint64_t peer = WORKER; peer < WORKER + WORKERS; peer++)
        if (puppet_has(&puppet, BROKER_BACK, peer, MESH_OPEN)) {
            uint64_t given = puppet_take(&puppet, BROKER_BACK, peer, MESH_OPEN)->header.call_id;

            if (id)
                *id = given;
            return peer;
        }
    return 0;
}

static void end(uint64_t peer, uint64_t id, uint16_t status)
{
    puppet_end(&puppet, peer, id, status);
    puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END);
}

static uint32_t run(struct opening opening, uint16_t status)
{
    uint64_t id = 0;
    uint64_t peer = start(opening, &id);

    if (peer)
        end(peer, id, status);
    return peer;
}

static const struct worker *inside(uint64_t peer)
{
    const struct worker *found = NULL;

    LIST_FOREACH (found, &puppet.core->registry.workers, link)
        if (found->session->peer == peer)
            return found;
    fail_msg("no worker %u", peer);
    return NULL;
}

/* ---- shares ---------------------------------------------------------------------------------- */

static void weights_split_calls(void **state)
{
    int canary = 0;

    (void)state;
    worker(WORKER, 4, "version=1 weight=80");
    worker(WORKER + 1, 4, "version=2 weight=20");
    for (int i = 0; i < 100; i++)
        canary += run((struct opening){0}, STATUS_OK) == WORKER + 1;
    assert_in_range(canary, 19, 21);
}

/* More of them run at once where the weight is greater. */
static void weights_split_load(void **state)
{
    int canary = 0;

    (void)state;
    worker(WORKER, 100, "weight=75");
    worker(WORKER + 1, 100, "weight=25");
    for (int i = 0; i < 40; i++)
        canary += start((struct opening){0}, NULL) == WORKER + 1;
    assert_in_range(canary, 9, 11);
}

/* All workers were warm when it came: it is given few calls at once, until it is warm too. */
static void newcomers_start_slowly(void **state)
{
    int early = 0;
    int late = 0;

    (void)state;
    worker(WORKER, 50, NULL);
    puppet_wait(&puppet, 6 * S);
    worker(WORKER + 1, 50, NULL);
    for (int i = 0; i < 22; i++)
        early += start((struct opening){0}, NULL) == WORKER + 1;
    assert_in_range(early, 1, 3);
    puppet_wait(&puppet, 6 * S);
    for (int i = 0; i < 22; i++)
        late += start((struct opening){0}, NULL) == WORKER + 1;
    assert_in_range(early + late, 20, 24);
}

/* Two that run as much as each other: the one that says it is less busy is next. */
static void reported_load_decides_among_equals(void **state)
{
    mesh_meta busy = DRAGOMAN__MESH__V1__META__INIT;
    mesh_meta idle = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header ping = {.kind = MESH_PING, .call_id = 1};

    (void)state;
    worker(WORKER, 4, NULL);
    worker(WORKER + 1, 4, NULL);
    busy.load = 0.9F;
    busy.status_message = (char *)"fields of all kinds come before it";
    busy.retry_delay_ms = 77;
    puppet_send(&puppet, BROKER_BACK, WORKER, &ping, &busy, NULL);
    puppet_take(&puppet, BROKER_BACK, WORKER, MESH_PONG);
    for (int i = 0; i < 4; i++)
        assert_int_equal(run((struct opening){0}, STATUS_OK), WORKER + 1);
    idle.load = 0.01F;
    puppet_send(&puppet, BROKER_BACK, WORKER, &ping, &idle, NULL);
    puppet_take(&puppet, BROKER_BACK, WORKER, MESH_PONG);
    assert_int_equal(run((struct opening){0}, STATUS_OK), WORKER);
    assert_int_equal(run((struct opening){0}, STATUS_OK), WORKER + 1);
    busy.load = 1.5F; /* nonsense says nothing */
    puppet_send(&puppet, BROKER_BACK, WORKER, &ping, &busy, NULL);
    assert_true(inside(WORKER)->load < 0.1F);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void session_stays_with_its_worker(void **state)
{
    uint32_t used[WORKERS] = {0};
    char session[16];

    (void)state;
    for (uint32_t i = 0; i < WORKERS; i++)
        worker(WORKER + i, 4, NULL);
    for (int i = 0; i < 40; i++) {
        uint32_t first;

        snprintf(session, sizeof(session), "session-%d", i);
        first = run((struct opening){.affinity = session}, STATUS_OK);
        for (int j = 0; j < 3; j++)
            assert_int_equal(run((struct opening){.affinity = session}, STATUS_OK), first);
        used[first - WORKER]++;
    }
    for (size_t i = 0; i < WORKERS; i++)
        assert_in_range(used[i], 3, 20);
}

/* Only the sessions of the one that is gone move; a full one's calls go to the next in order. */
static void session_moves_when_it_must(void **state)
{
    uint32_t home[20];
    char session[16];
    uint32_t second;

    (void)state;
    for (uint32_t i = 0; i < WORKERS; i++)
        worker(WORKER + i, 1, NULL);
    for (int i = 0; i < 20; i++) {
        snprintf(session, sizeof(session), "session-%d", i);
        home[i] = run((struct opening){.affinity = session}, STATUS_OK);
    }
    puppet_lost(&puppet, BROKER_BACK, home[0]);
    for (int i = 0; i < 20; i++) {
        snprintf(session, sizeof(session), "session-%d", i);
        second = run((struct opening){.affinity = session}, STATUS_OK);
        if (home[i] == home[0])
            assert_int_not_equal(second, home[0]);
        else
            assert_int_equal(second, home[i]);
    }
    second = start((struct opening){.affinity = "session-0"}, NULL);
    assert_int_not_equal(run((struct opening){.affinity = "session-0"}, STATUS_OK), second);
}

/* ---- sickness -------------------------------------------------------------------------------- */

static void cancel(uint64_t id)
{
    struct mesh_header header = {.kind = MESH_CANCEL, .call_id = id, .status = STATUS_CANCELLED};

    puppet_send(&puppet, BROKER_FRONT, CALLER, &header, NULL, NULL);
    puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END);
}

static void ignored_cancel_is_sickness(void **state)
{
    uint64_t stuck = 0;
    uint32_t sick;

    (void)state;
    worker(WORKER, 3, NULL);
    worker(WORKER + 1, 3, NULL);
    sick = start((struct opening){0}, &stuck);
    cancel(next_id);
    puppet_take(&puppet, BROKER_BACK, sick, MESH_CANCEL);
    puppet_wait(&puppet, 4 * S + 900);
    assert_false(inside(sick)->ill);
    puppet_wait(&puppet, 200);
    assert_true(inside(sick)->ill & ILL_STUCK);
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(start((struct opening){0}, NULL), sick);
    assert_int_equal(start((struct opening){0}, NULL), 0); /* it waits rather than go there */
    puppet_end(&puppet, sick, stuck, STATUS_CANCELLED);
    assert_false(inside(sick)->ill);
    puppet_take(&puppet, BROKER_BACK, sick, MESH_OPEN);
}

/* Its slot is not free before its END, but the only worker there is serves on. */
static void last_worker_is_not_spared(void **state)
{
    uint64_t stuck = 0;

    (void)state;
    worker(WORKER, 2, NULL);
    start((struct opening){0}, &stuck);
    cancel(next_id);
    puppet_take(&puppet, BROKER_BACK, WORKER, MESH_CANCEL);
    puppet_wait(&puppet, 6 * S);
    assert_true(inside(WORKER)->ill);
    assert_int_equal(start((struct opening){0}, NULL), WORKER);
    assert_int_equal(start((struct opening){0}, NULL), 0);
}

/* When the others go, the sick ones serve what waits. */
static void sick_serve_when_no_other_is_left(void **state)
{
    uint64_t stuck = 0;
    uint32_t sick;
    uint32_t well;

    (void)state;
    worker(WORKER, 2, NULL);
    worker(WORKER + 1, 1, NULL);
    while ((sick = start((struct opening){0}, &stuck)) != WORKER)
        end(sick, stuck, STATUS_OK);
    well = sick == WORKER ? WORKER + 1 : WORKER;
    cancel(next_id);
    puppet_take(&puppet, BROKER_BACK, sick, MESH_CANCEL);
    puppet_wait(&puppet, 6 * S);
    assert_int_equal(start((struct opening){0}, NULL), well);
    assert_int_equal(start((struct opening){0}, NULL), 0);
    puppet_lost(&puppet, BROKER_BACK, well);
    puppet_take(&puppet, BROKER_BACK, sick, MESH_OPEN);
}

static void failing_worker_is_ejected_for_a_while(void **state)
{
    uint32_t got[2] = {0};

    (void)state;
    worker(WORKER, 4, NULL);
    worker(WORKER + 1, 4, NULL);
    for (int i = 0; i < 10; i++) {
        uint64_t id = 0;
        uint64_t peer = start((struct opening){0}, &id);

        end(peer, id, peer == WORKER ? STATUS_UNAVAILABLE : STATUS_OK);
    }
    assert_true(inside(WORKER)->ill & ILL_EJECTED);
    for (int i = 0; i < 10; i++)
        assert_int_equal(run((struct opening){0}, STATUS_OK), WORKER + 1);
    puppet_wait(&puppet, 5 * S);
    assert_false(inside(WORKER)->ill);
    for (int i = 0; i < 10; i++)
        got[run((struct opening){0}, STATUS_OK) - WORKER]++;
    assert_in_range(got[0], 4, 6);
}

/* Both fail: one of them goes on, and the longer one fails the longer it rests. */
static void at_most_half_are_ejected(void **state)
{
    (void)state;
    worker(WORKER, 4, NULL);
    worker(WORKER + 1, 4, NULL);
    for (int i = 0; i < 20; i++)
        assert_int_not_equal(run((struct opening){0}, STATUS_UNAVAILABLE), 0);
    assert_true(inside(WORKER)->ill);
    assert_true(inside(WORKER + 1)->ill);
    assert_int_not_equal(run((struct opening){0}, STATUS_UNAVAILABLE), 0);
}

/* Errors of the application say nothing of the worker. */
static void other_statuses_are_no_failures(void **state)
{
    (void)state;
    worker(WORKER, 4, NULL);
    worker(WORKER + 1, 4, NULL);
    for (int i = 0; i < 40; i++)
        run((struct opening){0}, i % 5 ? STATUS_INTERNAL : STATUS_UNAVAILABLE);
    assert_false(inside(WORKER)->ill);
    assert_false(inside(WORKER + 1)->ill);
}

static void silent_worker_is_spared_before_it_is_dead(void **state)
{
    (void)state;
    worker(WORKER, 4, NULL);
    worker(WORKER + 1, 4, NULL);
    for (int i = 0; i < 121; i++) { /* a heartbeat is a minute here */
        puppet_wait(&puppet, 1 * S);
        puppet_kind(&puppet, BROKER_BACK, WORKER + 1, MESH_PONG, 0);
    }
    assert_true(inside(WORKER)->ill & ILL_QUIET);
    for (int i = 0; i < 4; i++)
        assert_int_equal(run((struct opening){0}, STATUS_OK), WORKER + 1);
    puppet_kind(&puppet, BROKER_BACK, WORKER, MESH_PONG, 0);
    assert_false(inside(WORKER)->ill);
}

/* ---- the directory -------------------------------------------------------------------------- */

static void directory_tells_of_tenants_and_sickness(void **state)
{
    Dragoman__Mesh__V1__DirectoryResponse *response = NULL;
    const struct seen *seen = NULL;
    uint64_t stuck = 0;

    (void)state;
    puppet_worker_of(&puppet, WORKER, "test.Echo", 2, 8);
    start((struct opening){.tenant = "a"}, &stuck);
    cancel(next_id);
    start((struct opening){.tenant = "a"}, NULL);
    for (int i = 0; i < 3; i++)
        puppet_open(&puppet, CALLER, ++next_id, (struct opening){.tenant = i ? "b" : "a"});
    puppet_wait(&puppet, 6 * S);
    puppet_open(&puppet, CALLER, ++next_id,
                (struct opening){.service = "dragoman.mesh.v1.Directory", .method = "List"});
    seen = puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END);
    response = dragoman__mesh__v1__directory_response__unpack(NULL, seen->body_size, seen->body);
    assert_non_null(response);
    assert_int_equal(response->services[0]->n_tenants, 2);
    assert_string_equal(response->services[0]->tenants[0]->name, "b");
    assert_int_equal(response->services[0]->tenants[0]->queued, 2);
    assert_string_equal(response->services[0]->tenants[1]->name, "a");
    assert_string_equal(response->workers[0]->sick, "ignores CANCEL");
    assert_int_equal(response->workers[0]->capacity, 2);
    assert_int_equal(response->workers[0]->capacity_total, 8);
    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
}

/* ---- selectors ------------------------------------------------------------------------------- */

/* More selectors than there are pools: those that nobody waits with make room. */
static void many_selectors_are_served(void **state)
{
    char selector[32];

    (void)state;
    worker(WORKER, 1, "pair=a");
    for (int i = 0; i < 3 * POOLS_MAX; i++) {
        snprintf(selector, sizeof(selector), "pair=a|%d", i);
        assert_int_equal(run((struct opening){.selector = selector}, STATUS_OK), WORKER);
    }
    assert_true(puppet.core->registry.first->by_selector.count <= POOLS_MAX);
}

/* And when somebody waits with each, a further one is told so. */
static void too_many_selectors_are_refused(void **state)
{
    char selector[32];

    (void)state;
    worker(WORKER, 1, "pair=a");
    start((struct opening){0}, NULL);
    for (int i = 0; i < POOLS_MAX - 1; i++) {
        snprintf(selector, sizeof(selector), "pair=a|%d", i);
        puppet_open(&puppet, CALLER, ++next_id, (struct opening){.selector = selector});
    }
    puppet_silence(&puppet, BROKER_FRONT, CALLER);
    puppet_open(&puppet, CALLER, ++next_id, (struct opening){.selector = "pair=a|last"});
    assert_int_equal(puppet_take(&puppet, BROKER_FRONT, CALLER, MESH_END)->header.status,
                     STATUS_RESOURCE_EXHAUSTED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(weights_split_calls),
        TEST(weights_split_load),
        TEST(newcomers_start_slowly),
        TEST(reported_load_decides_among_equals),
        TEST(session_stays_with_its_worker),
        TEST(session_moves_when_it_must),
        TEST(ignored_cancel_is_sickness),
        TEST(last_worker_is_not_spared),
        TEST(sick_serve_when_no_other_is_left),
        TEST(failing_worker_is_ejected_for_a_while),
        TEST(at_most_half_are_ejected),
        TEST(other_statuses_are_no_failures),
        TEST(silent_worker_is_spared_before_it_is_dead),
        TEST(directory_tells_of_tenants_and_sickness),
        TEST(many_selectors_are_served),
        TEST(too_many_selectors_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
