/* The cases of gRPC's interop tests, by their names, and what the mesh promises besides. */
#include "tests/mesh/rig.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct mesh_stream *open_stream(struct rig *rig, const char *method,
                                       const struct mesh_call_options *options)
{
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(rig->channel, ECHO, method, options, &stream), 0);
    return stream;
}

static int write_bytes(struct mesh_stream *stream, size_t size)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    int err;

    request.payload.data = malloc(size + 1);
    request.payload.len = size;
    echo_fill(request.payload.data, size);
    err = mesh_stream_write(stream, &request.base, 5000);
    free(request.payload.data);
    return err;
}

/* Read one answer, check its size and bytes. */
static void expect_bytes(struct mesh_stream *stream, size_t size)
{
    ProtobufCMessage *message = NULL;
    uint8_t *want = malloc(size + 1);
    const echo_response *response;

    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    response = (const echo_response *)message;
    echo_fill(want, size);
    assert_int_equal(response->payload.len, size);
    assert_memory_equal(response->payload.data, want, size);
    free(want);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void expect_end(struct mesh_stream *stream, enum status_code code)
{
    struct status status;

    rig_read_all(stream, &status);
    if (status.code != code)
        fail_msg("%s: %s", status_name(status.code), status.message);
}

/* ---- interop --------------------------------------------------------------------------------- */

static void empty_unary(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    echo_response *response = NULL;

    assert_int_equal(rig_unary(rig->channel, &request, NULL, &response).code, STATUS_OK);
    assert_int_equal(response->payload.len, 0);
    dragoman__test__v1__echo_response__free_unpacked(response, NULL);
}

static void large_unary(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    echo_response *response = NULL;
    uint32_t size = 314159;
    uint8_t *want = malloc(size);

    request.payload.len = 271828;
    request.payload.data = calloc(1, request.payload.len);
    request.n_sizes = 1;
    request.sizes = &size;
    assert_int_equal(rig_unary(rig->channel, &request, NULL, &response).code, STATUS_OK);
    echo_fill(want, size);
    assert_int_equal(response->payload.len, size);
    assert_memory_equal(response->payload.data, want, size);
    free(want);
    free(request.payload.data);
    dragoman__test__v1__echo_response__free_unpacked(response, NULL);
}

static void compressed_unary(void **state)
{
    struct rig *rig = *state;
    struct mesh_call_options options = {.compress = true};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    static uint8_t text[200000];

    memset(text, 'a', sizeof(text)); /* shrinks; random bytes, as large_unary's, do not */
    for (int shrinks = 0; shrinks < 2; shrinks++) {
        echo_response *response = NULL;

        if (!shrinks)
            echo_fill(text, sizeof(text));
        else
            memset(text, 'a', sizeof(text));
        request.payload = (ProtobufCBinaryData){.len = sizeof(text), .data = text};
        assert_int_equal(rig_unary(rig->channel, &request, &options, &response).code, STATUS_OK);
        assert_int_equal(response->payload.len, sizeof(text));
        assert_memory_equal(response->payload.data, text, sizeof(text));
        dragoman__test__v1__echo_response__free_unpacked(response, NULL);
    }
}

static void client_streaming_of(struct rig *rig, const struct mesh_call_options *options)
{
    struct mesh_stream *stream = open_stream(rig, "Collect", options);
    ProtobufCMessage *message = NULL;
    const size_t sizes[] = {27182, 8, 1828, 45904};

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(write_bytes(stream, sizes[i]), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    assert_int_equal(((echo_response *)message)->messages, 4);
    assert_int_equal(((echo_response *)message)->bytes, 74922);
    protobuf_c_message_free_unpacked(message, NULL);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void client_streaming(void **state)
{
    client_streaming_of(*state, NULL);
}

static void client_compressed_streaming(void **state)
{
    client_streaming_of(*state, &(struct mesh_call_options){.compress = true});
}

static void server_streaming_of(struct rig *rig, const struct mesh_call_options *options)
{
    struct mesh_stream *stream = open_stream(rig, "Expand", options);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t sizes[] = {31415, 9, 2653, 58979};

    request.n_sizes = 4;
    request.sizes = sizes;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    for (size_t i = 0; i < 4; i++)
        expect_bytes(stream, sizes[i]);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void server_streaming(void **state)
{
    server_streaming_of(*state, NULL);
}

static void server_compressed_streaming(void **state)
{
    server_streaming_of(*state, &(struct mesh_call_options){.compress = true});
}

static void ping_pong(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    uint32_t sizes[] = {31415, 9, 2653, 58979};

    for (size_t i = 0; i < 4; i++) {
        echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

        request.n_sizes = 1;
        request.sizes = &sizes[i];
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        expect_bytes(stream, sizes[i]);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void empty_stream(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    struct status status;

    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void half_duplex(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    const size_t sizes[] = {1, 3000, 0, 70000, 12};

    for (size_t i = 0; i < 5; i++)
        assert_int_equal(write_bytes(stream, sizes[i]), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    for (size_t i = 0; i < 5; i++)
        expect_bytes(stream, sizes[i]);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static struct mesh_metadata *echoed_metadata(void)
{
    struct mesh_metadata *metadata = NULL;

    assert_int_equal(mesh_metadata_add_text(&metadata, ECHO_INITIAL, "test_initial_metadata_value"),
                     0);
    assert_int_equal(mesh_metadata_add(&metadata, ECHO_TRAILING, "\xab\x00\xab", 3), 0);
    assert_int_equal(mesh_metadata_add_text(&metadata, "x-ignored", "olá ☺"), 0);
    return metadata;
}

static void expect_echoed(struct mesh_stream *stream)
{
    const struct mesh_metadata *initial = mesh_stream_initial_metadata(stream);
    const struct mesh_metadata *trailers = mesh_stream_trailers(stream);
    const void *value;
    size_t size;

    assert_string_equal(mesh_metadata_get(initial, ECHO_INITIAL), "test_initial_metadata_value");
    assert_int_equal(mesh_metadata_count(initial), 1);
    assert_string_equal(mesh_metadata_at(trailers, 0, &value, &size), ECHO_TRAILING);
    assert_int_equal(size, 3);
    assert_memory_equal(value, "\xab\x00\xab", 3);
}

static void custom_metadata(void **state)
{
    struct rig *rig = *state;
    const char *const methods[] = {"Unary", "Collect", "Expand", "Chat"};
    struct mesh_metadata *metadata = echoed_metadata();

    for (size_t i = 0; i < 4; i++) {
        struct mesh_call_options options = {.metadata = metadata};
        struct mesh_stream *stream = open_stream(rig, methods[i], &options);

        assert_int_equal(write_bytes(stream, 271828), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        expect_end(stream, STATUS_OK);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);
    }
    mesh_metadata_destroy(&metadata);
}

static void status_code_and_message(void **state)
{
    static const char *const messages[] = {
        "test status message",
        /* special_status_message */
        "\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and non-BMP \xf0\x9f\x98\x88\t\n",
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < 2; i++) {
        echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
        struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
        struct status status;

        request.status_code = STATUS_UNKNOWN;
        request.status_message = (char *)messages[i];
        status = rig_unary(rig->channel, &request, NULL, NULL);
        assert_int_equal(status.code, STATUS_UNKNOWN);
        assert_string_equal(status.message, messages[i]);

        assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        rig_read_all(stream, &status);
        assert_int_equal(status.code, STATUS_UNKNOWN);
        assert_string_equal(status.message, messages[i]);
        mesh_stream_destroy(&stream);
    }
}

static void every_code_and_retry_delay(void **state)
{
    struct rig *rig = *state;

    for (uint32_t code = 1; code <= STATUS_UNAUTHENTICATED; code++) {
        echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
        struct status status;

        request.status_code = code;
        request.retry_delay_ms = 250;
        status = rig_unary(rig->channel, &request, NULL, NULL);
        assert_int_equal(status.code, code);
        assert_int_equal(status.retry_delay_ms,
                         code == STATUS_RESOURCE_EXHAUSTED || code == STATUS_UNAVAILABLE ? 250 : 0);
    }
}

static void unimplemented_method(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;

    mesh_unary(rig->channel, ECHO, "Missing", &request.base, NULL, &response, &status);
    assert_int_equal(status.code, STATUS_UNIMPLEMENTED);
    assert_non_null(strstr(status.message, "/dragoman.test.v1.Echo/Missing"));
    assert_int_equal(
        mesh_unary(rig->channel, ECHO, "NoSuch", &request.base, NULL, &response, &status), -EINVAL);
}

static void cancel_after_begin(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Collect", NULL);
    ProtobufCMessage *message = NULL;
    struct status status;

    assert_int_equal(write_bytes(stream, 10), 0);
    rig_wait(echo_counts.started == 1);
    mesh_stream_cancel(stream);
    assert_int_equal(mesh_stream_read(stream, &message, 0), -ENODATA);
    assert_true(mesh_stream_status(stream, &status));
    assert_int_equal(status.code, STATUS_CANCELLED);
    assert_int_equal(write_bytes(stream, 10), -EPIPE);
    rig_wait(echo_counts.ended == 1);
    assert_int_equal(echo_counts.cancelled, 1);
    mesh_stream_destroy(&stream);
}

static void cancel_before_begin(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    struct status status;

    mesh_stream_cancel(stream);
    expect_end(stream, STATUS_CANCELLED);
    assert_int_equal(write_bytes(stream, 1), -EPIPE);
    assert_true(mesh_stream_status(stream, &status));
    mesh_stream_destroy(&stream);
    assert_int_equal(echo_counts.started, 0);
}

static void cancel_after_first_response(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    struct status status;

    assert_int_equal(write_bytes(stream, 271828), 0);
    expect_bytes(stream, 271828);
    mesh_stream_cancel(stream);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_CANCELLED);
    mesh_stream_destroy(&stream);
    rig_wait(echo_counts.ended == 1);
}

static void timeout_on_sleeping_server(void **state)
{
    struct rig *rig = *state;
    struct mesh_call_options options = {.timeout_ms = 30};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    int64_t begun, took_ms;

    assert_int_equal(rig_unary(rig->channel, &request, NULL, NULL).code, STATUS_OK);
    request.until_cancelled = true;
    begun = clock_now_ns();
    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code,
                     STATUS_DEADLINE_EXCEEDED);
    took_ms = (clock_now_ns() - begun) / 1000000;
    assert_in_range(took_ms, 30, 2000); /* slow machines; I8's figures are a benchmark's */
    rig_wait(echo_counts.cancelled == 1);
    assert_int_equal(
        rig_unary(rig->channel, &(echo_request)DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT, NULL, NULL)
            .code,
        STATUS_OK);
}

static void negative_deadline(void **state)
{
    struct rig *rig = *state;
    struct mesh_call_options options = {.timeout_ms = -5};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code,
                     STATUS_DEADLINE_EXCEEDED);
}

struct soak {
    struct mesh_channel *channel;
    int n, failures;
    struct status last_failure;
};

static void *soak_large_unary(void *arg)
{
    struct soak *soak = arg;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t size = 31415;

    request.payload.len = 27182;
    request.payload.data = calloc(1, request.payload.len);
    request.n_sizes = 1;
    request.sizes = &size;
    for (int i = 0; i < soak->n; i++) {
        ProtobufCMessage *response = NULL;
        struct status status;

        mesh_unary(soak->channel, ECHO, "Unary", &request.base, NULL, &response, &status);
        if (status.code != STATUS_OK || ((echo_response *)response)->payload.len != size) {
            soak->failures++;
            soak->last_failure = status;
        }
        if (response)
            protobuf_c_message_free_unpacked(response, NULL);
    }
    free(request.payload.data);
    return NULL;
}

static void concurrent_large_unary(void **state)
{
    enum { THREADS = 16, CALLS = 60 };
    struct rig *rig = *state;
    struct soak soaks[THREADS];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        soaks[i] = (struct soak){.channel = rig->channel, .n = CALLS};
        assert_int_equal(pthread_create(&threads[i], NULL, soak_large_unary, &soaks[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        if (soaks[i].failures > 0)
            fail_msg("%d failures, the last: %s: %s", soaks[i].failures,
                     status_name(soaks[i].last_failure.code), soaks[i].last_failure.message);
    }
    assert_int_equal(echo_counts.ended, THREADS * CALLS);
    assert_true(echo_counts.most_running <= RIG_CAPACITY);
}

/* A sanitizer keeps what is freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_SLACK ((size_t)1 << 30)
#else
#define RSS_SLACK ((size_t)8 << 20)
#endif

static int count_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A connection of its own for each call leaves nothing behind. */
static void channel_soak(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    int fds = 0;

    for (int i = 0; i < 60; i++) {
        struct mesh_channel *channel = rig_channel(rig);

        assert_int_equal(rig_unary(channel, &request, NULL, NULL).code, STATUS_OK);
        mesh_channel_destroy(&channel);
        if (i == 10)
            fds = count_fds();
    }
    rig_wait(count_fds() <= fds + 8); /* libzmq closes on a thread of its own */
}

/* ---- flow control ---------------------------------------------------------------------------- */

static void writer_is_pushed_back(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Collect", NULL);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    static uint8_t payload[16384];
    int n = 0, err;
    size_t rss;

    request.payload = (ProtobufCBinaryData){.len = sizeof(payload), .data = payload};
    request.sleep_ms = 300; /* the reader sits on the first */
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    request.sleep_ms = 0;
    rig_wait(echo_counts.received == 1);
    rss = rig_rss_bytes();
    while ((err = mesh_stream_write(stream, &request.base, 50)) == 0)
        n++;
    assert_int_equal(err, -EAGAIN);
    assert_in_range(n, 2, 16);
    assert_int_equal(echo_counts.received, 1);
    for (int i = 0; i < 2000; i++) /* 32 MB through a window of at most 1 MiB */
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    assert_int_equal(((echo_response *)message)->messages, 2001 + n);
    protobuf_c_message_free_unpacked(message, NULL);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
    assert_in_range(rig_rss_bytes(), 0, rss + RSS_SLACK);
}

static void slow_consumer_stops_the_server(void **state)
{
    enum { ANSWERS = 500 };
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Expand", NULL);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t sizes[ANSWERS];
    struct status status;
    size_t rss;

    for (int i = 0; i < ANSWERS; i++)
        sizes[i] = 100000;
    request.n_sizes = ANSWERS;
    request.sizes = sizes;
    rss = rig_rss_bytes();
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    rig_wait(echo_counts.started == 1);
    rig_sleep_ms(100);
    assert_int_equal(echo_counts.ended, 0);
    assert_in_range(rig_rss_bytes(), 0, rss + RSS_SLACK); /* of 50 MB */
    assert_int_equal(rig_read_all(stream, &status), ANSWERS);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* data_frame_padding: many tiny messages leak no credit. */
static void tiny_messages(void **state)
{
    enum { ANSWERS = 20000 };
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Expand", NULL);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t *sizes = malloc(ANSWERS * sizeof(*sizes));
    struct status status;

    for (int i = 0; i < ANSWERS; i++)
        sizes[i] = i % 6;
    request.n_sizes = ANSWERS;
    request.sizes = sizes;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), ANSWERS);
    assert_int_equal(status.code, STATUS_OK);
    free(sizes);
    mesh_stream_destroy(&stream);
}

static void too_large(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t size = (32u << 20) + 1;
    struct status status;

    assert_int_equal(write_bytes(stream, size), -EMSGSIZE);
    assert_int_equal(write_bytes(stream, 10), 0); /* the call goes on */
    expect_bytes(stream, 10);
    mesh_stream_destroy(&stream);
    request.n_sizes = 1;
    request.sizes = &size;
    status = rig_unary(rig->channel, &request, NULL, NULL);
    assert_int_equal(status.code, STATUS_RESOURCE_EXHAUSTED);
}

/* ---- selectors, health, asynchronous calls --------------------------------------------------- */

static void selector_finds_or_not(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.selector = "lang=pt"};

    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code, STATUS_OK);
    options.selector = "lang=xx";
    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code, STATUS_UNAVAILABLE);
    options.selector = "lang";
    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code,
                     STATUS_INVALID_ARGUMENT);
}

struct burst {
    struct mesh_channel *channel;
    atomic_int left, ok, ended;
};

static void burst_next(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct burst *burst = arg;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    if (status) {
        atomic_fetch_add(&burst->ok, status->code == STATUS_OK && response);
        if (response)
            protobuf_c_message_free_unpacked(response, NULL);
        atomic_fetch_add(&burst->ended, 1);
    }
    if (atomic_fetch_sub(&burst->left, 1) > 0)
        assert_int_equal(
            mesh_unary_start(burst->channel, ECHO, "Unary", &request.base, NULL, burst_next, burst),
            0);
}

static void quick_calls(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_metadata *metadata = echoed_metadata();
    struct mesh_call_options options = {.metadata = metadata};

    for (int i = 0; i < 3; i++) {
        struct mesh_stream *stream = open_stream(rig, "Quick", &options);

        request.status_code = i == 2 ? STATUS_ABORTED : 0;
        if (i == 1) { /* without a message in OPEN it is no quick one */
            ProtobufCMessage *message = NULL;

            assert_int_equal(mesh_stream_read(stream, &message, 0), -EAGAIN);
        }
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        expect_end(stream, (enum status_code)request.status_code);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);
    }
    mesh_metadata_destroy(&metadata);
}

static void calls_without_a_waiting_thread(void **state)
{
    enum { CALLS = 5000, AT_ONCE = 64 };
    struct rig *rig = *state;
    struct burst burst = {.channel = rig->channel};

    atomic_init(&burst.left, CALLS);
    for (int i = 0; i < AT_ONCE; i++)
        burst_next(&burst, NULL, NULL);
    rig_wait(burst.ended == CALLS);
    assert_int_equal(burst.ok, CALLS);
}

static void count_event(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void events_wake_a_loop(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);
    ProtobufCMessage *message = NULL;
    atomic_int events;
    int err, seen = 0;

    atomic_init(&events, 0);
    mesh_stream_on_event(stream, count_event, &events);
    assert_int_equal(mesh_stream_read(stream, &message, 0), -EAGAIN);
    rig_wait(events > 0); /* accepted: writes may go on */
    for (int i = 0; i < 10; i++) {
        seen = events;
        while ((err = write_bytes(stream, 100)) == -EAGAIN)
            rig_sleep_ms(1);
        assert_int_equal(err, 0);
        rig_wait(events > seen);
        while ((err = mesh_stream_read(stream, &message, 0)) == -EAGAIN)
            rig_sleep_ms(1);
        assert_int_equal(err, 0);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    seen = events;
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_wait(events > seen);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* ---- the other end goes ---------------------------------------------------------------------- */

static void server_gone_is_unavailable(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Chat", NULL);

    assert_int_equal(write_bytes(stream, 10), 0);
    expect_bytes(stream, 10);
    mesh_server_destroy(&rig->server);
    expect_end(stream, STATUS_UNAVAILABLE);
    mesh_stream_destroy(&stream);
    assert_int_equal(echo_counts.ended, 1);
}

static void channel_comes_back(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.wait_for_ready = true, .timeout_ms = 10000};

    assert_int_equal(rig_unary(rig->channel, &request, NULL, NULL).code, STATUS_OK);
    mesh_server_destroy(&rig->server);
    rig_wait(rig->broker || !mesh_channel_connected(rig->channel));
    rig_start_server(rig);
    assert_int_equal(rig_unary(rig->channel, &request, &options, NULL).code, STATUS_OK);
}

static void caller_gone_cancels(void **state)
{
    struct rig *rig = *state;
    struct mesh_channel *other = rig_channel(rig);
    struct mesh_stream *stream = NULL;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.until_cancelled = true;
    assert_int_equal(mesh_stream_open(other, ECHO, "Unary", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    rig_wait(echo_counts.started == 1);
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&other);
    rig_wait(echo_counts.cancelled == 1);
}

static void drain_finishes_what_runs(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = open_stream(rig, "Unary", NULL);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    request.sleep_ms = 200;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_wait(echo_counts.started == 1);
    assert_int_equal(mesh_server_drain(rig->server, 10), -ETIMEDOUT);
    assert_false(mesh_server_ready(rig->server));
    assert_int_equal(mesh_server_drain(rig->server, 5000), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
    assert_int_equal(echo_counts.ended, 1);
    request.sleep_ms = 0;
    assert_int_equal(rig_unary(rig->channel, &request, NULL, NULL).code, STATUS_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_unary),
        cmocka_unit_test(large_unary),
        cmocka_unit_test(compressed_unary),
        cmocka_unit_test(client_streaming),
        cmocka_unit_test(client_compressed_streaming),
        cmocka_unit_test(server_streaming),
        cmocka_unit_test(server_compressed_streaming),
        cmocka_unit_test(ping_pong),
        cmocka_unit_test(empty_stream),
        cmocka_unit_test(half_duplex),
        cmocka_unit_test(custom_metadata),
        cmocka_unit_test(status_code_and_message),
        cmocka_unit_test(every_code_and_retry_delay),
        cmocka_unit_test(unimplemented_method),
        cmocka_unit_test(cancel_after_begin),
        cmocka_unit_test(cancel_before_begin),
        cmocka_unit_test(cancel_after_first_response),
        cmocka_unit_test(timeout_on_sleeping_server),
        cmocka_unit_test(negative_deadline),
        cmocka_unit_test(concurrent_large_unary),
        cmocka_unit_test(channel_soak),
        cmocka_unit_test(writer_is_pushed_back),
        cmocka_unit_test(slow_consumer_stops_the_server),
        cmocka_unit_test(tiny_messages),
        cmocka_unit_test(too_large),
        cmocka_unit_test(selector_finds_or_not),
        cmocka_unit_test(quick_calls),
        cmocka_unit_test(calls_without_a_waiting_thread),
        cmocka_unit_test(events_wake_a_loop),
        cmocka_unit_test(server_gone_is_unavailable),
        cmocka_unit_test(channel_comes_back),
        cmocka_unit_test(caller_gone_cancels),
        cmocka_unit_test(drain_finishes_what_runs),
    };

    return rig_run("calls", tests, sizeof(tests) / sizeof(tests[0]));
}
