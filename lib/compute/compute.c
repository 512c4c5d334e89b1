#include "compute/compute.h"

#include "base/cpu.h"
#include "base/log.h"
#include "compute/kernels.h"
#include "compute/openblas.h"
#include "compute/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define MAX_THREADS 1024

struct compute {
    struct pool *pool;
};

static const char *const isa_names[] = {"portable", "avx2", "avx512", "avx512-vnni"};

/* Best last; all that this program was built with, whatever the CPU can run. */
static const struct kernels *const all_kernels[] = {
    &kernels_portable,
#if defined(__x86_64__)
    &kernels_avx2,
    &kernels_avx512,
    &kernels_avx512_vnni,
#endif
};

#define N_KERNELS (sizeof(all_kernels) / sizeof(all_kernels[0]))

static const struct kernels *_Atomic chosen;

#if defined(__x86_64__)
static bool cpu_has_f16c(void) /* which clang's __builtin_cpu_supports() does not know */
{
    unsigned a, b, c = 0, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

static enum compute_isa cpu_isa(void)
{
#if defined(__x86_64__)
    bool avx2, avx512;

    __builtin_cpu_init();
    avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
    avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512vnni"))
        return COMPUTE_AVX512_VNNI;
    if (avx512)
        return COMPUTE_AVX512;
    if (avx2)
        return COMPUTE_AVX2;
#endif
    return COMPUTE_PORTABLE;
}

static enum compute_isa environment_limit(void)
{
    const char *name = getenv("DRAGOMAN_ISA");

    if (!name || !name[0])
        return COMPUTE_AVX512_VNNI;
    for (size_t i = 0; i < sizeof(isa_names) / sizeof(isa_names[0]); i++)
        if (strcmp(name, isa_names[i]) == 0)
            return (enum compute_isa)i;
    log_warn("DRAGOMAN_ISA is '%s', not one of portable, avx2, avx512, avx512-vnni: ignored", name);
    return COMPUTE_AVX512_VNNI;
}

static const struct kernels *best_kernels(enum compute_isa limit)
{
    enum compute_isa isa = cpu_isa();
    const struct kernels *best = all_kernels[0];

    for (size_t i = 0; i < N_KERNELS; i++)
        if (all_kernels[i]->isa <= isa && all_kernels[i]->isa <= limit)
            best = all_kernels[i];
    return best;
}

const struct kernels *kernels_get(void)
{
    const struct kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!kernels) {
        const struct kernels *best = best_kernels(environment_limit());

        if (!atomic_compare_exchange_strong(&chosen, &kernels, best))
            return kernels; /* another thread was first */
        kernels = best;
        log_info("compute: %s kernels, OpenBLAS as %s", compute_isa_name(best->isa),
                 openblas_core());
    }
    return kernels;
}

int compute_create(int n_threads, struct compute **out)
{
    struct compute *compute;
    int err;

    if (n_threads < 0 || n_threads > MAX_THREADS)
        return -EINVAL;
    compute = calloc(1, sizeof(*compute));
    if (!compute)
        return -ENOMEM;
    err = pool_create(n_threads ? n_threads : cpu_count(), &compute->pool);
    if (err < 0) {
        free(compute);
        return err;
    }
    kernels_get(); /* logs its choice now, not in the middle of a call */
    *out = compute;
    return 0;
}

void compute_destroy(struct compute **compute_ptr)
{
    if (!*compute_ptr)
        return;
    pool_destroy(&(*compute_ptr)->pool);
    free(*compute_ptr);
    *compute_ptr = NULL;
}

int compute_n_threads(const struct compute *compute)
{
    return pool_n_threads(compute->pool);
}

enum compute_isa compute_isa(const struct compute *compute)
{
    (void)compute;
    return kernels_get()->isa;
}

const char *compute_isa_name(enum compute_isa isa)
{
    return isa_names[isa];
}

void compute_limit_isa(struct compute *compute, enum compute_isa isa)
{
    (void)compute;
    atomic_store_explicit(&chosen, best_kernels(isa), memory_order_relaxed);
}

const char *compute_openblas_core(void)
{
    return openblas_core();
}

void compute_parallel_for(struct compute *compute, size_t n, size_t grain,
                          void (*fn)(void *arg, size_t begin, size_t end), void *arg)
{
    pool_run(compute->pool, n, grain, fn, arg);
}

void *compute_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX - 63)
        return NULL;
    return aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
}
