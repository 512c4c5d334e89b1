/*
 * retry.h - whether a call that failed is tried again, and when (gRPC's A6)
 *
 * Two kinds. A call that no handler has seen (never written, or END with UNPROCESSED) is sent again at once
 * and unasked. One that may have run is tried again only when it is marked idempotent, its status is one of `codes`, no
 * answer has reached the application, its deadline leaves the time, and the budget of the channel allows it.
 */
#ifndef MESH_RETRY_H
#define MESH_RETRY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_ATTEMPTS_MAX 5

/** Of a channel; a field of 0 has the default that is named. */
struct mesh_retry_options {
    uint32_t max_attempts;       /* 1: never again; at most MESH_ATTEMPTS_MAX; default 3 */
    uint32_t initial_backoff_ms; /* default 50 */
    uint32_t max_backoff_ms;     /* default 1000 */
    double multiplier;           /* at least 1; default 2 */
    uint32_t codes;              /* 1u << STATUS_ABORTED | ...; default UNAVAILABLE alone */
    /* A failure takes a token and a success gives token_ratio of one: at half of max_tokens no call is tried again. */
    double max_tokens;   /* at most 1000; default 1000 */
    double token_ratio;  /* default 0.1 */
    size_t buffer_bytes; /* of requests that are kept to be sent again; default 64 MiB */
};

struct mesh_retry {
    struct mesh_retry_options options; /* with the defaults filled in */
    double tokens;
};

/** @param options  NULL: defaults. @return 0; -EINVAL for values out of range */
int mesh_retry_init(struct mesh_retry *retry, const struct mesh_retry_options *options);

/**
 * A try of an idempotent call has failed.
 *
 * @param attempt      0 for the first try
 * @param deadline_ns  of the call, as now_ns
 * @param delay_ns     how long to wait before the next
 * @return whether there is a next
 */
bool mesh_retry_next(struct mesh_retry *retry, const struct status *status, uint32_t attempt,
                     int64_t now_ns, int64_t deadline_ns, int64_t *delay_ns);

/** Whether the policy has another try for it, budget and time aside. */
bool mesh_retry_may(const struct mesh_retry *retry, enum status_code code, uint32_t attempt);

/** A call has ended well. */
void mesh_retry_succeeded(struct mesh_retry *retry);

#endif
