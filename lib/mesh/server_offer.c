#include "base/log.h"
#include "mesh/reflect.h"
#include "mesh/server_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef Dragoman__Mesh__V1__Label label_message;
typedef Dragoman__Mesh__V1__ServiceOffer offer_message;

/* ---- methods --------------------------------------------------------------------------------- */

static struct server_method **method_bucket(struct mesh_server *server, uint64_t hash)
{
    return &server->methods[hash % SERVER_METHOD_BUCKETS];
}

const struct server_method *server_method_find(struct mesh_server *server, uint64_t hash)
{
    const struct server_method *method = *method_bucket(server, hash);

    while (method && method->method->hash != hash)
        method = method->next;
    return method;
}

int server_method_add(struct mesh_server *server, const ProtobufCServiceDescriptor *descriptor,
                      const struct server_method *model)
{
    struct server_method *method = malloc(sizeof(*method));
    struct server_method **bucket;

    if (!method)
        return -ENOMEM;
    *method = *model;
    method->method = mesh_method_of(descriptor, &descriptor->methods[model->index], MESH_ANSWERER);
    if (!method->method) {
        free(method);
        return -ENOMEM;
    }
    bucket = method_bucket(server, method->method->hash);
    method->next = *bucket;
    *bucket = method;
    return 0;
}

/* One that is too large to describe is served all the same. */
static int describe(const struct mesh_server *server, struct offered *offered,
                    const enum mesh_kind *kinds)
{
    ProtobufCBinaryData *set = &offered->descriptor_set;
    int err = mesh_reflect(offered->service->descriptor, kinds, server->types, server->n_types,
                           &set->data, &set->len);

    if (err == -EMSGSIZE)
        log_warn("'%s' is not described to reflection: more than %zu bytes",
                 offered->service->descriptor->name, MESH_DESCRIPTOR_SET_MAX);
    return err == -EMSGSIZE ? 0 : err;
}

int mesh_server_add_type(struct mesh_server *server, const ProtobufCMessageDescriptor *type)
{
    const ProtobufCMessageDescriptor **types =
        realloc(server->types, (server->n_types + 1) * sizeof(*types));

    if (!types)
        return -ENOMEM;
    server->types = types;
    types[server->n_types++] = type;
    return 0;
}

int mesh_server_add_service(struct mesh_server *server, ProtobufCService *service,
                            const enum mesh_kind *kinds)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    struct offered *services =
        realloc(server->services, (server->n_services + 1) * sizeof(*services));
    char **names;

    if (!services)
        return -ENOMEM;
    server->services = services;
    names = calloc(descriptor->n_methods, sizeof(char *));
    if (!names)
        return -ENOMEM;
    services[server->n_services++] = (struct offered){.service = service, .method_names = names};
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        struct server_method model = {
            .service = service, .index = i, .kind = kinds ? kinds[i] : MESH_UNARY};

        names[i] = (char *)descriptor->methods[i].name;
        if (server_method_add(server, descriptor, &model) < 0)
            return -ENOMEM;
    }
    return describe(server, &services[server->n_services - 1], kinds);
}

bool server_offers(const struct mesh_server *server, const char *service)
{
    for (size_t i = 0; i < server->n_services; i++) {
        if (strcmp(server->services[i].service->descriptor->name, service) == 0)
            return true;
    }
    return false;
}

/* ---- labels ---------------------------------------------------------------------------------- */

static label_message *label_of(struct mesh_server *server, const char *key)
{
    label_message **labels;
    label_message *label;

    for (size_t i = 0; i < server->n_labels; i++) {
        if (strcmp(server->labels[i]->key, key) == 0)
            return server->labels[i];
    }
    labels = realloc(server->labels, (server->n_labels + 1) * sizeof(label_message *));
    if (!labels)
        return NULL;
    server->labels = labels;
    label = malloc(sizeof(*label));
    if (!label)
        return NULL;
    dragoman__mesh__v1__label__init(label);
    label->key = strdup(key);
    labels[server->n_labels++] = label;
    return label->key ? label : NULL;
}

int mesh_server_add_label(struct mesh_server *server, const char *key, const char *value)
{
    label_message *label = label_of(server, key);
    char **values;

    if (!label)
        return -ENOMEM;
    values = realloc(label->values, (label->n_values + 1) * sizeof(char *));
    if (!values)
        return -ENOMEM;
    label->values = values;
    values[label->n_values] = strdup(value);
    if (!values[label->n_values])
        return -ENOMEM;
    label->n_values++;
    return 0;
}

/* ---- REGISTER -------------------------------------------------------------------------------- */

static void fill_offer(const struct offered *offered, offer_message *offer)
{
    dragoman__mesh__v1__service_offer__init(offer);
    offer->name = (char *)offered->service->descriptor->name;
    offer->n_methods = offered->service->descriptor->n_methods;
    offer->methods = offered->method_names;
    offer->descriptor_set = offered->descriptor_set;
}

void server_register(struct mesh_server *server, struct mesh_link *link, uint32_t capacity,
                     uint32_t total)
{
    Dragoman__Mesh__V1__Register body = DRAGOMAN__MESH__V1__REGISTER__INIT;
    struct mesh_header header = {.kind = MESH_REGISTER};
    offer_message *offers = calloc(server->n_services, sizeof(*offers));
    offer_message **pointers = calloc(server->n_services, sizeof(offer_message *));
    struct mesh_message message;

    for (size_t i = 0; offers && pointers && i < server->n_services; i++) {
        fill_offer(&server->services[i], &offers[i]);
        pointers[i] = &offers[i];
    }
    body.n_services = pointers ? server->n_services : 0;
    body.services = pointers;
    body.n_labels = server->n_labels;
    body.labels = server->labels;
    body.capacity = capacity;
    body.capacity_total = total;
    if (offers && pointers && mesh_message_build(&header, NULL, &body.base, false, &message) == 0)
        mesh_link_send(link, &message);
    free(offers);
    free(pointers);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void free_labels(struct mesh_server *server)
{
    for (size_t i = 0; i < server->n_labels; i++) {
        label_message *label = server->labels[i];

        for (size_t j = 0; j < label->n_values; j++)
            free(label->values[j]);
        free(label->values);
        free(label->key);
        free(label);
    }
    free(server->labels);
}

static void free_methods(struct mesh_server *server)
{
    for (size_t i = 0; i < SERVER_METHOD_BUCKETS; i++) {
        while (server->methods[i]) {
            struct server_method *method = server->methods[i];

            server->methods[i] = method->next;
            free(method);
        }
    }
    for (size_t i = 0; i < server->n_services; i++) {
        free(server->services[i].method_names);
        free(server->services[i].descriptor_set.data);
    }
    free(server->services);
}

void server_offer_fini(struct mesh_server *server)
{
    free_labels(server);
    free_methods(server);
    free(server->types);
}
