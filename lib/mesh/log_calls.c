/* A line in the log for each call that ends, where anyone wants lines of that level. */
#include "base/log.h"
#include "base/trace.h"
#include "mesh/interceptor.h"

#include <string.h>

/* The line belongs to the call's trace, whatever this thread works on. */
static void log_end(void *context, void **state, const struct mesh_intercepted *call,
                    const struct status *status, int64_t now_ns)
{
    const struct trace_context *current = trace_current();
    struct trace_context before, own;

    (void)context;
    (void)state;
    if (current)
        before = *current;
    memcpy(&own, call->traceparent, sizeof(own));
    trace_set_current(&own);
    log_debug("%s %s: %s%s%s, %.3f ms, %u tries before%s%s",
              call->method->side == MESH_CALLER ? "called" : "answered", call->method->path + 1,
              status_name(status->code), status->message[0] ? ": " : "", status->message,
              (double)(now_ns - call->begun_ns) / 1e6, call->attempt, call->peer ? ", for " : "",
              call->peer ? call->peer : "");
    trace_set_current(current ? &before : NULL);
}

const struct mesh_interceptor mesh_log_interceptor = {.name = "log", .end = log_end};
