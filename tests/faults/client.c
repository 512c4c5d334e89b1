/*
 * A caller of Ledger: many threads, each making one call after another and writing down how it began and
 * ended. What must not be (a receipt that proves nothing, a gap, an end that does not come) is written
 * down as "bad", for the checker to find.
 */
#include "base/clock.h"
#include "base/config.h"
#include "base/log.h"
#include "mesh/channel.h"
#include "tests/faults/journal.h"
#include "tests/faults/ledger.pb-c.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LEDGER (&dragoman__faults__v1__ledger__descriptor)
#define SILENCE_MS 60000 /* an end that has not come by then will not come */
#define KINDS_MAX 32

typedef Dragoman__Faults__V1__Entry entry;
typedef Dragoman__Faults__V1__Receipt receipt;

static struct {
    const char *broker, *journal, *mix, *tenant;
    int64_t index, threads, seconds, calls, deadline_ms, work_ms, count, bytes, read_ms;
    bool patient;
} config = {
    .broker = "tcp://127.0.0.1:5601",
    .journal = "/dev/null",
    .mix = "once,again,converse,pour",
    .threads = 4,
    .seconds = 2,
    .deadline_ms = 10000,
    .work_ms = 5,
    .count = 5,
    .bytes = 1000,
};

static const struct config_option OPTIONS[] = {
    {"broker", CONFIG_STRING, &config.broker, "ENDPOINT", "whom to call", NULL, 0, 0},
    {"journal", CONFIG_STRING, &config.journal, "FILE", "where calls are written down", NULL, 0, 0},
    {"index", CONFIG_INT, &config.index, "N", "which client this is", NULL, 0, 65535},
    {"mix", CONFIG_STRING, &config.mix, "KIND,...",
     "of calls, in turn: once, again, converse, pour, cancel, hasty, abandon, pile", NULL, 0, 0},
    {"tenant", CONFIG_STRING, &config.tenant, "NAME", "who pays", NULL, 0, 0},
    {"threads", CONFIG_INT, &config.threads, "N", "calls at once", NULL, 1, 4096},
    {"seconds", CONFIG_INT, &config.seconds, "N", "how long", NULL, 0, 100000},
    {"calls", CONFIG_INT, &config.calls, "N", "at most so many; 0: any", NULL, 0, 1e9},
    {"deadline-ms", CONFIG_INT, &config.deadline_ms, "N", "of each call; 0: none", NULL, 0, 1e9},
    {"work-ms", CONFIG_INT, &config.work_ms, "N", "how long a worker takes", NULL, 0, 1e6},
    {"count", CONFIG_INT, &config.count, "N", "messages of a stream", NULL, 1, 1e9},
    {"bytes", CONFIG_INT, &config.bytes, "N", "of each", NULL, 0, 1e7},
    {"read-ms", CONFIG_INT, &config.read_ms, "N", "between reads of a pour; they are written down",
     NULL, 0, 1e6},
    {"patient", CONFIG_BOOL, &config.patient, NULL, "wait for a worker until the deadline", NULL, 0,
     0},
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

struct kind {
    const char *name;
    void (*call)(const struct kind *kind, uint64_t id);
    bool idempotent;
};

static struct mesh_channel *channel;
static const struct kind *mix[KINDS_MAX];
static int n_mix;
static atomic_ullong serial;
static _Atomic int64_t until_ms;

/* ---- one call -------------------------------------------------------------------------------- */

static uint64_t secret_of(uint64_t id)
{
    return ledger_proof(id, 12345);
}

static void bad(uint64_t id, const char *why)
{
    journal("bad call=%llu why=%s", (unsigned long long)id, why);
}

static struct mesh_call_options begin(const struct kind *kind, uint64_t id, int64_t deadline_ms)
{
    journal("invoke call=%llu kind=%s again=%d deadline_ms=%lld work_ms=%lld wall=%lld",
            (unsigned long long)id, kind->name, kind->idempotent, (long long)deadline_ms,
            (long long)config.work_ms, journal_wall_ns());
    return (struct mesh_call_options){.timeout_ms = deadline_ms,
                                      .idempotent = kind->idempotent,
                                      .wait_for_ready = config.patient,
                                      .tenant = config.tenant};
}

static void ended(uint64_t id, const struct status *status)
{
    journal("end call=%llu status=%s", (unsigned long long)id, status_name(status->code));
}

static entry entry_of(uint64_t id)
{
    entry request = DRAGOMAN__FAULTS__V1__ENTRY__INIT;

    request.call = id;
    request.secret = secret_of(id);
    request.work_us = (uint32_t)config.work_ms * 1000;
    request.count = (uint32_t)config.count;
    request.bytes = (uint32_t)config.bytes;
    return request;
}

/* Freed by nobody, kept in a list: an end that comes twice must find its place. */
struct pending {
    struct pending *next;
    uint64_t id;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ends;
};

static _Atomic(struct pending *) all_pending;

static struct pending *pending_new(uint64_t id)
{
    struct pending *pending = calloc(1, sizeof(*pending));
    pthread_condattr_t clock;

    pending->id = id;
    pthread_mutex_init(&pending->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&pending->changed, &clock);
    pthread_condattr_destroy(&clock);
    pending->next = atomic_load(&all_pending);
    while (!atomic_compare_exchange_weak(&all_pending, &pending->next, pending)) {
    }
    return pending;
}

static void unary_done(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct pending *pending = arg;
    const receipt *got = (const receipt *)response;

    if (status->code == STATUS_OK &&
        (got->call != pending->id || got->proof != ledger_proof(secret_of(pending->id), 0)))
        bad(pending->id, "proof");
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    ended(pending->id, status);
    pthread_mutex_lock(&pending->lock);
    pending->ends++;
    pthread_cond_signal(&pending->changed);
    pthread_mutex_unlock(&pending->lock);
}

static void wait_for_end(struct pending *pending)
{
    struct timespec until;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SILENCE_MS / 1000;
    pthread_mutex_lock(&pending->lock);
    while (pending->ends == 0 && err == 0)
        err = pthread_cond_timedwait(&pending->changed, &pending->lock, &until);
    pthread_mutex_unlock(&pending->lock);
}

static void call_unary(const struct kind *kind, uint64_t id)
{
    int64_t deadline_ms =
        strcmp(kind->name, "hasty") == 0 ? 1 + (int64_t)(id % 40) : config.deadline_ms;
    struct mesh_call_options options = begin(kind, id, deadline_ms);
    struct pending *pending = pending_new(id);
    entry request = entry_of(id);

    if (mesh_unary_start(channel, LEDGER, "Enter", &request.base, &options, unary_done, pending) <
        0)
        bad(id, "not-started");
    wait_for_end(pending);
}

static struct mesh_stream *open_stream(const char *method, uint64_t id,
                                       const struct mesh_call_options *options)
{
    struct mesh_stream *stream = NULL;

    if (mesh_stream_open(channel, LEDGER, method, options, &stream) < 0) {
        bad(id, "not-started");
        exit(1);
    }
    return stream;
}

/* How it ended; nothing may come after. */
static void end_of(struct mesh_stream *stream, uint64_t id, uint32_t want, uint32_t got)
{
    ProtobufCMessage *message = NULL;
    struct status status = {.code = STATUS_OK};

    if (!mesh_stream_status(stream, &status)) {
        bad(id, "silent");
        mesh_stream_destroy(&stream);
        return;
    }
    if (status.code == STATUS_OK && got != want)
        bad(id, "ok-but-incomplete");
    if (mesh_stream_read(stream, &message, 0) != -ENODATA)
        bad(id, "data-after-end");
    ended(id, &status);
    mesh_stream_destroy(&stream);
}

/* The next receipt. @return false: there is none */
static bool next_receipt(struct mesh_stream *stream, uint64_t id, uint32_t seq, uint64_t *chain)
{
    ProtobufCMessage *message = NULL;
    const receipt *got;

    if (mesh_stream_read(stream, &message, SILENCE_MS) != 0)
        return false;
    got = (const receipt *)message;
    *chain = ledger_chain(*chain, ledger_proof(secret_of(id), seq), got->payload.len);
    if (got->seq != seq)
        bad(id, "order");
    if (got->call != id || got->proof != ledger_proof(secret_of(id), seq) || got->chain != *chain)
        bad(id, "proof");
    protobuf_c_message_free_unpacked(message, NULL);
    return true;
}

static void sleep_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    if (ms > 0)
        nanosleep(&time, NULL);
}

