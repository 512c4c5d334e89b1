#include "mesh/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PARTS 2
#define IOVECS 64 /* of one write */
#define AFTER_BODY                                                                                 \
    512 /* bytes to read behind a large body: the next message's first frame, and little of its body */

/* A message on its way out: each part behind its header. */
struct mesh_parcel {
    struct mesh_parcel *next;
    size_t n_parts, size;
    uint8_t head[PARTS][ZMTP_HEADER_MAX];
    size_t head_size[PARTS];
    zmq_msg_t part[PARTS];
};

/* ---- going ----------------------------------------------------------------------------------- */

static void parcel_close(struct mesh_parcel *parcel)
{
    for (size_t i = 0; i < parcel->n_parts; i++)
        zmq_msg_close(&parcel->part[i]);
    free(parcel);
}

/* Its headers, and lengths. */
static void parcel_describe(struct mesh_parcel *parcel, struct mesh_message *message)
{
    size_t sizes[PARTS] = {zmq_msg_size(&message->first),
                           message->has_body ? zmq_msg_size(&message->body) : 0};

    parcel->n_parts = message->has_body ? 2 : 1;
    parcel->size = 0;
    for (size_t i = 0; i < parcel->n_parts; i++) {
        parcel->head_size[i] =
            zmtp_header_write(i + 1 < parcel->n_parts, sizes[i], parcel->head[i]);
        parcel->size += parcel->head_size[i] + sizes[i];
    }
}

/* Add some bytes, of which *skip are written already. */
static size_t add_iovec(struct iovec *iov, size_t n, void *bytes, size_t size, size_t *skip)
{
    size_t done = *skip < size ? *skip : size;

    *skip -= done;
    if (done == size)
        return n;
    iov[n] = (struct iovec){.iov_base = (uint8_t *)bytes + done, .iov_len = size - done};
    return n + 1;
}

static size_t add_parcel(struct iovec *iov, size_t n, struct mesh_parcel *parcel,
                         zmq_msg_t *const parts[PARTS], size_t *skip)
{
    for (size_t i = 0; i < parcel->n_parts; i++) {
        n = add_iovec(iov, n, parcel->head[i], parcel->head_size[i], skip);
        n = add_iovec(iov, n, zmq_msg_data(parts[i]), zmq_msg_size(parts[i]), skip);
    }
    return n;
}

/* @return bytes written, 0 when the socket takes none now; -EHOSTUNREACH */
static ssize_t write_some(struct mesh_engine *engine, struct iovec *iov, size_t n)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t done;

    do
        done = sendmsg(engine->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (done < 0 && errno == EINTR);
    if (done < 0 && (errno == EAGAIN || errno == ENOBUFS))
        return 0;
    return done < 0 ? -EHOSTUNREACH : done;
}

static void drop_parcels(struct mesh_engine *engine)
{
    while (engine->parcels) {
        struct mesh_parcel *parcel = engine->parcels;

        engine->parcels = parcel->next;
        parcel_close(parcel);
    }
    engine->last = &engine->parcels;
    engine->n_parcels = engine->parcel_bytes = engine->written = 0;
}

/* Parcels that are written whole. */
static void finish(struct mesh_engine *engine, size_t written)
{
    engine->written += written;
    while (engine->parcels && engine->written >= engine->parcels->size) {
        struct mesh_parcel *parcel = engine->parcels;

        engine->written -= parcel->size;
        engine->parcel_bytes -= parcel->size;
        engine->n_parcels--;
        engine->parcels = parcel->next;
        parcel_close(parcel);
    }
    if (!engine->parcels)
        engine->last = &engine->parcels;
}

void mesh_engine_flush(struct mesh_engine *engine)
{
    ssize_t done = engine->mute ? 0 : 1;

    while (engine->parcels && done > 0) {
        struct iovec iov[IOVECS];
        size_t n = 0;
        size_t skip = engine->written;

        for (struct mesh_parcel *parcel = engine->parcels; parcel && n + 2 * PARTS <= IOVECS;
             parcel = parcel->next)
            n = add_parcel(iov, n, parcel,
                           (zmq_msg_t *const[PARTS]){&parcel->part[0], &parcel->part[1]}, &skip);
        done = write_some(engine, iov, n);
        if (done > 0)
            finish(engine, (size_t)done);
    }
    engine->mute |= done < 0;
}

