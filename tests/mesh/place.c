#include "tests/mesh/place.h"

#include "broker/broker.h"

#include <stdlib.h>

struct broker *place_broker(const struct mesh_security *security)
{
    const char *const ends[] = {"tcp://127.0.0.1:*", NULL};
    const struct broker_options options = {.front = ends, .back = ends, .security = security};
    struct broker *broker = NULL;

    assert_int_equal(broker_start(&options, &broker), 0);
    return broker;
}

struct mesh_server *place_worker(const struct place *place, const struct mesh_security *security)
{
    const struct mesh_server_options options = {
        .endpoint = broker_back_endpoint(place->broker, 0),
        .name = "echo",
        .capacity = RIG_CAPACITY,
        .security = security,
    };
    struct mesh_server *server = NULL;

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    return server;
}

struct mesh_channel *place_open(const char *endpoint, const struct mesh_security *security)
{
    const struct mesh_channel_options options = {
        .endpoint = endpoint, .name = "test", .security = security};
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return channel;
}

struct mesh_channel *place_channel(const struct place *place, const struct mesh_security *security)
{
    return place_open(broker_front_endpoint(place->broker, 0), security);
}

int place_setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));

    echo_reset();
    keys_create(&place->keys);
    place->broker = place_broker(&place->keys.broker);
    place->server = place_worker(place, &place->keys.worker);
    rig_wait(mesh_server_ready(place->server));
    *state = place;
    return 0;
}

int place_teardown(void **state)
{
    struct place *place = *state;

    mesh_server_destroy(&place->server);
    broker_stop(&place->broker, 0);
    keys_destroy(&place->keys);
    free(place);
    return 0;
}

static struct status call(struct mesh_channel *channel, const struct mesh_call_options *options)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    return rig_unary(channel, &request, options, NULL);
}

struct status place_call(struct mesh_channel *channel)
{
    const struct mesh_call_options options = {.timeout_ms = 20000, .wait_for_ready = true};

    return call(channel, &options);
}

struct status place_try(struct mesh_channel *channel)
{
    return call(channel, NULL);
}
