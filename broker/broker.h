/*
 * broker.h - routes calls from callers to workers; never opens a payload
 *
 * Two ROUTER sockets, front for callers and back for workers, on one thread. docs/wire.md.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include <stddef.h>
#include <stdint.h>

struct broker;
struct mesh_security;
struct queue_weight;

struct broker_options {
    const char *const
        *front; /* endpoints callers connect to; ended by NULL; several transports may be bound */
    const char *const *back;  /* endpoints workers connect to; ended by NULL */
    void *context;            /* shared ZeroMQ context; NULL: its own */
    uint32_t queue_limit;     /* waiting calls of one service; 0: 1024 */
    size_t queue_bytes;       /* their payload together; 0: 64 MiB */
    size_t max_message_bytes; /* 0: 32 MiB */
    uint32_t heartbeat_ms;    /* 0: 1000; a peer is dead after three */
    uint32_t
        settle_ms; /* so long after its start calls wait for a worker that has yet to come; 0: none */
    uint32_t
        max_session_age_ms; /* callers that have stayed so long, a tenth more or less, are asked to come anew; 0: never */
    const struct queue_weight *weights; /* (n_weights) of tenants, queue.h; borrowed until stop */
    size_t n_weights;
    const struct mesh_security
        *security; /* both keyrings in it; borrowed until stop; NULL: no CURVE */
};

/** Bind and start the broker's thread. @return 0; -EINVAL, -EADDRINUSE, ... */
int broker_start(const struct broker_options *options, struct broker **out);
/** The endpoint actually bound for front[i] / back[i] ("tcp://127.0.0.1:*" gets its port); borrowed. */
const char *broker_front_endpoint(const struct broker *broker, size_t i);
const char *broker_back_endpoint(const struct broker *broker, size_t i);
/** Read the folders of both keyrings again (docs/security.md); peers whose certificate has gone are dropped.
 *  From any thread. @return 0; -EINVAL, ...: logged; what has a mistake stays as it was */
int broker_reload(struct broker *broker);
/** Refuse new calls, wait for running ones at most grace_ms, end the rest UNAVAILABLE, stop. */
void broker_stop(struct broker **broker, int64_t grace_ms);

#endif
