/*
 * clock.h - monotonic time. The wall clock is for logs only.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_now_ns(void); /* CLOCK_MONOTONIC */
int64_t clock_now_ms(void);

#endif
