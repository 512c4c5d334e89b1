#include "mesh/link.h"

#include "base/log.h"
#include "mesh/deadline.h"
#include "mesh/meta.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define GREETING_MS 3000 /* for WELCOME to come */
#define STANDING_MS 1000 /* a session that stood so long is tried again at once */
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define COMPLAIN_MS 3000 /* a peer that stays away so long is worth a line */
#define PARTING_MS 200   /* for an ERROR or a BYE to leave */
#define BATCH 256        /* messages received in one step */

typedef Dragoman__Mesh__V1__Hello hello_message;
typedef Dragoman__Mesh__V1__Welcome welcome_message;

bool mesh_endpoint_is_valid(const char *endpoint, const void *context)
{
    if (!endpoint || !strstr(endpoint, "://"))
        return false;
    return context || strncmp(endpoint, "inproc://", 9) != 0;
}

/* ---- a session begins ------------------------------------------------------------------------ */

void mesh_link_init(struct mesh_link *link, const struct mesh_link_options *options,
                    const struct mesh_link_handler *handler, void *arg)
{
    *link = (struct mesh_link){
        .options = *options,
        .handler = handler,
        .arg = arg,
        .max_message_bytes = options->max_message_bytes,
        .backoff_ms = BACKOFF_MIN_MS,
        .load = -1,
    };
    mesh_transport_init(&link->transport, &(struct mesh_transport_options){
                                              .context = options->context,
                                              .kind = MESH_DEALER,
                                              .max_message_bytes = options->max_message_bytes,
                                              .security = options->security,
                                          });
    mesh_outbox_init(&link->outbox);
}

static void close_socket(struct mesh_link *link, int linger_ms)
{
    mesh_outbox_fini(&link->outbox);
    mesh_inbox_fini(&link->inbox);
    link->bundles = false;
    mesh_transport_close(&link->transport, linger_ms);
}

/* Doubling, a fifth more or less, so that many peers do not come back at once. */
static int64_t backoff_ns(struct mesh_link *link)
{
    uint64_t ms = link->backoff_ms;

    link->backoff_ms = ms * 2 < BACKOFF_MAX_MS ? (uint32_t)ms * 2 : BACKOFF_MAX_MS;
    return (int64_t)(ms * 4 / 5 + mesh_random() % (ms * 2 / 5 + 1)) * NS_PER_MS;
}

static void open_socket(struct mesh_link *link)
{
    const char *endpoint = link->options.endpoint;
    int err;

    link->retry_at = link->now_ns + backoff_ns(link);
    link->last_seen_call = UINT64_MAX;
    err = mesh_transport_connect(&link->transport, endpoint);
    if (err == 0) {
        mesh_inbox_init(&link->inbox, &link->transport);
        link->state = LINK_CONNECTING;
        link->retry_at = link->now_ns + GREETING_MS * NS_PER_MS;
        return;
    }
    if (err != -ENOENT && err != -ECONNREFUSED &&
        err != -EAGAIN) /* of the others complain() tells */
        log_warn("cannot connect to '%s': %s", endpoint, zmq_strerror(-err));
    close_socket(link, 0);
}

/* Until the connection stands the socket refuses it. */
static void say_hello(struct mesh_link *link)
{
    uint64_t session[2] = {mesh_random(), mesh_random()};
    hello_message hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};
    struct mesh_message message;

    hello.version_min = hello.version_max = MESH_VERSION;
    hello.session.data = (uint8_t *)session;
    hello.session.len = sizeof(session);
    hello.name = (char *)(link->options.name ? link->options.name : "");
    hello.build = (char *)DRAGOMAN_VERSION;
    hello.heartbeat_ms = link->options.heartbeat_ms;
    hello.max_message_bytes = link->options.max_message_bytes;
    hello.features = MESH_FEATURES;
    if (mesh_message_build(&header, NULL, &hello.base, false, &message) < 0)
        return;
    if (mesh_transport_send(&link->transport, &message) < 0) {
        mesh_message_close(&message);
        return;
    }
    link->state = LINK_GREETING;
    link->retry_at = link->now_ns + GREETING_MS * NS_PER_MS;
}

/* ---- and ends -------------------------------------------------------------------------------- */

static void note_unsent(void *arg, const struct mesh_header *header)
{
    struct mesh_link *link = arg;

    if (header->kind == MESH_OPEN)
        link->handler->unsent(link->arg, header->call_id);
}

