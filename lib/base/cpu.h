/*
 * cpu.h - how many processors this process may use
 */
#ifndef BASE_CPU_H
#define BASE_CPU_H

/** The smallest of the affinity mask and the cgroup's CPU quota (v1 or v2, rounded up), at least 1. */
int cpu_count(void);

#endif
