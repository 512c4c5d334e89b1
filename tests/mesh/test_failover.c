/* Two brokers side by side, each with its worker: whatever one of them does, callers have the other. */
#include "tests/mesh/rig.h"

#include "base/clock.h"
#include "base/log.h"
#include "broker/broker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define CALLERS 8

static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
static char fronts[2][64], backs[2][64], both[160];
static struct mesh_server *workers[2];
static struct mesh_channel *channel;

/* ---- the brokers ----------------------------------------------------------------------------- */

static struct broker *start_broker(const char *front, const char *back)
{
    const char *const front_list[] = {front, NULL};
    const char *const back_list[] = {back, NULL};
    struct broker_options options = {.front = front_list, .back = back_list, .heartbeat_ms = 200};
    struct broker *broker = NULL;

    return broker_start(&options, &broker) == 0 ? broker : NULL;
}

static int be_broker(const char *front, const char *back)
{
    if (!start_broker(front, back))
        return 1;
    pause();
    return 0;
}

static pid_t spawn_broker(int i)
{
    char *const argv[] = {(char *)"test_failover", fronts[i], backs[i], NULL};
    pid_t pid;

    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    return pid;
}

static void kill_and_wait(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- around each test ------------------------------------------------------------------------ */

static void start_worker(int i)
{
    struct mesh_server_options options = {.endpoint = backs[i], .name = "echo", .capacity = 8};

    assert_int_equal(mesh_server_create(&options, &workers[i]), 0);
    assert_int_equal(echo_add(workers[i]), 0);
    assert_int_equal(mesh_server_start(workers[i]), 0);
}

static void serve_directly(void)
{
    struct mesh_server_options options = {.endpoint = fronts[0], .bind = true, .capacity = 8};

    assert_int_equal(mesh_server_create(&options, &workers[0]), 0);
    assert_int_equal(echo_add(workers[0]), 0);
    assert_int_equal(mesh_server_start(workers[0]), 0);
}

static int setup(void **state)
{
    struct mesh_channel_options options = {.endpoint = both, .name = "test"};

    (void)state;
    echo_reset();
    for (int i = 0; i < 2; i++) {
        snprintf(fronts[i], sizeof(fronts[i]), "ipc:///tmp/dragoman-failover-%d-%d-front",
                 (int)getpid(), i);
        snprintf(backs[i], sizeof(backs[i]), "ipc:///tmp/dragoman-failover-%d-%d-back",
                 (int)getpid(), i);
        start_worker(i);
    }
    snprintf(both, sizeof(both), "%s,%s", fronts[0], fronts[1]);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    for (int i = 0; i < 2; i++) {
        mesh_server_destroy(&workers[i]);
        unlink(fronts[i] + 6);
        unlink(backs[i] + 6);
    }
    return 0;
}

/* Both stand, with their workers. */
static void expect_two(void)
{
    struct mesh_channel_options options = {.name = "test"};
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 20000};

    for (int i = 0; i < 2; i++) {
        struct mesh_channel *one = NULL;

        options.endpoint = fronts[i];
        rig_wait(mesh_server_ready(workers[i]));
        assert_int_equal(mesh_channel_create(&options, &one), 0);
        assert_int_equal(rig_unary(one, &empty, &patient, NULL).code, STATUS_OK);
        mesh_channel_destroy(&one);
    }
    rig_sleep_ms(100); /* for the channel's own sessions */
    assert_int_equal(rig_unary(channel, &empty, &patient, NULL).code, STATUS_OK);
}

/* ---- load ------------------------------------------------------------------------------------ */

struct load {
    atomic_bool stop;
    bool idempotent, patient;
    int64_t longest_ms;
    int ok, unavailable, others;
    struct status last; /* that was not OK */
    pthread_t thread;
};

static void *keep_calling(void *arg)
{
    struct load *load = arg;
    struct mesh_call_options options = {
        .idempotent = load->idempotent, .wait_for_ready = load->patient, .timeout_ms = 10000};

    while (!atomic_load(&load->stop)) {
        int64_t begun = clock_now_ms();
        struct status status = rig_unary(channel, &empty, &options, NULL);

        if (clock_now_ms() - begun > load->longest_ms)
            load->longest_ms = clock_now_ms() - begun;
        load->ok += status.code == STATUS_OK;
        load->unavailable += status.code == STATUS_UNAVAILABLE;
        load->others += status.code != STATUS_OK && status.code != STATUS_UNAVAILABLE;
        if (status.code != STATUS_OK)
            load->last = status;
    }
    return NULL;
}

static void start_load(struct load *loads, bool patient)
{
    for (int i = 0; i < CALLERS; i++) {
        loads[i] = (struct load){.idempotent = i % 2 == 0, .patient = patient};
        assert_int_equal(pthread_create(&loads[i].thread, NULL, keep_calling, &loads[i]), 0);
    }
}

