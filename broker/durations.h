/*
 * durations.h - how long things of one kind take: the average, and what half and nine tenths of them take
 *
 * Estimates that follow a change within some hundred samples, in a few words of memory and no time.
 */
#ifndef BROKER_DURATIONS_H
#define BROKER_DURATIONS_H

#include <stdbool.h>
#include <stdint.h>

#define DURATIONS_MIN 8 /* samples before they say anything */

struct durations {
    uint64_t count;
    int64_t average_ns;
    int64_t half_ns; /* every other one takes longer */
    int64_t most_ns; /* one in ten takes longer */
};

void durations_add(struct durations *durations, int64_t ns);

static inline bool durations_known(const struct durations *durations)
{
    return durations->count >= DURATIONS_MIN;
}

#endif
