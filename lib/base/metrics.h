/*
 * metrics.h - counters, gauges and histograms in Prometheus's text format
 *
 * Series are made once and live as long as the process; updating one is lock-free. Label sets are
 * bounded: past METRICS_SERIES_MAX series of a family, further label values share one series whose
 * values are "other"; dragoman_metrics_overflow_total counts how often.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/buffer.h"

#include <stdint.h>

#define METRICS_SERIES_MAX 256

struct metric; /* one series, owned by the registry */

/**
 * Find or make a series. Thread-safe; keep the pointer rather than asking again on a hot path.
 *
 * @param name    "dragoman_asr_audio_seconds_total"
 * @param help    one line; the first caller's is kept
 * @param labels  "method=\"Recognize\",status=\"OK\"" ready for the page, or NULL
 * @return the series; NULL only when memory is out (updates of NULL do nothing)
 */
struct metric *metrics_counter(const char *name, const char *help, const char *labels);
struct metric *metrics_gauge(const char *name, const char *help, const char *labels);
/** Latencies in seconds, buckets from 10 us to 100 s. */
struct metric *metrics_histogram(const char *name, const char *help, const char *labels);

void metric_add(struct metric *metric, double value);     /* counter, gauge */
void metric_set(struct metric *metric, double value);     /* gauge */
void metric_observe(struct metric *metric, double value); /* histogram */

/** Append the whole page, process CPU and memory included. @return 0; -EMSGSIZE; -ENOMEM */
int metrics_render(struct buffer *out);

#endif
