/* Deadlines, heartbeats, credit, the mailbox and the pool, each by itself. */
#include "mesh/credit.h"
#include "mesh/deadline.h"
#include "mesh/heartbeat.h"
#include "mesh/mailbox.h"
#include "mesh/pool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

/* ---- deadlines ------------------------------------------------------------------------------- */

static void timers_come_in_order(void **state)
{
    enum { N = 1000 };
    struct mesh_timers timers = {0};
    struct mesh_timer *set = calloc(N, sizeof(*set));
    uint32_t x = 12345;
    int64_t last = 0;
    int n = 0;

    (void)state;
    for (int i = 0; i < 5 * N; i++) { /* set, set anew, cancel */
        struct mesh_timer *timer = &set[(x = x * 1664525 + 1013904223) >> 8 & 1023 ? x % N : 0];

        if (x & 0x10000)
            mesh_timer_cancel(&timers, timer);
        else
            assert_int_equal(mesh_timer_set(&timers, timer, 1 + (x >> 12)), 0);
    }
    for (int i = 0; i < N; i++)
        n += set[i].place != 0;
    assert_int_equal(timers.count, n);
    assert_null(mesh_timers_pop(&timers, 0));
    for (struct mesh_timer *timer; (timer = mesh_timers_pop(&timers, INT64_MAX - 1)); n--) {
        assert_true(timer->at_ns >= last);
        assert_int_equal(timer->place, 0);
        last = timer->at_ns;
    }
    assert_int_equal(n, 0);
    assert_true(mesh_timers_next_ns(&timers) == MESH_NEVER);
    mesh_timers_fini(&timers);
    free(set);
}

static void deadlines_do_not_overflow(void **state)
{
    (void)state;
    assert_true(mesh_deadline_after(100, 0) == MESH_NEVER);
    assert_int_equal(mesh_deadline_after(100, 50), 150);
    assert_int_equal(mesh_deadline_after(100, -50), 100);
    assert_int_equal(mesh_deadline_after(100, INT64_MIN), 100);
    assert_true(mesh_deadline_after(100, INT64_MAX) == MESH_NEVER - 1);
    assert_int_equal(mesh_deadline_left(MESH_NEVER, 100), 0);
    assert_int_equal(mesh_deadline_left(150, 100), 50);
    assert_int_equal(mesh_deadline_left(100, 100), -1);
    assert_int_equal(mesh_deadline_left(50, 100), -1);
}

/* ---- heartbeats ------------------------------------------------------------------------------ */

static void silence_is_death(void **state)
{
    struct mesh_heartbeat beat;

    (void)state;
    mesh_heartbeat_init(&beat, 100, 0);
    for (int64_t ms = 50; ms < 300; ms += 50)
        assert_true(mesh_heartbeat_alive(&beat, ms * MS));
    assert_false(mesh_heartbeat_alive(&beat, 300 * MS));
    mesh_heartbeat_init(&beat, 100, 0);
    mesh_heartbeat_heard(&beat, 50 * MS);
    for (int ms = 90; ms < 350; ms += 90)
        assert_true(mesh_heartbeat_alive(&beat, ms * MS));
    assert_int_equal(mesh_heartbeat_look_ns(&beat), 350 * MS); /* not an interval later, at 370 */
    mesh_heartbeat_heard(&beat, 290 * MS);
    assert_true(mesh_heartbeat_alive(&beat, 350 * MS));
}

static void own_standstill_is_not(void **state)
{
    struct mesh_heartbeat beat;

    (void)state;
    mesh_heartbeat_init(&beat, 100, 0);
    assert_true(mesh_heartbeat_alive(&beat, 90 * MS));
    assert_true(mesh_heartbeat_alive(&beat, 10000 * MS)); /* we were stopped for ten seconds */
    assert_true(mesh_heartbeat_alive(&beat, 10150 * MS));
    assert_true(mesh_heartbeat_alive(&beat, 10299 * MS));
    assert_false(mesh_heartbeat_alive(&beat, 10300 * MS));
}

