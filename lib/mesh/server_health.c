#include "mesh/server_state.h"

#include <stdlib.h>
#include <string.h>

/* A HealthCheckResponse.ServingStatus, or -1 for a service that is not here. */
static int health_of(const struct mesh_server *server, const char *name)
{
    int state = server->draining
                    ? DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                    : DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;

    if (name[0] == '\0' || strcmp(name, dragoman__mesh__v1__health__descriptor.name) == 0)
        return state;
    return server_offers(server, name) ? state : -1;
}

static char *health_question(const struct mesh_frame *frame)
{
    ProtobufCMessage *request = NULL;
    char *name;

    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__health_check_request__descriptor,
                          MESH_INLINE_MAX, &request) < 0)
        return NULL;
    name = strdup(((Dragoman__Mesh__V1__HealthCheckRequest *)request)->service);
    protobuf_c_message_free_unpacked(request, NULL);
    return name;
}

static void send_health(struct mesh_server *server, struct mesh_source *source,
                        const struct mesh_header *header, int state)
{
    Dragoman__Mesh__V1__HealthCheckResponse response =
        DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct mesh_message message;

    response.status = (Dragoman__Mesh__V1__HealthCheckResponse__ServingStatus)state;
    if (mesh_message_build(header, NULL, &response.base, false, &message) == 0)
        server_send(server, source, &message);
}

static void check(struct mesh_server *server, struct mesh_source *source,
                  const struct mesh_frame *frame)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = frame->header.call_id, .seq = 1};
    char *name = health_question(frame);
    int state = name ? health_of(server, name) : -1;
    struct status status;

    if (!name)
        status_set(&status, STATUS_INTERNAL, "a request does not parse");
    else if (state < 0)
        status_set(&status, STATUS_NOT_FOUND, "no service '%s' here", name);
    if (state < 0)
        server_refuse(server, source, frame->header.call_id, &status);
    else
        send_health(server, source, &header, state);
    free(name);
}

void server_health_tell(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call->id};
    int state = health_of(server, call->watched);

    if (state < 0)
        state = DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    if (state == call->told || !mesh_credit_may_send(&call->flow.out))
        return;
    call->told = state;
    header.seq = mesh_flow_sent(&call->flow, true, 0);
    call->flow.unsent = 0; /* sent from here */
    send_health(server, call->source, &header, state);
}

static void each_watch(struct mesh_server *server,
                       void (*visit)(struct mesh_server *, struct mesh_call *))
{
    for (size_t i = 0; i < SERVER_CALL_BUCKETS && server->n_watches > 0; i++) {
        for (struct mesh_call *call = server->calls[i], *next; call; call = next) {
            next = call->next_in_bucket;
            if (server_call_is_watch(call))
                visit(server, call);
        }
    }
}

static void end_watch(struct mesh_server *server, struct mesh_call *call)
{
    server_call_cancel(server, call, STATUS_UNAVAILABLE, "the server stops");
}

void server_health_watch(struct mesh_server *server, struct mesh_call *call,
                         const struct mesh_frame *frame)
{
    call->watched = health_question(frame);
    server->n_watches++;
    if (!call->watched)
        server_call_cancel(server, call, STATUS_INTERNAL, "a request does not parse");
    else
        server_health_tell(server, call);
}

int server_health_add(struct mesh_server *server)
{
    const ProtobufCServiceDescriptor *health = &dragoman__mesh__v1__health__descriptor;
    int err = 0;

    for (unsigned i = 0; i < health->n_methods && err == 0; i++) {
        bool watch = strcmp(health->methods[i].name, "Watch") == 0;
        struct server_method model = {
            .index = i,
            .kind = watch ? MESH_SERVER_STREAMING : MESH_UNARY,
            .own = watch ? NULL : check,
            .watch = watch,
        };

        err = server_method_add(server, health, &model);
    }
    return err;
}

void server_health_tell_all(struct mesh_server *server)
{
    each_watch(server, server_health_tell);
}

void server_health_end_all(struct mesh_server *server)
{
    each_watch(server, end_watch);
}
