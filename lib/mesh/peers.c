#include "mesh/peers.h"

#include "base/log.h"
#include "base/metrics.h"
#include "mesh/deadline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define BUCKETS 1024
#define BUCKET_SHIFT 54 /* of 64 bits, to leave that many */
#define PEERS_MAX 8192
#define BATCH 256
#define RETRY_MS 2 /* a ROUTER does not say when a peer takes messages again */

typedef Dragoman__Mesh__V1__Hello hello_message;
typedef Dragoman__Mesh__V1__Welcome welcome_message;

struct mesh_peers {
    struct mesh_peers_options options;
    const struct mesh_peers_handler *handler;
    void *arg;
    struct mesh_transport transport;
    struct mesh_keyring *keyring; /* NULL: no CURVE */
    uint64_t keyring_version;
    char endpoint[256];
    int64_t now_ns, look_at;
    struct mesh_inbox inbox;
    size_t n_peers, n_stuck;   /* stuck: their sockets do not take all */
    struct mesh_peer *gathers; /* peers for whom something waits for the next flush */
    bool any_broken, going;
    uint32_t heartbeat_ms;
    struct metric *rejected;
    struct mesh_peer *buckets[BUCKETS];
};

/* ---- the table ------------------------------------------------------------------------------- */

static struct mesh_peer **place_of(struct mesh_peers *peers, uint64_t id)
{
    struct mesh_peer **at = &peers->buckets[(id * UINT64_C(0x9e3779b97f4a7c15)) >> BUCKET_SHIFT];

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void break_off(struct mesh_peers *peers, struct mesh_peer *peer, const char *why)
{
    if (peer->broken[0] == '\0')
        snprintf(peer->broken, sizeof(peer->broken), "%s", why);
    peers->any_broken = true;
}

/* What the outbox says after a put or a flush. */
static int sent(struct mesh_peers *peers, struct mesh_peer *peer, bool was_stuck, int err)
{
    peers->n_stuck += mesh_outbox_stuck(&peer->outbox) && !was_stuck;
    if (err == 0)
        return 0;
    break_off(peers, peer,
              err == -ENOBUFS ? "it does not take what is sent" : "its connection is gone");
    return -ENOTCONN;
}

static void enlist(struct mesh_peers *peers, struct mesh_peer *peer)
{
    if (peer->gathers || !mesh_outbox_gathers(&peer->outbox))
        return;
    peer->gathers = true;
    peer->next_gathering = peers->gathers;
    peers->gathers = peer;
}

static void unlist(struct mesh_peers *peers, const struct mesh_peer *peer)
{
    struct mesh_peer **at = &peers->gathers;

    if (!peer->gathers)
        return;
    while (*at != peer)
        at = &(*at)->next_gathering;
    *at = peer->next_gathering;
}

static void flush_one(struct mesh_peers *peers, struct mesh_peer *peer)
{
    bool was_stuck = mesh_outbox_stuck(&peer->outbox);

    if (!mesh_outbox_gathers(&peer->outbox))
        return;
    sent(peers, peer, was_stuck, mesh_outbox_flush(&peer->outbox, &peers->transport));
}

void mesh_peers_flush(struct mesh_peers *peers)
{
    while (peers->gathers) {
        struct mesh_peer *peer = peers->gathers;

        peers->gathers = peer->next_gathering;
        peer->gathers = false;
        flush_one(peers, peer);
    }
}

int mesh_peers_send(struct mesh_peers *peers, struct mesh_peer *peer, struct mesh_message *message)
{
    bool was_stuck = mesh_outbox_stuck(&peer->outbox);
    int err;

    message->peer = peer->id;
    if (peer->broken[0]) {
        mesh_message_close(message);
        return -ENOTCONN;
    }
    err = mesh_outbox_put(&peer->outbox, &peers->transport, message, peer->bundles);
    enlist(peers, peer);
    return sent(peers, peer, was_stuck, err);
}

static void drop(struct mesh_peers *peers, struct mesh_peer *peer, const char *why)
{
    *place_of(peers, peer->id) = peer->next;
    peers->n_peers--;
    peers->handler->gone(peers->arg, peer, why);
    flush_one(peers, peer); /* what parts from it */
    if (mesh_outbox_stuck(&peer->outbox))
        peers->n_stuck--;
    unlist(peers, peer);
    mesh_outbox_fini(&peer->outbox);
    free(peer->identity);
    free(peer);
}

/* Do something with each; it may drop the one it is given. */
static void each(struct mesh_peers *peers, void (*visit)(struct mesh_peers *, struct mesh_peer *))
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct mesh_peer *peer = peers->buckets[i], *next; peer; peer = next) {
            next = peer->next;
            visit(peers, peer);
        }
    }
}

