/* What comes over ipc:// and should not: it costs its sender his connection, and nobody else anything. */
#include "base/clock.h"
#include "base/log.h"
#include "mesh/deadline.h"
#include "mesh/engine.h"
#include "mesh/zmtp.h"
#include "tests/mesh/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

struct flood {
    const char *path;
    const char *bytes;
    size_t size;
    atomic_bool stop;
};

/* Over and over what never becomes a message. */
static void *pour(void *arg)
{
    struct flood *flood = arg;
    size_t times = 60000 / flood->size;
    char *bytes = malloc(times * flood->size);
    int fd = ends_raw(flood->path);
    struct timeval patience = {.tv_usec = 10000};

    for (size_t i = 0; i < times; i++)
        memcpy(bytes + i * flood->size, flood->bytes, flood->size);
    ends_raw_greet(fd);
    fcntl(fd, F_SETFL, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    while (!atomic_load(&flood->stop))
        for (size_t done = 0; done < times * flood->size && !atomic_load(&flood->stop);) {
            ssize_t n = send(fd, bytes + done, times * flood->size - done, MSG_NOSIGNAL);

            done += n > 0 ? (size_t)n : 0;
        }
    close(fd);
    free(bytes);
    return NULL;
}

/* Somebody who writes without end neither keeps the owner, nor others from being heard, nor does he cost memory. */
static void floods(const char *bytes, size_t size)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct flood flood = {.path = ends_path("a"), .bytes = bytes, .size = size};
    struct end dealer;
    struct mesh_message message;
    struct pollfd fd;
    pthread_t threads[2];
    int n_heard = 0;
    int64_t until;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pour, &flood), 0);
    dealer = ends_open(MESH_DEALER, true, ends_path("a"));
    until = clock_now_ms() + ENDS_WAIT_MS;
    for (uint32_t n_sent = 0; n_heard < 20 && clock_now_ms() < until;) {
        int err;

        fd = mesh_ipc_fd(router.ipc);
        poll(&fd, 1, mesh_ipc_is_ready(router.ipc) ? 0 : 1);
        mesh_ipc_polled(router.ipc, fd.revents);
        ends_number(&message, 0, 1);
        if (n_sent > 20 || ends_try_send(&dealer, &message) < 0)
            mesh_message_close(&message);
        else
            n_sent++;
        err = mesh_ipc_recv(router.ipc, &message);
        if (err == 0) {
            assert_int_equal(ends_read_number(&message), 1);
            n_heard++;
        }
    }
    assert_int_equal(n_heard, 20);
    atomic_store(&flood.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ends_close(&dealer, 0);
    ends_close(&router, 0);
}

static void a_flood_of_pings_drowns_nobody(void **state)
{
    (void)state;
    floods("\4\7\4PING\0\1", 9);
}

static void a_message_without_end_drowns_nobody(void **state)
{
    (void)state;
    floods("\1\x40" ZEROS_16 ZEROS_16 ZEROS_16 ZEROS_16, 66);
}

static size_t count_answers(const int *fds, size_t n)
{
    static const char pong[] = "\4\5\4PONG";
    uint8_t bytes[512];
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        ssize_t got = recv(fds[i], bytes, sizeof(bytes), MSG_DONTWAIT);

        count += got > 7 && memcmp(bytes + got - 7, pong, 7) == 0;
    }
    return count;
}

/* What is no message is looked at in turns, too: between them the owner does his other work. */
static void the_owner_is_not_kept(void **state)
{
    enum { N = 48 };
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct mesh_message message;
    size_t n_answers = 0;
    int64_t until;
    int fds[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        fds[i] = ends_raw(ends_path("a"));
        ends_raw_greet(fds[i]);
        ends_write(fds[i], "\4\7\4PING\0\1", 9);
    }
    until = clock_now_ms() + ENDS_WAIT_MS;
    while (n_answers < N && clock_now_ms() < until) {
        struct pollfd fd = mesh_ipc_fd(router.ipc);
        size_t n;

        poll(&fd, 1, mesh_ipc_is_ready(router.ipc) ? 0 : 10);
        mesh_ipc_polled(router.ipc, fd.revents);
        assert_int_equal(mesh_ipc_recv(router.ipc, &message), -EAGAIN);
        n = count_answers(fds, N);
        assert_in_range(n, 0, N / 2);
        n_answers += n;
    }
    assert_int_equal(n_answers, N);
    for (size_t i = 0; i < N; i++)
        close(fds[i]);
    ends_close(&router, 0);
}

/* Whatever a socket has room for of small messages, without end. */
static void top_up(int fd, size_t *at)
{
    static char frames[256 * 100]; /* of 254 zeros each */
    ssize_t n = 1;

    for (size_t i = 0; i < sizeof(frames); i += 256)
        frames[i + 1] = (char)254;
    while (n > 0) {
        n = send(fd, frames + *at, sizeof(frames) - *at, MSG_NOSIGNAL | MSG_DONTWAIT);
        *at = (*at + (n > 0 ? (size_t)n : 0)) % sizeof(frames);
    }
}

