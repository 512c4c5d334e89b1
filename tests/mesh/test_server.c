/* The answerer's side: interceptors around handlers, cancellation as a descriptor, load, deaf handlers. */
#include "tests/mesh/raw.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/trace.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zmq.h>

#define ENDPOINT "inproc://server"
#define MS INT64_C(1000000)
#define NOTES 64

static void *context;
static struct mesh_server *server;
static struct mesh_channel *channel;

/* ---- a witness ------------------------------------------------------------------------------- */

struct witness {
    pthread_mutex_t lock;
    size_t n;
    char notes[NOTES][64];
    bool refuse;
    char trace_id[TRACE_ID_TEXT], metadata[32], tenant[32];
    int64_t left_ns;
};

__attribute__((format(printf, 2, 3))) static void note(struct witness *witness, const char *fmt,
                                                       ...)
{
    va_list args;

    va_start(args, fmt);
    pthread_mutex_lock(&witness->lock);
    assert_true(witness->n < NOTES);
    vsnprintf(witness->notes[witness->n++], sizeof(witness->notes[0]), fmt, args);
    pthread_mutex_unlock(&witness->lock);
    va_end(args);
}

static bool on_start(void *arg, void **state, struct mesh_intercepted *call, struct status *refusal)
{
    struct witness *witness = arg;
    const char *value = mesh_metadata_get(call->metadata, "x-token");

    assert_null(*state);
    assert_int_equal(call->method->side, MESH_ANSWERER);
    *state = witness;
    note(witness, "start %s", call->method->path);
    trace_id_format((const struct trace_context *)call->traceparent, witness->trace_id);
    snprintf(witness->metadata, sizeof(witness->metadata), "%s", value ? value : "");
    snprintf(witness->tenant, sizeof(witness->tenant), "%s", call->tenant ? call->tenant : "");
    witness->left_ns = call->deadline_ns - call->begun_ns;
    if (witness->refuse)
        status_set(refusal, STATUS_UNAUTHENTICATED, "a token, please");
    return !witness->refuse;
}

static void on_message(void *arg, void **state, const struct mesh_intercepted *call,
                       enum mesh_direction direction, size_t bytes)
{
    (void)call;
    assert_ptr_equal(*state, arg);
    note(arg, "%s %zu", direction == MESH_OUTBOUND ? "out" : "in", bytes);
}

static void on_end(void *arg, void **state, const struct mesh_intercepted *call,
                   const struct status *status, int64_t now_ns)
{
    assert_ptr_equal(*state, arg);
    assert_true(now_ns >= call->begun_ns);
    note(arg, "end %s", status_name(status->code));
}

static struct witness first, second;
static const struct mesh_interceptor first_one = {
    .name = "first", .context = &first, .start = on_start, .message = on_message, .end = on_end};
static const struct mesh_interceptor second_one = {
    .name = "second", .context = &second, .start = on_start, .message = on_message, .end = on_end};
static const struct mesh_interceptor *const both[] = {&first_one, &second_one};

static size_t notes_of(struct witness *witness)
{
    size_t n;

    pthread_mutex_lock(&witness->lock);
    n = witness->n;
    pthread_mutex_unlock(&witness->lock);
    return n;
}

static void saw(struct witness *witness, const char *want)
{
    char text[NOTES * 65] = "";

    pthread_mutex_lock(&witness->lock);
    for (size_t i = 0; i < witness->n; i++) {
        strcat(text, i ? ", " : "");
        strcat(text, witness->notes[i]);
    }
    pthread_mutex_unlock(&witness->lock);
    assert_string_equal(text, want);
}

/* ---- a server -------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct mesh_server_options options = {.endpoint = ENDPOINT,
                                          .bind = true,
                                          .capacity = 4,
                                          .interceptors = both,
                                          .n_interceptors = 2};
    struct mesh_channel_options to = {.endpoint = ENDPOINT};

    (void)state;
    first = second = (struct witness){.lock = PTHREAD_MUTEX_INITIALIZER};
    options.context = to.context = context = zmq_ctx_new();
    echo_reset();
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    assert_int_equal(mesh_channel_create(&to, &channel), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    mesh_server_destroy(&server);
    zmq_ctx_term(context);
    return 0;
}

static echo_request request_of(size_t size)
{
    static uint8_t bytes[100];
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.payload.data = bytes;
    request.payload.len = size;
    return request;
}

/* ---- interceptors ---------------------------------------------------------------------------- */

