/* Too much over ipc://: peers that never stop, more of them than descriptors. Nobody is kept from his turn, and nobody spins. */
#include "base/clock.h"
#include "base/log.h"
#include "mesh/zmtp.h"
#include "tests/mesh/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

/* ---- who never stops ------------------------------------------------------------------------- */

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
    static const char frame[2 + 64] = "\1\x40"; /* 64 bytes, and more to follow */

    (void)state;
    floods(frame, sizeof(frame));
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
        cmocka_unit_test(a_flood_of_pings_drowns_nobody),
        cmocka_unit_test(a_message_without_end_drowns_nobody),
        cmocka_unit_test(the_owner_is_not_kept),
        cmocka_unit_test(others_are_heard_beside_who_never_stops),
        cmocka_unit_test(without_descriptors_newcomers_wait),
        cmocka_unit_test(a_forked_child_does_not_keep_us_awake),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("ipc crowd", tests, ends_setup, ends_teardown);
}
