/* What comes over ipc:// and should not: it costs its sender his connection, and nobody else anything. */
#include "base/clock.h"
#include "base/log.h"
#include "mesh/deadline.h"
#include "mesh/zmtp.h"
#include "tests/mesh/ends.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- wrong bytes ----------------------------------------------------------------------------- */

static void a_message_of_many_frames_is_refused_once(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, true, ends_path("a"));
    uint64_t peer = ends_meet(&router, &dealer);
    unsigned before = ends_broken();
    struct mesh_message message;

    (void)state;
    for (int frames = 3; frames <= 1000; frames += 997) {
        for (int i = 0; i < frames; i++)
            assert_int_equal(zmq_send(dealer.zmq, "frame", 5, i + 1 < frames ? ZMQ_SNDMORE : 0), 5);
        ends_number(&message, 0, (uint32_t)frames);
        assert_int_equal(ends_try_send(&dealer, &message), 0);
        assert_int_equal(ends_recv(&router, NULL, &message), -EBADMSG);
        assert_true(message.peer == peer);
        assert_int_equal(ends_recv(&router, NULL, &message), 0); /* the connection lives */
        assert_true(message.peer == peer);
        assert_int_equal(ends_read_number(&message), frames);
    }
    assert_int_equal(ends_broken(), before);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

#define GREETING "\xff\0\0\0\0\0\0\0\1\x7f"
#define ZEROS_16 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define NULL_GREETING GREETING "\3\1NULL" ZEROS_16 ZEROS_16 ZEROS_16
#define READY(type) "\4\x29\5READY\xbSocket-Type\0\0\0\6" type "\x8Identity\0\0\0\0"
#define GREETED NULL_GREETING READY("DEALER")
#define WRONG(name, text)                                                                          \
    {                                                                                              \
        name, text, sizeof(text) - 1                                                               \
    }

static const struct {
    const char *name, *bytes;
    size_t size;
} wrong[] = {
    WRONG("HTTP", "GET / HTTP/1.1\r\n\r\n"),
    WRONG("ZMTP 2", GREETING "\1"),
    WRONG("PLAIN", GREETING "\3\1PLAIN"),
    WRONG("CURVE", GREETING "\3\1CURVE" ZEROS_16 ZEROS_16 ZEROS_16),
    WRONG("a ROUTER", NULL_GREETING READY("ROUTER")),
    WRONG("a command before READY", NULL_GREETING "\4\7\4PING\0\0"),
    WRONG("a message before READY", NULL_GREETING "\0\5hello"),
    WRONG("a command of 513 bytes", NULL_GREETING "\6\0\0\0\0\0\0\2\1"),
    WRONG("an unknown flag", GREETED "\x08\0"),
    WRONG("a command with more", GREETED "\5\0"),
    WRONG("2 MiB + 64 KiB + 1", GREETED "\2\0\0\0\0\0\x21\0\1"),
    WRONG("all the bytes there are", GREETED "\2\xff\xff\xff\xff\xff\xff\xff\xff"),
    WRONG("a signed length", GREETED "\2\x80\0\0\0\0\0\0\0"),
    WRONG("two frames over the limit", GREETED "\1\5first\2\0\0\0\0\0\x20\xff\xfc"),
};

static void wrong_bytes_end_their_connection_only(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));

    (void)state;
    ends_meet(&router, &dealer);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        unsigned before = ends_broken();
        int fd = ends_raw(ends_path("a"));

        ends_write(fd, wrong[i].bytes, wrong[i].size);
        if (!ends_raw_closed(fd, &router))
            fail_msg("%s: not closed", wrong[i].name);
        if (ends_broken() != before + 1)
            fail_msg("%s: counted %u times", wrong[i].name, ends_broken() - before);
        close(fd);
        ends_meet(&router, &dealer);
    }
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

/* The greatest that may come does. */
static void the_limit_itself_passes(void **state)
{
    const size_t most = ENDS_MAX_BYTES + (64 << 10);
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, true, ends_path("a"));
    struct mesh_message message;

    (void)state;
    ends_meet(&router, &dealer);
    ends_fill(&message, 1, most, SIZE_MAX);
    ends_send(&dealer, NULL, &message);
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    ends_check(&message, 1, most, SIZE_MAX);
    ends_fill(&message, 2, 5, most - 5);
    ends_send(&dealer, NULL, &message);
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    ends_check(&message, 2, 5, most - 5);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void a_descriptor_that_comes_along_is_dropped(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = "\0\5hello", .iov_len = 7};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    struct mesh_message got;
    int pair[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(pair), 0);
    ends_raw_greet(fd);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pair[1], sizeof(int));
    assert_int_equal(sendmsg(fd, &message, 0), 7);
    close(pair[1]);
    ends_write(fd, "\0\4next", 6);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends_recv(&router, NULL, &got), 0);
        mesh_message_close(&got);
    }
    assert_int_equal(read(pair[0], &byte, 1), 0); /* nobody has the other end */
    close(pair[0]);
    close(fd);
    ends_close(&router, 0);
}

/* ---- peers that say little, or too much ------------------------------------------------------ */

