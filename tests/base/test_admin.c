#include "base/admin.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/probe.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct admin *admin;

static int setup(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return admin_start("127.0.0.1:0", &admin);
}

static int teardown(void **state)
{
    (void)state;
    admin_stop(&admin);
    assert_null(admin);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)admin_port(admin)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    return fd;
}

/* Send bytes, read until the peer closes, or is silent for wait_ms after the first answer. */
static const char *talk(const void *request, size_t size, int wait_ms)
{
    static char text[1 << 20];
    size_t n = 0;
    int fd = dial();
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    if (send(fd, request, size, MSG_NOSIGNAL) < 0)
        size = 0; /* refused already */
    while (poll(&poller, 1, n > 0 ? 50 : wait_ms) > 0) {
        ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);

        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    text[n] = '\0';
    return text;
}

static const char *get(const char *request)
{
    return talk(request, strlen(request), 2000);
}

static void health_and_readiness(void **state)
{
    (void)state;
    assert_non_null(strstr(get("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\nok\n"));
    assert_int_equal(strncmp(get("GET /readyz HTTP/1.0\r\n\r\n"), "HTTP/1.", 7), 0);
    assert_non_null(strstr(get("GET /readyz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
    admin_set_unready("loading model");
    assert_non_null(strstr(get("GET /readyz HTTP/1.0\r\n\r\n"), " 503 "));
    assert_non_null(strstr(get("GET /readyz HTTP/1.0\r\n\r\n"), "\r\n\r\nloading model\n"));
    assert_non_null(strstr(get("GET /healthz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
    admin_set_unready(NULL);
    assert_non_null(strstr(get("GET /readyz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
}

static void probe_tells_by_its_exit_status(void **state)
{
    char address[64];

    (void)state;
    snprintf(address, sizeof(address), "127.0.0.1:%d", admin_port(admin));
    assert_int_equal(probe_ready(address), 0);
    admin_set_unready("loading model");
    assert_int_equal(probe_ready(address), 1);
    admin_set_unready(NULL);
    assert_int_equal(probe_ready("127.0.0.1:1"), 1);
    assert_int_equal(probe_ready("nonsense"), 1);
}

static void metrics_page_is_whole(void **state)
{
    char labels[32];
    const char *page = NULL;

    (void)state;
    for (int i = 0; i < 200; i++) { /* many chunks */
        snprintf(labels, sizeof(labels), "i=\"%d\"", i);
        metric_observe(metrics_histogram("t_seconds", "Test.", labels), 1);
    }
    page = get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(page, " 200 OK\r\n"));
    assert_non_null(strstr(page, "t_seconds_count{i=\"199\"} 1\n"));
    page = strstr(page, "dragoman_build_info{");
    assert_non_null(page);
    assert_non_null(strstr(page, "} 1\n"));
}

static void one_connection_takes_several_requests(void **state)
{
    const char *page = get("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                           "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");

    (void)state;
    assert_non_null(strstr(page, "ok\n"));
    assert_non_null(strstr(page, "ready\n"));
}

static void others_are_refused(void **state)
{
    (void)state;
    assert_non_null(strstr(get("GET /etc/passwd HTTP/1.0\r\n\r\n"), " 404 "));
    assert_non_null(strstr(get("GET /../../etc/passwd HTTP/1.0\r\n\r\n"), "HTTP/1."));
    assert_non_null(strstr(get("POST /healthz HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"), " 405 "));
    assert_null(strstr(get("HEAD /healthz HTTP/1.0\r\n\r\n"), "\r\n\r\nok"));
}

static void hostile_bytes_do_not_hurt(void **state)
{
    static char flood[200000];
    unsigned seed = 7;

    (void)state;
    for (int round = 0; round < 60; round++) {
        size_t size = (size_t)(rand_r(&seed) % 3000) + 1;

        for (size_t i = 0; i < size; i++)
            flood[i] = (char)rand_r(&seed);
        if (round % 3 == 0)
            memcpy(flood, "GET ", size < 4 ? size : 4);
        if (round % 3 == 1)
            memcpy(flood, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", size < 24 ? size : 24);
        talk(flood, size, 5);
    }
    memset(flood, 'a', sizeof(flood));
    memcpy(flood, "GET /", 5);
    talk(flood, sizeof(flood), 100); /* an endless path */
    get("GET /metrics HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    assert_non_null(strstr(get("GET /healthz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
}

static int open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void hangups_and_crowds_leak_nothing(void **state)
{
    struct timespec pause = {.tv_nsec = 20000000};
    int before = open_fds();
    int fds[200];
    int after = 0;

    (void)state;
    for (int i = 0; i < 200; i++) { /* hang up before the answer */
        int fd = dial();

        send(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 34, MSG_NOSIGNAL);
        close(fd);
    }
    for (int i = 0; i < 200; i++) /* more than are let in */
        fds[i] = dial();
    for (int i = 0; i < 200; i++)
        close(fds[i]);
    for (int i = 0; i < 100; i++) {
        after = open_fds();
        if (after <= before)
            break;
        nanosleep(&pause, NULL);
    }
    assert_true(after <= before);
    assert_non_null(strstr(get("GET /healthz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
}

/* Nine hundred connections that say nothing, or a byte now and then, hold nobody up. */
static void slow_crowds_keep_nobody_out(void **state)
{
    enum { CROWD = 900 };
    static int fds[CROWD];

    (void)state;
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial();
        if (i % 2)
            send(fds[i], "GET /hea", 8, MSG_NOSIGNAL);
        if (i % 100 == 0)
            assert_non_null(strstr(get("GET /healthz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
    }
    for (int i = 0; i < CROWD; i++)
        send(fds[i], "l", 1, MSG_NOSIGNAL);
    assert_non_null(strstr(get("GET /readyz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
    for (int i = 0; i < CROWD; i++)
        close(fds[i]);
}

/* One that never takes its answers stops being read, and others are served. */
static void a_deaf_peer_is_not_waited_for(void **state)
{
    static const char REQUEST[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    static char flood[1000 * (sizeof(REQUEST) - 1)];
    int fd = dial();
    int sent = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(flood); i++)
        flood[i] = REQUEST[i % (sizeof(REQUEST) - 1)];
    while (sent < 1000 && send(fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        sent++;
    assert_in_range(sent, 1, 999);
    assert_non_null(strstr(get("GET /healthz HTTP/1.0\r\n\r\n"), " 200 OK\r\n"));
    close(fd);
}

static void bad_addresses_are_refused(void **state)
{
    struct admin *other = NULL;
    char address[64];

    (void)state;
    assert_int_equal(admin_start("", &other), -EINVAL);
    assert_int_equal(admin_start("localhost", &other), -EINVAL);
    assert_int_equal(admin_start("127.0.0.1:", &other), -EINVAL);
    assert_int_equal(admin_start("127.0.0.1:99999", &other), -EINVAL);
    assert_int_equal(admin_start("127.0.0.1:12x", &other), -EINVAL);
    assert_int_equal(admin_start("999.0.0.1:1", &other), -EINVAL);
    snprintf(address, sizeof(address), "127.0.0.1:%d", admin_port(admin));
    assert_int_equal(admin_start(address, &other), -EADDRINUSE);
    assert_null(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_and_readiness),
        cmocka_unit_test(probe_tells_by_its_exit_status),
        cmocka_unit_test(metrics_page_is_whole),
        cmocka_unit_test(one_connection_takes_several_requests),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(hostile_bytes_do_not_hurt),
        cmocka_unit_test(hangups_and_crowds_leak_nothing),
        cmocka_unit_test(slow_crowds_keep_nobody_out),
        cmocka_unit_test(a_deaf_peer_is_not_waited_for),
        cmocka_unit_test(bad_addresses_are_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
