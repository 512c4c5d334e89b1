/*
 * What choosing and queueing cost: the broker's core alone, without sockets.
 *
 *   bench_broker_scheduling [CALLS]     calls a row, default 200000
 *
 * Rows: workers, waiting calls, tenants, selectors; then nanoseconds a call for what a busy broker does all
 * the time (an OPEN that waits, and an END that lets another go), and the memory of all of it.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "broker/core.h"
#include "proto/mesh.pb-c.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLER 1
#define FIRST_WORKER 1000
#define METHOD "/bench.Echo/Say"
#define KIB 1024

struct row {
    size_t n_workers, n_waiting, n_tenants, n_selectors;
};

struct bench {
    struct broker_core *core;
    int64_t now_ns;
    uint64_t next_id;
    uint64_t *running; /* ids at workers, as they came: a ring */
    uint32_t *worker;  /* (of each) */
    size_t first, n_running, room;
};

static void must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench_broker_scheduling: %s\n", what);
        exit(1);
    }
}

static void note(struct bench *bench, const struct broker_message *action)
{
    struct mesh_header header;

    if (action->side != BROKER_BACK || !action->filled)
        return;
    mesh_header_read(zmq_msg_data((zmq_msg_t *)&action->message.first), &header);
    if (header.kind != MESH_OPEN)
        return;
    must(bench->n_running < bench->room, "more calls run than there are slots");
    bench->running[(bench->first + bench->n_running) % bench->room] = header.call_id;
    bench->worker[(bench->first + bench->n_running) % bench->room] = action->message.peer;
    bench->n_running++;
}

static void deliver(struct bench *bench, enum broker_side side, uint32_t peer,
                    const struct mesh_header *header, const mesh_meta *meta,
                    const ProtobufCMessage *body)
{
    struct broker_message *message = broker_core_blank(bench->core);
    struct mesh_frame frame;
    struct broker_event event = {
        .kind = BROKER_MESSAGE, .side = side, .peer = peer, .message = message, .frame = &frame};

    must(message && mesh_message_build(header, meta, body, false, &message->message) == 0,
         "out of memory");
    message->filled = true;
    message->message.peer = peer;
    mesh_message_frame(&message->message, &frame);
    for (struct broker_message *action = broker_core_step(bench->core, &event, bench->now_ns),
                               *next;
         action; action = next) {
        next = action->next;
        note(bench, action);
        broker_core_recycle(bench->core, action);
    }
}

static void hello(struct bench *bench, enum broker_side side, uint32_t peer)
{
    Dragoman__Mesh__V1__Hello body = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};

    body.version_min = body.version_max = 1;
    body.name = (char *)"bench";
    deliver(bench, side, peer, &header, NULL, &body.base);
}

static void offer(struct bench *bench, uint32_t peer)
{
    Dragoman__Mesh__V1__Register body = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer echo = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *services[] = {&echo};
    Dragoman__Mesh__V1__Label pair = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *labels[] = {&pair};
    struct mesh_header header = {.kind = MESH_REGISTER};
    char *methods[] = {(char *)"Say"};
    char text[16];
    char *values[] = {text};

    snprintf(text, sizeof(text), "%u", peer % 100);
    pair.key = (char *)"pair";
    pair.values = values;
    pair.n_values = 1;
    echo.name = (char *)"bench.Echo";
    echo.methods = methods;
    echo.n_methods = 1;
    body.services = services;
    body.n_services = 1;
    body.labels = labels;
    body.n_labels = 1;
    body.capacity = 1;
    hello(bench, BROKER_BACK, peer);
    deliver(bench, BROKER_BACK, peer, &header, NULL, &body.base);
}

