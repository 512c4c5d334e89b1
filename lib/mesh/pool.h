/*
 * pool.h - threads that run handlers, one call each
 *
 * A burst of jobs wakes one thread, which wakes the next only if work is left when it starts: short
 * handlers run one after another on a warm thread, long ones spread over all.
 */
#ifndef MESH_POOL_H
#define MESH_POOL_H

#include <stddef.h>
#include <stdint.h>

struct mesh_job {
    struct mesh_job *next;
};

struct mesh_pool;

/** @param run  called on a thread of the pool with each job */
int mesh_pool_create(uint32_t n_threads, void (*run)(struct mesh_job *job), struct mesh_pool **out);
/** Queue jobs, linked by `next` and ended by NULL, in order. The queue's bound is the caller's business. */
void mesh_pool_add(struct mesh_pool *pool, struct mesh_job *jobs);
/** Runs what is queued, then joins the threads. */
void mesh_pool_destroy(struct mesh_pool **pool);

#endif
