/*
 * Random schedules against the core: callers and workers come, go, lie and fall silent, messages of
 * different peers overtake each other, time jumps. After every step the invariants of docs/broker.md
 * are checked; a failure prints its seed, which DRAGOMAN_SEED runs again alone.
 */
#include "base/log.h"
#include "base/status.h"
#include "broker/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SCHEDULES 20000
#define STEPS 300
#define CALLERS 3
#define WORKERS 4
#define PEERS (CALLERS + WORKERS)
#define CALLS_MAX 512  /* of one schedule */
#define RUNNING_MAX 16 /* of one worker */
#define QUEUE_LIMIT 6
#define QUEUE_BYTES 60000
#define CALL_BYTES_MAX 31000
#define RETURNED_MAX (WORKERS * 4) /* waiting calls that a slot was lent away from */
#define BEAT_MS 100
#define MS ((int64_t)1000000)

/* A message on its way, either direction. */
struct flight {
    struct flight *next;
    struct mesh_message message;
};

struct line {
    struct flight *first, **last;
};

/* What a caller knows of a call; its token rides in the body and must come back. */
struct sim_call {
    uint32_t caller;
    uint64_t id, token;
    int64_t deadline_ns;                         /* MESH_NEVER: none */
    bool idempotent, stream, waits, watch, lost; /* lost: with its session */
    uint32_t credit;                             /* messages that a watch may send */
    int ends, runs;
    unsigned attempts; /* a bit each */
    uint32_t n_data;
};

struct sim_running {
    uint64_t id, token;
    bool stream, accepted;
    uint32_t n_data;
};

struct peer {
    enum broker_side side;
    uint32_t route; /* routing id, another one for each connection */
    bool connected, silent;
    struct line out, in; /* to the broker, from it */
    int64_t spoke_ns;
    uint64_t last_id;
    /* a worker's */
    bool registered, draining;
    uint32_t capacity, greatest_capacity;
    const char *pair;
    struct sim_running running[RUNNING_MAX];
    size_t n_running;
};

static struct {
    uint64_t seed, random;
    struct broker_core *core;
    int64_t now_ns;
    uint32_t next_route;
    struct peer peers[PEERS];
    struct sim_call calls[CALLS_MAX];
    size_t n_calls;
    uint64_t n_ends, n_ok, n_runs,
        n_bounced; /* over all schedules: that something happens at all */
} sim;

static const char *const PAIRS[] = {"en-pt", "pt-en", "en-es"};

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %llu: not true: %s", (unsigned long long)sim.seed, #condition);         \
    } while (0)

static uint64_t draw(void) /* xorshift64* */
{
    sim.random ^= sim.random >> 12;
    sim.random ^= sim.random << 25;
    sim.random ^= sim.random >> 27;
    return sim.random * 0x2545F4914F6CDD1Du;
}

static uint64_t below(uint64_t n)
{
    return (draw() >> 11) % n;
}

static bool chance(unsigned percent)
{
    return below(100) < percent;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static void line_put(struct line *line, struct flight *flight)
{
    flight->next = NULL;
    *line->last = flight;
    line->last = &flight->next;
}

static struct flight *line_get(struct line *line)
{
    struct flight *flight = line->first;

    if (!flight)
        return NULL;
    line->first = flight->next;
    if (!line->first)
        line->last = &line->first;
    return flight;
}

static void line_clear(struct line *line)
{
    for (struct flight *flight; (flight = line_get(line));) {
        mesh_message_close(&flight->message);
        free(flight);
    }
    line->last = &line->first;
}

static struct peer *peer_of(enum broker_side side, uint32_t route)
{
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected && sim.peers[i].side == side && sim.peers[i].route == route)
            return &sim.peers[i];
    return NULL;
}

/* ---- the broker's turn ----------------------------------------------------------------------- */

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

static void check_core(void)
{
    const struct worker *worker = NULL;
    uint64_t held = 0;

    LIST_FOREACH (worker, &sim.core->registry.workers, link)
        held += worker->running;
    for (const struct service *service = sim.core->registry.first; service;
         service = service->next) {
        check(service->queue.count <= QUEUE_LIMIT + RETURNED_MAX);
        check(service->queue.bytes <= QUEUE_BYTES + RETURNED_MAX * CALL_BYTES_MAX);
        held -= service->n_running;
        check_pools(service);
    }
    check(held == 0);
}