/* To one that may have no session. */
static void send_error(struct mesh_peers *peers, uint64_t id, enum status_code code,
                       const char *why)
{
    struct mesh_header header = {.kind = MESH_ERROR, .status = (uint16_t)code};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_message message;

    metric_add(peers->rejected, 1);
    meta.status_message = (char *)why;
    if (mesh_message_build(&header, &meta, NULL, false, &message) < 0)
        return;
    message.peer = id;
    if (mesh_transport_send(&peers->transport, &message) < 0)
        mesh_message_close(&message);
}

void mesh_peers_reject(struct mesh_peers *peers, struct mesh_peer *peer, enum status_code code,
                       const char *why)
{
    flush_one(peers, peer);
    send_error(peers, peer->id, code, why);
    break_off(peers, peer, why);
}

static void send_bare(struct mesh_peers *peers, struct mesh_peer *peer, uint8_t kind,
                      uint64_t token)
{
    struct mesh_header header = {.kind = kind, .call_id = token};
    struct mesh_message message;

    if (mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_peers_send(peers, peer, &message);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void hear_disconnects(struct mesh_peers *peers)
{
    for (uint64_t id; mesh_transport_next_lost(&peers->transport, &id);) {
        struct mesh_peer *peer = *place_of(peers, id);

        if (peer)
            break_off(peers, peer, "the connection was closed");
    }
}

static void send_welcome(struct mesh_peers *peers, struct mesh_peer *peer, uint32_t heartbeat_ms)
{
    welcome_message welcome = DRAGOMAN__MESH__V1__WELCOME__INIT;
    struct mesh_header header = {.kind = MESH_WELCOME};
    struct mesh_message message;

    welcome.version = MESH_VERSION;
    welcome.heartbeat_ms = heartbeat_ms;
    welcome.max_message_bytes = peers->options.max_message_bytes;
    welcome.features = MESH_FEATURES;
    if (mesh_message_build(&header, NULL, &welcome.base, false, &message) == 0)
        mesh_peers_send(peers, peer, &message);
    if (peers->going)
        send_bare(peers, peer, MESH_GOAWAY, 0);
}

/* @return whether somebody may begin a session; *out is who, NULL: nobody in particular */
static bool identify(const struct mesh_peers *peers, struct mesh_identity **out)
{
    uint16_t number = peers->inbox.sender;
    struct mesh_identity who;

    *out = NULL;
    if (!peers->keyring)
        return true;
    if (!peers->inbox.let_in || (number && !mesh_keyring_identity(peers->keyring, number, &who)))
        return false;
    if (!number)
        return true;
    *out = malloc(sizeof(who));
    if (*out)
        **out = who;
    return *out != NULL;
}

/* A routing id is no proof of who sends. */
static bool is_his(const struct mesh_peers *peers, const struct mesh_peer *peer)
{
    if (!peers->keyring)
        return true;
    return peers->inbox.let_in &&
           peers->inbox.sender == (peer->identity ? peer->identity->number : 0);
}

static void begin(struct mesh_peers *peers, uint64_t id, const hello_message *said,
                  struct mesh_identity *identity)
{
    struct mesh_peer **place = place_of(peers, id);
    struct mesh_peer *peer;
    uint32_t heartbeat_ms = mesh_heartbeat_agree(said->heartbeat_ms, peers->heartbeat_ms);

    if (*place)
        drop(peers, *place, "it said HELLO again");
    place = place_of(peers, id);
    peer = peers->n_peers < PEERS_MAX ? calloc(1, sizeof(*peer)) : NULL;
    if (!peer) {
        free(identity);
        send_error(peers, id, STATUS_RESOURCE_EXHAUSTED, "too many sessions");
        return;
    }
    peer->id = id;
    peer->identity = identity;
    peer->max_message_bytes = peers->options.max_message_bytes;
    if (said->max_message_bytes > 0 && said->max_message_bytes < peer->max_message_bytes)
        peer->max_message_bytes = (size_t)said->max_message_bytes;
    mesh_heartbeat_init(&peer->beat, heartbeat_ms, peers->now_ns);
    mesh_outbox_init(&peer->outbox);
    peer->next = *place;
    *place = peer;
    peers->n_peers++;
    if (mesh_heartbeat_next_ns(&peer->beat) < peers->look_at)
        peers->look_at = mesh_heartbeat_next_ns(&peer->beat);
    log_debug("'%s' has begun a session", said->name);
    send_welcome(peers, peer, heartbeat_ms);
    peer->bundles = (said->features & MESH_FEATURE_BUNDLES) != 0;
}

static void hello(struct mesh_peers *peers, struct mesh_message *message,
                  const struct mesh_frame *frame)
{
    ProtobufCMessage *body = NULL;
    struct mesh_identity *identity = NULL;
    const hello_message *said;

    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__hello__descriptor, MESH_INLINE_MAX, &body) <
        0) {
        send_error(peers, message->peer, STATUS_INVALID_ARGUMENT, "HELLO that is none");
        return;
    }
    said = (const hello_message *)body;
    if (said->version_min > MESH_VERSION || said->version_max < MESH_VERSION) {
        send_error(peers, message->peer, STATUS_UNIMPLEMENTED, "no protocol version in common");
    } else if (!identify(peers, &identity)) {
        send_error(peers, message->peer, STATUS_UNAUTHENTICATED, "your certificate was withdrawn");
    } else {
        mesh_transport_note(&peers->transport, message);
        begin(peers, message->peer, said, identity);
    }
    protobuf_c_message_free_unpacked(body, NULL);
}

