/*
 * compute.h - the machine's arithmetic, as the engines see it: one context, picked at start
 *
 * compute_create() looks at CPUID, chooses kernels, and owns the only thread pool of the engine.
 * OpenBLAS gets its core type before it initialises and always runs on one thread: the pool splits
 * the work. All operations may be called from several threads at once on one context; the pool
 * serves one of them at a time and the others work on their own thread alone.
 */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>

struct compute;

enum compute_isa { COMPUTE_PORTABLE, COMPUTE_AVX2, COMPUTE_AVX512, COMPUTE_AVX512_VNNI };

/** @param n_threads  0: as many as cpu_count() says. @return 0; -EINVAL; -ENOMEM */
int compute_create(int n_threads, struct compute **out);
void compute_destroy(struct compute **compute);

int compute_n_threads(const struct compute *compute);
enum compute_isa compute_isa(const struct compute *compute);
const char *compute_isa_name(enum compute_isa isa);
/** No better kernels than these, in the whole process: for the tests that compare paths. Weights packed
 *  before keep theirs. DRAGOMAN_ISA=portable|avx2|avx512|avx512-vnni does the same from outside. */
void compute_limit_isa(struct compute *compute, enum compute_isa isa);
/** The core type OpenBLAS runs with ("SkylakeX", "Haswell", ...). */
const char *compute_openblas_core(void);

/** Run fn(arg, begin, end) over [0, n) in pieces of at least `grain`, on the pool and this thread. */
void compute_parallel_for(struct compute *compute, size_t n, size_t grain,
                          void (*fn)(void *arg, size_t begin, size_t end), void *arg);

/** 64-byte aligned memory, for free(). NULL when out of it. */
void *compute_alloc(size_t bytes);

#endif
