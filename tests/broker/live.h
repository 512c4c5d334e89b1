/*
 * live.h - a broker that runs, workers and one caller, for tests that run over inproc, ipc and tcp
 */
#ifndef TESTS_BROKER_LIVE_H
#define TESTS_BROKER_LIVE_H

#include "tests/mesh/rig.h"

#include <stdatomic.h>
#include <sys/types.h>

#define LIVE_WORKERS_MAX 4
#define LIVE_QUEUE 4 /* calls that may wait */
#ifdef __SANITIZE_THREAD__
#define LIVE_BEAT_MS 700 /* what is slowed down ten times on a busy machine is not dead yet */
#else
#define LIVE_BEAT_MS 200
#endif

/* One in each program; workers[i] may be absent. */
struct live {
    enum rig_transport transport;
    char folder[64];
    char front[128], back[128];
    void *context;
    struct broker *broker;
    struct mesh_server *workers[LIVE_WORKERS_MAX];
    struct mesh_channel *channel;
    void *raw; /* a socket that says what the mesh would not; the teardown closes it */
    atomic_int answered, failed; /* calls, as live_count_answer() counts them */
};

extern struct live live;

typedef Dragoman__Mesh__V1__DirectoryResponse directory_response;

/** Run every test over every transport, each with a broker and a channel of its own. @return the count of failures */
int live_run(int argc, char **argv, const char *name, const struct CMUnitTest *tests,
             size_t n_tests);

/** Start the broker anew, where it was. */
void live_broker_start(uint32_t queue_limit);
/** Start worker i, with the label "pair" unless that is NULL, and wait until it is registered. */
void live_worker_start(int i, uint32_t capacity, const char *pair);
/** A worker with one slot in a process of its own. @return its id, to be waited for */
pid_t live_worker_spawn(void);
/** Whether the broker knows any worker. */
bool live_worker_registered(void);

/** Echo.Unary. */
struct status live_call(const echo_request *request, const struct mesh_call_options *options);
/** The same with nothing in it, 5 s at most. */
enum status_code live_simple_call(const char *selector);
/** A call that sleeps so long, or with 0 waits for its cancellation. */
struct mesh_stream *live_long_call(uint32_t sleep_ms, const char *selector);
/** Wait for its end. */
struct status live_wait_status(struct mesh_stream *stream);
/** For mesh_unary_start(): count how it ended in live.answered or live.failed. */
void live_count_answer(void *arg, const struct status *status, ProtobufCMessage *response);

/** What the broker says of all services and workers; to be freed. */
directory_response *live_directory(void);
/** Calls that run on the i-th worker of that list; UINT32_MAX: it has no such worker. */
uint32_t live_running_of(size_t i);

#endif