static void they_see_a_unary_call(void **state)
{
    static const char trace_id[] = "0123456789abcdef0123456789abcdef";
    struct mesh_call_options options = {.timeout_ms = 5000, .trace_id = trace_id, .tenant = "gold"};
    struct mesh_metadata *metadata = NULL;
    echo_request request = request_of(10);

    (void)state;
    assert_int_equal(mesh_metadata_add_text(&metadata, "x-token", "sesame"), 0);
    options.metadata = metadata;
    assert_int_equal(rig_unary(channel, &request, &options, NULL).code, STATUS_OK);
    saw(&first, "start /dragoman.test.v1.Echo/Unary, in 12, out 12, end OK");
    saw(&second, "start /dragoman.test.v1.Echo/Unary, in 12, out 12, end OK");
    assert_string_equal(first.trace_id, trace_id);
    assert_string_equal(first.metadata, "sesame");
    assert_string_equal(first.tenant, "gold");
    assert_in_range(first.left_ns, 4000 * MS, 5000 * MS);
    mesh_metadata_destroy(&metadata);
}

static void they_see_a_stream(void **state)
{
    struct mesh_stream *stream = NULL;
    echo_request request = request_of(10);
    ProtobufCMessage *response = NULL;
    struct status status;

    (void)state;
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", NULL, &stream), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mesh_stream_write(stream, &request.base, -1), 0);
        assert_int_equal(mesh_stream_read(stream, &response, -1), 0);
        protobuf_c_message_free_unpacked(response, NULL);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_read_all(stream, &status);
    mesh_stream_destroy(&stream);
    saw(&first, "start /dragoman.test.v1.Echo/Chat, in 12, out 12, in 12, out 12, end OK");
}

/* Who agreed before hears how it ended; the handler never runs. */
static void one_may_refuse(void **state)
{
    echo_request request = request_of(10);
    struct status status;

    (void)state;
    second.refuse = true;
    status = rig_unary(channel, &request, NULL, NULL);
    assert_int_equal(status.code, STATUS_UNAUTHENTICATED);
    assert_string_equal(status.message, "a token, please");
    saw(&first, "start /dragoman.test.v1.Echo/Unary, end UNAUTHENTICATED");
    saw(&second, "start /dragoman.test.v1.Echo/Unary");
    assert_int_equal(atomic_load(&echo_counts.started), 0);
}

static void they_hear_of_failure_and_cancellation(void **state)
{
    struct mesh_call_options options = {.timeout_ms = 30};
    echo_request request = request_of(0);

    (void)state;
    request.status_code = STATUS_NOT_FOUND;
    request.status_message = (char *)"nothing";
    assert_int_equal(rig_unary(channel, &request, NULL, NULL).code, STATUS_NOT_FOUND);
    request = request_of(0);
    request.until_cancelled = true;
    assert_int_equal(rig_unary(channel, &request, &options, NULL).code, STATUS_DEADLINE_EXCEEDED);
    rig_wait(atomic_load(&echo_counts.ended) == 2);
    rig_wait(notes_of(&first) == 6);
    assert_string_equal(first.notes[2], "end NOT_FOUND");
    assert_string_equal(first.notes[5], "end DEADLINE_EXCEEDED");
}

/* ---- cancellation as a descriptor ------------------------------------------------------------ */

static atomic_llong woken_ns;
static atomic_int waiting, made_late;

static void wait_for_cancel(Dragoman__Test__V1__Echo_Service *service, const echo_request *request,
                            Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    struct pollfd fd = {.fd = mesh_call_cancel_fd(call), .events = POLLIN};

    (void)service;
    (void)request;
    assert_true(fd.fd >= 0);
    assert_int_equal(mesh_call_cancel_fd(call), fd.fd); /* one a call */
    atomic_fetch_add(&waiting, 1);
    assert_int_equal(poll(&fd, 1, 10000), 1);
    assert_true(mesh_call_cancelled(call));
    atomic_store(&woken_ns, clock_now_ns());
    reply(NULL, call);
}

