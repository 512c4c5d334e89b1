/*
 * channel.h - the caller's side: a connection to a broker (or straight to a server), and calls on it
 *
 * A channel may be used from any number of threads; one thread of its own, or one that blocks in a call, moves its
 * frames. It connects in the background and reconnects by itself with jittered backoff. Every call ends with
 * exactly one status, whatever dies: lost connections and missed heartbeats end it UNAVAILABLE, or have it tried again
 * (mesh/retry.h).
 */
#ifndef MESH_CHANNEL_H
#define MESH_CHANNEL_H

#include "base/status.h"
#include "mesh/interceptor.h"
#include "mesh/metadata.h"
#include "mesh/retry.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct mesh_channel;
struct mesh_security;
struct mesh_stream;

struct mesh_channel_options {
    /* "tcp://host:5601", "ipc:///run/dragoman/broker", "inproc://broker"; or up to eight brokers, "tcp://a:5601,tcp://b:5601":
     * it is connected to all, and calls go to those that stand. */
    const char *endpoint;
    const char *name; /* for people: "gateway" */
    void *context;    /* a ZeroMQ context to share (inproc:// needs the broker's); NULL: its own */
    size_t max_message_bytes;             /* 0: 32 MiB */
    uint32_t heartbeat_ms;                /* 0: the peer's wish */
    const struct mesh_security *security; /* borrowed until destroy; NULL: no CURVE */
    /* (n_interceptors) run around every call, in this order; borrowed until destroy. */
    const struct mesh_interceptor *const *interceptors;
    size_t n_interceptors;
    const struct mesh_retry_options
        *retry; /* for calls marked idempotent; copied; NULL: defaults */
};

/** @return 0 (not yet connected: calls wait or fail as their options say); -EINVAL for an endpoint that leads
 *  nowhere, inproc:// without a context to share among them, too many interceptors or endpoints, a retry policy out of
 *  range; -ENOMEM */
int mesh_channel_create(const struct mesh_channel_options *options, struct mesh_channel **out);
/** Ends all its calls CANCELLED. Streams must be destroyed before. */
void mesh_channel_destroy(struct mesh_channel **channel);
/** Whether a session with a peer that takes calls stands at this moment. */
bool mesh_channel_connected(const struct mesh_channel *channel);
/** Why not, where a handshake has failed: "the peer refuses this key: ..."; NULL: not known. A constant. */
const char *mesh_channel_trouble(const struct mesh_channel *channel);

/**
 * What comes with the answer of a unary call besides its message. Streams have functions for it, below.
 *
 * Whoever wants it names one in the call's options; what is in it is overwritten. It is filled when mesh_unary()
 * returns or `done` is called, and must stay until then. Then it is the caller's, until mesh_answer_meta_fini(). A
 * call that could not be started has nothing in it.
 */
struct mesh_answer_meta {
    struct mesh_metadata *initial, *trailers; /* the worker's; NULL: none */
    /* What the handler said about a status that is not OK besides the message (mesh/details.h); one of the
     * trailers, and gone with them; NULL: nothing. */
    const void *details;
    size_t details_size;
};

/** Frees what is in it, which may be nothing. */
void mesh_answer_meta_fini(struct mesh_answer_meta *meta);

struct mesh_call_options {
    int64_t timeout_ms;   /* from now; 0: none */
    const char *selector; /* "lang=en,model=tiny.en": which workers may serve; NULL: any */
    const char *tenant;   /* whose share of the queue pays; NULL: the default tenant */
    const char *
        affinity; /* a session: its calls go to one worker, as long as that can take them; NULL: none */
    const struct mesh_metadata *metadata; /* copied */
    bool wait_for_ready; /* wait for a worker until the deadline instead of UNAVAILABLE at once */
    bool idempotent;     /* may run twice: tried again when a worker, broker or connection dies */
    bool compress;       /* try lz4 on large messages (text; audio does not shrink) */
    const char
        *trace_id; /* 32 hex digits, or a whole traceparent; NULL: the thread's, else a new one */
    struct mesh_answer_meta *answer_meta; /* of a unary call; NULL: not wanted */
};

