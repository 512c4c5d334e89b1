#include "mesh/signals.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define LOOK_MS 50 /* how often the phase is looked at */

struct mesh_signals {
    sigset_t set;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum mesh_phase phase;
    int64_t since_ns; /* of the phase */
    int number;       /* the first signal; 0: none yet */
    bool over;
};

/* @return whether it ends the process, with *status */
static bool is_final(struct mesh_signals *signals, int number, int *status)
{
    if (signals->phase == MESH_LOADING) {
        log_info("%s while loading: stopping", strsignal(number));
        *status = 0;
        return true;
    }
    if (signals->number == 0) {
        signals->number = number;
        pthread_cond_broadcast(&signals->changed);
        return false;
    }
    log_warn("second signal: stopping without waiting for running calls");
    *status = 1;
    return true;
}

static bool is_stuck(const struct mesh_signals *signals)
{
    if (signals->phase != MESH_STOPPING ||
        clock_now_ns() - signals->since_ns < MESH_STOPPING_MS * NS_PER_MS)
        return false;
    log_warn("handlers still run %d ms after they were told to stop: leaving without them",
             MESH_STOPPING_MS);
    return true;
}

static void *run(void *arg)
{
    const struct timespec look = {.tv_nsec = LOOK_MS * NS_PER_MS};
    struct mesh_signals *signals = arg;
    bool over = false;
    int status = 1;

    pthread_setname_np(pthread_self(), "signals");
    while (!over) {
        int number = sigtimedwait(&signals->set, NULL, &look);

        pthread_mutex_lock(&signals->lock);
        over = signals->over;
        if (!over && ((number > 0 && is_final(signals, number, &status)) || is_stuck(signals)))
            _exit(status);
        pthread_mutex_unlock(&signals->lock);
    }
    return NULL;
}

int mesh_signals_create(struct mesh_signals **out)
{
    struct mesh_signals *signals = calloc(1, sizeof(*signals));
    pthread_condattr_t clock;
    int err;

    if (!signals)
        return -ENOMEM;
    sigemptyset(&signals->set);
    sigaddset(&signals->set, SIGTERM);
    sigaddset(&signals->set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals->set, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&signals->lock, NULL);
    pthread_cond_init(&signals->changed, &clock);
    pthread_condattr_destroy(&clock);
    err = pthread_create(&signals->thread, NULL, run, signals);
    if (err) {
        free(signals);
        return -err;
    }
    *out = signals;
    return 0;
}

void mesh_signals_destroy(struct mesh_signals **signals)
{
    struct mesh_signals *self = *signals;

    if (!self)
        return;
    pthread_mutex_lock(&self->lock);
    self->over = true;
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
    *signals = NULL;
}

void mesh_signals_phase(struct mesh_signals *signals, enum mesh_phase phase)
{
    pthread_mutex_lock(&signals->lock);
    signals->phase = phase;
    signals->since_ns = clock_now_ns();
    pthread_mutex_unlock(&signals->lock);
}

int mesh_signals_wait(struct mesh_signals *signals, int64_t ms)
{
    int64_t at = clock_now_ns() + ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};
    int number, err = 0;

    pthread_mutex_lock(&signals->lock);
    while (signals->number == 0 && err == 0)
        err = pthread_cond_timedwait(&signals->changed, &signals->lock, &until);
    number = signals->number;
    pthread_mutex_unlock(&signals->lock);
    return number;
}