/* Asked for only when it is too late. */
static void look_late(Dragoman__Test__V1__Echo_Service *service, const echo_request *request,
                      Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    struct pollfd fd = {.events = POLLIN};

    (void)service;
    (void)request;
    atomic_fetch_add(&waiting, 1);
    while (!mesh_call_cancelled(call))
        rig_sleep_ms(1);
    rig_sleep_ms(20);
    fd.fd = mesh_call_cancel_fd(call);
    atomic_fetch_add(&made_late, poll(&fd, 1, 0) == 1);
    reply(NULL, call);
}

/* A status with details as large as the request says. */
static void fail_with_details(Dragoman__Test__V1__Echo_Service *service,
                              const echo_request *request,
                              Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    uint8_t *details = malloc(request->sleep_ms);

    (void)service;
    echo_fill(details, request->sleep_ms);
    assert_int_equal(mesh_call_set_details(call, "before", 6), 0);
    if (request->sleep_ms > MESH_DETAILS_MAX)
        assert_int_equal(mesh_call_set_details(call, details, request->sleep_ms), -EMSGSIZE);
    else
        assert_int_equal(mesh_call_set_details(call, details, request->sleep_ms), 0);
    mesh_call_fail(call, STATUS_FAILED_PRECONDITION, "see the details");
    reply(NULL, call);
    free(details);
}

static void sleep_on(Dragoman__Test__V1__Echo_Service *service, const echo_request *request,
                     Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)service;
    (void)request;
    atomic_fetch_add(&waiting, 1);
    rig_sleep_ms(5300);
    reply(NULL, call);
}

static Dragoman__Test__V1__Echo_Service by_descriptor;

static const enum mesh_kind own_kinds[] = {
    MESH_UNARY, MESH_CLIENT_STREAMING, MESH_SERVER_STREAMING, MESH_BIDI_STREAMING, MESH_UNARY,
    MESH_UNARY};

static int setup_own(void **state)
{
    struct mesh_server_options options = {.endpoint = ENDPOINT, .bind = true, .capacity = 4};
    struct mesh_channel_options to = {.endpoint = ENDPOINT};

    (void)state;
    atomic_store(&waiting, 0);
    dragoman__test__v1__echo__init(&by_descriptor, NULL);
    by_descriptor.unary = wait_for_cancel;
    by_descriptor.missing = look_late;
    by_descriptor.quick = sleep_on;
    by_descriptor.expand = fail_with_details;
    options.context = to.context = context = zmq_ctx_new();
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(mesh_server_add_service(server, &by_descriptor.base, own_kinds), 0);
    assert_int_equal(mesh_server_start(server), 0);
    assert_int_equal(mesh_channel_create(&to, &channel), 0);
    return 0;
}

static struct mesh_stream *start(const char *method, int64_t timeout_ms)
{
    struct mesh_call_options options = {.timeout_ms = timeout_ms};
    echo_request request = request_of(1);
    struct mesh_stream *stream = NULL;
    int before = atomic_load(&waiting);

    assert_int_equal(mesh_stream_open(channel, ECHO, method, &options, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, -1), 0);
    assert_int_equal(mesh_stream_finish(stream), 0);
    rig_wait(atomic_load(&waiting) > before);
    return stream;
}

static void a_cancel_wakes_who_polls(void **state)
{
    struct mesh_stream *stream;
    int64_t cancelled_ns;

    (void)state;
    for (int i = 0; i < 10; i++) {
        stream = start("Unary", 0);
        atomic_store(&woken_ns, 0);
        cancelled_ns = clock_now_ns();
        mesh_stream_cancel(stream);
        rig_wait(atomic_load(&woken_ns) != 0);
        assert_true(atomic_load(&woken_ns) >= cancelled_ns);
        mesh_stream_destroy(&stream);
    }
}

static void so_does_the_deadline(void **state)
{
    struct mesh_stream *stream = start("Unary", 50);

    (void)state;
    atomic_store(&woken_ns, 0);
    rig_wait(atomic_load(&woken_ns) != 0);
    mesh_stream_destroy(&stream);
}

static void one_made_late_is_readable_at_once(void **state)
{
    struct mesh_stream *stream = start("Missing", 0);

    (void)state;
    mesh_stream_cancel(stream);
    rig_wait(atomic_load(&made_late) == 1);
    mesh_stream_destroy(&stream);
}

