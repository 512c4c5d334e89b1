/* What comes with a unary answer besides its message: details of a status, metadata, in both forms of the call. */
#include "tests/mesh/interop/world.h"

#include "mesh/details.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef Dragoman__Interop__V1__EchoStatus echo_status;

#define ECHO_STATUS DRAGOMAN__INTEROP__V1__ECHO_STATUS__INIT
#define FORMS 2 /* mesh_unary(), mesh_unary_start() */

struct outcome {
    struct status status;
    ProtobufCMessage *response;
    struct mesh_answer_meta meta;
    atomic_bool over;
};

static void note(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct outcome *outcome = arg;

    outcome->status = *status;
    outcome->response = response;
    atomic_store(&outcome->over, true);
}

/* By one of the two forms. What is in `meta` before does not matter. */
static void begin(struct mesh_channel *channel, const ProtobufCServiceDescriptor *service,
                  const char *method, const ProtobufCMessage *request,
                  const struct mesh_metadata *metadata, struct outcome *out)
{
    struct mesh_call_options options = {
        .timeout_ms = 20000, .metadata = metadata, .answer_meta = &out->meta};

    memset(&out->meta, 0xa5, sizeof(out->meta));
    atomic_init(&out->over, false);
    assert_int_equal(mesh_unary_start(channel, service, method, request, &options, note, out), 0);
}

static void ask(struct world *world, int form, const simple_request *request,
                const struct mesh_metadata *metadata, struct outcome *out)
{
    struct mesh_call_options options = {
        .timeout_ms = 20000, .metadata = metadata, .answer_meta = &out->meta};

    if (form == 0) {
        memset(&out->meta, 0xa5, sizeof(out->meta));
        mesh_unary(world->channel, TEST_SERVICE, "UnaryCall", &request->base, &options,
                   &out->response, &out->status);
    } else {
        begin(world->channel, TEST_SERVICE, "UnaryCall", &request->base, metadata, out);
        rig_wait(atomic_load(&out->over));
    }
}

static void forget(struct outcome *outcome)
{
    if (outcome->response)
        protobuf_c_message_free_unpacked(outcome->response, NULL);
    mesh_answer_meta_fini(&outcome->meta);
    assert_null(outcome->meta.details);
}

static void expect_details(const struct outcome *outcome, const void *details, size_t size)
{
    assert_int_equal(outcome->meta.details_size, size);
    if (size == 0)
        assert_null(outcome->meta.details);
    else
        assert_memory_equal(outcome->meta.details, details, size);
}

static void status_details(void **state)
{
    static const size_t SIZES[] = {0, 1, 100, MESH_DETAILS_MAX};
    struct world *world = *state;
    uint8_t details[MESH_DETAILS_MAX];

    interop_fill(details, sizeof(details), false);
    details[0] = 0;
    for (size_t i = 0; i < FORMS * sizeof(SIZES) / sizeof(SIZES[0]); i++) {
        simple_request request = SIMPLE_REQUEST;
        echo_status wanted = ECHO_STATUS;
        struct outcome outcome;

        wanted.code = STATUS_FAILED_PRECONDITION;
        wanted.message = (char *)"see the details";
        wanted.details.data = details;
        wanted.details.len = SIZES[i / FORMS];
        request.response_status = &wanted;
        ask(world, (int)(i % FORMS), &request, NULL, &outcome);
        assert_int_equal(outcome.status.code, STATUS_FAILED_PRECONDITION);
        assert_string_equal(outcome.status.message, "see the details");
        assert_null(outcome.response);
        expect_details(&outcome, details, SIZES[i / FORMS]);
        forget(&outcome);
    }
}

