/*
 * Random schedules against two brokers: callers and workers come, go, lie and fall silent, messages of
 * different peers overtake each other, workers lend their slots to and fro, time jumps. A failure prints its
 * seed, which DRAGOMAN_SEED runs again alone; DRAGOMAN_SCHEDULES runs another number of them.
 */
#include "base/log.h"
#include "tests/broker/sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers take fifteen times as long: they see a tenth of the schedules. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SCHEDULES 10000
#else
#define SCHEDULES 100000
#endif
#define STEPS 400
#define SETTLE_MS 60
#define LONG_MS 5500 /* longer than a worker may ignore its CANCEL, or rest for its failures */

/* ---- one schedule ---------------------------------------------------------------------------- */

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
        sim_disconnect(peer, false);
    } else if (peer->side == BROKER_FRONT) {
        caller_reads(peer, &frame);
    } else {
        worker_reads(peer, &frame);
    }
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
        send_kind(peer, MESH_PING, 0);
        while (peer->out.first)
            sim_arrive(peer);
    }
}

static void pass_time(int64_t ms)
{
    for (int64_t until = sim.now_ns + ms * MS; sim.now_ns < until;) {
        int64_t next = sim.now_ns + BEAT_MS * MS / 2;

        sim_tick_until(next < until ? next : until);
        beat();
    }
}

static void come(struct peer *peer)
{
    size_t i = (size_t)(peer - sim.peers);

    if (peer->side == BROKER_FRONT) {
        sim_connect(peer, (int)below(BROKERS));
        return;
    }
    peer->process = &sim.processes[(i - CALLERS) / BROKERS];
    if (peer->process->several || (i - CALLERS) % BROKERS == 0)
        sim_connect(peer, (int)((i - CALLERS) % BROKERS));
}

static void make_broker(int broker)
{
    struct broker_core_options options = {.queue_limit = QUEUE_LIMIT,
                                          .queue_bytes = QUEUE_BYTES,
                                          .max_message_bytes = 1 << 20,
                                          .heartbeat_ms = BEAT_MS,
                                          .settle_ms = chance(30) ? SETTLE_MS : 0,
                                          .max_session_age_ms = chance(50) ? AGE_MS : 0,
                                          .seed = draw()};

    assert_int_equal(broker_core_create(&options, sim.now_ns, &sim.cores[broker]), 0);
}

/* It drains; or it goes, with a word or without, and another one comes in its place. */
static void broker_fault(int broker)
{
    struct broker_event event = {.kind = BROKER_DRAIN};

    if (chance(60)) {
        sim_step(broker, &event);
        return;
    }
    if (chance(50)) {
        event.kind = BROKER_STOP;
        sim_step(broker, &event);
        check_stopped(broker);
    }
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected && sim.peers[i].broker == broker)
            sim_disconnect(&sim.peers[i], false);
    broker_core_destroy(&sim.cores[broker]);
    make_broker(broker);
}

static void fault(struct peer *peer)
{
    struct broker_event rubbish = {
        .kind = BROKER_RUBBISH, .side = peer->side, .peer = peer->route, .error = -EBADMSG};

    if (chance(4)) {
        sim_step(peer->broker, &rubbish);
        sim_disconnect(peer, chance(50)); /* it is told, and goes */
    } else if (chance(8)) {
        sim_disconnect(peer, chance(80)); /* if not, its heartbeats tell */
    } else if (chance(5)) {
        peer->silent = true;
    } else if (chance(2)) {
        broker_fault(peer->broker);
    }
}

