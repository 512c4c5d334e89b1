/* gRPC's interop cases, by their names: unary calls, streams, metadata, status, cancellation. */
#include "tests/mesh/interop/world.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void empty_unary(void **state)
{
    struct world *world = *state;
    const empty_message empty = DRAGOMAN__INTEROP__V1__EMPTY__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;
    struct raw *raw;

    assert_int_equal(mesh_unary(world->channel, TEST_SERVICE, "EmptyCall", &empty.base, NULL,
                                &response, &status),
                     0);
    protobuf_c_message_free_unpacked(response, NULL);
    raw = world_raw_caller(world); /* a body of no bytes is a body */
    raw_open_path(raw, 1, TEST_PATH("EmptyCall"), MESH_END_SEND, &empty.base);
    raw_expect_end(raw, 1, STATUS_OK);
    assert_true(raw->frame.header.flags & MESH_MESSAGE);
    assert_int_equal(raw->frame.header.body_bytes, 0);
    raw_close(raw);
}

/* Keeping answers is a gateway's matter; what a cache stands on is that equal requests to an
 * idempotent method have equal answers, byte by byte. */
static void cacheable_unary(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.idempotent = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    uint8_t *packed[2];
    size_t sizes[2];

    request.response_size = 3000;
    request.payload = payload_new(100, false);
    for (int i = 0; i < 2; i++) {
        ProtobufCMessage *response = NULL;
        struct status status;

        assert_int_equal(mesh_unary(world->channel, TEST_SERVICE, "CacheableUnaryCall",
                                    &request.base, &options, &response, &status),
                         0);
        packed[i] = malloc(protobuf_c_message_get_packed_size(response));
        sizes[i] = protobuf_c_message_pack(response, packed[i]);
        protobuf_c_message_free_unpacked(response, NULL);
    }
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(packed[0], packed[1], sizes[0]);
    free(packed[0]);
    free(packed[1]);
    payload_free(request.payload);
}

static void large_unary(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;

    request.response_size = 314159;
    request.payload = payload_new(271828, false);
    unary_ok(world->channel, &request, NULL);
    payload_free(request.payload);
}

/* A request as a raw caller packs it, lz4 or plain, or one that lies about it. */
static void send_compressed(struct raw *raw, uint64_t id, const simple_request *request, bool lz4,
                            bool lie)
{
    size_t size = protobuf_c_message_get_packed_size(&request->base);
    uint8_t *plain = malloc(size), *packed = malloc(size);
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = id,
        .seq = 1,
        .flags = MESH_END_SEND | (lz4 ? MESH_LZ4 : 0),
        .method_hash = mesh_method_hash(TEST_PATH("UnaryCall"), strlen(TEST_PATH("UnaryCall"))),
        .body_bytes = (uint32_t)size,
    };
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    uint8_t meta_bytes[128], first[MESH_HEADER_BYTES + sizeof(meta_bytes)];
    size_t sent = size;

    protobuf_c_message_pack(&request->base, plain);
    meta.method = (char *)TEST_PATH("UnaryCall");
    header.meta_bytes = (uint32_t)protobuf_c_message_pack(&meta.base, meta_bytes);
    header.flags |= MESH_MESSAGE;
    mesh_header_encode(&header, first);
    memcpy(first + MESH_HEADER_BYTES, meta_bytes, header.meta_bytes);
    if (lz4 && !lie) {
        sent = mesh_body_compress(plain, size, packed);
        assert_in_range(sent, 1, size - 1);
    }
    raw_send_bytes(raw, first, MESH_HEADER_BYTES + header.meta_bytes, lz4 && !lie ? packed : plain,
                   sent);
    free(plain);
    free(packed);
}

