#include "broker/wire.h"

#include "base/clock.h"
#include "base/log.h"
#include "mesh/listener.h"
#include "mesh/outbox.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define IPC_PREFIX "ipc://"
#define INPROC_PREFIX "inproc://"
#define FOLDER_MODE 0700
#define SPARE_MAX 256
#define WARN_NS 10000000000 /* between two lines on broken handshakes */

/* What goes to one peer; there only while something does. */
struct outgoing {
    struct table_node by_peer;
    LIST_ENTRY(outgoing) link; /* of the gathering, the stuck or the spare ones */
    bool is_stuck;
    uint64_t peer;
    struct mesh_outbox outbox;
};

/* ---- endpoints ------------------------------------------------------------------------------- */

/* Make the folders of a path that are missing. */
static int make_folders(const char *path)
{
    char folder[PATH_MAX];

    if (snprintf(folder, sizeof(folder), "%s", path) >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, FOLDER_MODE) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

/* libzmq takes the file away from whoever listens there: look first. */
static bool somebody_listens(const char *path)
{
    int fd = mesh_listener_connect(path);

    if (fd >= 0)
        close(fd);
    return fd >= 0 || fd == -EAGAIN;
}

static int prepare_ipc(const char *path)
{
    struct sockaddr_un name;
    int err;

    if (*path == '@' || *path == '*') /* no file, or one that libzmq picks */
        return 0;
    if (strlen(path) >= sizeof(name.sun_path))
        return -ENAMETOOLONG;
    err = make_folders(path);
    if (err < 0)
        return err;
    return somebody_listens(path) ? -EADDRINUSE : 0;
}

static int bind_one(struct wire *wire, const char *endpoint)
{
    char bound[PATH_MAX];
    int err = 0;

    if (strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) == 0)
        err = prepare_ipc(endpoint + strlen(IPC_PREFIX));
    if (err == 0)
        err = mesh_transport_bind(&wire->transport, endpoint, bound, sizeof(bound));
    if (err < 0)
        return err;
    wire->endpoints[wire->n_endpoints] = strdup(bound);
    if (!wire->endpoints[wire->n_endpoints])
        return -ENOMEM;
    wire->n_endpoints++;
    return 0;
}

