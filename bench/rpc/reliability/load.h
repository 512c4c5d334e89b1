/*
 * load.h - echo calls that keep coming while a case breaks something, and a record of each
 */
#ifndef BENCH_RPC_RELIABILITY_LOAD_H
#define BENCH_RPC_RELIABILITY_LOAD_H

#include "base/status.h"
#include "mesh/channel.h"

#include <stddef.h>
#include <stdint.h>

struct load;

struct load_plan {
    struct mesh_channel *channel;
    int in_flight; /* closed loop: each answer begins the next call; 0: open loop */
    double per_s;  /* open loop: so many calls begin each second, whatever became of those before */
    uint32_t work_us; /* what the handler takes for each */
    struct mesh_call_options options;
};

struct load_call {
    int64_t begun_ns, ended_ns;
    enum status_code code;
};

/** Begin. The plan is copied. */
struct load *load_start(const struct load_plan *plan);
/** Begin no more, wait for what runs. @return the calls, (*n); until load_free() */
const struct load_call *load_stop(struct load *load, size_t *n);
void load_free(struct load *load);

#endif
