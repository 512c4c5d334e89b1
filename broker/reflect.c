#include "broker/reflect.h"

#include "broker/state.h"
#include "mesh/reflect.h"

#include <stdlib.h>
#include <string.h>

#define N_OWN 3

static const ProtobufCServiceDescriptor *const OWN[N_OWN] = {
    &dragoman__mesh__v1__directory__descriptor,
    &dragoman__mesh__v1__health__descriptor,
    &dragoman__mesh__v1__reflection__descriptor,
};

void reflect_keep(struct service *service, Dragoman__Mesh__V1__ServiceOffer *offer)
{
    ProtobufCBinaryData *set = &offer->descriptor_set;

    if (set->len > 0 && set->len <= MESH_DESCRIPTOR_SET_MAX) {
        free(service->descriptor_set.data);
        service->descriptor_set = *set;
        *set = (ProtobufCBinaryData){0, NULL}; /* the service's now */
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void reflect_list(const struct broker_core *core, Dragoman__Mesh__V1__ReflectionListResponse *out)
{
    dragoman__mesh__v1__reflection_list_response__init(out);
    out->services = calloc(core->registry.services.count + N_OWN, sizeof(char *));
    if (!out->services)
        return;
    for (size_t i = 0; i < N_OWN; i++)
        out->services[out->n_services++] = (char *)OWN[i]->name;
    for (const struct service *service = core->registry.first; service; service = service->next)
        if (service->known)
            out->services[out->n_services++] = service->name;
    qsort(out->services, out->n_services, sizeof(char *), by_name);
}

static const char *describe_offered(const struct service *service, ProtobufCBinaryData *set)
{
    if (!service || !service->known)
        return "no worker has ever offered this service";
    if (service->descriptor_set.len == 0)
        return "its workers do not describe this service";
    *set = service->descriptor_set;
    return NULL;
}

const char *reflect_describe(const struct broker_core *core, const char *symbol,
                             ProtobufCBinaryData *set, uint8_t **made)
{
    size_t size = mesh_reflect_service(symbol);

    *made = NULL;
    for (size_t i = 0; i < N_OWN; i++) {
        if (strlen(OWN[i]->name) != size || memcmp(OWN[i]->name, symbol, size) != 0)
            continue;
        if (mesh_reflect_own(OWN[i], made, &set->len) < 0)
            return "the broker is out of memory";
        set->data = *made;
        return NULL;
    }
    return describe_offered(registry_find(&core->registry, symbol, size), set);
}
