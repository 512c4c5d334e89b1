/*
 * state.h - what the core's files share: sessions, calls, and the means to answer
 *
 * core.c has the step and message.c what it gives; session.c peers, worker.c what workers say of
 * themselves; open.c, router.c, dispatch.c, admission.c and orphan.c the life of a call, call.c what it
 * is; local.c the services that the broker answers itself.
 */
#ifndef BROKER_STATE_H
#define BROKER_STATE_H

#include "base/status.h"
#include "broker/core.h"
#include "broker/registry.h"
#include "mesh/deadline.h"
#include "mesh/heartbeat.h"

#include <stdarg.h>

#define SESSION_NAME_MAX 64

struct session {
    struct table_node by_peer;
    LIST_ENTRY(session) link;
    enum broker_side side;
    uint64_t peer;
    uint64_t serial; /* of all sessions; routing ids may come back, these do not */
    char name[SESSION_NAME_MAX], build[SESSION_NAME_MAX];
    size_t max_message_bytes; /* the smaller of both sides' */
    bool bundles;             /* it takes them */
    struct mesh_heartbeat beat;
    struct mesh_timer timer, age;   /* heartbeats; front: when it shall come anew */
    uint64_t last_id;               /* greatest call id: of the caller's, or sent to the worker */
    struct worker *worker;          /* back, once registered */
    struct mesh_identity *identity; /* owned; NULL: nobody in particular */
    struct calls calls;             /* front: those that have not ended */
};

struct local; /* what the broker knows of a call that it answers itself */

/* Waits (entry.lane), runs (worker) or is the broker's own (local). It has a caller until its END
 * is sent; a call without one only holds its worker's slot until the worker's END. */
struct call {
    struct table_node by_caller, by_id;
    LIST_ENTRY(call) of_caller, of_worker;
    struct session *caller;
    uint64_t caller_id, id; /* the caller's, and ours towards the worker */
    struct service *service;
    struct worker *worker;
    struct local *local;
    struct queue_entry entry;
    uint64_t affinity;           /* of its session's calls to a worker; 0: none */
    bool stuck;                  /* its worker has ignored CANCEL */
    struct mesh_header header;   /* of OPEN, as the worker gets it */
    struct broker_message *open; /* while it waits; then a copy, while it may be sent again */
    int64_t deadline_ns, arrived_ns, started_ns;
    unsigned n_bounced; /* workers that had lent its slot elsewhere */
    struct mesh_timer
        timer; /* of the deadline; then of the patience with a worker that is to stop */
};

LIST_HEAD(sessions, session);
LIST_HEAD(locals, local);

struct broker_core {
    struct broker_core_options options;
    uint32_t epoch;
    int64_t born_ns, now_ns; /* now: of the step that runs */
    int64_t settled_ns;      /* when workers have had the time to come; 0: they have */
    bool draining;
    struct registry registry;
    struct table by_peer, by_caller, by_id;
    struct sessions sessions;
    size_t n_sessions[2]; /* of each side */
    struct mesh_timers beats, ages, deadlines, healings;
    uint64_t next_serial, next_id;
    uint64_t n_calls; /* that wait or run */
    uint64_t n_started, n_ended;
    size_t kept_bytes; /* of copies for a second try */
    struct locals locals;
    size_t n_locals, n_watching;
    int64_t pushed_ns;        /* when watchers were last looked after */
    uint64_t pushed_version;  /* registry.version then */
    uint64_t pushed_activity; /* n_started + n_ended then */
    int64_t warned_ns;
    int64_t levels_ns; /* when the gauges were last set */
    bool levels_stale;
    struct broker_message *actions, **last_action; /* of the step that runs */
    struct broker_message *blanks;
    size_t n_blanks;
};

/* ---- message.c ---- */

/* Add an action to the step's. */
void core_act(struct broker_core *core, struct broker_message *message, enum broker_action action,
              enum broker_side side, uint64_t peer);
/* Build a message and have it sent. */
void core_send(struct broker_core *core, struct session *session, const struct mesh_header *header,
               const mesh_meta *meta, const ProtobufCMessage *body, bool compress);
/* Have a node sent that holds a message already; its header is written anew. */
void core_pass(struct broker_core *core, struct broker_message *message, struct session *to,
               const struct mesh_header *header);
void core_send_kind(struct broker_core *core, struct session *session, uint8_t kind,
                    uint64_t call_id);
void core_send_error(struct broker_core *core, enum broker_action action, enum broker_side side,
                     uint64_t peer, enum status_code code, const char *why);

