/* Callers that wait drive the channel themselves: whatever happens meanwhile happens as if its thread did. */
#include "base/clock.h"
#include "broker/broker.h"
#include "tests/mesh/rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SERIAL 40 /* calls, so many that the channel's thread has stepped aside */

static atomic_int ended_here; /* calls, on the thread that waited */

static struct status slow(struct mesh_channel *channel, uint32_t sleep_ms, int64_t timeout_ms)
{
    struct mesh_call_options options = {.timeout_ms = timeout_ms};
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.sleep_ms = sleep_ms;
    return rig_unary(channel, &request, &options, NULL);
}

static void one_by_one(struct mesh_channel *channel)
{
    for (int i = 0; i < SERIAL; i++)
        assert_int_equal(slow(channel, 0, 0).code, STATUS_OK);
}

/* A thread that calls once and waits. */
struct waiter {
    struct mesh_channel *channel;
    uint32_t sleep_ms;
    pthread_t thread;
    struct status status;
};

static void *wait_for_answer(void *arg)
{
    struct waiter *waiter = arg;

    waiter->status = slow(waiter->channel, waiter->sleep_ms, 0);
    return NULL;
}

static void start_waiter(struct waiter *waiter, struct mesh_channel *channel, uint32_t sleep_ms)
{
    int started = atomic_load(&echo_counts.started);

    *waiter = (struct waiter){.channel = channel, .sleep_ms = sleep_ms};
    assert_int_equal(pthread_create(&waiter->thread, NULL, wait_for_answer, waiter), 0);
    rig_wait(atomic_load(&echo_counts.started) > started);
}

static void answers_and_payloads(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    echo_response *response;
    uint8_t bytes[3000];

    for (size_t size = 0; size < sizeof(bytes); size += 50) {
        memset(bytes, (int)size, sizeof(bytes));
        request.payload = (ProtobufCBinaryData){.len = size, .data = bytes};
        assert_int_equal(rig_unary(rig->channel, &request, NULL, &response).code, STATUS_OK);
        assert_int_equal(response->payload.len, size);
        if (size > 0)
            assert_memory_equal(response->payload.data, bytes, size);
        protobuf_c_message_free_unpacked(&response->base, NULL);
    }
}

static void note_end(void *context, void **call_state, const struct mesh_intercepted *call,
                     const struct status *status, int64_t now_ns)
{
    (void)call_state;
    (void)call;
    (void)status;
    (void)now_ns;
    if (pthread_equal(pthread_self(), *(pthread_t *)context))
        atomic_fetch_add(&ended_here, 1);
}

/* The point of it all: who waits for an answer is who receives it. */
static void callers_drive(void **state)
{
    struct rig *rig = *state;
    pthread_t me = pthread_self();
    const struct mesh_interceptor interceptor = {.context = &me, .end = note_end};
    const struct mesh_interceptor *const list[] = {&interceptor};
    struct mesh_channel_options options = {.endpoint = rig->endpoint,
                                           .context = rig->context,
                                           .interceptors = list,
                                           .n_interceptors = 1,
                                           .security = rig_security(rig)};
    struct mesh_channel *channel = NULL;

    atomic_store(&ended_here, 0);
    assert_int_equal(mesh_channel_create(&options, &channel), 0);
    for (int i = 0; i < 100 && atomic_load(&ended_here) < 5; i++)
        one_by_one(channel); /* on a slow machine the thread may come back between any two */
    assert_true(atomic_load(&ended_here) >= 5);
    mesh_channel_destroy(&channel);
}

static void deadline_ends_it(void **state)
{
    struct rig *rig = *state;

    one_by_one(rig->channel);
    assert_int_equal(slow(rig->channel, 300, 50).code, STATUS_DEADLINE_EXCEEDED);
    one_by_one(rig->channel);
}

static void lost_server_ends_it(void **state)
{
    struct rig *rig = *state;
    struct waiter waiter;

    one_by_one(rig->channel);
    start_waiter(&waiter, rig->channel, 100);
    if (rig->broker)
        broker_stop(&rig->broker, 0);
    else
        mesh_server_destroy(&rig->server);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(waiter.status.code, STATUS_UNAVAILABLE);
}

/* The thread is back for what only it hears. */
static void lost_server_is_noticed(void **state)
{
    struct rig *rig = *state;

    one_by_one(rig->channel);
    assert_true(mesh_channel_connected(rig->channel));
    if (rig->broker)
        broker_stop(&rig->broker, 0);
    else
        mesh_server_destroy(&rig->server);
    rig_wait(!mesh_channel_connected(rig->channel));
}

/* ---- others meanwhile ------------------------------------------------------------------------ */

