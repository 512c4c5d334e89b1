/* What runs around every call sees all of it, in order and once, and may refuse it. */
#include "tests/mesh/rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTES 256

/* What an interceptor saw: "start", "attempt 0", "out 12", "in 12", "attempt_end OK", "end OK". */
struct witness {
    pthread_mutex_t lock;
    size_t n;
    char notes[NOTES][48];
    bool refuse, add, trace;
};

static const uint8_t trace_id[16] = {0xab, 0xcd, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};

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

static bool on_start(void *context, void **state, struct mesh_intercepted *call,
                     struct status *refusal)
{
    struct witness *witness = context;

    assert_null(*state);
    *state = witness;
    note(witness, "start %s", call->method->path);
    if (witness->add)
        assert_int_equal(mesh_metadata_add_text(&call->added, ECHO_INITIAL, "added"), 0);
    if (witness->refuse)
        status_set(refusal, STATUS_UNAUTHENTICATED, "no token");
    return !witness->refuse;
}

static void on_attempt(void *context, void **state, struct mesh_intercepted *call)
{
    struct witness *witness = context;

    assert_ptr_equal(*state, witness);
    note(witness, "attempt %u", call->attempt);
    if (witness->trace)
        memcpy(call->traceparent, trace_id, sizeof(trace_id));
}

static void on_attempt_end(void *context, void **state, const struct mesh_intercepted *call,
                           const struct status *status, enum mesh_attempt_next next,
                           int64_t delay_ms)
{
    assert_ptr_equal(*state, context);
    assert_true(delay_ms >= 0);
    note(context, "attempt_end %u %s%s", call->attempt, status_name(status->code),
         next == MESH_LAST    ? ""
         : next == MESH_RETRY ? ", retry"
                              : ", resend");
}

static void on_message(void *context, void **state, const struct mesh_intercepted *call,
                       enum mesh_direction direction, size_t bytes)
{
    (void)call;
    assert_ptr_equal(*state, context);
    note(context, "%s %zu", direction == MESH_OUTBOUND ? "out" : "in", bytes);
}

static void on_end(void *context, void **state, const struct mesh_intercepted *call,
                   const struct status *status, int64_t now_ns)
{
    assert_ptr_equal(*state, context);
    assert_true(now_ns >= call->begun_ns);
    note(context, "end %s", status_name(status->code));
}

static struct mesh_interceptor witness_init(struct witness *witness)
{
    memset(witness, 0, sizeof(*witness));
    pthread_mutex_init(&witness->lock, NULL);
    return (struct mesh_interceptor){
        .name = "witness",
        .context = witness,
        .start = on_start,
        .attempt = on_attempt,
        .attempt_end = on_attempt_end,
        .message = on_message,
        .end = on_end,
    };
}

