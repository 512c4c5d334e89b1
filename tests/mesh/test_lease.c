/* Shares of several brokers: what is told adds up, whatever is late, and calls get served. */
#include "mesh/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- by hand --------------------------------------------------------------------------------- */

static uint64_t token;

/* Send what is to be told. @return how many CAPACITYs */
static size_t tell(struct lease *lease)
{
    uint32_t share;
    bool confirm;
    size_t i, n = 0;

    while (lease_next(lease, &i, &share, &confirm)) {
        n++;
        if (confirm)
            lease_asked(lease, i, ++token);
    }
    return n;
}

static void two_up(struct lease *lease, uint32_t capacity)
{
    lease_init(lease, capacity, 2);
    lease_up(lease, 0);
    lease_up(lease, 1);
    tell(lease);
    lease_pong(lease, 0, token, 0);
    tell(lease);
}

static void the_first_gets_all_the_second_half(void **state)
{
    struct lease lease;

    (void)state;
    lease_init(&lease, 4, 2);
    assert_int_equal(lease_up(&lease, 0), 4);
    assert_int_equal(tell(&lease), 0);
    assert_int_equal(lease_up(&lease, 1), 0); /* nothing is free yet */
    assert_int_equal(tell(&lease), 1);        /* the first goes down to 2, */
    assert_int_equal(lease.shares[0].told, 2);
    assert_int_equal(lease.shares[1].told, 0);
    lease_pong(&lease, 0, token, 0); /* and knows it: */
    assert_int_equal(tell(&lease), 1);
    assert_int_equal(lease.shares[1].told, 2);
}

static void one_that_runs_is_not_given_away(void **state)
{
    struct lease lease;

    (void)state;
    lease_init(&lease, 2, 2);
    lease_up(&lease, 0);
    lease_running(&lease, 0, 2);
    lease_up(&lease, 1);
    assert_int_equal(tell(&lease), 0);
    assert_true(lease_pong(&lease, 1, 0, 1));
    lease_plan(&lease);
    assert_int_equal(tell(&lease), 1);
    lease_pong(&lease, 0, token, 0);
    assert_int_equal(tell(&lease), 0); /* lowered, and both run on */
    lease_running(&lease, 0, 1);
    lease_settle(&lease);
    assert_int_equal(tell(&lease), 1);
    assert_int_equal(lease.shares[1].told, 1);
}

static void an_old_pong_confirms_nothing(void **state)
{
    struct lease lease;

    (void)state;
    lease_init(&lease, 4, 2);
    lease_up(&lease, 0);
    lease_up(&lease, 1);
    assert_int_equal(tell(&lease), 1);
    lease_pong(&lease, 0, token - 1, 0);
    lease_pong(&lease, 0, 0, 0);
    assert_int_equal(tell(&lease), 0);
    lease_pong(&lease, 0, token, 0);
    assert_int_equal(tell(&lease), 1);
}

static void shares_go_where_calls_wait(void **state)
{
    struct lease lease;

    (void)state;
    two_up(&lease, 4);
    lease_running(&lease, 0, 2);
    lease_pong(&lease, 0, token, 5);
    lease_plan(&lease);
    tell(&lease);
    lease_pong(&lease, 1, token, 0);
    tell(&lease);
    assert_int_equal(lease.shares[0].told, 4);
    assert_int_equal(lease.shares[1].told, 0);

    lease_running(&lease, 0, 4);
    lease_pong(&lease, 0, token, 9);
    assert_true(lease_pong(&lease, 1, 0, 9)); /* it has nothing */
    lease_plan(&lease);
    tell(&lease);
    lease_pong(&lease, 0, token, 9);
    for (uint32_t running = 4; running-- > 2;) {
        lease_running(&lease, 0, running);
        lease_settle(&lease);
        tell(&lease);
    }
    assert_int_equal(lease.shares[0].told, 2); /* the same to both */
    assert_int_equal(lease.shares[1].told, 2);
}

static void without_waiting_calls_nothing_moves(void **state)
{
    struct lease lease;

    (void)state;
    two_up(&lease, 4);
    for (uint32_t running = 0; running <= 2; running++) {
        lease_running(&lease, 0, running);
        lease_plan(&lease);
        assert_int_equal(tell(&lease), 0);
    }
}

