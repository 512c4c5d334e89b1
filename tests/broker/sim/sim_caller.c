#include "tests/broker/sim/sim.h"

#define TOKEN_INDEX_BITS 10
#define GRANT_FIRST 2

static const char *const PAIRS[] = {"en-pt", "pt-en", "en-es"};

struct sim_call *call_of_id(uint64_t id)
{
    return id < IDS_MAX ? sim.by_id[id] : NULL;
}

struct sim_call *call_of_token(uint64_t token)
{
    struct sim_call *call = &sim.calls[token & ((1u << TOKEN_INDEX_BITS) - 1)];

    check(call < sim.calls + sim.n_calls && call->token == token); /* I5 */
    return call;
}

/* ---- opening --------------------------------------------------------------------------------- */

static struct sim_call *new_call(struct peer *peer)
{
    struct sim_call *call = &sim.calls[sim.n_calls];
    uint64_t token = draw() << TOKEN_INDEX_BITS | sim.n_calls;

    if (sim.n_calls == CALLS_MAX || sim.next_id + 4 >= IDS_MAX)
        return NULL;
    sim.n_calls++;
    sim.next_id += 1 + below(3);
    *call = (struct sim_call){
        .caller = peer->route, .id = sim.next_id, .token = token, .deadline_ns = MESH_NEVER};
    sim.by_id[call->id] = call;
    return call;
}

static uint16_t flags_of(const struct sim_call *call)
{
    return (uint16_t)((call->stream ? 0 : MESH_END_SEND) |
                      (call->idempotent ? MESH_IDEMPOTENT : 0) | (call->waits ? MESH_WAIT : 0));
}

static void open_call(struct peer *peer)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__Label wanted = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *selector[] = {&wanted};
    struct mesh_header header = {.kind = MESH_OPEN, .seq = 1};
    char *values[] = {(char *)PAIRS[below(3)]};
    char tenant[2] = {(char)('a' + below(3)), '\0'};
    struct sim_call *call = new_call(peer);

    if (!call)
        return;
    call->idempotent = chance(30);
    call->stream = chance(40);
    call->waits = chance(20);
    call->finished = !call->stream;
    call->n_up = 1;
    call->down.given = GRANT_FIRST;
    if (chance(50))
        call->timeout_ns = header.timeout_ns = (int64_t)below(200) * MS + 1;
    header.call_id = call->id;
    header.method_hash = mesh_method_hash("/sim.Echo/Say", 13);
    header.credit_messages = GRANT_FIRST;
    header.credit_bytes = 1 << 20;
    header.flags = flags_of(call);
    if (chance(60)) {
        header.flags |= MESH_ROUTE;
        wanted.key = (char *)"pair";
        wanted.values = values;
        wanted.n_values = 1;
        meta.selector = selector;
        meta.n_selector = chance(70);
        meta.tenant = tenant;
        meta.affinity = chance(20) ? tenant : meta.affinity;
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
    struct sim_call *call = new_call(peer);

    if (!call)
        return;
    call->watch = call->waits = call->finished = true;
    call->down.given = header.credit_messages = (uint32_t)below(5);
    header.call_id = call->id;
    header.method_hash = mesh_method_hash(PATH, sizeof(PATH) - 1);
    meta.method = (char *)PATH;
    send_built(peer, &header, &meta, &request.base);
}

/* What was before is forgotten at both ends. */
static void start_over(struct peer *peer)
{
    while (peer->out.first)
        sim_arrive(peer);
    for (size_t i = 0; i < sim.n_calls; i++)
        if (sim.calls[i].caller == peer->route)
            sim.calls[i].lost = true;
    line_clear(&peer->in);
    send_hello(peer);
    sim_arrive(peer);
    line_clear(&peer->in); /* its answer may still be for an old call: as a caller would, drop it */
}

/* ---- what a caller does ---------------------------------------------------------------------- */

static void send_message(struct peer *peer, struct sim_call *call)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call->id, .seq = call->n_up + 1};

    if (call->finished || !call->accepted || call->n_up > call->up.heard) /* OPEN's is free */
        return;
    call->n_up++;
    send_token(peer, &header, NULL, call->token, 0);
}