struct answer {
    atomic_int n;
    pthread_t thread;
};

static void note_answer(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct answer *answer = arg;

    assert_int_equal(status->code, STATUS_OK);
    protobuf_c_message_free_unpacked(response, NULL);
    answer->thread = pthread_self();
    atomic_fetch_add(&answer->n, 1);
}

static void start_quick(struct rig *rig, struct answer *answer)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    assert_int_equal(
        mesh_unary_start(rig->channel, ECHO, "Quick", &request.base, NULL, note_answer, answer), 0);
}

/* Their functions are called on the channel's thread, never on one that waits, which may hold any lock. */
static void functions_run_on_the_thread(void **state)
{
    struct rig *rig = *state;
    struct answer answer = {0};
    struct waiter waiter;

    for (int i = 1; i <= 10; i++) {
        one_by_one(rig->channel);
        start_waiter(&waiter, rig->channel, 50);
        start_quick(rig, &answer);
        rig_wait(atomic_load(&answer.n) == i);
        assert_false(pthread_equal(answer.thread, waiter.thread));
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.status.code, STATUS_OK);
    }
}

static void posts_wake_a_parked_thread(void **state)
{
    struct rig *rig = *state;
    struct answer answer = {0};

    for (int i = 1; i <= 50; i++) {
        one_by_one(rig->channel);
        start_quick(rig, &answer);
        rig_wait(atomic_load(&answer.n) == i);
        assert_false(pthread_equal(answer.thread, pthread_self()));
    }
}

static void two_wait_at_once(void **state)
{
    struct rig *rig = *state;
    struct waiter waiters[3];

    for (int i = 0; i < 3; i++) {
        one_by_one(rig->channel);
        for (int w = 0; w < 3; w++)
            start_waiter(&waiters[w], rig->channel, 30);
        for (int w = 0; w < 3; w++) {
            pthread_join(waiters[w].thread, NULL);
            assert_int_equal(waiters[w].status.code, STATUS_OK);
        }
    }
}

static void *call_often(void *arg)
{
    for (int i = 0; i < 500; i++) {
        assert_int_equal(slow(arg, 0, 10000).code, STATUS_OK);
        if (i % 50 == 49)
            rig_sleep_ms(i % 100 == 49 ? 1 : 7); /* shorter and longer than a thread stays parked */
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct rig *rig = *state;
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, call_often, rig->channel);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&echo_counts.ended), 1500);
}

static void stream_beside_calls(void **state)
{
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct mesh_stream *stream = NULL;
    struct status status;

    one_by_one(rig->channel);
    assert_int_equal(mesh_stream_open(rig->channel, ECHO, "Chat", NULL, &stream), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(mesh_stream_write(stream, &request.base, 5000), 0);
        assert_int_equal(slow(rig->channel, 0, 0).code, STATUS_OK);
        assert_int_equal(mesh_stream_read(stream, &message, 5000), 0);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    assert_int_equal(mesh_stream_finish(stream), 0);
    assert_int_equal(rig_read_all(stream, &status), 0);
    assert_int_equal(status.code, STATUS_OK);
    mesh_stream_destroy(&stream);
}

static void destroyed_meanwhile(void **state)
{
    struct rig *rig = *state;

    for (int i = 0; i < 5; i++) {
        struct mesh_channel *channel = rig_channel(rig);
        struct waiter waiter;

        one_by_one(channel);
        start_waiter(&waiter, channel, 50);
        mesh_channel_destroy(&channel);
        pthread_join(waiter.thread, NULL);
        assert_int_equal(waiter.status.code, STATUS_CANCELLED);
    }
    one_by_one(rig->channel);
}

/* Nothing is to be paid for later: a channel that was driven rests as any other does. */
static void idle_costs_nothing(void **state)
{
    struct rig *rig = *state;
    int64_t before;

    one_by_one(rig->channel);
    rig_sleep_ms(50);
    before = clock();
    rig_sleep_ms(300);
    assert_true(clock() - before < CLOCKS_PER_SEC / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_drive),
        cmocka_unit_test(answers_and_payloads),
        cmocka_unit_test(deadline_ends_it),
        cmocka_unit_test(lost_server_ends_it),
        cmocka_unit_test(lost_server_is_noticed),
        cmocka_unit_test(functions_run_on_the_thread),
        cmocka_unit_test(posts_wake_a_parked_thread),
        cmocka_unit_test(two_wait_at_once),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(stream_beside_calls),
        cmocka_unit_test(destroyed_meanwhile),
        cmocka_unit_test(idle_costs_nothing),
    };

    return rig_run("driving", tests, sizeof(tests) / sizeof(tests[0]));
}
