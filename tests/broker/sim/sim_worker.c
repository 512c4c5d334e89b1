#include "tests/broker/sim/sim.h"

#include <string.h>

static const char *const PAIRS[] = {"en-pt", "pt-en", "en-es"};

/* ---- slots ----------------------------------------------------------------------------------- */

static bool alive(const struct peer *peer)
{
    return peer && peer->connected;
}

/* What a broker may still make of it: its share, one that it was told before, and what runs. */
static uint32_t held_by(const struct peer *peer)
{
    uint32_t held = peer->share > peer->believed ? peer->share : peer->believed;

    return held > peer->n_running ? held : (uint32_t)peer->n_running;
}

static uint32_t held_of(const struct process *process)
{
    uint32_t held = process->ghosts;

    for (int i = 0; i < BROKERS; i++)
        if (alive(process->peers[i]))
            held += held_by(process->peers[i]);
    return held;
}

static void tell_share(struct peer *peer, uint32_t share)
{
    struct mesh_header capacity = {.kind = MESH_CAPACITY, .credit_messages = share};

    if (peer->believed < peer->share)
        peer->believed = peer->share;
    peer->share = share;
    send_built(peer, &capacity, NULL, NULL);
    peer->asked = ++sim.next_ping;
    send_kind(peer, MESH_PING, peer->asked); /* its PONG says that the broker has read this */
}

/* Some slot from wherever it is to this broker, in as many steps as it takes. */
static void shift_to(struct peer *peer)
{
    struct process *process = peer->process;

    if (held_of(process) < process->capacity) {
        sim.n_moved++;
        tell_share(peer, peer->share + 1);
        return;
    }
    for (int i = 0; i < BROKERS; i++)
        if (alive(process->peers[i]) && process->peers[i] != peer && process->peers[i]->share > 0)
            tell_share(process->peers[i], process->peers[i]->share - 1);
}

void process_init(struct process *process)
{
    *process = (struct process){.capacity = 1 + (uint32_t)below(CAPACITY_MAX),
                                .several = chance(50),
                                .strict = chance(50),
                                .pair = PAIRS[below(3)]};
}

