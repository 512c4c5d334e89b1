/*
 * puppet.h - callers and workers that a test plays by hand, against a core without sockets
 */
#ifndef TESTS_BROKER_PUPPET_H
#define TESTS_BROKER_PUPPET_H

#include "broker/core.h"
#include "mesh/deadline.h"

#define PUPPET_MS 1000000 /* ns */
#define TEXT_MAX 512

/* What the broker sent, as its peer sees it. */
struct seen {
    struct seen *next;
    enum broker_side side;
    enum broker_action action;
    uint64_t peer;
    struct mesh_header header;
    char message[TEXT_MAX]; /* Meta's status message */
    uint32_t retry_delay_ms;
    uint8_t *body; /* (body_size) owned */
    size_t body_size;
};

struct puppet {
    struct broker_core *core;
    int64_t now_ns;
    uint32_t heartbeat_ms;
    const struct mesh_identity *who[2]; /* by side: whose key sends from now on; NULL: no keys */
    struct seen *first, **last;
    struct seen taken; /* the last one that puppet_take() gave */
};

/** Zeros in options mean: 4 calls, 1 MiB, 1 MiB messages, 1 s heartbeats, seed 1. */
void puppet_init(struct puppet *puppet, struct broker_core_options options);
void puppet_fini(struct puppet *puppet);

void puppet_step(struct puppet *puppet, const struct broker_event *event);
void puppet_send(struct puppet *puppet, enum broker_side side, uint64_t peer,
                 const struct mesh_header *header, const mesh_meta *meta,
                 const ProtobufCMessage *body);
/** The same, with a body of so many bytes that nobody parses. */
void puppet_send_bytes(struct puppet *puppet, enum broker_side side, uint64_t peer,
                       const struct mesh_header *header, const mesh_meta *meta, size_t size);
void puppet_kind(struct puppet *puppet, enum broker_side side, uint64_t peer, uint8_t kind,
                 uint64_t call_id);

void puppet_hello(struct puppet *puppet, enum broker_side side, uint64_t peer);
/** HELLO and REGISTER; labels as "pair=en-pt voice=a|b", or NULL. Takes WELCOME and REGISTERED. */
void puppet_worker(struct puppet *puppet, uint64_t peer, const char *service, uint32_t capacity,
                   const char *labels);
/** The same for one that shares so many slots out among its brokers. */
void puppet_worker_of(struct puppet *puppet, uint64_t peer, const char *service, uint32_t capacity,
                      uint32_t total);
/** HELLO; takes WELCOME. */
void puppet_caller(struct puppet *puppet, uint64_t peer);

struct opening {
    const char *service; /* NULL: "test.Echo" */
    const char *method;  /* NULL: "Say" */
    const char *selector;
    const char *tenant;
    const char *affinity;
    int64_t timeout_ms;
    uint16_t flags; /* END_SEND unless `stream`; MESSAGE always */
    bool stream;
    size_t bytes; /* of the body */
};
void puppet_open(struct puppet *puppet, uint64_t peer, uint64_t id, struct opening opening);
/** An END of a worker. */
void puppet_end(struct puppet *puppet, uint64_t peer, uint64_t id, uint16_t status);

void puppet_lost(struct puppet *puppet, enum broker_side side, uint64_t peer);
/** Let time pass, with every tick that falls due on the way. */
void puppet_wait(struct puppet *puppet, int64_t ms);

/** The next thing sent to a peer must be of this kind; it is taken off the list. */
const struct seen *puppet_take(struct puppet *puppet, enum broker_side side, uint64_t peer,
                               uint8_t kind);
/** Whether the next thing sent to the peer is of this kind. */
bool puppet_has(struct puppet *puppet, enum broker_side side, uint64_t peer, uint8_t kind);
/** Nothing has been sent to the peer. */
void puppet_silence(struct puppet *puppet, enum broker_side side, uint64_t peer);

#endif
