/*
 * paths.h - run a check once for each instruction set that this machine has
 */
#ifndef TESTS_COMPUTE_PATHS_H
#define TESTS_COMPUTE_PATHS_H

#include "compute/compute.h"

/** For portable and every better path: limit a context of two threads to it and call check. Says on
 *  standard output which paths ran. */
void for_each_path(void (*check)(struct compute *compute));

/** n floats in [-range, range], always the same for the same seed. free() */
float *random_floats(size_t n, float range, unsigned seed);

#endif
