/*
 * rpc.h - calls into the mesh on behalf of an HTTP request: they end when the client leaves
 *
 * One waiter wakes one thread for every stream that it watches and for the client's leaving.
 */
#ifndef GATEWAY_RPC_H
#define GATEWAY_RPC_H

#include "base/status.h"
#include "gateway/http.h"
#include "mesh/channel.h"

#include <pthread.h>
#include <stdbool.h>

struct rpc_waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on the monotonic clock */
    bool signalled;
    struct http_exchange *exchange; /* may be NULL */
    int64_t deadline_ms;            /* clock_now_ms(); covers all calls of the request */
};

void rpc_waiter_init(struct rpc_waiter *waiter, struct http_exchange *exchange, int64_t timeout_ms);
void rpc_waiter_fini(struct rpc_waiter *waiter);
/** Something has changed. Any thread; what mesh_stream_on_event() gets. */
void rpc_waiter_signal(void *waiter);

/**
 * Sleep until something changes.
 *
 * @return 0; -ECANCELED when the client has gone; -ETIMEDOUT when the deadline has passed
 */
int rpc_waiter_wait(struct rpc_waiter *waiter);

/** Milliseconds until the deadline, at least 1. */
int64_t rpc_waiter_left_ms(const struct rpc_waiter *waiter);

/** What -ECANCELED and -ETIMEDOUT mean for people. */
void rpc_interrupted(int err, struct status *status);

/** Open a stream that wakes the waiter. @return 0; -1 with *status */
int rpc_open(struct rpc_waiter *waiter, struct mesh_channel *channel,
             const ProtobufCServiceDescriptor *service, const char *method, const char *selector,
             struct mesh_stream **out, struct status *status);

/** Send one message, waiting for credit. @return 0; -1 with *status */
int rpc_write(struct rpc_waiter *waiter, struct mesh_stream *stream,
              const ProtobufCMessage *message, struct status *status);

/** Receive one. @return 1; 0 at the end of a call that ended well; -1 with *status */
int rpc_read(struct rpc_waiter *waiter, struct mesh_stream *stream, ProtobufCMessage **message,
             struct status *status);

/** One request, one answer. @return 0; -1 with *status */
int rpc_call(struct rpc_waiter *waiter, struct mesh_channel *channel,
             const ProtobufCServiceDescriptor *service, const char *method, const char *selector,
             const ProtobufCMessage *request, ProtobufCMessage **response, struct status *status);

#endif
