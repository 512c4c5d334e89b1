/* The HTTP server over real sockets: good clients, bad clients, slow clients. */
#include "base/clock.h"
#include "gateway/http.h"
#include "tests/gateway/client.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define STREAM_BYTES (24 << 20)
#define IDLE_MS 1500

static struct http_server *server;
static int port;
static atomic_int holding, released, gone_seen, stream_stuck;

static void echo(struct http_exchange *exchange, void *context)
{
    size_t size;
    const uint8_t *body = http_body(exchange, &size);

    (void)context;
    http_respond(exchange, 200, "application/octet-stream", body, size);
}

static void hello(struct http_exchange *exchange, void *context)
{
    (void)context;
    http_respond(exchange, 200, "text/plain", "hello", 5);
}

/* Byte i of a long answer. */
static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static void stream(struct http_exchange *exchange, void *context)
{
    static _Thread_local uint8_t piece[10000];
    size_t at = 0;

    (void)context;
    http_begin(exchange, 200, "application/octet-stream");
    while (at < STREAM_BYTES) {
        size_t n = STREAM_BYTES - at < sizeof(piece) ? STREAM_BYTES - at : sizeof(piece);

        for (size_t i = 0; i < n; i++)
            piece[i] = pattern(at + i);
        if (http_write(exchange, piece, n) < 0) {
            atomic_fetch_add(&gone_seen, 1);
            return;
        }
        at += n;
        atomic_store(&stream_stuck, (int)at);
    }
}

static void wake(void *arg)
{
    atomic_store((atomic_int *)arg, 1);
}

/* Until the client leaves or the test says so. */
static void hold(struct http_exchange *exchange, void *context)
{
    atomic_int woken;

    (void)context;
    atomic_init(&woken, 0);
    http_on_gone(exchange, wake, &woken);
    atomic_fetch_add(&holding, 1);
    while (!atomic_load(&woken) && !atomic_load(&released))
        usleep(1000);
    if (atomic_load(&woken))
        atomic_fetch_add(&gone_seen, 1);
    http_on_gone(exchange, NULL, NULL);
    atomic_fetch_sub(&holding, 1);
    http_respond(exchange, 200, "text/plain", "held", 4);
}

static void half(struct http_exchange *exchange, void *context)
{
    (void)context;
    http_begin(exchange, 200, "text/plain");
    http_write(exchange, "half of it", 10);
    http_abort(exchange);
}

static void nothing(struct http_exchange *exchange, void *context)
{
    (void)exchange, (void)context;
}

static void refuse(struct http_exchange *exchange, int status, const char *message)
{
    http_respond(exchange, status, "text/plain", message, strlen(message));
}

static bool admit(struct http_exchange *exchange, void *context)
{
    const char *key = http_head_get(http_head(exchange), "authorization");

    (void)context;
    if (strcmp(http_head(exchange)->path, "/secret") || (key && !strcmp(key, "open sesame")))
        return true;
    refuse(exchange, 401, "who are you?");
    return false;
}

static const struct http_route routes[] = {
    {"GET", "/hello", HTTP_INLINE, hello},
    {"GET", "/secret", HTTP_INLINE, hello},
    {"POST", "/echo", HTTP_UPLOAD, echo},
    {"POST", "/echo/inline", HTTP_UPLOAD | HTTP_INLINE, echo},
    {"GET", "/stream", 0, stream},
    {"GET", "/hold", 0, hold},
    {"POST", "/small", 0, echo},
    {"GET", "/half", 0, half},
    {"GET", "/nothing", 0, nothing},
    {"GET", "/items/*", HTTP_INLINE, hello},
    {0}};

static int start(void **state)
{
    const struct http_server_options options = {.listen = "127.0.0.1:0",
                                                .routes = routes,
                                                .fail = refuse,
                                                .admit = admit,
                                                .cors_origin = "*",
                                                .max_body_bytes = 1 << 20,
                                                .max_small_bytes = 1000,
                                                .max_buffered_bytes = 3 << 20,
                                                .threads = 3,
                                                .queue_limit = 2,
                                                .max_connections = 40,
                                                .idle_timeout_ms = IDLE_MS};

    (void)state;
    assert_int_equal(http_server_start(&options, &server), 0);
    port = http_server_port(server);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    http_server_stop(&server, 2000);
    assert_null(server);
    return 0;
}