static int bind_all(struct wire *wire, const char *const *endpoints)
{
    size_t n = 0;
    int err = 0;

    while (endpoints && endpoints[n])
        n++;
    if (n == 0)
        return -EINVAL;
    wire->endpoints = calloc(n, sizeof(*wire->endpoints));
    if (!wire->endpoints)
        return -ENOMEM;
    for (size_t i = 0; err == 0 && i < n; i++) {
        err = bind_one(wire, endpoints[i]);
        if (err < 0)
            log_error("cannot listen on '%s': %s", endpoints[i],
                      err == -EINVAL ? "give tcp://HOST:PORT, ipc://PATH or inproc://NAME"
                                     : strerror(-err));
    }
    return err;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool all_inside(const char *const *endpoints)
{
    bool inside = true;

    for (size_t i = 0; endpoints && endpoints[i]; i++)
        inside = inside && strncmp(endpoints[i], INPROC_PREFIX, strlen(INPROC_PREFIX)) == 0;
    return inside;
}

int wire_open(struct wire *wire, enum broker_side side, void *context, const char *const *endpoints,
              size_t max_message_bytes, const struct mesh_security *security)
{
    if (all_inside(endpoints)) /* where CURVE has no meaning */
        security = NULL;
    *wire = (struct wire){.side = side};
    if (security)
        wire->keyring = side == BROKER_FRONT ? security->callers : security->workers;
    mesh_transport_init(&wire->transport,
                        &(struct mesh_transport_options){
                            .context = context,
                            .kind = MESH_ROUTER,
                            .max_message_bytes = max_message_bytes,
                            .security = security,
                            .domain = side == BROKER_FRONT ? "mesh.client" : "mesh.worker",
                            .keyring = wire->keyring,
                        });
    LIST_INIT(&wire->gathering);
    LIST_INIT(&wire->stuck);
    LIST_INIT(&wire->spare);
    table_init(&wire->outgoing_by_peer, 0); /* keys are not the peers' choice */
    mesh_inbox_init(&wire->inbox, &wire->transport);
    if (security)
        mesh_inbox_ask(&wire->inbox);
    return bind_all(wire, endpoints);
}

/* Nothing goes to this peer any more. */
static void outgoing_free(struct wire *wire, struct outgoing *outgoing)
{
    table_remove(&wire->outgoing_by_peer, &outgoing->by_peer);
    LIST_REMOVE(outgoing, link);
    mesh_outbox_fini(&outgoing->outbox);
    if (wire->n_spare == SPARE_MAX) {
        free(outgoing);
        return;
    }
    LIST_INSERT_HEAD(&wire->spare, outgoing, link);
    wire->n_spare++;
}

static void empty(struct wire *wire, struct outgoing_list *list)
{
    while (!LIST_EMPTY(list))
        outgoing_free(wire, LIST_FIRST(list));
}

static void empty_spare(struct wire *wire)
{
    while (!LIST_EMPTY(&wire->spare)) {
        struct outgoing *outgoing = LIST_FIRST(&wire->spare);

        LIST_REMOVE(outgoing, link);
        free(outgoing);
    }
    wire->n_spare = 0;
}

void wire_close(struct wire *wire, int linger_ms)
{
    empty(wire, &wire->gathering);
    empty(wire, &wire->stuck);
    empty_spare(wire);
    table_fini(&wire->outgoing_by_peer);
    mesh_inbox_fini(&wire->inbox);
    mesh_transport_close(&wire->transport, linger_ms);
    for (size_t i = 0; i < wire->n_endpoints; i++)
        free(wire->endpoints[i]);
    free(wire->endpoints);
    free(wire->condemned);
    free(wire->lost);
    *wire = (struct wire){.side = wire->side};
}

/* ---- who is lost ----------------------------------------------------------------------------- */

static void lose(struct wire *wire, uint64_t peer, const char *why)
{
    for (size_t i = 0; i < wire->n_lost; i++)
        if (wire->lost[i].peer == peer)
            return;
    if (wire->n_lost == wire->lost_room) {
        size_t room = wire->lost_room ? 2 * wire->lost_room : 16;
        struct wire_lost *lost = realloc(wire->lost, room * sizeof(*lost));

        if (!lost)
            return; /* its heartbeats will tell */
        wire->lost = lost;
        wire->lost_room = room;
    }
    wire->lost[wire->n_lost++] = (struct wire_lost){.peer = peer, .why = why};
}

/* A peer that ZAP was never asked about; of those that it refuses the handler tells. */
static void hear_failure(struct wire *wire)
{
    enum mesh_handshake failed = mesh_transport_failure(&wire->transport);
    int64_t now = clock_now_ns();

    if (failed == MESH_HANDSHAKE_FINE || failed == MESH_HANDSHAKE_REFUSED ||
        (wire->warned_ns != 0 && now - wire->warned_ns < WARN_NS))
        return;
    log_warn("a %s broke off its handshake: it does not speak CURVE, or has another broker's "
             "certificate",
             wire->side == BROKER_FRONT ? "caller" : "worker");
    wire->warned_ns = now;
}

/* A peer that is let in no longer need not go by itself. */
static void condemn(struct wire *wire, uint64_t peer)
{
    uint64_t *condemned =
        realloc(wire->condemned, (wire->n_condemned + 1) * sizeof(*wire->condemned));

    if (!condemned) {
        mesh_transport_cut(&wire->transport, peer);
        return;
    }
    wire->condemned = condemned;
    wire->condemned[wire->n_condemned++] = peer;
    wire->cut_ns = clock_now_ns() + WIRE_CUT_NS;
}

static void cut_condemned(struct wire *wire)
{
    wire->cut_ns = 0;
    while (wire->n_condemned > 0)
        mesh_transport_cut(&wire->transport, wire->condemned[--wire->n_condemned]);
}

void wire_watch(struct wire *wire, int64_t now_ns)
{
    if (wire->cut_ns != 0 && now_ns >= wire->cut_ns)
        cut_condemned(wire);
    mesh_transport_watch(&wire->transport, now_ns);
    if (wire->keyring)
        hear_failure(wire);
    for (uint64_t peer; mesh_transport_next_lost(&wire->transport, &peer);)
        lose(wire, peer, "its connection was closed");
}

int64_t wire_next_ns(const struct wire *wire)
{
    int64_t next = mesh_transport_next_ns(&wire->transport);

    return wire->cut_ns != 0 && wire->cut_ns < next ? wire->cut_ns : next;
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* @return 0; -EBADMSG: it came past ZAP */
static int identify(struct wire *wire, bool hello, struct wire_sender *sender)
{
    sender->number = 0;
    sender->known = false;
    if (!wire->keyring)
        return 0;
    if (!wire->inbox.let_in)
        return -EBADMSG;
    sender->number = wire->inbox.sender;
    if (hello && sender->number)
        sender->known = mesh_keyring_identity(wire->keyring, sender->number, &sender->who);
    return 0;
}

int wire_recv(struct wire *wire, struct broker_message *message, struct mesh_frame *frame,
              struct wire_sender *sender)
{
    int err = mesh_inbox_recv(&wire->inbox, &message->message, frame);
    bool hello = err == 0 && frame->header.kind == MESH_HELLO;

    message->filled = err == 0;
    if (hello)
        mesh_transport_note(&wire->transport, &message->message);
    return err == 0 ? identify(wire, hello, sender) : err;
}

/* ---- sending --------------------------------------------------------------------------------- */

static struct outgoing *outgoing_find(const struct wire *wire, uint64_t peer)
{
    struct table_node *node = table_find(&wire->outgoing_by_peer, peer);

    return node ? container_of(node, struct outgoing, by_peer) : NULL;
}

static struct outgoing *outgoing_make(struct wire *wire, uint64_t peer)
{
    struct outgoing *outgoing = LIST_FIRST(&wire->spare);

    if (outgoing) {
        LIST_REMOVE(outgoing, link);
        wire->n_spare--;
    } else {
        outgoing = malloc(sizeof(*outgoing));
    }
    if (!outgoing || table_add(&wire->outgoing_by_peer, &outgoing->by_peer, peer) < 0) {
        free(outgoing);
        return NULL;
    }
    outgoing->peer = peer;
    outgoing->is_stuck = false;
    mesh_outbox_init(&outgoing->outbox);
    LIST_INSERT_HEAD(&wire->gathering, outgoing, link);
    return outgoing;
}

/* A list that is full, a connection that is gone. */
static void give_up(struct wire *wire, struct outgoing *outgoing, int err)
{
    lose(wire, outgoing->peer,
         err == -ENOBUFS ? "it does not read what it is sent" : "its connection is gone");
    outgoing_free(wire, outgoing);
}

static void note_stuck(struct wire *wire, struct outgoing *outgoing)
{
    if (outgoing->is_stuck || !mesh_outbox_stuck(&outgoing->outbox))
        return;
    outgoing->is_stuck = true;
    LIST_REMOVE(outgoing, link);
    LIST_INSERT_HEAD(&wire->stuck, outgoing, link);
}

static void put(struct wire *wire, struct broker_message *action)
{
    uint64_t peer = action->message.peer;
    struct outgoing *outgoing = outgoing_find(wire, peer);
    int err = -ENOMEM;

    if (!outgoing)
        outgoing = outgoing_make(wire, peer);
    if (outgoing) {
        err =
            mesh_outbox_put(&outgoing->outbox, &wire->transport, &action->message, action->bundles);
        action->filled = false;
    }
    if (err < 0 && outgoing)
        give_up(wire, outgoing, err);
    else if (err < 0)
        lose(wire, peer, "out of memory");
    else
        note_stuck(wire, outgoing);
}

/* At once or not at all: whoever has no session has no claim on memory. */
static void answer(struct wire *wire, struct broker_message *action)
{
    const struct outgoing *outgoing = outgoing_find(wire, action->message.peer);
    bool waits = outgoing &&
                 (mesh_outbox_stuck(&outgoing->outbox) || mesh_outbox_gathers(&outgoing->outbox));

    if (!waits && mesh_transport_send(&wire->transport, &action->message) == 0)
        action->filled = false;
}

void wire_act(struct wire *wire, struct broker_message *action)
{
    struct outgoing *outgoing;

    switch (action->action) {
    case BROKER_SEND:
        put(wire, action);
        break;
    case BROKER_ANSWER:
        answer(wire, action);
        break;
    case BROKER_CUT:
        condemn(wire, action->message.peer);
        break;
    case BROKER_FORGET:
        outgoing = outgoing_find(wire, action->message.peer);
        if (outgoing)
            outgoing_free(wire, outgoing);
        break;
    }
    broker_core_recycle(wire->core, action);
}

void wire_flush(struct wire *wire)
{
    struct outgoing *next;

    for (struct outgoing *outgoing = LIST_FIRST(&wire->gathering); outgoing; outgoing = next) {
        int err = mesh_outbox_flush(&outgoing->outbox, &wire->transport);

        next = LIST_NEXT(outgoing, link);
        if (err < 0)
            give_up(wire, outgoing, err);
        else if (mesh_outbox_stuck(&outgoing->outbox))
            note_stuck(wire, outgoing);
        else
            outgoing_free(wire, outgoing);
    }
}

bool wire_retry(struct wire *wire)
{
    struct outgoing *next;

    for (struct outgoing *outgoing = LIST_FIRST(&wire->stuck); outgoing; outgoing = next) {
        int err = mesh_outbox_flush(&outgoing->outbox, &wire->transport);

        if (err == 0)
            err = mesh_outbox_retry(&outgoing->outbox, &wire->transport);
        next = LIST_NEXT(outgoing, link);
        if (err == 0)
            outgoing_free(wire, outgoing);
        else if (err != -EAGAIN)
            give_up(wire, outgoing, err);
    }
    return !LIST_EMPTY(&wire->stuck);
}
