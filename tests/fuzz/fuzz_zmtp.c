/*
 * Bytes as what a peer writes to one connection that speaks ZMTP, in slices. However they are cut, what comes of them
 * is the same; what is kept of a message under way stays within the limit of a frame.
 *
 *   input = flags slice bytes
 *
 * Flags: 1 we are the DEALER; 2 a valid handshake comes first; 4 the bytes come a hundred times. A slice is one byte or more.
 */
#include "mesh/engine.h"
#include "tests/fuzz/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FRAME_BYTES 4096
#define WE_DEAL 1
#define GREETED 2
#define REPEATED 4
#define REPEATS 100
#define AT_ONCE 32768 /* bytes that a socket holds */

const unsigned fuzz_rounds = 40000;

#define GREETING                                                                                   \
    "\xff\0\0\0\0\0\0\0\1\x7f\3\1NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
    "\0\0"                                                                                         \
    "\0\0\0\0\0\0\0"
#define READY "\4\x29\5READY\xbSocket-Type\0\0\0\6DEALER\x8Identity\0\0\0\0"
#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }
#define LONG_FRAME(flag, size) flag "\0\0\0\0\0\0" size

const struct fuzz_seed fuzz_seeds[] = {
    SEED("\0\7" GREETING READY "\0\5hello"),
    SEED("\0\xff" GREETING READY "\1\3one\0\3two"),
    SEED("\2\1\1\3one\0\3two\0\4next"),
    SEED("\2\4\1\1a\1\1b\1\1c\0\1d\0\4next\1\1a\0\1b"),
    SEED("\6\x10\1\1a\1\1b\1\1c"), /* a message without end */
    SEED("\6\x40\4\xa\4PING\0\1abc"),
    SEED("\2\5\1\1a\4\xa\4PING\0\1abc\0\1b"), /* a command between two frames */
    SEED("\2\3" LONG_FRAME("\2", "\1\0") "some of 256 bytes"),
    SEED("\6\xff" LONG_FRAME("\3", "\x0f\0") "a first frame with 3840 bytes of which these"),
    SEED("\2\3" LONG_FRAME("\2", "\xff\xff")),
    SEED("\2\3\2\xff\xff\xff\xff\xff\xff\xff\xff"),
    {NULL, NULL, 0},
};

struct outcome {
    uint64_t hash; /* of all messages: where frames begin, what is in them */
    size_t n_messages, n_refused;
    int end; /* what broke the connection; 0: nothing */
};

static struct mesh_intake intake; /* as connections share one */

static void require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_zmtp: %s\n", what);
    abort();
}

/* What a message that is not whole keeps, besides a command that may come in between. */
static void look_at_bounds(const struct mesh_engine *engine)
{
    size_t kept = 0;

    if (engine->has_first)
        kept += zmq_msg_size(&engine->first);
    if (engine->in_frame && !engine->skipping && !engine->frame.command)
        kept += zmq_msg_size(&engine->part);
    require(kept <= MAX_FRAME_BYTES, "a message under way is larger than a frame may be");
    require(engine->n_parcels <= MESH_ENGINE_MESSAGES, "too much waits to be written");
}

static void add(struct outcome *outcome, zmq_msg_t *frame)
{
    const uint8_t *bytes = zmq_msg_data(frame);
    size_t size = zmq_msg_size(frame);

    outcome->hash = (outcome->hash + size) * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < size; i++)
        outcome->hash = (outcome->hash ^ bytes[i]) * 0x100000001b3u;
}

static void take_all(struct mesh_engine *engine, struct outcome *outcome)
{
    struct mesh_message message;
    int err;

    do {
        err = mesh_engine_next(engine, &intake, &message);
        look_at_bounds(engine);
        outcome->n_refused += err == -EBADMSG;
        if (err != 0)
            continue;
        require(mesh_message_bytes(&message) <= MAX_FRAME_BYTES, "a message over the limit");
        outcome->n_messages++;
        add(outcome, &message.first);
        if (message.has_body)
            add(outcome, &message.body);
        mesh_message_close(&message);
    } while (err == 0 || err == -EBADMSG);
    if (err != -EAGAIN)
        outcome->end = err;
    else
        require(intake.at == intake.end, "bytes were left over");
}

static void read_all(struct mesh_engine *engine, struct outcome *outcome)
{
    bool drained = false;

    intake.at = intake.end = 0;
    while (outcome->end == 0 && mesh_engine_read(engine, &intake, &drained) == 0)
        take_all(engine, outcome);
}

static void write_slices(int peer, struct mesh_engine *engine, const uint8_t *bytes, size_t size,
                         size_t slice, struct outcome *outcome)
{
    uint8_t answers[4096];

    for (size_t n; size > 0 && outcome->end == 0; bytes += n, size -= n) {
        n = slice < size ? slice : size;
        require(send(peer, bytes, n, MSG_NOSIGNAL) == (ssize_t)n, "the socket took less");
        read_all(engine, outcome);
        while (recv(peer, answers, sizeof(answers), MSG_DONTWAIT) > 0)
            continue;
    }
}

static void greet(int peer, struct mesh_engine *engine, struct outcome *outcome)
{
    uint8_t greeting[ZMTP_GREETING_BYTES];
    uint8_t ready[ZMTP_COMMAND_MAX];
    size_t size = zmtp_ready_write(engine->kind == MESH_DEALER ? MESH_ROUTER : MESH_DEALER, ready);

    zmtp_greeting_write(greeting);
    write_slices(peer, engine, greeting, sizeof(greeting), sizeof(greeting), outcome);
    write_slices(peer, engine, ready, size, size, outcome);
    require(engine->state == ENGINE_OPEN, "a valid handshake was refused");
}

static struct outcome run(uint8_t flags, const uint8_t *bytes, size_t size, size_t slice)
{
    struct outcome outcome = {0};
    struct mesh_engine engine;
    int pair[2];

    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0, "no sockets");
    require(mesh_engine_init(&engine, pair[0], flags & WE_DEAL ? MESH_DEALER : MESH_ROUTER,
                             MAX_FRAME_BYTES) == 0,
            "no engine");
    if (flags & GREETED)
        greet(pair[1], &engine, &outcome);
    for (int i = flags & REPEATED ? REPEATS : 1; i > 0; i--)
        write_slices(pair[1], &engine, bytes, size, slice, &outcome);
    close(pair[1]);
    mesh_engine_fini(&engine);
    return outcome;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct outcome whole, sliced;

    if (size < 2 || size > AT_ONCE)
        return;
    whole = run(bytes[0], bytes + 2, size - 2, AT_ONCE);
    sliced = run(bytes[0], bytes + 2, size - 2, bytes[1] ? bytes[1] : 1);
    require(whole.hash == sliced.hash && whole.n_messages == sliced.n_messages,
            "slices make other messages");
    require(whole.n_refused == sliced.n_refused && whole.end == sliced.end,
            "slices are refused otherwise");
}
