/* Our sockets over ipc://, with libzmq's and with each other: what is sent arrives, in order, and before the end is told. */
#include "mesh/engine.h"
#include "tests/mesh/ends.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define NONE SIZE_MAX
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- there and back -------------------------------------------------------------------------- */

static const struct {
    size_t first, body;
} shapes[] = {{1, NONE},    {300, NONE},  {70000, NONE}, {1 << 20, NONE}, {0, NONE}, {64, 1 << 20},
              {300, 70000}, {70000, 300}, {1, 1},        {0, 0},          {255, 256}};

static void exchange(bool zmq_router, bool zmq_dealer)
{
    struct end router = ends_open(MESH_ROUTER, zmq_router, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, zmq_dealer, ends_path("a"));
    uint64_t peer = ends_meet(&router, &dealer);
    struct mesh_message message;

    for (size_t i = 0; i < COUNT(shapes); i++) {
        ends_fill(&message, (uint8_t)i, shapes[i].first, shapes[i].body);
        ends_send(&dealer, &router, &message);
        assert_int_equal(ends_recv(&router, &dealer, &message), 0);
        assert_true(message.peer == peer);
        ends_send(&router, &dealer, &message); /* as it came */
        assert_int_equal(ends_recv(&dealer, &router, &message), 0);
        ends_check(&message, (uint8_t)i, shapes[i].first, shapes[i].body);
    }
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void our_router_with_libzmqs_dealer(void **state)
{
    (void)state;
    exchange(false, true);
}

static void our_dealer_with_libzmqs_router(void **state)
{
    (void)state;
    exchange(true, false);
}

static void our_router_with_our_dealer(void **state)
{
    (void)state;
    exchange(false, false);
}

static void many_dealers_of_both_kinds(void **state)
{
    enum { N = 12 };
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealers[N];
    uint64_t peers[N];
    struct mesh_message message;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        dealers[i] = ends_open(MESH_DEALER, i % 2, ends_path("a"));
        peers[i] = ends_meet(&router, &dealers[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        ends_number(&message, peers[i], i);
        ends_send(&router, NULL, &message);
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(ends_recv(&dealers[i], NULL, &message), 0);
        assert_int_equal(ends_read_number(&message), i);
        ends_close(&dealers[i], 0);
    }
    ends_close(&router, 0);
}

static void a_byte_at_a_time(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    const char bytes[] = "\x01\x03one\x00\x03two\x02\0\0\0\0\0\0\0\x04last";
    struct mesh_message message = {0};
    int fd = ends_raw(ends_path("a"));
    uint8_t greeting[ZMTP_GREETING_BYTES + ZMTP_COMMAND_MAX];
    size_t size = ZMTP_GREETING_BYTES;

    (void)state;
    zmtp_greeting_write(greeting);
    size += zmtp_ready_write(MESH_DEALER, greeting + size);
    for (size_t i = 0; i < size; i++) {
        ends_write(fd, greeting + i, 1);
        ends_idle(&router, 0);
    }
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        ends_write(fd, bytes + i, 1);
        if (i != 9 && i != sizeof(bytes) - 2) {
            ends_idle(&router, 0);
            continue;
        }
        assert_int_equal(ends_recv(&router, NULL, &message), 0);
        assert_int_equal(message.has_body, i == 9);
        assert_memory_equal(zmq_msg_data(&message.first), i == 9 ? "one" : "last", i == 9 ? 3 : 4);
        if (i == 9)
            assert_memory_equal(zmq_msg_data(&message.body), "two", 3);
        mesh_message_close(&message);
    }
    close(fd);
    ends_close(&router, 0);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void nobody_is_lost_before_his_last_message(void **state)
{
    enum { N = 200 };
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    uint64_t peer = ends_meet(&router, &dealer);
    struct mesh_message message;
    uint64_t lost;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        ends_number(&message, 0, i);
        assert_int_equal(ends_try_send(&dealer, &message), 0);
    }
    ends_close(&dealer, 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_false(mesh_ipc_next_lost(router.ipc, &lost));
        assert_int_equal(ends_recv(&router, NULL, &message), 0);
        assert_int_equal(ends_read_number(&message), i);
    }
    ends_idle(&router, 10);
    assert_true(mesh_ipc_next_lost(router.ipc, &lost));
    assert_true(lost == peer);
    assert_false(mesh_ipc_next_lost(router.ipc, &lost));
    ends_close(&router, 0);
}

static void a_dealer_hears_the_end_after_the_last_message(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    struct mesh_message message;
    uint64_t lost;

    (void)state;
    ends_number(&message, ends_meet(&router, &dealer), 7);
    assert_int_equal(ends_try_send(&router, &message), 0);
    ends_close(&router, 0);
    assert_int_equal(ends_recv(&dealer, NULL, &message), 0);
    assert_int_equal(ends_read_number(&message), 7);
    ends_idle(&dealer, 10);
    assert_true(mesh_ipc_next_lost(dealer.ipc, &lost) && lost == 0);
    assert_int_equal(mesh_ipc_connect(dealer.ipc, ends_path("a")), -ENOENT);
    router = ends_open(MESH_ROUTER, false, ends_path("a"));
    assert_int_equal(mesh_ipc_connect(dealer.ipc, ends_path("a")), 0); /* and comes back */
    assert_int_equal(mesh_ipc_connect(dealer.ipc, ends_path("a")), -EISCONN);
    ends_meet(&router, &dealer);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void *close_end(void *arg)
{
    ends_close(arg, ENDS_WAIT_MS);
    return NULL;
}

/* More than a socket holds is under way when it is closed. */
static void sent_before_the_end(bool router_sends, bool libzmqs)
{
    enum { N = 40 };
    struct end router = ends_open(MESH_ROUTER, libzmqs && !router_sends, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, libzmqs && router_sends, ends_path("a"));
    struct end *from = router_sends ? &router : &dealer;
    struct end *to = router_sends ? &dealer : &router;
    uint64_t peer = ends_meet(&router, &dealer);
    struct mesh_message message;
    pthread_t thread;

    for (uint8_t i = 0; i < N; i++) {
        ends_fill(&message, i, 64, 50000);
        message.peer = peer;
        assert_int_equal(ends_try_send(from, &message), 0);
    }
    assert_int_equal(pthread_create(&thread, NULL, close_end, from), 0);
    for (uint8_t i = 0; i < N; i++) {
        assert_int_equal(ends_recv(to, NULL, &message), 0);
        ends_check(&message, i, 64, 50000);
    }
    ends_close(to, 0);
    pthread_join(thread, NULL);
}

static void what_a_router_sent_before_its_end_arrives(void **state)
{
    (void)state;
    sent_before_the_end(true, false);
    sent_before_the_end(true, true);
}

static void what_a_dealer_sent_before_its_end_arrives(void **state)
{
    (void)state;
    sent_before_the_end(false, false);
    sent_before_the_end(false, true);
}

static void a_peer_that_has_gone_is_unreachable_and_still_heard(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));
    struct mesh_message message;
    uint64_t peer, lost;

    (void)state;
    ends_raw_greet(fd);
    ends_write(fd, "\0\5hello", 7);
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    peer = message.peer;
    mesh_message_close(&message);
    ends_write(fd, "\0\4last", 6);
    close(fd);
    ends_number(&message, peer, 1);
    assert_int_equal(ends_try_send(&router, &message), -EHOSTUNREACH);
    mesh_message_close(&message);
    assert_false(mesh_ipc_next_lost(router.ipc, &lost));
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    assert_true(message.peer == peer);
    assert_memory_equal(zmq_msg_data(&message.first), "last", 4);
    mesh_message_close(&message);
    ends_idle(&router, 10);
    assert_true(mesh_ipc_next_lost(router.ipc, &lost) && lost == peer);
    ends_close(&router, 0);
}