static void pings_when_either_side_is_quiet(void **state)
{
    struct mesh_heartbeat beat;
    int pings = 0;

    (void)state;
    mesh_heartbeat_init(&beat, 100, 0);
    assert_false(mesh_heartbeat_ping_due(&beat, 99 * MS));
    assert_true(mesh_heartbeat_ping_due(&beat, 100 * MS));
    assert_false(mesh_heartbeat_ping_due(&beat, 150 * MS));
    for (int64_t ms = 150; ms < 1150; ms += 10) { /* talking without an answer */
        mesh_heartbeat_sent(&beat, ms * MS);
        pings += mesh_heartbeat_ping_due(&beat, ms * MS);
    }
    assert_in_range(pings, 9, 10);
    mesh_heartbeat_init(&beat, 100, 0);
    for (int64_t ms = 0; ms < 1000; ms += 10) { /* a lively talk needs none */
        mesh_heartbeat_sent(&beat, ms * MS);
        mesh_heartbeat_heard(&beat, ms * MS);
        assert_false(mesh_heartbeat_ping_due(&beat, ms * MS));
    }
    assert_true(mesh_heartbeat_next_ns(&beat) <= 1090 * MS);
}

static void intervals_are_agreed(void **state)
{
    (void)state;
    assert_int_equal(mesh_heartbeat_agree(0, 0), 1000);
    assert_int_equal(mesh_heartbeat_agree(0, 500), 500);
    assert_int_equal(mesh_heartbeat_agree(500, 0), 500);
    assert_int_equal(mesh_heartbeat_agree(500, 200), 200);
    assert_int_equal(mesh_heartbeat_agree(1, 0), 10);
    assert_int_equal(mesh_heartbeat_agree(UINT32_MAX, 0), 60000);
}

/* ---- credit ---------------------------------------------------------------------------------- */

static void credit_is_conserved(void **state)
{
    struct mesh_credit_in in;
    struct mesh_credit_out out = {0};
    uint32_t x = 99;
    uint32_t unread = 0;
    uint64_t sizes[512];
    uint32_t head = 0;

    (void)state;
    mesh_credit_in_init(&in);
    assert_true(mesh_credit_raise(&out, in.limit_messages, in.limit_bytes));
    for (int i = 0; i < 100000; i++) {
        x = x * 1664525 + 1013904223;
        if (x & 0x800000 && mesh_credit_may_send(&out)) {
            uint64_t size = x >> 8 & 1 ? (x >> 12) % 100 : (x >> 12) % 50000;

            mesh_credit_sent(&out, size);
            assert_true(mesh_credit_received(&in, size)); /* whoever keeps to it is never refused */
            sizes[(head + unread++) % 512] = size;
        } else if (unread > 0) {
            unread--;
            if (mesh_credit_taken(&in, sizes[head++ % 512], unread == 0, i * 1000))
                mesh_credit_raise(&out, in.limit_messages, in.limit_bytes);
        }
        assert_true(unread <= MESH_WINDOW_MESSAGES_MAX);
        assert_true(in.received_bytes - in.taken_bytes <= MESH_WINDOW_BYTES_MAX + 50000);
        assert_true(unread > 0 || mesh_credit_may_send(&out)); /* no deadlock */
    }
    assert_true(in.received_messages > 10000);
}

static void without_credit_is_refused(void **state)
{
    struct mesh_credit_in in;

    (void)state;
    mesh_credit_in_init(&in);
    for (uint32_t i = 0; i < MESH_WINDOW_MESSAGES; i++)
        assert_true(mesh_credit_received(&in, 1));
    assert_false(mesh_credit_received(&in, 1));
    mesh_credit_in_init(&in);
    assert_true(mesh_credit_received(&in, 100 << 20)); /* any size passes, once */
    assert_false(mesh_credit_received(&in, 1));
}

static void limits_only_rise(void **state)
{
    struct mesh_credit_out out = {0};

    (void)state;
    assert_false(mesh_credit_raise(&out, 0, 100)); /* both are needed */
    assert_true(mesh_credit_raise(&out, 2, 50));
    assert_int_equal(out.limit_bytes, 100);
    mesh_credit_sent(&out, 100);
    assert_false(mesh_credit_may_send(&out));
    assert_false(mesh_credit_raise(&out, UINT32_MAX, 100));
    assert_true(mesh_credit_raise(&out, 0, UINT64_MAX));
}

