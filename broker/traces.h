/*
 * traces.h - the time that a call spends in the broker, as a span of its trace
 */
#ifndef BROKER_TRACES_H
#define BROKER_TRACES_H

#include "mesh/message.h"

#include <stdint.h>

/**
 * A call is given to a worker: its span "mesh.queue", from its arrival until now, beside the worker's Recv.
 * Does nothing unless trace_enabled(), and for calls whose trace is not sampled.
 *
 * @param open        its OPEN, with the traceparent of the caller's try
 * @param arrived_ns  monotonic
 */
void traces_queued(struct mesh_message *open, const char *service, const char *worker,
                   int64_t arrived_ns);

#endif
