#include "mesh/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct mesh_pool {
    void (*run)(struct mesh_job *job);
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t work;
    struct mesh_job *first, **last;
    uint32_t n_idle;
    bool waking; /* a thread has been woken and has not looked yet */
    bool stopping;
    uint32_t n_threads;
    pthread_t threads[];
};

/* Under the lock. While jobs wait and a thread is idle, one is always on its way. */
static bool should_wake(struct mesh_pool *pool)
{
    if (!pool->first || pool->n_idle == 0 || pool->waking)
        return false;
    pool->waking = true;
    return true;
}

/* @return NULL: the pool stops */
static struct mesh_job *next_job(struct mesh_pool *pool, bool *wake)
{
    struct mesh_job *job;

    pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stopping) {
        pool->n_idle++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->n_idle--;
        pool->waking = false;
    }
    job = pool->first;
    if (job) {
        pool->first = job->next;
        if (!pool->first)
            pool->last = &pool->first;
    }
    *wake = should_wake(pool);
    pthread_mutex_unlock(&pool->lock);
    return job;
}

static void *run_jobs(void *arg)
{
    struct mesh_pool *pool = arg;
    struct mesh_job *job;
    bool wake;

    pthread_setname_np(pthread_self(), "mesh-handler");
    while ((job = next_job(pool, &wake)) != NULL) {
        if (wake)
            pthread_cond_signal(&pool->work);
        pool->run(job);
    }
    return NULL;
}

static int start_threads(struct mesh_pool *pool, uint32_t n)
{
    sigset_t all, before;
    int err = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; pool->n_threads < n && err == 0; pool->n_threads += err == 0)
        err = pthread_create(&pool->threads[pool->n_threads], NULL, run_jobs, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

int mesh_pool_create(uint32_t n_threads, void (*run)(struct mesh_job *job), struct mesh_pool **out)
{
    struct mesh_pool *pool = calloc(1, sizeof(*pool) + n_threads * sizeof(pthread_t));
    int err;

    if (!pool)
        return -ENOMEM;
    pool->run = run;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    err = start_threads(pool, n_threads);
    if (err < 0)
        mesh_pool_destroy(&pool);
    else
        *out = pool;
    return err;
}

void mesh_pool_add(struct mesh_pool *pool, struct mesh_job *jobs)
{
    bool wake;

    if (!jobs)
        return;
    pthread_mutex_lock(&pool->lock);
    *pool->last = jobs;
    while (*pool->last)
        pool->last = &(*pool->last)->next;
    wake = should_wake(pool);
    pthread_mutex_unlock(&pool->lock);
    if (wake)
        pthread_cond_signal(&pool->work);
}

void mesh_pool_destroy(struct mesh_pool **pool)
{
    struct mesh_pool *self = *pool;

    if (!self)
        return;
    pthread_mutex_lock(&self->lock);
    self->stopping = true;
    pthread_cond_broadcast(&self->work);
    pthread_mutex_unlock(&self->lock);
    for (uint32_t i = 0; i < self->n_threads; i++)
        pthread_join(self->threads[i], NULL);
    pthread_cond_destroy(&self->work);
    pthread_mutex_destroy(&self->lock);
    free(self);
    *pool = NULL;
}
