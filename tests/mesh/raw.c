#include "tests/mesh/raw.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void raw_open(struct raw *raw, void *context, enum mesh_socket_kind kind, const char *endpoint)
{
    *raw = (struct raw){.kind = kind};
    raw->socket = mesh_socket_open(context, kind, 64 << 20);
    assert_non_null(raw->socket);
    if (kind == MESH_ROUTER)
        assert_int_equal(zmq_bind(raw->socket, endpoint), 0);
    else
        assert_int_equal(zmq_connect(raw->socket, endpoint), 0);
}

void raw_open_secure(struct raw *raw, void *context, const char *endpoint,
                     const struct mesh_security *security)
{
    *raw = (struct raw){.kind = MESH_DEALER};
    raw->socket = mesh_socket_open(context, MESH_DEALER, 64 << 20);
    assert_non_null(raw->socket);
    assert_int_equal(mesh_security_connect(security, raw->socket), 0);
    assert_int_equal(zmq_connect(raw->socket, endpoint), 0);
}

void raw_close(struct raw *raw)
{
    if (raw->has_message)
        mesh_message_close(&raw->message);
    zmq_close(raw->socket);
    *raw = (struct raw){.kind = raw->kind};
}

static void send_part(struct raw *raw, const void *data, size_t size, int flags)
{
    int rc;

    for (int i = 0; i < 5000; i++) {
        rc = zmq_send(raw->socket, data, size, flags | ZMQ_DONTWAIT);
        if (rc >= 0 || zmq_errno() != EAGAIN)
            break;
        rig_sleep_ms(1); /* not connected yet */
    }
    assert_true(rc >= 0);
}

void raw_send_bytes(struct raw *raw, const void *first, size_t first_size, const void *second,
                    size_t second_size)
{
    uint8_t id[5] = {0};

    memcpy(id + 1, &raw->peer, sizeof(raw->peer));
    if (raw->kind == MESH_ROUTER)
        send_part(raw, id, sizeof(id), ZMQ_SNDMORE);
    send_part(raw, first, first_size, second ? ZMQ_SNDMORE : 0);
    if (second)
        send_part(raw, second, second_size, 0);
}

void raw_send(struct raw *raw, const struct mesh_header *header, const mesh_meta *meta,
              const ProtobufCMessage *body)
{
    struct mesh_message message;

    assert_int_equal(mesh_message_build(header, meta, body, false, &message), 0);
    raw_send_bytes(raw, zmq_msg_data(&message.first), zmq_msg_size(&message.first),
                   message.has_body ? zmq_msg_data(&message.body) : NULL,
                   message.has_body ? zmq_msg_size(&message.body) : 0);
    mesh_message_close(&message);
}

void raw_send_body(struct raw *raw, struct mesh_header header, const void *body, size_t size)
{
    uint8_t first[MESH_HEADER_BYTES];

    header.flags |= MESH_MESSAGE;
    if (!(header.flags & MESH_LZ4))
        header.body_bytes = (uint32_t)size;
    mesh_header_encode(&header, first);
    raw_send_bytes(raw, first, sizeof(first), body, size);
}

const struct mesh_frame *raw_receive(struct raw *raw, int wait_ms)
{
    int64_t until = clock_now_ms() + wait_ms;
    int err;

    if (raw->has_message)
        mesh_message_close(&raw->message);
    raw->has_message = false;
    while ((err = mesh_message_recv(raw->socket, raw->kind, &raw->message, &raw->frame)) ==
               -EAGAIN &&
           clock_now_ms() < until)
        rig_sleep_ms(1);
    if (err == -EAGAIN)
        return NULL;
    assert_int_equal(err, 0);
    raw->has_message = true;
    if (raw->kind == MESH_ROUTER)
        raw->peer = raw->message.peer;
    return &raw->frame;
}

const struct mesh_frame *raw_expect(struct raw *raw, uint8_t kind)
{
    const struct mesh_frame *frame = raw_receive(raw, 5000);

    while (frame && frame->header.kind != kind &&
           (frame->header.kind == MESH_PING || frame->header.kind == MESH_CREDIT ||
            frame->header.kind == MESH_IDENTITY))
        frame = raw_receive(raw, 5000);
    if (!frame)
        fail_msg("no %s came", mesh_kind_name(kind));
    if (frame->header.kind != kind)
        fail_msg("%s came, not %s", mesh_kind_name(frame->header.kind), mesh_kind_name(kind));
    return frame;
}

void raw_expect_error(struct raw *raw, enum status_code code)
{
    assert_int_equal(raw_expect(raw, MESH_ERROR)->header.status, code);
}

void raw_expect_end(struct raw *raw, uint64_t call_id, enum status_code code)
{
    const struct mesh_frame *frame = raw_expect(raw, MESH_END);

    assert_int_equal(frame->header.call_id, call_id);
    if (frame->header.status != code)
        fail_msg("ended %s, not %s", status_name((enum status_code)frame->header.status),
                 status_name(code));
}

void raw_expect_silence(struct raw *raw)
{
    const struct mesh_frame *frame = raw_receive(raw, 50);

    if (frame)
        fail_msg("%s came", mesh_kind_name(frame->header.kind));
}

void raw_greet(struct raw *raw, uint32_t heartbeat_ms)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    Dragoman__Mesh__V1__Welcome welcome = DRAGOMAN__MESH__V1__WELCOME__INIT;

    if (raw->kind == MESH_ROUTER) {
        raw_expect(raw, MESH_HELLO);
        welcome.version = MESH_VERSION;
        welcome.heartbeat_ms = heartbeat_ms;
        raw_send(raw, &(struct mesh_header){.kind = MESH_WELCOME}, NULL, &welcome.base);
    } else {
        hello.version_min = hello.version_max = MESH_VERSION;
        hello.heartbeat_ms = heartbeat_ms;
        raw_send(raw, &(struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
        raw_expect(raw, MESH_WELCOME);
    }
}

void raw_open_call(struct raw *raw, uint64_t call_id, const char *method, uint16_t flags,
                   const echo_request *request)
{
    char path[128];
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = call_id,
        .flags = flags,
        .seq = request ? 1 : 0,
        .credit_messages = 16,
        .credit_bytes = 65536,
    };

    snprintf(path, sizeof(path), "/dragoman.test.v1.Echo/%s", method);
    header.method_hash = mesh_method_hash(path, strlen(path));
    meta.method = path;
    raw_send(raw, &header, &meta, request ? &request->base : NULL);
}
