#include "base/clock.h"
#include "bench/rpc/reliability/cases.h"
#include "bench/rpc/reliability/load.h"
#include "bench/rpc/reliability/stage.h"

#include <signal.h>
#include <stdio.h>

#define WORKERS 4
#define CAPACITY 8
#define IN_FLIGHT 16 /* half of what fits: what is left can serve it */
#define WORK_US 2000
#define TRIALS_MAX 64

struct trials {
    int64_t broken_ns[TRIALS_MAX];
    int n;
};

static struct load *begin_load(struct mesh_channel *channel)
{
    const struct load_plan plan = {
        .channel = channel,
        .in_flight = IN_FLIGHT,
        .work_us = WORK_US,
        .options = {.timeout_ms = 20000, .idempotent = true, .wait_for_ready = true}};

    return load_start(&plan);
}

/* How long after the break each call that was under way then took to end; how many ended badly. */
static size_t look(struct load *load, const struct trials *trials, struct samples *after_ms)
{
    size_t n, failed = 0;
    const struct load_call *calls = load_stop(load, &n);

    for (size_t i = 0; i < n; i++) {
        failed += calls[i].code != STATUS_OK;
        for (int trial = 0; trials && trial < trials->n; trial++) {
            int64_t broken_ns = trials->broken_ns[trial];

            if (calls[i].begun_ns < broken_ns && calls[i].ended_ns > broken_ns)
                samples_add(after_ms, (double)(calls[i].ended_ns - broken_ns) * 1e-6);
        }
    }
    load_free(load);
    return failed;
}

void case_kill(bool quick)
{
    const char *back = stage_endpoint("kill", "back");
    pid_t broker = stage_broker("kill", NULL), workers[WORKERS];
    struct samples after_ms = {0};
    struct trials trials = {.n = 0};
    struct mesh_channel *channel;
    struct load *load;
    size_t failed;

    for (int i = 0; i < WORKERS; i++)
        workers[i] = stage_worker(back, CAPACITY);
    channel = stage_channel(stage_endpoint("kill", "front"));
    stage_sleep_ms(300);
    load = begin_load(channel);
    for (int i = 0; i < (quick ? 8 : 40); i++) {
        stage_sleep_ms(100);
        trials.broken_ns[trials.n++] = clock_now_ns();
        stage_signal(workers[i % WORKERS], SIGKILL);
        stage_sleep_ms(100);
        workers[i % WORKERS] = stage_worker(back, CAPACITY);
    }
    failed = look(load, &trials, &after_ms);
    figure("kill_p50_ms", samples_quantile(&after_ms, 0.5));
    figure("kill_p99_ms", samples_quantile(&after_ms, 0.99));
    figure("kill_max_ms", samples_quantile(&after_ms, 1));
    figure("kill_failed", (double)failed);
    samples_free(&after_ms);
    mesh_channel_destroy(&channel);
    for (int i = 0; i < WORKERS; i++)
        stage_signal(workers[i], SIGKILL);
    stage_signal(broker, SIGKILL);
}

void case_stop(bool quick)
{
    const char *back = stage_endpoint("stop", "back");
    pid_t broker = stage_broker("stop", NULL), workers[WORKERS];
    struct samples after_ms = {0}, stuck_ms = {0};
    struct trials trials = {.n = 0};
    struct mesh_channel *channel;
    struct load *load;
    size_t failed;

    for (int i = 0; i < WORKERS; i++)
        workers[i] = stage_worker(back, CAPACITY);
    channel = stage_channel(stage_endpoint("stop", "front"));
    stage_sleep_ms(300);
    load = begin_load(channel);
    for (int i = 0; i < (quick ? 1 : 4); i++) {
        stage_sleep_ms(200);
        trials.broken_ns[trials.n++] = clock_now_ns();
        stage_signal(workers[i], SIGSTOP);
        stage_sleep_ms(4000);
        stage_signal(workers[i], SIGCONT);
        stage_sleep_ms(500);
    }
    failed = look(load, &trials, &after_ms);
    for (size_t i = 0; i < after_ms.n; i++) {
        if (after_ms.values[i] > 500) /* was with the stopped one */
            samples_add(&stuck_ms, after_ms.values[i]);
    }
    figure("stop_stuck", (double)stuck_ms.n);
    figure("stop_p50_ms", samples_quantile(&stuck_ms, 0.5));
    figure("stop_p99_ms", samples_quantile(&stuck_ms, 0.99));
    figure("stop_failed", (double)failed);
    samples_free(&after_ms);
    samples_free(&stuck_ms);
    mesh_channel_destroy(&channel);
    for (int i = 0; i < WORKERS; i++)
        stage_signal(workers[i], SIGKILL);
    stage_signal(broker, SIGKILL);
}

/* Two brokers, workers with both, callers with both; each process in turn is told to go and comes back. */
void case_restart(bool quick)
{
    static const char *const NAMES[] = {"left", "right"};
    static const char *const GRACE[] = {"--grace-s", "5", NULL};
    pid_t brokers[2], workers[WORKERS];
    char front[256], back[256];
    struct mesh_channel *channel;
    struct samples unused = {0};
    struct load *load;
    size_t n;

    for (int i = 0; i < 2; i++)
        brokers[i] = stage_broker(NAMES[i], GRACE);
    snprintf(front, sizeof(front), "%s,%s", stage_endpoint(NAMES[0], "front"),
             stage_endpoint(NAMES[1], "front"));
    snprintf(back, sizeof(back), "%s,%s", stage_endpoint(NAMES[0], "back"),
             stage_endpoint(NAMES[1], "back"));
    for (int i = 0; i < WORKERS; i++)
        workers[i] = stage_worker(back, CAPACITY);
    channel = stage_channel(front);
    stage_sleep_ms(500);
    load = begin_load(channel);
    for (int round = 0; round < (quick ? 1 : 3); round++) {
        for (int i = 0; i < WORKERS; i++) {
            stage_signal(workers[i], SIGTERM);
            workers[i] = stage_worker(back, CAPACITY);
            stage_sleep_ms(500);
        }
        for (int i = 0; i < 2; i++) {
            stage_signal(brokers[i], SIGTERM);
            brokers[i] = stage_broker(NAMES[i], GRACE);
            stage_sleep_ms(2000); /* until workers and caller are back */
        }
    }
    load_stop(load, &n);
    figure("restart_calls", (double)n);
    figure("restart_failed", (double)look(load, NULL, &unused));
    mesh_channel_destroy(&channel);
    for (int i = 0; i < WORKERS; i++)
        stage_signal(workers[i], SIGKILL);
    for (int i = 0; i < 2; i++)
        stage_signal(brokers[i], SIGKILL);
}
