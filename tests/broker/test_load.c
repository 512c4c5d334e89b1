/*
 * More than fits: an open stream of calls of several tenants against one broker, in virtual time. What the
 * workers are kept busy with must end in time, and no tenant's flood may drown another.
 */
#include "base/log.h"
#include "base/status.h"
#include "broker/core.h"
#include "broker/queue.h"
#include "mesh/deadline.h"
#include "proto/mesh.pb-c.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CALLER 1
#define WORKER 1000
#define WORKERS 4
#define SLOTS 2 /* of each worker */
#define MS ((int64_t)1000000)
#define S (1000 * MS)
#define PATH "/load.Echo/Say"
#define CALLS_MAX 400000
#define TENANTS_MAX 3
#define SERVICE_MS 10 /* on average; so all workers together end 800 calls a second */
#define PEAK_PER_S (1000.0 / SERVICE_MS * WORKERS * SLOTS)

struct tenant {
    const char *name;
    double per_s;
    int64_t timeout_ns;
    int64_t next_ns; /* arrival */
    size_t n_sent, n_ok, n_late, n_refused, n_expired;
    int64_t *took_ns; /* (n_ok + n_late) */
};

struct run {
    uint64_t id;
    uint32_t worker;
    int64_t done_ns; /* 0: free */
};

static struct {
    struct broker_core *core;
    int64_t now_ns, end_ns;
    unsigned seed;
    struct tenant tenants[TENANTS_MAX];
    size_t n_tenants;
    struct run runs[WORKERS * SLOTS];
    int64_t sent_ns[CALLS_MAX]; /* by call id */
    uint8_t whose[CALLS_MAX];
    uint64_t next_id;
} load;

static double uniform(void)
{
    return (rand_r(&load.seed) + 0.5) / ((double)RAND_MAX + 1);
}

/* Arrivals of a crowd that does not wait for answers. */
static int64_t pause_ns(double per_s)
{
    return (int64_t)(-log(uniform()) / per_s * (double)S);
}

static int64_t service_ns(void)
{
    return (int64_t)((0.5 + uniform()) * SERVICE_MS * (double)MS);
}

/* ---- what the broker sends ------------------------------------------------------------------- */

static void start_run(uint32_t worker, const struct mesh_header *header)
{
    size_t i = 0;

    assert_true(header->timeout_ns >= 0); /* I8: nothing is begun after its deadline */
    while (i < WORKERS * SLOTS && load.runs[i].done_ns != 0)
        i++;
    assert_true(i < WORKERS * SLOTS);
    load.runs[i] = (struct run){
        .id = header->call_id, .worker = worker, .done_ns = load.now_ns + service_ns()};
}

static void hear_end(const struct mesh_header *header)
{
    struct tenant *tenant = &load.tenants[load.whose[header->call_id]];
    int64_t took_ns = load.now_ns - load.sent_ns[header->call_id];

    if (header->status == STATUS_OK && (tenant->timeout_ns == 0 || took_ns <= tenant->timeout_ns))
        tenant->took_ns[tenant->n_ok++] = took_ns;
    else if (header->flags & MESH_UNPROCESSED)
        tenant->n_refused++;
    else
        tenant->n_expired++;
}

static void step(const struct broker_event *event)
{
    struct broker_message *next = NULL;

    for (struct broker_message *action = broker_core_step(load.core, event, load.now_ns); action;
         action = next) {
        struct mesh_frame frame;

        next = action->next;
        if (action->filled) {
            mesh_message_frame(&action->message, &frame);
            if (frame.header.kind == MESH_OPEN)
                start_run(action->message.peer, &frame.header);
            else if (frame.header.kind == MESH_END && action->side == BROKER_FRONT)
                hear_end(&frame.header);
        }
        broker_core_recycle(load.core, action);
    }
}

static void deliver(enum broker_side side, uint32_t peer, const struct mesh_header *header,
                    const mesh_meta *meta, const ProtobufCMessage *body)
{
    struct broker_message *message = broker_core_blank(load.core);
    struct mesh_frame frame;
    struct broker_event event = {
        .kind = BROKER_MESSAGE, .side = side, .peer = peer, .message = message, .frame = &frame};

    assert_int_equal(mesh_message_build(header, meta, body, false, &message->message), 0);
    message->filled = true;
    message->message.peer = peer;
    mesh_message_frame(&message->message, &frame);
    step(&event);
}

/* ---- peers ----------------------------------------------------------------------------------- */

static void hello(enum broker_side side, uint32_t peer)
{
    Dragoman__Mesh__V1__Hello body = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};

    body.version_min = body.version_max = 1;
    deliver(side, peer, &header, NULL, &body.base);
}