static void call_converse(const struct kind *kind, uint64_t id)
{
    struct mesh_call_options options = begin(kind, id, config.deadline_ms);
    struct mesh_stream *stream = open_stream("Converse", id, &options);
    entry request = entry_of(id);
    uint64_t chain = 0;
    uint32_t got = 0;

    for (request.seq = 1; request.seq <= request.count; request.seq++) {
        if (mesh_stream_write(stream, &request.base, SILENCE_MS) != 0 ||
            !next_receipt(stream, id, got + 1, &chain))
            break;
        got++;
    }
    mesh_stream_finish(stream);
    if (next_receipt(stream, id, got + 1, &chain)) /* waits for the end */
        bad(id, "one-too-many");
    end_of(stream, id, request.count, got);
}

static void call_pour(const struct kind *kind, uint64_t id)
{
    struct mesh_call_options options = begin(kind, id, config.deadline_ms);
    struct mesh_stream *stream = open_stream("Pour", id, &options);
    entry request = entry_of(id);
    uint64_t chain = 0;
    uint32_t got = 0;

    request.work_us = config.read_ms > 0 ? 0 : request.work_us;
    mesh_stream_write(stream, &request.base, SILENCE_MS);
    mesh_stream_finish(stream);
    while (next_receipt(stream, id, got + 1, &chain)) {
        got++;
        if (config.read_ms > 0)
            journal("took call=%llu n=%u", (unsigned long long)id, got);
        sleep_ms(config.read_ms);
    }
    end_of(stream, id, request.count, got);
}

