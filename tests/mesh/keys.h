/*
 * keys.h - certificates for a test: a broker, and folders of those whom it lets in
 */
#ifndef TESTS_MESH_KEYS_H
#define TESTS_MESH_KEYS_H

#include "mesh/security.h"

/* A broker (or a server with `bind`), one caller and one worker that it knows. */
struct keys {
    char folder[64]; /* of folders "callers" and "workers" */
    struct mesh_security broker, caller, worker;
};

void keys_create(struct keys *keys);
/** After all that uses them. */
void keys_destroy(struct keys *keys);

/**
 * A new key pair that trusts the broker.
 *
 * @param group     "callers" or "workers": add its certificate there, for the next reload; NULL: nowhere
 * @param services  NULL: any
 */
struct mesh_security keys_new(const struct keys *keys, const char *group, const char *name,
                              const char *services);
/** Take a certificate away, for the next reload. */
void keys_remove(const struct keys *keys, const char *group, const char *name);

#endif
