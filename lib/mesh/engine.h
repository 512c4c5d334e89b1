/*
 * engine.h - one connection that speaks ZMTP: bytes of a Unix socket here, messages there
 *
 * Belongs to one thread. Nothing blocks; nobody has a thread of his own, as libzmq's connections do: whoever
 * waits for a message is woken by the socket itself. What comes is bounded: a message is one frame or
 * two, of max_frame_bytes together. What goes is, too.
 */
#ifndef MESH_ENGINE_H
#define MESH_ENGINE_H

#include "mesh/message.h"
#include "mesh/zmtp.h"

#define MESH_ENGINE_MESSAGES 4096 /* that wait to be written */
#define MESH_ENGINE_BYTES ((size_t)16 << 20)
#define MESH_INTAKE_BYTES 65536

/** What was read of one connection and not looked at yet; connections take turns with it. */
struct mesh_intake {
    uint8_t bytes[MESH_INTAKE_BYTES];
    size_t at, end;
};

enum mesh_engine_state { ENGINE_GREETING, ENGINE_READYING, ENGINE_OPEN };

struct mesh_parcel;

struct mesh_engine {
    int fd; /* owned */
    enum mesh_socket_kind kind;
    size_t max_frame_bytes;
    enum mesh_engine_state state;
    bool
        greeted; /* all of ours is said: after the peer's version, so that libzmq tells its mechanism before it leaves */
    bool mute;   /* the peer takes nothing more, though something may still come */

    /* What comes: a header, the frame behind it, the frame before it. */
    uint8_t
        head[ZMTP_GREETING_BYTES]; /* (head_size) of a greeting or a header that is not all there */
    size_t head_size;
    bool in_frame;
    struct zmtp_header frame;
    zmq_msg_t part; /* (frame.size, of them `filled`) while in_frame and unless skipping */
    size_t filled;
    bool has_first;
    zmq_msg_t first;
    bool skipping; /* the rest of a message with too many frames */
    bool
        large; /* its last message had a body of its own: read less than a buffer, and the body in place */

    /* What goes. */
    struct mesh_parcel *parcels, **last;
    size_t n_parcels, parcel_bytes;
    size_t written; /* bytes of the first */
};

/** Greet. Takes the descriptor: non-blocking, connected. @return 0; -ENOMEM: it is closed */
int mesh_engine_init(struct mesh_engine *engine, int fd, enum mesh_socket_kind kind,
                     size_t max_frame_bytes);
/** Close the connection, drop what is under way. */
void mesh_engine_fini(struct mesh_engine *engine);

/**
 * Read once. Only when the intake is empty.
 *
 * @param drained  whether there is no more for now
 * @return 0; -EAGAIN: nothing; -EPIPE: the peer has closed; what failed in the socket
 */
int mesh_engine_read(struct mesh_engine *engine, struct mesh_intake *intake, bool *drained);

/**
 * The next message of what was read.
 *
 * @return 0: the caller's; -EAGAIN: not all there, the intake is empty; -EBADMSG: one with too many frames, which is
 *         dropped; -EPROTO: no ZMTP, -EMSGSIZE: over the limit, -ENOMEM: the connection is of no more use
 */
int mesh_engine_next(struct mesh_engine *engine, struct mesh_intake *intake,
                     struct mesh_message *out);

/** Write a message, or keep what the socket does not take. @return 0, it is gone; -EAGAIN: enough waits already, or the
 *  greeting is not over; -EHOSTUNREACH; -ENOMEM: it is still the caller's */
int mesh_engine_send(struct mesh_engine *engine, struct mesh_message *message);
/** Go on writing. */
void mesh_engine_flush(struct mesh_engine *engine);
/** Whether mesh_engine_send() would take a message. */
bool mesh_engine_takes(const struct mesh_engine *engine);
/** Whether its greeting failed for the peer's mechanism. */
static inline bool mesh_engine_is_mismatched(const struct mesh_engine *engine)
{
    return engine->state == ENGINE_GREETING &&
           zmtp_greeting_differs(engine->head, engine->head_size);
}
/** Whether to be woken when the socket takes more. */
static inline bool mesh_engine_waits(const struct mesh_engine *engine)
{
    return engine->parcels && !engine->mute;
}
/** Look at the first frame of each message that waits and of which not a byte was written. */
void mesh_engine_each_unwritten(const struct mesh_engine *engine,
                                void (*visit)(void *arg, const void *first, size_t size),
                                void *arg);

#endif