static void stop_load(struct load *loads)
{
    for (int i = 0; i < CALLERS; i++)
        atomic_store(&loads[i].stop, true);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(loads[i].thread, NULL);
        if (loads[i].others > 0)
            fail_msg("%s: %s", status_name(loads[i].last.code), loads[i].last.message);
        assert_in_range(loads[i].ok, 1, INT32_MAX);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void calls_go_to_both(void **state)
{
    enum { CALLS = 200 };
    pid_t pids[2] = {spawn_broker(0), spawn_broker(1)};
    struct mesh_stream *streams[CALLS] = {0};

    (void)state;
    expect_two();
    /* One at a time has no reason for either; many at once are shared out. */
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", NULL, &streams[i]), 0);
        assert_int_equal(mesh_stream_write(streams[i], &empty.base, 0), 0);
    }
    rig_wait(echo_counts.running == 16); /* both workers are full */
    for (int i = 0; i < CALLS; i++)
        mesh_stream_destroy(&streams[i]);
    rig_wait(echo_counts.running == 0);
    for (int i = 0; i < 2; i++)
        kill_and_wait(pids[i]);
}

/* Idempotent calls do not notice; each other call that was there ends UNAVAILABLE, once. */
static void a_broker_killed_under_load(void **state)
{
    pid_t pids[2] = {spawn_broker(0), spawn_broker(1)};
    struct load loads[CALLERS];
    int unavailable = 0;

    (void)state;
    expect_two();
    start_load(loads, false);
    for (int round = 0; round < 4; round++) {
        int i = round % 2;

        rig_sleep_ms(150);
        kill_and_wait(pids[i]);
        rig_sleep_ms(150);
        pids[i] = spawn_broker(i);
        rig_sleep_ms(200);
        rig_wait(mesh_server_ready(workers[i]));
    }
    stop_load(loads);
    for (int i = 0; i < CALLERS; i++) {
        unavailable += loads[i].unavailable;
        if (loads[i].idempotent)
            assert_int_equal(loads[i].unavailable, 0);
        assert_in_range(loads[i].longest_ms, 0, 5000);
    }
    assert_in_range(unavailable, 0, CALLERS / 2 * 4); /* at most what was under way, each time */
    for (int i = 0; i < 2; i++)
        kill_and_wait(pids[i]);
}

/* With a stopped broker nothing but silence tells. */
static void a_broker_that_stops(void **state)
{
    pid_t pids[2] = {spawn_broker(0), spawn_broker(1)};
    struct mesh_call_options options = {.idempotent = true, .timeout_ms = 10000};
    int64_t begun;

    (void)state;
    expect_two();
    kill(pids[0], SIGSTOP);
    for (int i = 0; i < 20; i++) {
        begun = clock_now_ms();
        assert_int_equal(rig_unary(channel, &empty, &options, NULL).code, STATUS_OK);
        assert_in_range(clock_now_ms() - begun, 0, 3000); /* three heartbeats of 200 ms */
    }
    kill(pids[0], SIGCONT);
    for (int i = 0; i < 2; i++)
        kill_and_wait(pids[i]);
}

/* A broker that says GOAWAY and drains loses nothing, idempotent or not. */
static void brokers_restarted_in_turn(void **state)
{
    struct broker *brokers[2] = {start_broker(fronts[0], backs[0]),
                                 start_broker(fronts[1], backs[1])};
    struct load loads[CALLERS];

    (void)state;
    assert_true(brokers[0] && brokers[1]);
    expect_two();
    start_load(loads, false);
    for (int round = 0; round < 4; round++) {
        int i = round % 2;

        rig_sleep_ms(100);
        broker_stop(&brokers[i], 5000);
        rig_wait(!mesh_server_ready(workers[i]));
        brokers[i] = start_broker(fronts[i], backs[i]);
        assert_non_null(brokers[i]);
        rig_wait(mesh_server_ready(workers[i]));
        rig_sleep_ms(300);
    }
    stop_load(loads);
    for (int i = 0; i < CALLERS; i++) {
        if (loads[i].unavailable > 0)
            fail_msg("%d failed, the last: %s", loads[i].unavailable, loads[i].last.message);
    }
    for (int i = 0; i < 2; i++)
        broker_stop(&brokers[i], 0);
}

/* The same without brokers: a server that callers are connected to. */
static void a_server_restarted_under_load(void **state)
{
    struct mesh_channel_options options = {.endpoint = fronts[0], .name = "test"};
    struct load loads[CALLERS];

    (void)state;
    mesh_server_destroy(&workers[0]);
    mesh_channel_destroy(&channel);
    serve_directly();
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    start_load(loads,
               true); /* backing off from one that leaves so soon takes longer than patience */
    for (int round = 0; round < 4; round++) {
        rig_sleep_ms(100);
        assert_int_equal(mesh_server_drain(workers[0], 5000), 0);
        mesh_server_destroy(&workers[0]);
        serve_directly();
    }
    rig_sleep_ms(300);
    stop_load(loads);
    for (int i = 0; i < CALLERS; i++) {
        if (loads[i].unavailable > 0)
            fail_msg("%d failed, the last: %s", loads[i].unavailable, loads[i].last.message);
    }
}

#define TEST(test)                                                                                 \
    {                                                                                              \
        .name = #test, .test_func = test, .setup_func = setup, .teardown_func = teardown           \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(calls_go_to_both),
        TEST(a_broker_killed_under_load),
        TEST(a_broker_that_stops),
        TEST(brokers_restarted_in_turn),
        TEST(a_server_restarted_under_load),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    if (argc == 3) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that fails */
        return be_broker(argv[1], argv[2]);
    }
    return cmocka_run_group_tests_name("failover", tests, NULL, NULL);
}
