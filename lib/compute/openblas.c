/*
 * openblas.c - OpenBLAS is told its core type and its one thread before it looks for itself
 *
 * OpenBLAS reads its environment in a constructor. It is linked statically, so a constructor of a
 * higher priority in the same program surely runs before it.
 */
#include "compute/openblas.h"

#include <cblas.h>
#include <stdlib.h>

const char *openblas_core_for_cpu(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

__attribute__((constructor(101))) static void tell_openblas(void)
{
    const char *core = openblas_core_for_cpu();

    if (core)
        setenv("OPENBLAS_CORETYPE", core, 0); /* the user's word counts */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
}

const char *openblas_core(void)
{
    return openblas_get_corename();
}
