/*
 * trace.h - where a request spends its time: spans in W3C trace contexts, exported over OTLP/HTTP
 *
 * A trace context (trace id, span id, sampled or not) comes with a request, is the thread's while it is
 * worked on, and goes along with what is sent on. Contexts are carried whether or not anything is exported.
 * Spans cost nothing until trace_start() has named a collector: then those of sampled traces are kept in a
 * bounded queue, and a thread of its own posts them to <endpoint>/v1/traces as OTLP/JSON. Past the bound
 * they are dropped and counted (dragoman_trace_spans_total).
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ID_BYTES 16
#define TRACE_SPAN_ID_BYTES 8
#define TRACE_CONTEXT_BYTES 25 /* on the mesh's wire: trace id, span id, flags */
#define TRACE_PARENT_TEXT 56   /* "00-<32 hex>-<16 hex>-<2 hex>" and a NUL */
#define TRACE_ID_TEXT 33       /* 32 hex digits and a NUL */
#define TRACE_SAMPLED 0x01     /* of the flags */

struct trace_context {
    uint8_t trace_id[TRACE_ID_BYTES];
    uint8_t span_id[TRACE_SPAN_ID_BYTES];
    uint8_t flags;
};

/* ---- contexts -------------------------------------------------------------------------------- */

/** A traceparent header of W3C. @return 0; -EINVAL */
int trace_parse(const char *text, struct trace_context *out);
/** 32 hex digits into a context that has the rest; sampled as that trace is here. @return 0; -EINVAL */
int trace_id_parse(const char *text, struct trace_context *out);
void trace_format(const struct trace_context *context, char out[TRACE_PARENT_TEXT]);
void trace_id_format(const struct trace_context *context, char out[TRACE_ID_TEXT]);

/** A new trace, sampled by the ratio; the span id is drawn, too. */
void trace_draw(struct trace_context *out);

/** Whether a context has a trace id at all (zero is none). */
bool trace_is_valid(const struct trace_context *context);

/** What this thread works on: in its log lines, and the parent of calls that it makes. Copied; NULL: nothing. */
void trace_set_current(const struct trace_context *context);
/** NULL: nothing. */
const struct trace_context *trace_current(void);

/* ---- spans ----------------------------------------------------------------------------------- */

enum trace_kind { TRACE_INTERNAL = 1, TRACE_SERVER = 2, TRACE_CLIENT = 3 }; /* OTLP's numbers */

struct trace_span; /* a NULL one takes everything and does nothing */

/** Whether spans go anywhere. */
bool trace_enabled(void);

/**
 * Begin a span.
 *
 * @param name     copied, cut at 127 bytes
 * @param parent   its trace; NULL: the thread's, or a new one
 * @param is_root  the parent's span id is no span: only its trace counts
 * @param out      the span's context, to be carried on; without a span (nothing exports, not sampled) the
 *                 parent's; may be NULL
 * @return the span, ended by trace_end(); NULL: not recorded
 */
struct trace_span *trace_begin(const char *name, enum trace_kind kind,
                               const struct trace_context *parent, bool is_root,
                               struct trace_context *out);
/** As if it had begun at a time, CLOCK_MONOTONIC. */
void trace_set_begin(struct trace_span *span, int64_t begun_ns);
/** Another name, known only now. */
void trace_set_name(struct trace_span *span, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Past 16 attributes and 64 events further ones are counted only. Keys are borrowed for ever, texts copied. */
void trace_text(struct trace_span *span, const char *key, const char *value);
void trace_int(struct trace_span *span, const char *key, int64_t value);
/** A message that was sent or has arrived: name "Outbound message", with gRPC's attributes. */
void trace_message(struct trace_span *span, const char *name, int64_t sequence, int64_t bytes);

/** End it, and hand it to the exporter. @param error  NULL: it went well */
void trace_end(struct trace_span **span, const char *error);
/** Let go of it without a trace. */
void trace_drop(struct trace_span **span);

/* ---- export ---------------------------------------------------------------------------------- */

/**
 * Export from now on.
 *
 * @param endpoint  "http://127.0.0.1:4318"; NULL or "": nowhere
 * @param process   service.name
 * @param ratio     of the traces that begin here, 0..1; those that come with a parent follow its flag
 * @return 0; -EINVAL: not an http:// URL; -ENOMEM; -EALREADY
 */
int trace_start(const char *endpoint, const char *process, double ratio);
/** Send what is left, for two seconds at most, and stop. Fine without a start. */
void trace_stop(void);

#endif
