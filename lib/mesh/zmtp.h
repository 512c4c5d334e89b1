/*
 * zmtp.h - ZMTP 3.1 with the NULL mechanism, as bytes (rfc.zeromq.org/spec/37)
 *
 * Greeting, READY and the header of a frame: what libzmq says to us and we to it. Pure functions.
 */
#ifndef MESH_ZMTP_H
#define MESH_ZMTP_H

#include "mesh/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZMTP_GREETING_BYTES 64
#define ZMTP_VERSION_BYTES 12 /* of it, which say that it is one, and of what version */
#define ZMTP_HEADER_MAX 9     /* bytes before a frame: flags, length */
#define ZMTP_COMMAND_MAX 512  /* bytes of a command; libzmq's have less than 100 */

struct zmtp_header {
    bool more;    /* another frame of the same message follows */
    bool command; /* it is no message */
    uint64_t size;
};

/** What each side says first. */
void zmtp_greeting_write(uint8_t out[ZMTP_GREETING_BYTES]);
/** Look at the bytes of a greeting that have come. @return 0: so far it is one; -EPROTO */
int zmtp_greeting_check(const uint8_t *bytes, size_t size);

/** Whether a greeting that was refused names another mechanism. */
bool zmtp_greeting_differs(const uint8_t *bytes, size_t size);

/** READY, a frame. @return its size, at most ZMTP_COMMAND_MAX */
size_t zmtp_ready_write(enum mesh_socket_kind kind, uint8_t out[ZMTP_COMMAND_MAX]);
/** The peer's READY, a command's body. @param kind  ours. @return 0; -EPROTO: another command, or a socket that does not fit */
int zmtp_ready_check(enum mesh_socket_kind kind, const uint8_t *body, size_t size);

/** @return bytes written, at most ZMTP_HEADER_MAX */
size_t zmtp_header_write(bool more, uint64_t size, uint8_t *out);
/** @return bytes of the header; 0: there are not enough yet; -EPROTO */
int zmtp_header_read(const uint8_t *bytes, size_t size, struct zmtp_header *out);

/** The answer to a PING, a frame. @return its size; 0: the command is no PING */
size_t zmtp_pong_write(const uint8_t *body, size_t size, uint8_t out[ZMTP_COMMAND_MAX]);

#endif
