#include "mesh/endpoints.h"

#include "mesh/link.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_new(const struct mesh_endpoints *endpoints, const char *endpoint)
{
    for (size_t i = 0; i < endpoints->count; i++) {
        if (strcmp(endpoints->at[i], endpoint) == 0)
            return false;
    }
    return true;
}

int mesh_endpoints_parse(const char *list, const void *context, struct mesh_endpoints *out)
{
    struct mesh_endpoints endpoints = {.text = list ? strdup(list) : NULL};
    char *rest = endpoints.text;
    int err = 0;

    if (!endpoints.text)
        return list ? -ENOMEM : -EINVAL;
    while (rest && err == 0) {
        const char *endpoint = strsep(&rest, ",");

        if (endpoints.count == MESH_ENDPOINTS_MAX || !mesh_endpoint_is_valid(endpoint, context) ||
            !is_new(&endpoints, endpoint))
            err = -EINVAL;
        else
            endpoints.at[endpoints.count++] = endpoint;
    }
    if (err < 0)
        mesh_endpoints_fini(&endpoints);
    else
        *out = endpoints;
    return err;
}

void mesh_endpoints_fini(struct mesh_endpoints *endpoints)
{
    free(endpoints->text);
    *endpoints = (struct mesh_endpoints){0};
}
