/*
 * world.h - where an interop case runs: over which transport, with which broker and workers
 */
#ifndef TESTS_MESH_INTEROP_WORLD_H
#define TESTS_MESH_INTEROP_WORLD_H

#include "tests/mesh/interop/service.h"
#include "tests/mesh/keys.h"
#include "tests/mesh/proxy.h"
#include "tests/mesh/raw.h"
#include "tests/mesh/rig.h"

#define WORLD_WORKERS 6
#define WORLD_AGE_MS 200
#define WORLD_CAPACITY 8 /* of a worker that says nothing else */

struct broker;

struct transport {
    const char *name;
    const char *front, *back; /* "%s": a folder; back is NULL without a broker */
    bool proxied;             /* both ways over a proxy: late and in slices */
    bool curve;
};

extern const struct transport transports[]; /* ended by a NULL name */

enum {
    BARE = 1,     /* no worker yet */
    BROKERED = 2, /* means nothing without a broker */
    BEATS = 4,    /* a heartbeat each 100 ms */
    ONCE = 8,     /* the same over any transport: over broker-tcp only */
    CURVE = 16,   /* means nothing without keys, and a broker that checks them */
    AGES = 32,    /* the broker asks callers that stayed for WORLD_AGE_MS to come anew */
};

/* What workers' interceptors look for in metadata: a status to end the call with, a token. */
#define WORLD_FAULT_KEY "x-fault-abort"
#define WORLD_TOKEN_KEY "authorization"
#define WORLD_TOKEN "a-good-token"

struct interop_case {
    const char *name;
    CMUnitTestFunction run;
    unsigned flags;
};

#define CASE(name, flags)                                                                          \
    {                                                                                              \
#name, name, flags                                                                         \
    }

/* Each ended by a NULL name. */
extern const struct interop_case core_cases[], flow_cases[], session_cases[], bad_client_cases[],
    end_to_end_cases[], retry_cases[], balance_cases[], auth_cases[], details_cases[], age_cases[];

struct world {
    const struct transport *transport;
    uint32_t heartbeat_ms, max_session_age_ms;
    void *context;
    char folder[64];
    char front[128], back[128]; /* where callers and workers connect: maybe the proxy's */
    char broker_front[128], broker_back[128];
    struct keys keys; /* with CURVE */
    struct broker *broker;
    struct proxy *front_proxy, *back_proxy;
    struct interop_worker workers[WORLD_WORKERS];
    struct mesh_channel *channel;
    struct raw raw; /* socket: NULL when there is none */
};

int world_setup(void **state); /* *state: a struct world_plan */
int world_teardown(void **state);

struct world_plan {
    const struct transport *transport;
    unsigned flags;
};

/* ---- its parts ------------------------------------------------------------------------------- */

struct world_worker {
    uint32_t capacity;  /* 0: WORLD_CAPACITY */
    const char *labels; /* "key=value,key=value"; NULL: none */
};

/** Start worker i and wait until it is ready. */
void world_start(struct world *world, int i, const struct world_worker *options);
void world_stop(struct world *world, int i);
void world_start_broker(struct world *world);
void world_stop_broker(struct world *world, int64_t grace_ms);
/** Another channel; NULL: as the world's own. */
struct mesh_channel *world_channel(const struct world *world,
                                   const struct mesh_channel_options *options);
/** A caller that says what it likes, before HELLO. One at a time; raw_close() it, or leave it to the teardown. */
struct raw *world_raw(struct world *world);
/** The same after HELLO and WELCOME. */
struct raw *world_raw_caller(struct world *world);
/** An answerer that does: bound in a server's place, or registered as a worker of Echo. BARE. */
struct raw *world_raw_answerer(struct world *world);

/** Fewer, where each takes its time. */
int world_count(const struct world *world, int n, int fewer);

/* ---- calls ----------------------------------------------------------------------------------- */

typedef Dragoman__Interop__V1__Empty empty_message;
typedef Dragoman__Interop__V1__Payload payload_message;
typedef Dragoman__Interop__V1__SimpleRequest simple_request;
typedef Dragoman__Interop__V1__SimpleResponse simple_response;
typedef Dragoman__Interop__V1__StreamingOutputCallRequest output_request;
typedef Dragoman__Interop__V1__StreamingOutputCallResponse output_response;

#define TEST_SERVICE (&dragoman__interop__v1__test_service__descriptor)
#define TEST_PATH(method) ("/dragoman.interop.v1.TestService/" method)
#define SIMPLE_REQUEST DRAGOMAN__INTEROP__V1__SIMPLE_REQUEST__INIT
#define OUTPUT_REQUEST DRAGOMAN__INTEROP__V1__STREAMING_OUTPUT_CALL_REQUEST__INIT

/** UnaryCall, 10 s at most unless the options say something. The response, when asked for and OK, is to be freed. */
struct status unary(struct mesh_channel *channel, const simple_request *request,
                    const struct mesh_call_options *options, simple_response **response);
/** It must be OK, and the answer as asked. @return who served it */
uint32_t unary_ok(struct mesh_channel *channel, const simple_request *request,
                  const struct mesh_call_options *options);
/** An empty one. */
enum status_code ping(struct mesh_channel *channel, const char *selector);

/** Payload of random or repeating bytes; to be freed with payload_free(). */
payload_message *payload_new(size_t size, bool compressible);
void payload_free(payload_message *payload);

struct mesh_stream *stream_open(struct mesh_channel *channel, const char *method,
                                const struct mesh_call_options *options);
/** UnaryCall as a stream that has been sent off. */
struct mesh_stream *unary_open(struct mesh_channel *channel, const simple_request *request,
                               const struct mesh_call_options *options);
/** Ask for one answer of this size, with a payload to go there. @return as mesh_stream_write() */
int stream_ask(struct mesh_stream *stream, uint32_t size, bool compressible, size_t payload);
/** Write to StreamingInputCall. */
int stream_put(struct mesh_stream *stream, size_t size, bool compressible);
/** The next answer has these bytes. */
void stream_expect(struct mesh_stream *stream, uint32_t size, bool compressible);
/** No more answers; how it ended. */
struct status stream_end(struct mesh_stream *stream);
void stream_expect_end(struct mesh_stream *stream, enum status_code code);

/** OPEN of any method. */
void raw_open_path(struct raw *raw, uint64_t call_id, const char *path, uint16_t flags,
                   const ProtobufCMessage *request);

int count_fds(void);

#endif