static void step(const struct broker_event *event)
{
    struct broker_message *action = broker_core_step(sim.core, event, sim.now_ns);

    while (action) {
        struct broker_message *next = action->next;
        struct peer *peer = peer_of(action->side, action->message.peer);

        if (peer && action->filled) {
            struct flight *flight = calloc(1, sizeof(*flight));

            mesh_message_move(&flight->message, &action->message);
            action->filled = false;
            line_put(&peer->in, flight);
        }
        broker_core_recycle(sim.core, action);
        action = next;
    }
    check_core();
}

static void tick_until(int64_t until_ns)
{
    struct broker_event tick = {.kind = BROKER_TICK};
    int64_t next;

    while ((next = broker_core_next_ns(sim.core)) <= until_ns) {
        if (next > sim.now_ns)
            sim.now_ns = next;
        step(&tick);
        check(mesh_timers_next_ns(&sim.core->deadlines) > sim.now_ns);
    }
    sim.now_ns = until_ns;
}

/* What a peer sent first arrives. */
static void arrive(struct peer *peer)
{
    struct flight *flight = line_get(&peer->out);
    struct broker_message *message = NULL;
    struct mesh_frame frame;
    struct broker_event event = {
        .kind = BROKER_MESSAGE, .side = peer->side, .peer = peer->route, .frame = &frame};

    if (!flight)
        return;
    message = broker_core_blank(sim.core);
    mesh_message_move(&message->message, &flight->message);
    free(flight);
    message->filled = true;
    message->message.peer = peer->route;
    mesh_message_frame(&message->message, &frame);
    event.message = message;
    step(&event);
}

/* ---- what peers send ------------------------------------------------------------------------- */

static void send_built(struct peer *peer, const struct mesh_header *header, const mesh_meta *meta,
                       const ProtobufCMessage *body)
{
    struct flight *flight = calloc(1, sizeof(*flight));

    assert_int_equal(mesh_message_build(header, meta, body, false, &flight->message), 0);
    line_put(&peer->out, flight);
    peer->spoke_ns = sim.now_ns;
}

/* With a body that holds the token, and bulk behind it. */
static void send_token(struct peer *peer, struct mesh_header *header, const mesh_meta *meta,
                       uint64_t token, size_t bulk)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    struct mesh_frame frame;

    assert_int_equal(mesh_message_build(header, meta, NULL, false, &flight->message), 0);
    mesh_message_frame(&flight->message, &frame);
    header->meta_bytes = frame.header.meta_bytes;
    header->body_bytes = (uint32_t)(sizeof(token) + bulk);
    header->flags |= MESH_MESSAGE;
    mesh_message_set_header(&flight->message, header);
    zmq_msg_init_size(&flight->message.body, sizeof(token) + bulk);
    memset(zmq_msg_data(&flight->message.body), 0, sizeof(token) + bulk);
    memcpy(zmq_msg_data(&flight->message.body), &token, sizeof(token));
    flight->message.has_body = true;
    line_put(&peer->out, flight);
    peer->spoke_ns = sim.now_ns;
}

static void send_kind(struct peer *peer, uint8_t kind, uint64_t id)
{
    struct mesh_header header = {.kind = kind, .call_id = id};

    send_built(peer, &header, NULL, NULL);
}

static void send_hello(struct peer *peer)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};

    hello.version_min = hello.version_max = 1;
    hello.name = (char *)"sim";
    hello.heartbeat_ms = BEAT_MS;
    send_built(peer, &header, NULL, &hello.base);
}

static void send_register(struct peer *peer)
{
    Dragoman__Mesh__V1__Register offer = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer echo = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *services[] = {&echo};
    Dragoman__Mesh__V1__Label label = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *labels[] = {&label};
    struct mesh_header header = {.kind = MESH_REGISTER};
    char *methods[] = {(char *)"Say"};
    char *values[1];

    peer->capacity = (uint32_t)below(5); /* 0: lent to another broker */
    offer.capacity_total = chance(50) ? 4 : 0;
    peer->greatest_capacity = peer->capacity;
    peer->pair = PAIRS[below(3)];
    values[0] = (char *)peer->pair;
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
    offer.capacity = peer->capacity;
    send_built(peer, &header, NULL, &offer.base);
}

static void connect_peer(struct peer *peer)
{
    enum broker_side side = peer->side;

    *peer = (struct peer){.side = side, .connected = true, .route = ++sim.next_route};
    peer->in.last = &peer->in.first;
    peer->out.last = &peer->out.first;
    send_hello(peer);
    if (side == BROKER_BACK)
        send_register(peer);
}

