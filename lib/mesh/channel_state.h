/*
 * channel_state.h - what a channel is made of; inside lib/mesh, for channel.c, channel_calls.c, driver.c and session.c
 */
#ifndef MESH_CHANNEL_STATE_H
#define MESH_CHANNEL_STATE_H

#include "mesh/channel.h"
#include "mesh/driver.h"
#include "mesh/retry.h"
#include "mesh/session.h"

struct mesh_channel {
    char *name;
    void *context; /* ours to end when own_context */
    bool own_context;
    size_t message_max_wish;
    pthread_t thread;
    struct mesh_mailbox mailbox;
    atomic_bool stopping;
    atomic_uint n_taking; /* sessions that take calls */
    atomic_size_t message_max;
    struct mesh_interceptors interceptors;
    struct mesh_endpoints endpoints;
    struct mesh_driver driver;

    /* The driver's. */
    int64_t now_ns;     /* of this step */
    int64_t down_since; /* ns, when n_taking became 0 */
    /* (2 * endpoints.count) one for each, then their twins; n_sessions of them in use: all once a twin is. */
    struct mesh_session *sessions;
    size_t n_sessions;
    struct mesh_timers deadlines, delays;       /* of calls; those that are to be tried again */
    struct mesh_stream *waiting, *last_waiting; /* OPEN not sent: no session; in order */
    struct mesh_retry retry;
    size_t kept_bytes; /* of requests, to be sent again */
    struct metric *late_frames, *turns;
};

#endif
