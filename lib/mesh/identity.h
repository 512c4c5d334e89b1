/*
 * identity.h - names of callers, as a broker tells them to its workers (docs/wire.md section 4)
 *
 * A worker keeps one table for each session with a broker: numbers mean something else at the next one. Owned by
 * the thread of the session.
 */
#ifndef MESH_IDENTITY_H
#define MESH_IDENTITY_H

#include "mesh/frame.h"

struct mesh_identities {
    char **names; /* (n_names) by number; owned; NULL: not told */
    size_t n_names;
};

/** Take what an IDENTITY says. @return 0; -EBADMSG: not a name, or not a number; -ENOMEM */
int mesh_identities_learn(struct mesh_identities *identities, const struct mesh_frame *frame);
/** Borrowed until forgotten; NULL: not told, as 0 never is. */
const char *mesh_identities_name(const struct mesh_identities *identities, uint16_t number);
/** All of them. */
void mesh_identities_forget(struct mesh_identities *identities);

#endif