static void client_compressed_unary(void **state)
{
    struct world *world = *state;
    struct mesh_call_options compressed = {.compress = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    struct raw *raw;

    request.response_size = 314159;
    request.payload = payload_new(271828, true);
    raw = world_raw_caller(world);
    send_compressed(raw, 1, &request, true, true); /* says lz4, is none */
    raw_expect_end(raw, 1, STATUS_INTERNAL);
    request.response_size = 8;
    send_compressed(raw, 2, &request, true, false);
    raw_expect_end(raw, 2, STATUS_OK);
    send_compressed(raw, 3, &request, false, false);
    raw_expect_end(raw, 3, STATUS_OK);
    raw_close(raw);
    request.response_size = 314159;
    unary_ok(world->channel, &request, &compressed);
    unary_ok(world->channel, &request, NULL);
    payload_free(request.payload);
    request.payload = payload_new(271828, false); /* does not shrink */
    unary_ok(world->channel, &request, &compressed);
    payload_free(request.payload);
}

/* An answer is lz4 if the caller said that it may be and it shrinks. */
static void server_compressed_unary(void **state)
{
    struct world *world = *state;
    struct mesh_call_options compressed = {.compress = true, .timeout_ms = 20000};
    simple_request request = SIMPLE_REQUEST;
    struct raw *raw;

    request.response_size = 314159;
    raw = world_raw_caller(world);
    for (uint64_t id = 1; id <= 4; id++) {
        bool asked = id & 1, shrinks = id > 2;
        uint16_t flags = MESH_END_SEND | (asked ? MESH_COMPRESS : 0);

        request.response_compressible = shrinks;
        raw_open_path(raw, id, TEST_PATH("UnaryCall"), flags, &request.base);
        raw_expect_end(raw, id, STATUS_OK);
        assert_int_equal(!!(raw->frame.header.flags & MESH_LZ4), asked && shrinks);
        unary_ok(world->channel, &request, asked ? &compressed : NULL);
    }
    raw_close(raw);
}

static void sum_of_inputs(struct world *world, const struct mesh_call_options *options,
                          const uint32_t *sizes, size_t n, uint32_t sum)
{
    struct mesh_stream *stream = stream_open(world->channel, "StreamingInputCall", options);
    const Dragoman__Interop__V1__StreamingInputCallResponse *response;
    ProtobufCMessage *message = NULL;
    uint32_t crc = 0;

    for (size_t i = 0; i < n; i++) { /* one shrinks, the next does not */
        payload_message *payload = payload_new(sizes[i], i % 2 == 0);

        assert_int_equal(stream_put(stream, sizes[i], i % 2 == 0), 0);
        crc = 31 * crc + mesh_crc32c(payload->body.data, payload->body.len);
        payload_free(payload);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(mesh_stream_read(stream, &message, 20000), 0);
    response = (const Dragoman__Interop__V1__StreamingInputCallResponse *)message;
    assert_int_equal(world->workers[0].received, n);
    assert_int_equal(response->aggregated_payload_size, sum);
    assert_int_equal(response->payload_crc, crc);
    protobuf_c_message_free_unpacked(message, NULL);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void client_streaming(void **state)
{
    sum_of_inputs(*state, NULL, (const uint32_t[]){27182, 8, 1828, 45904}, 4, 74922);
}

static void client_compressed_streaming(void **state)
{
    struct mesh_call_options options = {.compress = true, .timeout_ms = 20000};

    sum_of_inputs(*state, &options, (const uint32_t[]){27182, 45904}, 2, 73086);
}

/* Ask for answers of these sizes, that shrink or not, and get them in this order. */
static void outputs(struct world *world, const struct mesh_call_options *options,
                    const uint32_t *sizes, const bool *shrinks, size_t n)
{
    struct mesh_stream *stream = stream_open(world->channel, "StreamingOutputCall", options);
    output_request request = OUTPUT_REQUEST;
    Dragoman__Interop__V1__ResponseParameters parameters[4], *responses[4];

    for (size_t i = 0; i < n; i++) {
        dragoman__interop__v1__response_parameters__init(&parameters[i]);
        parameters[i].size = sizes[i];
        parameters[i].compressible = shrinks[i];
        responses[i] = &parameters[i];
    }
    request.responses = responses;
    request.n_responses = n;
    assert_int_equal(mesh_stream_write(stream, &request.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    for (size_t i = 0; i < n; i++)
        stream_expect(stream, sizes[i], shrinks[i]);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void server_streaming(void **state)
{
    outputs(*state, NULL, (const uint32_t[]){31415, 9, 2653, 58979}, (const bool[4]){false}, 4);
}

static void server_compressed_streaming(void **state)
{
    struct world *world = *state;
    struct mesh_call_options options = {.compress = true, .timeout_ms = 20000};
    output_request request = OUTPUT_REQUEST;
    Dragoman__Interop__V1__ResponseParameters parameters[2], *responses[2];
    struct raw *raw;

    outputs(world, &options, (const uint32_t[]){31415, 92653}, (const bool[]){true, false}, 2);
    for (int i = 0; i < 2; i++) { /* and so it is on the wire */
        dragoman__interop__v1__response_parameters__init(&parameters[i]);
        parameters[i].size = i == 0 ? 31415 : 92653;
        parameters[i].compressible = i == 0;
        responses[i] = &parameters[i];
    }
    request.responses = responses;
    request.n_responses = 2;
    raw = world_raw_caller(world);
    raw_open_path(raw, 1, TEST_PATH("StreamingOutputCall"), MESH_END_SEND | MESH_COMPRESS,
                  &request.base);
    assert_true(raw_expect(raw, MESH_DATA)->header.flags & MESH_LZ4);
    assert_false(raw_expect(raw, MESH_DATA)->header.flags & MESH_LZ4);
    raw_expect_end(raw, 1, STATUS_OK);
    raw_close(raw);
}

static void ping_pong(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);
    const uint32_t answers[] = {31415, 9, 2653, 58979}, asked[] = {27182, 8, 1828, 45904};

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(stream_ask(stream, answers[i], false, asked[i]), 0);
        stream_expect(stream, answers[i], false);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void empty_stream(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);

    assert_int_equal(mesh_stream_finish(stream), 0);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void half_duplex(void **state)
{
    struct world *world = *state;
    struct mesh_stream *stream = stream_open(world->channel, "HalfDuplexCall", NULL);
    const uint32_t sizes[] = {31415, 9, 0, 2653, 58979};
    ProtobufCMessage *message = NULL;

    for (size_t i = 0; i < 5; i++)
        assert_int_equal(stream_ask(stream, sizes[i], false, 10), 0);
    rig_wait(world->workers[0].received == 5);
    assert_int_equal(mesh_stream_read(stream, &message, 20), -EAGAIN); /* not before the last */
    assert_int_equal(mesh_stream_finish(stream), 0);
    for (size_t i = 0; i < 5; i++)
        stream_expect(stream, sizes[i], false);
    stream_expect_end(stream, STATUS_OK);
    mesh_stream_destroy(&stream);
}

/* ---- metadata and status --------------------------------------------------------------------- */

static void expect_echoed(struct mesh_stream *stream)
{
    const struct mesh_metadata *initial = mesh_stream_initial_metadata(stream);
    const struct mesh_metadata *trailers = mesh_stream_trailers(stream);
    const void *value;
    size_t size;

    assert_int_equal(mesh_metadata_count(initial), 1);
    assert_string_equal(mesh_metadata_get(initial, INTEROP_INITIAL), "test_initial_metadata_value");
    assert_int_equal(mesh_metadata_count(trailers), 1);
    assert_string_equal(mesh_metadata_at(trailers, 0, &value, &size), INTEROP_TRAILING);
    assert_int_equal(size, 3);
    assert_memory_equal(value, "\xab\x00\xab", 3);
}

static void custom_metadata(void **state)
{
    struct world *world = *state;
    struct mesh_metadata *metadata = NULL;
    simple_request request = SIMPLE_REQUEST;

    mesh_metadata_add_text(&metadata, INTEROP_INITIAL, "test_initial_metadata_value");
    mesh_metadata_add(&metadata, INTEROP_TRAILING, "\xab\x00\xab", 3);
    request.response_size = 314159;
    request.payload = payload_new(271828, true);
    for (int compress = 0; compress < 2; compress++) {
        struct mesh_call_options options = {
            .metadata = metadata, .compress = compress, .timeout_ms = 20000};
        struct mesh_stream *stream = unary_open(world->channel, &request, &options);
        ProtobufCMessage *message = NULL;

        assert_int_equal(mesh_stream_read(stream, &message, 20000), 0);
        protobuf_c_message_free_unpacked(message, NULL);
        stream_expect_end(stream, STATUS_OK);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);

        stream = stream_open(world->channel, "FullDuplexCall", &options);
        assert_int_equal(stream_ask(stream, 314159, true, 271828), 0);
        stream_expect(stream, 314159, true);
        assert_int_equal(mesh_stream_finish(stream), 0);
        stream_expect_end(stream, STATUS_OK);
        expect_echoed(stream);
        mesh_stream_destroy(&stream);
    }
    payload_free(request.payload);
    mesh_metadata_destroy(&metadata);
}

static void expect_message(struct status status, const char *message)
{
    assert_int_equal(status.code, STATUS_UNKNOWN);
    assert_string_equal(status.message, message);
}

static void status_of_both_kinds(struct world *world, const char *message)
{
    Dragoman__Interop__V1__EchoStatus wanted = DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT;
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);
    output_request streamed = OUTPUT_REQUEST;
    simple_request request = SIMPLE_REQUEST;

    wanted.code = STATUS_UNKNOWN;
    wanted.message = (char *)message;
    request.response_status = streamed.response_status = &wanted;
    expect_message(unary(world->channel, &request, NULL, NULL), message);
    assert_int_equal(mesh_stream_write(stream, &streamed.base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    expect_message(stream_end(stream), message);
    mesh_stream_destroy(&stream);
}

static void status_code_and_message(void **state)
{
    status_of_both_kinds(*state, "test status message");
}

static void special_status_message(void **state)
{
    status_of_both_kinds(*state, "\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and "
                                 "non-BMP \xf0\x9f\x98\x88\t\n");
}

static struct status call_unimplemented(struct world *world,
                                        const ProtobufCServiceDescriptor *service)
{
    const empty_message empty = DRAGOMAN__INTEROP__V1__EMPTY__INIT;
    ProtobufCMessage *response = NULL;
    struct status status;

    assert_int_equal(mesh_unary(world->channel, service, "UnimplementedCall", &empty.base, NULL,
                                &response, &status),
                     -EREMOTEIO);
    return status;
}

static void unimplemented_method(void **state)
{
    struct world *world = *state;
    const empty_message empty = DRAGOMAN__INTEROP__V1__EMPTY__INIT;
    ProtobufCMessage *response = NULL;
    struct status status = call_unimplemented(world, TEST_SERVICE);

    assert_int_equal(status.code, STATUS_UNIMPLEMENTED);
    assert_non_null(strstr(status.message, TEST_PATH("UnimplementedCall")));
    assert_int_equal(mesh_unary(world->channel, TEST_SERVICE, "NoSuchCall", &empty.base, NULL,
                                &response, &status),
                     -EINVAL); /* its caller cannot know it either */
}

static void unimplemented_service(void **state)
{
    struct world *world = *state;

    assert_int_equal(
        call_unimplemented(world, &dragoman__interop__v1__unimplemented_service__descriptor).code,
        STATUS_UNIMPLEMENTED);
    world_stop(world, 0); /* known, but nobody is there: not the same */
    assert_int_equal(ping(world->channel, NULL), STATUS_UNAVAILABLE);
}

/* ---- cancellation, deadlines ----------------------------------------------------------------- */

static void slot_is_back(struct world *world)
{
    struct mesh_stream *streams[WORLD_CAPACITY];

    for (int i = 0; i < WORLD_CAPACITY; i++) { /* all slots can be had at once */
        streams[i] = stream_open(world->channel, "FullDuplexCall", NULL);
        assert_int_equal(stream_ask(streams[i], 1, false, 0), 0);
    }
    for (int i = 0; i < WORLD_CAPACITY; i++)
        stream_expect(streams[i], 1, false);
    for (int i = 0; i < WORLD_CAPACITY; i++)
        mesh_stream_destroy(&streams[i]);
}

static void cancel_after_begin(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_stream *stream = stream_open(world->channel, "StreamingInputCall", NULL);
    ProtobufCMessage *message = NULL;

    assert_int_equal(stream_put(stream, 10, false), 0);
    rig_wait(worker->started == 1);
    mesh_stream_cancel(stream);
    assert_int_equal(mesh_stream_read(stream, &message, 0), -ENODATA); /* at once */
    stream_expect_end(stream, STATUS_CANCELLED);
    assert_int_equal(stream_put(stream, 10, false), -EPIPE);
    rig_wait(worker->ended == 1);
    assert_int_equal(worker->cancelled, 1);
    mesh_stream_destroy(&stream);
    slot_is_back(world);
}

static void cancel_after_first_response(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", NULL);

    assert_int_equal(stream_ask(stream, 31415, false, 27182), 0);
    stream_expect(stream, 31415, false);
    assert_int_equal(stream_ask(stream, 31415, false, 27182), 0); /* an answer that crosses */
    mesh_stream_cancel(stream);
    stream_expect_end(stream, STATUS_CANCELLED); /* none is delivered after it */
    mesh_stream_destroy(&stream);
    rig_wait(worker->ended == 1);
    slot_is_back(world);
}

static void a_blocking_call_times_out(struct world *world)
{
    struct mesh_call_options hasty = {.timeout_ms = 30};
    simple_request request = SIMPLE_REQUEST;
    int64_t begun = clock_now_ns();

    request.until_cancelled = true;
    assert_int_equal(unary(world->channel, &request, &hasty, NULL).code, STATUS_DEADLINE_EXCEEDED);
    assert_in_range((clock_now_ns() - begun) / 1000000, 30, 2000); /* slow machines */
    rig_wait(world->workers[0].running == 0);
    assert_int_equal(ping(world->channel, NULL), STATUS_OK);
}

static void timeout_on_sleeping_server(void **state)
{
    struct world *world = *state;
    struct interop_worker *worker = &world->workers[0];
    struct mesh_call_options hasty = {.timeout_ms = 1};
    struct mesh_stream *stream = stream_open(world->channel, "FullDuplexCall", &hasty);
    int64_t begun = clock_now_ns();

    if (stream_ask(stream, 1, false, 27182) == 0)
        rig_sleep_ms(2);
    while (!mesh_stream_status(stream, &(struct status){0}))
        rig_sleep_ms(1);
    assert_true(clock_now_ns() - begun >= 1000000);
    assert_int_equal(clock_now_ns() - begun < 5000000000, true);
    mesh_stream_destroy(&stream);
    stream = stream_open(world->channel, "FullDuplexCall",
                         &(struct mesh_call_options){.timeout_ms = 150});
    assert_int_equal(stream_ask(stream, 1, false, 1), 0);
    stream_expect(stream, 1, false); /* it runs, and is told */
    stream_expect_end(stream, STATUS_DEADLINE_EXCEEDED);
    rig_wait(worker->cancelled >= 1 && worker->running == 0);
    mesh_stream_destroy(&stream);
    a_blocking_call_times_out(world);
    slot_is_back(world);
}

const struct interop_case core_cases[] = {
    CASE(empty_unary, 0),
    CASE(cacheable_unary, 0),
    CASE(large_unary, 0),
    CASE(client_compressed_unary, 0),
    CASE(server_compressed_unary, 0),
    CASE(client_streaming, 0),
    CASE(client_compressed_streaming, 0),
    CASE(server_streaming, 0),
    CASE(server_compressed_streaming, 0),
    CASE(ping_pong, 0),
    CASE(empty_stream, 0),
    CASE(half_duplex, 0),
    CASE(custom_metadata, 0),
    CASE(status_code_and_message, 0),
    CASE(special_status_message, 0),
    CASE(unimplemented_method, 0),
    CASE(unimplemented_service, 0),
    CASE(cancel_after_begin, 0),
    CASE(cancel_after_first_response, 0),
    CASE(timeout_on_sleeping_server, 0),
    {NULL, NULL, 0},
};
