/*
 * Trace contexts, spans, and what a collector gets: a listener of this test's own, that answers as it is told.
 */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/trace.h"
#include "base/trace_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

/* ---- a collector ----------------------------------------------------------------------------- */

static struct {
    int fd;
    char url[64];
    atomic_bool stopping;
    atomic_int n_posts;
    atomic_int status; /* of answers; 0: none at all, the connection stays silent */
    pthread_t thread;
    pthread_mutex_t lock;
    struct buffer text; /* all bodies */
} collector = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Until the body is whole. */
static void read_request(int fd, struct buffer *request)
{
    char piece[65536];
    ssize_t n;

    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0) {
        const char *end;

        buffer_append(request, piece, (size_t)n);
        end = strstr((char *)request->data, "\r\n\r\n");
        if (end && request->size - (size_t)(end + 4 - (char *)request->data) >=
                       strtoull(strstr((char *)request->data, "Content-Length: ") + 16, NULL, 10))
            return;
    }
}

static void answer(int fd)
{
    struct buffer request;
    char text[128];
    int status;

    buffer_init(&request, (size_t)64 << 20);
    read_request(fd, &request);
    status = atomic_load(&collector.status);
    if (request.size > 0)
        atomic_fetch_add(&collector.n_posts, 1);
    if (request.size > 0 && status == 200) {
        pthread_mutex_lock(&collector.lock);
        buffer_append(&collector.text, request.data, request.size);
        pthread_mutex_unlock(&collector.lock);
    }
    while (status == 0 && !atomic_load(&collector.stopping) && atomic_load(&collector.status) == 0)
        poll(NULL, 0, 10);
    snprintf(text, sizeof(text), "HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\n{}", status);
    if (status > 0)
        send(fd, text, strlen(text), MSG_NOSIGNAL);
    buffer_fini(&request);
    close(fd);
}

static void *collect(void *arg)
{
    struct pollfd poller = {.fd = collector.fd, .events = POLLIN};

    (void)arg;
    while (!atomic_load(&collector.stopping))
        if (poll(&poller, 1, 20) > 0)
            answer(accept(collector.fd, NULL, NULL));
    return NULL;
}

static int setup(void **state)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(name);

    (void)state;
    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    atomic_store(&collector.stopping, false);
    atomic_store(&collector.status, 200);
    atomic_store(&collector.n_posts, 0);
    buffer_init(&collector.text, (size_t)64 << 20);
    collector.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(collector.fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(collector.fd, 8), 0);
    getsockname(collector.fd, (struct sockaddr *)&name, &size);
    snprintf(collector.url, sizeof(collector.url), "http://127.0.0.1:%d/", ntohs(name.sin_port));
    return pthread_create(&collector.thread, NULL, collect, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trace_stop();
    atomic_store(&collector.stopping, true);
    pthread_join(collector.thread, NULL);
    close(collector.fd);
    buffer_fini(&collector.text);
    return 0;
}

static bool collected(const char *part)
{
    bool found;

    pthread_mutex_lock(&collector.lock);
    found = collector.text.data && strstr((char *)collector.text.data, part);
    pthread_mutex_unlock(&collector.lock);
    return found;
}

static double outcome(const char *result)
{
    char want[96];
    struct buffer page;
    const char *at;
    double value = 0;

    snprintf(want, sizeof(want), "dragoman_trace_spans_total{result=\"%s\"} ", result);
    buffer_init(&page, (size_t)16 << 20);
    assert_int_equal(metrics_render(&page), 0);
    at = strstr((char *)page.data, want);
    if (at)
        value = strtod(at + strlen(want), NULL);
    buffer_fini(&page);
    return value;
}

/* ---- contexts -------------------------------------------------------------------------------- */

static void traceparents_are_read_and_written(void **state)
{
    static const char *const BAD[] = {
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
    };
    struct trace_context context;
    char text[TRACE_PARENT_TEXT];

    (void)state;
    assert_int_equal(trace_parse(PARENT, &context), 0);
    trace_format(&context, text);
    assert_string_equal(text, PARENT);
    trace_id_format(&context, text);
    assert_string_equal(text, "0af7651916cd43dd8448eb211c80319c");
    assert_int_equal(/* of a later version */
                     trace_parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                                 &context),
                     0);
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++)
        assert_int_equal(trace_parse(BAD[i], &context), -EINVAL);
}

