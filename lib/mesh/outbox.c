#include "mesh/outbox.h"

#include <errno.h>
#include <stdlib.h>

void mesh_outbox_init(struct mesh_outbox *outbox)
{
    *outbox = (struct mesh_outbox){.last = &outbox->first};
}

void mesh_outbox_fini(struct mesh_outbox *outbox)
{
    if (outbox->has_lone)
        mesh_message_close(&outbox->lone);
    mesh_bundle_fini(&outbox->bundle);
    while (outbox->first) {
        struct mesh_message *message = outbox->first;

        outbox->first = message->next;
        mesh_message_close(message);
        free(message);
    }
    mesh_outbox_init(outbox);
}

/* ---- what waits ------------------------------------------------------------------------------ */

static int keep(struct mesh_outbox *outbox, struct mesh_message *message)
{
    size_t bytes = mesh_message_bytes(message);
    struct mesh_message *kept = NULL;
    int err = -ENOBUFS;

    if (outbox->count < MESH_OUTBOX_MESSAGES && outbox->bytes + bytes <= MESH_OUTBOX_BYTES) {
        kept = malloc(sizeof(*kept));
        err = -ENOMEM;
    }
    if (!kept) {
        mesh_message_close(message);
        return err;
    }
    mesh_message_move(kept, message);
    *outbox->last = kept;
    outbox->last = &kept->next;
    outbox->count++;
    outbox->bytes += bytes;
    return 0;
}

int mesh_outbox_retry(struct mesh_outbox *outbox, struct mesh_transport *transport)
{
    while (outbox->first) {
        struct mesh_message *message = outbox->first;
        size_t bytes = mesh_message_bytes(message);
        int err = mesh_transport_send(transport, message);

        if (err < 0)
            return err;
        outbox->first = message->next;
        outbox->count--;
        outbox->bytes -= bytes;
        free(message);
    }
    outbox->last = &outbox->first;
    return 0;
}

/* What an outbox, or the socket, has not sent is looked at by its headers. */
struct look {
    void (*visit)(void *arg, const struct mesh_header *header);
    void *arg;
};

static void look_into(void *arg, const void *first, size_t first_size)
{
    const struct look *look = arg;
    struct mesh_header header;
    size_t at = 0;
    size_t size = 0;

    if (!mesh_bundle_is(first, first_size)) {
        mesh_header_read(first, &header);
        look->visit(look->arg, &header);
        return;
    }
    for (const uint8_t *frame; (frame = mesh_bundle_next(first, first_size, &at, &size));) {
        mesh_header_read(frame, &header);
        look->visit(look->arg, &header);
    }
}

void mesh_outbox_each_unsent(const struct mesh_outbox *outbox,
                             const struct mesh_transport *transport,
                             void (*visit)(void *arg, const struct mesh_header *header), void *arg)
{
    struct look look = {.visit = visit, .arg = arg};

    mesh_transport_each_unwritten(transport, look_into, &look);
    for (struct mesh_message *message = outbox->first; message; message = message->next)
        look_into(&look, zmq_msg_data(&message->first), zmq_msg_size(&message->first));
}

/* Now, or after what waits. Takes the message. */
static int send_or_keep(struct mesh_outbox *outbox, struct mesh_transport *transport,
                        struct mesh_message *message)
{
    int err = outbox->first ? -EAGAIN : mesh_transport_send(transport, message);

    if (err == -EAGAIN)
        return keep(outbox, message);
    if (err < 0)
        mesh_message_close(message);
    return err;
}

/* ---- gathering ------------------------------------------------------------------------------- */

static void free_bytes(void *bytes, void *unused)
{
    (void)unused;
    free(bytes);
}

/* The bundle as a message; its memory goes to libzmq. */
static int seal(struct mesh_bundle *bundle, uint64_t peer, struct mesh_message *out)
{
    struct mesh_bundle full = *bundle;

    *bundle = (struct mesh_bundle){0};
    *out = (struct mesh_message){.peer = peer};
    if (zmq_msg_init_data(&out->first, full.bytes, full.size, free_bytes, NULL) == 0)
        return 0;
    mesh_bundle_fini(&full);
    return -ENOMEM;
}

int mesh_outbox_flush(struct mesh_outbox *outbox, struct mesh_transport *transport)
{
    struct mesh_message message;
    int err;

    if (outbox->has_lone) {
        outbox->has_lone = false;
        return send_or_keep(outbox, transport, &outbox->lone);
    }
    if (outbox->bundle.count == 0)
        return 0;
    err = seal(&outbox->bundle, outbox->lone.peer, &message);
    return err < 0 ? err : send_or_keep(outbox, transport, &message);
}

/* Copy it behind the others. */
static int append(struct mesh_outbox *outbox, struct mesh_message *message)
{
    int err = mesh_bundle_add(&outbox->bundle, zmq_msg_data(&message->first),
                              zmq_msg_size(&message->first));

    mesh_message_close(message);
    return err;
}

static int gather(struct mesh_outbox *outbox, struct mesh_message *message)
{
    int err = 0;

    if (!mesh_outbox_gathers(outbox)) {
        mesh_message_move(&outbox->lone, message);
        outbox->has_lone = true;
        return 0;
    }
    if (outbox->has_lone) {
        outbox->has_lone = false;
        err = append(outbox, &outbox->lone);
    }
    if (err == 0)
        return append(outbox, message);
    mesh_message_close(message);
    return err;
}

/* Whether the bundle would hold it, too. */
static bool fits(const struct mesh_outbox *outbox, const struct mesh_message *message)
{
    size_t size = outbox->bundle.size;

    if (outbox->has_lone)
        size =
            MESH_BUNDLE_HEADER_BYTES + MESH_BUNDLE_PREFIX_BYTES + zmq_msg_size(&outbox->lone.first);
    return size + MESH_BUNDLE_PREFIX_BYTES + zmq_msg_size(&message->first) <= MESH_BUNDLE_MAX;
}

int mesh_outbox_put(struct mesh_outbox *outbox, struct mesh_transport *transport,
                    struct mesh_message *message, bool bundles)
{
    bool small =
        bundles && !message->has_body && zmq_msg_size(&message->first) <= MESH_BUNDLE_FRAME_MAX;
    int err = 0;

    if (mesh_outbox_gathers(outbox) && (!small || !fits(outbox, message)))
        err = mesh_outbox_flush(outbox, transport);
    if (err < 0) {
        mesh_message_close(message);
        return err;
    }
    return small ? gather(outbox, message) : send_or_keep(outbox, transport, message);
}