static void windows_grow_for_fast_readers_only(void **state)
{
    struct mesh_credit_in fast, slow, behind;

    (void)state;
    mesh_credit_in_init(&fast);
    mesh_credit_in_init(&slow);
    mesh_credit_in_init(&behind);
    for (int64_t i = 0; i < 2000; i++) {
        mesh_credit_received(&fast, 1000);
        mesh_credit_received(&slow, 1000);
        mesh_credit_received(&behind, 1000);
        mesh_credit_taken(&fast, 1000, true, i * 1000);
        mesh_credit_taken(&slow, 1000, true, i * 10 * MS);
        mesh_credit_taken(&behind, 1000, false, i * 1000);
    }
    assert_int_equal(fast.window_messages, MESH_WINDOW_MESSAGES_MAX);
    assert_int_equal(fast.window_bytes, MESH_WINDOW_BYTES_MAX);
    assert_true(slow.window_messages <= 2 * MESH_WINDOW_MESSAGES);
    assert_int_equal(behind.window_messages, MESH_WINDOW_MESSAGES);
}

/* ---- mailbox --------------------------------------------------------------------------------- */

enum { WRITERS = 4, POSTS = 20000 };

struct letter {
    struct mesh_post post;
    int writer, number;
};

static struct mesh_mailbox box;

static void *write_letters(void *arg)
{
    int writer = (int)(intptr_t)arg;

    for (int i = 0; i < POSTS; i++) {
        struct letter *letter = malloc(sizeof(*letter));

        letter->writer = writer;
        letter->number = i;
        mesh_mailbox_put(&box, &letter->post);
    }
    return NULL;
}

static void every_letter_arrives_in_order(void **state)
{
    pthread_t threads[WRITERS];
    int next[WRITERS] = {0};
    int left = WRITERS * POSTS;

    (void)state;
    assert_int_equal(mesh_mailbox_init(&box), 0);
    for (intptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_letters, (void *)i), 0);
    while (left > 0) {
        struct pollfd fd = {.fd = box.fd, .events = POLLIN};
        struct mesh_post *post;

        if (mesh_mailbox_may_sleep(&box)) {
            assert_int_equal(poll(&fd, 1, 10000), 1); /* a lost wake-up would wait forever */
            mesh_mailbox_awake(&box);
        }
        post = mesh_mailbox_take(&box);
        while (post) {
            struct letter *letter = (struct letter *)post;

            assert_int_equal(letter->number, next[letter->writer]++);
            post = post->next;
            free(letter);
            left--;
        }
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    mesh_mailbox_fini(&box);
}

/* ---- pool ------------------------------------------------------------------------------------ */

struct work {
    struct mesh_job job; /* first */
    int sleep_ms;
};

static atomic_int done, running, most;

static void do_work(struct mesh_job *job)
{
    struct work *work = (struct work *)job;
    int now = atomic_fetch_add(&running, 1) + 1;
    struct timespec time = {.tv_nsec = work->sleep_ms * MS};

    if (now > most)
        most = now;
    if (work->sleep_ms > 0)
        nanosleep(&time, NULL);
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&done, 1);
}

static void run_jobs(int n, int sleep_ms, uint32_t n_threads)
{
    struct mesh_pool *pool = NULL;
    struct work *work = calloc((size_t)n, sizeof(*work));

    done = running = most = 0;
    assert_int_equal(mesh_pool_create(n_threads, do_work, &pool), 0);
    for (int i = 0; i < n; i += 10) { /* in bursts of ten */
        for (int j = i; j < i + 10; j++) {
            work[j].sleep_ms = sleep_ms;
            work[j].job.next = j < i + 9 ? &work[j + 1].job : NULL;
        }
        mesh_pool_add(pool, &work[i].job);
    }
    mesh_pool_destroy(&pool);
    assert_int_equal(done, n);
    free(work);
}

static void every_job_runs(void **state)
{
    (void)state;
    run_jobs(10000, 0, 8);
    run_jobs(100, 0, 1);
}

static void slow_jobs_spread_over_all_threads(void **state)
{
    (void)state;
    run_jobs(10, 100, 10); /* one burst */
    assert_int_equal(most, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_come_in_order),
        cmocka_unit_test(deadlines_do_not_overflow),
        cmocka_unit_test(silence_is_death),
        cmocka_unit_test(own_standstill_is_not),
        cmocka_unit_test(pings_when_either_side_is_quiet),
        cmocka_unit_test(intervals_are_agreed),
        cmocka_unit_test(credit_is_conserved),
        cmocka_unit_test(without_credit_is_refused),
        cmocka_unit_test(limits_only_rise),
        cmocka_unit_test(windows_grow_for_fast_readers_only),
        cmocka_unit_test(every_letter_arrives_in_order),
        cmocka_unit_test(every_job_runs),
        cmocka_unit_test(slow_jobs_spread_over_all_threads),
    };

    return cmocka_run_group_tests_name("parts", tests, NULL, NULL);
}