static void wait_for(atomic_int *value, int want, int ms)
{
    int64_t until = clock_now_ms() + ms;

    while (atomic_load(value) != want) {
        if (clock_now_ms() > until)
            fail_msg("%d instead of %d after %d ms", atomic_load(value), want, ms);
        usleep(1000);
    }
}

/* Every exchange of a finished test is gone: none leaks. */
static void wait_idle(void)
{
    int64_t until = clock_now_ms() + 3000;

    while (http_server_active(server)) {
        if (clock_now_ms() > until)
            fail_msg("%zu requests never ended", http_server_active(server));
        usleep(1000);
    }
}

static void get(const char *path, int status, const char *body)
{
    struct reply reply;

    client_request(port, "GET", path, "", NULL, 0, &reply);
    assert_int_equal(reply.status, status);
    assert_true(reply.whole);
    if (body)
        assert_string_equal((const char *)reply.body.data, body);
    reply_fini(&reply);
}

static void routes_are_found(void **state)
{
    struct reply reply;

    (void)state;
    get("/hello", 200, "hello");
    get("/hello?x=1", 200, "hello");
    get("/items/7", 200, "hello");
    get("/items/", 404, NULL);
    get("/nowhere", 404, NULL);
    get("/nothing", 500, NULL);
    client_request(port, "POST", "/hello", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 405);
    assert_string_equal(reply_header(&reply, "Allow"), "GET, OPTIONS");
    reply_fini(&reply);
    client_request(port, "HEAD", "/hello", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Content-Length"), "5");
    reply_fini(&reply);
    wait_idle();
}

static void cors(void **state)
{
    struct reply reply;

    (void)state;
    client_request(port, "OPTIONS", "/echo",
                   "Origin: https://x\r\nAccess-Control-Request-Method: POST\r\n", NULL, 0, &reply);
    assert_int_equal(reply.status, 204);
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Methods"), "POST, OPTIONS");
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Origin"), "*");
    reply_fini(&reply);
}

static void keys_are_asked_for_before_the_body(void **state)
{
    struct reply reply;

    (void)state;
    get("/secret", 401, "who are you?");
    client_request(port, "GET", "/secret", "Authorization: open sesame\r\n", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    reply_fini(&reply);
}

static void one_connection_serves_many_requests(void **state)
{
    int fd = client_connect(port);

    (void)state;
    for (int i = 0; i < 50; i++) {
        struct reply reply;
        const char *request =
            i % 2 ? "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                  : "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";

        assert_true(client_say(fd, request));
        assert_true(client_read(fd, &reply, true, 3000));
        assert_int_equal(reply.status, 200);
        assert_string_equal((const char *)reply.body.data, "hello");
        assert_false(reply.closes);
        reply_fini(&reply);
    }
    close(fd);
}

/* Ten requests in one write, to threads and to the loop: ten answers, in order. */
static void requests_may_come_ahead(void **state)
{
    int fd = client_connect(port);
    char all[2048] = "", one[128], rest[4096] = "";
    size_t have = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        snprintf(one, sizeof(one),
                 "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nnumber%d",
                 i % 3 ? "/echo" : "/echo/inline", i);
        strcat(all, one);
    }
    assert_true(client_say(fd, all));
    while (have < sizeof(rest) - 1 && !strstr(rest, "number9")) {
        ssize_t n = recv(fd, rest + have, sizeof(rest) - 1 - have, 0);

        assert_true(n > 0);
        have += (size_t)n;
        rest[have] = '\0';
    }
    for (int i = 0, from = 0; i < 10; i++) {
        char *at;

        snprintf(one, sizeof(one), "number%d", i);
        at = strstr(rest + from, one);
        assert_non_null(at);
        from = (int)(at - rest);
    }
    close(fd);
    wait_idle();
}

static void chunked_bodies(void **state)
{
    const char *head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    int fd = client_connect(port);
    struct reply reply;

    (void)state;
    assert_true(client_say(fd, head));
    assert_true(client_say(fd, "5\r\nhel"));
    usleep(20000);
    assert_true(client_say(fd, "lo\r\n6\r\n world\r\n0\r\n\r\n"));
    assert_true(client_read(fd, &reply, true, 3000));
    assert_string_equal((const char *)reply.body.data, "hello world");
    reply_fini(&reply);
    close(fd);
}

static void curl_waits_for_100_continue(void **state)
{
    int fd = client_connect(port);
    struct reply reply;

    (void)state;
    assert_true(client_say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                               "Expect: 100-continue\r\n\r\n"));
    assert_true(client_read(fd, &reply, false, 1000));
    assert_int_equal(reply.status, 100);
    reply_fini(&reply);
    assert_true(client_say(fd, "hello"));
    assert_true(client_read(fd, &reply, true, 1000));
    assert_string_equal((const char *)reply.body.data, "hello");
    reply_fini(&reply);
    close(fd);
}

