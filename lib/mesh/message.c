#include "mesh/message.h"

#include "mesh/sanitize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUTING_ID_BYTES 5     /* a zero and 32 bits, as ROUTER draws them */
#define COMPRESS_MIN 512       /* bytes; smaller bodies are not worth lz4's time */
#define FRAME_SLACK (64 << 10) /* header and Meta, beside the body */

#ifdef MESH_TSAN
/* What libzmq's own threads do, to memory above all, is not ours to judge. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}
#endif

/* ---- building -------------------------------------------------------------------------------- */

/* Pack into memory of its own, for lz4 to read. NULL when memory is out. */
static uint8_t *pack_aside(const ProtobufCMessage *body, size_t size, uint8_t **room)
{
    uint8_t *packed = malloc(2 * size + 1);

    if (!packed)
        return NULL;
    protobuf_c_message_pack(body, packed);
    *room = packed + size;
    return packed;
}

static int place_body(struct mesh_message *out, uint8_t *inline_at, const ProtobufCMessage *body,
                      const uint8_t *packed, size_t size)
{
    uint8_t *at = inline_at;

    if (!at) {
        if (zmq_msg_init_size(&out->body, size) < 0)
            return -ENOMEM;
        out->has_body = true;
        at = zmq_msg_data(&out->body);
    }
    if (packed)
        memcpy(at, packed, size);
    else
        protobuf_c_message_pack(body, at);
    return 0;
}

/* The Meta of a message to be built: a message, or its bytes. */
struct meta_source {
    const mesh_meta *meta;
    const uint8_t *packed;
    size_t size;
};

static void place_meta(const struct meta_source *meta, uint8_t *at)
{
    if (meta->meta)
        protobuf_c_message_pack(&meta->meta->base, at);
    else if (meta->size > 0)
        memcpy(at, meta->packed, meta->size);
}

static int assemble(const struct mesh_header *header, const struct meta_source *meta,
                    const ProtobufCMessage *body, const uint8_t *packed, size_t body_size,
                    struct mesh_message *out)
{
    bool in_line = (header->flags & MESH_INLINE) != 0;
    size_t size = MESH_HEADER_BYTES + meta->size + (in_line ? body_size : 0);
    uint8_t *at;

    out->next = NULL;
    out->peer = 0;
    out->has_body = false;
    if (zmq_msg_init_size(&out->first, size) < 0)
        return -ENOMEM;
    at = zmq_msg_data(&out->first);
    mesh_header_encode(header, at);
    at += MESH_HEADER_BYTES;
    place_meta(meta, at);
    at += meta->size;
    if (body && place_body(out, in_line ? at : NULL, body, packed, body_size) < 0) {
        zmq_msg_close(&out->first);
        return -ENOMEM;
    }
    return 0;
}

static int build(const struct mesh_header *header, const struct meta_source *meta,
                 const ProtobufCMessage *body, bool compress, struct mesh_message *out)
{
    struct mesh_header full = *header;
    size_t size = body ? protobuf_c_message_get_packed_size(body) : 0;
    uint8_t *packed = NULL;
    uint8_t *room = NULL;
    size_t shrunk = 0;
    int err;

    if (meta->size > MESH_META_MAX || size > UINT32_MAX)
        return -EMSGSIZE;
    full.flags &= (uint16_t) ~(MESH_MESSAGE | MESH_INLINE | MESH_LZ4);
    full.meta_bytes = (uint32_t)meta->size;
    full.body_bytes = (uint32_t)size;
    if (compress && size >= COMPRESS_MIN) {
        packed = pack_aside(body, size, &room);
        if (!packed)
            return -ENOMEM;
        shrunk = mesh_body_compress(packed, size, room);
    }
    if (shrunk > 0) {
        full.flags |= MESH_LZ4;
        size = shrunk;
    }
    if (body)
        full.flags |= size <= MESH_INLINE_MAX ? MESH_MESSAGE | MESH_INLINE : MESH_MESSAGE;
    err = assemble(&full, meta, body, shrunk > 0 ? room : packed, size, out);
    free(packed);
    return err;
}

int mesh_message_build(const struct mesh_header *header, const mesh_meta *meta,
                       const ProtobufCMessage *body, bool compress, struct mesh_message *out)
{
    struct meta_source source = {.meta = meta};

    if (meta)
        source.size = protobuf_c_message_get_packed_size(&meta->base);
    return build(header, &source, body, compress, out);
}

int mesh_message_build_packed(const struct mesh_header *header, const uint8_t *meta,
                              size_t meta_size, const ProtobufCMessage *body, bool compress,
                              struct mesh_message *out)
{
    struct meta_source source = {.packed = meta, .size = meta_size};

