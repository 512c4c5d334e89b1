/* Whoever moves a channel's frames, its own thread or one that waits: calls end, in time, and leave nothing. */
#include "tests/mesh/rig.h"

#include "base/clock.h"
#include "mesh/poller.h"

#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- a loop of one's own -------------------------------------------------------------------- */

/* One descriptor, many streams: each is reported when it may go on, and at its end. */
struct talker {
    struct mesh_stream *stream;
    int read, written;
    bool finished, over;
};

#define TALKER_ROUNDS 20

static void talk(struct talker *talker)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    while (mesh_stream_read(talker->stream, &message, 0) == 0) {
        protobuf_c_message_free_unpacked(message, NULL);
        talker->read++;
    }
    while (talker->written < TALKER_ROUNDS && talker->written <= talker->read &&
           mesh_stream_write(talker->stream, &request.base, 0) == 0)
        talker->written++;
    if (talker->read == TALKER_ROUNDS && !talker->finished) {
        talker->finished = true;
        assert_int_equal(mesh_stream_finish(talker->stream), 0);
    }
    talker->over = mesh_stream_status(talker->stream, NULL);
}

static void a_loop_with_one_descriptor(void **state)
{
    enum { STREAMS = 50 };
    struct talker talkers[STREAMS] = {0};
    struct mesh_poller *poller = NULL;
    struct pollfd fd = {.events = POLLIN};

    assert_int_equal(mesh_poller_create(&poller), 0);
    fd.fd = mesh_poller_fd(poller);
    for (int i = 0; i < STREAMS; i++) {
        talkers[i].stream = rig_stream_open(*state, "Chat", NULL);
        assert_int_equal(mesh_poller_add(poller, talkers[i].stream, &talkers[i]), 0);
    }
    for (int left = STREAMS; left > 0;) {
        struct talker *talker;

        assert_int_equal(poll(&fd, 1, 10000), 1);
        talker = mesh_poller_next(poller);
        assert_non_null(talker);
        left -= !talker->over;
        talk(talker);
        left += !talker->over;
    }
    while (mesh_poller_next(poller))
        ;
    rig_sleep_ms(10);
    assert_int_equal(poll(&fd, 1, 0), 0);
    for (int i = 0; i < STREAMS; i++) {
        assert_int_equal(talkers[i].read, TALKER_ROUNDS);
        rig_expect_end(talkers[i].stream, STATUS_OK);
        if (i % 2 == 0)
            mesh_poller_remove(poller, talkers[i].stream);
    }
    mesh_poller_destroy(&poller);
    for (int i = 0; i < STREAMS; i++)
        mesh_stream_destroy(&talkers[i].stream);
}

/* ---- who drives ------------------------------------------------------------------------------ */

struct caller {
    struct mesh_channel *channel;
    const echo_request *request;
    int calls;
    pthread_t thread;
    struct status status; /* the last */
};

static void *call_until_it_fails(void *arg)
{
    struct caller *caller = arg;
    struct status status = {0};

    for (int i = 0; i < caller->calls && status.code == STATUS_OK; i++)
        status = rig_unary(caller->channel, caller->request, NULL, NULL);
    caller->status = status;
    return NULL;
}

/* Threads that block come and go; whoever of them drives, all get their answers. */
static void drivers_take_turns(void **state)
{
    enum { CALLERS = 4 };
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct caller callers[CALLERS];

    for (int round = 0; round < 6; round++) {
        int n = round % 3 == 0 ? 1 : CALLERS;

        for (int i = 0; i < n; i++) {
            callers[i] = (struct caller){rig->channel, &request, .calls = 40 + 10 * i};
            pthread_create(&callers[i].thread, NULL, call_until_it_fails, &callers[i]);
        }
        if (round % 2 == 1)
            rig_burst(rig, 100, 3);
        for (int i = 0; i < n; i++) {
            pthread_join(callers[i].thread, NULL);
            if (callers[i].status.code != STATUS_OK)
                fail_msg("%s", callers[i].status.message);
        }
    }
}

struct ran {
    atomic_bool done;
    pthread_t thread;
    struct status status;
};

static void note_thread(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct ran *ran = arg;

    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    ran->status = *status;
    ran->thread = pthread_self();
    atomic_store(&ran->done, true);
}

/* A thread in a blocking call may hold locks that an application's function wants. */
static void functions_run_on_no_waiting_thread(void **state)
{
    struct rig *rig = *state;
    echo_request slow = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    echo_request quick = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options too_late = {.timeout_ms = -5}; /* ends as soon as it is looked at */
    struct caller caller = {rig->channel, &slow, .calls = 1};
    struct ran ran = {0}, at_once = {0};

    for (int i = 0; i < 10; i++) /* so that the next to block is left to drive */
        assert_int_equal(rig_unary(rig->channel, &quick, NULL, NULL).code, STATUS_OK);
    echo_reset();
    slow.sleep_ms = 300;
    pthread_create(&caller.thread, NULL, call_until_it_fails, &caller);
    rig_wait(echo_counts.started == 1);
    assert_int_equal(mesh_unary_start(rig->channel, ECHO, "Unary", &quick.base, &too_late,
                                      note_thread, &at_once),
                     0);
    rig_wait(atomic_load(&at_once.done));
    assert_false(pthread_equal(at_once.thread, caller.thread));
    assert_int_equal(
        mesh_unary_start(rig->channel, ECHO, "Unary", &quick.base, NULL, note_thread, &ran), 0);
    rig_wait(atomic_load(&ran.done));
    assert_int_equal(ran.status.code, STATUS_OK);
    assert_false(pthread_equal(ran.thread, caller.thread));
    assert_false(pthread_equal(ran.thread, pthread_self()));
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.status.code, STATUS_OK);
}

