#include "tests/broker/sim/sim.h"

#include <stdlib.h>
#include <string.h>

struct sim sim;

uint64_t draw(void) /* xorshift64* */
{
    sim.random ^= sim.random >> 12;
    sim.random ^= sim.random << 25;
    sim.random ^= sim.random >> 27;
    return sim.random * 0x2545F4914F6CDD1Du;
}

uint64_t below(uint64_t n)
{
    return (draw() >> 11) % n;
}

bool chance(unsigned percent)
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

struct flight *line_get(struct line *line)
{
    struct flight *flight = line->first;

    if (!flight)
        return NULL;
    line->first = flight->next;
    if (!line->first)
        line->last = &line->first;
    return flight;
}

void line_clear(struct line *line)
{
    for (struct flight *flight; (flight = line_get(line));) {
        mesh_message_close(&flight->message);
        free(flight);
    }
    line->last = &line->first;
}

static struct peer *peer_of(int broker, enum broker_side side, uint32_t route)
{
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected && sim.peers[i].route == route && sim.peers[i].side == side &&
            sim.peers[i].broker == broker)
            return &sim.peers[i];
    return NULL;
}

/* ---- the brokers' turns ---------------------------------------------------------------------- */

static void lose_calls(const struct peer *peer)
{
    for (size_t i = 0; i < sim.n_calls && peer->side == BROKER_FRONT; i++)
        if (sim.calls[i].caller == peer->route)
            sim.calls[i].lost = true;
}

static void send_off(int broker, struct broker_message *action)
{
    struct peer *peer = peer_of(broker, action->side, action->message.peer);
    struct flight *flight = NULL;
    struct mesh_frame frame;

    if (peer && action->action == BROKER_FORGET)
        lose_calls(peer);
    if (!peer || !action->filled)
        return;
    mesh_message_frame(&action->message, &frame);
    if (frame.header.kind == MESH_ERROR) /* its session is over, though it does not know yet */
        lose_calls(peer);
    check_sent(peer, &frame);
    flight = calloc(1, sizeof(*flight));
    mesh_message_move(&flight->message, &action->message);
    action->filled = false;
    line_put(&peer->in, flight);
}

void sim_step(int broker, const struct broker_event *event)
{
    struct broker_core *core = sim.cores[broker];
    struct broker_message *action = broker_core_step(core, event, sim.now_ns);

    while (action) {
        struct broker_message *next = action->next;

        send_off(broker, action);
        broker_core_recycle(core, action);
        action = next;
    }
    check_core(broker);
}

void sim_tick_until(int64_t until_ns)
{
    struct broker_event tick = {.kind = BROKER_TICK};

    for (;;) {
        int first = 0;
        int64_t next;

        for (int i = 1; i < BROKERS; i++)
            if (broker_core_next_ns(sim.cores[i]) < broker_core_next_ns(sim.cores[first]))
                first = i;
        next = broker_core_next_ns(sim.cores[first]);
        if (next > until_ns)
            break;
        if (next > sim.now_ns)
            sim.now_ns = next;
        sim_step(first, &tick);
    }
    sim.now_ns = until_ns;
    check_deadlines();
}

/* The deadline counts from here on: the wire carries what is left. */
static void note_arrival(struct peer *peer, const struct mesh_header *header)
{
    struct sim_call *call = header->kind == MESH_OPEN && peer->side == BROKER_FRONT
                                ? call_of_id(header->call_id)
                                : NULL;

    if (header->kind == MESH_HELLO) {
        peer->born_ns = sim.now_ns;
        peer->aged = false;
    }
    if (call)
        call->arrived = true;
    if (call && call->timeout_ns != 0)
        call->deadline_ns = sim.now_ns + call->timeout_ns;
}

void sim_arrive(struct peer *peer)
{
    struct flight *flight = line_get(&peer->out);
    struct broker_message *message = NULL;
    struct mesh_frame frame;
    struct broker_event event = {
        .kind = BROKER_MESSAGE, .side = peer->side, .peer = peer->route, .frame = &frame};

    if (!flight)
        return;
    message = broker_core_blank(sim.cores[peer->broker]);
    mesh_message_move(&message->message, &flight->message);
    free(flight);
    message->filled = true;
    message->message.peer = peer->route;
    mesh_message_frame(&message->message, &frame);
    note_arrival(peer, &frame.header);
    event.message = message;
    sim_step(peer->broker, &event);
}

/* ---- what peers send ------------------------------------------------------------------------- */

void send_built(struct peer *peer, const struct mesh_header *header, const mesh_meta *meta,
                const ProtobufCMessage *body)
{
    struct flight *flight = calloc(1, sizeof(*flight));

    assert_int_equal(mesh_message_build(header, meta, body, false, &flight->message), 0);
    line_put(&peer->out, flight);
    peer->spoke_ns = sim.now_ns;
}

void send_token(struct peer *peer, struct mesh_header *header, const mesh_meta *meta,
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

void send_kind(struct peer *peer, uint8_t kind, uint64_t id)
{
    struct mesh_header header = {.kind = kind, .call_id = id};

    send_built(peer, &header, NULL, NULL);
}

void send_hello(struct peer *peer)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};

    hello.version_min = hello.version_max = 1;
    hello.name = (char *)"sim";
    hello.heartbeat_ms = BEAT_MS;
    send_built(peer, &header, NULL, &hello.base);
}

uint64_t token_of(const struct mesh_frame *frame)
{
    uint64_t token = 0;

    check(frame->body_size >= sizeof(token));
    memcpy(&token, frame->body, sizeof(token));
    return token;
}

/* ---- connections ----------------------------------------------------------------------------- */

void sim_connect(struct peer *peer, int broker)
{
    struct process *process = peer->process;
    enum broker_side side = peer->side;

    *peer = (struct peer){.side = side,
                          .broker = broker,
                          .connected = true,
                          .route = ++sim.next_route,
                          .process = process};
    peer->in.last = &peer->in.first;
    peer->out.last = &peer->out.first;
    send_hello(peer);
    if (side == BROKER_BACK)
        sim_register(peer);
}

/* The connection is gone: what it carried is too, and what the caller knew. */
void sim_disconnect(struct peer *peer, bool noticed)
{
    struct broker_event event = {
        .kind = BROKER_LOST, .side = peer->side, .peer = peer->route, .why = "it was cut"};

    line_clear(&peer->in);
    line_clear(&peer->out);
    peer->connected = false;
    lose_calls(peer);
    if (peer->side == BROKER_BACK)
        sim_worker_lost(peer);
    if (noticed)
        sim_step(peer->broker, &event);
}
