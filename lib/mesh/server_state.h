/*
 * server_state.h - a server from inside: what its files share
 *
 * server.c          create, start, drain, destroy
 * server_offer.c    services, methods and labels, fixed before it starts
 * server_loop.c     the server's thread
 * server_brokers.c  sessions with brokers, of a worker
 * server_callers.c  sessions with callers, of a server with `bind`
 * server_frames.c   what arrives: OPEN is admitted or refused, the rest finds its call
 * server_calls.c    calls between their OPEN and their END
 * server_health.c   Health, of a server with `bind`
 * server_reflection.c  and Reflection
 *
 * Everything here but what server.h declares runs on the server's thread, unless it says otherwise.
 */
#ifndef MESH_SERVER_STATE_H
#define MESH_SERVER_STATE_H

#include "mesh/call.h"
#include "mesh/endpoints.h"
#include "mesh/lease.h"
#include "mesh/link.h"
#include "mesh/peers.h"

#define NS_PER_MS INT64_C(1000000)
#define PARTING_MS 300 /* for callers to leave a server that drains */
#define SERVER_METHOD_BUCKETS 256
#define SERVER_CALL_BUCKETS 4096

struct offered {
    ProtobufCService *service;
    char **method_names; /* (descriptor->n_methods), of the descriptor */
    ProtobufCBinaryData descriptor_set;
};

/* A worker's session with one of its brokers. */
struct broker_session {
    struct mesh_server *server;
    struct mesh_link link;
    struct mesh_source source;
    bool registered;
    bool drain_sent, drain_done; /* in this session */
};

struct mesh_server {
    struct mesh_server_options options;
    char *name;
    struct mesh_endpoints endpoints;
    void *context;
    bool own_context;
    pthread_t thread;
    bool started;
    struct mesh_pool *pool;
    struct mesh_mailbox mailbox;
    atomic_bool stopping, ready;
    struct call_post drain_post;
    struct mesh_interceptors interceptors;
    _Atomic float load; /* as the service says; 0: it does not */
    atomic_uint n_busy; /* n_calls, for other threads */

    /* Fixed once started. */
    struct offered *services; /* (n_services) */
    size_t n_services;
    const ProtobufCMessageDescriptor **types; /* (n_types) that reflection describes besides */
    size_t n_types;
    Dragoman__Mesh__V1__Label **labels; /* (n_labels) */
    size_t n_labels;
    struct server_method *methods[SERVER_METHOD_BUCKETS];

    /* The thread's own. */
    struct broker_session *brokers; /* (n_brokers) without `bind` */
    size_t n_brokers;
    struct lease lease;       /* of several */
    int64_t share_at;         /* when to look at it again */
    struct mesh_peers *peers; /* with it */
    int64_t now_ns;           /* of this step */
    struct mesh_timers timers;
    struct mesh_job *fresh, **fresh_last; /* calls of this step, for the pool */
    struct mesh_job *quick, **quick_last; /* and for this thread */
    struct mesh_call *calls[SERVER_CALL_BUCKETS];
    uint32_t n_calls, n_watches; /* alive; watches are no calls here */
    uint32_t n_listed;           /* of them, those of sessions that stand */
    size_t queued_bytes;
    bool draining;
    int64_t callers_until; /* ns: when a drain waits for callers that stay no longer */
    struct metric *late_frames, *running, *deaf;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    bool drain_asked, drained;
};

/* ---- server_offer.c -------------------------------------------------------------------------- */

/** NULL when there is none. */
const struct server_method *server_method_find(struct mesh_server *server, uint64_t hash);
/** Before the start: a method that `model` describes. @return 0; -ENOMEM */
int server_method_add(struct mesh_server *server, const ProtobufCServiceDescriptor *descriptor,
                      const struct server_method *model);
bool server_offers(const struct mesh_server *server, const char *service);
/** Send REGISTER. @param total  all that it has, when there are other brokers; else 0 */
void server_register(struct mesh_server *server, struct mesh_link *link, uint32_t capacity,
                     uint32_t total);
void server_offer_fini(struct mesh_server *server);

/* ---- server_loop.c --------------------------------------------------------------------------- */

/** The thread. */
void *server_run(void *server);
/** No new calls from now on. */
void server_begin_drain(struct mesh_server *server);

/* ---- server_brokers.c ------------------------------------------------------------------------ */

int server_brokers_init(struct mesh_server *server);
void server_brokers_fini(struct mesh_server *server, int linger_ms);
bool server_brokers_step(struct mesh_server *server);
/** At the end of a step: shares follow what calls have come and gone. */
void server_brokers_share(struct mesh_server *server);
/** Whether no broker will send another OPEN. Says DRAIN where that is due. */
bool server_brokers_drained(struct mesh_server *server);
/** REGISTERED, DRAINED. */
void server_brokers_frame(struct mesh_server *server, struct mesh_source *source,
                          const struct mesh_frame *frame);

/* ---- server_callers.c ------------------------------------------------------------------------ */

/** Listen, and serve Health. @return 0; -errno */
int server_callers_listen(struct mesh_server *server);

/* ---- server_frames.c ------------------------------------------------------------------------- */

/** A frame of a session that stands; takes the message. */
void server_frame(struct mesh_server *server, struct mesh_source *source,
                  struct mesh_message *message, const struct mesh_frame *frame);

/* ---- server_calls.c -------------------------------------------------------------------------- */

void server_send(struct mesh_server *server, struct mesh_source *source,
                 struct mesh_message *message);
void server_reject(struct mesh_server *server, struct mesh_source *source, enum status_code code,
                   const char *why);

/** An OPEN that no handler will see. */
void server_refuse(struct mesh_server *server, struct mesh_source *source, uint64_t id,
                   const struct status *status);

struct mesh_call *server_call_find(struct mesh_server *server, const struct mesh_source *source,
                                   uint64_t id);
/** Its frames find it from now on. */
void server_call_list(struct mesh_server *server, struct mesh_call *call,
                      struct mesh_source *source);
/** The thread lets go of it. */
void server_call_forget(struct mesh_server *server, struct mesh_call *call);
/** Stop its handler, or end it when none runs. */
void server_call_cancel(struct mesh_server *server, struct mesh_call *call, enum status_code code,
                        const char *why);
void server_cancel_late_calls(struct mesh_server *server, int64_t now_ns);
/** The session is gone: nobody waits for what still runs, and its ENDs go nowhere. */
void server_calls_lose(struct mesh_server *server, struct mesh_source *source);
/** What handlers have posted. @return whether there was any */
bool server_calls_post(struct mesh_server *server);

static inline bool server_call_is_watch(const struct mesh_call *call)
{
    return call->method->watch;
}

/* ---- server_health.c ------------------------------------------------------------------------- */

/** A server with `bind` answers for its own health; of a worker the broker does. @return 0; -ENOMEM */
int server_health_add(struct mesh_server *server);
void server_health_watch(struct mesh_server *server, struct mesh_call *call,
                         const struct mesh_frame *frame);
/** Say it when it has changed and the watcher has credit. */
void server_health_tell(struct mesh_server *server, struct mesh_call *call);
void server_health_tell_all(struct mesh_server *server);
void server_health_end_all(struct mesh_server *server);

/* ---- server_reflection.c --------------------------------------------------------------------- */

/** Likewise. @return 0; -ENOMEM */
int server_reflection_add(struct mesh_server *server);

#endif
