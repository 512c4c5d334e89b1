/* Workers and brokers that die, stand still, leave and come back while calls go on. */
#include "base/clock.h"
#include "broker/broker.h"
#include "tests/broker/live.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static void killed_worker_is_noticed_at_once(void **state)
{
    struct mesh_stream *stream = NULL;
    struct status status;
    int64_t at = 0;
    int64_t took_ms = 0;
    pid_t pid;

    (void)state;
    if (live.transport == RIG_INPROC) /* another process has no way in */
        return;
    pid = live_worker_spawn();
    rig_wait(live_worker_registered());
    stream = live_long_call(0, NULL);
    rig_wait(live_running_of(0) == 1);
    at = clock_now_ns();
    kill(pid, SIGKILL);
    status = live_wait_status(stream);
    took_ms = (clock_now_ns() - at) / 1000000;
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_true(took_ms < 100);
    mesh_stream_destroy(&stream);
    waitpid(pid, NULL, 0);
    assert_int_equal(live_simple_call(NULL), STATUS_UNAVAILABLE);
}

static void stopped_worker_is_dead_after_three_beats(void **state)
{
    struct mesh_stream *stream = NULL;
    int64_t at = 0;
    pid_t pid;

    (void)state;
    if (live.transport == RIG_INPROC)
        return;
    pid = live_worker_spawn();
    rig_wait(live_worker_registered());
    stream = live_long_call(0, NULL);
    rig_wait(live_running_of(0) == 1);
    at = clock_now_ns();
    kill(pid, SIGSTOP);
    assert_int_equal(live_wait_status(stream).code, STATUS_UNAVAILABLE);
    assert_true(clock_now_ns() - at > 300 * (int64_t)1000000); /* beats of 200 ms */
    assert_true(clock_now_ns() - at < LIVE_BEAT_MS * 10 * (int64_t)1000000);
    mesh_stream_destroy(&stream);
    kill(pid, SIGCONT);
    rig_wait(live_worker_registered()); /* it comes back by itself */
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void idempotent_call_survives_its_worker(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.idempotent = true};
    pid_t pid;

    (void)state;
    if (live.transport == RIG_INPROC)
        return;
    pid = live_worker_spawn();
    rig_wait(live_worker_registered());
    request.sleep_ms = 300;
    assert_int_equal(mesh_unary_start(live.channel, ECHO, "Unary", &request.base, &options,
                                      live_count_answer, NULL),
                     0);
    rig_wait(live_running_of(0) == 1);
    live_worker_start(0, 1, NULL);
    kill(pid, SIGKILL);
    rig_wait(atomic_load(&live.answered) + atomic_load(&live.failed) == 1);
    assert_int_equal(atomic_load(&live.answered), 1);
    assert_int_equal(atomic_load(&echo_counts.started), 1); /* here, after there */
    waitpid(pid, NULL, 0);
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void *keep_calling(void *arg)
{
    while (!atomic_load((atomic_bool *)arg))
        if (live_simple_call(NULL) == STATUS_OK)
            atomic_fetch_add(&live.answered, 1);
        else
            atomic_fetch_add(&live.failed, 1);
    return NULL;
}

static void rolling_restart_loses_nothing(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;

    (void)state;
    live_worker_start(0, 2, NULL);
    live_worker_start(1, 2, NULL);
    pthread_create(&thread, NULL, keep_calling, &stop);
    for (int i = 0; i < 6; i++) {
        int before = atomic_load(&live.answered);

        assert_int_equal(mesh_server_drain(live.workers[i % 2], 5000), 0);
        mesh_server_destroy(&live.workers[i % 2]);
        rig_wait(atomic_load(&live.answered) > before);
        live_worker_start(i % 2, 2, NULL);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&live.failed), 0);
    assert_true(atomic_load(&live.answered) > 6);
}

static void restarted_broker_is_found_again(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.wait_for_ready = true, .timeout_ms = 5000};

    (void)state;
    live_worker_start(0, 1, NULL);
    for (int i = 0; i < 3; i++) {
        broker_stop(&live.broker, 0);
        rig_wait(!mesh_channel_connected(live.channel)); /* else the call may be on its way there */
        live_broker_start(LIVE_QUEUE);
        assert_int_equal(live_call(&request, &options).code, STATUS_OK);
    }
}

static void *stop_slowly(void *arg)
{
    broker_stop(&live.broker, *(int *)arg);
    return NULL;
}

/* The broker stops while a call runs. @param ms  of the call; 0: until it is cancelled. @return how the call ends */
static enum status_code stopped_meanwhile(int ms, int grace_ms)
{
    struct mesh_stream *stream = NULL;
    enum status_code code;
    pthread_t thread;

    live_worker_start(0, 1, NULL);
    stream = live_long_call(ms, NULL);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    pthread_create(&thread, NULL, stop_slowly, &grace_ms);
    code = live_wait_status(stream).code;
    pthread_join(thread, NULL);
    mesh_stream_destroy(&stream);
    return code;
}

static void stopping_broker_waits_for_running_calls(void **state)
{
    (void)state;
    assert_int_equal(stopped_meanwhile(300, 5000), STATUS_OK);
}

static void stopping_broker_ends_the_rest(void **state)
{
    (void)state;
    assert_int_equal(stopped_meanwhile(0, 50), STATUS_UNAVAILABLE);
    rig_wait(atomic_load(&echo_counts.cancelled) == 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_worker_is_noticed_at_once),
        cmocka_unit_test(stopped_worker_is_dead_after_three_beats),
        cmocka_unit_test(idempotent_call_survives_its_worker),
        cmocka_unit_test(rolling_restart_loses_nothing),
        cmocka_unit_test(restarted_broker_is_found_again),
        cmocka_unit_test(stopping_broker_waits_for_running_calls),
        cmocka_unit_test(stopping_broker_ends_the_rest),
    };

    return live_run(argc, argv, "turnover", tests, sizeof(tests) / sizeof(tests[0]));
}