static void who_does_not_greet_is_closed(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, false, ends_path("a"));
    int silent = ends_raw(ends_path("a"));
    int half = ends_raw(ends_path("a"));
    int64_t now;
    uint64_t lost;
    char byte;

    (void)state;
    ends_meet(&router, &dealer);
    ends_write(half, NULL_GREETING, 64); /* and no READY */
    ends_idle(&router, 5);
    now = clock_now_ns();
    assert_in_range(mesh_ipc_next_ns(router.ipc), now, now + 3000 * MS);
    mesh_ipc_tick(router.ipc, now + 2000 * MS);
    assert_true(recv(silent, &byte, 1, MSG_DONTWAIT) == 1); /* its greeting: it is still there */
    mesh_ipc_tick(router.ipc, now + 3001 * MS);
    assert_true(ends_raw_closed(silent, &router));
    assert_true(ends_raw_closed(half, &router));
    assert_true(mesh_ipc_next_ns(router.ipc) == MESH_NEVER);
    assert_false(mesh_ipc_next_lost(router.ipc, &lost)); /* nobody knew them */
    ends_meet(&router, &dealer);
    close(silent);
    close(half);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

/* An owner that stood still has bytes to look at before it closes anything for silence. */
static void a_greeting_that_was_not_looked_at_counts(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));
    struct mesh_message message;
    int64_t late;

    (void)state;
    ends_idle(&router, 5); /* accepted */
    ends_raw_greet(fd);
    ends_write(fd, "\0\5hello", 7);
    late = clock_now_ns() + 5000 * MS;
    mesh_ipc_tick(router.ipc, late);
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    mesh_message_close(&message);
    close(fd);
    fd = ends_raw(ends_path("a")); /* but only once */
    ends_idle(&router, 5);
    ends_write(fd, GREETING, 5);
    late = clock_now_ns() + 5000 * MS;
    mesh_ipc_tick(router.ipc, late);
    ends_idle(&router, 5);
    ends_write(fd, GREETING + 5, 2);
    mesh_ipc_tick(router.ipc, late + 5000 * MS);
    assert_true(ends_raw_closed(fd, &router));
    close(fd);
    ends_close(&router, 0);
}

static bool answered(int fd, struct end *router, const char *want, size_t size)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    char bytes[1024];
    size_t got = 0;

    while (clock_now_ms() < until && got < sizeof(bytes)) {
        ssize_t n = recv(fd, bytes + got, sizeof(bytes) - got, MSG_DONTWAIT);

        got += n > 0 ? (size_t)n : 0;
        if (got >= size && memcmp(bytes + got - size, want, size) == 0)
            return true;
        ends_idle(router, 1);
    }
    return false;
}

static void ping_is_answered(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));

    (void)state;
    ends_raw_greet(fd);
    ends_write(fd, "\4\x0a\4PING\0\1abc", 12);
    assert_true(answered(fd, &router, "\4\x08\4PONGabc", 10));
    ends_write(fd, "\4\7\4PING\0\1\4\5\4SOME\4\x0a\4PING\0\1xyz", 28); /* another is ignored */
    assert_true(answered(fd, &router, "\4\x05\4PONG\4\x08\4PONGxyz", 17));
    close(fd);
    ends_close(&router, 0);
}

/* libzmq with heartbeats of its own, which its maker would have noticed. */
static void libzmqs_heartbeats_are_answered(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = {.kind = MESH_DEALER};
    int every = 20, timeout = 400;
    char endpoint[160];
    uint64_t lost;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", ends_path("a"));
    dealer.zmq = mesh_socket_open(ends_context(), MESH_DEALER, ENDS_MAX_BYTES);
    zmq_setsockopt(dealer.zmq, ZMQ_HEARTBEAT_IVL, &every, sizeof(every));
    zmq_setsockopt(dealer.zmq, ZMQ_HEARTBEAT_TIMEOUT, &timeout, sizeof(timeout));
    assert_int_equal(zmq_connect(dealer.zmq, endpoint), 0);
    ends_meet(&router, &dealer);
    ends_idle(&router, 1200);
    assert_false(mesh_ipc_next_lost(router.ipc, &lost));
    ends_meet(&router, &dealer);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void pings_of_who_does_not_read_are_bounded(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));
    char pings[9 * 1000];
    struct mesh_message message;

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        memcpy(pings + 9 * i, "\4\7\4PING\0\1", 9);
    ends_raw_greet(fd);
    for (int i = 0; i < 30; i++) { /* more than waits for one */
        ends_write(fd, pings, sizeof(pings));
        ends_idle(&router, 1);
    }
    ends_write(fd, "\0\5hello", 7);
    assert_int_equal(ends_recv(&router, NULL, &message), 0); /* it is still heard */
    ends_fill(&message, 0, 5, SIZE_MAX);
    assert_int_equal(ends_try_send(&router, &message), -EHOSTUNREACH); /* of no number */
    mesh_message_close(&message);
    close(fd);
    ends_close(&router, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_of_many_frames_is_refused_once),
        cmocka_unit_test(wrong_bytes_end_their_connection_only),
        cmocka_unit_test(the_limit_itself_passes),
        cmocka_unit_test(a_descriptor_that_comes_along_is_dropped),
        cmocka_unit_test(who_does_not_greet_is_closed),
        cmocka_unit_test(a_greeting_that_was_not_looked_at_counts),
        cmocka_unit_test(ping_is_answered),
        cmocka_unit_test(libzmqs_heartbeats_are_answered),
        cmocka_unit_test(pings_of_who_does_not_read_are_bounded),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("ipc hostile", tests, ends_setup, ends_teardown);
}
