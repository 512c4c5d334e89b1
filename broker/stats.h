/*
 * stats.h - the broker's numbers on /metrics
 */
#ifndef BROKER_STATS_H
#define BROKER_STATS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct service_metrics;

/** One service's series; free(). NULL without memory, which the others take. */
struct service_metrics *stats_service(const char *name);

void stats_started(struct service_metrics *metrics, int64_t waited_ns);
/** A caller has got its END. */
void stats_ended(struct service_metrics *metrics, uint16_t status, int64_t took_ns);
void stats_levels(struct service_metrics *metrics, size_t queued, size_t queued_bytes,
                  uint64_t running, size_t workers, uint64_t capacity, size_t sick);

/** Frames that were not passed on: why is one of "late", "unknown_kind", "rubbish", "no_session". */
void stats_dropped(const char *why);
void stats_protocol_error(void);
void stats_retried(void);
void stats_bounced(void);
void stats_worker_lost(void);
void stats_sick(void);
void stats_sessions(size_t front, size_t back);

#endif
