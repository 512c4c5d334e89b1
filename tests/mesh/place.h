/*
 * place.h - a broker and an echo worker with keys, for tests of who may do what
 */
#ifndef TESTS_MESH_PLACE_H
#define TESTS_MESH_PLACE_H

#include "tests/mesh/keys.h"
#include "tests/mesh/rig.h"

/* A broker and an echo worker of it, all with CURVE over tcp. */
struct place {
    struct keys keys;
    struct broker *broker;
    struct mesh_server *server;
};

/** A test's setup and teardown; *state is a struct place. */
int place_setup(void **state);
int place_teardown(void **state);

/** A broker over tcp, both sides on ports of their own. */
struct broker *place_broker(const struct mesh_security *security);
/** One more echo worker; it may not be let in. */
struct mesh_server *place_worker(const struct place *place, const struct mesh_security *security);
/** A caller of the broker, or of any endpoint. */
struct mesh_channel *place_channel(const struct place *place, const struct mesh_security *security);
struct mesh_channel *place_open(const char *endpoint, const struct mesh_security *security);
/** One call on a channel; it waits for its connection, as machines may be slow. */
struct status place_call(struct mesh_channel *channel);
/** One that does not. */
struct status place_try(struct mesh_channel *channel);

#endif
