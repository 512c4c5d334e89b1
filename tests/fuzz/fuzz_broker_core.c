/*
 * Bytes as a history of the broker: each record is a frame of one of six peers (with a right checksum,
 * so that what lies behind it is reached), bytes that are no frame, a lost connection, or time.
 *
 *   record  = op peer ( frame / raw / nothing / ms )
 *   frame   = kind flags(2) call status credit timeout meta-size body-size(2) meta body
 */
#include "base/log.h"
#include "broker/core.h"
#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define N_FRONT 3
#define N_PEERS 6
#define MS ((int64_t)1000000)
#define FIRST_ID ((uint64_t)2 << 40) /* of a core with seed 1: what workers are given, less one */

struct reader {
    const uint8_t *at;
    size_t left;
};

static unsigned next_byte(struct reader *reader)
{
    if (reader->left == 0)
        return 0;
    reader->left--;
    return *reader->at++;
}

static const uint8_t *next_bytes(struct reader *reader, size_t *size)
{
    const uint8_t *at = reader->at;

    if (*size > reader->left)
        *size = reader->left;
    reader->at += *size;
    reader->left -= *size;
    return at;
}

static void step(struct broker_core *core, const struct broker_event *event, int64_t now_ns)
{
    struct broker_message *action = broker_core_step(core, event, now_ns);

    while (action) {
        struct broker_message *next = action->next;

        broker_core_recycle(core, action);
        action = next;
    }
}

static void arrive(struct broker_core *core, struct broker_event *event, const void *first,
                   size_t first_size, const void *body, size_t body_size, int64_t now_ns)
{
    struct broker_message *message = broker_core_blank(core);
    struct mesh_message *to = &message->message;
    struct mesh_frame frame;
    int err;

    zmq_msg_init_size(&to->first, first_size);
    memcpy(zmq_msg_data(&to->first), first, first_size);
    to->has_body = body != NULL;
    if (body) {
        zmq_msg_init_size(&to->body, body_size);
        memcpy(zmq_msg_data(&to->body), body, body_size);
    }
    message->filled = true;
    err = mesh_frame_decode(zmq_msg_data(&to->first), first_size,
                            body ? zmq_msg_data(&to->body) : NULL, body_size, &frame);
    event->kind = err == 0 ? BROKER_MESSAGE : BROKER_RUBBISH;
    event->error = err;
    event->message = message;
    event->frame = &frame;
    if (err < 0)
        broker_core_recycle(core, message);
    step(core, event, now_ns);
}

static void frame_arrives(struct broker_core *core, struct broker_event *event,
                          struct reader *reader, int64_t now_ns)
{
    uint8_t first[MESH_HEADER_BYTES + 256 + 4096];
    struct mesh_header header = {.kind = (uint8_t)next_byte(reader), .seq = 1};
    size_t meta_size;
    size_t body_size;
    const uint8_t *meta;
    const uint8_t *body;
    size_t size = MESH_HEADER_BYTES;

    header.flags = (uint16_t)next_byte(reader);
    header.flags |= (uint16_t)(next_byte(reader) << 8);
    header.call_id = next_byte(reader) + (event->side == BROKER_BACK ? FIRST_ID : 0);
    header.status = (uint16_t)next_byte(reader);
    header.credit_messages = header.credit_bytes = next_byte(reader);
    header.timeout_ns = (int8_t)next_byte(reader) * MS;
    header.method_hash = mesh_method_hash("/S/M", 4);
    meta_size = next_byte(reader);
    body_size = next_byte(reader);
    body_size |= (size_t)next_byte(reader) << 8;
    body_size %= 4096;
    meta = next_bytes(reader, &meta_size);
    body = next_bytes(reader, &body_size);
    header.meta_bytes = (uint32_t)meta_size;
    header.body_bytes = header.flags & MESH_MESSAGE ? (uint32_t)body_size : 0;
    mesh_header_encode(&header, first);
    memcpy(first + size, meta, meta_size);
    size += meta_size;
    if (header.flags & MESH_INLINE) {
        memcpy(first + size, body, body_size);
        arrive(core, event, first, size + body_size, NULL, 0, now_ns);
    } else {
        arrive(core, event, first, size, header.flags & MESH_MESSAGE ? body : NULL, body_size,
               now_ns);
    }
}

