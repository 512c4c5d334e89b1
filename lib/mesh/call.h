/*
 * call.h - a call on its answerer's side; inside lib/mesh, between the server's files and call.c
 *
 * call.c is how one is made, run and ended, handler.c what its handler says and asks, on a thread of the
 * pool; server_calls.c is what the server's thread does with it. They meet in the call's lock and the server's mailbox. A call lives until both have
 * let go of it.
 */
#ifndef MESH_CALL_H
#define MESH_CALL_H

#include "base/trace.h"
#include "mesh/deadline.h"
#include "mesh/flow.h"
#include "mesh/interceptor.h"
#include "mesh/lent.h"
#include "mesh/mailbox.h"
#include "mesh/meta.h"
#include "mesh/method.h"
#include "mesh/pool.h"
#include "mesh/server.h"
#include "mesh/source.h"

#include <pthread.h>
#include <stdatomic.h>

struct mesh_frame;

struct server_method {
    struct server_method *next; /* of the same bucket */
    struct mesh_method *method;
    ProtobufCService *service;
    unsigned index;
    enum mesh_kind kind;
    /* Of the mesh's own services: the server's thread answers at once, or tells again and again. */
    void (*own)(struct mesh_server *server, struct mesh_source *source,
                const struct mesh_frame *frame);
    bool watch;
};

enum call_post_kind { POST_FRAME, POST_MORE_CREDIT, POST_END, POST_DRAIN };

/* Each holds a reference on its call while it is under way. */
struct call_post {
    struct mesh_post post;
    struct mesh_call *call;
};

/* POST_FRAME, allocated, and POST_END. */
struct call_send {
    struct call_post post; /* first */
    struct mesh_message message;
};

struct mesh_call {
    struct mesh_job job; /* first: the pool gives it back */
    struct mesh_server *server;
    const struct server_method *method;
    atomic_int refs;
    uint64_t id;
    int64_t arrived_ns, deadline_ns;
    size_t message_max; /* of answers */
    bool compress;

    /* The server thread's. */
    struct mesh_source
        *source; /* NULL: its session is gone. Else its frames find it, its END goes out */
    struct mesh_call *next_in_bucket, *next_of_source, *previous_of_source;
    struct mesh_timer timer;
    size_t open_bytes;
    int64_t stop_asked_ns; /* when its handler was told to stop; 0: it was not */
    char *watched;         /* of a watch: the service */
    int told;              /* and what was said last */

    struct call_send end_post;
    struct call_post credit_post;

    /* The handler's. */
    struct mesh_message open; /* Meta, and the first message unless open_read */
    bool open_read;
    bool initial_sent, has_response;
    struct mesh_message response; /* of a unary answer: an END, to be completed */
    struct mesh_metadata *metadata, *initial, *trailers;
    char *peer_name; /* of the caller's certificate; NULL: not known */
    uint32_t retry_delay_ms;
    ProtobufCBinaryData details;  /* of a status that is not OK */
    char *tenant;                 /* NULL: the default one */
    char trace_id[TRACE_ID_TEXT]; /* of `seen`, once asked for */

    volatile int cancelled; /* written atomically, under the lock; engines look without it */
    pthread_mutex_t lock;   /* what follows */
    pthread_cond_t changed;
    struct mesh_flow flow;
    bool credit_posted;
    bool started; /* by a handler; before that the server's thread may end it */
    bool ended;
    bool failed;          /* written atomically, like `cancelled` */
    struct status status; /* the handler's when failed, else why it was cancelled */
    int cancel_fd;        /* an eventfd once asked for; -1 */
    struct mesh_intercepted seen;
    size_t n_intercepting; /* interceptors that have agreed to it */
    bool intercepted;      /* they are through with `start`, and it has not ended */
    void *states[];        /* one for each interceptor of the server */
};

void mesh_call_hold(struct mesh_call *call);
void mesh_call_release(struct mesh_call *call);

/** Make one from an OPEN, whose message is taken. NULL when memory is out. */
struct mesh_call *mesh_call_create(struct mesh_server *server, const struct server_method *method,
                                   struct mesh_message *open, const struct mesh_frame *frame,
                                   int64_t now_ns);

/** Before its handler starts: who calls, copied; NULL: not known. */
void mesh_call_set_peer(struct mesh_call *call, const char *name);

/** The handler shall stop. @return whether none had started: the call is over, END is the caller's to send */
bool mesh_call_cancel(struct mesh_call *call, enum status_code code, const char *why);

/** Run its handler to the end; a pool's function. */
void mesh_call_run(struct mesh_job *job);

/* For the handler's thread: what goes to the server's. */
void mesh_call_post(struct mesh_call *call, struct call_post *note, enum call_post_kind kind);
int mesh_call_post_frame(struct mesh_call *call, const struct mesh_header *header,
                         const mesh_meta *meta, const ProtobufCMessage *body);
/** Before anything else that answers. */
int mesh_call_send_initial(struct mesh_call *call);
/** What a handler gives its answers to: each is packed, and has credit, before this returns. */
/** The request of a unary handler, which may lie in call->open. @return as mesh_call_read() */
int mesh_call_request(struct mesh_call *call, struct mesh_lent *request);
void mesh_call_answer(const ProtobufCMessage *message, void *call);

static inline bool mesh_call_has_one_answer(const struct mesh_call *call)
{
    enum mesh_kind kind = call->method->kind;

    return kind == MESH_UNARY || kind == MESH_UNARY_QUICK || kind == MESH_CLIENT_STREAMING;
}

/** An END without a message. */
int mesh_call_build_end(uint64_t id, const struct status *status, bool unprocessed,
                        struct mesh_message *out);

/** The trace that it belongs to; zero: none. */
static inline const struct trace_context *mesh_call_trace(const struct mesh_call *call)
{
    return (const struct trace_context *)call->seen.traceparent;
}

/** Under the lock: a message goes, or has come. */
void mesh_call_intercept_message(struct mesh_call *call, enum mesh_direction direction,
                                 size_t bytes);

struct mesh_mailbox *mesh_server_mailbox(struct mesh_server *server);
const struct mesh_interceptors *mesh_server_interceptors(const struct mesh_server *server);
/** For an END or a PING; negative when there is nothing that a broker does not know. Thread-safe. */
float mesh_server_load(const struct mesh_server *server, bool call_ends);

#endif
