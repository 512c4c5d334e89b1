#include "mesh/method.h"

#include "mesh/frame.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

static _Atomic(struct mesh_method *) buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t bucket_of(const void *descriptor, enum mesh_side side)
{
    uintptr_t bits = (uintptr_t)descriptor;

    return ((bits >> 4) ^ (bits >> 12) ^ (uintptr_t)side) % BUCKETS;
}

static struct mesh_method *find(const ProtobufCMethodDescriptor *descriptor, enum mesh_side side)
{
    struct mesh_method *method = atomic_load(&buckets[bucket_of(descriptor, side)]);

    while (method && (method->descriptor != descriptor || method->side != side))
        method = (struct mesh_method *)method->next;
    return method;
}

static struct metric *started_metric(const struct mesh_method *method)
{
    char labels[256];

    snprintf(labels, sizeof(labels), "grpc_method=\"%s\"", method->path + 1);
    if (method->side == MESH_CALLER)
        return metrics_counter("grpc_client_attempt_started_total", "Calls started", labels);
    return metrics_counter("grpc_server_call_started_total", "Calls received", labels);
}

static struct metric *duration_metric(const struct mesh_method *method, enum status_code code)
{
    char labels[256];

    snprintf(labels, sizeof(labels), "grpc_method=\"%s\",grpc_status=\"%s\"", method->path + 1,
             status_name(code));
    if (method->side == MESH_CALLER)
        return metrics_histogram("grpc_client_call_duration_seconds",
                                 "From the start of a call to its status", labels);
    return metrics_histogram("grpc_server_call_duration_seconds",
                             "From a call's arrival to its status", labels);
}

static struct mesh_method *make(const ProtobufCServiceDescriptor *service,
                                const ProtobufCMethodDescriptor *descriptor, enum mesh_side side)
{
    size_t size = strlen(service->name) + strlen(descriptor->name) + 2;
    struct mesh_method *method = calloc(1, sizeof(*method) + size + 1);

    if (!method)
        return NULL;
    method->descriptor = descriptor;
    method->side = side;
    snprintf(method->path, size + 1, "/%s/%s", service->name, descriptor->name);
    method->path_size = size;
    method->hash = mesh_method_hash(method->path, size);
    method->started = started_metric(method);
    return method;
}

struct mesh_method *mesh_method_of(const ProtobufCServiceDescriptor *service,
                                   const ProtobufCMethodDescriptor *descriptor, enum mesh_side side)
{
    size_t bucket = bucket_of(descriptor, side);
    struct mesh_method *method = find(descriptor, side);

    if (method)
        return method;
    pthread_mutex_lock(&lock);
    method = find(descriptor, side);
    if (!method) {
        method = make(service, descriptor, side);
        if (method) {
            method->next = atomic_load(&buckets[bucket]);
            atomic_store(&buckets[bucket], method);
        }
    }
    pthread_mutex_unlock(&lock);
    return method;
}

void mesh_ignored_frame(void)
{
    metric_add(metrics_counter("mesh_ignored_frames_total",
                               "Frames of a kind that this version does not know", NULL),
               1);
}

/* Rare: no need to remember the series. */
void mesh_method_again(struct mesh_method *method, bool retry, int64_t delay_ms)
{
    char labels[256];

    snprintf(labels, sizeof(labels), "grpc_method=\"%s\"", method->path + 1);
    if (!retry) {
        metric_add(metrics_counter("grpc_client_call_transparent_retries_total",
                                   "Calls sent again that no handler had seen", labels),
                   1);
        return;
    }
    metric_add(metrics_counter("grpc_client_call_retries_total", "Calls tried again", labels), 1);
    metric_observe(metrics_histogram("grpc_client_call_retry_delay_seconds",
                                     "Time that calls waited to be tried again", labels),
                   (double)delay_ms / 1e3);
}

void mesh_method_ended(struct mesh_method *method, enum status_code code, int64_t begun_ns,
                       int64_t now_ns)
{
    struct metric *metric = __atomic_load_n(&method->durations[code], __ATOMIC_ACQUIRE);

    if (!metric) {
        metric = duration_metric(method, code);
        __atomic_store_n(&method->durations[code], metric, __ATOMIC_RELEASE);
    }
    metric_observe(metric, (double)(now_ns - begun_ns) / 1e9);
}