/* ---- details --------------------------------------------------------------------------------- */

static void details_come_with_the_status(void **state)
{
    static const uint32_t sizes[] = {0, 1, 100, MESH_DETAILS_MAX, MESH_DETAILS_MAX + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t n = sizes[i];
        struct mesh_stream *stream = NULL;
        echo_request request = request_of(0);
        uint8_t want[MESH_DETAILS_MAX + 1];
        struct status status;
        const void *details;
        size_t size;

        request.sleep_ms = n;
        assert_int_equal(mesh_stream_open(channel, ECHO, "Expand", NULL, &stream), 0);
        assert_int_equal(mesh_stream_write(stream, &request.base, -1), 0);
        assert_int_equal(mesh_stream_finish(stream), 0);
        rig_read_all(stream, &status);
        assert_int_equal(status.code, STATUS_FAILED_PRECONDITION);
        assert_string_equal(status.message, "see the details");
        details = mesh_stream_details(stream, &size);
        if (n > MESH_DETAILS_MAX) {
            assert_int_equal(size, 6); /* too large ones change nothing */
            assert_memory_equal(details, "before", 6);
        } else {
            echo_fill(want, n);
            assert_int_equal(size, n);
            assert_true(n == 0 ? !details : memcmp(details, want, n) == 0);
        }
        mesh_stream_destroy(&stream);
    }
}

/* ---- handlers that do not listen ------------------------------------------------------------- */

static double deaf_handlers(void)
{
    struct buffer page;
    const char *at;
    double value = 0;

    buffer_init(&page, 1 << 20);
    assert_int_equal(metrics_render(&page), 0);
    assert_int_equal(buffer_append(&page, "", 1), 0);
    at = strstr((const char *)page.data, "\nmesh_cancel_ignored_total ");
    if (at)
        value = atof(strrchr(strtok((char *)at + 1, "\n"), ' '));
    buffer_fini(&page);
    return value;
}

static void a_deaf_handler_is_reported(void **state)
{
    struct mesh_stream *stream = start("Quick", 0);

    (void)state;
    assert_true(deaf_handlers() == 0);
    mesh_stream_cancel(stream);
    rig_sleep_ms(4500);
    assert_true(deaf_handlers() == 0);
    rig_wait(deaf_handlers() == 1);
    mesh_stream_destroy(&stream);
}

static int64_t processor_us(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000) +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* Nor does waiting for it at the end cost the processor's time. */
static void a_deaf_handler_is_waited_for_asleep(void **state)
{
    struct mesh_stream *stream = start("Quick", 0);
    int64_t before_us;

    (void)state;
    before_us = processor_us();
    mesh_server_destroy(&server);
    assert_in_range(processor_us() - before_us, 0, 500000); /* of five seconds */
    mesh_stream_destroy(&stream);
}

/* ---- load ------------------------------------------------------------------------------------ */

static struct raw broker;

static int setup_worker(void **state)
{
    struct mesh_server_options options = {.endpoint = ENDPOINT, .capacity = 4, .heartbeat_ms = 200};

    (void)state;
    options.context = context = zmq_ctx_new();
    echo_reset();
    raw_open(&broker, context, MESH_ROUTER, ENDPOINT);
    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    raw_greet(&broker, 200);
    raw_expect(&broker, MESH_REGISTER);
    raw_send(&broker, &(struct mesh_header){.kind = MESH_REGISTERED}, NULL, NULL);
    rig_wait(mesh_server_ready(server));
    return 0;
}

static int teardown_worker(void **state)
{
    (void)state;
    raw_close(&broker);
    mesh_server_destroy(&server);
    zmq_ctx_term(context);
    return 0;
}

/* The next frame; the session lives. */
static const struct mesh_frame *hear(int wait_ms)
{
    const struct mesh_frame *frame = raw_receive(&broker, wait_ms);

    if (frame && frame->header.kind == MESH_PING)
        raw_send(&broker,
                 &(struct mesh_header){.kind = MESH_PONG, .call_id = frame->header.call_id}, NULL,
                 NULL);
    return frame;
}