static void open_call(struct bench *bench, const struct row *row)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__Label pair = DRAGOMAN__MESH__V1__LABEL__INIT;
    Dragoman__Mesh__V1__Label *selector[] = {&pair};
    char tenant[24];
    char text[24];
    char *values[] = {text};
    struct mesh_header header = {.kind = MESH_OPEN,
                                 .flags = MESH_END_SEND | MESH_ROUTE,
                                 .call_id = ++bench->next_id,
                                 .timeout_ns =
                                     60000000000 + (int64_t)(bench->next_id * 7919 % 1000)};

    header.method_hash = mesh_method_hash(METHOD, sizeof(METHOD) - 1);
    snprintf(tenant, sizeof(tenant), "%zu", (size_t)(bench->next_id * 31 % row->n_tenants));
    snprintf(text, sizeof(text), "%zu", (size_t)(bench->next_id * 17 % row->n_selectors));
    meta.method = (char *)METHOD;
    meta.tenant = tenant;
    if (row->n_selectors > 1) {
        pair.key = (char *)"pair";
        pair.values = values;
        pair.n_values = 1;
        meta.selector = selector;
        meta.n_selector = 1;
    }
    deliver(bench, BROKER_FRONT, CALLER, &header, &meta, NULL);
}

static void end_call(struct bench *bench)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = bench->running[bench->first]};
    uint32_t worker = bench->worker[bench->first];

    bench->first = (bench->first + 1) % bench->room;
    bench->n_running--;
    deliver(bench, BROKER_BACK, worker, &header, NULL, NULL);
}

static long rss_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file && fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / KIB);
}

static double cpu_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void measure(const struct row *row, size_t n_calls)
{
    struct broker_core_options options = {.queue_limit = 1000000,
                                          .queue_bytes = (size_t)1 << 32,
                                          .max_message_bytes = 1 << 20,
                                          .heartbeat_ms = 60000,
                                          .seed = 1};
    struct bench bench = {.now_ns = 1000000000, .room = row->n_workers + 1};
    long before = rss_kib();
    double start;
    double each;

    bench.running = calloc(bench.room, sizeof(*bench.running));
    bench.worker = calloc(bench.room, sizeof(*bench.worker));
    must(bench.running && bench.worker &&
             broker_core_create(&options, bench.now_ns, &bench.core) == 0,
         "out of memory");
    hello(&bench, BROKER_FRONT, CALLER);
    for (size_t i = 0; i < row->n_workers; i++)
        offer(&bench, FIRST_WORKER + (uint32_t)i);
    while (bench.next_id < row->n_workers * 2 + row->n_waiting)
        open_call(&bench, row);
    start = cpu_ns();
    for (size_t i = 0; i < n_calls; i++) {
        bench.now_ns += 1000;
        end_call(&bench);
        open_call(&bench, row);
    }
    each = (cpu_ns() - start) / (double)n_calls;
    printf("%8zu %8zu %8zu %10zu %10.0f %8ld\n", row->n_workers, row->n_waiting, row->n_tenants,
           row->n_selectors, each, rss_kib() - before);
    fflush(stdout);
    broker_core_destroy(&bench.core);
    free(bench.running);
    free(bench.worker);
}

int main(int argc, char **argv)
{
    static const struct row ROWS[] = {
        {1, 1, 1, 1},        {10, 100, 1, 1},       {1000, 100, 1, 1},      {10, 10000, 1, 1},
        {1000, 10000, 1, 1}, {1000, 10000, 100, 1}, {1000, 10000, 100, 50}, {1000, 10000, 5000, 1},
    };
    size_t n_calls = argc > 1 ? strtoul(argv[1], NULL, 10) : 200000;

    log_init("bench", LOG_ERROR, LOG_FORMAT_TEXT);
    printf("%8s %8s %8s %10s %10s %8s\n", "workers", "waiting", "tenants", "selectors", "ns/call",
           "KiB");
    fflush(stdout);
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
        pid_t child = fork(); /* memory that one row has freed is not the next one's */
        int status = 1;

        if (child == 0) {
            measure(&ROWS[i], n_calls);
            exit(0);
        }
        must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a row has failed");
    }
    return 0;
}