static void a_lost_brokers_share_is_the_others(void **state)
{
    struct lease lease;

    (void)state;
    two_up(&lease, 4);
    lease_running(&lease, 0, 2);
    lease.lost = 2; /* both run on without a session */
    lease_down(&lease, 0);
    tell(&lease);
    assert_int_equal(lease.shares[1].told, 2);
    lease.lost = 0;
    lease_plan(&lease);
    tell(&lease);
    assert_int_equal(lease.shares[1].told, 4);
}

static void one_that_goes_away_gets_nothing(void **state)
{
    struct lease lease;

    (void)state;
    two_up(&lease, 4);
    lease_going(&lease, 0);
    tell(&lease);
    assert_int_equal(lease.shares[0].told, 0);
    lease_pong(&lease, 0, token, 7);
    lease_plan(&lease);
    tell(&lease);
    assert_int_equal(lease.shares[1].told, 4);
}

/* With one slot and calls at both, both get their turn. */
static void the_odd_slot_goes_round(void **state)
{
    unsigned turns[2] = {0};
    struct lease lease;

    (void)state;
    two_up(&lease, 1);
    for (int i = 0; i < 10; i++) {
        for (size_t k = 0; k < 2; k++)
            lease_pong(&lease, k, token, 3);
        lease_plan(&lease);
        tell(&lease);
        for (size_t k = 0; k < 2; k++)
            lease_pong(&lease, k, token, 3);
        tell(&lease);
        assert_int_equal(lease.shares[0].told + lease.shares[1].told, 1);
        turns[lease.shares[1].told]++;
    }
    assert_int_equal(turns[0], 5);
    assert_int_equal(turns[1], 5);
}

/* ---- a world of late messages ---------------------------------------------------------------- */

#define BROKERS 3
#define LINE 64

enum note { NOTE_CAPACITY, NOTE_PING, NOTE_OPEN, NOTE_END, NOTE_PONG };

struct line { /* one way of a connection: in order, each message as late as it likes */
    struct {
        enum note note;
        uint64_t value, more;
        int at;
    } notes[LINE];
    size_t first, last;
};

struct far_end { /* a broker */
    bool up;
    uint32_t share, running, waiting;
    struct line to, from;
};

struct world {
    struct lease lease;
    struct far_end brokers[BROKERS];
    uint32_t running[BROKERS]; /* at the worker */
    uint32_t capacity, lost, served;
    uint64_t random, token;
    int now;
};

static uint32_t draw(struct world *world, uint32_t below)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world->random >> 33) % below;
}

static void put(struct world *world, struct line *line, enum note note, uint64_t value,
                uint64_t more)
{
    size_t place = line->last++ % LINE;
    int at = world->now + 1 + (int)draw(world, 12);

    assert_true(line->last - line->first <= LINE);
    if (line->last - line->first > 1 && line->notes[(place + LINE - 1) % LINE].at > at)
        at = line->notes[(place + LINE - 1) % LINE].at;
    line->notes[place].note = note;
    line->notes[place].value = value;
    line->notes[place].more = more;
    line->notes[place].at = at;
}

static bool take(const struct world *world, struct line *line, enum note *note, uint64_t *value,
                 uint64_t *more)
{
    size_t place = line->first % LINE;

    if (line->first == line->last || line->notes[place].at > world->now)
        return false;
    *note = line->notes[place].note;
    *value = line->notes[place].value;
    *more = line->notes[place].more;
    line->first++;
    return true;
}

static uint32_t all_running(const struct world *world)
{
    uint32_t sum = world->lost;

    for (size_t i = 0; i < BROKERS; i++)
        sum += world->running[i];
    return sum;
}

static void broker_step(struct world *world, size_t i)
{
    struct far_end *broker = &world->brokers[i];
    enum note note;
    uint64_t value, more;

    while (broker->up && take(world, &broker->to, &note, &value, &more)) {
        if (note == NOTE_CAPACITY)
            broker->share = (uint32_t)value;
        else if (note == NOTE_PING)
            put(world, &broker->from, NOTE_PONG, value, broker->waiting);
        else if (note == NOTE_END)
            broker->running--;
    }
    while (broker->up && broker->waiting > 0 && broker->running < broker->share) {
        broker->waiting--;
        broker->running++;
        put(world, &broker->from, NOTE_OPEN, 0, 0);
    }
    if (broker->up && broker->waiting > 0 && broker->share == 0 && draw(world, 10) == 0)
        put(world, &broker->from, NOTE_PONG, 0, broker->waiting);
}

static void worker_counts(struct world *world)
{
    world->lease.lost = world->lost;
    for (size_t i = 0; i < BROKERS; i++)
        lease_running(&world->lease, i, world->running[i]);
}