void mesh_engine_each_unwritten(const struct mesh_engine *engine,
                                void (*visit)(void *arg, const void *first, size_t size), void *arg)
{
    for (struct mesh_parcel *parcel = engine->parcels; parcel; parcel = parcel->next) {
        bool begun = parcel == engine->parcels && engine->written > 0;

        if (!begun && parcel->head_size[0] > 0)
            visit(arg, zmq_msg_data(&parcel->part[0]), zmq_msg_size(&parcel->part[0]));
    }
}

static void enqueue(struct mesh_engine *engine, struct mesh_parcel *parcel)
{
    parcel->next = NULL;
    *engine->last = parcel;
    engine->last = &parcel->next;
    engine->n_parcels++;
    engine->parcel_bytes += parcel->size;
}

/* Keep what is not written. @return -ENOMEM: it is still the caller's */
static int keep(struct mesh_engine *engine, struct mesh_message *message, size_t written)
{
    struct mesh_parcel *parcel = malloc(sizeof(*parcel));

    if (!parcel) {
        engine->mute = engine->mute || written > 0; /* the rest of it is lost */
        return -ENOMEM;
    }
    parcel_describe(parcel, message);
    zmq_msg_init(&parcel->part[0]);
    zmq_msg_move(&parcel->part[0], &message->first);
    if (message->has_body) {
        zmq_msg_init(&parcel->part[1]);
        zmq_msg_move(&parcel->part[1], &message->body);
    }
    if (!engine->parcels)
        engine->written = written;
    enqueue(engine, parcel);
    mesh_message_close(message);
    return 0;
}

bool mesh_engine_takes(const struct mesh_engine *engine)
{
    return engine->state == ENGINE_OPEN && !engine->mute &&
           engine->n_parcels < MESH_ENGINE_MESSAGES && engine->parcel_bytes < MESH_ENGINE_BYTES;
}

int mesh_engine_send(struct mesh_engine *engine, struct mesh_message *message)
{
    struct mesh_parcel parcel;
    struct iovec iov[2 * PARTS];
    size_t skip = 0;
    ssize_t done;

    if (engine->mute)
        return -EHOSTUNREACH;
    if (!mesh_engine_takes(engine))
        return -EAGAIN;
    if (engine->parcels)
        return keep(engine, message, 0);
    parcel_describe(&parcel, message);
    done =
        write_some(engine, iov,
                   add_parcel(iov, 0, &parcel,
                              (zmq_msg_t *const[PARTS]){&message->first, &message->body}, &skip));
    if (done < 0) {
        engine->mute = true;
        return -EHOSTUNREACH;
    }
    if ((size_t)done < parcel.size)
        return keep(engine, message, (size_t)done);
    mesh_message_close(message);
    return 0;
}

/* A greeting or a command: what it says is all in its bytes. */
static int send_raw(struct mesh_engine *engine, const uint8_t *bytes, size_t size)
{
    struct mesh_parcel *parcel = malloc(sizeof(*parcel));

    if (!parcel || zmq_msg_init_size(&parcel->part[0], size) < 0) {
        free(parcel);
        return -ENOMEM;
    }
    memcpy(zmq_msg_data(&parcel->part[0]), bytes, size);
    parcel->n_parts = 1;
    parcel->head_size[0] = 0;
    parcel->size = size;
    enqueue(engine, parcel);
    mesh_engine_flush(engine);
    return 0;
}

/* ---- coming ---------------------------------------------------------------------------------- */

/* Whether the frame under way is wanted. */
static bool is_kept(const struct mesh_engine *engine)
{
    return engine->in_frame && (!engine->skipping || engine->frame.command);
}

