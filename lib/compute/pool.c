#include "compute/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * How often an idle worker, or a caller that waits for the last piece, looks before it sleeps: some
 * 20 us. The operations of a layer follow one another faster than that, and waking a sleeper takes
 * 30 to 60 us.
 */
#define SPIN 600

/* More pieces than threads, so that one slowed by a neighbour does not hold up the rest. */
#define PIECES_PER_THREAD 4

struct job {
    void (*fn)(void *arg, size_t begin, size_t end);
    void *arg;
    size_t n, piece;
    atomic_size_t next; /* where the next piece begins */
};

struct pool {
    int n_threads; /* the caller's included */
    pthread_t *threads;
    pthread_mutex_t busy; /* held by the caller that is served */
    pthread_mutex_t lock; /* job, stop; n_working is changed under it */
    pthread_cond_t work, done;
    struct job *job; /* NULL: nothing to join */
    bool stop;
    atomic_uint generation; /* counts jobs, for who spins */
    atomic_int n_working;   /* workers inside the job */
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void job_work(struct job *job)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&job->next, job->piece, memory_order_relaxed);
        size_t end = begin + job->piece;

        if (begin >= job->n)
            return;
        job->fn(job->arg, begin, end < job->n ? end : job->n);
    }
}

static void wait_for_change(struct pool *pool, unsigned seen)
{
    for (int i = 0; i < SPIN; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
            return;
        relax();
    }
}

static void *worker(void *arg)
{
    struct pool *pool = arg;
    unsigned seen = 0;

    for (;;) {
        struct job *job;

        wait_for_change(pool, seen);
        pthread_mutex_lock(&pool->lock);
        while (!pool->stop && atomic_load(&pool->generation) == seen)
            pthread_cond_wait(&pool->work, &pool->lock);
        seen = atomic_load(&pool->generation);
        job = pool->job;
        if (job)
            atomic_fetch_add(&pool->n_working, 1);
        if (pool->stop && !job) {
            pthread_mutex_unlock(&pool->lock);
            return NULL;
        }
        pthread_mutex_unlock(&pool->lock);
        if (!job)
            continue;

        job_work(job);
        pthread_mutex_lock(&pool->lock);
        if (atomic_fetch_sub(&pool->n_working, 1) == 1)
            pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* All pieces are taken; those that workers still hold must end before the job leaves the stack. */
static void wait_for_workers(struct pool *pool)
{
    for (int i = 0; i < SPIN && atomic_load_explicit(&pool->n_working, memory_order_acquire); i++)
        relax();
    pthread_mutex_lock(&pool->lock);
    pool->job = NULL;
    while (atomic_load(&pool->n_working) > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(struct pool *pool, size_t n, size_t grain,
              void (*fn)(void *arg, size_t begin, size_t end), void *arg)
{
    struct job job = {.fn = fn, .arg = arg, .n = n};
    size_t pieces = (size_t)pool->n_threads * PIECES_PER_THREAD;

    if (n == 0)
        return;
    job.piece = (n + pieces - 1) / pieces;
    if (job.piece < grain)
        job.piece = grain;
    if (pool->n_threads == 1 || job.piece >= n || pthread_mutex_trylock(&pool->busy) != 0) {
        fn(arg, 0, n);
        return;
    }

    pthread_mutex_lock(&pool->lock);
    pool->job = &job;
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    job_work(&job);
    wait_for_workers(pool);
    pthread_mutex_unlock(&pool->busy);
}

int pool_n_threads(const struct pool *pool)
{
    return pool->n_threads;
}

int pool_create(int n_threads, struct pool **out)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    int err = 0;

    if (!pool)
        return -ENOMEM;
    pthread_mutex_init(&pool->busy, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->n_threads = 1;
    pool->threads = calloc((size_t)n_threads, sizeof(*pool->threads));
    if (!pool->threads)
        err = -ENOMEM;
    while (!err && pool->n_threads < n_threads) {
        err = -pthread_create(&pool->threads[pool->n_threads - 1], NULL, worker, pool);
        if (!err)
            pool->n_threads++;
    }
    if (err) {
        pool_destroy(&pool);
        return err;
    }
    *out = pool;
    return 0;
}

void pool_destroy(struct pool **pool_ptr)
{
    struct pool *pool = *pool_ptr;

    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads - 1; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->busy);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
    *pool_ptr = NULL;
}