/* How the broker itself ends a call. */
struct verdict {
    enum status_code code;
    bool unprocessed; /* no handler has seen the call */
    uint32_t retry_delay_ms;
    char message[STATUS_MESSAGE_MAX];
};
struct verdict verdict_make(enum status_code code, bool unprocessed, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void core_send_end(struct broker_core *core, struct session *session, uint64_t call_id,
                   const struct verdict *verdict);
/* Whether one more line about a peer's mistakes may go to the log. */
bool core_may_warn(struct broker_core *core);
/** Whether a call that nobody is there to serve waits for somebody: it wants to, or the broker has just started. */
bool core_waits(const struct broker_core *core, const struct mesh_header *open);

/* ---- session.c ---- */

struct session *session_find(const struct broker_core *core, enum broker_side side, uint64_t peer);
void session_hello(struct broker_core *core, const struct broker_event *event);
/* The session is over and with it all its calls. */
void session_end(struct broker_core *core, struct session *session, const char *why);
void session_lost(struct broker_core *core, enum broker_side side, uint64_t peer, const char *why);
/* A frame of somebody who has no session; bytes that are no frame. */
void session_stranger(struct broker_core *core, const struct broker_event *event);
void session_rubbish(struct broker_core *core, const struct broker_event *event);
/* End those that have been silent for too long. */
void session_beats(struct broker_core *core);
/* Ask callers that have stayed for long to come anew: then they may find brokers that are new. */
void session_ages(struct broker_core *core);
/* The peer's mistake: tell it, then the session is over. The session is gone afterwards. */
void core_session_error(struct broker_core *core, struct session *session, enum status_code code,
                        const char *why);

/* ---- identity.c ---- */

/* Copy it into a new session. @return 0; -1: memory is out */
int identity_take(struct session *session, const struct mesh_identity *identity);
uint16_t identity_number(const struct session *session);
bool identity_may_call(const struct session *session, const char *service, size_t size);
bool identity_may_offer(const struct session *session, const mesh_register *offer);
/* Before an OPEN of that call's caller. */
void identity_tell(struct broker_core *core, struct worker *worker, const struct call *call);
/* A peer without a session, which gets none. */
void identity_refuse(struct broker_core *core, enum broker_side side, uint64_t peer,
                     const char *why);
void identity_revoke(struct broker_core *core, enum broker_side side, uint16_t number);

/* ---- worker.c ---- */

void worker_register(struct broker_core *core, struct session *session, struct mesh_frame *frame);
void worker_capacity(struct broker_core *core, struct session *session, uint32_t capacity);
void worker_drain(struct broker_core *core, struct session *session);
void worker_lost(struct broker_core *core, struct session *session, const char *why);

/* ---- call.c ---- */

/* A call object for an OPEN. NULL without memory */
struct call *call_create(struct broker_core *core, struct session *session,
                         const struct mesh_header *header, int64_t now_ns);
struct call *call_find(const struct broker_core *core, const struct session *session, uint64_t id);
struct call *call_find_id(const struct broker_core *core, const struct worker *worker, uint64_t id);
/* The caller has its END, or is gone: nothing more goes there. */
void call_leave_caller(struct broker_core *core, struct call *call, uint16_t status,
                       int64_t now_ns);
/* Take the call from its worker, whose slot is free then. */
void call_leave_worker(struct broker_core *core, struct call *call);
void call_drop_open(struct broker_core *core, struct call *call);
void call_cancel_at_worker(struct broker_core *core, struct call *call, enum status_code why);
/* Free a call that has no worker; its caller has its END or is gone. */
void call_free(struct broker_core *core, struct call *call);
/* Send END, if somebody waits for it; a worker that runs the call gets CANCEL and keeps its slot. */
void call_end(struct broker_core *core, struct call *call, const struct verdict *verdict,
              int64_t now_ns);
/* The same, in a few words. @return false */
bool call_fails(struct broker_core *core, struct call *call, enum status_code code, const char *why,
                int64_t now_ns);
/* A call of the broker's own has sent its END, with OK. */
void call_done(struct broker_core *core, struct call *call, int64_t now_ns);
/* End those whose time is over. */
void router_deadlines(struct broker_core *core, int64_t now_ns);

/* ---- open.c, router.c: each returns whether it took the message ---- */

bool router_open(struct broker_core *core, struct session *session, struct broker_message *message,
                 struct mesh_frame *frame, int64_t now_ns);
bool router_from_caller(struct broker_core *core, struct session *session,
                        struct broker_message *message, struct mesh_frame *frame, int64_t now_ns);
bool router_from_worker(struct broker_core *core, struct session *session,
                        struct broker_message *message, struct mesh_frame *frame, int64_t now_ns);

/* ---- admission.c ---- */

/* Let the call wait, or refuse it. Takes the message. */
void admission_enqueue(struct broker_core *core, struct call *call, struct broker_message *message,
                       struct pool *pool, int64_t now_ns);
/* Let a call wait that has been taken from the queue before, at its head. Takes the message. */
void admission_return(struct broker_core *core, struct call *call, struct broker_message *message,
                      struct pool *pool, int64_t now_ns);
/* Calls that have waited since before then are next. */
int64_t admission_aged_ns(const struct service *service, int64_t now_ns);
/* Whether the call will, more likely than not, not end in time even if it begins now. */
bool admission_too_late(const struct call *call, int64_t now_ns);
/* Nobody serves such a call. */
struct verdict verdict_nobody(const struct pool *pool);

/* ---- dispatch.c ---- */

/* Give the call to a worker, or let it wait, or refuse it. Takes the message. */
void router_route(struct broker_core *core, struct call *call, struct broker_message *message,
                  struct pool *pool, int64_t now_ns);
/* Once more, by another worker: its own is gone. @return false: it must not */
bool dispatch_again(struct broker_core *core, struct call *call, int64_t now_ns);
/* Take a call that no answer has begun to from its worker. @return false: its OPEN was not kept */
bool dispatch_take_back(struct broker_core *core, struct call *call);
/* Such a call goes to another worker, or to the head of its queue. */
void dispatch_return(struct broker_core *core, struct call *call, int64_t now_ns);
/* Give waiting calls to a worker's free slots. */
void router_fill(struct broker_core *core, struct worker *worker, int64_t now_ns);

/* Likewise to all workers of a service: some may take calls that did not. */
void router_settle(struct broker_core *core, struct service *service, int64_t now_ns);

/* ---- lease.c: workers that lend slots to several brokers ---- */

/* Calls that wait for such a worker. */
uint32_t lease_demand(const struct worker *worker);
/* A call waits: when all who could serve it have lent their slots elsewhere, tell them. */
void lease_wanted(struct broker_core *core, const struct pool *pool, int64_t now_ns);
/* An END that says that the call's slot was lent elsewhere meanwhile. @return whether it was one, and the
 * call waits or runs again */
bool lease_bounced(struct broker_core *core, struct call *call, const struct mesh_header *end,
                   int64_t now_ns);

/* ---- load.c ---- */

/* What a worker says of its load, on END and PING: who is less busy is next among equals. */
void load_report(struct worker *worker, const struct mesh_frame *frame);

/* ---- sick.c: workers that should get no calls for a while ---- */

enum illness {
    ILL_STUCK = 1,   /* a handler has ignored its CANCEL for too long; until its END */
    ILL_QUIET = 2,   /* nothing was heard of it for two heartbeats; until something is */
    ILL_EJECTED = 4, /* it said UNAVAILABLE too often in a row; for some seconds */
};

/* A call without caller is to end soon. */
void sick_watch(struct broker_core *core, struct call *call, int64_t now_ns);
/* It has not. */
void sick_stuck(struct broker_core *core, struct call *call);
/* It has left its worker. */
void sick_unstuck(struct broker_core *core, struct call *call);
/* What the worker's END said of the worker. */
void sick_judge(struct broker_core *core, struct worker *worker, const struct mesh_header *end,
                int64_t now_ns);
/* How long it has been silent. */
void sick_listen(struct broker_core *core, struct worker *worker, int64_t now_ns);
/* Ejections that are over. */
void sick_heal(struct broker_core *core, int64_t now_ns);
/* For people; "" when it is well. */
const char *sick_why(const struct worker *worker);

/* ---- orphan.c ---- */

/* Workers have gone: end what nobody can serve any more, unless it waits for one. */
void router_orphans(struct broker_core *core, struct worker *worker, int64_t now_ns);
/* Likewise for every service, once the broker drains: nobody waits for workers any more. */
void router_all_orphans(struct broker_core *core, int64_t now_ns);
void router_caller_lost(struct broker_core *core, struct session *session, int64_t now_ns);
void router_worker_lost(struct broker_core *core, struct worker *worker, const char *why,
                        int64_t now_ns);

/* ---- local.c ---- */

bool local_serves(const char *service, size_t size);
void local_open(struct broker_core *core, struct session *session, struct mesh_frame *frame,
                const char *path, int64_t now_ns);
void local_frame(struct broker_core *core, struct call *call, struct mesh_frame *frame,
                 int64_t now_ns);
void local_free(struct broker_core *core, struct local **local);
/* Tell watchers what has changed, when it is time. */
void local_push(struct broker_core *core, int64_t now_ns);
int64_t local_next_ns(const struct broker_core *core);

#endif
