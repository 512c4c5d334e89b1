#include "tests/broker/sim/sim.h"

/* ---- inside, after every step ---------------------------------------------------------------- */

/* Nobody waits while a worker that may serve it has a free slot; sums are what they sum up. */
static void check_pools(const struct service *service)
{
    const struct pool *pool = NULL;
    size_t waiting = 0;

    LIST_FOREACH (pool, &service->pools, of_service) {
        const struct member *member = NULL;
        uint64_t capacity = 0;
        size_t n_avoided = 0;

        LIST_FOREACH (member, &pool->members, of_pool) {
            capacity += member->worker->capacity;
            n_avoided += member->avoided;
            check(!member->avoided || member->worker->ill);
        }
        check(pool->capacity == capacity);
        check(n_avoided <= pool->n_members / 2);
        check(pool->waiting.count == 0 || pool->ready.count == 0);
        waiting += pool->waiting.count;
    }
    check(waiting == service->queue.count);
}

void check_core(int broker)
{
    const struct broker_core *core = sim.cores[broker];
    const struct worker *worker = NULL;
    uint64_t returned = sim.bounced[broker]; /* those may wait, however full the queue is */
    uint64_t held = 0;

    LIST_FOREACH (worker, &core->registry.workers, link)
        held += worker->running;
    for (const struct service *service = core->registry.first; service; service = service->next) {
        check(service->queue.count <= QUEUE_LIMIT + returned);
        check(service->queue.bytes <= QUEUE_BYTES + returned * CALL_BYTES_MAX);
        held -= service->n_running;
        check_pools(service);
    }
    check(held == 0);
}

/* ---- at the edge ----------------------------------------------------------------------------- */

/* I8: what is left of its time, which has not passed. */
static void check_open(const struct mesh_frame *frame)
{
    const struct sim_call *call = call_of_token(token_of(frame));
    int64_t left = call->deadline_ns == MESH_NEVER ? 0 : call->deadline_ns - sim.now_ns;

    check(frame->header.timeout_ns == left);
    check(left >= 0 && (left > 0 || call->timeout_ns == 0));
}

/* Each session once, a tenth before or after its time. */
static void check_goaway(struct peer *to, const struct mesh_header *header)
{
    int64_t age = sim.now_ns - to->born_ns;

    if (!(header->flags & MESH_RETURN))
        return;
    check(!to->aged);
    check(age >= AGE_MS * MS * 9 / 10 && age <= AGE_MS * MS * 11 / 10);
    to->aged = true;
    sim.n_aged++;
}

void check_sent(struct peer *to, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct sim_call *call = NULL;

    if (to->side == BROKER_BACK) {
        if (header->kind == MESH_OPEN)
            check_open(frame);
        return;
    }
    if (header->kind == MESH_GOAWAY)
        check_goaway(to, header);
    call = header->kind >= MESH_OPEN ? call_of_id(header->call_id) : NULL;
    if (!call || call->caller != to->route || call->lost)
        return;
    check(call->end_ns == 0); /* I1: nothing comes after END */
    if (header->kind != MESH_END)
        return;
    call->end_ns = sim.now_ns;
    call->refused = (header->flags & MESH_UNPROCESSED) != 0;
    if (header->status == STATUS_DEADLINE_EXCEEDED && !call->refused && call->runs == 0)
        check(call->deadline_ns <= sim.now_ns); /* I8: not before it either */
}

void check_deadlines(void)
{
    for (size_t i = 0; i < sim.n_calls; i++) {
        const struct sim_call *call = &sim.calls[i];

        if (call->deadline_ns == MESH_NEVER || call->lost)
            continue;
        check(call->end_ns != 0 || call->deadline_ns + GRACE_NS > sim.now_ns); /* I2 */
        check(call->end_ns <= call->deadline_ns + GRACE_NS);
    }
}

void check_slots(const struct process *process)
{
    uint64_t running = process->ghosts;

    for (int i = 0; i < BROKERS; i++)
        if (process->peers[i] && process->peers[i]->connected)
            running += process->peers[i]->n_running;
    check(running <= process->capacity); /* I6 */
}

static void check_running(const struct peer *peer, const struct sim_running *run)
{
    const struct sim_call *call = call_of_token(run->token);

    if (call->lost || call->end_ns != 0)
        return;
    check(run->heard == call->down.given); /* I10 */
    check(call->up.heard == run->granted);
    check(run->n_up == call->n_up); /* I4: and no message is missing */
    check(peer->connected);
}

void check_grants(void)
{
    for (size_t i = 0; i < PEERS; i++)
        for (size_t j = 0; sim.peers[i].connected && j < sim.peers[i].n_running; j++)
            check_running(&sim.peers[i], &sim.peers[i].running[j]);
}

/* ---- at the end ------------------------------------------------------------------------------ */

static void check_empty(struct broker_core *core)
{
    check(broker_core_idle(core));
    check(core->by_caller.count == 0);
    check(core->by_id.count == 0);
    check(core->kept_bytes == 0);
    check(core->n_locals == 0 && core->n_watching == 0);
    for (const struct service *service = core->registry.first; service; service = service->next) {
        check(service->queue.count == 0 && service->queue.bytes == 0);
        check(service->queue.tenants.count == 0);
    }
}

void check_stopped(int broker)
{
    for (size_t i = 0; i < PEERS; i++)
        for (size_t j = 0; j < sim.n_calls; j++)
            if (sim.peers[i].connected && sim.peers[i].broker == broker &&
                sim.calls[j].caller == sim.peers[i].route && sim.calls[j].arrived)
                check(sim.calls[j].lost || sim.calls[j].end_ns != 0); /* I1, I11 */
    check_empty(sim.cores[broker]);
}

void check_over(void)
{
    for (size_t i = 0; i < sim.n_calls; i++)
        check(sim.calls[i].lost || sim.calls[i].ends == 1); /* I1 */
    for (int i = 0; i < BROKERS; i++)
        check_empty(sim.cores[i]);
}
