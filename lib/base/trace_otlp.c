/* Spans as OTLP/JSON: opentelemetry-proto's ExportTraceServiceRequest in its JSON form. */
#include "base/clock.h"
#include "base/escape.h"
#include "base/trace_private.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOST_MAX 256

struct otlp {
    struct buffer *out;
    int64_t wall_ns; /* to be added to monotonic times */
    int err;         /* the first one; after it nothing is written */
};

static void put(struct otlp *otlp, const char *text)
{
    if (otlp->err == 0)
        otlp->err = buffer_append(otlp->out, text, strlen(text));
}

static void put_string(struct otlp *otlp, const char *text)
{
    put(otlp, "\"");
    if (otlp->err == 0)
        otlp->err = escape_append(otlp->out, text, true);
    put(otlp, "\"");
}

static void put_hex(struct otlp *otlp, const uint8_t *bytes, size_t n)
{
    put(otlp, "\"");
    for (size_t i = 0; i < n && otlp->err == 0; i++)
        otlp->err = buffer_printf(otlp->out, "%02x", bytes[i]);
    put(otlp, "\"");
}

/* 64-bit numbers are strings in JSON. */
static void put_int(struct otlp *otlp, int64_t value)
{
    if (otlp->err == 0)
        otlp->err = buffer_printf(otlp->out, "\"%" PRId64 "\"", value);
}

static void put_attribute(struct otlp *otlp, bool first, const char *key, const char *text,
                          int64_t number)
{
    put(otlp, first ? "{\"key\":" : ",{\"key\":");
    put_string(otlp, key);
    put(otlp, text ? ",\"value\":{\"stringValue\":" : ",\"value\":{\"intValue\":");
    if (text)
        put_string(otlp, text);
    else
        put_int(otlp, number);
    put(otlp, "}}");
}

static void put_events(struct otlp *otlp, const struct trace_span *span)
{
    put(otlp, ",\"events\":[");
    for (size_t i = 0; i < span->n_events; i++) {
        const struct trace_event *event = &span->events[i];

        put(otlp, i > 0 ? ",{\"timeUnixNano\":" : "{\"timeUnixNano\":");
        put_int(otlp, event->at_ns + otlp->wall_ns);
        put(otlp, ",\"name\":");
        put_string(otlp, event->name);
        put(otlp, ",\"attributes\":[");
        put_attribute(otlp, true, "sequence-number", NULL, event->sequence);
        put_attribute(otlp, false, "message-size", NULL, event->bytes);
        put(otlp, "]}");
    }
    put(otlp, "]");
    if (otlp->err == 0 && span->n_events_lost > 0)
        otlp->err = buffer_printf(otlp->out, ",\"droppedEventsCount\":%zu", span->n_events_lost);
}

static void put_span(struct otlp *otlp, const struct trace_span *span)
{
    static const uint8_t NONE[TRACE_SPAN_ID_BYTES];

    put(otlp, "{\"traceId\":");
    put_hex(otlp, span->context.trace_id, TRACE_ID_BYTES);
    put(otlp, ",\"spanId\":");
    put_hex(otlp, span->context.span_id, TRACE_SPAN_ID_BYTES);
    if (memcmp(span->parent, NONE, sizeof(NONE)) != 0) {
        put(otlp, ",\"parentSpanId\":");
        put_hex(otlp, span->parent, TRACE_SPAN_ID_BYTES);
    }
    put(otlp, ",\"name\":");
    put_string(otlp, span->name);
    if (otlp->err == 0)
        otlp->err = buffer_printf(otlp->out, ",\"flags\":%u,\"kind\":%d", span->context.flags,
                                  (int)span->kind);
    put(otlp, ",\"startTimeUnixNano\":");
    put_int(otlp, span->begun_ns + otlp->wall_ns);
    put(otlp, ",\"endTimeUnixNano\":");
    put_int(otlp, span->ended_ns + otlp->wall_ns);
    put(otlp, ",\"attributes\":[");
    for (size_t i = 0; i < span->n_attributes; i++)
        put_attribute(otlp, i == 0, span->attributes[i].key, span->attributes[i].text,
                      span->attributes[i].number);
    put(otlp, "]");
    if (otlp->err == 0 && span->n_attributes_lost > 0)
        otlp->err =
            buffer_printf(otlp->out, ",\"droppedAttributesCount\":%zu", span->n_attributes_lost);
    if (span->n_events > 0)
        put_events(otlp, span);
    put(otlp, ",\"status\":{");
    if (span->error) {
        put(otlp, "\"code\":2,\"message\":");
        put_string(otlp, span->error);
    }
    put(otlp, "}}");
}

static void put_resource(struct otlp *otlp, const char *process)
{
    char host[HOST_MAX] = "";

    gethostname(host, sizeof(host) - 1);
    put(otlp, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    put_attribute(otlp, true, "service.name", process, 0);
    put_attribute(otlp, false, "service.version", DRAGOMAN_VERSION, 0);
    put_attribute(otlp, false, "host.name", host, 0);
    put_attribute(otlp, false, "process.pid", NULL, getpid());
    put(otlp, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"dragoman\"},\"spans\":[");
}

int trace_write_otlp(const char *process, const struct trace_span *spans, struct buffer *out)
{
    struct otlp otlp = {.out = out};
    struct timespec wall;

    clock_gettime(CLOCK_REALTIME, &wall);
    otlp.wall_ns = wall.tv_sec * INT64_C(1000000000) + wall.tv_nsec - clock_now_ns();
    put_resource(&otlp, process);
    for (const struct trace_span *span = spans; span; span = span->next) {
        put_span(&otlp, span);
        if (span->next)
            put(&otlp, ",");
    }
    put(&otlp, "]}]}]}");
    return otlp.err;
}