static void status_details_with_a_type(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;
    echo_status wanted = ECHO_STATUS;
    payload_message *payload = payload_new(300, false);

    wanted.code = STATUS_ABORTED;
    wanted.typed_details = payload;
    request.response_status = &wanted;
    for (int form = 0; form < FORMS; form++) {
        struct outcome outcome;
        struct mesh_details opened;
        payload_message *read;

        ask(world, form, &request, NULL, &outcome);
        assert_int_equal(outcome.status.code, STATUS_ABORTED);
        assert_int_equal(
            mesh_details_open(outcome.meta.details, outcome.meta.details_size, &opened), 0);
        assert_string_equal(opened.type, "dragoman.interop.v1.Payload");
        assert_null(mesh_details_read(outcome.meta.details, outcome.meta.details_size,
                                      &dragoman__interop__v1__empty__descriptor));
        read = (payload_message *)mesh_details_read(outcome.meta.details, outcome.meta.details_size,
                                                    payload->base.descriptor);
        assert_int_equal(read->body.len, 300);
        assert_memory_equal(read->body.data, payload->body.data, 300);
        protobuf_c_message_free_unpacked(&read->base, NULL);
        forget(&outcome);
    }
    payload_free(payload);
}

/* What the worker sends along comes with every answer, and details however many trailers there are. */
static void unary_metadata(void **state)
{
    struct world *world = *state;
    struct mesh_metadata *metadata = NULL;
    uint8_t trailer[3300], details[MESH_DETAILS_MAX];
    simple_request request = SIMPLE_REQUEST;
    echo_status wanted = ECHO_STATUS;

    interop_fill(trailer, sizeof(trailer), false);
    interop_fill(details, sizeof(details), false);
    mesh_metadata_add_text(&metadata, INTEROP_INITIAL, "hello");
    mesh_metadata_add(&metadata, INTEROP_TRAILING, trailer, sizeof(trailer));
    request.response_status = &wanted;
    wanted.details.data = details;
    wanted.details.len = sizeof(details);
    for (int i = 0; i < 2 * FORMS; i++) {
        bool fails = i >= FORMS;
        struct outcome outcome;
        const void *value;
        size_t size;

        wanted.code = fails ? STATUS_NOT_FOUND : STATUS_OK;
        ask(world, i % FORMS, &request, metadata, &outcome);
        assert_int_equal(outcome.status.code, wanted.code);
        assert_int_equal(outcome.response == NULL, fails);
        assert_int_equal(mesh_metadata_count(outcome.meta.initial), 1);
        assert_string_equal(mesh_metadata_get(outcome.meta.initial, INTEROP_INITIAL), "hello");
        assert_int_equal(mesh_metadata_count(outcome.meta.trailers), fails ? 2 : 1);
        assert_string_equal(mesh_metadata_at(outcome.meta.trailers, 0, &value, &size),
                            INTEROP_TRAILING);
        assert_int_equal(size, sizeof(trailer));
        assert_memory_equal(value, trailer, sizeof(trailer));
        expect_details(&outcome, details, fails ? sizeof(details) : 0);
        forget(&outcome);
    }
    mesh_metadata_destroy(&metadata);
}

/* A call that ends here, or never begins, has nothing with it. */
static void details_of_nobody(void **state)
{
    struct world *world = *state;
    simple_request request = SIMPLE_REQUEST;
    struct outcome outcome = {.response = NULL};
    struct mesh_call_options options = {.timeout_ms = 50, .answer_meta = &outcome.meta};
    struct mesh_stream *stream = NULL;

    request.until_cancelled = true;
    memset(&outcome.meta, 0xa5, sizeof(outcome.meta));
    assert_int_equal(unary(world->channel, &request, &options, NULL).code,
                     STATUS_DEADLINE_EXCEEDED);
    assert_null(outcome.meta.initial);
    assert_null(outcome.meta.trailers);
    expect_details(&outcome, NULL, 0);
    memset(&outcome.meta, 0xa5, sizeof(outcome.meta));
    options.selector = "none";
    assert_int_equal(mesh_unary_start(world->channel, TEST_SERVICE, "UnaryCall", &request.base,
                                      &options, note, &outcome),
                     -EINVAL);
    forget(&outcome);
    options.selector = NULL;
    assert_int_equal(mesh_stream_open(world->channel, TEST_SERVICE, "UnaryCall", &options, &stream),
                     -EINVAL);
}

/* ---- an answerer that says what no library would ---------------------------------------------- */

/* The END of an Echo call, with these bytes as its Meta. */
static void end_with(struct world *world, enum status_code code, const void *meta, size_t size,
                     struct outcome *out)
{
    const echo_request echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_header header = {
        .kind = MESH_END, .status = (uint16_t)code, .meta_bytes = (uint32_t)size};
    uint8_t *first = malloc(MESH_HEADER_BYTES + size);