static void offer(uint32_t peer)
{
    Dragoman__Mesh__V1__Register body = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer echo = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *services[] = {&echo};
    struct mesh_header header = {.kind = MESH_REGISTER};
    char *methods[] = {(char *)"Say"};

    echo.name = (char *)"load.Echo";
    echo.methods = methods;
    echo.n_methods = 1;
    body.services = services;
    body.n_services = 1;
    body.capacity = SLOTS;
    hello(BROKER_BACK, peer);
    deliver(BROKER_BACK, peer, &header, NULL, &body.base);
}

static void open_call(size_t t)
{
    struct tenant *tenant = &load.tenants[t];
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_OPEN,
                                 .flags = MESH_END_SEND | MESH_ROUTE,
                                 .call_id = ++load.next_id,
                                 .timeout_ns = tenant->timeout_ns};

    assert_true(load.next_id < CALLS_MAX);
    load.sent_ns[load.next_id] = load.now_ns;
    load.whose[load.next_id] = (uint8_t)t;
    tenant->n_sent++;
    tenant->next_ns = load.now_ns + pause_ns(tenant->per_s);
    header.method_hash = mesh_method_hash(PATH, sizeof(PATH) - 1);
    meta.method = (char *)PATH;
    meta.tenant = (char *)tenant->name;
    deliver(BROKER_FRONT, CALLER, &header, &meta, NULL);
}

static void end_run(struct run *run)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = run->id};

    run->done_ns = 0;
    deliver(BROKER_BACK, run->worker, &header, NULL, NULL);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void next_event(void)
{
    struct broker_event tick = {.kind = BROKER_TICK};
    struct tenant *sender = &load.tenants[0];
    struct run *run = NULL;
    int64_t tick_ns = broker_core_next_ns(load.core);

    for (size_t i = 1; i < load.n_tenants; i++)
        if (load.tenants[i].next_ns < sender->next_ns)
            sender = &load.tenants[i];
    for (size_t i = 0; i < WORKERS * SLOTS; i++)
        if (load.runs[i].done_ns != 0 && (!run || load.runs[i].done_ns < run->done_ns))
            run = &load.runs[i];
    if (run && run->done_ns <= tick_ns && run->done_ns <= sender->next_ns) {
        load.now_ns = run->done_ns;
        end_run(run);
    } else if (tick_ns <= sender->next_ns) {
        load.now_ns = tick_ns > load.now_ns ? tick_ns : load.now_ns;
        step(&tick);
    } else {
        load.now_ns = sender->next_ns;
        open_call((size_t)(sender - load.tenants));
    }
}