/* The connection is gone: what it carried is too, and what the caller knew. */
static void disconnect(struct peer *peer, bool noticed)
{
    struct broker_event event = {
        .kind = BROKER_LOST, .side = peer->side, .peer = peer->route, .why = "it was cut"};

    line_clear(&peer->in);
    line_clear(&peer->out);
    peer->connected = false;
    for (size_t i = 0; i < sim.n_calls; i++)
        if (peer->side == BROKER_FRONT && sim.calls[i].caller == peer->route)
            sim.calls[i].lost = true;
    if (noticed)
        step(&event);
}

/* ---- callers --------------------------------------------------------------------------------- */

static void open_call(struct peer *peer)
{
    struct sim_call *call = &sim.calls[sim.n_calls];
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__Label wanted = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *selector[] = {&wanted};
    struct mesh_header header = {.kind = MESH_OPEN, .seq = 1};
    char *values[] = {(char *)PAIRS[below(3)]};
    char tenant[2] = {(char)('a' + below(3)), '\0'};

    if (sim.n_calls == CALLS_MAX)
        return;
    sim.n_calls++;
    peer->last_id += 1 + below(3);
    *call = (struct sim_call){.caller = peer->route, .id = peer->last_id, .token = draw()};
    call->idempotent = chance(30);
    call->stream = chance(40);
    call->waits = chance(20);
    call->deadline_ns = MESH_NEVER;
    header.call_id = call->id;
    header.method_hash = mesh_method_hash("/sim.Echo/Say", 13);
    if (chance(50)) {
        header.timeout_ns = (int64_t)below(200) * MS + 1;
        call->deadline_ns = sim.now_ns + header.timeout_ns; /* it may arrive later: no earlier */
    }
    header.flags =
        (uint16_t)((call->stream ? 0 : MESH_END_SEND) | (call->idempotent ? MESH_IDEMPOTENT : 0) |
                   (call->waits ? MESH_WAIT : 0));
    if (chance(60)) {
        header.flags |= MESH_ROUTE;
        wanted.key = (char *)"pair";
        wanted.values = values;
        wanted.n_values = 1;
        meta.selector = selector;
        meta.n_selector = chance(70);
        meta.tenant = tenant;
    }
    meta.method = (char *)"/sim.Echo/Say";
    send_token(peer, &header, &meta, call->token, below(4) == 0 ? below(30000) : 0);
}

/* A call that the broker answers itself, for as long as it lasts. */
static void open_watch(struct peer *peer)
{
    static const char PATH[] = "/dragoman.mesh.v1.Directory/Watch";
    Dragoman__Mesh__V1__DirectoryRequest request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_OPEN, .flags = MESH_END_SEND, .seq = 1, .credit_bytes = 1 << 20};
    struct sim_call *call = &sim.calls[sim.n_calls];

    if (sim.n_calls == CALLS_MAX)
        return;
    sim.n_calls++;
    *call = (struct sim_call){.caller = peer->route,
                              .id = ++peer->last_id,
                              .watch = true,
                              .waits = true,
                              .deadline_ns = MESH_NEVER};
    call->credit = header.credit_messages = (uint32_t)below(5);
    header.call_id = call->id;
    header.method_hash = mesh_method_hash(PATH, sizeof(PATH) - 1);
    meta.method = (char *)PATH;
    send_built(peer, &header, &meta, &request.base);
}

/* What was before is forgotten at both ends. */
static void start_over(struct peer *peer)
{
    for (size_t i = 0; i < sim.n_calls; i++)
        if (sim.calls[i].caller == peer->route)
            sim.calls[i].lost = true;
    while (peer->out.first)
        arrive(peer);
    line_clear(&peer->in);
    send_hello(peer);
    arrive(peer);
    line_clear(&peer->in); /* its answer may still be for an old call: as a caller would, drop it */
}

static struct sim_call *call_of(const struct peer *peer, uint64_t id)
{
    for (size_t i = 0; i < sim.n_calls; i++)
        if (sim.calls[i].caller == peer->route && sim.calls[i].id == id)
            return &sim.calls[i];
    return NULL;
}

static uint64_t token_of(const struct mesh_frame *frame)
{
    uint64_t token = 0;

    check(frame->body_size >= sizeof(token));
    memcpy(&token, frame->body, sizeof(token));
    return token;
}

