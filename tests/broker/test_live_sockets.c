/* A broker's sockets: who sends rubbish, does not read or never stops; where it may listen. */
#include "base/clock.h"
#include "broker/broker.h"
#include "mesh/outbox.h"
#include "tests/broker/live.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <zmq.h>

static void hostile_peer_hurts_nobody(void **state)
{
    void *peer = live.raw = mesh_socket_open(live.context, MESH_DEALER, 1 << 20);
    uint8_t bytes[300];
    unsigned seed = 3;

    (void)state;
    live_worker_start(0, 1, NULL);
    assert_int_equal(zmq_connect(peer, live.front), 0);
    for (int i = 0; i < 500; i++) {
        for (size_t j = 0; j < sizeof(bytes); j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        zmq_send(peer, bytes, (size_t)rand_r(&seed) % sizeof(bytes),
                 rand_r(&seed) % 3 ? 0 : ZMQ_SNDMORE);
    }
    zmq_send(peer, "", 0, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(live_simple_call(NULL), STATUS_OK);
}

/* The kind of the next message that a raw peer gets; 0: none. */
static int raw_next(void *peer)
{
    struct mesh_message message;
    struct mesh_frame frame;

    if (mesh_message_recv(peer, MESH_DEALER, &message, &frame) != 0)
        return 0;
    mesh_message_close(&message);
    return frame.header.kind;
}

static void raw_send(void *peer, uint8_t kind, const ProtobufCMessage *body)
{
    struct mesh_header header = {.kind = kind};
    struct mesh_message message;

    assert_int_equal(mesh_message_build(&header, NULL, body, false, &message), 0);
    for (int tries = 0; mesh_message_send(peer, MESH_DEALER, &message) < 0; tries++) {
        assert_true(tries < 5000);
        rig_sleep_ms(1);
    }
}

#define PINGS 300000 /* more than the buffers of TCP take, too */

/* It asks and asks and never reads an answer. */
static void deaf_peer_is_cut_off(void **state)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    void *peer = live.raw = mesh_socket_open(live.context, MESH_DEALER, 1 << 20);
    int seen[256] = {0};
    int kind = 0, sent = PINGS;

    (void)state;
    live_worker_start(0, 1, NULL);
    hello.version_min = hello.version_max = 1;
    assert_int_equal(zmq_connect(peer, live.front), 0);
    raw_send(peer, MESH_HELLO, &hello.base);
    for (int i = 0; i < PINGS; i++)
        raw_send(peer, MESH_PING, NULL);
    assert_int_equal(live_simple_call(NULL), STATUS_OK); /* others are not held back */
    while (kind != MESH_ERROR) {
        if ((kind = raw_next(peer)) == 0) {
            raw_send(peer, MESH_PING, NULL);
            sent++; /* a slow broker may still be answering those before */
        }
        seen[kind]++;
    }
    assert_int_equal(seen[MESH_WELCOME], 1);
    assert_true(seen[MESH_PONG] > MESH_OUTBOX_MESSAGES && seen[MESH_PONG] < sent);
}

static uint64_t id_of_first_worker(void)
{
    directory_response *response = live_directory();
    uint64_t id = response->n_workers > 0 ? response->workers[0]->id : 0;

    dragoman__mesh__v1__directory_response__free_unpacked(response, NULL);
    return id;
}

#define FLOODED 100 /* frames in a bundle: who sends them has less to do than who reads them */

/* PONGs, which nobody answers: their sender need not stop to read. */
static struct mesh_bundle pongs(void)
{
    struct mesh_header header = {.kind = MESH_PONG};
    struct mesh_bundle bundle = {0};
    uint8_t bytes[MESH_HEADER_BYTES];

    mesh_header_encode(&header, bytes);
    for (int i = 0; i < FLOODED; i++)
        assert_int_equal(mesh_bundle_add(&bundle, bytes, sizeof(bytes)), 0);
    return bundle;
}

/* Keep the front busy, never once idle, for more than three of a worker's heartbeats. */
static void *flood(void *arg)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    void *peer = mesh_socket_open(live.context, MESH_DEALER, 1 << 20);
    int64_t until = clock_now_ns() + LIVE_BEAT_MS * 9 / 2 * (int64_t)1000000;
    struct mesh_bundle bundle = pongs();
    int timeout_ms = 1000;

    hello.version_min = hello.version_max = 1;
    zmq_setsockopt(peer, ZMQ_SNDTIMEO, &timeout_ms, sizeof(timeout_ms));
    zmq_connect(peer, live.front);
    raw_send(peer, MESH_HELLO, &hello.base);
    while (clock_now_ns() < until)
        zmq_send(peer, bundle.bytes, bundle.size, 0);
    mesh_bundle_fini(&bundle);
    zmq_close(peer);
    return arg;
}

static void floods_drown_nobody(void **state)
{
    pthread_t threads[2];

    (void)state;
    live_worker_start(0, 1, NULL);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, flood, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(id_of_first_worker(), 1); /* not a second registration */
    assert_int_equal(live_simple_call(NULL), STATUS_OK);
}

static void endpoints_are_checked(void **state)
{
    const char *front[] = {live.front, NULL};
    const char *back[] = {"inproc://unused", NULL};
    const char *bad[] = {"carrier-pigeon://x", NULL};
    const char *none[] = {NULL};
    struct broker_options options = {.front = front, .back = back, .context = live.context};
    struct broker *broker = NULL;
    struct stat st;
    char path[128];

    (void)state;
    assert_int_equal(broker_start(&options, &broker), -EADDRINUSE);
    options.front = bad;
    assert_int_equal(broker_start(&options, &broker), -EINVAL);
    options.front = none;
    assert_int_equal(broker_start(&options, &broker), -EINVAL);
    assert_null(broker);
    if (live.transport != RIG_IPC)
        return;
    snprintf(path, sizeof(path), "%s/run", live.folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_peer_hurts_nobody),
        cmocka_unit_test(deaf_peer_is_cut_off),
        cmocka_unit_test(floods_drown_nobody),
        cmocka_unit_test(endpoints_are_checked),
    };

    return live_run(argc, argv, "sockets", tests, sizeof(tests) / sizeof(tests[0]));
}
