/*
 * session.h - a channel's connection to one broker (or server), and the calls on it; inside lib/mesh
 *
 * Each has a twin, which rests until the peer asks for a session beside this one: then the twin takes the new calls,
 * and this one rests when its own have ended.
 *
 * Belongs to whoever drives the channel. What becomes of a call that fails here is channel_calls.h's to say.
 */
#ifndef MESH_SESSION_H
#define MESH_SESSION_H

#include "mesh/endpoints.h"
#include "mesh/link.h"
#include "mesh/slots.h"
#include "mesh/stream.h"

struct mesh_session {
    struct mesh_channel *channel;
    unsigned number; /* of its endpoint, among the channel's */
    bool going;      /* it takes no new calls: the peer said so, or its twin does instead */
    bool leaving;    /* and that will be once its twin stands */
    bool counted;    /* among those of the channel that take calls */
    struct mesh_link link;
    struct mesh_slots slots;
};

/** Strings and context of the options are borrowed. The first step connects. */
void mesh_session_init(struct mesh_session *session, struct mesh_channel *channel, unsigned number,
                       const struct mesh_link_options *options);
/** After its last call. Says BYE, gives what was sent linger_ms to leave. */
void mesh_session_fini(struct mesh_session *session, int linger_ms);

/** Do whatever is due. @return whether messages came, and there may be more */
bool mesh_session_step(struct mesh_session *session, int64_t now_ns);
/** Whether calls may be opened on it now. */
bool mesh_session_takes_calls(const struct mesh_session *session);

/** Send the call's OPEN, and keep a copy if there is room for it. @return 0; -ENOBUFS, -ENOMEM: it is not on this session */
int mesh_session_open(struct mesh_session *session, struct mesh_stream *stream);
/** The call is on no session from now on; frames for it are late. */
void mesh_session_leave(struct mesh_stream *stream);

/* Of a call on a session; nothing happens for others. */
void mesh_session_cancel(struct mesh_stream *stream, enum status_code code);
void mesh_session_credit(struct mesh_stream *stream);
/** Takes the message. */
void mesh_session_send(struct mesh_stream *stream, struct mesh_message *message);

#endif