/**
 * One request, one response. Blocks.
 *
 * @param service   descriptor, e.g. &dragoman__translate__v1__translator__descriptor
 * @param method    "Translate"
 * @param options   NULL: defaults
 * @param response  on STATUS_OK the message, freed with protobuf_c_message_free_unpacked(); else NULL
 * @param status    how it ended, always filled
 * @return 0 when status->code is STATUS_OK; -EREMOTEIO otherwise; -EINVAL for an unknown method
 */
int mesh_unary(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
               const char *method, const ProtobufCMessage *request,
               const struct mesh_call_options *options, ProtobufCMessage **response,
               struct status *status);

/**
 * How mesh_unary_start() gives its answer: once, on the channel's thread, where it must not block but may
 * start further calls.
 *
 * @param response  as of mesh_unary(); the callee's now
 */
typedef void mesh_unary_done(void *arg, const struct status *status, ProtobufCMessage *response);

/**
 * One request, one response, without a thread that waits.
 *
 * @return 0: `done` will be called; -EINVAL, -EMSGSIZE, -ENOMEM: it will not
 */
int mesh_unary_start(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                     const char *method, const ProtobufCMessage *request,
                     const struct mesh_call_options *options, mesh_unary_done *done, void *arg);

/**
 * Start a call of any kind. Never blocks. The first write, finish or read sends it off.
 *
 * Write any number of messages (one for a unary or server-streaming method), say mesh_stream_finish(),
 * read until -ENODATA, look at the status, destroy. Reading and writing may happen on two threads. A call that
 * an interceptor refuses is over from the start.
 *
 * @return 0; -EINVAL: an unknown method, a bad selector or trace, answer_meta in the options; -EMSGSIZE: metadata
 *         that no frame holds; -ENOMEM
 */
int mesh_stream_open(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                     const char *method, const struct mesh_call_options *options,
                     struct mesh_stream **out);

/**
 * Call `notify` from the channel's own thread whenever a read or write that would have blocked may go on,
 * and at the end. It must not block nor call into the mesh: wake your own loop there.
 */
void mesh_stream_on_event(struct mesh_stream *stream, void (*notify)(void *arg), void *arg);

/**
 * Send one message.
 *
 * @param wait_ms  how long to wait for credit; 0: not at all; -1: until the call ends
 * @return 0; -EAGAIN without credit in time; -EPIPE when the call is over (read its status);
 *         -EMSGSIZE when larger than the channel allows (the call goes on); -EINVAL after finish
 */
int mesh_stream_write(struct mesh_stream *stream, const ProtobufCMessage *message, int wait_ms);

/** No more messages from this side. @return 0, also when the call is over already; -ENOMEM */
int mesh_stream_finish(struct mesh_stream *stream);

/**
 * Receive one message.
 *
 * @param wait_ms  as for mesh_stream_write()
 * @param message  the caller's, freed with protobuf_c_message_free_unpacked(); untouched unless 0
 * @return 0; -EAGAIN; -ENODATA when the call is over and nothing is left to read
 */
int mesh_stream_read(struct mesh_stream *stream, ProtobufCMessage **message, int wait_ms);

/** How the call ended. @return true when it has (the status is filled); false while it runs */
bool mesh_stream_status(const struct mesh_stream *stream, struct status *status);

/** The worker's initial metadata (after the first read) and trailers (after the end); borrowed. */
const struct mesh_metadata *mesh_stream_initial_metadata(struct mesh_stream *stream);
const struct mesh_metadata *mesh_stream_trailers(struct mesh_stream *stream);
/** What the handler said about a status that is not OK besides the message (mesh/details.h); borrowed from the
 *  trailers, of which it is one; NULL: nothing. */
const void *mesh_stream_details(struct mesh_stream *stream, size_t *size);

/** End the call here and at the worker. Reads give -ENODATA at once, the status is CANCELLED. */
void mesh_stream_cancel(struct mesh_stream *stream);

/** Cancels a running call. */
void mesh_stream_destroy(struct mesh_stream **stream);

#endif
