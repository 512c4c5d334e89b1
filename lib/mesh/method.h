/*
 * method.h - what is known about a method: its path, hash, messages and metrics
 *
 * Made once for each method of a process and kept, so a call needs one pointer.
 */
#ifndef MESH_METHOD_H
#define MESH_METHOD_H

#include "base/metrics.h"
#include "base/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mesh_side { MESH_CALLER, MESH_ANSWERER };

struct mesh_method {
    const ProtobufCMethodDescriptor *descriptor;
    const struct mesh_method *next; /* of the same bucket */
    enum mesh_side side;
    uint64_t hash;
    size_t path_size;
    struct metric *started;
    struct metric *durations[STATUS_UNAUTHENTICATED + 1]; /* made as they come */
    char path[];                                          /* "/package.Service/Method" */
};

/** Find or make. Thread-safe, lock-free once made. @return NULL when memory is out */
struct mesh_method *mesh_method_of(const ProtobufCServiceDescriptor *service,
                                   const ProtobufCMethodDescriptor *descriptor,
                                   enum mesh_side side);

/** Count a frame of a kind that is not known here. */
void mesh_ignored_frame(void);

/** Count a call that is sent again: tried again after delay_ms, or sent elsewhere as no handler has seen it. */
void mesh_method_again(struct mesh_method *method, bool retry, int64_t delay_ms);

/** Count a call that has ended, begun_ns on the monotonic clock. Thread-safe. */
void mesh_method_ended(struct mesh_method *method, enum status_code code, int64_t begun_ns,
                       int64_t now_ns);

#endif
