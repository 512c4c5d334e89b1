/* What cases do: calls of TestService, and answers that must be right. */
#include "tests/mesh/interop/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000

payload_message *payload_new(size_t size, bool compressible)
{
    payload_message *payload = malloc(sizeof(*payload));

    dragoman__interop__v1__payload__init(payload);
    payload->body.len = size;
    payload->body.data = malloc(size + 1);
    interop_fill(payload->body.data, size, compressible);
    return payload;
}

void payload_free(payload_message *payload)
{
    if (payload)
        free(payload->body.data);
    free(payload);
}

static void expect_payload(const payload_message *payload, size_t size, bool compressible)
{
    payload_message *want = payload_new(size, compressible);

    assert_int_equal(payload ? payload->body.len : 0, size);
    if (size > 0)
        assert_memory_equal(payload->body.data, want->body.data, size);
    payload_free(want);
}

struct status unary(struct mesh_channel *channel, const simple_request *request,
                    const struct mesh_call_options *options, simple_response **response)
{
    const struct mesh_call_options patient = {.timeout_ms = PATIENCE_MS};
    ProtobufCMessage *message = NULL;
    struct status status;
    int err = mesh_unary(channel, TEST_SERVICE, "UnaryCall", &request->base,
                         options ? options : &patient, &message, &status);

    assert_int_equal(err == 0, status.code == STATUS_OK);
    assert_int_equal(err == 0, message != NULL);
    if (response)
        *response = (simple_response *)message;
    else if (message)
        protobuf_c_message_free_unpacked(message, NULL);
    return status;
}

uint32_t unary_ok(struct mesh_channel *channel, const simple_request *request,
                  const struct mesh_call_options *options)
{
    simple_response *response = NULL;
    struct status status = unary(channel, request, options, &response);
    uint32_t id;

    if (status.code != STATUS_OK)
        fail_msg("%s: %s", status_name(status.code), status.message);
    expect_payload(response->payload, request->response_size, request->response_compressible);
    assert_int_equal(response->secret, request->secret);
    if (request->payload)
        assert_int_equal(response->payload_crc,
                         mesh_crc32c(request->payload->body.data, request->payload->body.len));
    id = response->server_id;
    protobuf_c_message_free_unpacked(&response->base, NULL);
    return id;
}

enum status_code ping(struct mesh_channel *channel, const char *selector)
{
    struct mesh_call_options options = {.timeout_ms = PATIENCE_MS, .selector = selector};
    simple_request request = SIMPLE_REQUEST;

    return unary(channel, &request, &options, NULL).code;
}

struct mesh_stream *stream_open(struct mesh_channel *channel, const char *method,
                                const struct mesh_call_options *options)
{
    const struct mesh_call_options patient = {.timeout_ms = PATIENCE_MS};
    struct mesh_stream *stream = NULL;

    assert_int_equal(
        mesh_stream_open(channel, TEST_SERVICE, method, options ? options : &patient, &stream), 0);
    return stream;
}

struct mesh_stream *unary_open(struct mesh_channel *channel, const simple_request *request,
                               const struct mesh_call_options *options)
{
    struct mesh_stream *stream = stream_open(channel, "UnaryCall", options);

    assert_int_equal(mesh_stream_write(stream, &request->base, 0), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    return stream;
}

int stream_ask(struct mesh_stream *stream, uint32_t size, bool compressible, size_t payload)
{
    output_request request = OUTPUT_REQUEST;
    Dragoman__Interop__V1__ResponseParameters parameters =
        DRAGOMAN__INTEROP__V1__RESPONSE_PARAMETERS__INIT;
    Dragoman__Interop__V1__ResponseParameters *responses[] = {&parameters};
    int err;

    parameters.size = size;
    parameters.compressible = compressible;
    request.responses = responses;
    request.n_responses = 1;
    request.payload = payload_new(payload, compressible);
    err = mesh_stream_write(stream, &request.base, PATIENCE_MS);
    payload_free(request.payload);
    return err;
}

int stream_put(struct mesh_stream *stream, size_t size, bool compressible)
{
    Dragoman__Interop__V1__StreamingInputCallRequest request =
        DRAGOMAN__INTEROP__V1__STREAMING_INPUT_CALL_REQUEST__INIT;
    int err;

    request.payload = payload_new(size, compressible);
    err = mesh_stream_write(stream, &request.base, PATIENCE_MS);
    payload_free(request.payload);
    return err;
}

void stream_expect(struct mesh_stream *stream, uint32_t size, bool compressible)
{
    ProtobufCMessage *message = NULL;
    int err = mesh_stream_read(stream, &message, PATIENCE_MS);
    struct status status = {.code = STATUS_OK};

    if (err != 0) {
        mesh_stream_status(stream, &status);
        fail_msg("no answer (%s): %s: %s", strerror(-err), status_name(status.code),
                 status.message);
    }
    expect_payload(((output_response *)message)->payload, size, compressible);
    protobuf_c_message_free_unpacked(message, NULL);
}

struct status stream_end(struct mesh_stream *stream)
{
    ProtobufCMessage *message = NULL;
    struct status status;
    int err = mesh_stream_read(stream, &message, PATIENCE_MS);

    assert_int_equal(err, -ENODATA);
    assert_true(mesh_stream_status(stream, &status));
    return status;
}

void stream_expect_end(struct mesh_stream *stream, enum status_code code)
{
    struct status status = stream_end(stream);

    if (status.code != code)
        fail_msg("ended %s (%s), not %s", status_name(status.code), status.message,
                 status_name(code));
}

void raw_open_path(struct raw *raw, uint64_t call_id, const char *path, uint16_t flags,
                   const ProtobufCMessage *request)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .call_id = call_id,
        .flags = flags,
        .seq = request ? 1 : 0,
        .credit_messages = 16,
        .credit_bytes = 65536,
        .method_hash = mesh_method_hash(path, strlen(path)),
    };

    meta.method = (char *)path;
    raw_send(raw, &header, &meta, request);
}
