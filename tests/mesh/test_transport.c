/* A ROUTER that listens over tcp://, with libzmq's socket, and over ipc://, with ours. */
#include "mesh/transport.h"

#include "base/clock.h"
#include "mesh/deadline.h"
#include "mesh/ipc.h"
#include "tests/mesh/ends.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { OVER_TCP, OVER_IPC, WAYS };

struct place {
    struct mesh_transport router;
    struct mesh_transport dealers[WAYS];
};

/* As an owner does before it receives. */
static void rest(struct mesh_transport *transport)
{
    struct pollfd fds[MESH_TRANSPORT_FDS];
    int n = mesh_transport_fds(transport, fds);

    poll(fds, (nfds_t)n, mesh_transport_is_uncertain(transport) ? 0 : 1);
    mesh_transport_polled(transport, fds);
    mesh_transport_watch(transport, clock_now_ns());
}

static void receive(struct mesh_transport *transport, struct mesh_message *message)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    int err;

    while ((err = mesh_transport_recv(transport, message)) == -EAGAIN && clock_now_ms() < until)
        rest(transport);
    assert_int_equal(err, 0);
}

/* Until both have greeted. */
static void greet(struct mesh_transport *dealer, struct mesh_transport *router)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    struct mesh_message none;

    while (!(mesh_transport_events(dealer) & POLLOUT) && clock_now_ms() < until) {
        assert_int_equal(mesh_transport_recv(dealer, &none), -EAGAIN);
        assert_int_equal(mesh_transport_recv(router, &none), -EAGAIN);
        rest(dealer);
        rest(router);
    }
}

static int setup(void **state)
{
    static struct place place;
    struct mesh_transport_options options = {.kind = MESH_ROUTER,
                                             .max_message_bytes = ENDS_MAX_BYTES};
    char asked[160], bound[WAYS][160];

    *state = &place;
    ends_setup(state);
    *state = &place;
    options.context = ends_context();
    snprintf(asked, sizeof(asked), "ipc://%s", ends_path("a"));
    mesh_transport_init(&place.router, &options);
    assert_int_equal(mesh_transport_bind(&place.router, "tcp://127.0.0.1:*", bound[OVER_TCP], 160),
                     0);
    assert_int_equal(mesh_transport_bind(&place.router, asked, bound[OVER_IPC], 160), 0);
    assert_string_equal(bound[OVER_IPC], asked);
    options.kind = MESH_DEALER;
    for (int i = 0; i < WAYS; i++) {
        mesh_transport_init(&place.dealers[i], &options);
        assert_int_equal(mesh_transport_connect(&place.dealers[i], bound[i]), 0);
        greet(&place.dealers[i], &place.router);
    }
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;

    for (int i = 0; i < WAYS; i++)
        mesh_transport_close(&place->dealers[i], 0);
    mesh_transport_close(&place->router, 0);
    return ends_teardown(state);
}

static void say(struct mesh_transport *transport, uint64_t peer, uint32_t number)
{
    struct mesh_message message;

    ends_number(&message, peer, number);
    assert_int_equal(mesh_transport_send(transport, &message), 0);
}

static void both_are_heard_and_answered(void **state)
{
    struct place *place = *state;
    struct mesh_message message;

    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < WAYS; i++)
            say(&place->dealers[i], 0, i);
        for (uint32_t i = 0; i < WAYS; i++) { /* to whom it came from */
            uint64_t peer;
            uint32_t from;

            receive(&place->router, &message);
            peer = message.peer;
            from = ends_read_number(&message);
            assert_int_equal(mesh_ipc_has_peer(peer), from == OVER_IPC);
            say(&place->router, peer, 100 * round + from);
        }
        for (uint32_t i = 0; i < WAYS; i++) {
            receive(&place->dealers[i], &message);
            assert_int_equal(ends_read_number(&message), 100 * round + i);
        }
    }
    assert_true(mesh_transport_next_ns(&place->router) == MESH_NEVER);
}

/* With much to hear over one, the other has its turns. */
static void neither_drowns_the_other(void **state)
{
    enum { MANY = 150 }; /* which a socket holds */
    struct place *place = *state;
    struct mesh_message message;

    for (uint32_t busy = 0; busy < WAYS; busy++) {
        uint32_t n_before = 0;

        for (uint32_t i = 0; i < MANY; i++)
            say(&place->dealers[busy], 0, 1);
        say(&place->dealers[!busy], 0, 2);
        poll(NULL, 0, 50); /* all is there */
        for (receive(&place->router, &message); ends_read_number(&message) == 1; n_before++)
            receive(&place->router, &message);
        assert_in_range(n_before, 0, MANY - 1);
        for (; n_before < MANY; n_before++) {
            receive(&place->router, &message);
            assert_int_equal(ends_read_number(&message), 1);
        }
    }
}

static void who_is_cut_is_lost_and_the_other_stays(void **state)
{
    struct place *place = *state;
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    struct mesh_message message;
    uint64_t peer, lost = 0;

    say(&place->dealers[OVER_IPC], 0, 1);
    receive(&place->router, &message);
    peer = message.peer;
    mesh_transport_note(&place->router, &message);
    mesh_message_close(&message);
    mesh_transport_cut(&place->router, peer);
    while (!mesh_transport_next_lost(&place->router, &lost) && clock_now_ms() < until) {
        rest(&place->router);
        assert_int_equal(mesh_transport_recv(&place->router, &message), -EAGAIN);
    }
    assert_true(lost == peer);
    say(&place->dealers[OVER_TCP], 0, 7);
    receive(&place->router, &message);
    assert_int_equal(ends_read_number(&message), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_are_heard_and_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(neither_drowns_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_cut_is_lost_and_the_other_stays, setup, teardown),
    };

    return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
