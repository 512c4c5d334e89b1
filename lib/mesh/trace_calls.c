/* Calls as spans, by the names of gRPC's proposal A72: Sent. > Attempt. at the caller, Recv. at the answerer. */
#include "base/trace.h"
#include "mesh/interceptor.h"
#include "mesh/meta.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128
#define OWN_SERVICES "/dragoman.mesh."

_Static_assert(sizeof(struct trace_context) == MESH_TRACEPARENT_BYTES,
               "one form in memory and on the wire");

struct call_trace {
    struct trace_context context; /* of `call` */
    struct trace_span *call;      /* Sent. or Recv. */
    struct trace_span *attempt;   /* NULL between tries, and at an answerer */
    int64_t n_messages[2];        /* by enum mesh_direction */
};

int mesh_traceparent_make(const char *trace, uint8_t out[MESH_TRACEPARENT_BYTES])
{
    const struct trace_context *current = trace_current();
    struct trace_context context;
    int has_parent = 0;

    if (trace && trace_parse(trace, &context) == 0) {
        has_parent = 1;
    } else {
        trace_draw(&context);
        if (trace && trace_id_parse(trace, &context) < 0)
            return -EINVAL;
        if (current &&
            (!trace || memcmp(current->trace_id, context.trace_id, TRACE_ID_BYTES) == 0)) {
            context = *current;
            has_parent = 1;
        }
    }
    memcpy(out, &context, MESH_TRACEPARENT_BYTES);
    return has_parent;
}

/* "Sent.package.Service.Method" */
static void name_span(const char *prefix, const struct mesh_method *method,
                      char name[NAME_MAX_BYTES])
{
    snprintf(name, NAME_MAX_BYTES, "%s.%s", prefix, method->path + 1);
    for (char *at = name; *at; at++)
        if (*at == '/')
            *at = '.';
}

static struct call_trace *begin(const char *prefix, enum trace_kind kind,
                                const struct mesh_intercepted *call,
                                const struct trace_context *parent, bool is_root)
{
    struct call_trace *trace = calloc(1, sizeof(*trace));
    char name[NAME_MAX_BYTES];

    if (!trace)
        return NULL;
    name_span(prefix, call->method, name);
    trace->call = trace_begin(name, kind, parent, is_root, &trace->context);
    if (!trace->call) { /* not sampled */
        free(trace);
        return NULL;
    }
    trace_set_begin(trace->call, call->begun_ns);
    trace_text(trace->call, "rpc.system", "dragoman");
    trace_text(trace->call, "rpc.method", call->method->path + 1);
    trace_text(trace->call, "tenant", call->tenant);
    return trace;
}

/* Calls about the mesh itself are of interest as part of something only. */
static bool start_caller(struct call_trace **trace, struct mesh_intercepted *call)
{
    struct trace_context parent;

    memcpy(&parent, call->traceparent, sizeof(parent));
    if (!call->has_parent &&
        strncmp(call->method->path, OWN_SERVICES, sizeof(OWN_SERVICES) - 1) == 0)
        return true;
    *trace = begin("Sent", TRACE_INTERNAL, call, &parent, !call->has_parent);
    if (*trace)
        memcpy(call->traceparent, &(*trace)->context, MESH_TRACEPARENT_BYTES);
    return true;
}

static bool start_answerer(struct call_trace **trace, struct mesh_intercepted *call)
{
    struct trace_context parent;

    memcpy(&parent, call->traceparent, sizeof(parent));
    if (!trace_is_valid(&parent))
        return true;
    *trace = begin("Recv", TRACE_SERVER, call, &parent, false);
    if (!*trace)
        return true;
    trace_text((*trace)->call, "peer", call->peer);
    if (call->attempt > 0)
        trace_int((*trace)->call, "previous-rpc-attempts", call->attempt);
    memcpy(call->traceparent, &(*trace)->context,
           MESH_TRACEPARENT_BYTES); /* what it calls belongs here */
    return true;
}

static bool on_start(void *context, void **state, struct mesh_intercepted *call,
                     struct status *refusal)
{
    struct call_trace **trace = (struct call_trace **)state;

    (void)context;
    (void)refusal;
    return call->method->side == MESH_CALLER ? start_caller(trace, call)
                                             : start_answerer(trace, call);
}

static void on_attempt(void *context, void **state, struct mesh_intercepted *call)
{
    struct call_trace *trace = *state;
    struct trace_context attempt;
    char name[NAME_MAX_BYTES];

    (void)context;
    if (!trace)
        return;
    name_span("Attempt", call->method, name);
    trace->attempt = trace_begin(name, TRACE_CLIENT, &trace->context, false, &attempt);
    trace_int(trace->attempt, "previous-rpc-attempts", call->attempt);
    memcpy(call->traceparent, &attempt, MESH_TRACEPARENT_BYTES);
}

static void end_span(struct trace_span **span, const struct status *status)
{
    char error[64 + STATUS_MESSAGE_MAX];

    trace_int(*span, "rpc.grpc.status_code", status->code);
    snprintf(error, sizeof(error), "%s: %s", status_name(status->code), status->message);
    trace_end(span, status->code == STATUS_OK ? NULL : error);
}

static void on_attempt_end(void *context, void **state, const struct mesh_intercepted *call,
                           const struct status *status, enum mesh_attempt_next next,
                           int64_t delay_ms)
{
    struct call_trace *trace = *state;

    (void)context;
    (void)call;
    if (!trace)
        return;
    if (next == MESH_RETRY)
        trace_int(trace->attempt, "retry-delay-ms", delay_ms);
    if (next == MESH_RESEND)
        trace_text(trace->attempt, "transparent-retry", "true");
    end_span(&trace->attempt, status);
}

static void on_message(void *context, void **state, const struct mesh_intercepted *call,
                       enum mesh_direction direction, size_t bytes)
{
    struct call_trace *trace = *state;

    (void)context;
    (void)call;
    if (trace)
        trace_message(trace->attempt ? trace->attempt : trace->call,
                      direction == MESH_OUTBOUND ? "Outbound message" : "Inbound message",
                      trace->n_messages[direction]++, (int64_t)bytes);
}

static void on_end(void *context, void **state, const struct mesh_intercepted *call,
                   const struct status *status, int64_t now_ns)
{
    struct call_trace *trace = *state;

    (void)context;
    (void)call;
    (void)now_ns;
    if (!trace)
        return;
    if (trace->attempt) /* it was cut short */
        end_span(&trace->attempt, status);
    end_span(&trace->call, status);
    free(trace);
    *state = NULL;
}

const struct mesh_interceptor mesh_trace_interceptor = {
    .name = "trace",
    .start = on_start,
    .attempt = on_attempt,
    .attempt_end = on_attempt_end,
    .message = on_message,
    .end = on_end,
};
