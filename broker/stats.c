#include "broker/stats.h"

#include "base/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#define LABELS_MAX 256
#define N_CODES (STATUS_UNAUTHENTICATED + 1)
#define NS_PER_S 1e9

struct service_metrics {
    struct metric *waited, *took, *queued, *queued_bytes, *running, *workers, *capacity, *sick;
    struct metric *ended[N_CODES]; /* made when a code first comes */
    char name[160];
};

struct service_metrics *stats_service(const char *name)
{
    struct service_metrics *metrics = calloc(1, sizeof(*metrics));
    char labels[LABELS_MAX];

    if (!metrics)
        return NULL;
    snprintf(metrics->name, sizeof(metrics->name), "%s", name);
    snprintf(labels, sizeof(labels), "service=\"%s\"", metrics->name);
    metrics->waited = metrics_histogram("mesh_broker_queue_duration_seconds",
                                        "Time from a call's arrival to its worker.", labels);
    metrics->took = metrics_histogram("dragoman_broker_call_seconds",
                                      "Time from a call's arrival to its end.", labels);
    metrics->queued = metrics_gauge("mesh_broker_queue_length", "Calls that wait.", labels);
    metrics->queued_bytes =
        metrics_gauge("dragoman_broker_queue_bytes", "Bytes of calls that wait.", labels);
    metrics->running = metrics_gauge("dragoman_broker_running", "Calls that workers run.", labels);
    metrics->workers = metrics_gauge("dragoman_broker_workers", "Workers that take calls.", labels);
    metrics->capacity =
        metrics_gauge("dragoman_broker_capacity", "Calls that the workers take at once.", labels);
    metrics->sick = metrics_gauge("dragoman_broker_sick_workers",
                                  "Workers that get no calls while others can.", labels);
    return metrics;
}

void stats_started(struct service_metrics *metrics, int64_t waited_ns)
{
    if (metrics)
        metric_observe(metrics->waited, (double)waited_ns / NS_PER_S);
}

void stats_ended(struct service_metrics *metrics, uint16_t status, int64_t took_ns)
{
    unsigned code = status < N_CODES ? status : STATUS_UNKNOWN;
    char labels[LABELS_MAX];

    if (!metrics)
        return;
    if (!metrics->ended[code]) {
        snprintf(labels, sizeof(labels), "service=\"%s\",status=\"%s\"", metrics->name,
                 status_name((enum status_code)code));
        metrics->ended[code] =
            metrics_counter("dragoman_broker_calls_total", "Calls that have ended.", labels);
    }
    metric_add(metrics->ended[code], 1);
    metric_observe(metrics->took, (double)took_ns / NS_PER_S);
}

void stats_levels(struct service_metrics *metrics, size_t queued, size_t queued_bytes,
                  uint64_t running, size_t workers, uint64_t capacity, size_t sick)
{
    if (!metrics)
        return;
    metric_set(metrics->queued, (double)queued);
    metric_set(metrics->queued_bytes, (double)queued_bytes);
    metric_set(metrics->running, (double)running);
    metric_set(metrics->workers, (double)workers);
    metric_set(metrics->capacity, (double)capacity);
    metric_set(metrics->sick, (double)sick);
}

/* One more, of what has happened; labels: NULL without. */
static void count(const char *name, const char *help, const char *labels)
{
    metric_add(metrics_counter(name, help, labels), 1);
}

void stats_dropped(const char *why)
{
    char labels[LABELS_MAX];

    snprintf(labels, sizeof(labels), "why=\"%s\"", why);
    count("dragoman_broker_dropped_total", "Frames that were not passed on.", labels);
}

void stats_protocol_error(void)
{
    count("dragoman_broker_protocol_errors_total", "Sessions that ended for their peer's mistake.",
          NULL);
}

void stats_retried(void)
{
    count("dragoman_broker_retries_total", "Idempotent calls that were given to a second worker.",
          NULL);
}

void stats_bounced(void)
{
    count("dragoman_broker_bounced_total",
          "Calls that came back from workers who had lent their slot to another broker.", NULL);
}

void stats_sick(void)
{
    count("dragoman_broker_sickened_total", "Times that a worker was taken to be sick.", NULL);
}

void stats_worker_lost(void)
{
    count("dragoman_broker_workers_lost_total", "Workers that left without saying so.", NULL);
}

void stats_sessions(size_t front, size_t back)
{
    metric_set(metrics_gauge("dragoman_broker_sessions", "Connected peers.", "side=\"front\""),
               (double)front);
    metric_set(metrics_gauge("dragoman_broker_sessions", "Connected peers.", "side=\"back\""),
               (double)back);
}