static void run_for(int64_t seconds, const struct queue_weight *weights, size_t n_weights,
                    const struct tenant *tenants, size_t n)
{
    struct broker_core_options options = {.queue_limit = 1024,
                                          .queue_bytes = (size_t)64 << 20,
                                          .max_message_bytes = 1 << 20,
                                          .heartbeat_ms = 60000,
                                          .weights = weights,
                                          .n_weights = n_weights,
                                          .seed = 1};

    load.now_ns = S;
    load.end_ns = S + seconds * S;
    load.seed = 42;
    load.next_id = 0;
    load.n_tenants = n;
    memset(load.runs, 0, sizeof(load.runs));
    assert_int_equal(broker_core_create(&options, load.now_ns, &load.core), 0);
    hello(BROKER_FRONT, CALLER);
    for (uint32_t i = 0; i < WORKERS; i++)
        offer(WORKER + i);
    for (size_t i = 0; i < n; i++) {
        load.tenants[i] = tenants[i];
        load.tenants[i].next_ns = load.now_ns + pause_ns(tenants[i].per_s);
        load.tenants[i].took_ns = calloc(CALLS_MAX, sizeof(int64_t));
    }
    while (load.now_ns < load.end_ns)
        next_event();
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static double p99_ms(struct tenant *tenant)
{
    qsort(tenant->took_ns, tenant->n_ok, sizeof(int64_t), by_size);
    return tenant->n_ok ? (double)tenant->took_ns[tenant->n_ok * 99 / 100] / (double)MS : 0;
}

static void over(const char *what)
{
    for (size_t i = 0; i < load.n_tenants; i++) {
        struct tenant *tenant = &load.tenants[i];

        print_message("%s: '%s' %zu sent, %zu in time, %zu refused, %zu expired, p99 %.1f ms\n",
                      what, tenant->name, tenant->n_sent, tenant->n_ok, tenant->n_refused,
                      tenant->n_expired, p99_ms(tenant));
        free(tenant->took_ns);
    }
    broker_core_destroy(&load.core);
}

/* ---- overload -------------------------------------------------------------------------------- */

#define SECONDS 30
#define PEAK (PEAK_PER_S * SECONDS)

static void twice_the_load_that_fits(void **state)
{
    const struct tenant crowd = {.name = "", .per_s = 2 * PEAK_PER_S, .timeout_ns = 200 * MS};

    (void)state;
    run_for(SECONDS, NULL, 0, &crowd, 1);
    over("twice the load");
    assert_true((double)load.tenants[0].n_ok >= 0.9 * PEAK);
}

static void ten_times_the_load_that_fits(void **state)
{
    const struct tenant crowd = {.name = "", .per_s = 10 * PEAK_PER_S, .timeout_ns = 100 * MS};

    (void)state;
    run_for(SECONDS, NULL, 0, &crowd, 1);
    over("ten times the load");
    assert_true((double)load.tenants[0].n_ok >= 0.9 * PEAK);
}

/* Calls with little time pass those that were let in before them and had more: some of these were let in in
 * vain. */
static void overload_of_two_deadlines(void **state)
{
    const struct tenant crowds[] = {
        {.name = "", .per_s = PEAK_PER_S, .timeout_ns = 60 * MS},
        {.name = "", .per_s = PEAK_PER_S, .timeout_ns = 600 * MS},
    };

    (void)state;
    run_for(SECONDS, NULL, 0, crowds, 2);
    over("two deadlines");
    assert_true((double)(load.tenants[0].n_ok + load.tenants[1].n_ok) >= 0.8 * PEAK);
}

/* What fits is not refused. */
static void nine_tenths_of_the_load(void **state)
{
    const struct tenant crowd = {.name = "", .per_s = 0.9 * PEAK_PER_S, .timeout_ns = 500 * MS};

    (void)state;
    run_for(SECONDS, NULL, 0, &crowd, 1);
    over("nine tenths");
    assert_true(load.tenants[0].n_ok >= load.tenants[0].n_sent * 99 / 100);
}

/* ---- fairness -------------------------------------------------------------------------------- */

/* I9: a modest tenant beside one that sends a hundred times as much. */
static void flood_does_not_drown_the_modest(void **state)
{
    const struct tenant both[] = {
        {.name = "modest", .per_s = 0.2 * PEAK_PER_S, .timeout_ns = 500 * MS},
        {.name = "greedy", .per_s = 20 * PEAK_PER_S, .timeout_ns = 500 * MS},
    };
    double alone;

    (void)state;
    run_for(SECONDS / 3, NULL, 0, both, 1);
    alone = p99_ms(&load.tenants[0]);
    over("alone");
    run_for(SECONDS / 3, NULL, 0, both, 2);
    assert_true(load.tenants[0].n_ok >= load.tenants[0].n_sent * 99 / 100);
    assert_true(p99_ms(&load.tenants[0]) <= 3 * alone);
    assert_true((double)(load.tenants[0].n_ok + load.tenants[1].n_ok) >= 0.9 * PEAK / 3);
    over("beside a flood");
}

/* Nor does one that fills the queue, since its calls may wait for ever. */
static void full_queue_makes_room_for_the_modest(void **state)
{
    const struct tenant both[] = {
        {.name = "modest", .per_s = 0.2 * PEAK_PER_S, .timeout_ns = 500 * MS},
        {.name = "greedy", .per_s = 20 * PEAK_PER_S},
    };

    (void)state;
    run_for(SECONDS / 3, NULL, 0, both, 2);
    over("beside a full queue");
    assert_true(load.tenants[0].n_ok >= load.tenants[0].n_sent * 99 / 100);
}

/* Both want more than there is: each gets its half, however much the other asks for. */
static void shares_are_equal(void **state)
{
    const struct tenant both[] = {
        {.name = "much", .per_s = PEAK_PER_S, .timeout_ns = 500 * MS},
        {.name = "flood", .per_s = 20 * PEAK_PER_S, .timeout_ns = 500 * MS},
    };

    (void)state;
    run_for(SECONDS / 3, NULL, 0, both, 2);
    assert_true((double)load.tenants[0].n_ok >= 0.9 * PEAK / 3 / 2);
    assert_true((double)load.tenants[1].n_ok >= 0.9 * PEAK / 3 / 2);
    over("equal shares");
}

static void shares_follow_weights(void **state)
{
    static const struct queue_weight WEIGHTS[] = {{"gold", 3}};
    const struct tenant both[] = {
        {.name = "gold", .per_s = 2 * PEAK_PER_S, .timeout_ns = 500 * MS},
        {.name = "trial", .per_s = 20 * PEAK_PER_S, .timeout_ns = 500 * MS},
    };

    (void)state;
    run_for(SECONDS / 3, WEIGHTS, 1, both, 2);
    assert_true((double)load.tenants[0].n_ok >= 0.9 * PEAK / 3 * 3 / 4);
    assert_true((double)load.tenants[1].n_ok >= 0.9 * PEAK / 3 / 4);
    over("three to one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_the_load_that_fits),
        cmocka_unit_test(ten_times_the_load_that_fits),
        cmocka_unit_test(overload_of_two_deadlines),
        cmocka_unit_test(nine_tenths_of_the_load),
        cmocka_unit_test(flood_does_not_drown_the_modest),
        cmocka_unit_test(full_queue_makes_room_for_the_modest),
        cmocka_unit_test(shares_are_equal),
        cmocka_unit_test(shares_follow_weights),
    };

    log_init("test", LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