static bool deserves_error(uint8_t kind)
{
    return kind != MESH_PONG && kind != MESH_BYE && kind != MESH_ERROR;
}

/* @return false: the owner took the message */
static bool session_frame(struct mesh_peers *peers, struct mesh_message *message,
                          const struct mesh_frame *frame)
{
    struct mesh_peer *peer = *place_of(peers, message->peer);

    if (frame->header.kind == MESH_HELLO) {
        hello(peers, message, frame);
        return true;
    }
    if (!peer) {
        if (deserves_error(frame->header.kind))
            send_error(peers, message->peer, STATUS_FAILED_PRECONDITION, "say HELLO first");
        return true;
    }
    if (!is_his(peers, peer)) {
        metric_add(peers->rejected, 1);
        return true;
    }
    mesh_heartbeat_heard(&peer->beat, peers->now_ns);
    switch (frame->header.kind) {
    case MESH_PING:
        send_bare(peers, peer, MESH_PONG, frame->header.call_id);
        return true;
    case MESH_BYE:
        break_off(peers, peer, "it said BYE");
        return true;
    case MESH_ERROR:
        break_off(peers, peer, "it refuses the session");
        return true;
    default:
        if (peer->broken[0])
            return true;
        peers->handler->frame(peers->arg, peer, message, frame);
        return false;
    }
}

static bool receive(struct mesh_peers *peers)
{
    struct mesh_message message;
    struct mesh_frame frame;
    struct mesh_peer *peer;
    int n = 0;

    for (; n < BATCH; n++) {
        int err = mesh_inbox_recv(&peers->inbox, &message, &frame);

        if (err == 0) {
            if (session_frame(peers, &message, &frame))
                mesh_message_close(&message);
        } else if (err == -EBADMSG || err == -EPROTONOSUPPORT) {
            enum status_code code =
                err == -EBADMSG ? STATUS_INVALID_ARGUMENT : STATUS_UNIMPLEMENTED;

            send_error(peers, message.peer, code, "malformed frame");
            peer = *place_of(peers, message.peer);
            if (peer)
                break_off(peers, peer, "malformed frame");
        } else {
            break;
        }
    }
    return n > 0;
}

/* ---- stepping -------------------------------------------------------------------------------- */

static void drop_if_broken(struct mesh_peers *peers, struct mesh_peer *peer)
{
    if (peer->broken[0])
        drop(peers, peer, peer->broken);
}

static void look_at_one(struct mesh_peers *peers, struct mesh_peer *peer)
{
    int64_t next;

    if (!mesh_heartbeat_alive(&peer->beat, peers->now_ns)) {
        drop(peers, peer, "no sign of life in three heartbeats");
        return;
    }
    next = peer->beat.looked_at + peer->beat.interval_ns;
    if (next < peers->look_at)
        peers->look_at = next;
}

static void retry_one(struct mesh_peers *peers, struct mesh_peer *peer)
{
    int err;

    if (!mesh_outbox_stuck(&peer->outbox) || peer->broken[0])
        return;
    err = mesh_outbox_retry(&peer->outbox, &peers->transport);
    if (err == 0)
        peers->n_stuck--;
    else if (err != -EAGAIN)
        break_off(peers, peer, "its connection is gone");
}

static void drop_if_revoked(struct mesh_peers *peers, struct mesh_peer *peer)
{
    struct mesh_identity who;

    if (peer->identity && !mesh_keyring_identity(peers->keyring, peer->identity->number, &who))
        mesh_peers_reject(peers, peer, STATUS_UNAUTHENTICATED, "your certificate was withdrawn");
}