static void send_credit(struct peer *peer, struct sim_call *call)
{
    struct mesh_header header = {.kind = MESH_CREDIT, .call_id = call->id, .credit_bytes = 1 << 20};

    if (chance(10)) { /* less than before takes no credit back */
        header.credit_messages = call->down.given / 2;
    } else {
        call->down.given += (uint32_t)below(3);
        header.credit_messages = call->down.given;
    }
    send_built(peer, &header, NULL, NULL);
}

static void finish_sending(struct peer *peer, struct sim_call *call)
{
    struct mesh_header header = {
        .kind = MESH_DATA, .flags = MESH_END_SEND, .call_id = call->id, .seq = call->n_up};

    if (call->finished)
        return;
    call->finished = true;
    send_built(peer, &header, NULL, NULL);
}

/* One of those that it has not seen end; most likely a late one. */
static struct sim_call *own_call(const struct peer *peer)
{
    for (int i = 0; i < 12 && sim.n_calls > 0; i++) {
        uint64_t back = below(sim.n_calls < 40 ? sim.n_calls : 40);
        struct sim_call *call = &sim.calls[sim.n_calls - 1 - back];

        if (call->caller == peer->route && !call->lost && call->ends == 0)
            return call;
    }
    return NULL;
}

void caller_acts(struct peer *peer)
{
    struct sim_call *call = own_call(peer);

    if (chance(3)) {
        start_over(peer);
        return;
    }
    if (peer->aged && !call) { /* it does; whoever is there takes its calls then */
        send_kind(peer, MESH_BYE, 0);
        while (peer->out.first)
            sim_arrive(peer);
        sim_disconnect(peer, chance(50));
        return;
    }
    if (!call || chance(30)) {
        if (chance(5))
            open_watch(peer);
        else
            open_call(peer);
        return;
    }
    switch (below(9)) {
    case 0:
        send_kind(peer, MESH_CANCEL, call->id);
        break;
    case 1:
    case 2:
        send_credit(peer, call);
        break;
    case 3:
        finish_sending(peer, call);
        break;
    default:
        send_message(peer, call);
        break;
    }
}

void caller_cancel_all(void)
{
    for (size_t i = 0; i < PEERS; i++)
        for (size_t j = 0; sim.peers[i].connected && j < sim.n_calls; j++)
            if (sim.calls[j].caller == sim.peers[i].route && sim.peers[i].side == BROKER_FRONT &&
                !sim.calls[j].lost && sim.calls[j].ends == 0)
                send_kind(&sim.peers[i], MESH_CANCEL, sim.calls[j].id);
}

/* ---- what it hears --------------------------------------------------------------------------- */

static void hear_end(struct sim_call *call, const struct mesh_frame *frame)
{
    call->ends++;
    sim.n_ends++;
    if (call->refused)
        check(call->runs == 0); /* I3: who sends it again may rely on that */
    if (frame->header.status != STATUS_OK)
        return;
    sim.n_ok++;
    check(token_of(frame) == call->token); /* I5 */
    check(call->runs > 0);
    check(frame->header.seq == call->n_down + 1); /* I4 */
}

void caller_reads(struct peer *peer, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct sim_call *call = NULL;

    if (header->kind < MESH_OPEN)
        return;
    call = call_of_id(header->call_id);
    check(call && call->caller == peer->route); /* I5 */
    check(call->ends == 0);                     /* I1 */
    switch (header->kind) {
    case MESH_ACCEPT:
    case MESH_CREDIT:
        call->accepted = true;
        check(header->credit_messages <= call->up.given); /* I10 */
        if (header->credit_messages > call->up.heard)
            call->up.heard = header->credit_messages;
        break;
    case MESH_DATA:
        check(header->seq == ++call->n_down);                 /* I4 */
        check(call->n_down <= call->down.given);              /* I10 */
        check(call->watch || token_of(frame) == call->token); /* I5 */
        break;
    case MESH_END:
        hear_end(call, frame);
        break;
    default:
        break;
    }
}
