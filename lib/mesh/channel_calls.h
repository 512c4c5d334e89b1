/*
 * channel_calls.h - what becomes of a channel's calls: sent, waiting, tried again, over; inside lib/mesh
 *
 * All of it belongs to whoever drives the channel.
 */
#ifndef MESH_CHANNEL_CALLS_H
#define MESH_CHANNEL_CALLS_H

#include "mesh/channel_state.h"

/** How far a try got that failed. */
enum call_fate {
    FATE_FAILED,      /* a handler may have run */
    FATE_LOST,        /* with its session: likewise */
    FATE_UNPROCESSED, /* the answerer says that none has */
    FATE_UNSEEN,      /* it crossed the peer's BYE */
    FATE_UNWRITTEN,   /* it never left */
};

/** A new call: the reference that comes with it is the channel's. */
void mesh_calls_open(struct mesh_channel *channel, struct mesh_stream *stream);
/** The application has ended it. */
void mesh_calls_cancelled(struct mesh_channel *channel, struct mesh_stream *stream);

/** Its try has failed. @return true: it will be tried again; false: end it */
bool mesh_calls_try_again(struct mesh_channel *channel, struct mesh_stream *stream,
                          const struct status *status, enum call_fate fate);
/** End it here. */
void mesh_calls_end(struct mesh_channel *channel, struct mesh_stream *stream,
                    const struct status *status, bool drop_unread);
/** End it here, and tell the answerer to stop. */
void mesh_calls_give_up(struct mesh_channel *channel, struct mesh_stream *stream,
                        enum status_code code, const char *message);

/** The request is not needed any more: it cannot be sent again. */
void mesh_calls_drop_request(struct mesh_channel *channel, struct mesh_stream *stream);

/** A session has come up: those that wait are sent. */
void mesh_calls_resume(struct mesh_channel *channel);
/** Deadlines, delays, calls without hope. */
void mesh_calls_step(struct mesh_channel *channel);
int64_t mesh_calls_next_ns(const struct mesh_channel *channel);
/** The channel is destroyed. */
void mesh_calls_end_all(struct mesh_channel *channel);

#endif
