#include "base/log.h"
#include "cli/client.h"
#include "cli/command.h"
#include "mesh/channel.h"
#include "mesh/security.h"
#include "proto/mesh.pb-c.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef Dragoman__Mesh__V1__DirectoryRequest directory_request;
typedef Dragoman__Mesh__V1__DirectoryResponse directory_response;
typedef Dragoman__Mesh__V1__ServiceState service_state;
typedef Dragoman__Mesh__V1__WorkerState worker_state;

#define VALUES_SHOWN 4 /* of a label; more are counted */
#define PATIENCE_MS 3000
#define SCREEN_BYTES 65536

static void print_services(const directory_response *state)
{
    printf("%-36s %8s %8s %8s %8s %10s %8s\n", "SERVICE", "WORKERS", "RUNNING", "SLOTS", "QUEUED",
           "CALLS", "FAILED");
    for (size_t i = 0; i < state->n_services; i++) {
        const service_state *service = state->services[i];

        printf("%-36s %8u %8u %8u %8u %10" PRIu64 " %8" PRIu64 "\n", service->name,
               service->workers, service->running, service->capacity, service->queued,
               service->started, service->failed);
    }
}

/* "model=whisper-base pair=en-pt lang=99 of them" */
static void print_labels(const worker_state *worker)
{
    for (size_t i = 0; i < worker->n_labels; i++) {
        const Dragoman__Mesh__V1__Label *label = worker->labels[i];

        printf(" %s=", label->key);
        for (size_t v = 0; v < label->n_values && label->n_values <= VALUES_SHOWN; v++)
            printf("%s%s", v ? "," : "", label->values[v]);
        if (label->n_values > VALUES_SHOWN)
            printf("(%zu)", label->n_values);
    }
    printf("\n");
}

/* "4", or of a worker with several brokers "1/4": those it has lent to this one. */
static void slots_text(const worker_state *worker, char *out, size_t size)
{
    if (worker->capacity_total > 0)
        snprintf(out, size, "%u/%u", worker->capacity, worker->capacity_total);
    else
        snprintf(out, size, "%u", worker->capacity);
}

static void print_workers(const directory_response *state)
{
    printf("\n%4s %-16s %8s %9s %5s %10s  %s\n", "ID", "WORKER", "RUNNING", "SLOTS", "LOAD",
           "CALLS", "LABELS");
    for (size_t i = 0; i < state->n_workers; i++) {
        const worker_state *worker = state->workers[i];
        char slots[24];

        slots_text(worker, slots, sizeof(slots));
        printf("%4" PRIu64 " %-16s %8u %9s %4.0f%% %10" PRIu64 " %s", worker->id, worker->name,
               worker->running, slots, 100 * (double)worker->load, worker->calls_ended,
               worker->draining ? " draining" : "");
        if (*worker->sick)
            printf(" sick: it %s;", worker->sick);
        print_labels(worker);
    }
}

/* Who waits, where more than one does. */
static void print_tenants(const directory_response *state)
{
    bool titled = false;

    for (size_t i = 0; i < state->n_services; i++)
        for (size_t t = 0; t < state->services[i]->n_tenants; t++) {
            const Dragoman__Mesh__V1__TenantState *tenant = state->services[i]->tenants[t];

            if (*tenant->name == '\0' && state->services[i]->n_tenants == 1)
                continue;
            if (!titled)
                printf("\n%-36s %-16s %8s %8s\n", "SERVICE", "TENANT", "QUEUED", "WEIGHT");
            titled = true;
            printf("%-36s %-16s %8u %8u\n", state->services[i]->name,
                   *tenant->name ? tenant->name : "-", tenant->queued, tenant->weight);
        }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(service_state *const *)a)->name, (*(service_state *const *)b)->name);
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = (*(worker_state *const *)a)->id, y = (*(worker_state *const *)b)->id;

    return x < y ? -1 : x > y;
}

/* Names come from workers and callers: none of them may move the cursor. */
static void tame(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F)
            *text = '?';
}

static void tame_worker(worker_state *worker)
{
    tame(worker->name);
    tame(worker->sick);
    for (size_t i = 0; i < worker->n_labels; i++) {
        tame(worker->labels[i]->key);
        for (size_t v = 0; v < worker->labels[i]->n_values; v++)
            tame(worker->labels[i]->values[v]);
    }
}

