/*
 * source.h - where a server's calls come from: a session with a broker, or a caller's own
 *
 * Belongs to the server's thread.
 */
#ifndef MESH_SOURCE_H
#define MESH_SOURCE_H

#include "mesh/identity.h"

#include <stdint.h>

struct mesh_call;
struct mesh_link;
struct mesh_peer;

struct mesh_source {
    struct mesh_link *link;            /* a broker's, */
    struct mesh_peer *peer;            /* or a caller's: one of the two */
    uint32_t id;                       /* spreads calls over buckets */
    uint64_t last_call;                /* the greatest id so far */
    struct mesh_call *calls;           /* those it waits for, linked */
    uint32_t n_calls;                  /* how many, watches not counted */
    struct mesh_identities identities; /* of a broker's callers, in this session */
};

#endif