static void one_step(void)
{
    struct peer *peer = &sim.peers[below(PEERS)];

    if (!peer->connected) {
        if (chance(20))
            come(peer);
        return;
    }
    switch (below(12)) {
    case 0:
        pass_time(chance(1) ? LONG_MS : (int64_t)below(30));
        break;
    case 1:
        fault(peer);
        break;
    case 2:
    case 3:
    case 4:
        sim_arrive(peer);
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

/* ---- its end --------------------------------------------------------------------------------- */

/* A silent peer cannot end anything: it is gone by now, or goes. */
static void cut_the_silent(void)
{
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected && sim.peers[i].silent)
            sim_disconnect(&sim.peers[i], false);
    pass_time(5 * BEAT_MS);
}

/* All that is under way arrives. @return whether there was something */
static bool deliver_all(void)
{
    bool busy = false;

    for (size_t i = 0; i < PEERS; i++) {
        struct peer *peer = &sim.peers[i];

        while (peer->connected && (peer->out.first || peer->in.first)) {
            sim_arrive(peer);
            read_one(peer);
            busy = true;
        }
    }
    return busy;
}

static bool end_all(void)
{
    bool busy = false;

    for (size_t i = 0; i < PEERS; i++)
        while (sim.peers[i].connected && sim.peers[i].n_running > 0) {
            worker_ends(&sim.peers[i], 0);
            busy = true;
        }
    return busy;
}

static void settle(void)
{
    for (int round = 0; round < 400; round++) {
        if (deliver_all())
            continue;
        check_grants();
        if (!end_all())
            return;
    }
    fail_msg("seed %llu: messages never end", (unsigned long long)sim.seed);
}

/* Deadlines pass, workers finish, who waits for workers that never come cancels: then all is over. */
static void finish(void)
{
    cut_the_silent();
    for (size_t i = 0; i < WORKERS; i++)
        process_grow(&sim.processes[i]);
    settle();
    pass_time(300);
    settle();
    for (size_t i = 0; i < sim.n_calls; i++)
        check(sim.calls[i].lost || sim.calls[i].ends == 1 ||
              (sim.calls[i].waits && sim.calls[i].deadline_ns == MESH_NEVER));
    caller_cancel_all();
    settle();
    check_over();
}

static void begin(uint64_t seed)
{
    sim.seed = seed;
    sim.random = seed * 0x9E3779B97F4A7C15u + 1;
    sim.now_ns = 1000 * MS;
    sim.n_calls = 0;
    sim.next_route = 0;
    sim.next_id = sim.next_ping = 0;
    memset(sim.bounced, 0, sizeof(sim.bounced));
    memset(sim.by_id, 0, sizeof(sim.by_id));
    for (int i = 0; i < BROKERS; i++)
        make_broker(i);
    for (size_t i = 0; i < WORKERS; i++)
        process_init(&sim.processes[i]);
    for (size_t i = 0; i < PEERS; i++) {
        sim.peers[i] = (struct peer){.side = i < CALLERS ? BROKER_FRONT : BROKER_BACK};
        come(&sim.peers[i]);
    }
}

static void run_schedule(uint64_t seed)
{
    begin(seed);
    for (int i = 0; i < STEPS; i++)
        one_step();
    finish();
    for (size_t i = 0; i < PEERS; i++)
        if (sim.peers[i].connected) {
            line_clear(&sim.peers[i].in);
            line_clear(&sim.peers[i].out);
        }
    for (int i = 0; i < BROKERS; i++)
        broker_core_destroy(&sim.cores[i]);
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
    print_message("%llu schedules, %d without sanitizers\n", (unsigned long long)n, 100000);
    for (uint64_t seed = 1; seed <= n; seed++)
        run_schedule(seed);
    print_message(
        "%llu calls ran, %llu ended, %llu with OK; %llu came back, %llu slots were lent\n",
        (unsigned long long)sim.n_runs, (unsigned long long)sim.n_ends,
        (unsigned long long)sim.n_ok, (unsigned long long)sim.n_bounced,
        (unsigned long long)sim.n_moved);
    assert_true(sim.n_ok > n); /* the schedules are not empty */
    assert_true(sim.n_ends > 2 * sim.n_ok);
    assert_true(sim.n_bounced > n / 100);
    assert_true(sim.n_moved > n / 2);
    assert_true(sim.n_aged > n / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(invariants_hold)};

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
