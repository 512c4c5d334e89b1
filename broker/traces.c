#include "broker/traces.h"

#include "base/trace.h"
#include "mesh/meta.h"

#include <string.h>

void traces_queued(struct mesh_message *open, const char *service, const char *worker,
                   int64_t arrived_ns)
{
    const uint8_t *traceparent;
    struct trace_context parent;
    struct mesh_frame frame;
    struct trace_span *span;

    if (!trace_enabled())
        return;
    mesh_message_frame(open, &frame);
    traceparent = mesh_traceparent_find(frame.meta, frame.header.meta_bytes);
    if (!traceparent)
        return;
    memcpy(&parent, traceparent, sizeof(parent));
    if (!trace_is_valid(&parent))
        return;
    span = trace_begin("mesh.queue", TRACE_INTERNAL, &parent, false, NULL);
    trace_set_begin(span, arrived_ns);
    trace_text(span, "rpc.service", service);
    trace_text(span, "mesh.worker", worker);
    trace_end(&span, NULL);
}
