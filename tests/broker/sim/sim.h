/*
 * sim.h - two brokers, their callers and workers, and the network between, all in virtual time
 *
 * Everything is drawn from one seed. Peers come, go, lie and fall silent; what they send arrives late, and
 * messages of different connections overtake each other. After every step the invariants I1 to I6, I8 and
 * I10 of docs/testing.md are checked where they can be seen: at the brokers' edges, not inside.
 */
#ifndef TESTS_BROKER_SIM_H
#define TESTS_BROKER_SIM_H

#include "base/status.h"
#include "broker/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BROKERS 2
#define CALLERS 3
#define WORKERS 3 /* processes; each may have a session with each broker */
#define PEERS (CALLERS + WORKERS * BROKERS)
#define CALLS_MAX 512 /* of one schedule */
#define IDS_MAX (4 * CALLS_MAX)
#define RUNNING_MAX 16 /* of one worker at one broker */
#define CAPACITY_MAX 4
#define QUEUE_LIMIT 6
#define QUEUE_BYTES 60000
#define CALL_BYTES_MAX 31000
#define BEAT_MS 100
#define MS ((int64_t)1000000)
#define AGE_MS 200         /* of a caller's session, where there is a limit */
#define GRACE_NS (10 * MS) /* of an END after its deadline */

/* A message on its way, either direction. */
struct flight {
    struct flight *next;
    struct mesh_message message;
};

struct line {
    struct flight *first, **last;
};

/* One side's word of how much the other may send it, and what the other has heard of it. */
struct grant {
    uint32_t given, heard;
};

/* What is known of a call; its token rides in every body and must come back. */
struct sim_call {
    uint32_t caller; /* its connection */
    uint64_t id, token;
    int64_t timeout_ns; /* 0: none */
    int64_t
        deadline_ns; /* from its arrival at the broker; MESH_NEVER before that, and without one */
    bool idempotent, stream, waits, watch, arrived, accepted, finished;
    bool lost;      /* with its caller's session */
    bool refused;   /* its END says that nothing has run */
    int64_t end_ns; /* when the broker sent its END; 0: not yet */
    int ends, runs;
    unsigned attempts;     /* a bit each */
    uint32_t n_up, n_down; /* messages sent by the caller; received by it */
    struct grant down, up; /* the caller's grant to the worker; the worker's to the caller */
};

struct sim_running {
    uint64_t id, token;
    bool stream, accepted;
    uint32_t n_up, n_down;
    uint32_t heard;   /* of what it may send */
    uint32_t granted; /* to the caller */
};

/* A connection to one broker. */
struct peer {
    enum broker_side side;
    int broker;
    uint32_t route; /* routing id, another one for each connection */
    bool connected, silent;
    struct line out, in; /* to the broker, from it */
    int64_t spoke_ns;
    /* a caller's */
    int64_t born_ns; /* when its HELLO arrived */
    bool aged;       /* it was asked to come anew */
    /* a worker's */
    struct process *process;
    uint64_t last_id;
    bool registered, draining, drained;
    uint32_t share, believed; /* slots told last; the most that the broker may still think of */
    uint64_t asked;           /* the PING after which it does not */
    struct sim_running running[RUNNING_MAX];
    size_t n_running;
};

/* A worker: it shares its slots out among the brokers, and runs no more calls than it has. */
struct process {
    uint32_t capacity;
    bool several;    /* it has both brokers, else one */
    bool strict;     /* it takes nothing above its share even if the OPEN was under way before */
    uint32_t ghosts; /* runs of lost sessions that have not stopped yet */
    const char *pair;
    struct peer *peers[BROKERS];
};

struct sim {
    uint64_t seed, random;
    struct broker_core *cores[BROKERS];
    int64_t now_ns;
    uint32_t next_route;
    uint64_t next_id, next_ping;
    struct peer peers[PEERS];
    struct process processes[WORKERS];
    struct sim_call calls[CALLS_MAX];
    size_t n_calls;
    struct sim_call *by_id[IDS_MAX];
    uint64_t bounced[BROKERS]; /* in this schedule */
    uint64_t n_ends, n_ok, n_runs, n_bounced, n_moved,
        n_aged; /* over all schedules: that things happen */
};

extern struct sim sim;

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %llu: not true: %s", (unsigned long long)sim.seed, #condition);         \
    } while (0)

/* ---- sim_net.c ---- */

uint64_t draw(void);
uint64_t below(uint64_t n);
bool chance(unsigned percent);
struct flight *line_get(struct line *line);
void line_clear(struct line *line);
/* One broker's turn. */
void sim_step(int broker, const struct broker_event *event);
void sim_tick_until(int64_t until_ns);
/* What a peer sent first arrives. */
void sim_arrive(struct peer *peer);
void sim_connect(struct peer *peer, int broker);
void sim_disconnect(struct peer *peer, bool noticed);
void send_built(struct peer *peer, const struct mesh_header *header, const mesh_meta *meta,
                const ProtobufCMessage *body);
/* With a body that holds the token, and bulk behind it. */
void send_token(struct peer *peer, struct mesh_header *header, const mesh_meta *meta,
                uint64_t token, size_t bulk);
void send_kind(struct peer *peer, uint8_t kind, uint64_t id);
void send_hello(struct peer *peer);
uint64_t token_of(const struct mesh_frame *frame);

/* ---- sim_check.c ---- */

/* A step of a broker is over. */
void check_core(int broker);
/* What a broker sends, as it sends it. */
void check_sent(struct peer *to, const struct mesh_frame *frame);
/* Time has passed: nobody waits longer than its deadline. */
void check_deadlines(void);
/* No worker runs more than it has slots, over all its brokers. */
void check_slots(const struct process *process);
/* Nothing is under way: what was granted is what the other side knows. */
void check_grants(void);
/* A broker has stopped: it has ended all its calls. */
void check_stopped(int broker);
/* All is over: every call has ended, once, and nothing is left. */
void check_over(void);

/* ---- sim_caller.c ---- */

struct sim_call *call_of_id(uint64_t id);
struct sim_call *call_of_token(uint64_t token);
void caller_acts(struct peer *peer);
void caller_reads(struct peer *peer, const struct mesh_frame *frame);
void caller_cancel_all(void);

/* ---- sim_worker.c ---- */

void process_init(struct process *process);
/* A session with a broker begins. */
void sim_register(struct peer *peer);
void worker_acts(struct peer *peer);
void worker_reads(struct peer *peer, const struct mesh_frame *frame);
void sim_worker_lost(struct peer *peer);
void worker_ends(struct peer *peer, size_t i);
/* From now on it has slots for both brokers. */
void process_grow(struct process *process);

#endif
