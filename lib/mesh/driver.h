/*
 * driver.h - who moves a channel's frames: its own thread, or one that waits for an answer; inside lib/mesh
 *
 * One thread at a time holds the role of the driver, and with it all that belongs to the driver in channel_state.h. A
 * thread that blocks in a call takes the role if nobody has it, and so gets its answer without a change of threads. It leaves
 * it free: the channel's own thread takes over once nobody has for a few milliseconds, or at once when other
 * calls are under way. Whatever runs the application's functions (mesh_unary_start(), mesh_stream_on_event())
 * runs on the channel's own thread: while there is such a call no other thread drives.
 */
#ifndef MESH_DRIVER_H
#define MESH_DRIVER_H

#include "mesh/deadline.h"
#include "mesh/mailbox.h"

#include <pthread.h>
#include <stdatomic.h>

struct mesh_channel;
struct mesh_stream;

struct mesh_driver {
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t free;
    atomic_bool held;
    bool needed;      /* by the channel's thread, at once */
    bool long_waiter; /* the channel's thread sleeps until it is told */
    int64_t left_at;  /* ns, when an application's thread last let go */

    atomic_uint n_callbacks;    /* calls that end in the application's functions */
    struct mesh_post *deferred; /* the driver's: posts for the channel's own thread */
    uint32_t n_alone;           /* the driver's: rounds in a row with one call under way, or none */
    struct mesh_stream *last;   /* the driver's: the last to be opened, while it is */
};

/** Make it, and start the channel's thread. @return 0; -errno */
int mesh_driver_start(struct mesh_channel *channel);
/** End all calls and sessions, join the thread. */
void mesh_driver_stop(struct mesh_channel *channel);

/** Something was posted: see that somebody takes it. Any thread, no lock held but a stream's. */
void mesh_driver_attend(struct mesh_channel *channel);

/** Take the role if it is free to an application's thread, which then says mesh_driver_lead(). */
bool mesh_driver_take(struct mesh_channel *channel);
/**
 * Drive until a call is as it should be, then let go of the role; maybe earlier.
 *
 * @param can    asked under the call's lock
 * @param until  ns; MESH_NEVER
 */
void mesh_driver_lead(struct mesh_channel *channel, struct mesh_stream *stream,
                      bool (*can)(const struct mesh_stream *stream), int64_t until);

#endif