/* Also when the channel's thread is not the one that drives, there are deadlines, and an end to it. */
static void a_channel_ends_under_its_driver(void **state)
{
    struct rig *rig = *state;
    struct mesh_channel *other = rig_channel(rig);
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct mesh_call_options options = {.timeout_ms = 50};
    struct caller caller = {other, &request, .calls = 1};

    for (int i = 0; i < 10; i++)
        assert_int_equal(rig_unary(other, &request, NULL, NULL).code, STATUS_OK);
    request.until_cancelled = true;
    assert_int_equal(rig_unary(other, &request, &options, NULL).code, STATUS_DEADLINE_EXCEEDED);
    rig_wait(echo_counts.running == 0);
    echo_reset();
    pthread_create(&caller.thread, NULL, call_until_it_fails, &caller);
    rig_wait(echo_counts.started == 1);
    rig_sleep_ms(20);
    mesh_channel_destroy(&other);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.status.code, STATUS_CANCELLED);
    rig_wait(echo_counts.cancelled == 1);
}

/* ---- many, left ------------------------------------------------------------------------------ */

/* Start calls and leave them; then wait until the server has seen the last of them. @return bytes resident */
static size_t abandon(struct rig *rig, int calls)
{
    enum { AT_ONCE = 100 };
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    uint32_t sizes[4] = {100, 2000, 30, 4};

    request.n_sizes = 4;
    request.sizes = sizes;
    for (int done = 0; done < calls; done += AT_ONCE) {
        struct mesh_stream *streams[AT_ONCE];

        for (int i = 0; i < AT_ONCE; i++) {
            streams[i] = rig_stream_open(rig, i % 3 == 0 ? "Expand" : "Chat", NULL);
            assert_int_equal(mesh_stream_write(streams[i], &request.base, 0), 0);
            if (i % 2 == 0)
                assert_int_equal(mesh_stream_finish(streams[i]), 0);
        }
        for (int i = 0; i < AT_ONCE; i++)
            mesh_stream_destroy(&streams[i]);
    }
    rig_wait(echo_counts.running == 0 && echo_counts.ended == echo_counts.started);
    assert_int_equal(rig_unary(rig->channel, &request, NULL, NULL).code, STATUS_OK);
    malloc_trim(0);
    return rig_rss_bytes();
}

/* 10,000 calls that nobody waits for any more leave nothing behind, and the server free. */
static void abandoned_calls_leave_nothing(void **state)
{
    struct rig *rig = *state;
    size_t rss = abandon(rig, 5000);

    assert_in_range(abandon(rig, 5000), 0, rss + RIG_RSS_SLACK);
}

struct late {
    atomic_bool over;
    int64_t deadline_ns, ended_ns;
    enum status_code code;
};

static void note_end(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct late *late = arg;

    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    late->ended_ns = clock_now_ns();
    late->code = status->code;
    atomic_store(&late->over, true);
}

/* Whether it runs, waits in a queue or is tried again: no call outlasts its deadline by much. */
static void no_call_outlasts_its_deadline(void **state)
{
    enum { CALLS = 300 };
    struct rig *rig = *state;
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;
    struct late *lates = calloc(CALLS, sizeof(*lates));
    int64_t worst = 0;

    request.until_cancelled = true;
    for (int i = 0; i < CALLS; i++) {
        struct mesh_call_options options = {
            .timeout_ms = 1 + i, .idempotent = i % 2, .wait_for_ready = i % 3 == 0};

        lates[i].deadline_ns = clock_now_ns() + options.timeout_ms * INT64_C(1000000);
        assert_int_equal(mesh_unary_start(rig->channel, ECHO, "Unary", &request.base, &options,
                                          note_end, &lates[i]),
                         0);
    }
    for (int i = 0; i < CALLS; i++) {
        rig_wait(atomic_load(&lates[i].over));
        if (lates[i].code != STATUS_DEADLINE_EXCEEDED)
            assert_int_equal(lates[i].code, STATUS_RESOURCE_EXHAUSTED); /* had no chance */
        else if (lates[i].ended_ns - lates[i].deadline_ns > worst)
            worst = lates[i].ended_ns - lates[i].deadline_ns;
    }
    assert_in_range(worst, 0, INT64_C(4000000000)); /* busy machines; figures are a benchmark's */
    rig_wait(echo_counts.running == 0);
    free(lates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_with_one_descriptor),
        cmocka_unit_test(drivers_take_turns),
        cmocka_unit_test(functions_run_on_no_waiting_thread),
        cmocka_unit_test(a_channel_ends_under_its_driver),
        cmocka_unit_test(abandoned_calls_leave_nothing),
        cmocka_unit_test(no_call_outlasts_its_deadline),
    };

    return rig_run("driver", tests, sizeof(tests) / sizeof(tests[0]));
}