static void numbers_are_not_used_again(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct mesh_message message;
    uint64_t before[8] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(before); i++) {
        struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));

        before[i] = ends_meet(&router, &dealer);
        assert_true(mesh_ipc_has_peer(before[i]));
        for (size_t j = 0; j < i; j++) { /* whose place it has */
            assert_true(before[j] != before[i]);
            ends_number(&message, before[j], 1);
            assert_int_equal(ends_try_send(&router, &message), -EHOSTUNREACH);
            mesh_message_close(&message);
        }
        ends_idle(&dealer, 1); /* nothing of that came here */
        ends_close(&dealer, 0);
        ends_idle(&router, 5);
    }
    ends_number(&message, 4711, 1); /* one of libzmq's */
    assert_int_equal(ends_try_send(&router, &message), -EHOSTUNREACH);
    mesh_message_close(&message);
    ends_close(&router, 0);
}

static void a_peer_that_is_cut_is_lost(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    struct end other = ends_open(MESH_DEALER, true, ends_path("a"));
    uint64_t peer = ends_meet(&router, &dealer);
    uint64_t lost;

    (void)state;
    ends_meet(&router, &other);
    mesh_ipc_cut(router.ipc, peer);
    ends_idle(&router, 10);
    assert_true(mesh_ipc_next_lost(router.ipc, &lost) && lost == peer);
    ends_idle(&dealer, 10);
    assert_true(mesh_ipc_next_lost(dealer.ipc, &lost));
    ends_meet(&router, &other);
    ends_close(&other, 0);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

/* ---- peers that do not read ------------------------------------------------------------------ */

static void fill_up(bool router_sends, size_t body, uint32_t least, uint32_t most)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    struct end *from = router_sends ? &router : &dealer;
    struct end *to = router_sends ? &dealer : &router;
    uint64_t peer = ends_meet(&router, &dealer);
    struct mesh_message message;
    uint32_t n = 0;

    for (int err = 0; err == 0 && n <= most; n += err == 0) {
        ends_fill(&message, (uint8_t)n, 64, body);
        message.peer = peer;
        err = ends_try_send(from, &message);
        if (err < 0) {
            assert_int_equal(err, -EAGAIN);
            mesh_message_close(&message);
        }
    }
    assert_in_range(n, least, most);
    assert_false(router_sends ? false : mesh_ipc_takes(dealer.ipc));
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(ends_recv(to, from, &message), 0);
        ends_check(&message, (uint8_t)i, 64, body);
    }
    ends_number(&message, peer, 5); /* it takes more */
    ends_send(from, to, &message);
    assert_int_equal(ends_recv(to, from, &message), 0);
    assert_int_equal(ends_read_number(&message), 5);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void who_does_not_read_is_sent_so_much(void **state)
{
    (void)state;
    fill_up(true, NONE, MESH_ENGINE_MESSAGES, MESH_ENGINE_MESSAGES + 4000);
    fill_up(false, NONE, MESH_ENGINE_MESSAGES, MESH_ENGINE_MESSAGES + 4000);
    fill_up(true, 1 << 20, 16, 18); /* 16 MiB, and what the socket holds */
    fill_up(false, 1 << 20, 16, 18);
}

