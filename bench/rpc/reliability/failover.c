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

/* How long after the break each call that was under way then took to end, where longer than least_ms; how many ended
 * badly. */
static size_t look(struct load *load, const struct trials *trials, double least_ms,
                   struct samples *after_ms)
{
    size_t n, failed = 0;
    const struct load_call *calls = load_stop(load, &n);

    for (size_t i = 0; i < n; i++) {
        failed += calls[i].code != STATUS_OK;
        for (int trial = 0; trial < trials->n; trial++) {
            int64_t broken_ns = trials->broken_ns[trial];
            double took_ms = (double)(calls[i].ended_ns - broken_ns) * 1e-6;

            if (calls[i].begun_ns < broken_ns && took_ms > least_ms)
                samples_add(after_ms, took_ms);
        }
    }
    load_free(load);
    return failed;
}

static void start_workers(const char *back, pid_t workers[WORKERS])
{
    for (int i = 0; i < WORKERS; i++)
        workers[i] = stage_worker(back, CAPACITY);
}

static void kill_all(const pid_t *pids, int n)
{
    for (int i = 0; i < n; i++)
        stage_signal(pids[i], SIGKILL);
}

/* What is done to one worker after the other. */
struct breakage {
    const char *name; /* of the stage, and what the figures begin with */
    int signal;
    int trials, trials_quick; /* at most TRIALS_MAX */
    int64_t before_ms, broken_ms, mended_ms;
    double stuck_ms; /* a call that took longer was with the broken one: those count; 0: all do */
};

static void mend(const struct breakage *breakage, const char *back, pid_t *worker)
{
    if (breakage->signal == SIGSTOP)
        stage_signal(*worker, SIGCONT);
    else
        *worker = stage_worker(back, CAPACITY);
}

static void say(const char *name, const char *what, double value)
{
    char whole[64];

    snprintf(whole, sizeof(whole), "%s_%s", name, what);
    figure(whole, value);
}

static void say_all(const struct breakage *breakage, struct samples *after_ms, size_t failed)
{
    if (breakage->stuck_ms > 0)
        say(breakage->name, "stuck", (double)after_ms->n);
    say(breakage->name, "p50_ms", samples_quantile(after_ms, 0.5));
    say(breakage->name, "p99_ms", samples_quantile(after_ms, 0.99));
    if (breakage->stuck_ms == 0)
        say(breakage->name, "max_ms", samples_quantile(after_ms, 1));
    say(breakage->name, "failed", (double)failed);
}

static void break_workers(const struct breakage *breakage, bool quick)
{
    const char *back = stage_endpoint(breakage->name, "back");
    pid_t broker = stage_broker(breakage->name, NULL), workers[WORKERS];
    struct samples after_ms = {0};
    struct trials trials = {.n = 0};
    struct mesh_channel *channel;
    struct load *load;
    size_t failed;

    start_workers(back, workers);
    channel = stage_channel(stage_endpoint(breakage->name, "front"));
    stage_sleep_ms(300);
    load = begin_load(channel);
    for (int i = 0; i < (quick ? breakage->trials_quick : breakage->trials); i++) {
        stage_sleep_ms(breakage->before_ms);
        trials.broken_ns[trials.n++] = clock_now_ns();
        stage_signal(workers[i % WORKERS], breakage->signal);
        stage_sleep_ms(breakage->broken_ms);
        mend(breakage, back, &workers[i % WORKERS]);
        stage_sleep_ms(breakage->mended_ms);
    }
    failed = look(load, &trials, breakage->stuck_ms, &after_ms);
    say_all(breakage, &after_ms, failed);
    samples_free(&after_ms);
    mesh_channel_destroy(&channel);
    kill_all(workers, WORKERS);
    kill_all(&broker, 1);
}

void case_kill(bool quick)
{
    static const struct breakage KILL = {.name = "kill",
                                         .signal = SIGKILL,
                                         .trials = 40,
                                         .trials_quick = 8,
                                         .before_ms = 100,
                                         .broken_ms = 100};

    break_workers(&KILL, quick);
}

void case_stop(bool quick)
{
    static const struct breakage STOP = {.name = "stop",
                                         .signal = SIGSTOP,
                                         .trials = 4,
                                         .trials_quick = 1,
                                         .before_ms = 200,
                                         .broken_ms = 4000,
                                         .mended_ms = 500,
                                         .stuck_ms = 500};

    break_workers(&STOP, quick);
}

/* Two brokers, workers with both, callers with both; each process in turn is told to go and comes back. */
void case_restart(bool quick)
{
    static const char *const NAMES[] = {"left", "right"};
    static const char *const GRACE[] = {"--grace-s", "5", NULL};
    pid_t brokers[2], workers[WORKERS];
    char front[256], back[256];
    struct mesh_channel *channel;
    const struct trials none = {.n = 0};
    struct samples unused = {0};
    struct load *load;
    size_t n;

    for (int i = 0; i < 2; i++)
        brokers[i] = stage_broker(NAMES[i], GRACE);
    snprintf(front, sizeof(front), "%s,%s", stage_endpoint(NAMES[0], "front"),
             stage_endpoint(NAMES[1], "front"));
    snprintf(back, sizeof(back), "%s,%s", stage_endpoint(NAMES[0], "back"),
             stage_endpoint(NAMES[1], "back"));
    start_workers(back, workers);
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
    figure("restart_failed", (double)look(load, &none, 0, &unused));
    mesh_channel_destroy(&channel);
    kill_all(workers, WORKERS);
    kill_all(brokers, 2);
}