static void the_current_trace_is_the_threads(void **state)
{
    struct trace_context context, other;

    (void)state;
    assert_null(trace_current());
    trace_draw(&context);
    trace_draw(&other);
    assert_memory_not_equal(&context, &other, sizeof(context));
    trace_set_current(&context);
    assert_memory_equal(trace_current(), &context, sizeof(context));
    trace_set_current(&(struct trace_context){.flags = 1}); /* no trace at all */
    assert_null(trace_current());
}

/* ---- spans ----------------------------------------------------------------------------------- */

static void without_a_collector_there_are_none(void **state)
{
    struct trace_context parent, out;
    struct trace_span *span;

    (void)state;
    assert_int_equal(trace_start(NULL, "test", 1), 0);
    assert_int_equal(trace_start("", "test", 1), 0);
    assert_false(trace_enabled());
    trace_parse(PARENT, &parent);
    span = trace_begin("x", TRACE_INTERNAL, &parent, false, &out);
    assert_null(span);
    assert_memory_equal(&out, &parent, sizeof(out)); /* carried on as it is */
    trace_text(span, "key", "value");
    trace_message(span, "Inbound message", 0, 1);
    trace_end(&span, "error");
    trace_draw(&out);
    assert_int_equal(out.flags & TRACE_SAMPLED, 0);
}

static void bad_endpoints_are_refused(void **state)
{
    static const char *const BAD[] = {
        "collector:4318", "https://collector", "http://", "http://:1",
        "http://a:x",     "http://a:",         "ftp://a", "http://a/ b",
        "http://a/?x=1",  "http://a:123456789"};

    (void)state;
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++)
        assert_int_equal(trace_start(BAD[i], "test", 1), -EINVAL);
    assert_false(trace_enabled());
}

static void a_span_arrives_with_all_it_has(void **state)
{
    struct trace_context parent, out;
    struct trace_span *span;
    char id[64];

    (void)state;
    assert_int_equal(trace_start(collector.url, "te\"st", 1), 0);
    assert_int_equal(trace_start(collector.url, "test", 1), -EALREADY);
    trace_parse(PARENT, &parent);
    span = trace_begin("a \"name\"\n", TRACE_CLIENT, &parent, false, &out);
    assert_non_null(span);
    assert_memory_equal(out.trace_id, parent.trace_id, TRACE_ID_BYTES);
    assert_memory_not_equal(out.span_id, parent.span_id, TRACE_SPAN_ID_BYTES);
    trace_text(span, "text", "v\xff");
    trace_int(span, "number", INT64_MIN);
    trace_message(span, "Outbound message", 3, 4096);
    trace_end(&span, "UNAVAILABLE: gone");
    assert_null(span);
    trace_stop();

    assert_true(collected("POST /v1/traces HTTP/1.1\r\n"));
    assert_true(collected("{\"key\":\"service.name\",\"value\":{\"stringValue\":\"te\\\"st\"}}"));
    assert_true(collected("\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\""));
    assert_true(collected("\"parentSpanId\":\"b7ad6b7169203331\",\"name\":\"a \\\"name\\\"\\n\""));
    assert_true(collected("\"kind\":3"));
    assert_true(collected("{\"key\":\"text\",\"value\":{\"stringValue\":\"v\xEF\xBF\xBD\"}}"));
    assert_true(
        collected("{\"key\":\"number\",\"value\":{\"intValue\":\"-9223372036854775808\"}}"));
    assert_true(collected(
        "\"name\":\"Outbound message\",\"attributes\":[{\"key\":\"sequence-number\",\"value\":"
        "{\"intValue\":\"3\"}},{\"key\":\"message-size\",\"value\":{\"intValue\":\"4096\"}}]"));
    assert_true(collected("\"status\":{\"code\":2,\"message\":\"UNAVAILABLE: gone\"}"));
    trace_format(&out, id);
    id[52] = '\0';
    assert_true(collected(id + 36));
}