/* A loop that waits for a peer to read sleeps; one whose peer has read does not wake up for nothing. */
static void waiting_for_a_reader_is_no_work(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    uint64_t peer = ends_meet(&router, &dealer);
    struct mesh_message message;
    struct pollfd fd;

    (void)state;
    for (uint8_t i = 0; i < 8; i++) {
        ends_fill(&message, i, 64, 100000);
        message.peer = peer;
        assert_int_equal(ends_try_send(&router, &message), 0);
    }
    ends_idle(&router, 5);
    fd = mesh_ipc_fd(router.ipc);
    assert_int_equal(poll(&fd, 1, 20), 0);
    for (uint8_t i = 0; i < 8; i++) {
        assert_int_equal(ends_recv(&dealer, &router, &message), 0);
        ends_check(&message, i, 64, 100000);
    }
    ends_idle(&router, 5);
    fd = mesh_ipc_fd(router.ipc);
    assert_int_equal(poll(&fd, 1, 20), 0);
    fd = mesh_ipc_fd(dealer.ipc);
    assert_int_equal(poll(&fd, 1, 20), 0);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void nothing_follows_half_a_message(void **state)
{
    struct mesh_intake intake = {.end = 0};
    struct mesh_engine engine;
    struct mesh_message message;
    uint8_t bytes[512];
    bool drained;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(mesh_engine_init(&engine, pair[0], MESH_ROUTER, ENDS_MAX_BYTES), 0);
    ends_raw_greet(pair[1]);
    assert_int_equal(mesh_engine_read(&engine, &intake, &drained), 0);
    assert_int_equal(mesh_engine_next(&engine, &intake, &message), -EAGAIN);
    assert_int_equal(engine.state, ENGINE_OPEN);
    assert_true(recv(pair[1], bytes, sizeof(bytes), 0) > 0);

    engine.mute = true; /* as when memory is out in the middle of one */
    ends_write(pair[1], "\x04\x07\x04PING\0\0\0\3bye", 14);
    assert_int_equal(mesh_engine_read(&engine, &intake, &drained), 0);
    assert_int_equal(mesh_engine_next(&engine, &intake, &message),
                     0); /* it is heard, all the same */
    mesh_message_close(&message);
    ends_number(&message, 0, 1);
    assert_int_equal(mesh_engine_send(&engine, &message), -EHOSTUNREACH);
    mesh_message_close(&message);
    assert_int_equal(recv(pair[1], bytes, sizeof(bytes), 0), -1);
    mesh_engine_fini(&engine);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_router_with_libzmqs_dealer),
        cmocka_unit_test(our_dealer_with_libzmqs_router),
        cmocka_unit_test(our_router_with_our_dealer),
        cmocka_unit_test(many_dealers_of_both_kinds),
        cmocka_unit_test(a_byte_at_a_time),
        cmocka_unit_test(nobody_is_lost_before_his_last_message),
        cmocka_unit_test(a_dealer_hears_the_end_after_the_last_message),
        cmocka_unit_test(what_a_router_sent_before_its_end_arrives),
        cmocka_unit_test(what_a_dealer_sent_before_its_end_arrives),
        cmocka_unit_test(a_peer_that_has_gone_is_unreachable_and_still_heard),
        cmocka_unit_test(numbers_are_not_used_again),
        cmocka_unit_test(a_peer_that_is_cut_is_lost),
        cmocka_unit_test(who_does_not_read_is_sent_so_much),
        cmocka_unit_test(waiting_for_a_reader_is_no_work),
        cmocka_unit_test(nothing_follows_half_a_message),
    };

    return cmocka_run_group_tests_name("ipc", tests, ends_setup, ends_teardown);
}