/* All notes, one a line. */
static const char *story(struct witness *witness)
{
    static char text[NOTES * 48];
    size_t at = 0;

    pthread_mutex_lock(&witness->lock);
    text[0] = '\0';
    for (size_t i = 0; i < witness->n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\n", witness->notes[i]);
    pthread_mutex_unlock(&witness->lock);
    return text;
}

static struct mesh_channel *watched(const struct rig *rig,
                                    const struct mesh_interceptor *const *list, size_t n)
{
    struct mesh_channel_options options = {.endpoint = rig->endpoint,
                                           .context = rig->context,
                                           .security = rig_security(rig),
                                           .interceptors = list,
                                           .n_interceptors = n};
    struct mesh_channel *channel = NULL;

    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    return channel;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void unary_is_seen(void **state)
{
    struct witness witness;
    struct mesh_interceptor one = witness_init(&witness);
    const struct mesh_interceptor *const list[] = {&one};
    struct mesh_channel *channel = watched(*state, list, 1);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t size = 100;

    request.n_sizes = 1;
    request.sizes = &size;
    assert_int_equal(rig_unary(channel, &request, NULL, NULL).code, STATUS_OK);
    assert_string_equal(story(&witness), "start /dragoman.test.v1.Echo/Unary\n"
                                         "out 3\n"
                                         "attempt 0\n"
                                         "in 102\n"
                                         "attempt_end 0 OK\n"
                                         "end OK\n");
    mesh_channel_destroy(&channel);
}

static void stream_is_seen(void **state)
{
    struct witness witness;
    struct mesh_interceptor one = witness_init(&witness);
    const struct mesh_interceptor *const list[] = {&one};
    struct mesh_channel *channel = watched(*state, list, 1);
    struct mesh_stream *stream = NULL;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct status status;

    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", NULL, &stream), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 0);
    mesh_stream_destroy(&stream);
    assert_string_equal(story(&witness), "start /dragoman.test.v1.Echo/Chat\n"
                                         "out 0\n"
                                         "attempt 0\n"
                                         "in 0\n"
                                         "out 0\n"
                                         "in 0\n"
                                         "attempt_end 0 OK\n"
                                         "end OK\n");
    mesh_channel_destroy(&channel);
}

/* Nothing is sent, and who comes before hears of the end. */
static void refused_calls_end_at_once(void **state)
{
    struct witness before, refusing, behind;
    struct mesh_interceptor ones[] = {witness_init(&before), witness_init(&refusing),
                                      witness_init(&behind)};
    const struct mesh_interceptor *const list[] = {&ones[0], &ones[1], &ones[2]};
    struct mesh_channel *channel = watched(*state, list, 3);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_stream *stream = NULL;
    struct status status;

    refusing.refuse = true;
    status = rig_unary(channel, &request, NULL, NULL);
    assert_int_equal(status.code, STATUS_UNAUTHENTICATED);
    assert_string_equal(status.message, "no token");
    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", NULL, &stream), 0);
    assert_int_equal(mesh_stream_write(stream, &request.base, 5000), -EPIPE);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_UNAUTHENTICATED);
    mesh_stream_destroy(&stream);
    assert_string_equal(story(&before), "start /dragoman.test.v1.Echo/Unary\n"
                                        "end UNAUTHENTICATED\n"
                                        "start /dragoman.test.v1.Echo/Chat\n"
                                        "end UNAUTHENTICATED\n");
    assert_int_equal(refusing.n, 2);
    assert_int_equal(behind.n, 0);
    assert_int_equal(echo_counts.started, 0);
    mesh_channel_destroy(&channel);
}

static void adds_metadata_and_a_trace(void **state)
{
    struct witness witness;
    struct mesh_interceptor one = witness_init(&witness);
    const struct mesh_interceptor *const list[] = {&one};
    struct mesh_channel *channel = watched(*state, list, 1);
    struct mesh_metadata *given = NULL;
    struct mesh_call_options options = {0};
    struct mesh_stream *stream = NULL;
    struct status status;

    witness.add = true;
    witness.trace = true;
    assert_int_equal(mesh_metadata_add_text(&given, ECHO_TRACE, "please"), 0);
    options.metadata = given;
    assert_int_equal(mesh_stream_open(channel, ECHO, "Collect", &options, &stream), 0);
    mesh_metadata_destroy(&given);
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 1);
    assert_string_equal(mesh_metadata_get(mesh_stream_initial_metadata(stream), ECHO_INITIAL),
                        "added");
    assert_string_equal(mesh_metadata_get(mesh_stream_trailers(stream), ECHO_TRACE),
                        "abcdef0102030405060708090a0b0c0d");
    mesh_stream_destroy(&stream);
    mesh_channel_destroy(&channel);
}

static void abandoned_calls_end_too(void **state)
{
    struct witness witness;
    struct mesh_interceptor one = witness_init(&witness);
    const struct mesh_interceptor *const list[] = {&one};
    struct mesh_channel *channel = watched(*state, list, 1);
    struct mesh_stream *stream = NULL;

    assert_int_equal(mesh_stream_open(channel, ECHO, "Chat", NULL, &stream), 0);
    mesh_stream_destroy(&stream); /* never sent */
    assert_string_equal(story(&witness), "start /dragoman.test.v1.Echo/Chat\n"
                                         "end CANCELLED\n");
    mesh_channel_destroy(&channel);
}

static void too_many_are_refused(void **state)
{
    struct rig *rig = *state;
    struct witness witness;
    struct mesh_interceptor one = witness_init(&witness);
    const struct mesh_interceptor *list[MESH_INTERCEPTORS_MAX];
    struct mesh_channel_options options = {.endpoint = rig->endpoint,
                                           .context = rig->context,
                                           .security = rig_security(rig),
                                           .interceptors = list,
                                           .n_interceptors = MESH_INTERCEPTORS_MAX};
    struct mesh_channel *channel = NULL;

    for (size_t i = 0; i < MESH_INTERCEPTORS_MAX; i++)
        list[i] = &one;
    assert_int_equal(mesh_channel_create(&options, &channel), -EINVAL);
    assert_null(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_is_seen),
        cmocka_unit_test(stream_is_seen),
        cmocka_unit_test(refused_calls_end_at_once),
        cmocka_unit_test(adds_metadata_and_a_trace),
        cmocka_unit_test(abandoned_calls_end_too),
        cmocka_unit_test(too_many_are_refused),
    };

    return rig_run("interceptors", tests, sizeof(tests) / sizeof(tests[0]));
}