static void tame_all(directory_response *state)
{
    for (size_t i = 0; i < state->n_services; i++) {
        tame(state->services[i]->name);
        for (size_t t = 0; t < state->services[i]->n_tenants; t++)
            tame(state->services[i]->tenants[t]->name);
    }
    for (size_t i = 0; i < state->n_workers; i++)
        tame_worker(state->workers[i]);
}

/* A redrawn screen comes in one piece, and long lines are cut instead of wrapped. */
static void print_state(const char *broker, const directory_response *state, bool redraw)
{
    if (redraw)
        printf("\033[?7l\033[H\033[J");
    if (state->n_services > 0)
        qsort(state->services, state->n_services, sizeof(*state->services), by_name);
    if (state->n_workers > 0)
        qsort(state->workers, state->n_workers, sizeof(*state->workers), by_id);
    printf("broker %s, dragoman %s, up %" PRIu64 " s, %" PRIu64 " calls started, %" PRIu64
           " ended\n\n",
           broker, state->broker_build, state->uptime_ms / 1000, state->calls_started,
           state->calls_ended);
    print_services(state);
    print_workers(state);
    print_tenants(state);
    if (redraw)
        printf("\033[?7h");
    fflush(stdout);
}

static int show(struct mesh_channel *channel, const char *broker, bool redraw)
{
    const directory_request request = DRAGOMAN__MESH__V1__DIRECTORY_REQUEST__INIT;
    const struct mesh_call_options options = {.timeout_ms = PATIENCE_MS,
                                              .wait_for_ready = !mesh_channel_trouble(channel)};
    ProtobufCMessage *response = NULL;
    struct status status;

    if (mesh_unary(channel, &dragoman__mesh__v1__directory__descriptor, "List", &request.base,
                   &options, &response, &status) < 0) {
        const char *trouble = mesh_channel_trouble(channel);

        if (trouble)
            return client_fail("cannot talk to %s: %s (--key, --broker-key)", broker, trouble);
        return client_fail("no broker answers at %s (%s): start one with 'dragoman up "
                           "--broker-front %s', or name another by --broker",
                           broker, status.message, broker);
    }
    tame_all((directory_response *)response);
    print_state(broker, (const directory_response *)response, redraw);
    protobuf_c_message_free_unpacked(response, NULL);
    return 0;
}

/* Until there is a broker, or it is plain that there will be none: not the whole patience of a call. */
static void wait_for_broker(const struct mesh_channel *channel)
{
    const struct timespec pause = {.tv_nsec = 2000000};

    for (int ms = 0;
         ms < PATIENCE_MS && !mesh_channel_connected(channel) && !mesh_channel_trouble(channel);
         ms += 2)
        nanosleep(&pause, NULL);
}

int top_run(int argc, char **argv)
{
    const char *broker = "tcp://127.0.0.1:5601";
    bool once = !isatty(STDOUT_FILENO);
    double interval_s = 1;
    struct mesh_key_flags keys = {0};
    struct mesh_security security = {0};
    const struct config_option table[] = {
        {"broker", CONFIG_STRING, &broker, "ENDPOINT", "the broker's caller side", NULL, 0, 0},
        MESH_KEY_OPTIONS(keys),
        {"once", CONFIG_BOOL, &once, NULL, "print once and leave, as where output is no terminal",
         NULL, 0, 0},
        {"interval-s", CONFIG_DOUBLE, &interval_s, "S", "between two looks", NULL, 0.1, 3600},
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {
        .program = "dragoman top",
        .summary = "Watches a broker: its services, workers and queues. ^C leaves.",
        .tables = tables};
    struct mesh_channel *channel = NULL;
    int first, status, secure, err;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    log_init("dragoman", LOG_ERROR, LOG_FORMAT_AUTO);
    secure = mesh_security_load(&keys, &security);
    if (secure < 0)
        return 2;
    err = mesh_channel_create(&(struct mesh_channel_options){.endpoint = broker,
                                                             .name = "top",
                                                             .security = secure ? &security : NULL},
                              &channel);
    if (err < 0)
        return client_fail("cannot use '%s': %s", broker, strerror(-err));
    if (!once)
        setvbuf(stdout, NULL, _IOFBF, SCREEN_BYTES);
    wait_for_broker(channel);
    do {
        const struct timespec pause = {.tv_sec = (time_t)interval_s,
                                       .tv_nsec =
                                           (long)((interval_s - (double)(time_t)interval_s) * 1e9)};

        status = show(channel, broker, !once);
        if (!once && status == 0)
            nanosleep(&pause, NULL);
    } while (!once && status == 0);
    mesh_channel_destroy(&channel);
    mesh_security_wipe(&security);
    return status;
}
