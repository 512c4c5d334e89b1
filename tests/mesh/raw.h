/*
 * raw.h - the other end of a session, played by hand, to say what no library would
 */
#ifndef TESTS_MESH_RAW_H
#define TESTS_MESH_RAW_H

#include "mesh/message.h"
#include "mesh/meta.h"
#include "mesh/security.h"
#include "tests/mesh/rig.h"

struct raw {
    enum mesh_socket_kind kind;
    void *socket;
    uint32_t peer;               /* at a ROUTER: whom we talk to */
    struct mesh_message message; /* the last received, until the next */
    struct mesh_frame frame;     /* its parts */
    bool has_message;
};

void raw_open(struct raw *raw, void *context, enum mesh_socket_kind kind, const char *endpoint);
/** The same with CURVE (NULL: without); connects only. */
void raw_open_secure(struct raw *raw, void *context, const char *endpoint,
                     const struct mesh_security *security);
void raw_close(struct raw *raw);

/** Send frames as they are. */
void raw_send_bytes(struct raw *raw, const void *first, size_t first_size, const void *second,
                    size_t second_size);
void raw_send(struct raw *raw, const struct mesh_header *header, const mesh_meta *meta,
              const ProtobufCMessage *body);
/** A header, then any bytes as its body, with the lengths that belong to them. */
void raw_send_body(struct raw *raw, struct mesh_header header, const void *body, size_t size);

/** The next message; NULL when none comes in time. */
const struct mesh_frame *raw_receive(struct raw *raw, int wait_ms);
/** It must be of this kind; others but PING, CREDIT and IDENTITY fail the test. */
const struct mesh_frame *raw_expect(struct raw *raw, uint8_t kind);
/** ERROR with this status. */
void raw_expect_error(struct raw *raw, enum status_code code);
/** END with this status; the call must be this one. */
void raw_expect_end(struct raw *raw, uint64_t call_id, enum status_code code);
/** Nothing comes. */
void raw_expect_silence(struct raw *raw);

/** HELLO and WELCOME, from either side. */
void raw_greet(struct raw *raw, uint32_t heartbeat_ms);

/** OPEN of an Echo method; request: NULL for none, else with MESSAGE. */
void raw_open_call(struct raw *raw, uint64_t call_id, const char *method, uint16_t flags,
                   const echo_request *request);

#endif
