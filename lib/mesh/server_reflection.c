#include "mesh/reflect.h"
#include "mesh/server_state.h"

#include <stdlib.h>
#include <string.h>

#define N_OWN 2

typedef Dragoman__Mesh__V1__ReflectionListResponse list_response;
typedef Dragoman__Mesh__V1__DescribeRequest describe_request;
typedef Dragoman__Mesh__V1__DescribeResponse describe_response;

static const ProtobufCServiceDescriptor *const OWN[N_OWN] = {
    &dragoman__mesh__v1__health__descriptor,
    &dragoman__mesh__v1__reflection__descriptor,
};

static void answer(struct mesh_server *server, struct mesh_source *source,
                   const struct mesh_frame *frame, const ProtobufCMessage *response)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = frame->header.call_id, .seq = 1};
    struct mesh_message message;

    if (mesh_message_build(&header, NULL, response, false, &message) == 0)
        server_send(server, source, &message);
}

static void refuse(struct mesh_server *server, struct mesh_source *source,
                   const struct mesh_frame *frame, enum status_code code, const char *why)
{
    struct status status;

    status_set(&status, code, "%s", why);
    server_refuse(server, source, frame->header.call_id, &status);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(struct mesh_server *server, struct mesh_source *source,
                 const struct mesh_frame *frame)
{
    list_response response = DRAGOMAN__MESH__V1__REFLECTION_LIST_RESPONSE__INIT;

    response.services = calloc(server->n_services + N_OWN, sizeof(char *));
    if (!response.services) {
        refuse(server, source, frame, STATUS_RESOURCE_EXHAUSTED, "no memory for the list");
        return;
    }
    for (size_t i = 0; i < N_OWN; i++)
        response.services[response.n_services++] = (char *)OWN[i]->name;
    for (size_t i = 0; i < server->n_services; i++)
        response.services[response.n_services++] =
            (char *)server->services[i].service->descriptor->name;
    qsort(response.services, response.n_services, sizeof(char *), by_name);
    answer(server, source, frame, &response.base);
    free(response.services);
}

static bool is_named(const ProtobufCServiceDescriptor *service, const char *symbol)
{
    size_t size = mesh_reflect_service(symbol);

    return strlen(service->name) == size && memcmp(service->name, symbol, size) == 0;
}

/* @return why there is nothing to say; NULL: *set is filled, *made to be freed */
static const char *find(const struct mesh_server *server, const char *symbol,
                        ProtobufCBinaryData *set, uint8_t **made)
{
    for (size_t i = 0; i < N_OWN; i++) {
        if (!is_named(OWN[i], symbol))
            continue;
        if (mesh_reflect_own(OWN[i], made, &set->len) < 0)
            return "no memory for the description";
        set->data = *made;
        return NULL;
    }
    for (size_t i = 0; i < server->n_services; i++) {
        if (!is_named(server->services[i].service->descriptor, symbol))
            continue;
        *set = server->services[i].descriptor_set;
        return set->len > 0 ? NULL : "this service is too large to be described";
    }
    return "no such service here";
}

static void describe(struct mesh_server *server, struct mesh_source *source,
                     const struct mesh_frame *frame)
{
    describe_response response = DRAGOMAN__MESH__V1__DESCRIBE_RESPONSE__INIT;
    ProtobufCMessage *request = NULL;
    uint8_t *made = NULL;
    const char *why;

    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__describe_request__descriptor, MESH_INLINE_MAX,
                          &request) < 0) {
        refuse(server, source, frame, STATUS_INTERNAL, "a request does not parse");
        return;
    }
    why = find(server, ((describe_request *)request)->symbol, &response.descriptor_set, &made);
    if (why)
        refuse(server, source, frame, STATUS_NOT_FOUND, why);
    else
        answer(server, source, frame, &response.base);
    protobuf_c_message_free_unpacked(request, NULL);
    free(made);
}

int server_reflection_add(struct mesh_server *server)
{
    const ProtobufCServiceDescriptor *reflection = &dragoman__mesh__v1__reflection__descriptor;
    int err = 0;

    for (unsigned i = 0; i < reflection->n_methods && err == 0; i++) {
        bool lists = strcmp(reflection->methods[i].name, "List") == 0;
        struct server_method model = {
            .index = i, .kind = MESH_UNARY, .own = lists ? list : describe};

        err = server_method_add(server, reflection, &model);
    }
    return err;
}