void process_grow(struct process *process)
{
    process->capacity = 2 * BROKERS * CAPACITY_MAX;
    process->several =
        false; /* and lends no more: time stands still from here on, nobody would ask again */
    for (int i = 0; i < BROKERS; i++)
        if (alive(process->peers[i]))
            tell_share(process->peers[i], 1);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static uint32_t free_slots(const struct process *process)
{
    uint32_t held = held_of(process);

    return held < process->capacity ? process->capacity - held : 0;
}

void sim_register(struct peer *peer)
{
    Dragoman__Mesh__V1__Register offer = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer echo = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *services[] = {&echo};
    Dragoman__Mesh__V1__Label label = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *labels[] = {&label};
    struct mesh_header header = {.kind = MESH_REGISTER};
    struct process *process = peer->process;
    char *methods[] = {(char *)"Say"};
    char *values[] = {(char *)process->pair};
    uint32_t room;

    process->peers[peer->broker] = peer;
    room = free_slots(process);
    peer->share = peer->believed = process->several ? (uint32_t)below(room + 1) : room;
    label.key = (char *)"pair";
    label.values = values;
    label.n_values = 1;
    echo.name = (char *)"sim.Echo";
    echo.methods = methods;
    echo.n_methods = 1;
    offer.services = services;
    offer.n_services = 1;
    offer.labels = labels;
    offer.n_labels = 1;
    offer.capacity = peer->share;
    offer.capacity_total = process->several ? process->capacity : 0;
    send_built(peer, &header, NULL, &offer.base);
}

/* Its calls are nobody's any more, but some handlers take a while to notice. */
void sim_worker_lost(struct peer *peer)
{
    struct process *process = peer->process;

    process->ghosts += (uint32_t)peer->n_running;
    peer->n_running = 0;
    if (process->peers[peer->broker] == peer)
        process->peers[peer->broker] = NULL;
}

/* ---- what a worker hears --------------------------------------------------------------------- */

static void bounce(struct peer *peer, uint64_t id)
{
    struct mesh_header end = {.kind = MESH_END,
                              .flags = MESH_UNPROCESSED,
                              .call_id = id,
                              .status = STATUS_RESOURCE_EXHAUSTED};

    sim.n_bounced++;
    sim.bounced[peer->broker]++;
    send_built(peer, &end, NULL, NULL);
}

static void check_selector(const struct peer *peer, const struct mesh_frame *frame)
{
    mesh_meta *meta = NULL;

    assert_int_equal(mesh_meta_unpack(frame, &meta), 0);
    for (size_t i = 0; i < meta->n_selector; i++)
        check(strcmp(meta->selector[i]->values[0], peer->process->pair) == 0);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

static void check_runs(struct sim_call *call, const struct mesh_header *header)
{
    call->runs++;
    check(call->runs <= (call->idempotent ? 2 : 1)); /* I3 */
    check(header->attempt <= 1); /* a dead one's first may be read after the second */
    check(!(call->attempts & 1u << header->attempt));
    call->attempts |= 1u << header->attempt;
}

static void take(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct sim_call *call = call_of_token(token_of(frame));
    struct process *process = peer->process;

    check(header->call_id > peer->last_id);
    peer->last_id = header->call_id;
    check_selector(peer, frame);
    check(!peer->drained); /* I11 */
    if (peer->n_running >= peer->share && (process->strict || peer->n_running >= peer->believed)) {
        check(peer->n_running < peer->believed); /* I6: it may have thought of so many */
        bounce(peer, header->call_id);
        return;
    }
    peer->running[peer->n_running++] =
        (struct sim_running){.id = header->call_id,
                             .token = call->token,
                             .stream = !(header->flags & MESH_END_SEND),
                             .n_up = 1,
                             .heard = header->credit_messages};
    sim.n_runs++;
    check(header->credit_messages <= call->down.given); /* I10 */
    check_runs(call, header);
    check_slots(process);
}

static void hear_call(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct sim_running *run = peer->running;

    while (run < peer->running + peer->n_running && run->id != header->call_id)
        run++;
    if (run == peer->running + peer->n_running)
        return; /* late */
    if (header->kind == MESH_CREDIT) {
        check(header->credit_messages <= call_of_token(run->token)->down.given); /* I10 */
        if (header->credit_messages > run->heard)
            run->heard = header->credit_messages;
    } else if (header->flags & MESH_MESSAGE) {
        check(token_of(frame) == run->token); /* I5 */
        check(header->seq == ++run->n_up);    /* I4 */
        check(run->n_up <= run->granted + 1); /* I10; OPEN's is free */
    }
}

void worker_reads(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;

    switch (header->kind) {
    case MESH_OPEN:
        take(peer, frame);
        break;
    case MESH_DATA:
    case MESH_CREDIT:
        hear_call(peer, frame);
        break;
    case MESH_PONG:
        if (header->call_id == peer->asked)
            peer->believed = peer->share;
        if (header->credit_messages > 0 && peer->process->several && !peer->draining)
            shift_to(peer);
        break;
    case MESH_REGISTERED:
        peer->registered = true;
        break;
    case MESH_DRAINED:
        check(peer->draining);
        check(peer->n_running == 0); /* I11: none is lost when it goes now */
        peer->drained = true;
        break;
    default:
        break;
    }
}

/* ---- what it does ---------------------------------------------------------------------------- */

void worker_ends(struct peer *peer, size_t i)
{
    struct sim_running *run = &peer->running[i];
    struct mesh_header header = {.kind = MESH_END, .call_id = run->id};

    if (chance(70)) {
        header.seq = run->n_down + 1;
        send_token(peer, &header, NULL, run->token, 0);
    } else {
        header.status = (uint16_t)(1 + below(16));
        send_built(peer, &header, NULL, NULL);
    }
    if (chance(5)) /* it lies: a second one */
        send_kind(peer, MESH_END, run->id);
    peer->running[i] = peer->running[--peer->n_running];
}

static void grant(struct peer *peer, struct sim_running *run)
{
    struct sim_call *call = call_of_token(run->token);
    struct mesh_header header = {.kind = run->accepted ? MESH_CREDIT : MESH_ACCEPT,
                                 .call_id = run->id,
                                 .credit_bytes = 1 << 20};

    if (!run->stream)
        return;
    run->accepted = true;
    run->granted += (uint32_t)below(3);
    if (run->granted > call->up.given)
        call->up.given = run->granted;
    header.credit_messages = run->granted;
    send_built(peer, &header, NULL, NULL);
}

static void work(struct peer *peer)
{
    size_t i = below(peer->n_running);
    struct sim_running *run = &peer->running[i];
    struct mesh_header header = {.kind = MESH_DATA, .call_id = run->id};

    switch (below(5)) {
    case 0:
    case 1:
        grant(peer, run);
        break;
    case 2:
        if (run->n_down == run->heard)
            break;
        header.seq = ++run->n_down;
        send_token(peer, &header, NULL, run->token, 0);
        break;
    default:
        worker_ends(peer, i);
        break;
    }
}

/* It lies: an END of a call that another worker has, or nobody. */
static void forge(struct peer *peer)
{
    uint64_t id = peer->last_id - below(3);

    for (size_t i = 0; i < peer->n_running; i++)
        if (peer->running[i].id == id)
            return;
    if (peer->last_id > 0)
        send_kind(peer, MESH_END, id);
}

static void leave(struct peer *peer)
{
    send_kind(peer, MESH_BYE, 0);
    while (peer->out.first)
        sim_arrive(peer);
    sim_disconnect(peer, chance(50));
}

void worker_acts(struct peer *peer)
{
    struct process *process = peer->process;

    if (process->ghosts > 0 && chance(20))
        process->ghosts--;
    if (!peer->registered)
        return;
    if (chance(3) && !peer->draining) {
        peer->draining = true;
        send_kind(peer, MESH_DRAIN, 0);
    } else if (chance(5) && !peer->draining) {
        if (chance(50) && peer->share > 0)
            tell_share(peer, peer->share - 1);
        else
            shift_to(peer);
    } else if (chance(3)) {
        forge(peer);
    } else if (peer->draining && peer->n_running == 0 && chance(50)) {
        leave(peer);
    } else if (peer->n_running > 0) {
        work(peer);
    }
}