static void others_are_heard_beside_who_never_stops(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    int fd = ends_raw(ends_path("a"));
    int other = ends_raw(ends_path("a"));
    struct mesh_message message;
    bool heard = false;
    size_t at = 0;

    (void)state;
    ends_raw_greet(fd);
    top_up(fd, &at);
    assert_int_equal(ends_recv(&router, NULL, &message), 0);
    mesh_message_close(&message);
    ends_raw_greet(other);
    ends_write(other, "\0\5other", 7);
    for (int i = 0; i < 50000 && !heard; i++) {
        struct pollfd poll_fd = mesh_ipc_fd(router.ipc);

        top_up(fd, &at);
        if (i % 500 == 0 && poll(&poll_fd, 1, 0) > 0)
            mesh_ipc_polled(router.ipc, poll_fd.revents);
        if (mesh_ipc_recv(router.ipc, &message) == 0) {
            heard = zmq_msg_size(&message.first) == 5;
            mesh_message_close(&message);
        }
    }
    assert_true(heard);
    close(fd);
    close(other);
    ends_close(&router, 0);
}

/* ---- too few descriptors --------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* As an owner does. @return how often it woke up */
static int live(struct mesh_ipc *ipc, int ms)
{
    int64_t until = clock_now_ns() + ms * MS;
    struct mesh_message message;
    int n = 0;

    for (int64_t now; (now = clock_now_ns()) < until; n++) {
        int64_t next = mesh_ipc_next_ns(ipc) < until ? mesh_ipc_next_ns(ipc) : until;
        struct pollfd fd = mesh_ipc_fd(ipc);

        poll(&fd, 1, next > now ? (int)((next - now) / MS) + 1 : 0);
        mesh_ipc_polled(ipc, fd.revents);
        if (clock_now_ns() < until) /* else nobody has woken it */
            mesh_ipc_tick(ipc, clock_now_ns());
        while (mesh_ipc_recv(ipc, &message) == 0)
            mesh_message_close(&message);
    }
    return n;
}

/* In a child, whose limit is its own. @return 0: all is well; else where it is not */
static int short_of_descriptors(int fd)
{
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    struct mesh_ipc *ipc = NULL;
    int spare, last = -1;
    double cpu;
    char byte = 0;

    if (mesh_ipc_create(MESH_ROUTER, ENDS_MAX_BYTES, &ipc) < 0 ||
        mesh_ipc_bind(ipc, ends_path("short")) < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1;
    spare = dup(0);
    while ((last = dup(0)) >= 0)
        continue;
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        return 2;
    cpu = cpu_seconds();
    if (live(ipc, 600) > 60) /* a connection waits, and cannot be accepted */
        return 3;
    if (cpu_seconds() - cpu > 0.2)
        return 4;
    close(spare);
    live(ipc, 600);
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        return 5;
    mesh_ipc_destroy(&ipc, 0);
    return 0;
}

static void without_descriptors_newcomers_wait(void **state)
{
    uint8_t greeting[ZMTP_GREETING_BYTES];
    char byte = 0;
    int pair[2], fd, status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pair[0]);
        _exit(short_of_descriptors(pair[1]));
    }
    close(pair[1]);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    fd = ends_raw(ends_path("short"));
    assert_int_equal(write(pair[0], &byte, 1), 1);
    byte = 0;
    if (read(pair[0], &byte, 1) == 1) {
        assert_true(recv(fd, greeting, sizeof(greeting), MSG_DONTWAIT) > 0); /* it was let in */
        assert_int_equal(write(pair[0], &byte, 1), 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(pair[0]);
    close(fd);
    unlink(ends_path("short"));
}

/* A child that has inherited a connection keeps it open when it is closed here: no reason to wake up for ever. */
static void a_forked_child_does_not_keep_us_awake(void **state)
{
    struct end router = ends_open(MESH_ROUTER, false, ends_path("a"));
    struct end dealer = ends_open(MESH_DEALER, true, ends_path("a"));
    uint64_t peer, lost;
    pid_t child;

    (void)state;
    peer = ends_meet(&router, &dealer);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    mesh_ipc_cut(router.ipc, peer);
    ends_idle(&router, 50);
    assert_true(mesh_ipc_next_lost(router.ipc, &lost) && lost == peer);
    ends_close(&dealer, 0);
    assert_in_range(live(router.ipc, 200), 0, 20);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
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
        cmocka_unit_test(a_flood_of_pings_drowns_nobody),
        cmocka_unit_test(a_message_without_end_drowns_nobody),
        cmocka_unit_test(the_owner_is_not_kept),
        cmocka_unit_test(others_are_heard_beside_who_never_stops),
        cmocka_unit_test(without_descriptors_newcomers_wait),
        cmocka_unit_test(a_forked_child_does_not_keep_us_awake),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("ipc hostile", tests, ends_setup, ends_teardown);
}
