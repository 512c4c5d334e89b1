#include "base/log.h"
#include "mesh/server_state.h"

#include <errno.h>
#include <stdlib.h>

static void send_bare(struct broker_session *broker, uint8_t kind)
{
    struct mesh_header header = {.kind = kind};
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

static void on_up(void *arg)
{
    struct broker_session *broker = arg;

    broker->source.last_call = 0;
    broker->drain_sent = broker->drain_done = false;
    if (!broker->server->draining)
        server_register(broker->server, &broker->link, broker->server->options.capacity);
}

static void on_down(void *arg, const char *why)
{
    struct broker_session *broker = arg;

    (void)why; /* the link has logged it */
    broker->registered = false;
    look_at_readiness(broker->server);
    server_calls_lose(broker->server, &broker->source);
}

static void on_going(void *arg)
{
    (void)arg; /* a broker that stops sends no OPENs; its BYE will come */
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

    if (frame->header.kind == MESH_REGISTERED) {
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
            send_bare(broker, MESH_DRAIN);
        broker->drain_sent = true;
        drained &= broker->drain_done;
    }
    return drained;
}

bool server_brokers_step(struct mesh_server *server)
{
    bool busy = false;

    for (size_t i = 0; i < server->n_brokers; i++)
        busy |= mesh_link_step(&server->brokers[i].link, server->now_ns);
    return busy;
}

int server_brokers_init(struct mesh_server *server)
{
    static const struct mesh_link_handler handler = {
        .up = on_up, .down = on_down, .going = on_going, .frame = on_frame};

    server->brokers = calloc(server->endpoints.count, sizeof(*server->brokers));
    if (!server->brokers)
        return -ENOMEM;
    server->n_brokers = server->endpoints.count;
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
    for (size_t i = 0; i < server->n_brokers; i++)
        mesh_link_fini(&server->brokers[i].link, linger_ms);
    free(server->brokers);
    server->brokers = NULL;
    server->n_brokers = 0;
}
