/*
 * interceptor.h - what runs around every call of a channel or a server: metrics, traces, log, tokens
 *
 * A channel and a server each take a list of them (in their options) and run every call through it in
 * order; the built-in metrics come first. An interceptor is a table of functions, any of which may be
 * NULL, and lives at least as long as the channel or server.
 *
 * For one call the functions never run at once, and after `end` none does. All but `start` run under the call's
 * lock: they must neither block nor call into the mesh. They come from several threads: `start` from the
 * application's (a caller's) or the handler's, the others from whichever makes it happen.
 */
#ifndef MESH_INTERCEPTOR_H
#define MESH_INTERCEPTOR_H

#include "base/status.h"
#include "mesh/metadata.h"
#include "mesh/method.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_INTERCEPTORS_MAX 8 /* of one channel or server, the built-in ones included */

/** From whom to whom a message goes, seen from the side that says so. */
enum mesh_direction { MESH_OUTBOUND, MESH_INBOUND };

/** What comes after a try: nothing; a retry, after a delay; the same try somewhere else, as no handler saw it. */
enum mesh_attempt_next { MESH_LAST, MESH_RETRY, MESH_RESEND };

/** A call as its interceptors see it. */
struct mesh_intercepted {
    const struct mesh_method *method; /* path, side (MESH_CALLER, MESH_ANSWERER); lives for ever */
    int64_t begun_ns, deadline_ns;    /* monotonic; MESH_NEVER without a deadline */
    const struct mesh_metadata *metadata; /* during `start`: what the caller sends; NULL: none */
    /** A caller's, during `start`: entries to send besides, mesh_metadata_add(&call->added, ...). The mesh's. */
    struct mesh_metadata *added;
    const char *peer;   /* an answerer's: name of the caller's certificate; NULL: not known */
    const char *tenant; /* during `start`; NULL: the default one */
    uint32_t attempt;   /* 0, 1, ...: which try this is; at an answerer tries before this one */
    /** A caller's: what OPEN says, to be set in `attempt`. An answerer's: what came with OPEN, zero when nothing. */
    uint8_t traceparent[MESH_TRACEPARENT_BYTES];
    bool
        has_parent; /* a caller's, during `start`: the span of traceparent is one of the application's */
};

/**
 * One of the functions around a call. `context` is the interceptor's, *state the call's: NULL at `start`, and
 * from then on what the interceptor put there.
 */
struct mesh_interceptor {
    const char *name; /* for people: "metrics" */
    void *context;

    /**
     * A call begins: before anything is sent, or before its handler runs.
     *
     * @return true; false: *refusal is filled, the call ends with it and nothing is sent or run. The
     *         interceptors before this one then get `end`, this one and those behind it do not.
     */
    bool (*start)(void *context, void **state, struct mesh_intercepted *call,
                  struct status *refusal);
    /** A caller's: try number call->attempt is about to be sent. */
    void (*attempt)(void *context, void **state, struct mesh_intercepted *call);
    /** A caller's: that try ended so. @param delay_ms  until a MESH_RETRY */
    void (*attempt_end)(void *context, void **state, const struct mesh_intercepted *call,
                        const struct status *status, enum mesh_attempt_next next, int64_t delay_ms);
    /** A message was taken for sending, or has arrived: its bytes before compression. */
    void (*message)(void *context, void **state, const struct mesh_intercepted *call,
                    enum mesh_direction direction, size_t bytes);
    /** It is over, once. @param now_ns  monotonic, as begun_ns */
    void (*end)(void *context, void **state, const struct mesh_intercepted *call,
                const struct status *status, int64_t now_ns);
};

/** Counts and durations by gRPC's names (docs/mesh.md, "Figures"); first in every list. */
extern const struct mesh_interceptor mesh_metrics_interceptor;
/** Spans by gRPC's names: Sent. > Attempt. > Recv.; second where trace_enabled(). */
extern const struct mesh_interceptor mesh_trace_interceptor;
/** A line of LOG_DEBUG a call; in the list where that is logged. */
extern const struct mesh_interceptor mesh_log_interceptor;

/* ---- inside lib/mesh ------------------------------------------------------------------------- */

/** The list of one channel or server. */
struct mesh_interceptors {
    const struct mesh_interceptor *list[MESH_INTERCEPTORS_MAX];
    size_t n;
    bool watch_messages; /* any of them has `message` */
};

/** The built-in ones, then (n) others. @return 0; -EINVAL for too many */
int mesh_interceptors_init(struct mesh_interceptors *interceptors,
                           const struct mesh_interceptor *const *others, size_t n);

/*
 * Run the list for one call. `states` is its (interceptors->n) pointers, zeroed before the start; *started
 * counts those that have agreed.
 */
bool mesh_intercept_start(const struct mesh_interceptors *interceptors, void **states,
                          struct mesh_intercepted *call, size_t *started, struct status *refusal);
void mesh_intercept_attempt(const struct mesh_interceptors *interceptors, void **states,
                            struct mesh_intercepted *call);
void mesh_intercept_attempt_end(const struct mesh_interceptors *interceptors, void **states,
                                const struct mesh_intercepted *call, const struct status *status,
                                enum mesh_attempt_next next, int64_t delay_ms);
void mesh_intercept_message(const struct mesh_interceptors *interceptors, void **states,
                            const struct mesh_intercepted *call, enum mesh_direction direction,
                            size_t bytes);
/** @param started  as mesh_intercept_start() counted */
void mesh_intercept_end(const struct mesh_interceptors *interceptors, void **states,
                        const struct mesh_intercepted *call, size_t started,
                        const struct status *status, int64_t now_ns);

#endif