static void http_1_0_ends_by_closing(void **state)
{
    int fd = client_connect(port);
    struct reply reply;

    (void)state;
    assert_true(client_say(fd, "GET /stream HTTP/1.0\r\n\r\n"));
    assert_true(client_read(fd, &reply, true, 10000));
    assert_true(reply.whole && reply.closes);
    assert_null(reply_header(&reply, "Transfer-Encoding"));
    assert_int_equal(reply.body.size, STREAM_BYTES);
    reply_fini(&reply);
    close(fd);
}

static void bodies_over_the_limit(void **state)
{
    static uint8_t block[65536];
    int fd = client_connect(port);
    struct reply reply;

    (void)state;
    /* Said before: refused before a byte of it is read. */
    assert_true(
        client_say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"));
    assert_true(client_read(fd, &reply, true, 1000));
    assert_int_equal(reply.status, 413);
    assert_true(reply.closes);
    reply_fini(&reply);
    close(fd);

    /* Where little is expected, little is taken. */
    fd = client_connect(port);
    assert_true(client_say(fd, "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"));
    assert_true(client_read(fd, &reply, true, 1000));
    assert_int_equal(reply.status, 413);
    reply_fini(&reply);
    close(fd);

    /* In chunks that never end; the client gets to read why although it is still sending. */
    fd = client_connect(port);
    assert_true(
        client_say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 40; i++) {
        if (!client_say(fd, "10000\r\n") || !client_send(fd, block, sizeof(block)) ||
            !client_say(fd, "\r\n"))
            break;
    }
    assert_true(client_read(fd, &reply, true, 1000));
    assert_int_equal(reply.status, 413);
    reply_fini(&reply);
    close(fd);
    wait_idle();
}

static void memory_for_uploads_is_bounded(void **state)
{
    static uint8_t block[900000];
    int fds[4];
    struct reply reply;
    int refused = 0;

    (void)state;
    for (int i = 0; i < 4; i++) { /* 3.6 MB of 3 MiB, none of them complete */
        fds[i] = client_connect(port);
        assert_true(client_say(
            fds[i], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"));
        client_send(fds[i], block, sizeof(block));
    }
    for (int i = 0; i < 4; i++) {
        if (client_read(fds[i], &reply, true, 300)) {
            assert_int_equal(reply.status, 429);
            assert_non_null(reply_header(&reply, "Retry-After"));
            refused++;
        }
        reply_fini(&reply);
        close(fds[i]);
    }
    assert_int_equal(refused, 1);
    wait_idle();
    client_request(port, "POST", "/echo", "", block, sizeof(block), &reply);
    assert_int_equal(reply.status, 200); /* the memory came back */
    reply_fini(&reply);
}

static void a_slow_reader_stops_the_writer(void **state)
{
    int fd = client_connect(port), stuck = -1;
    struct reply reply;

    (void)state;
    atomic_store(&stream_stuck, 0);
    assert_true(client_say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    while (stuck != atomic_load(&stream_stuck) ||
           !stuck) { /* no more than the kernel and we hold */
        stuck = atomic_load(&stream_stuck);
        usleep(300000);
    }
    assert_true(stuck < STREAM_BYTES);
    assert_true(client_read(fd, &reply, true, 20000));
    assert_true(reply.whole);
    assert_int_equal(reply.body.size, STREAM_BYTES);
    for (size_t i = 0; i < STREAM_BYTES; i++) {
        if (reply.body.data[i] != pattern(i))
            fail_msg("byte %zu of the stream is wrong", i);
    }
    reply_fini(&reply);
    close(fd);
    wait_idle();
}

static void a_reader_that_stops_is_let_go(void **state)
{
    int fd = client_connect(port), before = atomic_load(&gone_seen);

    (void)state;
    assert_true(client_say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_for(&gone_seen, before + 1, IDLE_MS + 2000);
    close(fd);
    wait_idle();
}

/* A byte now and then is no reading: it would hold a request thread for days. */
static void a_reader_that_dawdles_is_let_go(void **state)
{
    int fd = client_connect(port), before = atomic_load(&gone_seen);
    int64_t until = clock_now_ms() + 3 * IDLE_MS;
    char byte;

    (void)state;
    assert_true(client_say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    while (atomic_load(&gone_seen) == before && clock_now_ms() < until) {
        usleep(100000);
        recv(fd, &byte, 1, MSG_DONTWAIT);
    }
    assert_int_equal(atomic_load(&gone_seen), before + 1);
    close(fd);
    wait_idle();
}

static void leaving_is_noticed_at_once(void **state)
{
    int before = atomic_load(&gone_seen);
    int64_t began;
    int fd;

    (void)state;
    for (int i = 0; i < 2; i++) { /* a GET, and one with more bytes behind it */
        fd = client_connect(port);
        assert_true(client_say(fd, i ? "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HT"
                                     : "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
        wait_for(&holding, 1, 2000);
        began = clock_now_ms();
        close(fd);
        wait_for(&gone_seen, before + 1 + i, 1000);
        assert_true(clock_now_ms() - began < 500);
    }
    wait_idle();
}

static void a_full_queue_refuses(void **state)
{
    int fds[6];
    struct reply reply;

    (void)state;
    for (int i = 0; i < 5; i++) { /* three run, two wait */
        fds[i] = client_connect(port);
        assert_true(client_say(fds[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
        usleep(20000);
    }
    wait_for(&holding, 3, 2000);
    client_request(port, "GET", "/hold", "", NULL, 0, &reply);
    assert_int_equal(reply.status, 429);
    assert_string_equal(reply_header(&reply, "Retry-After"), "1");
    reply_fini(&reply);
    get("/hello", 200, "hello"); /* the loop itself is free */
    atomic_store(&released, 1);
    for (int i = 0; i < 5; i++) {
        assert_true(client_read(fds[i], &reply, true, 3000));
        assert_int_equal(reply.status, 200);
        reply_fini(&reply);
        close(fds[i]);
    }
    wait_idle();
    atomic_store(&released, 0);
}

static void what_stops_short_does_not_look_whole(void **state)
{
    int fd = client_connect(port);
    struct reply reply;

    (void)state;
    assert_true(client_say(fd, "GET /half HTTP/1.1\r\nHost: x\r\n\r\n"));
    if (client_read(fd, &reply, true, 3000))
        assert_false(reply.whole);
    reply_fini(&reply);
    close(fd);
    wait_idle();
}

static void slow_heads_and_bodies_end(void **state)
{
    int head = client_connect(port), body = client_connect(port), silent = client_connect(port);
    struct reply reply;
    char byte;

    (void)state;
    assert_true(client_say(head, "GET /hello HTTP/1.1\r\nHo"));
    assert_true(
        client_say(body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"));
    for (int i = 0; i < 6; i++) { /* a byte now and then does not help a head */
        usleep(300000);
        client_say(head, "s");
    }
    assert_true(client_read(head, &reply, true, 1000));
    assert_int_equal(reply.status, 400);
    reply_fini(&reply);
    assert_true(client_read(body, &reply, true, 1000));
    assert_int_equal(reply.status, 408);
    reply_fini(&reply);
    assert_int_equal(recv(silent, &byte, 1, 0), 0); /* closed without a word */
    close(head);
    close(body);
    close(silent);
    wait_idle();
}

static void too_many_clients(void **state)
{
    int fds[60], served = 0, turned_away = 0;
    struct reply reply;

    (void)state;
    for (int i = 0; i < 60; i++)
        fds[i] = client_connect(port);
    for (int i = 0; i < 60; i++) {
        if (client_say(fds[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n") &&
            client_read(fds[i], &reply, true, 1000)) {
            served += reply.status == 200;
            turned_away += reply.status == 503;
        } else {
            turned_away++; /* closed before the request was out */
        }
        reply_fini(&reply);
    }
    assert_in_range(served, 38, 40);
    assert_int_equal(served + turned_away, 60);
    for (int i = 0; i < 60; i++)
        close(fds[i]);
    usleep(50000);
    get("/hello", 200, "hello");
}

static void malformed_requests(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"\x16\x03\x01\x02\r\n\r\n", 400}, /* TLS to a plain port */
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = client_connect(port);
        struct reply reply;

        assert_true(client_say(fd, cases[i].text));
        assert_true(client_read(fd, &reply, true, 1000));
        assert_int_equal(reply.status, cases[i].status);
        assert_true(reply.closes);
        reply_fini(&reply);
        close(fd);
    }
    wait_idle();
}

/* Random bytes, cut good requests, sudden ends: afterwards all is as before. */
static void garbage(void **state)
{
    const char *good =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nA: b\r\n\r\n01234567890123456789";
    unsigned seed = 11;

    (void)state;
    for (int i = 0; i < 400; i++) {
        char bytes[256];
        int fd = client_connect(port);
        size_t n = strlen(good);

        memcpy(bytes, good, n);
        for (int k = rand_r(&seed) % 6; k >= 0; k--)
            bytes[(size_t)rand_r(&seed) % n] = (char)rand_r(&seed);
        if (i % 3 == 0)
            n = (size_t)rand_r(&seed) % n;
        client_send(fd, bytes, n);
        if (i % 5 == 0)
            shutdown(fd, SHUT_WR);
        close(fd);
        if (i % 30 == 29)
            usleep(20000); /* for the server to see them go: it takes 40 at once */
    }
    wait_idle();
    usleep(50000);
    get("/hello", 200, "hello");
}

static void stopping_cancels_what_runs(void **state)
{
    int before = atomic_load(&gone_seen), fd = client_connect(port);
    int64_t began = clock_now_ms();

    (void)state;
    assert_true(client_say(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_for(&holding, 1, 2000);
    http_server_stop(&server, 100);
    assert_true(clock_now_ms() - began < 2000);
    assert_int_equal(atomic_load(&gone_seen), before + 1);
    close(fd);
    start(state);
}

static void addresses(void **state)
{
    struct http_server_options options = {.routes = routes, .fail = refuse, .threads = 1};
    struct http_server *other = NULL;
    char taken[64];

    (void)state;
    for (const char *const *bad = (const char *const[]){"", "nonsense", "127.0.0.1:", "127.0.0.1:x",
                                                        "999.1.1.1:80", NULL};
         *bad; bad++) {
        options.listen = *bad;
        assert_int_equal(http_server_start(&options, &other), -EINVAL);
    }
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", port);
    options.listen = taken;
    assert_int_equal(http_server_start(&options, &other), -EADDRINUSE);
    assert_null(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_are_found),
        cmocka_unit_test(cors),
        cmocka_unit_test(keys_are_asked_for_before_the_body),
        cmocka_unit_test(one_connection_serves_many_requests),
        cmocka_unit_test(requests_may_come_ahead),
        cmocka_unit_test(chunked_bodies),
        cmocka_unit_test(curl_waits_for_100_continue),
        cmocka_unit_test(http_1_0_ends_by_closing),
        cmocka_unit_test(bodies_over_the_limit),
        cmocka_unit_test(memory_for_uploads_is_bounded),
        cmocka_unit_test(a_slow_reader_stops_the_writer),
        cmocka_unit_test(a_reader_that_stops_is_let_go),
        cmocka_unit_test(a_reader_that_dawdles_is_let_go),
        cmocka_unit_test(leaving_is_noticed_at_once),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(what_stops_short_does_not_look_whole),
        cmocka_unit_test(slow_heads_and_bodies_end),
        cmocka_unit_test(too_many_clients),
        cmocka_unit_test(malformed_requests),
        cmocka_unit_test(garbage),
        cmocka_unit_test(stopping_cancels_what_runs),
        cmocka_unit_test(addresses),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
