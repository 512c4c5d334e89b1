/*
 * message.h - one message of the wire on its way through a ZeroMQ socket
 *
 * Frames are checked here as they arrive; what passes has a valid header and parts that agree. Nothing
 * blocks. Whoever owns the socket calls these, from that one thread; building a message needs none.
 */
#ifndef MESH_MESSAGE_H
#define MESH_MESSAGE_H

#include "mesh/frame.h"
#include "proto/mesh.pb-c.h"

#include <zmq.h>

typedef Dragoman__Mesh__V1__Meta mesh_meta; /* shorter to read */

enum mesh_socket_kind { MESH_DEALER, MESH_ROUTER };

struct mesh_message {
    struct mesh_message *next; /* for whoever queues it */
    uint64_t peer;             /* at a ROUTER: the routing id, where it came from or goes to */
    bool has_body;             /* whether `body` is a frame of its own */
    zmq_msg_t first;
    zmq_msg_t body;
};

/**
 * Build a message: Meta and body are packed, and compressed when asked and smaller for it.
 *
 * @param header    kind, call and so on; meta_bytes, body_bytes and the flags MESSAGE, INLINE and
 *                  LZ4 are set here
 * @param meta      NULL: none
 * @param body      NULL: none
 * @return 0, message_close() or a successful send ends it; -EMSGSIZE: Meta over its limit; -ENOMEM
 */
int mesh_message_build(const struct mesh_header *header, const mesh_meta *meta,
                       const ProtobufCMessage *body, bool compress, struct mesh_message *out);

/** The same with a Meta that is packed already, (meta_size). */
int mesh_message_build_packed(const struct mesh_header *header, const uint8_t *meta,
                              size_t meta_size, const ProtobufCMessage *body, bool compress,
                              struct mesh_message *out);

/** Write a header over the one that is there; its meta_bytes and body_bytes must be the same. */
void mesh_message_set_header(struct mesh_message *message, const struct mesh_header *header);

/** Put another Meta in. @return 0; -EMSGSIZE, -ENOMEM: it is as before, and still to be closed */
int mesh_message_set_meta(struct mesh_message *message, const mesh_meta *meta);

/** Look at it again. Its frames are known to be valid. */
void mesh_message_frame(struct mesh_message *message, struct mesh_frame *out);

/** Bytes it occupies, for bounds. */
size_t mesh_message_bytes(struct mesh_message *message);

/**
 * Receive one message.
 *
 * @param out    unless -EAGAIN, peer is set; on 0 the caller's until sent or closed
 * @param frame  its parts, borrowed from *out
 * @return 0; -EAGAIN: none; -EBADMSG, -EPROTONOSUPPORT: the peer sent rubbish (dropped); or what
 *         failed in the socket
 */
int mesh_message_recv(void *socket, enum mesh_socket_kind kind, struct mesh_message *out,
                      struct mesh_frame *frame);

/** The same without a look at what it is: see mesh_message_decode(), and inbox.h. */
int mesh_message_recv_any(void *socket, enum mesh_socket_kind kind, struct mesh_message *out);
/** Check what came. @return 0; -EBADMSG, -EPROTONOSUPPORT: rubbish, which is closed */
int mesh_message_decode(struct mesh_message *message, struct mesh_frame *frame);

/**
 * Send one message; at a ROUTER to message->peer.
 *
 * @return 0, the message is gone; -EAGAIN, -EHOSTUNREACH: it is still the caller's
 */
int mesh_message_send(void *socket, enum mesh_socket_kind kind, struct mesh_message *message);

void mesh_message_close(struct mesh_message *message);

/** Move into memory that holds none; the source may then be forgotten. Frames of it: look again. */
void mesh_message_move(struct mesh_message *to, struct mesh_message *from);

/** Open a socket with the options of docs/wire.md section 1. @return NULL with errno set */
void *mesh_socket_open(void *context, enum mesh_socket_kind kind, size_t max_message_bytes);
/** Before it is bound or connected: numeric IPv6 addresses, "tcp://[::1]:5601", need an option; names would
 *  suffer from it, which then lead to IPv6 first, where nobody may listen. */
void mesh_socket_prepare(void *socket, const char *endpoint);

/** A body or a Meta from a frame, lz4 undone. @return 0; -EBADMSG; -EMSGSIZE over limit; -ENOMEM */
int mesh_frame_unpack(const struct mesh_frame *frame, const ProtobufCMessageDescriptor *type,
                      size_t max_message_bytes, ProtobufCMessage **out);
int mesh_meta_unpack(const struct mesh_frame *frame, mesh_meta **out);

#endif
