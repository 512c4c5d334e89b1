/* Who calls, as its certificate says: handlers know it, it bounds what is called and offered, and it can be withdrawn. */
#include "tests/mesh/place.h"

#include "base/log.h"
#include "broker/broker.h"
#include "mesh/interceptor.h"
#include "mesh/monitor.h"
#include "tests/mesh/raw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define ECHO_UNARY "/dragoman.test.v1.Echo/Unary"

/* ---- who it is ------------------------------------------------------------------------------- */

/* What a handler was told of its caller; "" when nothing. */
static void who_calls(struct mesh_channel *channel, const struct mesh_metadata *more, char *out,
                      size_t size)
{
    const struct mesh_call_options options = {.metadata = more};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    const char *value = NULL;
    struct status status;

    assert_int_equal(mesh_stream_open(channel, ECHO, "Unary", &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 1);
    assert_int_equal(status.code, STATUS_OK);
    value = mesh_metadata_get(mesh_stream_trailers(stream), ECHO_PEER);
    snprintf(out, size, "%s", value ? value : "");
    mesh_stream_destroy(&stream);
}

static void assert_caller(struct mesh_channel *channel, const char *name)
{
    struct mesh_metadata *ask = NULL;
    char who[MESH_IDENTITY_NAME_MAX];

    assert_int_equal(mesh_metadata_add_text(&ask, ECHO_PEER, "who?"), 0);
    who_calls(channel, ask, who, sizeof(who));
    assert_string_equal(who, name);
    mesh_metadata_destroy(&ask);
}

static void handlers_know_their_callers(void **state)
{
    struct place *place = *state;
    struct mesh_security second = keys_new(&place->keys, "callers", "second", NULL);
    struct mesh_channel *channels[2] = {place_channel(place, &place->keys.caller), NULL};

    assert_caller(channels[0], "caller");
    assert_int_equal(broker_reload(place->broker), 0);
    channels[1] = place_channel(place, &second);
    for (int i = 0; i < 4; i++)
        assert_caller(channels[i % 2], i % 2 ? "second" : "caller");
    mesh_channel_destroy(&channels[0]);
    mesh_channel_destroy(&channels[1]);
}

static void a_bound_servers_handlers_do_too(void **state)
{
    struct place *place = *state;
    const struct mesh_server_options options = {
        .endpoint = "tcp://127.0.0.1:*", .bind = true, .security = &place->keys.broker};
    struct mesh_server *server = NULL;
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    channel = place_open(mesh_server_endpoint(server), &place->keys.caller);
    assert_caller(channel, "caller");
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
}

static void nobody_is_known_without_keys(void **state)
{
    const char *const ends[] = {"inproc://plain", NULL}, *const backs[] = {"inproc://back", NULL};
    void *context = zmq_ctx_new();
    const struct broker_options options = {.front = ends, .back = backs, .context = context};
    const struct mesh_server_options serving = {
        .endpoint = backs[0], .context = context, .capacity = 1};
    const struct mesh_channel_options calling = {.endpoint = ends[0], .context = context};
    struct mesh_channel *channel = NULL;
    struct mesh_server *server = NULL;
    struct broker *broker = NULL;

    (void)state;
    assert_int_equal(broker_start(&options, &broker), 0);
    assert_int_equal(mesh_server_create(&serving, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    rig_wait(mesh_server_ready(server));
    assert_int_equal(mesh_channel_create(&calling, &channel), 0);
    assert_caller(channel, "");
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
    broker_stop(&broker, 0);
    zmq_ctx_term(context);
}

/* A caller that writes another's number into OPEN, and a name into HELLO and metadata. */
static void an_identity_cannot_be_forged(void **state)
{
    struct place *place = *state;
    struct mesh_security forger = keys_new(&place->keys, "callers", "forger", NULL);
    struct mesh_header open = {.kind = MESH_OPEN,
                               .flags = MESH_END_SEND,
                               .call_id = 1,
                               .status = 1, /* "caller" has it */
                               .method_hash = mesh_method_hash(ECHO_UNARY, strlen(ECHO_UNARY))};
    Dragoman__Mesh__V1__MetadataEntry ask = DRAGOMAN__MESH__V1__METADATA_ENTRY__INIT;
    Dragoman__Mesh__V1__MetadataEntry *asked[] = {&ask};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT, *trailers = NULL;
    const struct mesh_frame *end = NULL;
    void *context = zmq_ctx_new();
    struct mesh_channel *first = place_channel(place, &place->keys.caller);
    struct raw raw;

    assert_caller(first, "caller");
    assert_int_equal(broker_reload(place->broker), 0);
    raw_open_secure(&raw, context, broker_front_endpoint(place->broker, 0), &forger);
    raw_greet(&raw, 0);
    ask.key = (char *)ECHO_PEER;
    ask.value = (ProtobufCBinaryData){.data = (uint8_t *)"caller", .len = 6};
    meta.method = (char *)ECHO_UNARY;
    meta.metadata = asked;
    meta.n_metadata = 1;
    raw_send(&raw, &open, &meta, &request.base);
    end = raw_expect(&raw, MESH_END);
    assert_int_equal(end->header.status, STATUS_OK);
    assert_int_equal(mesh_meta_unpack(end, &trailers), 0);
    assert_int_equal(trailers->n_metadata, 1);
    assert_int_equal(trailers->metadata[0]->value.len, 6);
    assert_memory_equal(trailers->metadata[0]->value.data, "forger", 6);
    dragoman__mesh__v1__meta__free_unpacked(trailers, NULL);
    raw_close(&raw);
    mesh_channel_destroy(&first);
    zmq_ctx_term(context);
}

/* ---- what it may do -------------------------------------------------------------------------- */

static void a_certificate_bounds_what_is_called(void **state)
{
    struct place *place = *state;
    struct mesh_security narrow =
        keys_new(&place->keys, "callers", "narrow", "dragoman.asr.* dragoman.mesh.v1.Directory");
    struct mesh_security wide = keys_new(&place->keys, "callers", "wide", "dragoman.test.*");
    struct mesh_channel *channel = NULL;
    struct status status;

    assert_int_equal(broker_reload(place->broker), 0);
    channel = place_channel(place, &narrow);
    status = place_call(channel);
    assert_int_equal(status.code, STATUS_PERMISSION_DENIED);
    assert_non_null(
        strstr(status.message, "'narrow' does not allow calls of dragoman.test.v1.Echo"));
    assert_int_equal(atomic_load(&echo_counts.started), 0);
    mesh_channel_destroy(&channel);
    channel = place_channel(place, &wide);
    assert_int_equal(place_call(channel).code, STATUS_OK);
    mesh_channel_destroy(&channel);
}

static void a_bound_server_asks_the_certificate_too(void **state)
{
    struct place *place = *state;
    struct mesh_security narrow = keys_new(&place->keys, "callers", "narrow", "dragoman.asr.*");
    const struct mesh_server_options options = {
        .endpoint = "tcp://127.0.0.1:*", .bind = true, .security = &place->keys.broker};
    struct mesh_server *server = NULL;
    struct mesh_channel *channel = NULL;

    assert_int_equal(broker_reload(place->broker), 0);
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    channel = place_open(mesh_server_endpoint(server), &narrow);
    assert_int_equal(place_call(channel).code, STATUS_PERMISSION_DENIED);
    assert_int_equal(atomic_load(&echo_counts.started), 0);
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
}

static void a_worker_with_a_foreign_service_is_cut_off(void **state)
{
    struct place *place = *state;
    struct mesh_security asr = keys_new(&place->keys, "workers", "asr", "dragoman.asr.*");
    struct mesh_security echo = keys_new(&place->keys, "workers", "echo", "dragoman.test.v1.Echo");
    struct mesh_server *server = NULL;

    assert_int_equal(broker_reload(place->broker), 0);
    server = place_worker(place, &asr);
    rig_sleep_ms(300);
    assert_false(mesh_server_ready(server));
    mesh_server_destroy(&server);
    server = place_worker(place, &echo);
    rig_wait(mesh_server_ready(server));
    mesh_server_destroy(&server);
}

/* ---- tokens of single calls ------------------------------------------------------------------ */

/* Compared in a time that does not tell how much of it was right. docs/security.md has the same. */
static bool is_token(const char *given, const char *wanted)
{
    size_t n = strlen(wanted);
    unsigned differs = strlen(given) != n;

    for (size_t i = 0; i < n && given[i]; i++)
        differs |= (unsigned)(given[i] ^ wanted[i]);
    return !differs;
}

static bool check_token(void *context, void **state, struct mesh_intercepted *call,
                        struct status *refusal)
{
    const char *given = mesh_metadata_get(call->metadata, "authorization");

    (void)state;
    if (given && is_token(given, context))
        return true;
    status_set(refusal, STATUS_UNAUTHENTICATED, "this service wants a token");
    return false;
}

static void a_call_may_need_a_token(void **state)
{
    static char token[] = "Bearer sesame";
    static const char *const given[] = {NULL, "", "Bearer", "Bearer sesamE", "Bearer sesame2"};
    static const struct mesh_interceptor checker = {
        .name = "token", .context = token, .start = check_token};
    const struct mesh_interceptor *const list[] = {&checker};
    struct place *place = *state;
    const struct mesh_server_options serving = {.endpoint = "tcp://127.0.0.1:*",
                                                .bind = true,
                                                .security = &place->keys.broker,
                                                .interceptors = list,
                                                .n_interceptors = 1};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_server *server = NULL;
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_server_create(&serving, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    channel = place_open(mesh_server_endpoint(server), &place->keys.caller);
    for (size_t i = 0; i <= sizeof(given) / sizeof(given[0]); i++) {
        bool last = i == sizeof(given) / sizeof(given[0]);
        const char *text = last ? token : given[i];
        struct mesh_call_options options = {0};
        struct mesh_metadata *metadata = NULL;

        if (text)
            assert_int_equal(mesh_metadata_add_text(&metadata, "authorization", text), 0);
        options.metadata = metadata;
        assert_int_equal(rig_unary(channel, &request, &options, NULL).code,
                         last ? STATUS_OK : STATUS_UNAUTHENTICATED);
        mesh_metadata_destroy(&metadata);
    }
    assert_int_equal(atomic_load(&echo_counts.started), 1);
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
}

/* ---- and no longer --------------------------------------------------------------------------- */

static void a_withdrawn_caller_is_dropped(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, &place->keys.caller);
    struct mesh_channel *other = NULL;
    struct mesh_security second = keys_new(&place->keys, "callers", "second", NULL);

    assert_int_equal(broker_reload(place->broker), 0);
    other = place_channel(place, &second);
    assert_int_equal(place_call(channel).code, STATUS_OK);
    assert_int_equal(place_call(other).code, STATUS_OK);
    keys_remove(&place->keys, "callers", "caller");
    assert_int_equal(broker_reload(place->broker), 0);
    rig_wait(mesh_channel_trouble(channel));
    assert_int_equal(place_try(channel).code, STATUS_UNAVAILABLE);
    assert_int_equal(place_call(other).code, STATUS_OK); /* who may stay has noticed nothing */
    assert_true(mesh_channel_connected(other));
    mesh_channel_destroy(&channel);
    mesh_channel_destroy(&other);
}

/* And let in again, it comes back by itself. */
static void a_withdrawn_worker_is_dropped(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, &place->keys.caller);
    char why[MESH_WHY_MAX], path[128];

    assert_int_equal(place_call(channel).code, STATUS_OK);
    keys_remove(&place->keys, "workers", "worker");
    assert_int_equal(broker_reload(place->broker), 0);
    rig_wait(!mesh_server_ready(place->server));
    assert_int_equal(place_try(channel).code, STATUS_UNAVAILABLE);
    snprintf(path, sizeof(path), "%s/workers/worker.cert", place->keys.folder);
    assert_int_equal(mesh_certificate_save(&place->keys.worker.own, path, false, why), 0);
    assert_int_equal(broker_reload(place->broker), 0);
    rig_wait(mesh_server_ready(place->server));
    assert_int_equal(place_call(channel).code, STATUS_OK);
    mesh_channel_destroy(&channel);
}

/* One that does not hang up is cut off. */
static void a_withdrawn_peer_loses_its_connection(void **state)
{
    struct place *place = *state;
    void *context = zmq_ctx_new();
    struct raw raw;
    struct mesh_monitor monitor;
    int gone = -1;

    raw_open_secure(&raw, context, broker_front_endpoint(place->broker, 0), &place->keys.caller);
    assert_int_equal(mesh_monitor_open(context, raw.socket, &monitor), 0);
    raw_greet(&raw, 0);
    keys_remove(&place->keys, "callers", "caller");
    assert_int_equal(broker_reload(place->broker), 0);
    raw_expect_error(&raw, STATUS_UNAUTHENTICATED);
    rig_wait(gone >= 0 || (gone = mesh_monitor_next(&monitor)) >= 0);
    mesh_monitor_close(&monitor);
    raw_close(&raw);
    zmq_ctx_term(context);
}

/* A mistake in a folder changes nothing. */
static void a_broken_certificate_leaves_all_as_it_was(void **state)
{
    struct place *place = *state;
    struct mesh_channel *channel = place_channel(place, &place->keys.caller);
    char path[128];
    FILE *file = NULL;

    assert_int_equal(place_call(channel).code, STATUS_OK);
    keys_remove(&place->keys, "callers", "caller");
    snprintf(path, sizeof(path), "%s/callers/broken.cert", place->keys.folder);
    file = fopen(path, "w");
    fprintf(file, "curve\n    public-key = \"?\"\n");
    fclose(file);
    assert_int_equal(broker_reload(place->broker), -EINVAL);
    rig_sleep_ms(100);
    assert_true(mesh_channel_connected(channel));
    assert_int_equal(place_try(channel).code, STATUS_OK);
    mesh_channel_destroy(&channel);
}

static void a_bound_server_drops_the_withdrawn_too(void **state)
{
    struct place *place = *state;
    const struct mesh_server_options options = {.endpoint = "tcp://127.0.0.1:*",
                                                .bind = true,
                                                .security = &place->keys.broker,
                                                .heartbeat_ms = 50};
    struct mesh_server *server = NULL;
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    channel = place_open(mesh_server_endpoint(server), &place->keys.caller);
    assert_int_equal(place_call(channel).code, STATUS_OK);
    keys_remove(&place->keys, "callers", "caller");
    assert_int_equal(broker_reload(place->broker), 0); /* the keyring is the same */
    rig_wait(mesh_channel_trouble(channel));
    assert_int_equal(place_try(channel).code, STATUS_UNAVAILABLE);
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(handlers_know_their_callers),
        TEST(a_bound_servers_handlers_do_too),
        TEST(nobody_is_known_without_keys),
        TEST(an_identity_cannot_be_forged),
        TEST(a_certificate_bounds_what_is_called),
        TEST(a_bound_server_asks_the_certificate_too),
        TEST(a_worker_with_a_foreign_service_is_cut_off),
        TEST(a_call_may_need_a_token),
        TEST(a_withdrawn_caller_is_dropped),
        TEST(a_withdrawn_worker_is_dropped),
        TEST(a_withdrawn_peer_loses_its_connection),
        TEST(a_broken_certificate_leaves_all_as_it_was),
        TEST(a_bound_server_drops_the_withdrawn_too),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
