/* A peer that asks its callers to come anew (GOAWAY with RETURN), played by hand: who says what to whom. */
#include "base/clock.h"
#include "base/log.h"
#include "tests/mesh/raw.h"

#include <stdlib.h>

#define ENDPOINT "inproc://turnover"

static const echo_request empty = DRAGOMAN__TEST__V1__ECHO_REQUEST__INIT;

static void *context;
static struct raw raw; /* its `peer` is the session that is spoken to */
static struct mesh_channel *channel;

struct call {
    atomic_int ended;
    enum status_code code;
    uint32_t peer; /* the session that it came on */
    uint64_t id;
};

static void on_done(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct call *call = arg;

    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    call->code = status->code;
    atomic_fetch_add(&call->ended, 1);
}

/* A call that may run once only; its OPEN has come. */
static void start(struct call *call)
{
    const struct mesh_call_options options = {.timeout_ms = 20000};

    atomic_init(&call->ended, 0);
    assert_int_equal(mesh_unary_start(channel, ECHO, "Unary", &empty.base, &options, on_done, call),
                     0);
    call->id = raw_expect(&raw, MESH_OPEN)->header.call_id;
    call->peer = raw.peer;
}

static void end(struct call *call)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = call->id, .status = STATUS_ABORTED};

    raw.peer = call->peer;
    raw_send(&raw, &header, NULL, NULL);
    rig_wait(call->ended == 1);
    assert_int_equal(call->code, STATUS_ABORTED);
}

/* The same on this session, when it has the calls by now or soon. */
static void start_on(struct call *call, uint32_t peer)
{
    start(call);
    for (int tries = 0; call->peer != peer && tries < 1000; tries++) {
        end(call);
        rig_sleep_ms(5);
        start(call);
    }
    assert_int_equal(call->peer, peer);
}

static void say(uint32_t peer, uint8_t kind, uint16_t flags)
{
    raw.peer = peer;
    raw_send(&raw, &(struct mesh_header){.kind = kind, .flags = flags}, NULL, NULL);
}

static void welcome(uint32_t peer)
{
    Dragoman__Mesh__V1__Welcome welcome = DRAGOMAN__MESH__V1__WELCOME__INIT;

    welcome.version = MESH_VERSION;
    welcome.heartbeat_ms = 60000;
    raw.peer = peer;
    raw_send(&raw, &(struct mesh_header){.kind = MESH_WELCOME}, NULL, &welcome.base);
}

/* HELLO of a new session. @return who it is */
static uint32_t greeted(void)
{
    raw_greet(&raw, 60000);
    return raw.peer;
}

static int setup(void **state)
{
    struct mesh_channel_options options = {.endpoint = ENDPOINT};

    (void)state;
    options.context = context = zmq_ctx_new();
    raw_open(&raw, context, MESH_ROUTER, ENDPOINT);
    return mesh_channel_create(&options, &channel);
}

static int teardown(void **state)
{
    (void)state;
    mesh_channel_destroy(&channel);
    raw_close(&raw);
    zmq_ctx_term(context);
    return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void the_next_session_takes_new_calls(void **state)
{
    uint32_t first = greeted(), second;
    struct call before, meanwhile, after;

    (void)state;
    start(&before);
    say(first, MESH_GOAWAY, MESH_RETURN);
    raw_expect(&raw, MESH_HELLO);
    second = raw.peer;
    assert_int_not_equal(second, first);
    start(&meanwhile); /* until the next one stands nothing changes */
    assert_int_equal(meanwhile.peer, first);
    welcome(second);
    start_on(&after, second);
    end(&after);
    end(&before);
    end(&meanwhile);
    raw_expect(&raw, MESH_BYE); /* now that its calls have ended */
    assert_int_equal(raw.peer, first);
    start(&after);
    assert_int_equal(after.peer, second);
    end(&after);
}

/* A third session only once the first is over. */
static void two_sessions_are_enough(void **state)
{
    uint32_t first = greeted(), second;
    struct call old, call;

    (void)state;
    start(&old);
    say(first, MESH_GOAWAY, MESH_RETURN);
    second = greeted();
    rig_sleep_ms(50);
    say(second, MESH_GOAWAY, MESH_RETURN);
    start_on(&call, second);
    raw_expect_silence(&raw);
    end(&old);
    raw_expect(&raw, MESH_BYE);
    assert_int_not_equal(greeted(), second);
    end(&call);
    raw_expect(&raw, MESH_BYE);
    assert_int_equal(raw.peer, second);
}

/* The old session dies before the next one stands: its calls are lost with it, the next is there for others. */
static void the_old_one_may_die_first(void **state)
{
    uint32_t first = greeted();
    struct call lost, call;

    (void)state;
    start(&lost);
    say(first, MESH_GOAWAY, MESH_RETURN);
    say(first, MESH_BYE, 0);
    rig_wait(lost.ended == 1);
    assert_int_equal(lost.code, STATUS_UNAVAILABLE);
    assert_int_not_equal(greeted(), first);
    start(&call);
    end(&call);
    raw_expect_silence(&raw); /* nobody else seeks a session */
}

/* The next one dies while the old one still has calls: it comes back, and the old one ends as it should. */
static void the_next_one_may_die(void **state)
{
    uint32_t first = greeted(), second;
    struct call old, call;

    (void)state;
    start(&old);
    say(first, MESH_GOAWAY, MESH_RETURN);
    second = greeted();
    rig_sleep_ms(50);
    say(second, MESH_BYE, 0);
    second = greeted();
    start_on(&call, second);
    end(&call);
    end(&old);
    raw_expect(&raw, MESH_BYE);
    assert_int_equal(raw.peer, first);
    raw_expect_silence(&raw);
}

/* Plain GOAWAY after it: the peer leaves after all. */
static void goaway_still_means_goaway(void **state)
{
    uint32_t first = greeted(), second;
    struct call call;

    (void)state;
    start(&call);
    say(first, MESH_GOAWAY, MESH_RETURN);
    second = greeted();
    rig_sleep_ms(50);
    say(second, MESH_GOAWAY, 0);
    raw_expect(&raw, MESH_BYE);
    assert_int_equal(raw.peer, second);
    greeted();
    end(&call);
}

/* Who asks each session at once does not make its callers spin. */
static void who_asks_too_often_waits(void **state)
{
    int64_t until = clock_now_ms() + 1000;
    int n = 0;

    (void)state;
    while (clock_now_ms() < until) {
        const struct mesh_frame *frame = raw_receive(&raw, 20);

        if (!frame || frame->header.kind != MESH_HELLO)
            continue;
        n++;
        welcome(raw.peer);
        say(raw.peer, MESH_GOAWAY, MESH_RETURN);
    }
    assert_in_range(n, 2, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_next_session_takes_new_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(two_sessions_are_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_one_may_die_first, setup, teardown),
        cmocka_unit_test_setup_teardown(the_next_one_may_die, setup, teardown),
        cmocka_unit_test_setup_teardown(goaway_still_means_goaway, setup, teardown),
        cmocka_unit_test_setup_teardown(who_asks_too_often_waits, setup, teardown),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
