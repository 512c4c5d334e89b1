/*
 * endpoints.h - where the peers are: one endpoint, or several with commas between them
 */
#ifndef MESH_ENDPOINTS_H
#define MESH_ENDPOINTS_H

#include <stddef.h>

#define MESH_ENDPOINTS_MAX 8

struct mesh_endpoints {
    char *text;                         /* owned; what `at` points into */
    const char *at[MESH_ENDPOINTS_MAX]; /* (count) each "scheme://..." */
    size_t count;
};

/**
 * Take a list apart: "tcp://a:5601,tcp://b:5601".
 *
 * @param context  what the sockets will live in: without one inproc:// leads nowhere
 * @return 0; -EINVAL for none, too many, one twice or one that leads nowhere; -ENOMEM
 */
int mesh_endpoints_parse(const char *list, const void *context, struct mesh_endpoints *out);
void mesh_endpoints_fini(struct mesh_endpoints *endpoints);

#endif
