#include "broker/durations.h"

#define MEMORY 64 /* samples; fewer at first */
#define STEPS 16  /* how finely a quantile is sought, in parts of the average */

/* Up when a sample is above, down when below, as often as the share of each asks for: it stays where that
 * share of the samples is (Robbins, Monro, 1951). */
static int64_t seek(int64_t at_ns, int64_t sample_ns, int64_t step_ns, int below_tenths)
{
    int64_t next = sample_ns > at_ns ? at_ns + step_ns * below_tenths / 10
                                     : at_ns - step_ns * (10 - below_tenths) / 10;

    return next > 0 ? next : 0;
}

void durations_add(struct durations *durations, int64_t ns)
{
    uint64_t memory = ++durations->count < MEMORY ? durations->count : MEMORY;
    int64_t step;

    if (durations->count == 1)
        *durations = (struct durations){1, ns, ns, ns};
    durations->average_ns += (ns - durations->average_ns) / (int64_t)memory;
    step = durations->average_ns / STEPS + 1;
    durations->half_ns = seek(durations->half_ns, ns, step, 5);
    durations->most_ns = seek(durations->most_ns, ns, step, 9);
}
