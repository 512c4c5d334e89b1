#include "base/log.h"
#include "broker/state.h"
#include "broker/stats.h"

#define NS_PER_S 1000000000
#define STUCK_NS (5 * (int64_t)NS_PER_S) /* from CANCEL to what should have been its END */
#define FAILURES_MAX 5
#define EJECTION_NS (5 * (int64_t)NS_PER_S) /* the first; the second twice as long, and so on */
#define EJECTIONS_MAX 12
#define QUIET_BEATS 2

static void set_ill(struct broker_core *core, struct worker *worker, unsigned ill)
{
    bool was_ill = worker->ill != 0;

    if (ill == worker->ill)
        return;
    worker->ill = ill;
    if (was_ill == (ill != 0) || worker->draining) /* then it gets none anyway */
        return;
    core->registry.version++;
    core->levels_stale = true;
    pool_review(worker);
    for (size_t i = 0; i < worker->n_services; i++)
        router_settle(core, worker->services[i], core->now_ns);
    if (ill != 0) {
        stats_sick();
        log_warn("worker '%s' (%llu) gets no calls while others can: it %s", worker->session->name,
                 (unsigned long long)worker->id, sick_why(worker));
    } else {
        log_info("worker '%s' (%llu) is well again", worker->session->name,
                 (unsigned long long)worker->id);
    }
}

const char *sick_why(const struct worker *worker)
{
    if (worker->ill & ILL_QUIET)
        return "is silent";
    if (worker->ill & ILL_STUCK)
        return "ignores CANCEL";
    return worker->ill & ILL_EJECTED ? "says UNAVAILABLE" : "";
}

/* ---- calls that do not stop ------------------------------------------------------------------ */

void sick_watch(struct broker_core *core, struct call *call, int64_t now_ns)
{
    mesh_timer_set(&core->deadlines, &call->timer, now_ns + STUCK_NS);
}

void sick_stuck(struct broker_core *core, struct call *call)
{
    struct worker *worker = call->worker;

    call->stuck = true;
    worker->n_stuck++;
    set_ill(core, worker, worker->ill | ILL_STUCK);
}

void sick_unstuck(struct broker_core *core, struct call *call)
{
    struct worker *worker = call->worker;

    if (!call->caller)
        mesh_timer_cancel(&core->deadlines, &call->timer); /* else it is its deadline's */
    if (!call->stuck)
        return;
    call->stuck = false;
    if (--worker->n_stuck == 0)
        set_ill(core, worker, worker->ill & ~(unsigned)ILL_STUCK);
}

/* ---- workers that cannot serve --------------------------------------------------------------- */

static void eject(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    worker->n_failures = 0;
    if (worker->n_ejections < EJECTIONS_MAX)
        worker->n_ejections++;
    if (mesh_timer_set(&core->healings, &worker->heal,
                       now_ns + (int64_t)worker->n_ejections * EJECTION_NS) == 0)
        set_ill(core, worker, worker->ill | ILL_EJECTED);
}

void sick_judge(struct broker_core *core, struct worker *worker, const struct mesh_header *end,
                int64_t now_ns)
{
    if (end->status != STATUS_UNAVAILABLE) {
        worker->n_failures = 0;
        if (end->status == STATUS_OK && !(worker->ill & ILL_EJECTED))
            worker->n_ejections = 0;
        return;
    }
    if (++worker->n_failures >= FAILURES_MAX && !(worker->ill & ILL_EJECTED))
        eject(core, worker, now_ns);
}

void sick_heal(struct broker_core *core, int64_t now_ns)
{
    struct mesh_timer *timer = NULL;

    while ((timer = mesh_timers_pop(&core->healings, now_ns))) {
        struct worker *worker = container_of(timer, struct worker, heal);

        worker->n_failures = 0;
        set_ill(core, worker, worker->ill & ~(unsigned)ILL_EJECTED);
        router_fill(core, worker, now_ns);
    }
}

/* ---- silence --------------------------------------------------------------------------------- */

void sick_listen(struct broker_core *core, struct worker *worker, int64_t now_ns)
{
    const struct mesh_heartbeat *beat = &worker->session->beat;

    if (now_ns - beat->heard_at >= QUIET_BEATS * beat->interval_ns) {
        set_ill(core, worker, worker->ill | ILL_QUIET);
    } else if (worker->ill & ILL_QUIET) {
        set_ill(core, worker, worker->ill & ~(unsigned)ILL_QUIET);
        router_fill(core, worker, now_ns);
    }
}
