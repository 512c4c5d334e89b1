/* A worker of two brokers: both reach it, its capacity holds, and neither suffers from the other's end. */
#include "tests/mesh/raw.h"

#include "base/log.h"
#include "broker/broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

static void *context;
static struct broker *brokers[2];
static struct mesh_channel *channels[2];
static struct mesh_server *server;

static void start_broker(int i)
{
    char front[32], back[32];
    const char *const fronts[] = {front, NULL};
    const char *const backs[] = {back, NULL};
    struct broker_options options = {
        .front = fronts, .back = backs, .context = context, .heartbeat_ms = 200};

    snprintf(front, sizeof(front), "inproc://front-%d", i);
    snprintf(back, sizeof(back), "inproc://back-%d", i);
    assert_int_equal(broker_start(&options, &brokers[i]), 0);
}

static void start_worker(uint32_t capacity)
{
    struct mesh_server_options options = {
        .endpoint = "inproc://back-0,inproc://back-1",
        .name = "echo",
        .context = context,
        .capacity = capacity,
    };

    assert_int_equal(mesh_server_create(&options, &server), 0);
    assert_int_equal(echo_add(server), 0);
    assert_int_equal(mesh_server_start(server), 0);
    rig_wait(mesh_server_ready(server));
}

static int setup(void **state)
{
    (void)state;
    context = zmq_ctx_new();
    echo_reset();
    for (int i = 0; i < 2; i++) {
        struct mesh_channel_options options = {.context = context};
        char front[32];

        start_broker(i);
        snprintf(front, sizeof(front), "inproc://front-%d", i);
        options.endpoint = front;
        assert_int_equal(mesh_channel_create(&options, &channels[i]), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        mesh_channel_destroy(&channels[i]);
    mesh_server_destroy(&server);
    for (int i = 0; i < 2; i++)
        broker_stop(&brokers[i], 0);
    zmq_ctx_term(context);
    return 0;
}

/* ---- helpers --------------------------------------------------------------------------------- */

static const struct mesh_call_options patient = {.timeout_ms = 20000, .wait_for_ready = true};

static enum status_code echo(int broker, uint32_t sleep_ms)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.sleep_ms = sleep_ms;
    return rig_unary(channels[broker], &request, &patient, NULL).code;
}

struct tally {
    atomic_int ok, other;
};

static void count(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct tally *tally = arg;

    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    atomic_fetch_add(status->code == STATUS_OK ? &tally->ok : &tally->other, 1);
}

static void start_calls(int broker, int n, uint32_t sleep_ms, struct tally *tally)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.sleep_ms = sleep_ms;
    for (int i = 0; i < n; i++)
        assert_int_equal(mesh_unary_start(channels[broker], ECHO, "Unary", &request.base, &patient,
                                          count, tally),
                         0);
}

