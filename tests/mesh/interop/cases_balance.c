/* Who serves a call: gRPC's xDS cases, by their names, in terms of workers, labels and load. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls one after another; idempotent, since a worker that has just been stopped may still get one. @return how many worker i + 1 served in served[i] */
static void spread(struct world *world, int calls, const char *selector, const char *affinity,
                   int served[WORLD_WORKERS])
{
    struct mesh_call_options options = {
        .selector = selector, .affinity = affinity, .timeout_ms = 20000, .idempotent = true};
    simple_request request = SIMPLE_REQUEST;

    memset(served, 0, WORLD_WORKERS * sizeof(*served));
    for (int i = 0; i < calls; i++)
        served[unary_ok(world->channel, &request, &options) - 1]++;
}

static void start_workers(struct world *world, int n, const char *const *labels)
{
    for (int i = 0; i < n; i++)
        world_start(world, i, &(struct world_worker){.labels = labels ? labels[i] : NULL});
}

static void xds_ping_pong(void **state)
{
    int served[WORLD_WORKERS];

    start_workers(*state, 3, NULL);
    spread(*state, 60, NULL, NULL, served);
    for (int i = 0; i < 3; i++)
        assert_in_range(served[i], 1, 60);
}

static void round_robin(void **state)
{
    int served[WORLD_WORKERS];

    start_workers(*state, 4, NULL);
    spread(*state, 100, NULL, NULL, served);
    for (int i = 0; i < 4; i++)
        assert_in_range(served[i], 20, 30);
}

