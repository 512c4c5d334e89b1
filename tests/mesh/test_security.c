/* Whose key opens a door, and what everyone else is told. */
#include "tests/mesh/place.h"

#include "base/log.h"
#include "broker/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static void assert_refused(struct mesh_channel **channel, const char *why)
{
    struct status status;

    rig_wait(mesh_channel_trouble(*channel)); /* machines may be slower than a call's patience */
    status = place_try(*channel);
    assert_int_equal(status.code, STATUS_UNAVAILABLE);
    if (!strstr(status.message, why))
        fail_msg("'%s' does not say '%s'", status.message, why);
    assert_int_equal(atomic_load(&echo_counts.started), 0);
    mesh_channel_destroy(channel);
}

/* ---- who gets in ----------------------------------------------------------------------------- */

static void known_keys_get_in(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, &place->keys.caller);

    assert_int_equal(place_call(channel).code, STATUS_OK);
    mesh_channel_destroy(&channel);
}

static void an_unknown_key_is_refused(void **state)
{
    struct place *place = *state;
    struct mesh_security stranger = keys_new(&place->keys, NULL, "stranger", NULL);
    struct mesh_channel *channel = place_channel(place, &stranger);

    assert_refused(&channel, "the peer refuses this key");
}

/* A worker's key opens no door for callers. */
static void a_workers_key_does_not_call(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, &place->keys.worker);

    assert_refused(&channel, "the peer refuses this key");
}

static void no_key_is_refused(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, NULL);

    assert_refused(&channel, "speak CURVE");
}

static void another_brokers_key_is_refused(void **state)
{
    struct place *place = *state;
    struct mesh_security mistaken = place->keys.caller;
    struct mesh_channel *channel = NULL;

    mistaken.broker = place->keys.worker.own;
    channel = place_channel(place, &mistaken);
    assert_refused(&channel, "another key than the one given");
}

static void a_plain_broker_is_no_secured_one(void **state)
{
    struct place *place = *state;
    struct broker *plain = place_broker(NULL);
    struct mesh_channel *channel = place_open(broker_front_endpoint(plain, 0), &place->keys.caller);

    assert_refused(&channel, "not speak CURVE");
    broker_stop(&plain, 0);
}

/* There our own sockets meet libzmq's. */
static void unix_sockets_ask_for_keys_too(void **state)
{
    struct place *place = *state;
    char front[128], back[128];
    const char *const fronts[] = {front, NULL}, *const backs[] = {back, NULL};
    struct broker_options options = {.front = fronts, .back = backs};
    struct broker *broker = NULL;
    struct mesh_channel *channel;

    snprintf(front, sizeof(front), "ipc:///tmp/dragoman-keys-%d-front", (int)getpid());
    snprintf(back, sizeof(back), "ipc:///tmp/dragoman-keys-%d-back", (int)getpid());
    options.security = &place->keys.broker;
    assert_int_equal(broker_start(&options, &broker), 0);
    channel = place_open(front, NULL);
    assert_refused(&channel, "a key is needed");
    broker_stop(&broker, 0);
    options.security = NULL;
    assert_int_equal(broker_start(&options, &broker), 0);
    channel = place_open(front, &place->keys.caller);
    assert_refused(&channel, "not speak CURVE");
    broker_stop(&broker, 0);
}

static void an_unknown_worker_never_registers(void **state)
{
    struct place *place = *state;
    struct mesh_security stranger = keys_new(&place->keys, NULL, "stranger", NULL);
    struct mesh_server *server = place_worker(place, &stranger);

    rig_sleep_ms(300);
    assert_false(mesh_server_ready(server));
    mesh_server_destroy(&server);
}

static void a_broker_without_keyrings_does_not_start(void **state)
{
    const char *const ends[] = {"tcp://127.0.0.1:*", NULL};
    struct place *place = *state;
    struct mesh_security open = place->keys.broker;
    const struct broker_options options = {.front = ends, .back = ends, .security = &open};
    struct broker *broker = NULL;

    open.callers = NULL;
    assert_int_equal(broker_start(&options, &broker), -EINVAL);
    assert_null(broker);
}