/* @return the load on the next frame of this kind; -1: none is said */
static float load_on(uint8_t kind)
{
    const struct mesh_frame *frame;
    mesh_meta *meta = NULL;
    float load;

    do
        frame = hear(2000);
    while (frame && frame->header.kind != kind);
    assert_non_null(frame);
    if (frame->header.meta_bytes == 0)
        return -1;
    assert_int_equal(mesh_meta_unpack(frame, &meta), 0);
    load = meta->load;
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return load;
}

static void load_is_said_when_there_is_something_to_say(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    (void)state;
    assert_true(load_on(MESH_PING) == -1);
    raw_open_call(&broker, 1, "Unary", MESH_END_SEND, &request);
    assert_true(load_on(MESH_END) == -1);

    mesh_server_set_load(server, 0.75f);
    rig_sleep_ms(100);
    while (hear(1)) { /* PINGs of before */
    }
    assert_true(load_on(MESH_PING) == 0.75f);
    raw_open_call(&broker, 2, "Unary", MESH_END_SEND, &request);
    assert_true(load_on(MESH_END) == 0.75f);
    mesh_server_set_load(server, 7);
    raw_open_call(&broker, 3, "Unary", MESH_END_SEND, &request);
    assert_true(load_on(MESH_END) == 1);

    mesh_server_set_load(server, 0.1f); /* less than the calls that run */
    request.until_cancelled = true;
    for (uint64_t id = 4; id < 6; id++)
        raw_open_call(&broker, id, "Unary", MESH_END_SEND, &request);
    rig_wait(atomic_load(&echo_counts.running) == 2);
    request.until_cancelled = false;
    raw_open_call(&broker, 6, "Unary", MESH_END_SEND, &request);
    assert_true(load_on(MESH_END) == 0.5f);
}

static uint32_t registered_capacity(void)
{
    const struct mesh_frame *frame = raw_expect(&broker, MESH_REGISTER);
    ProtobufCMessage *body = NULL;
    uint32_t capacity;

    assert_int_equal(
        mesh_frame_unpack(frame, &dragoman__mesh__v1__register__descriptor, 65536, &body), 0);
    capacity = ((Dragoman__Mesh__V1__Register *)body)->capacity;
    protobuf_c_message_free_unpacked(body, NULL);
    return capacity;
}

/* Handlers that do not listen outlive their session: the next one is told of fewer slots until they end. */
static void slots_that_are_still_taken_are_not_offered(void **state)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    const struct mesh_frame *frame;

    (void)state;
    request.sleep_ms = 700;
    raw_open_call(&broker, 1, "Unary", MESH_END_SEND, &request);
    raw_open_call(&broker, 2, "Unary", MESH_END_SEND, &request);
    rig_wait(atomic_load(&echo_counts.running) == 2);
    raw_send(&broker, &(struct mesh_header){.kind = MESH_BYE}, NULL, NULL);
    raw_greet(&broker, 200);
    assert_int_equal(registered_capacity(), 2);
    raw_send(&broker, &(struct mesh_header){.kind = MESH_REGISTERED}, NULL, NULL);
    do {
        do
            frame = hear(3000);
        while (frame && frame->header.kind != MESH_CAPACITY);
        assert_non_null(frame);
    } while (frame->header.credit_messages < 4);
    assert_int_equal(frame->header.credit_messages, 4);
    assert_int_equal(atomic_load(&echo_counts.running), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_see_a_unary_call, setup, teardown),
        cmocka_unit_test_setup_teardown(they_see_a_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(one_may_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(they_hear_of_failure_and_cancellation, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancel_wakes_who_polls, setup_own, teardown),
        cmocka_unit_test_setup_teardown(so_does_the_deadline, setup_own, teardown),
        cmocka_unit_test_setup_teardown(one_made_late_is_readable_at_once, setup_own, teardown),
        cmocka_unit_test_setup_teardown(details_come_with_the_status, setup_own, teardown),
        cmocka_unit_test_setup_teardown(a_deaf_handler_is_reported, setup_own, teardown),
        cmocka_unit_test_setup_teardown(a_deaf_handler_is_waited_for_asleep, setup_own, teardown),
        cmocka_unit_test_setup_teardown(load_is_said_when_there_is_something_to_say, setup_worker,
                                        teardown_worker),
        cmocka_unit_test_setup_teardown(slots_that_are_still_taken_are_not_offered, setup_worker,
                                        teardown_worker),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