static void caller_reads(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct sim_call *call = NULL;

    if (header->kind < MESH_OPEN)
        return;
    call = call_of(peer, header->call_id);
    check(call != NULL);
    check(call->ends == 0); /* nothing comes after END */
    if (header->kind == MESH_DATA) {
        check(header->seq == ++call->n_data);
        check(call->watch ? call->n_data <= call->credit : token_of(frame) == call->token);
    }
    if (header->kind != MESH_END)
        return;
    call->ends++;
    sim.n_ends++;
    if (header->status == STATUS_OK) {
        sim.n_ok++;
        check(token_of(frame) == call->token);
        check(call->runs > 0);
    }
}

static void caller_acts(struct peer *peer)
{
    struct sim_call *call = sim.n_calls ? &sim.calls[below(sim.n_calls)] : NULL;
    struct mesh_header header = {.kind = MESH_DATA, .flags = MESH_END_SEND, .seq = 1};

    if (chance(3)) {
        start_over(peer);
        return;
    }
    if (!call || chance(50)) {
        if (chance(5))
            open_watch(peer);
        else
            open_call(peer);
        return;
    }
    if (call->caller != peer->route || call->lost)
        return;
    header.call_id = call->id;
    switch (below(3)) {
    case 0:
        send_kind(peer, MESH_CANCEL, call->id);
        break;
    case 1:
        header.kind = MESH_CREDIT;
        header.flags = 0;
        header.credit_messages = call->credit = 100;
        send_built(peer, &header, NULL, NULL);
        break;
    case 2:
        if (call->stream)
            send_built(peer, &header, NULL, NULL);
        break;
    }
}

/* ---- workers --------------------------------------------------------------------------------- */

