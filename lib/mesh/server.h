/*
 * server.h - the answerer's side: protobuf-c services, offered to a broker or bound directly
 *
 * A server owns one thread for its socket and `capacity` threads that run handlers, one call each.
 * Handlers are the functions of a protobuf-c service structure; the closure data they get is the
 * call. A handler may block; the call ends when it returns.
 */
#ifndef MESH_SERVER_H
#define MESH_SERVER_H

#include "base/status.h"
#include "mesh/interceptor.h"
#include "mesh/metadata.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct mesh_security;
#define MESH_DETAILS_MAX 4096 /* bytes; of a message with its type's name */

struct mesh_server;
struct mesh_call;

enum mesh_kind {
    MESH_UNARY,
    MESH_CLIENT_STREAMING,
    MESH_SERVER_STREAMING,
    MESH_BIDI_STREAMING,
    MESH_UNARY_QUICK, /* unary, on the server's own thread: for handlers of microseconds that never block */
};

struct mesh_server_options {
    const char *
        endpoint; /* the broker's worker side, of several "tcp://a:5602,tcp://b:5602" (at most 8, which share
                             the capacity); or with `bind` where callers connect */
    bool bind;                            /* answer callers directly, without a broker */
    const char *name;                     /* for people: "asr" */
    void *context;                        /* a ZeroMQ context to share; NULL: its own */
    uint32_t capacity;                    /* calls at once; 0: 1 */
    size_t max_message_bytes;             /* 0: 32 MiB */
    const struct mesh_security *security; /* borrowed until destroy; NULL: no CURVE */
    /* (n_interceptors) run around every call's handler, in this order; borrowed until destroy. */
    const struct mesh_interceptor *const *interceptors;
    size_t n_interceptors;
    uint32_t heartbeat_ms; /* with `bind`: how often callers show life; else a wish; 0: 1000 */
};

int mesh_server_create(const struct mesh_server_options *options, struct mesh_server **out);

/**
 * Offer a service. Before mesh_server_start().
 *
 * @param service  borrowed until destroy; its methods are the handlers
 * @param kinds    one for each method, in the .proto's order; NULL: all unary
 */
int mesh_server_add_service(struct mesh_server *server, ProtobufCService *service,
                            const enum mesh_kind *kinds);

/**
 * Have reflection describe a message that no method leads to, such as what statuses carry.
 *
 * Before the services, each of which is described with it.
 *
 * @param type  borrowed until destroy
 * @return 0; -ENOMEM
 */
int mesh_server_add_type(struct mesh_server *server, const ProtobufCMessageDescriptor *type);

/** Say something about this worker that selectors match: ("lang", "pt"). Values of a key add up. */
int mesh_server_add_label(struct mesh_server *server, const char *key, const char *value);

/** Connect (or bind), register, answer calls. Also serves Health. @return 0; -errno */
int mesh_server_start(struct mesh_server *server);
/** Where a server with `bind` listens ("tcp://127.0.0.1:*" gets its port); NULL for others; borrowed. */
const char *mesh_server_endpoint(const struct mesh_server *server);
/** Whether the broker has accepted the registration (with `bind`: whether it listens). */
bool mesh_server_ready(const struct mesh_server *server);
/** Why not, where a handshake has failed, as mesh_channel_trouble(); NULL: not known. Once started. */
const char *mesh_server_trouble(const struct mesh_server *server);
/**
 * Say how busy this process is, when calls alone do not tell: 0 to 1. Thread-safe.
 *
 * Brokers hear the greater of it and the share of `capacity` in use, and prefer workers with less.
 */
void mesh_server_set_load(struct mesh_server *server, float load);
/** Take no new calls; wait for running ones, at most grace_ms. @return 0; -ETIMEDOUT: some were cut off */
int mesh_server_drain(struct mesh_server *server, int64_t grace_ms);
/** Cancels what still runs, joins the threads. */
void mesh_server_destroy(struct mesh_server **server);

/*
 * Inside a handler. `call` is its closure data.
 *
 * Unary: fill a response, give it to the closure, return. Streaming answers: give the closure as many
 * as there are. Each is packed and sent (waiting for credit) before the closure returns; after
 * cancellation it does nothing. Streaming requests: the handler's input is NULL, read them instead.
 */

/** Next request of a streaming one. @return 0 and a message to free; -EAGAIN; -ENODATA after the
 *  caller's last; -ECANCELED */
int mesh_call_read(void *call, ProtobufCMessage **message, int wait_ms);

/** End the call with this status; the first one counts. Return soon after (a NULL to the closure is fine). */
void mesh_call_fail(void *call, enum status_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/**
 * Say more about a status that is not OK than a text can, for programs: a message, which goes with its type's name.
 *
 * Callers read it with mesh/details.h; tools show it when reflection knows the type (mesh_server_add_type()).
 *
 * @param message  packed before this returns; the last one counts
 * @return 0; -EMSGSIZE over MESH_DETAILS_MAX; -ENOMEM
 */
int mesh_call_set_details_message(void *call, const ProtobufCMessage *message);
/** The same with (size) bytes of a form of one's own; copied. */
int mesh_call_set_details(void *call, const void *data, size_t size);
/** With RESOURCE_EXHAUSTED or UNAVAILABLE: when to try again. */
void mesh_call_set_retry_delay(void *call, uint32_t ms);

/** Whether the caller has gone or the deadline has passed: stop working. Cheap: ask between steps. */
bool mesh_call_cancelled(const void *call);
/** The same as a flag that engines poll without knowing the mesh: non-zero once cancelled. */
const volatile int *mesh_call_cancel_flag(const void *call);
/** The same as a descriptor to poll: readable once cancelled. The mesh's, until the handler returns; made when
 *  first asked for. @return -errno when there is none to be had */
int mesh_call_cancel_fd(void *call);
/** Milliseconds left; INT64_MAX without a deadline; <= 0 when over. */
int64_t mesh_call_remaining_ms(const void *call);
const struct mesh_metadata *mesh_call_metadata(const void *call);
/** 32 hex digits, zeros without a trace; the handler's own thread only. */
const char *mesh_call_trace_id(const void *call);
/** The name in the caller's certificate, which it has proven to be its own (docs/security.md); NULL without CURVE. */
const char *mesh_call_peer(const void *call);
/** Before the first answer. */
int mesh_call_add_initial_metadata(void *call, const char *key, const void *value, size_t size);
int mesh_call_add_trailer(void *call, const char *key, const void *value, size_t size);

#endif
