/* What the mesh promises of calls besides gRPC's interop cases, which are in interop/: each over every transport,
 * directly and through a broker. */
#include "tests/mesh/rig.h"

#include <errno.h>
#include <stdlib.h>

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

/* Each size as it was written, in order: also a message of no bytes at all. */
static void a_stream_of_echoes(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = rig_stream_open(rig, "Chat", NULL);
    const size_t sizes[] = {1, 3000, 0, 70000, 12};

    for (size_t i = 0; i < 5; i++)
        assert_int_equal(write_bytes(stream, sizes[i]), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    for (size_t i = 0; i < 5; i++)
        expect_bytes(stream, sizes[i]);
    rig_expect_end(stream, STATUS_OK);
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

static void metadata_of_every_kind_of_call(void **state)
{
    struct rig *rig = *state;
    const char *const methods[] = {"Unary", "Collect", "Expand", "Chat"};
    struct mesh_metadata *metadata = echoed_metadata();

    for (size_t i = 0; i < 4; i++) {
        struct mesh_call_options options = {.metadata = metadata};
        struct mesh_stream *stream = rig_stream_open(rig, methods[i], &options);

        assert_int_equal(write_bytes(stream, 271828), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        rig_expect_end(stream, STATUS_OK);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);
    }
    mesh_metadata_destroy(&metadata);
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

/* Many leak no credit: as interop's data_frame_padding, and each sixth has no bytes at all. */
static void tiny_messages(void **state)
{
    enum { ANSWERS = 20000 };
    struct rig *rig = *state;
    struct mesh_stream *stream = rig_stream_open(rig, "Expand", NULL);
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
    struct mesh_stream *stream = rig_stream_open(rig, "Chat", NULL);
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

static void quick_calls(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_metadata *metadata = echoed_metadata();
    struct mesh_call_options options = {.metadata = metadata};

    for (int i = 0; i < 3; i++) {
        struct mesh_stream *stream = rig_stream_open(rig, "Quick", &options);

        request.status_code = i == 2 ? STATUS_ABORTED : 0;
        if (i == 1) { /* without a message in OPEN it is no quick one */
            ProtobufCMessage *message = NULL;

            assert_int_equal(mesh_stream_read(stream, &message, 0), -EAGAIN);
        }
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        rig_expect_end(stream, (enum status_code)request.status_code);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);
    }
    mesh_metadata_destroy(&metadata);
}

static void calls_without_a_waiting_thread(void **state)
{
    rig_burst(*state, 5000, 64);
}

static void count_event(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void events_wake_a_loop(void **state)
{
    struct rig *rig = *state;
    struct mesh_stream *stream = rig_stream_open(rig, "Chat", NULL);
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
    rig_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_echoes),
        cmocka_unit_test(metadata_of_every_kind_of_call),
        cmocka_unit_test(every_code_and_retry_delay),
        cmocka_unit_test(tiny_messages),
        cmocka_unit_test(too_large),
        cmocka_unit_test(selector_finds_or_not),
        cmocka_unit_test(quick_calls),
        cmocka_unit_test(calls_without_a_waiting_thread),
        cmocka_unit_test(events_wake_a_loop),
    };

    return rig_run("calls", tests, sizeof(tests) / sizeof(tests[0]));
}