/* ---- a server that callers connect to -------------------------------------------------------- */

static void a_bound_server_lets_in_whom_it_knows(void **state)
{
    struct place *place = *state;
    struct mesh_security stranger = keys_new(&place->keys, NULL, "stranger", NULL);
    const struct mesh_server_options options = {
        .endpoint = "tcp://127.0.0.1:*", .bind = true, .security = &place->keys.broker};
    struct mesh_server *server = NULL;
    struct mesh_channel *known = NULL, *unknown = NULL;

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    unknown = place_open(mesh_server_endpoint(server), &stranger);
    assert_refused(&unknown, "the peer refuses this key");
    known = place_open(mesh_server_endpoint(server), &place->keys.caller);
    assert_int_equal(place_call(known).code, STATUS_OK);
    mesh_channel_destroy(&known);
    mesh_server_destroy(&server);
}

/* ---- many ------------------------------------------------------------------------------------ */

static size_t open_descriptors(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void five_hundred_come_and_go(void **state)
{
    struct place *place = *state;
    void *context = zmq_ctx_new();
    size_t before = open_descriptors();

    for (int i = 0; i < 500; i++) {
        const struct mesh_channel_options options = {.endpoint =
                                                         broker_front_endpoint(place->broker, 0),
                                                     .context = context,
                                                     .security = &place->keys.caller};
        struct mesh_channel *channel = NULL;

        assert_int_equal(mesh_channel_create(&options, &channel), 0);
        assert_int_equal(place_call(channel).code, STATUS_OK);
        mesh_channel_destroy(&channel);
    }
    zmq_ctx_term(context);
    rig_wait(open_descriptors() <= before + 2);
}

/* One handler answers for all brokers of a context, each by its own keyring. */
static void two_brokers_share_a_context(void **state)
{
    const char *const ends[] = {"tcp://127.0.0.1:*", NULL};
    void *context = zmq_ctx_new();
    struct keys other;
    struct broker *first = NULL, *second = NULL;
    struct mesh_channel *channel = NULL;
    struct place *place = *state;
    struct broker_options options = {
        .front = ends, .back = ends, .context = context, .security = &place->keys.broker};
    struct mesh_security mistaken;

    keys_create(&other);
    assert_int_equal(broker_start(&options, &first), 0);
    options.security = &other.broker;
    assert_int_equal(broker_start(&options, &second), 0);
    mistaken = place->keys.caller; /* knows both brokers, is known to the first */
    mistaken.broker = other.broker.own;
    channel = place_open(broker_front_endpoint(second, 0), &mistaken);
    assert_refused(&channel, "the peer refuses this key");
    broker_stop(&first, 0);
    channel = place_open(broker_front_endpoint(second, 0), &other.caller);
    rig_wait(mesh_channel_connected(channel));
    assert_int_equal(place_try(channel).code,
                     STATUS_UNIMPLEMENTED); /* let in: nobody serves there */
    mesh_channel_destroy(&channel);
    broker_stop(&second, 0);
    options.security = &place->keys.broker;
    assert_int_equal(broker_start(&options, &first), 0); /* a handler anew */
    broker_stop(&first, 0);
    zmq_ctx_term(context);
    keys_destroy(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(known_keys_get_in),
        TEST(an_unknown_key_is_refused),
        TEST(a_workers_key_does_not_call),
        TEST(no_key_is_refused),
        TEST(another_brokers_key_is_refused),
        TEST(a_plain_broker_is_no_secured_one),
        TEST(unix_sockets_ask_for_keys_too),
        TEST(an_unknown_worker_never_registers),
        TEST(a_broker_without_keyrings_does_not_start),
        TEST(a_bound_server_lets_in_whom_it_knows),
        TEST(five_hundred_come_and_go),
        TEST(two_brokers_share_a_context),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