static void check_selector(const struct peer *peer, const struct mesh_frame *frame)
{
    mesh_meta *meta = NULL;

    assert_int_equal(mesh_meta_unpack(frame, &meta), 0);
    for (size_t i = 0; i < meta->n_selector; i++)
        check(strcmp(meta->selector[i]->values[0], peer->pair) == 0);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

static void worker_takes(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    uint64_t token = token_of(frame);

    check(header->call_id > peer->last_id);
    peer->last_id = header->call_id;
    check(!(peer->n_running >= peer->greatest_capacity));
    check(header->timeout_ns >= 0);
    check_selector(peer, frame);
    if (peer->n_running >= peer->capacity) { /* lent elsewhere while it was on its way */
        struct mesh_header bounce = {.kind = MESH_END,
                                     .flags = MESH_UNPROCESSED,
                                     .call_id = header->call_id,
                                     .status = STATUS_RESOURCE_EXHAUSTED};

        sim.n_bounced++;
        send_built(peer, &bounce, NULL, NULL);
        return;
    }
    peer->running[peer->n_running++] = (struct sim_running){
        .id = header->call_id, .token = token, .stream = !(header->flags & MESH_END_SEND)};
    sim.n_runs++;
    for (size_t i = 0; i < sim.n_calls; i++)
        if (sim.calls[i].token == token) {
            sim.calls[i].runs++;
            check(sim.calls[i].runs <= (sim.calls[i].idempotent ? 2 : 1));
            check(header->attempt <= 1); /* a dead one's first may be read after the second */
            check(!(sim.calls[i].attempts & 1u << header->attempt));
            sim.calls[i].attempts |= 1u << header->attempt;
        }
}

static void worker_reads(struct peer *peer, const struct mesh_frame *frame)
{
    switch (frame->header.kind) {
    case MESH_OPEN:
        worker_takes(peer, frame);
        break;
    case MESH_REGISTERED:
        peer->registered = true;
        break;
    case MESH_DRAINED:
        check(peer->draining);
        check(peer->n_running == 0);
        break;
    default:
        break;
    }
}

static void worker_ends(struct peer *peer, size_t i)
{
    struct sim_running *run = &peer->running[i];
    struct mesh_header header = {.kind = MESH_END, .call_id = run->id};

    if (chance(70)) {
        header.seq = run->n_data + 1;
        send_token(peer, &header, NULL, run->token, 0);
    } else {
        header.status = (uint16_t)(1 + below(16));
        send_built(peer, &header, NULL, NULL);
    }
    if (chance(5)) /* it lies: a second one */
        send_kind(peer, MESH_END, run->id);
    peer->running[i] = peer->running[--peer->n_running];
}

static void worker_works(struct peer *peer)
{
    size_t i = below(peer->n_running);
    struct sim_running *run = &peer->running[i];
    struct mesh_header header = {.kind = MESH_DATA, .call_id = run->id};

    switch (below(4)) {
    case 0:
        if (run->stream && !run->accepted)
            send_kind(peer, MESH_ACCEPT, run->id);
        run->accepted = true;
        break;
    case 1:
        header.seq = ++run->n_data;
        send_token(peer, &header, NULL, run->token, 0);
        break;
    default:
        worker_ends(peer, i);
        break;
    }
}

static void worker_acts(struct peer *peer)
{
    struct mesh_header capacity = {.kind = MESH_CAPACITY};

    if (!peer->registered)
        return;
    if (chance(3) && !peer->draining) {
        peer->draining = true;
        send_kind(peer, MESH_DRAIN, 0);
    } else if (chance(5)) {
        peer->capacity = capacity.credit_messages = (uint32_t)below(5);
        if (peer->capacity > peer->greatest_capacity)
            peer->greatest_capacity = peer->capacity;
        send_built(peer, &capacity, NULL, NULL);
    } else if (peer->draining && peer->n_running == 0 && chance(50)) {
        send_kind(peer, MESH_BYE, 0);
        while (peer->out.first)
            arrive(peer);
        disconnect(peer, chance(50));
    } else if (peer->n_running > 0) {
        worker_works(peer);
    }
}

/* ---- schedules ------------------------------------------------------------------------------- */

static void read_one(struct peer *peer)
{
    struct flight *flight = line_get(&peer->in);
    struct mesh_frame frame;

    if (!flight)
        return;
    mesh_message_frame(&flight->message, &frame);
    if (frame.header.kind == MESH_ERROR) {
        /* only that it was given up for dead while what it had sent was on its way */
        check(frame.header.status == STATUS_FAILED_PRECONDITION);
        disconnect(peer, false);
    } else if (peer->side == BROKER_FRONT)
        caller_reads(peer, &frame);
    else
        worker_reads(peer, &frame);
    mesh_message_close(&flight->message);
    free(flight);
}

/* Everyone who is not silent shows life in time. */
static void beat(void)
{
    for (size_t i = 0; i < PEERS; i++) {
        struct peer *peer = &sim.peers[i];

        if (!peer->connected || peer->silent || sim.now_ns - peer->spoke_ns < BEAT_MS * MS)
            continue;
        send_kind(peer, MESH_PING, 1);
        while (peer->out.first)
            arrive(peer);
    }
}

static void pass_time(int64_t ms)
{
    for (int64_t until = sim.now_ns + ms * MS; sim.now_ns < until;) {
        int64_t next = sim.now_ns + BEAT_MS * MS / 2;

        tick_until(next < until ? next : until);
        beat();
    }
}

static void one_step(void)
{
    struct peer *peer = &sim.peers[below(PEERS)];
    struct broker_event rubbish = {
        .kind = BROKER_RUBBISH, .side = peer->side, .peer = peer->route, .error = -EBADMSG};

    if (!peer->connected) {
        if (chance(20))
            connect_peer(peer);
        return;
    }
    switch (below(12)) {
    case 0:
        pass_time((int64_t)below(30));
        break;
    case 1:
        if (chance(4)) {
            step(&rubbish);
            disconnect(peer, chance(50)); /* it is told, and goes */
        } else if (chance(8))
            disconnect(peer, chance(80)); /* if not, its heartbeats tell */
        else if (chance(5))
            peer->silent = true;
        break;
    case 2:
    case 3:
    case 4:
        arrive(peer);
        break;
    case 5:
    case 6:
    case 7:
        read_one(peer);
        break;
    default:
        if (peer->silent)
            break;
        if (peer->side == BROKER_FRONT)
            caller_acts(peer);
        else
            worker_acts(peer);
        break;
    }
}

/* A silent peer cannot end anything: it is gone by now, or goes. */
static void wake_or_cut(void)
{
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected && sim.peers[i].silent)
            disconnect(&sim.peers[i], false);
    pass_time(5 * BEAT_MS);
}