static void worker_hears(struct world *world, size_t i)
{
    enum note note;
    uint64_t value, more;

    while (world->brokers[i].up && take(world, &world->brokers[i].from, &note, &value, &more)) {
        worker_counts(world);
        if (note == NOTE_PONG && lease_pong(&world->lease, i, value, (uint32_t)more))
            lease_plan(&world->lease);
        if (note != NOTE_OPEN)
            continue;
        world->running[i]++;
        if (all_running(world) > world->capacity)
            fail_msg("%u calls run, more than %u", all_running(world), world->capacity);
    }
}

static void worker_ends_some(struct world *world)
{
    for (size_t i = 0; i < BROKERS; i++) {
        if (world->running[i] == 0 || draw(world, 8) > 0)
            continue;
        world->running[i]--;
        world->served++;
        put(world, &world->brokers[i].to, NOTE_END, 0, 0);
    }
    if (world->lost > 0 && draw(world, 8) == 0)
        world->lost--;
}

static void worker_tells(struct world *world)
{
    uint32_t lost = world->lease.lost, share;
    bool confirm;
    size_t i;

    worker_counts(world);
    if (world->now % 50 == 0) {
        for (i = 0; i < BROKERS; i++)
            if (world->brokers[i].up)
                put(world, &world->brokers[i].to, NOTE_PING, ++world->token, 0);
        lease_plan(&world->lease);
    } else if (world->lease.lost < lost) {
        lease_plan(&world->lease);
    } else if (world->lease.pending) {
        lease_settle(&world->lease);
    }
    while (lease_next(&world->lease, &i, &share, &confirm)) {
        put(world, &world->brokers[i].to, NOTE_CAPACITY, share, 0);
        if (!confirm)
            continue;
        put(world, &world->brokers[i].to, NOTE_PING, ++world->token, 0);
        lease_asked(&world->lease, i, world->token);
    }
}

static void connect_broker(struct world *world, size_t i)
{
    struct far_end *broker = &world->brokers[i];

    broker->to = broker->from = (struct line){.first = 0};
    broker->up = true;
    broker->running = broker->share = 0;
    worker_counts(world);
    put(world, &broker->to, NOTE_CAPACITY, lease_up(&world->lease, i), 0);
}

static void cut_broker(struct world *world, size_t i)
{
    world->brokers[i].up = false;
    world->lost += world->running[i];
    world->running[i] = 0;
    worker_counts(world);
    lease_down(&world->lease, i);
}

static void world_step(struct world *world, bool in_trouble)
{
    for (size_t i = 0; i < BROKERS; i++) {
        struct far_end *broker = &world->brokers[i];

        if (!broker->up && draw(world, 20) == 0)
            connect_broker(world, i);
        else if (broker->up && in_trouble && draw(world, 300) == 0)
            cut_broker(world, i);
        if (in_trouble && draw(world, 6) == 0 && broker->waiting < 20)
            broker->waiting += draw(world, 3);
        broker_step(world, i);
        worker_hears(world, i);
    }
    worker_ends_some(world);
    worker_tells(world);
    world->now++;
}

static uint32_t all_waiting(const struct world *world)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < BROKERS; i++)
        sum += world->brokers[i].waiting;
    return sum;
}

static void a_thousand_worlds_keep_within_capacity(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct world world = {.random = seed, .capacity = 1 + (uint32_t)(seed % 7)};
        int quiet = 0;

        lease_init(&world.lease, world.capacity, BROKERS);
        for (int i = 0; i < 1500; i++)
            world_step(&world, true);
        assert_true(world.served > 0);
        while (all_waiting(&world) > 0 && quiet++ < 20000) /* all that wait are served */
            world_step(&world, false);
        if (all_waiting(&world) > 0)
            fail_msg("seed %llu: calls wait for ever", (unsigned long long)seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_gets_all_the_second_half),
        cmocka_unit_test(one_that_runs_is_not_given_away),
        cmocka_unit_test(an_old_pong_confirms_nothing),
        cmocka_unit_test(shares_go_where_calls_wait),
        cmocka_unit_test(without_waiting_calls_nothing_moves),
        cmocka_unit_test(a_lost_brokers_share_is_the_others),
        cmocka_unit_test(one_that_goes_away_gets_nothing),
        cmocka_unit_test(the_odd_slot_goes_round),
        cmocka_unit_test(a_thousand_worlds_keep_within_capacity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