static void backends_restart(void **state)
{
    struct world *world = *state;
    struct mesh_call_options patient = {.wait_for_ready = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    int served[WORLD_WORKERS];

    start_workers(world, 2, NULL);
    spread(world, 10, NULL, NULL, served);
    world_stop(world, 0);
    world_stop(world, 1);
    assert_int_equal(ping(world->channel, NULL), STATUS_UNAVAILABLE);
    start_workers(world, 2, NULL);
    unary_ok(world->channel, &request, &patient);
    spread(world, 20, NULL, NULL, served);
    assert_in_range(served[0], 5, 15); /* and evenly, as before */
}

static const char *const localities[] = {"zone=a", "zone=a", "zone=b"};

static void secondary_locality_gets_no_requests_on_partial_primary_failure(void **state)
{
    struct world *world = *state;
    int served[WORLD_WORKERS];

    start_workers(world, 3, localities);
    world_stop(world, 0);
    spread(world, 20, "zone=a", NULL, served);
    assert_int_equal(served[1], 20);
}

/* Which locality comes second is the caller's to say: it asks for that when the first has nobody. */
static void secondary_locality_gets_requests_on_primary_failure(void **state)
{
    struct world *world = *state;
    int served[WORLD_WORKERS];

    start_workers(world, 3, localities);
    world_stop(world, 0);
    world_stop(world, 1);
    assert_int_equal(ping(world->channel, "zone=a"), STATUS_UNAVAILABLE);
    spread(world, 20, "zone=b", NULL, served);
    assert_int_equal(served[2], 20);
}

static void remove_instance_group(void **state)
{
    struct world *world = *state;
    int served[WORLD_WORKERS];

    start_workers(world, 4, NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(mesh_server_drain(world->workers[i].server, 5000), 0);
    spread(world, 40, NULL, NULL, served);
    assert_int_equal(served[0] + served[1], 0);
    assert_in_range(served[2], 12, 28);
}

static void change_backend_service(void **state)
{
    static const char *const versions[] = {"version=1", "version=2"};
    int served[WORLD_WORKERS];

    start_workers(*state, 2, versions);
    spread(*state, 10, "version=1", NULL, served);
    assert_int_equal(served[0], 10);
    spread(*state, 10, "version=2", NULL, served);
    assert_int_equal(served[1], 10);
}

/* Twenty to eighty, by the label that says so. */
static void traffic_splitting(void **state)
{
    static const char *const weights[] = {"weight=20", "weight=80"};
    int served[WORLD_WORKERS];

    start_workers(*state, 2, weights);
    spread(*state, 200, NULL, NULL, served);
    print_message("traffic_splitting: %d and %d of 200\n", served[0], served[1]);
    assert_in_range(served[0], 20, 60);
}

/* By service: calls go only to those who offer it. */
static void path_matching(void **state)
{
    struct world *world = *state;
    struct mesh_server_options options = {.endpoint = world->back,
                                          .context = world->context,
                                          .capacity = 50,
                                          .security =
                                              world->transport->curve ? &world->keys.worker : NULL};
    struct mesh_server *other = NULL;
    int served[WORLD_WORKERS];

    assert_int_equal(mesh_server_create(&options, &other), 0);
    assert_int_equal(echo_add(other), 0);
    assert_int_equal(mesh_server_start(other), 0);
    rig_wait(mesh_server_ready(other));
    start_workers(world, 1, NULL);
    spread(world, 20, NULL, NULL, served); /* the other knows no such method */
    assert_int_equal(served[0], 20);
    mesh_server_destroy(&other);
}

static void header_matching(void **state)
{
    static const char *const labels[] = {"lang=en,tier=gold", "lang=en,tier=free", "lang=pt"};
    int served[WORLD_WORKERS];

    start_workers(*state, 3, labels);
    spread(*state, 10, "lang=en,tier=gold", NULL, served); /* all must match */
    assert_int_equal(served[0], 10);
    spread(*state, 20, "lang=en", NULL, served);
    assert_int_equal(served[2], 0);
    assert_int_equal(ping(((struct world *)*state)->channel, "lang=pt,tier=gold"),
                     STATUS_UNAVAILABLE);
}

struct steady {
    struct mesh_channel *channel;
    atomic_bool stop;
    int calls, failures;
};

static void *call_steadily(void *arg)
{
    struct steady *steady = arg;
    struct mesh_call_options options = {.idempotent = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;

    while (!steady->stop) {
        steady->failures += unary(steady->channel, &request, &options, NULL).code != STATUS_OK;
        steady->calls++;
    }
    return NULL;
}

/* Workers go one by one, with grace; no call notices. */
static void gentle_failover(void **state)
{
    struct world *world = *state;
    struct steady steady = {.channel = world->channel};
    pthread_t thread;

    start_workers(world, 4, NULL);
    assert_int_equal(pthread_create(&thread, NULL, call_steadily, &steady), 0);
    for (int i = 0; i < 3; i++) {
        rig_sleep_ms(50);
        mesh_server_drain(world->workers[i].server, 5000);
        world_stop(world, i);
    }
    rig_sleep_ms(50);
    steady.stop = true;
    pthread_join(thread, NULL);
    assert_int_equal(steady.failures, 0);
    assert_in_range(steady.calls, 3, 1000000);
}

static void load_based_failover(void **state)
{
    struct world *world = *state;
    struct mesh_stream *busy[WORLD_CAPACITY];
    struct mesh_call_options first = {.selector = "name=first", .timeout_ms = 20000};
    static const char *const names[] = {"name=first", "name=second"};
    int served[WORLD_WORKERS];
    simple_request request = SIMPLE_REQUEST;

    start_workers(world, 2, names);
    request.until_cancelled = true;
    for (int i = 0; i < WORLD_CAPACITY - 1; i++) /* one slot is left of its eight */
        busy[i] = unary_open(world->channel, &request, &first);
    rig_wait(world->workers[0].running == WORLD_CAPACITY - 1);
    spread(world, 20, NULL, NULL, served);
    assert_int_equal(served[1], 20);
    for (int i = 0; i < WORLD_CAPACITY - 1; i++)
        mesh_stream_destroy(&busy[i]);
}

/* A service that is full is full for itself. */
static void circuit_breaking(void **state)
{
    enum { CALLS = 1 + 1024 + 1 };
    struct world *world = *state;
    struct mesh_stream **streams = calloc(CALLS, sizeof(*streams));
    simple_request request = SIMPLE_REQUEST;
    struct status status;
    struct raw *raw;

    world_start(world, 0, &(struct world_worker){.capacity = 1});
    world_start(world, 1, &(struct world_worker){.capacity = 1});
    world_stop(world, 1);
    raw = world_raw_answerer(world); /* of Echo alone */
    rig_wait(mesh_channel_connected(world->channel));
    request.until_cancelled = true;
    for (int i = 0; i < CALLS; i++)
        streams[i] = unary_open(world->channel, &request, NULL);
    rig_wait(mesh_stream_status(streams[CALLS - 1], &status));
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
    {
        const echo_request echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
        struct mesh_stream *other = NULL;
        uint64_t id;

        assert_int_equal(mesh_stream_open(world->channel, ECHO, "Unary", NULL, &other), 0);
        assert_int_equal(mesh_stream_write(other, &echo.base, 0), 0);
        assert_int_equal(mesh_stream_finish(other), 0);
        id = raw_expect(raw, MESH_OPEN)->header.call_id;
        raw_send(raw,
                 &(struct mesh_header){.kind = MESH_END, .call_id = id, .status = STATUS_ABORTED},
                 NULL, NULL);
        rig_wait(mesh_stream_status(other, &status));
        assert_int_equal(status.code, STATUS_ABORTED);
        mesh_stream_destroy(&other);
    }
    for (int i = 0; i < CALLS; i++)
        mesh_stream_destroy(&streams[i]);
    free(streams);
}

static void timeout(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;

    request.sleep_ms = 300;
    assert_int_equal(
        unary(world->channel, &request, &(struct mesh_call_options){.timeout_ms = 100}, NULL).code,
        STATUS_DEADLINE_EXCEEDED);
    assert_int_equal(
        unary(world->channel, &request, &(struct mesh_call_options){.timeout_ms = 20000}, NULL)
            .code,
        STATUS_OK);
}

/* By what the caller says, through an interceptor of the worker's. */
static void fault_injection(void **state)
{
    struct world *world = *state;
    struct mesh_metadata *metadata = NULL;
    struct mesh_call_options options = {.timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;

    mesh_metadata_add_text(&metadata, WORLD_FAULT_KEY, "10");
    options.metadata = metadata;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(unary(world->channel, &request, &options, NULL).code, STATUS_ABORTED);
        assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    }
    assert_int_equal(world->workers[0].started, 5);
    mesh_metadata_destroy(&metadata);
}

static Dragoman__Mesh__V1__DirectoryResponse *directory(struct world *world)
{
    Dragoman__Mesh__V1__DirectoryRequest request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;

    request.service = (char *)"dragoman.interop.v1.TestService";
    assert_int_equal(mesh_unary(world->channel, &dragoman__mesh__v1__directory__descriptor, "List",
                                &request.base, NULL, &response, &status),
                     0);
    return (Dragoman__Mesh__V1__DirectoryResponse *)response;
}

/* What the broker knows, for people and tools. */
static void csds(void **state)
{
    struct world *world = *state;
    Dragoman__Mesh__V1__DirectoryResponse *listed;
    static const char *const labels[] = {"lang=en", "lang=pt"};

    start_workers(world, 2, labels);
    assert_int_equal(mesh_server_drain(world->workers[1].server, 5000), 0);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
    listed = directory(world);
    assert_int_equal(listed->n_services, 1);
    assert_int_equal(listed->services[0]->started, 1);
    assert_in_range(listed->n_workers, 1, 2); /* who has drained may have left */
    for (size_t i = 0; i < listed->n_workers; i++) {
        const Dragoman__Mesh__V1__WorkerState *worker = listed->workers[i];

        assert_string_equal(worker->labels[0]->key, "lang");
        assert_int_equal(worker->draining, strcmp(worker->labels[0]->values[0], "pt") == 0);
    }
    dragoman__mesh__v1__directory_response__free_unpacked(listed, NULL);
}

/* All calls of a session go to one worker; when that goes, to one other. */
static void pick_first_unary(void **state)
{
    struct world *world = *state;
    int served[WORLD_WORKERS], at = 0;

    start_workers(world, 4, NULL);
    spread(world, 20, NULL, "a session", served);
    while (at < 4 && served[at] != 20)
        at++;
    assert_in_range(at, 0, 3);
    world_stop(world, at);
    spread(world, 20, NULL, "a session", served);
    for (at = 0; at < 4 && served[at] != 20;)
        at++;
    assert_in_range(at, 0, 3);
}

/* With each answer a worker says how busy it is. */
static void orca_per_rpc(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;
    mesh_meta *meta = NULL;
    struct raw *raw;

    mesh_server_set_load(world->workers[0].server, 0.75f);
    raw = world_raw_caller(world);
    raw_open_path(raw, 1, TEST_PATH("UnaryCall"), MESH_END_SEND, &request.base);
    raw_expect_end(raw, 1, STATUS_OK);
    assert_int_equal(mesh_meta_unpack(&raw->frame, &meta), 0);
    assert_true(meta->load >= 0.74f && meta->load <= 1);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

/* And between calls, with its heartbeats: the directory shows it, and others are preferred. */
static void orca_oob(void **state)
{
    struct world *world = *state;
    int served[WORLD_WORKERS];
    float seen = 0;

    start_workers(world, 2, NULL);
    mesh_server_set_load(world->workers[0].server, 0.9f);
    for (int ms = 0; ms < 5000 && seen < 0.89f; ms += 20) {
        Dragoman__Mesh__V1__DirectoryResponse *listed = directory(world);

        for (size_t i = 0; i < listed->n_workers; i++)
            seen = listed->workers[i]->load > seen ? listed->workers[i]->load : seen;
        dragoman__mesh__v1__directory_response__free_unpacked(listed, NULL);
        rig_sleep_ms(20);
    }
    assert_true(seen >= 0.89f);
    spread(world, 20, NULL, NULL, served);
    assert_in_range(served[1], served[0], 20);
}

const struct interop_case balance_cases[] = {
    CASE(xds_ping_pong, BARE | BROKERED),
    CASE(round_robin, BARE | BROKERED),
    CASE(backends_restart, BARE | BROKERED),
    CASE(secondary_locality_gets_requests_on_primary_failure, BARE | BROKERED),
    CASE(secondary_locality_gets_no_requests_on_partial_primary_failure, BARE | BROKERED),
    CASE(remove_instance_group, BARE | BROKERED),
    CASE(change_backend_service, BARE | BROKERED),
    CASE(traffic_splitting, BARE | BROKERED),
    CASE(path_matching, BARE | BROKERED),
    CASE(header_matching, BARE | BROKERED),
    CASE(gentle_failover, BARE | BROKERED),
    CASE(load_based_failover, BARE | BROKERED),
    CASE(circuit_breaking, BARE | BROKERED),
    CASE(timeout, 0),
    CASE(fault_injection, 0),
    CASE(csds, BARE | BROKERED),
    CASE(pick_first_unary, BARE | BROKERED),
    CASE(orca_per_rpc, 0),
    CASE(orca_oob, BARE | BROKERED | BEATS),
    {NULL, NULL, 0},
};
