/*
 * service.h - a worker of TestService (interop.proto), and what its handlers saw
 */
#ifndef TESTS_MESH_INTEROP_SERVICE_H
#define TESTS_MESH_INTEROP_SERVICE_H

#include "mesh/server.h"
#include "tests/mesh/interop/interop.pb-c.h"

#include <stdatomic.h>

/* Metadata under these keys comes back, as in gRPC's interop tests. */
#define INTEROP_INITIAL "x-grpc-test-echo-initial"
#define INTEROP_TRAILING "x-grpc-test-echo-trailing-bin"

struct interop_worker {
    Dragoman__Interop__V1__TestService_Service service; /* first: handlers get it */
    uint32_t id;
    struct mesh_server *server;
    atomic_int started, ended, cancelled;
    atomic_int running, most_running;
    atomic_int received, sent; /* messages of streams */
    atomic_llong cancelled_at_ns;
    atomic_ullong failed_secret; /* the last that `fail_first` was said for */
    atomic_int failures;         /* and how often */
};

/** Handlers and counters; the caller's memory. */
void interop_worker_init(struct interop_worker *worker, uint32_t id);
/** Offer it at a server, all but UnimplementedCall. */
int interop_worker_add(struct interop_worker *worker, struct mesh_server *server);

/** Bytes that look random, or letters that repeat; reproducible. */
void interop_fill(uint8_t *data, size_t size, bool compressible);

#endif