static void call_cancel(const struct kind *kind, uint64_t id)
{
    struct mesh_call_options options = begin(kind, id, config.deadline_ms);
    struct mesh_stream *stream = open_stream("Enter", id, &options);
    ProtobufCMessage *message = NULL;
    entry request = entry_of(id);

    mesh_stream_write(stream, &request.base, 0);
    mesh_stream_finish(stream);
    sleep_ms((int64_t)(id % 7));
    mesh_stream_cancel(stream);
    journal("cancel call=%llu", (unsigned long long)id);
    if (mesh_stream_read(stream, &message, 0) == 0) /* it was over before */
        protobuf_c_message_free_unpacked(message, NULL);
    end_of(stream, id, 0, 0);
}

/* Begun, with a payload; waited for at the end. */
static void call_pile(const struct kind *kind, uint64_t id)
{
    struct mesh_call_options options = begin(kind, id, config.deadline_ms);
    entry request = entry_of(id);

    request.payload.len = request.bytes;
    request.payload.data = calloc(1, request.bytes + 1);
    if (mesh_unary_start(channel, LEDGER, "Enter", &request.base, &options, unary_done,
                         pending_new(id)) < 0)
        bad(id, "not-started");
    free(request.payload.data);
}

/* Begun, and forgotten at once. */
static void call_abandon(const struct kind *kind, uint64_t id)
{
    struct mesh_call_options options = begin(kind, id, config.deadline_ms);
    struct mesh_stream *stream = open_stream("Pour", id, &options);
    entry request = entry_of(id);

    mesh_stream_write(stream, &request.base, 0);
    mesh_stream_finish(stream);
    if (id % 2)
        sleep_ms(1);
    mesh_stream_destroy(&stream);
    journal("end call=%llu status=ABANDONED", (unsigned long long)id);
}

static const struct kind KINDS[] = {
    {"once", call_unary, false},        {"again", call_unary, true}, {"hasty", call_unary, false},
    {"converse", call_converse, false}, {"pour", call_pour, false},  {"cancel", call_cancel, false},
    {"abandon", call_abandon, false},   {"pile", call_pile, false},
};

/* ---- the process ----------------------------------------------------------------------------- */

static void *make_calls(void *arg)
{
    uint64_t n;

    (void)arg;
    while (clock_now_ms() < until_ms) {
        n = atomic_fetch_add(&serial, 1) + 1;
        if (config.calls > 0 && n > (uint64_t)config.calls)
            break;
        mix[n % (uint64_t)n_mix]->call(mix[n % (uint64_t)n_mix], (uint64_t)config.index << 40 | n);
        if (!mesh_channel_connected(channel)) /* then calls fail at once */
            sleep_ms(20);
    }
    return NULL;
}

/* SIGTERM: the calls under way are the last. */
static void finish(int number)
{
    (void)number;
    until_ms = 0;
}

static int read_mix(void)
{
    char names[256];
    char *rest = NULL;

    snprintf(names, sizeof(names), "%s", config.mix);
    for (char *name = strtok_r(names, ",", &rest); name && n_mix < KINDS_MAX;
         name = strtok_r(NULL, ",", &rest)) {
        const struct kind *kind = NULL;

        for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
            kind = strcmp(KINDS[i].name, name) == 0 ? &KINDS[i] : kind;
        if (!kind) {
            fprintf(stderr, "no kind of call is called '%s'\n", name);
            return -EINVAL;
        }
        mix[n_mix++] = kind;
    }
    return n_mix > 0 ? 0 : -EINVAL;
}

static int run(void)
{
    struct mesh_channel_options options = {.endpoint = config.broker, .name = "faults-client"};
    pthread_t *threads = calloc((size_t)config.threads, sizeof(*threads));

    if (mesh_channel_create(&options, &channel) < 0)
        return EXIT_FAILURE;
    for (int64_t left = 5000; left > 0 && !mesh_channel_connected(channel); left--)
        sleep_ms(1);
    until_ms = clock_now_ms() + config.seconds * 1000;
    signal(SIGTERM, finish);
    for (int64_t i = 0; i < config.threads; i++) {
        if (pthread_create(&threads[i], NULL, make_calls, NULL) != 0)
            return EXIT_FAILURE;
    }
    for (int64_t i = 0; i < config.threads; i++)
        pthread_join(threads[i], NULL);
    for (struct pending *pending = all_pending; pending; pending = pending->next)
        wait_for_end(pending);
    sleep_ms(200); /* an end too many comes now */
    mesh_channel_destroy(&channel);
    journal("quiet client=%d", (int)config.index);
    free(threads);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {.program = "faults_client",
                                     .summary = "Call, and write down what came of it.",
                                     .tables = tables};
    int operand, status;

    if (config_parse(&spec, argc, argv, &operand, &status) != 0)
        return status;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_init("faults-client", LOG_INFO, LOG_FORMAT_TEXT);
    if (read_mix() < 0)
        return 2;
    journal_open(config.journal);
    return run();
}