    return build(header, &source, body, compress, out);
}

void mesh_message_set_header(struct mesh_message *message, const struct mesh_header *header)
{
    mesh_header_encode(header, zmq_msg_data(&message->first));
}

int mesh_message_set_meta(struct mesh_message *message, const mesh_meta *meta)
{
    size_t meta_size = protobuf_c_message_get_packed_size(&meta->base);
    struct mesh_frame frame;
    size_t in_line;
    zmq_msg_t first;
    uint8_t *at;

    if (meta_size > MESH_META_MAX)
        return -EMSGSIZE;
    mesh_message_frame(message, &frame);
    in_line = frame.header.flags & MESH_INLINE ? frame.body_size : 0;
    if (zmq_msg_init_size(&first, MESH_HEADER_BYTES + meta_size + in_line) < 0)
        return -ENOMEM;
    frame.header.meta_bytes = (uint32_t)meta_size;
    at = zmq_msg_data(&first);
    mesh_header_encode(&frame.header, at);
    protobuf_c_message_pack(&meta->base, at + MESH_HEADER_BYTES);
    if (in_line > 0)
        memcpy(at + MESH_HEADER_BYTES + meta_size, frame.body, in_line);
    zmq_msg_move(&message->first, &first);
    zmq_msg_close(&first);
    return 0;
}

void mesh_message_frame(struct mesh_message *message, struct mesh_frame *out)
{
    uint8_t *first = zmq_msg_data(&message->first);
    size_t known;

    mesh_header_read(first, &out->header);
    known = MESH_HEADER_BYTES + out->header.meta_bytes;
    out->meta = first + MESH_HEADER_BYTES;
    out->body = NULL;
    out->body_size = 0;
    if (message->has_body) {
        out->body = zmq_msg_data(&message->body);
        out->body_size = zmq_msg_size(&message->body);
    } else if (out->header.flags & MESH_INLINE) {
        out->body = first + known;
        out->body_size = zmq_msg_size(&message->first) - known;
    }
}

size_t mesh_message_bytes(struct mesh_message *message)
{
    return zmq_msg_size(&message->first) + (message->has_body ? zmq_msg_size(&message->body) : 0);
}

void mesh_message_close(struct mesh_message *message)
{
    zmq_msg_close(&message->first);
    if (message->has_body)
        zmq_msg_close(&message->body);
    message->has_body = false;
}