/* Whoever had lent all its slots takes one back. */
static void lend_no_more(void)
{
    struct mesh_header capacity = {.kind = MESH_CAPACITY, .credit_messages = 1};

    for (size_t i = 0; i < PEERS; i++) {
        struct peer *peer = &sim.peers[i];

        if (peer->connected && peer->side == BROKER_BACK && peer->capacity == 0) {
            peer->capacity = 1;
            if (peer->greatest_capacity == 0)
                peer->greatest_capacity = 1;
            send_built(peer, &capacity, NULL, NULL);
        }
    }
}

static void settle(void)
{
    for (int round = 0; round < 200; round++) {
        bool busy = false;

        for (size_t i = 0; i < PEERS; i++) {
            struct peer *peer = &sim.peers[i];

            while (peer->connected && (peer->out.first || peer->in.first)) {
                arrive(peer);
                read_one(peer);
                busy = true;
            }
            while (peer->connected && peer->n_running > 0) {
                worker_ends(peer, 0);
                busy = true;
            }
        }
        if (!busy)
            return;
    }
    fail_msg("seed %llu: messages never end", (unsigned long long)sim.seed);
}

static void cancel_the_rest(void)
{
    for (size_t i = 0; i < sim.n_calls; i++) {
        struct sim_call *call = &sim.calls[i];
        struct peer *peer = peer_of(BROKER_FRONT, call->caller);

        if (peer && !call->lost && call->ends == 0)
            send_kind(peer, MESH_CANCEL, call->id);
    }
}

/* Deadlines pass, workers finish, who waits for workers that never come cancels: then all is over. */
static void finish(void)
{
    wake_or_cut();
    lend_no_more();
    settle();
    pass_time(300);
    settle();
    for (size_t i = 0; i < sim.n_calls; i++)
        check(sim.calls[i].lost || sim.calls[i].ends == 1 ||
              (sim.calls[i].waits && sim.calls[i].deadline_ns == MESH_NEVER));
    cancel_the_rest();
    settle();
    for (size_t i = 0; i < sim.n_calls; i++)
        check(sim.calls[i].lost || sim.calls[i].ends == 1);
    check(broker_core_idle(sim.core));
    check(sim.core->by_caller.count == 0);
    check(sim.core->by_id.count == 0);
    check(sim.core->kept_bytes == 0);
    check(sim.core->n_locals == 0 && sim.core->n_watching == 0);
    for (const struct service *service = sim.core->registry.first; service;
         service = service->next) {
        check(service->queue.count == 0 && service->queue.bytes == 0);
        check(service->queue.tenants.count == 0);
    }
}

static void run_schedule(uint64_t seed)
{
    struct broker_core_options options = {
        .queue_limit = QUEUE_LIMIT,
        .queue_bytes = QUEUE_BYTES,
        .max_message_bytes = 1 << 20,
        .heartbeat_ms = BEAT_MS,
        .seed = seed,
    };

    sim.seed = seed;
    sim.random = seed * 0x9E3779B97F4A7C15u + 1;
    sim.now_ns = 1000 * MS;
    sim.n_calls = 0;
    sim.next_route = 0;
    assert_int_equal(broker_core_create(&options, sim.now_ns, &sim.core), 0);
    for (size_t i = 0; i < PEERS; i++) {
        sim.peers[i].side = i < CALLERS ? BROKER_FRONT : BROKER_BACK;
        connect_peer(&sim.peers[i]);
    }
    for (int i = 0; i < STEPS; i++)
        one_step();
    finish();
    for (size_t i = 0; i < PEERS; i++) {
        line_clear(&sim.peers[i].in);
        line_clear(&sim.peers[i].out);
    }
    broker_core_destroy(&sim.core);
}

static void invariants_hold(void **state)
{
    const char *only = getenv("DRAGOMAN_SEED");
    const char *more = getenv("DRAGOMAN_SCHEDULES");
    uint64_t n = more ? strtoull(more, NULL, 10) : SCHEDULES;

    (void)state;
    if (only) {
        run_schedule(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= n; seed++)
        run_schedule(seed);
    print_message("%llu schedules: %llu calls ran, %llu ended, %llu with OK, "
                  "%llu came back\n",
                  (unsigned long long)n, (unsigned long long)sim.n_runs,
                  (unsigned long long)sim.n_ends, (unsigned long long)sim.n_ok,
                  (unsigned long long)sim.n_bounced);
    assert_true(sim.n_ok > n); /* the schedules are not empty */
    assert_true(sim.n_ends > 2 * sim.n_ok);
    assert_true(sim.n_bounced > n / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(invariants_hold)};

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
