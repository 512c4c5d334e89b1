/*
 * pool.h - the threads that share one operation
 *
 * A pool serves one caller at a time; who finds it busy does its own work alone.
 */
#ifndef COMPUTE_POOL_H
#define COMPUTE_POOL_H

#include <stddef.h>

struct pool;

/** @param n_threads  the caller's thread included, so 1 starts none. @return 0; -ENOMEM; -EAGAIN */
int pool_create(int n_threads, struct pool **out);
void pool_destroy(struct pool **pool);
int pool_n_threads(const struct pool *pool);

/** fn(arg, begin, end) over [0, n) in pieces of at least `grain`; returns when all are done. */
void pool_run(struct pool *pool, size_t n, size_t grain,
              void (*fn)(void *arg, size_t begin, size_t end), void *arg);

#endif
