#include "mesh/interceptor.h"

#include "base/log.h"
#include "base/trace.h"

#include <errno.h>

/* ---- metrics --------------------------------------------------------------------------------- */

static bool count_start(void *context, void **state, struct mesh_intercepted *call,
                        struct status *refusal)
{
    (void)context;
    (void)state;
    (void)refusal;
    if (call->method->side == MESH_ANSWERER)
        metric_add(call->method->started, 1);
    return true;
}

static void count_attempt(void *context, void **state, struct mesh_intercepted *call)
{
    (void)context;
    (void)state;
    metric_add(call->method->started, 1);
}

static void count_attempt_end(void *context, void **state, const struct mesh_intercepted *call,
                              const struct status *status, enum mesh_attempt_next next,
                              int64_t delay_ms)
{
    (void)context;
    (void)state;
    (void)status;
    if (next != MESH_LAST)
        mesh_method_again((struct mesh_method *)call->method, next == MESH_RETRY, delay_ms);
}

static void count_end(void *context, void **state, const struct mesh_intercepted *call,
                      const struct status *status, int64_t now_ns)
{
    (void)context;
    (void)state;
    mesh_method_ended((struct mesh_method *)call->method, status->code, call->begun_ns, now_ns);
}

const struct mesh_interceptor mesh_metrics_interceptor = {
    .name = "metrics",
    .start = count_start,
    .attempt = count_attempt,
    .attempt_end = count_attempt_end,
    .end = count_end,
};

/* ---- the list -------------------------------------------------------------------------------- */

int mesh_interceptors_init(struct mesh_interceptors *interceptors,
                           const struct mesh_interceptor *const *others, size_t n)
{
    *interceptors = (struct mesh_interceptors){.list = {&mesh_metrics_interceptor}, .n = 1};
    if (trace_enabled()) {
        interceptors->list[interceptors->n++] = &mesh_trace_interceptor;
        interceptors->watch_messages = true;
    }
    if (log_wants(LOG_DEBUG))
        interceptors->list[interceptors->n++] = &mesh_log_interceptor;
    if (n > MESH_INTERCEPTORS_MAX - interceptors->n)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        interceptors->list[interceptors->n++] = others[i];
        interceptors->watch_messages |= others[i]->message != NULL;
    }
    return 0;
}

bool mesh_intercept_start(const struct mesh_interceptors *interceptors, void **states,
                          struct mesh_intercepted *call, size_t *started, struct status *refusal)
{
    for (*started = 0; *started < interceptors->n; ++*started) {
        const struct mesh_interceptor *one = interceptors->list[*started];

        if (one->start && !one->start(one->context, &states[*started], call, refusal))
            return false;
    }
    return true;
}

void mesh_intercept_attempt(const struct mesh_interceptors *interceptors, void **states,
                            struct mesh_intercepted *call)
{
    for (size_t i = 0; i < interceptors->n; i++) {
        const struct mesh_interceptor *one = interceptors->list[i];

        if (one->attempt)
            one->attempt(one->context, &states[i], call);
    }
}

/* What was begun last ends first, so that spans nest. */
void mesh_intercept_attempt_end(const struct mesh_interceptors *interceptors, void **states,
                                const struct mesh_intercepted *call, const struct status *status,
                                enum mesh_attempt_next next, int64_t delay_ms)
{
    for (size_t i = interceptors->n; i-- > 0;) {
        const struct mesh_interceptor *one = interceptors->list[i];

        if (one->attempt_end)
            one->attempt_end(one->context, &states[i], call, status, next, delay_ms);
    }
}

void mesh_intercept_message(const struct mesh_interceptors *interceptors, void **states,
                            const struct mesh_intercepted *call, enum mesh_direction direction,
                            size_t bytes)
{
    if (!interceptors->watch_messages)
        return;
    for (size_t i = 0; i < interceptors->n; i++) {
        const struct mesh_interceptor *one = interceptors->list[i];

        if (one->message)
            one->message(one->context, &states[i], call, direction, bytes);
    }
}

void mesh_intercept_end(const struct mesh_interceptors *interceptors, void **states,
                        const struct mesh_intercepted *call, size_t started,
                        const struct status *status, int64_t now_ns)
{
    for (size_t i = started; i-- > 0;) {
        const struct mesh_interceptor *one = interceptors->list[i];

        if (one->end)
            one->end(one->context, &states[i], call, status, now_ns);
    }
}
