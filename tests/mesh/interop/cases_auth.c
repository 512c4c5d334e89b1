/*
 * Who calls, and whether it may: gRPC's credentials, by their names. Credentials of a channel are its key
 * pair, those of a call a token in its metadata, which an interceptor of the worker checks.
 */
#include "tests/mesh/interop/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void peer_is(struct mesh_channel *channel, const struct mesh_metadata *metadata,
                    const char *name)
{
    struct mesh_call_options options = {.timeout_ms = 20000, .metadata = metadata};
    simple_request request = SIMPLE_REQUEST;
    simple_response *response = NULL;

    assert_int_equal(unary(channel, &request, &options, &response).code, STATUS_OK);
    assert_string_equal(response->peer, name);
    protobuf_c_message_free_unpacked(&response->base, NULL);
}

/* The key that a channel has is who it is. */
static void compute_engine_creds(void **state)
{
    struct world *world = *state;

    peer_is(world->channel, NULL, "caller");
}

/* What it says of itself in metadata counts for nothing. */
static void google_default_credentials(void **state)
{
    struct world *world = *state;
    struct mesh_metadata *metadata = NULL;

    mesh_metadata_add_text(&metadata, "peer", "somebody-else");
    mesh_metadata_add_text(&metadata, "user-id", "somebody-else");
    peer_is(world->channel, metadata, "caller");
    mesh_metadata_destroy(&metadata);
}

/* Each channel has its own. */
static void compute_engine_channel_credentials(void **state)
{
    struct world *world = *state;
    struct mesh_security other = keys_new(&world->keys, "callers", "other", NULL);
    struct mesh_channel *channel;
    char why[MESH_WHY_MAX] = "";
    uint16_t *gone = NULL;
    size_t n_gone = 0;

    assert_int_equal(mesh_keyring_reload(world->keys.broker.callers, &gone, &n_gone, why), 0);
    free(gone);
    channel = world_channel(world, &(struct mesh_channel_options){.security = &other});
    peer_is(channel, NULL, "other");
    peer_is(world->channel, NULL, "caller");
    mesh_channel_destroy(&channel);
    mesh_security_wipe(&other);
}

/* A key that nobody knows is refused before anything is said. */
static void wrong_key(void **state)
{
    struct world *world = *state;
    struct mesh_security stranger = keys_new(&world->keys, NULL, "stranger", NULL);
    struct mesh_channel *channel =
        world_channel(world, &(struct mesh_channel_options){.security = &stranger});
    simple_request request = SIMPLE_REQUEST;
    struct status status = unary(channel, &request, NULL, NULL);

    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    assert_false(mesh_channel_connected(channel));
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    mesh_channel_destroy(&channel);
    mesh_security_wipe(&stranger);
}

/* Known, but not for this service. */
static void wrong_service(void **state)
{
    struct world *world = *state;
    struct mesh_security narrow =
        keys_new(&world->keys, "callers", "narrow", "dragoman.test.v1.Echo");
    const echo_request echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_channel *channel;
    simple_request request = SIMPLE_REQUEST;
    char why[MESH_WHY_MAX] = "";
    uint16_t *gone = NULL;
    size_t n_gone = 0;

    assert_int_equal(mesh_keyring_reload(world->keys.broker.callers, &gone, &n_gone, why), 0);
    free(gone);
    channel = world_channel(world, &(struct mesh_channel_options){.security = &narrow});
    assert_int_equal(unary(channel, &request, NULL, NULL).code, STATUS_PERMISSION_DENIED);
    assert_int_equal(rig_unary(channel, &echo, NULL, NULL).code, STATUS_OK);
    mesh_channel_destroy(&channel);
    mesh_security_wipe(&narrow);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static enum status_code with_token(struct world *world, const char *token)
{
    struct mesh_metadata *metadata = NULL;
    struct mesh_call_options options = {.timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    enum status_code code;

    mesh_metadata_add_text(&metadata, WORLD_TOKEN_KEY, token);
    options.metadata = metadata;
    code = unary(world->channel, &request, &options, NULL).code;
    mesh_metadata_destroy(&metadata);
    return code;
}

static void jwt_token_creds(void **state)
{
    assert_int_equal(with_token(*state, "Bearer " WORLD_TOKEN), STATUS_OK);
}

static void oauth2_auth_token(void **state)
{
    struct world *world = *state;

    assert_int_equal(with_token(world, "Bearer something-else"), STATUS_UNAUTHENTICATED);
    assert_int_equal(with_token(world, WORLD_TOKEN), STATUS_UNAUTHENTICATED); /* not so */
    assert_int_equal(world->workers[0].started, 0); /* no handler has seen it */
}

/* Of a call, not of the channel: good and bad ones take turns. */
static void per_rpc_creds(void **state)
{
    for (int i = 0; i < 6; i++)
        assert_int_equal(
            with_token(*state, i % 2 ? "Bearer " WORLD_TOKEN : "Bearer something-else"),
            i % 2 ? STATUS_OK : STATUS_UNAUTHENTICATED);
}

const struct interop_case auth_cases[] = {
    CASE(compute_engine_creds, CURVE),
    CASE(google_default_credentials, CURVE),
    CASE(compute_engine_channel_credentials, CURVE),
    CASE(wrong_key, CURVE),
    CASE(wrong_service, CURVE),
    CASE(jwt_token_creds, 0),
    CASE(oauth2_auth_token, 0),
    CASE(per_rpc_creds, 0),
    {NULL, NULL, 0},
};