static void raw_arrives(struct broker_core *core, struct broker_event *event, struct reader *reader,
                        int64_t now_ns)
{
    size_t size = next_byte(reader);
    const uint8_t *raw = next_bytes(reader, &size);

    arrive(core, event, raw, size, NULL, 0, now_ns);
}

/* Of the numbers 1 to 3 two are let in, one of them not everywhere. */
static const struct mesh_identity known[] = {{.number = 1, .name = "all"},
                                             {.number = 2, .name = "some", .services = "S T.*"}};

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct reader reader = {bytes, size};
    struct broker_core_options options = {.queue_limit = 4,
                                          .queue_bytes = 8192,
                                          .max_message_bytes = 3000,
                                          .heartbeat_ms = 100,
                                          .seed = 1};
    struct broker_event stop = {.kind = BROKER_STOP};
    struct broker_core *core = NULL;
    int64_t now_ns = 1000 * MS;

    log_init("fuzz", LOG_ERROR + 1, LOG_FORMAT_TEXT);
    if (broker_core_create(&options, now_ns, &core) < 0)
        abort();
    while (reader.left > 0) {
        unsigned byte = next_byte(&reader), op = byte % 8;
        uint32_t peer = next_byte(&reader) % N_PEERS;
        struct broker_event event = {
            .side = peer < N_FRONT ? BROKER_FRONT : BROKER_BACK, .peer = peer, .why = "it was cut"};

        event.identity = byte / 8 % 4;
        event.who = event.identity % 3 ? &known[event.identity - 1] : NULL;
        if (op < 5) {
            frame_arrives(core, &event, &reader, now_ns);
        } else if (op == 5) {
            raw_arrives(core, &event, &reader, now_ns);
        } else if (op == 7 && event.identity) {
            event.kind = BROKER_REVOKED;
            step(core, &event, now_ns);
        } else {
            event.kind = op == 6 ? BROKER_LOST : BROKER_TICK;
            now_ns += op == 6 ? 0 : next_byte(&reader) * MS;
            step(core, &event, now_ns);
        }
    }
    step(core, &stop, now_ns);
    if (!broker_core_idle(core))
        abort();
    broker_core_destroy(&core);
}

/* op peer | kind flags call status credit timeout metas bodys | meta body */
#define FRAME "\0"
#define HELLO(peer) HELLO_AS(FRAME, peer)
#define HELLO_AS(op, peer)                                                                         \
    op peer "\x01\x06\0\0\0\0\0\0\x04\0"                                                           \
            "\x08\x01\x10\x01"
#define OFFER(peer) OFFER_AS(FRAME, peer)
#define OFFER_AS(op, peer)                                                                         \
    op peer "\x10\x06\0\0\0\0\0\0\x0A\0"                                                           \
            "\x0A\x06\x0A\x01S\x12\x01M"                                                           \
            "\x18\x02"
#define OPEN(peer, id) OPEN_AS(FRAME, peer, id)
#define OPEN_AS(op, peer, id)                                                                      \
    op peer "\x20\x07\0" id "\0\x10\x20\x06\x03\0"                                                 \
            "\x0A\x04/S/M"                                                                         \
            "abc"
#define WANT(peer, id)                                                                             \
    FRAME peer "\x20\x37\0" id "\0\x10\0\x0E\x01\0"                                                \
               "\x0A\x04/S/M\x12\x06\x0A\x01k\x12\x01v"                                            \
               "a"
#define STREAM(peer, id)                                                                           \
    FRAME peer "\x20\x42\0" id "\0\x10\0\x06\x01\0"                                                \
               "\x0A\x04/S/M"                                                                      \
               "a"
#define DATA(peer, id)                                                                             \
    FRAME peer "\x23\x06\0" id "\0\0\0\0\x02\0"                                                    \
               "hi"
#define END(peer, id)                                                                              \
    FRAME peer "\x26\x06\0" id "\0\0\0\0\x02\0"                                                    \
               "ok"
#define CANCEL(peer, id) FRAME peer "\x25\0\0" id "\x01\0\0\0\0\0"
#define LIST(peer, id)                                                                             \
    FRAME peer "\x20\x07\0" id "\0\x10\0\x22\0\0"                                                  \
               "\x0A\x20/dragoman.mesh.v1.Directory/List"
