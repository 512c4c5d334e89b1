#include "base/log.h"
#include "mesh/server_state.h"

static void on_gone(void *arg, struct mesh_peer *peer, const char *why)
{
    log_debug("a caller's session is over: %s", why);
    server_calls_lose(arg, &peer->source);
}

static void on_frame(void *arg, struct mesh_peer *peer, struct mesh_message *message,
                     const struct mesh_frame *frame)
{
    peer->source.peer = peer;
    peer->source.id = peer->id;
    server_frame(arg, &peer->source, message, frame);
}

int server_callers_listen(struct mesh_server *server)
{
    static const struct mesh_peers_handler handler = {.gone = on_gone, .frame = on_frame};
    struct mesh_peers_options options = {
        .context = server->context,
        .endpoint = server->endpoints.at[0],
        .max_message_bytes = server->options.max_message_bytes,
        .heartbeat_ms = server->options.heartbeat_ms,
        .security = server->options.security,
    };
    int err = server_health_add(server);

    if (err == 0)
        err = server_reflection_add(server);
    if (err == 0)
        err = mesh_peers_create(&options, &handler, server, &server->peers);
    if (err == 0)
        atomic_store(&server->ready, true);
    return err;
}
