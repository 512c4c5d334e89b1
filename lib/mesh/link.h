/*
 * link.h - the connecting side of a session: connect, HELLO, heartbeat, come back (docs/wire.md section 4)
 *
 * Belongs to one thread, which steps it. A channel is a link and calls; so is a server that works for
 * a broker. Each session has a socket of its own: nothing of a lost one reaches the next.
 */
#ifndef MESH_LINK_H
#define MESH_LINK_H

#include "base/status.h"
#include "mesh/heartbeat.h"
#include "mesh/inbox.h"
#include "mesh/outbox.h"
#include "mesh/security.h"

#include <poll.h>

#define MESH_LINK_FDS MESH_TRANSPORT_FDS

struct mesh_link;

struct mesh_link_handler {
    /** WELCOME has come: frames may be sent. */
    void (*up)(void *arg);
    /** The session is over, or the peer asked for no new calls (`going`: it still stands). */
    void (*down)(void *arg, const char *why);
    void (*going)(void *arg);
    /** The peer stays, and asks for a session beside this one, which shall end once it can. NULL: as `going`. */
    void (*returning)(void *arg);
    /** Before `down`: this OPEN was given to mesh_link_send() and not a byte of it was written. NULL: not asked. */
    void (*unsent)(void *arg, uint64_t call_id);
    /** PONG: the token of its PING, 0 when nobody asked, and credit_messages. NULL: not asked. */
    void (*pong)(void *arg, uint64_t token, uint32_t waiting);
    /** A frame for the owner, who takes the message. */
    void (*frame)(void *arg, struct mesh_message *message, const struct mesh_frame *frame);
};

struct mesh_link_options {
    void *context; /* borrowed */
    const char *endpoint;
    const char *name;
    size_t max_message_bytes;
    uint32_t heartbeat_ms;                /* wish; 0: the peer's */
    const struct mesh_security *security; /* borrowed; NULL: no CURVE */
};

/** Whether it can lead anywhere: "scheme://...", and inproc:// only within a shared context. */
bool mesh_endpoint_is_valid(const char *endpoint, const void *context);

enum mesh_link_state { LINK_IDLE, LINK_CONNECTING, LINK_GREETING, LINK_UP, LINK_RESTING };

struct mesh_link {
    struct mesh_link_options options;
    const struct mesh_link_handler *handler;
    void *arg;
    enum mesh_link_state state;
    struct mesh_transport transport;
    struct mesh_heartbeat beat;
    struct mesh_inbox inbox;
    struct mesh_outbox outbox;
    bool bundles;                     /* the peer takes them */
    size_t max_message_bytes;         /* the smaller of both sides' */
    int64_t now_ns;                   /* of this step */
    int64_t retry_at, up_at, down_at; /* retry_at: also when a greeting takes too long */
    uint64_t
        last_seen_call; /* in `down`: calls above it the peer has never seen; UINT64_MAX: it did not say */
    uint32_t backoff_ms;
    bool heard; /* anything, in this step */
    char broken
        [64]; /* why the next step ends the session: its owner may be in the midst of its calls */
    /* Why there is no connection, where a handshake has told; a constant. Any thread may look. NULL: not known */
    const char *_Atomic trouble;
    bool turned_away; /* and that will not change by itself */
    bool complained;
    uint64_t token; /* of the last PING */
    float load;     /* the owner's, to be said with PING; negative: nothing */
};

/** Strings and context are borrowed. The first step connects. */
void mesh_link_init(struct mesh_link *link, const struct mesh_link_options *options,
                    const struct mesh_link_handler *handler, void *arg);
/** Say BYE, give what was sent linger_ms to leave. */
void mesh_link_fini(struct mesh_link *link, int linger_ms);

/** Do whatever is due. @return whether messages came, and there may be more */
bool mesh_link_step(struct mesh_link *link, int64_t now_ns);
/** File descriptors to sleep on. @return how many, at most MESH_LINK_FDS */
int mesh_link_fds(const struct mesh_link *link, struct pollfd *fds);
/** What poll() said of them. @return how many they are */
int mesh_link_polled(struct mesh_link *link, const struct pollfd *fds);
/** Whether there is something to do already: ask after the last send, before sleeping. */
bool mesh_link_pending(struct mesh_link *link);
int64_t mesh_link_next_ns(const struct mesh_link *link);

/** Leave this session for the next, with a BYE: after GOAWAY, when nothing runs on it any more. `why` is for the log. */
void mesh_link_restart(struct mesh_link *link, const char *why);

/** Without a session: seek none, until woken. */
void mesh_link_rest(struct mesh_link *link);
/** Seek a session again, soon. */
void mesh_link_wake(struct mesh_link *link, int64_t now_ns);

/** Send, or keep until the peer takes it: with the next flush, step or look whether something is pending. Takes
 *  the message always. @return 0; -ENOTCONN */
int mesh_link_send(struct mesh_link *link, struct mesh_message *message);
/** Send a PING now. @return its token, greater than those before */
uint64_t mesh_link_ping(struct mesh_link *link);
/** Send now what was gathered: at the end of whatever has much to say. */
void mesh_link_flush(struct mesh_link *link);
/** The peer broke the protocol: tell it. The next step ends the session. */
void mesh_link_reject(struct mesh_link *link, enum status_code code, const char *why);

#endif
