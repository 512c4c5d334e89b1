/*
 * openblas.h - which of its kernels OpenBLAS runs
 */
#ifndef COMPUTE_OPENBLAS_H
#define COMPUTE_OPENBLAS_H

/** The core type that fits this CPU; NULL: OpenBLAS knows best. */
const char *openblas_core_for_cpu(void);

/** The core type it runs with. */
const char *openblas_core(void);

#endif