void mesh_message_move(struct mesh_message *to, struct mesh_message *from)
{
    to->next = NULL;
    to->peer = from->peer;
    to->has_body = from->has_body;
    zmq_msg_init(&to->first);
    zmq_msg_move(&to->first, &from->first);
    if (from->has_body) {
        zmq_msg_init(&to->body);
        zmq_msg_move(&to->body, &from->body);
    }
    from->has_body = false;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static int recv_part(void *socket, zmq_msg_t *part)
{
    int rc;

    zmq_msg_init(part);
    do
        rc = zmq_msg_recv(part, socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        MESH_RECEIVED(zmq_msg_data(part));
    return rc < 0 ? -errno : 0;
}

/* The rest of a message with too many parts. */
static void drop_rest(void *socket)
{
    zmq_msg_t part;
    bool more = true;

    while (more && recv_part(socket, &part) == 0) {
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
}

static int recv_routing_id(void *socket, uint64_t *peer)
{
    zmq_msg_t part;
    uint32_t id = 0;
    int err = recv_part(socket, &part);

    if (err < 0)
        return err;
    if (zmq_msg_size(&part) == ROUTING_ID_BYTES && zmq_msg_more(&part))
        memcpy(&id, (const uint8_t *)zmq_msg_data(&part) + 1, sizeof(id));
    else
        err = -EBADMSG;
    if (err < 0 && zmq_msg_more(&part))
        drop_rest(socket);
    zmq_msg_close(&part);
    *peer = id;
    return err;
}

int mesh_message_recv_any(void *socket, enum mesh_socket_kind kind, struct mesh_message *out)
{
    int err;

    out->next = NULL;
    out->peer = 0;
    out->has_body = false;
    if (kind == MESH_ROUTER) {
        err = recv_routing_id(socket, &out->peer);
        if (err < 0)
            return err;
    }
    err = recv_part(socket, &out->first);
    if (err < 0 || !zmq_msg_more(&out->first))
        return err;
    err = recv_part(socket, &out->body);
    if (err == 0) {
        out->has_body = true;
        if (!zmq_msg_more(&out->body))
            return 0;
        drop_rest(socket);
        err = -EBADMSG;
    }
    mesh_message_close(out);
    return err;
}

int mesh_message_decode(struct mesh_message *message, struct mesh_frame *frame)
{
    int err = mesh_frame_decode(zmq_msg_data(&message->first), zmq_msg_size(&message->first),
                                message->has_body ? zmq_msg_data(&message->body) : NULL,
                                message->has_body ? zmq_msg_size(&message->body) : 0, frame);

    if (err < 0)
        mesh_message_close(message);
    return err;
}

int mesh_message_recv(void *socket, enum mesh_socket_kind kind, struct mesh_message *out,
                      struct mesh_frame *frame)
{
    int err = mesh_message_recv_any(socket, kind, out);

    return err < 0 ? err : mesh_message_decode(out, frame);
}

/* ---- sending --------------------------------------------------------------------------------- */

static int send_part(void *socket, zmq_msg_t *part, int flags)
{
    int rc;

    MESH_SENT(zmq_msg_data(part));
    do
        rc = zmq_msg_send(part, socket, flags | ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int send_routing_id(void *socket, uint64_t peer)
{
    uint32_t id = (uint32_t)peer;
    zmq_msg_t part;
    uint8_t *data;
    int err;

    zmq_msg_init_size(&part, ROUTING_ID_BYTES); /* small enough to need no memory */
    data = zmq_msg_data(&part);
    data[0] = 0;
    memcpy(data + 1, &id, sizeof(id));
    err = send_part(socket, &part, ZMQ_SNDMORE);
    if (err < 0)
        zmq_msg_close(&part);
    return err;
}

int mesh_message_send(void *socket, enum mesh_socket_kind kind, struct mesh_message *message)
{
    int err;

    if (kind == MESH_ROUTER) {
        err = send_routing_id(socket, message->peer);
        if (err < 0)
            return err;
    }
    err = send_part(socket, &message->first, message->has_body ? ZMQ_SNDMORE : 0);
    if (err < 0)
        return err;
    if (message->has_body)
        err = send_part(socket, &message->body, 0);
    message->has_body = false;
    return err;
}

/* ---- sockets --------------------------------------------------------------------------------- */

static int set_option(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof(value));
}

void *mesh_socket_open(void *context, enum mesh_socket_kind kind, size_t max_message_bytes)
{
    void *socket = zmq_socket(context, kind == MESH_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    int64_t max_frame = (int64_t)max_message_bytes + FRAME_SLACK;

    if (!socket)
        return NULL;
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame));
    set_option(socket, ZMQ_LINGER, 0);
    set_option(socket, ZMQ_SNDHWM, 4096);
    set_option(socket, ZMQ_RCVHWM, 4096);
    set_option(socket, ZMQ_HANDSHAKE_IVL, 3000);
    set_option(socket, ZMQ_BACKLOG, 1024);
    if (kind == MESH_ROUTER) {
        set_option(socket, ZMQ_ROUTER_MANDATORY, 1);
    } else {
        set_option(socket, ZMQ_IMMEDIATE, 1);
        set_option(socket, ZMQ_CONNECT_TIMEOUT, 2000);
        set_option(socket, ZMQ_RECONNECT_IVL, 50);
        set_option(socket, ZMQ_RECONNECT_IVL_MAX, 1000);
    }
    return socket;
}

void mesh_socket_prepare(void *socket, const char *endpoint)
{
    set_option(socket, ZMQ_IPV6, strncmp(endpoint, "tcp://[", 7) == 0);
}

/* ---- unpacking ------------------------------------------------------------------------------- */

int mesh_frame_unpack(const struct mesh_frame *frame, const ProtobufCMessageDescriptor *type,
                      size_t max_message_bytes, ProtobufCMessage **out)
{
    const uint8_t *packed = frame->body;
    uint8_t *room = NULL;
    size_t size = frame->header.body_bytes;
    ProtobufCMessage *message = NULL;
    int err = -EBADMSG;

    if (!packed)
        return -EBADMSG;
    if (size > max_message_bytes)
        return -EMSGSIZE;
    if (frame->header.flags & MESH_LZ4) {
        room = malloc(size + 1);
        if (!room)
            return -ENOMEM;
        if (mesh_body_expand(frame->body, frame->body_size, room, size) < 0)
            goto done;
        packed = room;
    }
    message = protobuf_c_message_unpack(type, NULL, size, packed);
    if (message) {
        *out = message;
        err = 0;
    }
done:
    free(room);
    return err;
}

int mesh_meta_unpack(const struct mesh_frame *frame, mesh_meta **out)
{
    mesh_meta *meta = dragoman__mesh__v1__meta__unpack(NULL, frame->header.meta_bytes, frame->meta);

    if (!meta)
        return -EBADMSG;
    *out = meta;
    return 0;
}