static void what_is_too_much_is_counted(void **state)
{
    struct trace_span *span;

    (void)state;
    assert_int_equal(trace_start(collector.url, "test", 1), 0);
    span = trace_begin("much", TRACE_INTERNAL, NULL, false, NULL);
    for (int i = 0; i < TRACE_EVENTS_MAX + 5; i++)
        trace_message(span, "Inbound message", i, 1);
    for (int i = 0; i < TRACE_ATTRIBUTES_MAX + 5; i++)
        trace_int(span, "n", i);
    trace_end(&span, NULL);
    trace_stop();
    assert_true(collected("\"droppedEventsCount\":5"));
    assert_true(collected("\"droppedAttributesCount\":5"));
    assert_true(collected("\"status\":{}"));
}

static void traces_are_sampled_by_their_id(void **state)
{
    struct trace_context parent, out;
    struct trace_span *span;
    int n = 0;

    (void)state;
    assert_int_equal(trace_start(collector.url, "test", 0.25), 0);
    for (int i = 0; i < 4000; i++) {
        trace_draw(&out);
        n += out.flags & TRACE_SAMPLED;
        assert_int_equal(trace_samples(out.trace_id), out.flags & TRACE_SAMPLED);
    }
    assert_in_range(n, 800, 1200);
    trace_parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", &parent);
    span = trace_begin("x", TRACE_SERVER, &parent, false, &out);
    assert_null(span); /* the parent has decided */
    assert_memory_equal(&out, &parent, sizeof(out));
}

/* ---- export ---------------------------------------------------------------------------------- */

static void end_spans(int n)
{
    for (int i = 0; i < n; i++) {
        struct trace_span *span = trace_begin("one of many", TRACE_INTERNAL, NULL, false, NULL);

        trace_end(&span, NULL);
    }
}

static void a_busy_collector_is_tried_again(void **state)
{
    double before = outcome("exported");
    int64_t end = clock_now_ms() + 20000;

    (void)state;
    atomic_store(&collector.status, 503);
    assert_int_equal(trace_start(collector.url, "test", 1), 0);
    end_spans(1500);
    while (atomic_load(&collector.n_posts) < 2 && clock_now_ms() < end)
        poll(NULL, 0, 10);
    assert_true(atomic_load(&collector.n_posts) >= 2);
    assert_true(outcome("exported") == before);
    atomic_store(&collector.status, 200);
    while (outcome("exported") < before + 1500 && clock_now_ms() < end)
        poll(NULL, 0, 10);
    assert_true(outcome("exported") == before + 1500);
}

static void a_refusal_is_final(void **state)
{
    double before = outcome("failed");
    int64_t end = clock_now_ms() + 20000;

    (void)state;
    atomic_store(&collector.status, 400);
    assert_int_equal(trace_start(collector.url, "test", 1), 0);
    end_spans(3);
    while (outcome("failed") < before + 3 && clock_now_ms() < end)
        poll(NULL, 0, 10);
    assert_true(outcome("failed") == before + 3);
    assert_int_equal(atomic_load(&collector.n_posts), 1);
}

static void a_silent_collector_bounds_memory_and_the_end(void **state)
{
    double before = outcome("dropped");
    int64_t begun;

    (void)state;
    atomic_store(&collector.status, 0);
    assert_int_equal(trace_start(collector.url, "test", 1), 0);
    end_spans(10000);
    assert_true(outcome("dropped") >= before + 10000 - 4096 - 512);
    begun = clock_now_ms();
    trace_stop();
    assert_in_range(clock_now_ms() - begun, 0, 4000); /* a request under way, or two seconds */
    end_spans(1);                                     /* after the end: nothing */
}

int main(void)
{
#define EXPORT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traceparents_are_read_and_written),
        cmocka_unit_test(the_current_trace_is_the_threads),
        cmocka_unit_test(without_a_collector_there_are_none),
        cmocka_unit_test(bad_endpoints_are_refused),
        EXPORT(a_span_arrives_with_all_it_has),
        EXPORT(what_is_too_much_is_counted),
        EXPORT(traces_are_sampled_by_their_id),
        EXPORT(a_busy_collector_is_tried_again),
        EXPORT(a_refusal_is_final),
        EXPORT(a_silent_collector_bounds_memory_and_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
