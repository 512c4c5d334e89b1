/*
 * stream.h - a call on its caller's side; inside lib/mesh, between channel_calls.c and stream.c
 *
 * stream.c, stream_messages.c and unary.c are what applications call, from any thread; channel_calls.c and session.c what whoever drives the channel does with
 * it. They meet in the stream's lock and the channel's mailbox. A stream lives until the application
 * and the channel have both let go of it.
 */
#ifndef MESH_STREAM_H
#define MESH_STREAM_H

#include "mesh/channel.h"
#include "mesh/deadline.h"
#include "mesh/driver.h"
#include "mesh/flow.h"
#include "mesh/interceptor.h"
#include "mesh/mailbox.h"
#include "mesh/method.h"

#include <pthread.h>
#include <stdatomic.h>

enum stream_post_kind { POST_OPEN, POST_SEND, POST_CREDIT, POST_CANCEL };

/* Each holds a reference on its stream while it is under way. */
struct stream_post {
    struct mesh_post post;
    struct mesh_stream *stream;
};

/* POST_SEND; allocated. */
struct stream_send {
    struct stream_post post; /* first */
    struct mesh_message message;
};

enum stream_place { PLACE_NONE, PLACE_WAITING, PLACE_OPEN, PLACE_DELAYED, PLACE_GONE };

struct mesh_session;

struct mesh_stream {
    struct mesh_channel *channel;
    struct mesh_method *method;
    atomic_int refs;
    bool wait_for_ready, idempotent, compress;
    int64_t deadline_ns;
    mesh_unary_done *done; /* of mesh_unary_start(); else NULL */
    void *done_arg;
    struct mesh_answer_meta *answer_meta; /* a unary caller's, to be filled at the end; NULL */

    /* The driver's. */
    enum stream_place place;
    struct mesh_session *session; /* of PLACE_OPEN */
    uint64_t id;
    bool end_sent;           /* END_SEND went with OPEN */
    bool sent;               /* OPEN has been, once at least */
    bool unwritten;          /* and the last time in vain */
    bool accepted;           /* by a worker */
    unsigned tried;          /* a bit for each session that has had it */
    uint32_t resends;        /* beside the attempts that count */
    size_t kept_bytes;       /* of the OPEN, which stays to be sent again; 0: it does not */
    struct mesh_timer timer; /* the deadline */
    struct mesh_timer again; /* when to try again */
    struct mesh_stream *next_waiting, *previous_waiting;

    struct stream_post open_post, credit_post, cancel_post;
    struct mesh_message open; /* under lock until open_posted, then the driver's */

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    bool open_posted, credit_posted, cancel_posted;
    bool over;
    bool committed; /* an answer has begun, or a second message has left: no other try */
    struct mesh_flow flow;
    enum status_code code; /* how, when over; apart, so that a call stays small: */
    uint32_t retry_delay_ms;
    char *status_message; /* NULL: none */
    struct mesh_metadata *initial, *trailers;
    uint32_t n_waiters; /* threads that wait for `changed` */

    pthread_mutex_t
        notify_lock; /* held while notify runs, so that none runs once it is taken away */
    void (*notify)(void *arg);
    void *notify_arg;

    struct mesh_intercepted seen; /* under lock, once it has started */
    size_t n_started;             /* interceptors that have agreed to it */
    bool attempting;              /* between `attempt` and `attempt_end` */
    void *states[];               /* one for each interceptor of the channel */
};

/* stream.c */

/** @param request  the only one, of a unary call; NULL: they will be written. @return 0, also when an interceptor
 *  has refused it: it is over then; -EINVAL, -EMSGSIZE, -ENOMEM */
int mesh_stream_create(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                       const char *name, const ProtobufCMessage *request,
                       const struct mesh_call_options *options, struct mesh_stream **out);
void mesh_stream_hold(struct mesh_stream *stream);
void mesh_stream_release(struct mesh_stream *stream);
void mesh_stream_wake(struct mesh_stream *stream);

/** End it here, once. @return whether this was the end of it */
bool mesh_stream_end(struct mesh_stream *stream, const struct status *status, bool drop_unread);

/** A try is about to be sent, or has ended; under the lock. */
void mesh_stream_attempt(struct mesh_stream *stream);
void mesh_stream_attempt_end(struct mesh_stream *stream, const struct status *status,
                             enum mesh_attempt_next next, int64_t delay_ms);

/* Hand something to whoever drives: _put when this thread goes on to wait (and drive), _post when it does
 * not, _post_and_send to send it off here if nobody else drives, without the stream's lock. */
void mesh_stream_put(struct mesh_stream *stream, struct stream_post *note,
                     enum stream_post_kind kind);
void mesh_stream_post(struct mesh_stream *stream, struct stream_post *note,
                      enum stream_post_kind kind);
void mesh_stream_post_and_send(struct mesh_stream *stream, struct stream_post *note,
                               enum stream_post_kind kind);

/** End it on the application's side, and tell the other. */
void mesh_stream_abandon(struct mesh_stream *stream, enum status_code code, const char *message);
/** Of a stream that is over, under the lock or by its only owner. */
void mesh_stream_read_status(const struct mesh_stream *stream, struct status *status);

/* stream_messages.c */

/**
 * Under the lock, which is let go of meanwhile: drives the channel itself if nobody does. While the call is
 * not over, or has not been destroyed, there is a channel.
 *
 * @param wait_ms  0: not at all; -1: for ever
 * @return what `can` says in the end
 */
bool mesh_stream_wait(struct mesh_stream *stream, bool (*can)(const struct mesh_stream *stream),
                      int wait_ms);

/* unary.c */

/** What an ended unary call has brought: the response, and answer_meta where it is wanted. Once. Sets INTERNAL for a
 *  call that ended well without a response. */
ProtobufCMessage *mesh_stream_response(struct mesh_stream *stream, struct status *status);

struct mesh_driver *mesh_channel_driver(struct mesh_channel *channel);
struct mesh_mailbox *mesh_channel_mailbox(struct mesh_channel *channel);
size_t mesh_channel_message_max(const struct mesh_channel *channel);
const struct mesh_interceptors *mesh_channel_interceptors(const struct mesh_channel *channel);

#endif