/* Calls that never left. */
static void report_unsent(struct mesh_link *link)
{
    if (link->handler->unsent)
        mesh_outbox_each_unsent(&link->outbox, &link->transport, note_unsent, link);
}

static void lose(struct mesh_link *link, const char *why)
{
    bool was_up = link->state == LINK_UP;
    bool stood = was_up && link->now_ns - link->up_at >= STANDING_MS * NS_PER_MS;

    if (link->state == LINK_IDLE || link->state == LINK_RESTING)
        return;
    mesh_link_flush(link);
    report_unsent(link);
    close_socket(link,
                 link->transport.ipc ? 0 : PARTING_MS); /* libzmq lingers on a thread of its own */
    if (stood) /* one that says GOAWAY or ERROR each time is not asked each time at once */
        link->backoff_ms = BACKOFF_MIN_MS;
    link->state = LINK_IDLE;
    link->broken[0] = '\0';
    link->retry_at = stood ? link->now_ns : link->now_ns + backoff_ns(link);
    if (was_up) {
        link->down_at = link->now_ns;
        log_info("session with '%s' is over: %s", link->options.endpoint, why);
        link->handler->down(link->arg, why);
    }
}

static void break_off(struct mesh_link *link, const char *why)
{
    if (link->broken[0] == '\0')
        snprintf(link->broken, sizeof(link->broken), "%s", why);
}

static void send_error(struct mesh_link *link, enum status_code code, const char *why)
{
    struct mesh_header header = {.kind = MESH_ERROR, .status = (uint16_t)code};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_message message;

    meta.status_message = (char *)why;
    if (mesh_message_build(&header, &meta, NULL, false, &message) == 0)
        mesh_link_send(link, &message);
}

void mesh_link_reject(struct mesh_link *link, enum status_code code, const char *why)
{
    if (link->state == LINK_UP)
        send_error(link, code, why);
    break_off(link, why);
}

