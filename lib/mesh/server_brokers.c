#include "base/log.h"
#include "mesh/server_state.h"

#include <errno.h>
#include <stdlib.h>

static void send_bare(struct broker_session *broker, uint8_t kind, uint32_t number)
{
    struct mesh_header header = {.kind = kind, .credit_messages = number};
    struct mesh_message message;

    if (mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(&broker->link, &message);
}

/* One broker is enough to work for. */
static void look_at_readiness(struct mesh_server *server)
{
    bool ready = false;

    for (size_t i = 0; i < server->n_brokers; i++)
        ready |= server->brokers[i].registered;
    atomic_store(&server->ready, ready && !server->draining);
}

/* ---- shares, with several brokers ------------------------------------------------------------ */

/* What the lease goes by, as of now. @return whether calls of lost sessions have ended */
static bool count_running(struct mesh_server *server)
{
    uint32_t lost = server->n_calls - server->n_listed;
    bool fewer = lost < server->lease.lost;

    server->lease.lost = lost;
    for (size_t i = 0; i < server->n_brokers; i++)
        lease_running(&server->lease, i, server->brokers[i].source.n_calls);
    return fewer;
}

static void tell_shares(struct mesh_server *server)
{
    uint32_t share;
    bool confirm;
    size_t i;

    while (lease_next(&server->lease, &i, &share, &confirm)) {
        struct mesh_link *link = &server->brokers[i].link;

        send_bare(&server->brokers[i], MESH_CAPACITY, share);
        if (confirm)
            lease_asked(&server->lease, i, mesh_link_ping(link));
    }
}

/* Each second: ask all how many calls wait there, and go by what they said. */
static void share_by_demand(struct mesh_server *server)
{
    server->share_at = server->now_ns + LEASE_TICK_NS;
    for (size_t i = 0; i < server->n_brokers; i++) {
        if (server->brokers[i].registered)
            mesh_link_ping(&server->brokers[i].link);
    }
    lease_plan(&server->lease);
}

void server_brokers_share(struct mesh_server *server)
{
    bool alone = server->n_brokers == 1;
    bool freed;

    /* One broker has it all, unless handlers of a lost session still run. */
    if (server->n_brokers == 0 || server->draining ||
        (alone && server->n_calls == server->n_listed && server->lease.lost == 0))
        return;
    freed = count_running(server);
    if (!alone && server->now_ns >= server->share_at)
        share_by_demand(server);
    else if (freed)
        lease_plan(&server->lease);
    else if (server->lease.pending)
        lease_settle(&server->lease);
    tell_shares(server);
}

static void on_pong(void *arg, uint64_t token, uint32_t waiting)
{
    struct broker_session *broker = arg;
    struct mesh_server *server = broker->server;

    count_running(server);
    if (lease_pong(&server->lease, broker->source.id, token, waiting))
        lease_plan(&server->lease);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void on_up(void *arg)
{
    struct broker_session *broker = arg;
    struct mesh_server *server = broker->server;
    uint32_t total = server->n_brokers > 1 ? server->options.capacity : 0;

    broker->source.last_call = 0;
    broker->drain_sent = broker->drain_done = false;
    if (server->draining)
        return;
    count_running(server);
    server_register(server, &broker->link, lease_up(&server->lease, broker->source.id), total);
}

static void on_down(void *arg, const char *why)
{
    struct broker_session *broker = arg;
    struct mesh_server *server = broker->server;

    (void)why; /* the link has logged it */
    broker->registered = false;
    look_at_readiness(server);
    server_calls_lose(server, &broker->source);
    mesh_identities_forget(&broker->source.identities);
    count_running(server);
    lease_down(&server->lease, broker->source.id);
}

/* A broker that stops sends no OPENs: others may have its share. Its BYE will come. */
static void on_going(void *arg)
{
    struct broker_session *broker = arg;

    lease_going(&broker->server->lease, broker->source.id);
}

static void on_frame(void *arg, struct mesh_message *message, const struct mesh_frame *frame)
{
    struct broker_session *broker = arg;

    server_frame(broker->server, &broker->source, message, frame);
}

void server_brokers_frame(struct mesh_server *server, struct mesh_source *source,
                          const struct mesh_frame *frame)
{
    struct broker_session *broker = &server->brokers[source->id];

    if (frame->header.kind == MESH_IDENTITY) {
        if (mesh_identities_learn(&source->identities, frame) < 0)
            mesh_link_reject(&broker->link, STATUS_INVALID_ARGUMENT, "IDENTITY that is none");
    } else if (frame->header.kind == MESH_REGISTERED) {
        broker->registered = true;
        look_at_readiness(server);
        log_info("registered with the broker at '%s'", broker->link.options.endpoint);
    } else {
        broker->drain_done = true;
    }
}

bool server_brokers_drained(struct mesh_server *server)
{
    bool drained = true;

    look_at_readiness(server);
    for (size_t i = 0; i < server->n_brokers; i++) {
        struct broker_session *broker = &server->brokers[i];

        if (broker->link.state != LINK_UP)
            continue;
        if (!broker->drain_sent)
            send_bare(broker, MESH_DRAIN, 0);
        broker->drain_sent = true;
        drained &= broker->drain_done;
    }
    return drained;
}

bool server_brokers_step(struct mesh_server *server)
{
    float load = mesh_server_load(server, false);
    bool busy = false;

    for (size_t i = 0; i < server->n_brokers; i++)
        server->brokers[i].link.load = load;
    for (size_t i = 0; i < server->n_brokers; i++)
        busy |= mesh_link_step(&server->brokers[i].link, server->now_ns);
    return busy;
}

int server_brokers_init(struct mesh_server *server)
{
    static const struct mesh_link_handler handler = {
        .up = on_up, .down = on_down, .going = on_going, .pong = on_pong, .frame = on_frame};

    server->brokers = calloc(server->endpoints.count, sizeof(*server->brokers));
    if (!server->brokers)
        return -ENOMEM;
    server->n_brokers = server->endpoints.count;
    lease_init(&server->lease, server->options.capacity, server->n_brokers);
    for (size_t i = 0; i < server->n_brokers; i++) {
        struct broker_session *broker = &server->brokers[i];
        struct mesh_link_options options = {
            .context = server->context,
            .endpoint = server->endpoints.at[i],
            .name = server->name,
            .max_message_bytes = server->options.max_message_bytes,
            .heartbeat_ms = server->options.heartbeat_ms,
            .security = server->options.security,
        };

        broker->server = server;
        broker->source = (struct mesh_source){.link = &broker->link, .id = (uint32_t)i};
        mesh_link_init(&broker->link, &options, &handler, broker);
    }
    return 0;
}

void server_brokers_fini(struct mesh_server *server, int linger_ms)
{
    for (size_t i = 0; i < server->n_brokers; i++) {
        mesh_link_fini(&server->brokers[i].link, linger_ms);
        mesh_identities_forget(&server->brokers[i].source.identities);
    }
    free(server->brokers);
    server->brokers = NULL;
    server->n_brokers = 0;
}