    begin(world->channel, ECHO, "Unary", &echo.base, NULL, out);
    header.call_id = raw_expect(&world->raw, MESH_OPEN)->header.call_id;
    mesh_header_encode(&header, first);
    memcpy(first + MESH_HEADER_BYTES, meta, size);
    raw_send_bytes(&world->raw, first, MESH_HEADER_BYTES + size, NULL, 0);
    rig_wait(atomic_load(&out->over));
    free(first);
}

static void end_with_meta(struct world *world, enum status_code code, const mesh_meta *meta,
                          struct outcome *out)
{
    uint8_t packed[MESH_META_MAX];

    assert_in_range(protobuf_c_message_get_packed_size(&meta->base), 0, sizeof(packed));
    end_with(world, code, packed, protobuf_c_message_pack(&meta->base, packed), out);
}

static void expect_malformed(struct world *world, const char *meta, size_t size)
{
    struct outcome outcome;

    end_with(world, STATUS_ABORTED, meta, size, &outcome);
    assert_int_equal(outcome.status.code, STATUS_INTERNAL);
    assert_null(outcome.meta.trailers);
    expect_details(&outcome, NULL, 0);
    forget(&outcome);
}

static void broken_details(void **state)
{
    struct world *world = *state;

    world_raw_answerer(world);
    rig_wait(mesh_channel_connected(world->channel));
    expect_malformed(world,
                     "\x2a\x7f"
                     "abc",
                     5); /* longer than the Meta */
    expect_malformed(world,
                     "\x2a\xff\xff\xff\xff\x0f"
                     "abc",
                     9);                /* than 32 bits count */
    expect_malformed(world, "\x2a", 1); /* no length */
    expect_malformed(world,
                     "\x2a\x03"
                     "abc\x1a\x02\x0a",
                     8); /* a broken trailer behind */
}

/* As large as a Meta may be; more than any library sends. */
static void maximal_details(void **state)
{
    struct world *world = *state;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    uint8_t details[MESH_META_MAX - 3]; /* behind a tag and a length */
    struct outcome outcome;

    interop_fill(details, sizeof(details), false);
    meta.status_details = (ProtobufCBinaryData){sizeof(details), details};
    world_raw_answerer(world);
    rig_wait(mesh_channel_connected(world->channel));
    end_with_meta(world, STATUS_ABORTED, &meta, &outcome);
    assert_int_equal(outcome.status.code, STATUS_ABORTED);
    expect_details(&outcome, details, sizeof(details));
    forget(&outcome);
}

/* Details belong to an END that is not OK. */
static void details_in_the_wrong_place(void **state)
{
    struct world *world = *state;
    const echo_request echo = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header initial = {.kind = MESH_INITIAL, .status = STATUS_ABORTED};
    struct mesh_header end = {.kind = MESH_END, .status = STATUS_OK, .seq = 1};
    echo_response response = DRAGOMAN__TEST__V1__ECHO_RESPONSE__INIT;
    struct outcome outcome;
    struct raw *raw = world_raw_answerer(world);

    meta.status_details = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    rig_wait(mesh_channel_connected(world->channel));
    begin(world->channel, ECHO, "Unary", &echo.base, NULL, &outcome);
    initial.call_id = end.call_id = raw_expect(raw, MESH_OPEN)->header.call_id;
    raw_send(raw, &initial, &meta, NULL);
    raw_send(raw, &end, &meta, &response.base);
    rig_wait(atomic_load(&outcome.over));
    assert_int_equal(outcome.status.code, STATUS_OK);
    assert_non_null(outcome.response);
    assert_int_equal(mesh_metadata_count(outcome.meta.initial), 0);
    assert_int_equal(mesh_metadata_count(outcome.meta.trailers), 0);
    expect_details(&outcome, NULL, 0);
    forget(&outcome);
}

const struct interop_case details_cases[] = {
    CASE(status_details, 0),
    CASE(status_details_with_a_type, 0),
    CASE(unary_metadata, 0),
    CASE(details_of_nobody, 0),
    CASE(broken_details, BARE),
    CASE(maximal_details, BARE),
    CASE(details_in_the_wrong_place, BARE),
    {NULL, NULL, 0},
};