/* After a reload, on whatever thread that was. */
static void look_at_keyring(struct mesh_peers *peers)
{
    uint64_t version = mesh_keyring_version(peers->keyring);

    if (version == peers->keyring_version)
        return;
    peers->keyring_version = version;
    each(peers, drop_if_revoked);
}

bool mesh_peers_step(struct mesh_peers *peers, int64_t now_ns)
{
    bool busy;

    peers->now_ns = now_ns;
    mesh_peers_flush(peers);
    mesh_transport_watch(&peers->transport, now_ns);
    busy = receive(peers);
    hear_disconnects(peers);
    if (peers->keyring)
        look_at_keyring(peers);
    if (peers->n_stuck > 0)
        each(peers, retry_one);
    mesh_peers_flush(peers);
    if (peers->any_broken) {
        peers->any_broken = false;
        each(peers, drop_if_broken);
    }
    if (now_ns >= peers->look_at) {
        peers->look_at = MESH_NEVER;
        each(peers, look_at_one);
    }
    return busy;
}

void mesh_peers_polled(struct mesh_peers *peers, const struct pollfd *fds)
{
    mesh_transport_polled(&peers->transport, fds);
}

int mesh_peers_fds(const struct mesh_peers *peers, struct pollfd *fds)
{
    return mesh_transport_fds(&peers->transport, fds);
}

bool mesh_peers_pending(struct mesh_peers *peers)
{
    mesh_peers_flush(peers);
    if (peers->any_broken || peers->inbox.opened)
        return true;
    return mesh_transport_is_uncertain(&peers->transport) &&
           (mesh_transport_events(&peers->transport) & POLLIN) != 0;
}

int64_t mesh_peers_next_ns(const struct mesh_peers *peers)
{
    int64_t retry = peers->n_stuck > 0 ? peers->now_ns + RETRY_MS * NS_PER_MS : MESH_NEVER;
    int64_t next = mesh_transport_next_ns(&peers->transport);

    next = retry < next ? retry : next;
    return next < peers->look_at ? next : peers->look_at;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void goaway_one(struct mesh_peers *peers, struct mesh_peer *peer)
{
    send_bare(peers, peer, MESH_GOAWAY, 0);
}

size_t mesh_peers_count(const struct mesh_peers *peers)
{
    return peers->n_peers;
}

void mesh_peers_goaway(struct mesh_peers *peers)
{
    peers->going = true;
    each(peers, goaway_one);
}

static void bye_one(struct mesh_peers *peers, struct mesh_peer *peer)
{
    struct mesh_header header = {
        .kind = MESH_BYE, .flags = MESH_UNPROCESSED, .call_id = peer->source.last_call};
    struct mesh_message message;

    /* What crosses it was never read: the caller may send that elsewhere. */
    if (mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_peers_send(peers, peer, &message);
    drop(peers, peer, "the server stops");
}

int mesh_peers_create(const struct mesh_peers_options *options,
                      const struct mesh_peers_handler *handler, void *arg, struct mesh_peers **out)
{
    struct mesh_peers *peers = calloc(1, sizeof(*peers));
    const struct mesh_security *security = options->security;
    int err;

    if (!peers)
        return -ENOMEM;
    peers->options = *options;
    peers->handler = handler;
    peers->arg = arg;
    peers->look_at = MESH_NEVER;
    peers->heartbeat_ms = options->heartbeat_ms;
    peers->keyring = security ? security->callers : NULL;
    peers->rejected =
        metrics_counter("mesh_rejected_frames_total", "Frames that were answered with ERROR", NULL);
    mesh_transport_init(&peers->transport, &(struct mesh_transport_options){
                                               .context = options->context,
                                               .kind = MESH_ROUTER,
                                               .max_message_bytes = options->max_message_bytes,
                                               .security = security,
                                               .domain = "mesh.client",
                                               .keyring = peers->keyring,
                                           });
    mesh_inbox_init(&peers->inbox, &peers->transport);
    if (security)
        mesh_inbox_ask(&peers->inbox);
    err = mesh_transport_bind(&peers->transport, options->endpoint, peers->endpoint,
                              sizeof(peers->endpoint));
    if (err < 0) {
        mesh_peers_destroy(&peers, 0);
        return err;
    }
    if (peers->keyring)
        peers->keyring_version = mesh_keyring_version(peers->keyring);
    *out = peers;
    return 0;
}

void mesh_peers_destroy(struct mesh_peers **peers, int linger_ms)
{
    struct mesh_peers *self = *peers;

    if (!self)
        return;
    each(self, bye_one);
    mesh_inbox_fini(&self->inbox);
    mesh_transport_close(&self->transport, linger_ms);
    free(self);
    *peers = NULL;
}

const char *mesh_peers_endpoint(const struct mesh_peers *peers)
{
    return peers->endpoint;
}
