#include "base/trace.h"

#include "base/clock.h"
#include "base/trace_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define EVENTS_FIRST 4

/* ---- contexts -------------------------------------------------------------------------------- */

static const char DIGITS[] = "0123456789abcdef";

static void write_hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = DIGITS[bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

/* @return whether all were lower-case hex digits */
static bool read_hex(const char *text, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const char *high = text[2 * i] ? strchr(DIGITS, text[2 * i]) : NULL;
        const char *low = high && text[2 * i + 1] ? strchr(DIGITS, text[2 * i + 1]) : NULL;

        if (!low)
            return false;
        out[i] = (uint8_t)((high - DIGITS) << 4 | (low - DIGITS));
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

bool trace_is_valid(const struct trace_context *context)
{
    return !is_zero(context->trace_id, TRACE_ID_BYTES);
}

int trace_parse(const char *text, struct trace_context *out)
{
    size_t size = strlen(text);
    struct trace_context context;
    uint8_t version;

    if (size < TRACE_PARENT_TEXT - 1 || !read_hex(text, 1, &version) || version == 0xFF ||
        (version == 0 && size != TRACE_PARENT_TEXT - 1) ||
        (size > TRACE_PARENT_TEXT - 1 && text[TRACE_PARENT_TEXT - 1] != '-'))
        return -EINVAL;
    if (text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !read_hex(text + 3, TRACE_ID_BYTES, context.trace_id) ||
        !read_hex(text + 36, TRACE_SPAN_ID_BYTES, context.span_id) ||
        !read_hex(text + 53, 1, &context.flags))
        return -EINVAL;
    if (!trace_is_valid(&context) || is_zero(context.span_id, TRACE_SPAN_ID_BYTES))
        return -EINVAL;
    *out = context;
    return 0;
}

int trace_id_parse(const char *text, struct trace_context *out)
{
    uint8_t id[TRACE_ID_BYTES];

    if (strlen(text) != TRACE_ID_TEXT - 1 || !read_hex(text, TRACE_ID_BYTES, id) ||
        is_zero(id, TRACE_ID_BYTES))
        return -EINVAL;
    memcpy(out->trace_id, id, TRACE_ID_BYTES);
    out->flags = trace_samples(id) ? TRACE_SAMPLED : 0;
    return 0;
}

void trace_format(const struct trace_context *context, char out[TRACE_PARENT_TEXT])
{
    memcpy(out, "00-", 3);
    write_hex(context->trace_id, TRACE_ID_BYTES, out + 3);
    out[35] = '-';
    write_hex(context->span_id, TRACE_SPAN_ID_BYTES, out + 36);
    out[52] = '-';
    write_hex(&context->flags, 1, out + 53);
}

void trace_id_format(const struct trace_context *context, char out[TRACE_ID_TEXT])
{
    write_hex(context->trace_id, TRACE_ID_BYTES, out);
}

/* xorshift64*, seeded a thread at a time: ids must differ, not be secret. */
static uint64_t draw(void)
{
    static _Thread_local uint64_t state;

    while (state == 0)
        if (getrandom(&state, sizeof(state), 0) != (ssize_t)sizeof(state))
            state = (uint64_t)clock_now_ns() ^ (uintptr_t)&state;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545F4914F6CDD1D);
}

static void draw_span_id(uint8_t out[TRACE_SPAN_ID_BYTES])
{
    uint64_t bits = draw() | 1; /* never zero */

    memcpy(out, &bits, sizeof(bits));
}

void trace_draw(struct trace_context *out)
{
    uint64_t bits[2] = {draw(), draw() | 1};

    memcpy(out->trace_id, bits, sizeof(bits));
    draw_span_id(out->span_id);
    out->flags = trace_samples(out->trace_id) ? TRACE_SAMPLED : 0;
}

static _Thread_local struct {
    struct trace_context context;
    bool set;
} current;

void trace_set_current(const struct trace_context *context)
{
    current.set = context && trace_is_valid(context);
    if (current.set)
        current.context = *context;
}

const struct trace_context *trace_current(void)
{
    return current.set ? &current.context : NULL;
}

/* ---- spans ----------------------------------------------------------------------------------- */

struct trace_span *trace_begin(const char *name, enum trace_kind kind,
                               const struct trace_context *parent, bool is_root,
                               struct trace_context *out)
{
    struct trace_context drawn;
    struct trace_span *span;

    if (!parent)
        parent = trace_current();
    if (!parent || !trace_is_valid(parent)) {
        trace_draw(&drawn);
        parent = &drawn;
        is_root = true;
    }
    if (out && out != parent)
        *out = *parent;
    if (!trace_enabled() || !(parent->flags & TRACE_SAMPLED))
        return NULL;
    span = calloc(1, sizeof(*span));
    if (!span)
        return NULL;
    span->context = *parent;
    if (!is_root)
        memcpy(span->parent, parent->span_id, sizeof(span->parent));
    draw_span_id(span->context.span_id);
    span->kind = kind;
    span->begun_ns = clock_now_ns();
    snprintf(span->name, sizeof(span->name), "%s", name);
    if (out)
        *out = span->context;
    return span;
}

void trace_set_begin(struct trace_span *span, int64_t begun_ns)
{
    if (span)
        span->begun_ns = begun_ns;
}

void trace_set_name(struct trace_span *span, const char *fmt, ...)
{
    va_list args;

    if (!span)
        return;
    va_start(args, fmt);
    vsnprintf(span->name, sizeof(span->name), fmt, args);
    va_end(args);
}

static struct trace_attribute *add_attribute(struct trace_span *span, const char *key)
{
    struct trace_attribute *attribute;

    if (span->n_attributes == TRACE_ATTRIBUTES_MAX) {
        span->n_attributes_lost++;
        return NULL;
    }
    attribute = &span->attributes[span->n_attributes++];
    attribute->key = key;
    return attribute;
}

void trace_text(struct trace_span *span, const char *key, const char *value)
{
    struct trace_attribute *attribute = span && value ? add_attribute(span, key) : NULL;

    if (attribute)
        attribute->text = strdup(value);
}

void trace_int(struct trace_span *span, const char *key, int64_t value)
{
    struct trace_attribute *attribute = span ? add_attribute(span, key) : NULL;

    if (attribute)
        attribute->number = value;
}

void trace_message(struct trace_span *span, const char *name, int64_t sequence, int64_t bytes)
{
    if (!span)
        return;
    if (span->n_events == span->n_events_room && span->n_events < TRACE_EVENTS_MAX) {
        size_t room = span->n_events_room ? 2 * span->n_events_room : EVENTS_FIRST;
        struct trace_event *events = realloc(span->events, room * sizeof(*events));

        if (events) {
            span->events = events;
            span->n_events_room = room;
        }
    }
    if (span->n_events == span->n_events_room) {
        span->n_events_lost++;
        return;
    }
    span->events[span->n_events++] = (struct trace_event){
        .name = name, .at_ns = clock_now_ns(), .sequence = sequence, .bytes = bytes};
}

void trace_span_free(struct trace_span *span)
{
    for (size_t i = 0; i < span->n_attributes; i++)
        free(span->attributes[i].text);
    free(span->events);
    free(span->error);
    free(span);
}

void trace_end(struct trace_span **span, const char *error)
{
    struct trace_span *self = *span;

    *span = NULL;
    if (!self)
        return;
    self->ended_ns = clock_now_ns();
    self->error = error ? strdup(error) : NULL;
    trace_enqueue(self);
}

void trace_drop(struct trace_span **span)
{
    if (*span)
        trace_span_free(*span);
    *span = NULL;
}
