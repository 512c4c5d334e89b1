/*
 * trace_private.h - a span, between trace.c (which makes them) and trace_export.c (which sends them)
 */
#ifndef BASE_TRACE_PRIVATE_H
#define BASE_TRACE_PRIVATE_H

#include "base/buffer.h"
#include "base/trace.h"

#define TRACE_NAME_MAX 128
#define TRACE_ATTRIBUTES_MAX 16
#define TRACE_EVENTS_MAX 64

struct trace_attribute {
    const char *key;
    char *text; /* owned; NULL: the number counts */
    int64_t number;
};

struct trace_event {
    const char *name;
    int64_t at_ns; /* monotonic */
    int64_t sequence, bytes;
};

struct trace_span {
    struct trace_span *next; /* in the queue */
    struct trace_context context;
    uint8_t parent[TRACE_SPAN_ID_BYTES]; /* zero: a root */
    enum trace_kind kind;
    int64_t begun_ns, ended_ns; /* monotonic */
    char name[TRACE_NAME_MAX];
    char *error; /* owned; NULL: none */
    size_t n_attributes, n_attributes_lost;
    struct trace_attribute attributes[TRACE_ATTRIBUTES_MAX];
    size_t n_events, n_events_lost, n_events_room;
    struct trace_event *events; /* (n_events_room) owned */
};

void trace_span_free(struct trace_span *span);

/** Give it to the exporter, which takes it. */
void trace_enqueue(struct trace_span *span);
/** Of the traces that begin here. */
bool trace_samples(const uint8_t trace_id[TRACE_ID_BYTES]);

/** An ExportTraceServiceRequest of OTLP/JSON. @return 0; -EMSGSIZE; -ENOMEM */
int trace_write_otlp(const char *process, const struct trace_span *spans, struct buffer *out);

#endif