int mesh_engine_read(struct mesh_engine *engine, struct mesh_intake *intake, bool *drained)
{
    bool in_place = is_kept(engine);
    size_t left = in_place ? engine->frame.size - engine->filled : 0;
    struct iovec iov[2];
    struct msghdr message = {.msg_iov = iov};
    size_t room = in_place || engine->large ? AFTER_BODY : sizeof(intake->bytes);
    ssize_t got;

    if (left > 0)
        iov[message.msg_iovlen++] = (struct iovec){
            .iov_base = (uint8_t *)zmq_msg_data(&engine->part) + engine->filled, .iov_len = left};
    iov[message.msg_iovlen++] = (struct iovec){.iov_base = intake->bytes, .iov_len = room};
    do
        got = recvmsg(engine->fd, &message, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    *drained = got < (ssize_t)(left + room);
    if (got <= 0)
        return got == 0 ? -EPIPE : -errno;
    intake->at = 0;
    intake->end = (size_t)got > left ? (size_t)got - left : 0;
    engine->filled += (size_t)got < left ? (size_t)got : left;
    return 0;
}

/* Fill `head` up to `size`. @return whether it is full */
static bool take_head(struct mesh_engine *engine, struct mesh_intake *intake, size_t size)
{
    size_t n = intake->end - intake->at;

    if (engine->head_size + n > size)
        n = size - engine->head_size;
    memcpy(engine->head + engine->head_size, intake->bytes + intake->at, n);
    engine->head_size += n;
    intake->at += n;
    return engine->head_size == size;
}

static int take_greeting(struct mesh_engine *engine, struct mesh_intake *intake)
{
    uint8_t greeting[ZMTP_GREETING_BYTES];
    uint8_t ready[ZMTP_COMMAND_MAX];
    bool whole = take_head(engine, intake, ZMTP_GREETING_BYTES);
    int err = zmtp_greeting_check(engine->head, engine->head_size);

    if (err == 0 && !engine->greeted && engine->head_size >= ZMTP_VERSION_BYTES) {
        zmtp_greeting_write(greeting);
        engine->greeted = true;
        err =
            send_raw(engine, greeting + ZMTP_VERSION_BYTES, sizeof(greeting) - ZMTP_VERSION_BYTES);
    }
    if (err < 0 || !whole)
        return err < 0 ? err : -EAGAIN;
    engine->head_size = 0;
    engine->state = ENGINE_READYING;
    return send_raw(engine, ready, zmtp_ready_write(engine->kind, ready));
}

/* The header of the next frame. @return 0; -EAGAIN; -EPROTO */
static int take_header(struct mesh_engine *engine, struct mesh_intake *intake)
{
    int used = 0;

    while (used == 0) {
        if (engine->head_size == 0) /* in place, if all of it is there */
            used = zmtp_header_read(intake->bytes + intake->at, intake->end - intake->at,
                                    &engine->frame);
        if (used > 0)
            intake->at += (size_t)used;
        if (used != 0)
            break;
        if (intake->at == intake->end)
            return -EAGAIN;
        take_head(engine, intake, engine->head_size + 1);
        used = zmtp_header_read(engine->head, engine->head_size, &engine->frame);
    }
    engine->head_size = 0;
    return used < 0 ? used : 0;
}

static void drop_first(struct mesh_engine *engine)
{
    if (engine->has_first)
        zmq_msg_close(&engine->first);
    engine->has_first = false;
}

/* How large the frame under way may be: with the one before it, as large as one. */
static size_t frame_room(struct mesh_engine *engine)
{
    size_t before = engine->has_first ? zmq_msg_size(&engine->first) : 0;

    return engine->frame.command ? ZMTP_COMMAND_MAX : engine->max_frame_bytes - before;
}

/* What its header allows. @return 0; -EBADMSG: the message is not to be; ... */
static int begin_frame(struct mesh_engine *engine)
{
    const struct zmtp_header *frame = &engine->frame;
    bool too_many = !frame->command && engine->has_first && frame->more;

    if (!frame->command && engine->state != ENGINE_OPEN)
        return -EPROTO;
    if (frame->size > frame_room(engine))
        return frame->command ? -EPROTO : -EMSGSIZE;
    engine->filled = 0;
    engine->in_frame = true;
    if (too_many) {
        drop_first(engine);
        engine->skipping = true;
        return -EBADMSG;
    }
    if (engine->skipping && !frame->command)
        return 0;
    if (zmq_msg_init_size(&engine->part, (size_t)frame->size) < 0) {
        engine->in_frame = false;
        return -ENOMEM;
    }
    return 0;
}

/* @return whether the frame is all there */
static bool fill_frame(struct mesh_engine *engine, struct mesh_intake *intake)
{
    size_t left = (size_t)engine->frame.size - engine->filled;
    size_t n = intake->end - intake->at;

    if (n > left)
        n = left;
    if (n > 0 && is_kept(engine))
        memcpy((uint8_t *)zmq_msg_data(&engine->part) + engine->filled, intake->bytes + intake->at,
               n);
    engine->filled += n;
    intake->at += n;
    return n == left;
}

static int take_command(struct mesh_engine *engine)
{
    const uint8_t *body = zmq_msg_data(&engine->part);
    size_t size = zmq_msg_size(&engine->part);
    uint8_t pong[ZMTP_COMMAND_MAX];
    int err = 0;

    if (engine->state == ENGINE_READYING) {
        err = zmtp_ready_check(engine->kind, body, size);
        engine->state = err < 0 ? engine->state : ENGINE_OPEN;
    } else {
        size = zmtp_pong_write(body, size, pong);  /* others are not for us */
        if (size > 0 && mesh_engine_takes(engine)) /* who asks and does not read gets no answer */
            err = send_raw(engine, pong, size);
    }
    zmq_msg_close(&engine->part);
    return err < 0 ? err : -EAGAIN;
}

/* @return 0: a message is whole; -EAGAIN: go on; or what breaks the connection */
static int end_frame(struct mesh_engine *engine, struct mesh_message *out)
{
    zmq_msg_t *last = engine->has_first ? &out->body : &out->first;

    engine->in_frame = false;
    if (engine->frame.command)
        return take_command(engine);
    if (engine->skipping) {
        engine->skipping = engine->frame.more;
        return -EAGAIN;
    }
    if (engine->frame.more) {
        zmq_msg_init(&engine->first);
        zmq_msg_move(&engine->first, &engine->part);
        engine->has_first = true;
        return -EAGAIN;
    }
    out->next = NULL;
    out->peer = 0;
    out->has_body = engine->has_first;
    zmq_msg_init(last);
    zmq_msg_move(last, &engine->part);
    if (engine->has_first) {
        zmq_msg_init(&out->first);
        zmq_msg_move(&out->first, &engine->first);
    }
    engine->large = engine->has_first;
    engine->has_first = false;
    return 0;
}

int mesh_engine_next(struct mesh_engine *engine, struct mesh_intake *intake,
                     struct mesh_message *out)
{
    int err = 0;

    if (engine->state == ENGINE_GREETING)
        err = take_greeting(engine, intake);
    while (err == 0) {
        if (!engine->in_frame)
            err = take_header(engine, intake);
        if (err == 0 && !engine->in_frame)
            err = begin_frame(engine);
        if (err == 0 && !fill_frame(engine, intake))
            return -EAGAIN;
        if (err < 0)
            break;
        err = end_frame(engine, out);
        if (err == 0)
            return 0;
        if (err == -EAGAIN) /* a part of it */
            err = 0;
    }
    return err;
}

/* ---- life ------------------------------------------------------------------------------------ */

int mesh_engine_init(struct mesh_engine *engine, int fd, enum mesh_socket_kind kind,
                     size_t max_frame_bytes)
{
    uint8_t greeting[ZMTP_GREETING_BYTES];

    *engine = (struct mesh_engine){.fd = fd, .kind = kind, .max_frame_bytes = max_frame_bytes};
    engine->last = &engine->parcels;
    zmtp_greeting_write(greeting);
    if (send_raw(engine, greeting, ZMTP_VERSION_BYTES) == 0)
        return 0;
    mesh_engine_fini(engine);
    return -ENOMEM;
}

void mesh_engine_fini(struct mesh_engine *engine)
{
    drop_parcels(engine);
    if (is_kept(engine))
        zmq_msg_close(&engine->part);
    drop_first(engine);
    engine->in_frame = false;
    close(engine->fd);
    engine->fd = -1;
}