static void say_bye(struct mesh_link *link)
{
    struct mesh_header header = {.kind = MESH_BYE};
    struct mesh_message message;

    if (link->state == LINK_UP && mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(link, &message);
}

void mesh_link_restart(struct mesh_link *link, const char *why)
{
    say_bye(link);
    break_off(link, why);
}

void mesh_link_rest(struct mesh_link *link)
{
    assert(link->state == LINK_IDLE);
    link->state = LINK_RESTING;
}

void mesh_link_wake(struct mesh_link *link, int64_t now_ns)
{
    if (link->state != LINK_RESTING)
        return;
    link->state = LINK_IDLE;
    link->now_ns = now_ns;
    link->down_at = now_ns;
    link->complained = false;
    link->retry_at = now_ns + backoff_ns(link); /* whoever wakes it again and again has to wait */
}

void mesh_link_fini(struct mesh_link *link, int linger_ms)
{
    say_bye(link);
    mesh_link_flush(link);
    close_socket(link, linger_ms);
    link->state = LINK_IDLE;
}

/* ---- what the peer says ---------------------------------------------------------------------- */

static void welcome(struct mesh_link *link, const struct mesh_frame *frame)
{
    ProtobufCMessage *body = NULL;
    const welcome_message *said;

    if (link->state != LINK_GREETING ||
        mesh_frame_unpack(frame, &dragoman__mesh__v1__welcome__descriptor, MESH_INLINE_MAX, &body) <
            0) {
        mesh_link_reject(link, STATUS_INVALID_ARGUMENT, "WELCOME that is none");
        return;
    }
    said = (const welcome_message *)body;
    if (said->version != MESH_VERSION) {
        mesh_link_reject(link, STATUS_UNIMPLEMENTED, "WELCOME with a version not offered");
    } else {
        mesh_heartbeat_init(&link->beat, mesh_heartbeat_agree(said->heartbeat_ms, 0), link->now_ns);
        link->max_message_bytes = link->options.max_message_bytes;
        if (said->max_message_bytes > 0 && said->max_message_bytes < link->max_message_bytes)
            link->max_message_bytes = (size_t)said->max_message_bytes;
        link->bundles = (said->features & MESH_FEATURE_BUNDLES) != 0;
        link->state = LINK_UP;
        link->up_at = link->now_ns;
        link->complained = false;
        link->trouble = NULL;
        link->turned_away = false;
        log_debug("session with '%s' stands", link->options.endpoint);
        link->handler->up(link->arg);
    }
    protobuf_c_message_free_unpacked(body, NULL);
}

static void error_from_peer(struct mesh_link *link, const struct mesh_frame *frame)
{
    mesh_meta *meta = NULL;
    struct status status;

    if (mesh_meta_unpack(frame, &meta) < 0)
        meta = NULL;
    mesh_status_read(frame->header.status, meta, &status);
    if (meta)
        dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    log_warn("'%s' refuses the session: %s: %s", link->options.endpoint, status_name(status.code),
             status.message);
    lose(link, status.message);
}

static void goaway(struct mesh_link *link, const struct mesh_header *header)
{
    if (link->state != LINK_UP)
        return;
    if ((header->flags & MESH_RETURN) && link->handler->returning)
        link->handler->returning(link->arg);
    else
        link->handler->going(link->arg);
}

/* Session kinds are ours, the rest goes to the owner. @return false: the owner took the message */
static bool session_frame(struct mesh_link *link, const struct mesh_frame *frame)
{
    switch (frame->header.kind) {
    case MESH_WELCOME:
        welcome(link, frame);
        return true;
    case MESH_PONG:
        if (link->state == LINK_UP && link->handler->pong)
            link->handler->pong(link->arg, frame->header.call_id, frame->header.credit_messages);
        return true;
    case MESH_GOAWAY:
        goaway(link, &frame->header);
        return true;
    case MESH_BYE:
        if (frame->header.flags & MESH_UNPROCESSED)
            link->last_seen_call = frame->header.call_id;
        lose(link, "the peer said BYE");
        return true;
    case MESH_ERROR:
        error_from_peer(link, frame);
        return true;
    default:
        return link->state != LINK_UP;
    }
}

static void receive(struct mesh_link *link)
{
    struct mesh_message message;
    struct mesh_frame frame;

    for (int i = 0; i < BATCH && mesh_transport_is_open(&link->transport) && !link->broken[0];
         i++) {
        int err = mesh_inbox_recv(&link->inbox, &message, &frame);

        if (err == -EBADMSG || err == -EPROTONOSUPPORT)
            mesh_link_reject(link, STATUS_INVALID_ARGUMENT, "malformed frame");
        if (err < 0)
            return;
        link->heard = true;
        if (session_frame(link, &frame))
            mesh_message_close(&message);
        else
            link->handler->frame(link->arg, &message, &frame);
    }
}

uint64_t mesh_link_ping(struct mesh_link *link)
{
    uint64_t now = (uint64_t)link->now_ns;
    struct mesh_header header = {.kind = MESH_PING};
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_message message;

    link->token = now > link->token ? now : link->token + 1;
    header.call_id = link->token;
    meta.load = link->load;
    if (mesh_message_build(&header, link->load >= 0 ? &meta : NULL, NULL, false, &message) == 0)
        mesh_link_send(link, &message);
    return link->token;
}

/* ---- stepping -------------------------------------------------------------------------------- */

static void beat(struct mesh_link *link)
{
    if (link->heard)
        mesh_heartbeat_heard(&link->beat, link->now_ns);
    if (!mesh_heartbeat_alive(&link->beat, link->now_ns)) {
        lose(link, "no sign of life in three heartbeats");
        return;
    }
    if (mesh_heartbeat_ping_due(&link->beat, link->now_ns))
        mesh_link_ping(link);
}

static void complain(struct mesh_link *link)
{
    if (link->down_at == 0)
        link->down_at = link->now_ns;
    if (link->complained || link->now_ns - link->down_at < COMPLAIN_MS * NS_PER_MS)
        return;
    link->complained = true;
    if (link->trouble)
        log_warn("cannot talk to '%s': %s", link->options.endpoint, link->trouble);
    else
        log_warn("nobody answers at '%s' yet: still trying", link->options.endpoint);
}

static const char *what_failed(const struct mesh_link *link, enum mesh_handshake failed)
{
    bool curve = link->options.security != NULL;

    switch (failed) {
    case MESH_HANDSHAKE_REFUSED:
        return "the peer refuses this key: its certificate must be added there";
    case MESH_HANDSHAKE_MISMATCH:
        return curve ? "the peer does not speak CURVE"
                     : "the peer does speak CURVE: a key is needed";
    default:
        return curve
                   ? "the peer breaks off the handshake: it has another key than the one given, or "
                     "does not speak CURVE"
                   : "the peer breaks off the handshake: it may speak CURVE, and want a key";
    }
}

/* A handshake has failed. After most libzmq never tries again: do it, on a new socket. One that breaks off may be
 * the peer's death, which is no verdict. */
static void hear_failure(struct mesh_link *link)
{
    enum mesh_handshake failed = mesh_transport_failure(&link->transport);
    const char *trouble;

    if (failed == MESH_HANDSHAKE_FINE || link->state != LINK_CONNECTING)
        return;
    trouble = what_failed(link, failed);
    link->trouble = trouble;
    if (failed == MESH_HANDSHAKE_BROKEN)
        return;
    link->turned_away = true;
    if (!link->complained)
        log_warn("cannot talk to '%s': %s", link->options.endpoint, trouble);
    link->complained = true;
    lose(link, trouble);
}

static void lose_broken(struct mesh_link *link)
{
    char why[sizeof(link->broken)];

    memcpy(why, link->broken, sizeof(why));
    lose(link, why);
}

/* Whether the connection has ended: after what came before, which still counts. */
static bool is_cut(struct mesh_link *link)
{
    bool cut = false;

    for (uint64_t peer; mesh_transport_next_lost(&link->transport, &peer);)
        cut = true;
    return cut;
}

/* Also one that fell before HELLO: libzmq would try again each 50 ms. */
static void look_for_end(struct mesh_link *link)
{
    hear_failure(link);
    if (is_cut(link))
        lose(link, "the connection was closed");
    if (link->broken[0])
        lose_broken(link);
    if (link->state == LINK_GREETING && link->now_ns >= link->retry_at)
        lose(link, "no WELCOME in time");
    if (link->state == LINK_CONNECTING && link->transport.ipc && link->now_ns >= link->retry_at)
        lose(link, "no greeting in time"); /* libzmq itself sees to that, and tries again */
}

bool mesh_link_step(struct mesh_link *link, int64_t now_ns)
{
    link->now_ns = now_ns;
    link->heard = false;
    if (link->state == LINK_RESTING)
        return false;
    if (link->state != LINK_UP)
        complain(link);
    if (link->state == LINK_IDLE && now_ns >= link->retry_at)
        open_socket(link);
    mesh_transport_watch(&link->transport, now_ns);
    if (link->state == LINK_CONNECTING)
        say_hello(link);
    mesh_link_flush(link);
    receive(link);
    look_for_end(link);
    if (link->state == LINK_UP)
        beat(link);
    if (link->state == LINK_UP && mesh_outbox_stuck(&link->outbox))
        mesh_outbox_retry(&link->outbox, &link->transport);
    mesh_link_flush(link);
    return link->heard;
}

int mesh_link_fds(const struct mesh_link *link, struct pollfd *fds)
{
    return mesh_transport_fds(&link->transport, fds);
}

int mesh_link_polled(struct mesh_link *link, const struct pollfd *fds)
{
    return mesh_transport_polled(&link->transport, fds);
}

bool mesh_link_pending(struct mesh_link *link)
{
    bool stuck;
    short events;

    if (link->state == LINK_RESTING)
        return false;
    mesh_link_flush(link);
    stuck = mesh_outbox_stuck(&link->outbox);
    if (link->broken[0] || link->inbox.opened)
        return true;
    if (link->state == LINK_UP && !mesh_transport_is_uncertain(&link->transport) && !stuck)
        return false; /* its descriptors will tell */
    events = mesh_transport_events(&link->transport);
    return (events & POLLIN) != 0 ||
           ((events & POLLOUT) != 0 && (link->state == LINK_CONNECTING || stuck));
}

int64_t mesh_link_next_ns(const struct mesh_link *link)
{
    if (link->state == LINK_UP)
        return mesh_heartbeat_next_ns(&link->beat);
    if (link->state == LINK_RESTING)
        return MESH_NEVER;
    if (link->state == LINK_CONNECTING && !link->transport.ipc)
        return link->complained ? MESH_NEVER : link->now_ns + COMPLAIN_MS * NS_PER_MS;
    return link->retry_at;
}

static int sent(struct mesh_link *link, int err)
{
    if (err == 0)
        return 0;
    break_off(link, err == -ENOBUFS ? "the peer does not take what is sent" : zmq_strerror(-err));
    return -ENOTCONN;
}

int mesh_link_send(struct mesh_link *link, struct mesh_message *message)
{
    if (link->state != LINK_UP || link->broken[0]) {
        mesh_message_close(message);
        return -ENOTCONN;
    }
    link->beat.sent_at = link->now_ns;
    return sent(link, mesh_outbox_put(&link->outbox, &link->transport, message, link->bundles));
}

void mesh_link_flush(struct mesh_link *link)
{
    if (!mesh_outbox_gathers(&link->outbox))
        return;
    sent(link, mesh_outbox_flush(&link->outbox, &link->transport));
}