#define WATCH(peer, id)                                                                            \
    FRAME peer "\x20\x07\0" id "\0\x10\0\x23\0\0"                                                  \
               "\x0A\x21/dragoman.mesh.v1.Directory/Watch"
#define PING(peer, load)                                                                           \
    FRAME peer "\x03\0\0\1\0\0\0\x0B\0\0"                                                          \
               "\x22\x02xx"                                                                        \
               "\x30\x05\x55" load
#define CAPACITY(peer, n) FRAME peer "\x12\0\0\0\0" n "\0\0\0\0"
#define CREDIT(peer, id, n) FRAME peer "\x24\0\0" id "\0" n "\0\0\0\0"
#define FAIL(peer, id) FRAME peer "\x26\0\0" id "\x0E\0\0\0\0\0"
#define DRAIN(peer) FRAME peer "\x13\0\0\0\0\0\0\0\0\0"
#define REFUSE(peer, id) FRAME peer "\x26\0\1" id "\x08\0\0\0\0\0"
#define SAY(peer, id)                                                                              \
    FRAME peer "\x20\x17\0" id "\0\x10\x7F\x0F\1\0"                                                \
               "\x0A\x04/S/M\x3A\x02ta\x5A\x03key"                                                 \
               "a"
#define LEND(peer)                                                                                 \
    FRAME peer "\x10\x06\0\0\0\0\0\0\x0C\0"                                                        \
               "\x0A\x06\x0A\x01S\x12\x01M"                                                        \
               "\x18\0\x20\x04"
#define LOST(peer) "\x06" peer
#define WAIT(ms) "\x07\0" ms

static const char CALLS[] = HELLO("\x03") OFFER("\x03") HELLO("\0") OPEN("\0", "\1") END("\3", "\1")
    OPEN("\0", "\2") STREAM("\0", "\3") OPEN("\0", "\4") DATA("\0", "\3") CANCEL("\0", "\2")
        END("\3", "\2") WAIT("\x30");
static const char LOSSES[] = HELLO("\x03") OFFER("\x03") HELLO("\x04") OFFER("\x04") HELLO("\1")
    STREAM("\1", "\1") OPEN("\1", "\2") LOST("\3") WAIT("\xFF") WAIT("\xFF") HELLO("\1");
static const char LOCAL[] = HELLO("\x02") LIST("\2", "\1") WATCH("\2", "\2") HELLO("\5") OFFER("\5")
    WAIT("\x20") WANT("\2", "\3") LOST("\5") WAIT("\xFF") CANCEL("\2", "\2") CANCEL("\2", "\3");

/* One that may, one that is let in no longer, another's key on the session of the first; then both are withdrawn. */
static const char KEYS[] = HELLO_AS("\x10", "\0") HELLO_AS("\x08", "\4") OFFER_AS("\x08", "\4")
    OPEN_AS("\x10", "\0", "\1") HELLO_AS("\x18", "\1") OPEN_AS("\x08", "\0", "\2") "\x17\0"
                                                                                   "\x0f\4";
static const char LEASES[] =
    HELLO("\3") LEND("\3") HELLO("\0") SAY("\0", "\1") SAY("\0", "\2") CAPACITY("\3", "\2")
        REFUSE("\3", "\1") CAPACITY("\3", "\1") REFUSE("\3", "\3") PING("\3", "\0\0\0\x3F")
            CREDIT("\0", "\1", "\x7F") END("\3", "\2") DRAIN("\3") END("\3", "\5") WAIT("\x10");
static const char SICK[] = HELLO("\3") OFFER("\3") HELLO("\4") OFFER("\4") HELLO("\0")
    SAY("\0", "\1") CANCEL("\0", "\1") PING("\3", "\0\0\x80\x3F") WAIT("\xFF") OPEN("\0", "\2")
        FAIL("\3", "\1") FAIL("\4", "\2") OPEN("\0", "\3") FAIL("\3", "\3") WAIT("\xFF");

const struct fuzz_seed fuzz_seeds[] = {
    {NULL, CALLS, sizeof(CALLS) - 1},
    {NULL, LOSSES, sizeof(LOSSES) - 1},
    {NULL, LOCAL, sizeof(LOCAL) - 1},
    {NULL, LEASES, sizeof(LEASES) - 1},
    {NULL, SICK, sizeof(SICK) - 1},
    {NULL, KEYS, sizeof(KEYS) - 1},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 150000;
