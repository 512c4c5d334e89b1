/*
 * echo.h - the service that tests of the mesh call, and what its handlers saw
 */
#ifndef TESTS_MESH_ECHO_H
#define TESTS_MESH_ECHO_H

#include "mesh/server.h"
#include "tests/mesh/echo.pb-c.h"

#include <stdatomic.h>

/* Metadata under these keys comes back, as in gRPC's interop tests. */
#define ECHO_INITIAL "x-test-echo-initial"
#define ECHO_TRAILING "x-test-echo-trailing-bin"
/* And under this one the trace id that the handler saw, as a trailer, whatever the value. */
#define ECHO_TRACE "x-test-trace"
/* Likewise the name in the caller's certificate; nothing when it is not known. */
#define ECHO_PEER "x-test-peer"

struct echo_counts {
    atomic_int started, ended, cancelled;
    atomic_int running, most_running;
    atomic_llong received; /* messages of streams read */
    atomic_llong cancelled_at_ns;
};

extern struct echo_counts echo_counts;
void echo_reset(void);

/** Offer it, without Missing. */
int echo_add(struct mesh_server *server);

/** An answer's payload: reproducible bytes that do not compress, or text that does. */
void echo_fill(uint8_t *data, size_t size);

#endif