/* A call that runs until it is cancelled. */
static void start_endless(int broker, struct tally *tally)
{
    echo_request request = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

    request.until_cancelled = true;
    assert_int_equal(
        mesh_unary_start(channels[broker], ECHO, "Unary", &request.base, &patient, count, tally),
        0);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Even when there is but one slot: it goes to where a call waits. */
static void both_reach_it(void **state)
{
    (void)state;
    start_worker(1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(echo(0, 0), STATUS_OK);
        assert_int_equal(echo(1, 0), STATUS_OK);
    }
}

static void capacity_holds_whoever_calls(void **state)
{
    struct tally tally = {0};

    (void)state;
    start_worker(3);
    for (int i = 0; i < 2; i++)
        assert_int_equal(echo(i, 0), STATUS_OK);
    for (int round = 0; round < 10; round++) {
        start_calls(0, 20, 2, &tally);
        start_calls(1, 20, 2, &tally);
    }
    rig_wait(atomic_load(&tally.ok) + atomic_load(&tally.other) == 400);
    assert_int_equal(atomic_load(&tally.other), 0);
    assert_int_equal(atomic_load(&echo_counts.most_running), 3);
}

/* All slots go to the one that has calls. */
static void slots_follow_the_calls(void **state)
{
    struct tally tally = {0};

    (void)state;
    start_worker(4);
    assert_int_equal(echo(1, 0), STATUS_OK);
    start_calls(0, 500, 10, &tally);
    rig_wait(atomic_load(&echo_counts.most_running) == 4);
    rig_wait(atomic_load(&tally.ok) == 500);
}

static void a_brokers_end_is_only_its_calls_end(void **state)
{
    struct tally mine = {0}, others = {0};

    (void)state;
    start_worker(2);
    assert_int_equal(echo(0, 0), STATUS_OK);
    start_endless(0, &mine);
    start_endless(1, &others);
    rig_wait(atomic_load(&echo_counts.running) == 2);
    broker_stop(&brokers[0], 0);
    rig_wait(atomic_load(&mine.other) == 1);
    rig_wait(atomic_load(&echo_counts.running) == 1);
    assert_int_equal(atomic_load(&others.ok) + atomic_load(&others.other), 0);
    assert_true(mesh_server_ready(server));
    assert_int_equal(echo(1, 0), STATUS_OK); /* beside the endless one: the slot is here now */
    mesh_channel_destroy(&channels[1]);
    assert_int_equal(atomic_load(&others.other), 1);
    rig_wait(atomic_load(&echo_counts.running) == 0);
}

static void a_broker_comes_back(void **state)
{
    (void)state;
    start_worker(1);
    assert_int_equal(echo(0, 0), STATUS_OK);
    broker_stop(&brokers[0], 0);
    assert_int_equal(echo(1, 0), STATUS_OK);
    start_broker(0);
    assert_int_equal(echo(0, 0), STATUS_OK);
    assert_int_equal(echo(1, 0), STATUS_OK);
}

static void one_is_enough_to_be_ready(void **state)
{
    (void)state;
    broker_stop(&brokers[1], 0);
    start_worker(1);
    assert_int_equal(echo(0, 0), STATUS_OK);
    broker_stop(&brokers[0], 0);
    rig_wait(!mesh_server_ready(server));
}

static void drain_waits_for_both(void **state)
{
    struct tally tally = {0};

    (void)state;
    start_worker(2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(echo(i, 0), STATUS_OK);
    start_calls(0, 1, 200, &tally);
    start_calls(1, 1, 200, &tally);
    rig_wait(atomic_load(&echo_counts.running) == 2);
    assert_int_equal(mesh_server_drain(server, 5000), 0);
    rig_wait(atomic_load(&tally.ok) == 2);
    assert_false(mesh_server_ready(server));
}

/* ---- a broker played by hand ----------------------------------------------------------------- */

static struct raw puppet; /* in the place of the first */

static void start_puppet(uint32_t capacity)
{
    broker_stop(&brokers[0], 0);
    raw_open(&puppet, context, MESH_ROUTER, "inproc://back-0");
    start_worker(capacity);
    raw_greet(&puppet, 200);
    raw_expect(&puppet, MESH_REGISTER);
    raw_send(&puppet, &(struct mesh_header){.kind = MESH_REGISTERED}, NULL, NULL);
}

/* What comes next; a PING is answered: so many calls wait. */
static const struct mesh_frame *puppet_listens(int wait_ms, uint32_t waiting)
{
    const struct mesh_frame *frame = raw_receive(&puppet, wait_ms);

    if (frame && frame->header.kind == MESH_PING)
        raw_send(&puppet,
                 &(struct mesh_header){.kind = MESH_PONG,
                                       .call_id = frame->header.call_id,
                                       .credit_messages = waiting},
                 NULL, NULL);
    return frame;
}

static const struct mesh_frame *puppet_hears(uint8_t kind, uint32_t waiting)
{
    const struct mesh_frame *frame = puppet_listens(5000, waiting);

    while (frame && frame->header.kind != kind)
        frame = puppet_listens(5000, waiting);
    if (!frame)
        fail_msg("no %s came", mesh_kind_name(kind));
    return frame;
}

/* Stopped or cut off, it cannot say that it knows of its lower share: its end must be waited for. */
static void a_silent_brokers_share_comes_back(void **state)
{
    struct tally tally = {0};

    (void)state;
    start_puppet(1);
    while (puppet_hears(MESH_CAPACITY, 1)->header.credit_messages != 1) {
    }
    start_calls(1, 1, 0, &tally);
    rig_sleep_ms(100);
    assert_int_equal(atomic_load(&tally.ok), 0); /* the slot is the silent one's */
    rig_wait(atomic_load(&tally.ok) == 1);       /* until its heartbeat is missed */
    raw_close(&puppet);
}

/* An OPEN that crossed a lower share, or is one too many, is not run. */
static void a_call_without_a_slot_comes_back(void **state)
{
    static struct tally tally; /* the call ends with the channel */
    const struct mesh_frame *end;

    (void)state;
    start_puppet(1);
    start_endless(1, &tally);
    while (atomic_load(&echo_counts.running) == 0)
        puppet_listens(10, 0);
    raw_open_call(&puppet, 1, "Unary", MESH_END_SEND, &empty);
    end = puppet_hears(MESH_END, 0);
    assert_int_equal(end->header.status, STATUS_RESOURCE_EXHAUSTED);
    assert_true(end->header.flags & MESH_UNPROCESSED);
    assert_int_equal(atomic_load(&echo_counts.most_running), 1);
    raw_close(&puppet);
}

static void lists_that_lead_nowhere_are_refused(void **state)
{
    static const char *const lists[] = {"",
                                        ",",
                                        "inproc://back-0,",
                                        "inproc://back-0,nonsense",
                                        "inproc://back-0,inproc://back-0",
                                        "ipc://a,ipc://b,ipc://c,ipc://d,ipc://e,ipc://f,ipc://g,"
                                        "ipc://h,ipc://i"};

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct mesh_server_options options = {.endpoint = lists[i], .context = context};

        assert_int_equal(mesh_server_create(&options, &server), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_reach_it, setup, teardown),
        cmocka_unit_test_setup_teardown(capacity_holds_whoever_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(slots_follow_the_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(a_brokers_end_is_only_its_calls_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broker_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(one_is_enough_to_be_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(drain_waits_for_both, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_brokers_share_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_without_a_slot_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_that_lead_nowhere_are_refused, setup, teardown),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
