#include "mesh/inbox.h"

#include "mesh/bundle.h"
#include "mesh/security.h"

#include <errno.h>
#include <string.h>

void mesh_inbox_init(struct mesh_inbox *inbox, struct mesh_transport *transport)
{
    *inbox = (struct mesh_inbox){.transport = transport};
}

void mesh_inbox_ask(struct mesh_inbox *inbox)
{
    inbox->asks = true;
}

void mesh_inbox_fini(struct mesh_inbox *inbox)
{
    if (inbox->opened)
        zmq_msg_close(&inbox->bundle);
    inbox->opened = false;
}

/* Keep a bundle, to be read from its start. Takes the message. */
static int open_bundle(struct mesh_inbox *inbox, struct mesh_message *message)
{
    void *first = zmq_msg_data(&message->first);

    if (message->has_body || mesh_bundle_check(first, zmq_msg_size(&message->first)) < 0) {
        mesh_message_close(message);
        return -EBADMSG;
    }
    zmq_msg_init(&inbox->bundle);
    zmq_msg_move(&inbox->bundle, &message->first);
    mesh_message_close(message);
    inbox->peer = message->peer;
    inbox->at = 0;
    inbox->opened = true;
    return 0;
}

/* A session does not begin in a bundle: whether there may be any is what it begins with. */
static bool may_be_bundled(uint8_t kind)
{
    return kind != MESH_HELLO && kind != MESH_WELCOME;
}

/* The next message of the bundle, in memory of its own: who keeps it does not keep them all. */
static int take_next(struct mesh_inbox *inbox, struct mesh_message *out, struct mesh_frame *frame)
{
    size_t total = zmq_msg_size(&inbox->bundle);
    size_t size = 0;
    const uint8_t *first = mesh_bundle_next(zmq_msg_data(&inbox->bundle), total, &inbox->at, &size);
    int err = -ENOMEM;

    out->next = NULL;
    out->peer = inbox->peer;
    out->has_body = false;
    if (zmq_msg_init_size(&out->first, size) == 0) {
        memcpy(zmq_msg_data(&out->first), first, size);
        err = mesh_frame_decode(zmq_msg_data(&out->first), size, NULL, 0, frame);
        if (err == 0 && !may_be_bundled(frame->header.kind))
            err = -EBADMSG;
        if (err < 0)
            zmq_msg_close(&out->first);
    }
    if (err < 0 || inbox->at >= total)
        mesh_inbox_fini(inbox);
    return err;
}

int mesh_inbox_recv(struct mesh_inbox *inbox, struct mesh_message *out, struct mesh_frame *frame)
{
    int err = 0;

    if (!inbox->opened) {
        err = mesh_transport_recv(inbox->transport, out);
        if (err < 0)
            return err;
        if (inbox->asks) /* the messages of a bundle no longer know */
            inbox->let_in = mesh_security_sender(out, &inbox->sender);
        if (!mesh_bundle_is(zmq_msg_data(&out->first), zmq_msg_size(&out->first)))
            return mesh_message_decode(out, frame);
        err = open_bundle(inbox, out);
    }
    return err < 0 ? err : take_next(inbox, out, frame);
}
