/*
 * ends.h - two ends of a Unix socket that speak ZMTP: ours, libzmq's, or one played by hand, byte by byte
 */
#ifndef TESTS_MESH_ENDS_H
#define TESTS_MESH_ENDS_H

#include "mesh/ipc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENDS_MAX_BYTES                                                                             \
    ((size_t)2 << 20) /* of a message; libzmq's and our ends have the same limit */
#define ENDS_WAIT_MS 10000

/* One of both is set. */
struct end {
    enum mesh_socket_kind kind;
    struct mesh_ipc *ipc;
    void *zmq;
};

/** A test's setup and teardown: a folder of its own, and a context. */
int ends_setup(void **state);
int ends_teardown(void **state);
/** A name in that folder; valid until the next but three. */
const char *ends_path(const char *name);
void *ends_context(void);

/** A ROUTER that listens, or a DEALER that connects. */
struct end ends_open(enum mesh_socket_kind kind, bool libzmqs, const char *path);
void ends_close(struct end *end, int linger_ms);

/** A message of such sizes, filled from `seed`. @param body  SIZE_MAX: it has none */
void ends_fill(struct mesh_message *message, uint8_t seed, size_t first, size_t body);
/** It must be that, and is closed. */
void ends_check(struct mesh_message *message, uint8_t seed, size_t first, size_t body);
/** The number in a message of ends_number(). Closes it. */
uint32_t ends_read_number(struct mesh_message *message);
void ends_number(struct mesh_message *message, uint64_t peer, uint32_t number);

int ends_try_send(struct end *end, struct mesh_message *message);
int ends_try_recv(struct end *end, struct mesh_message *message);
/** Wait until there is a message. While it waits, `other` goes on with its handshake (and may get nothing). @return -EAGAIN: none
 *  came in time; or as mesh_ipc_recv() */
int ends_recv(struct end *end, struct end *other, struct mesh_message *message);
/** Let it work for a moment; it must receive nothing. */
void ends_idle(struct end *end, int ms);
/** Send until it is taken, while both ends go on. */
void ends_send(struct end *end, struct end *other, struct mesh_message *message);
/** A message from the DEALER to the ROUTER. @return the number that the DEALER has there */
uint64_t ends_meet(struct end *router, struct end *dealer);

/** A connection whose bytes are the test's. */
int ends_raw(const char *path);
void ends_write(int fd, const void *bytes, size_t size);
/** What a DEALER says first, after which messages may follow. */
void ends_raw_greet(int fd);
/** Whether the other side has closed it, while that works on. */
bool ends_raw_closed(int fd, struct end *router);

/** What mesh_broken_connections_total counts. */
unsigned ends_broken(void);

#endif
