/*
 * Many calls of Ledger, quickly: unary ones with 64 in flight, every hundredth a stream, every other hundredth
 * cancelled. Counts how they end; memory is its driver's to watch.
 *
 *   faults_soak FRONT CALLS
 */
#include "base/clock.h"
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
#include <sys/prctl.h>
#include <time.h>

#define LEDGER (&dragoman__faults__v1__ledger__descriptor)
#define IN_FLIGHT 64
#define STREAM_MESSAGES 5

static struct mesh_channel *channel;
static atomic_llong left, ended, wrong, cancelled;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;

static Dragoman__Faults__V1__Entry entry_of(uint64_t id)
{
    Dragoman__Faults__V1__Entry request = DRAGOMAN__FAULTS__V1__ENTRY__INIT;

    request.call = id;
    request.secret = id;
    return request;
}

static void call_ended(bool good)
{
    if (!good)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&ended, 1);
}

/* ---- unary calls, without a thread each -------------------------------------------------------- */

/* @return the number of the next call; 0: there is none */
static uint64_t next_call(void)
{
    long long n = atomic_fetch_sub(&left, 1);

    return n > 0 ? (uint64_t)n : 0;
}

struct flight {
    uint64_t id;
    bool over;
};

static void fly(struct flight *flight);

static void landed(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct flight *flight = arg;
    const Dragoman__Faults__V1__Receipt *got = (const Dragoman__Faults__V1__Receipt *)response;

    call_ended(status->code == STATUS_OK && got->proof == ledger_proof(flight->id, 0));
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    fly(flight);
}

static void fly(struct flight *flight)
{
    Dragoman__Faults__V1__Entry request;

    flight->id = next_call();
    request = entry_of(flight->id);
    if (flight->id > 0 &&
        mesh_unary_start(channel, LEDGER, "Note", &request.base, NULL, landed, flight) == 0)
        return;
    pthread_mutex_lock(&lock);
    flight->over = true;
    pthread_cond_signal(&done);
    pthread_mutex_unlock(&lock);
}

/* ---- streams, and calls that are cancelled ----------------------------------------------------- */

static bool converse(uint64_t id)
{
    Dragoman__Faults__V1__Entry request = entry_of(id);
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *message = NULL;
    struct status status;
    uint32_t got = 0;

    if (mesh_stream_open(channel, LEDGER, "Converse", NULL, &stream) < 0)
        return false;
    for (request.seq = 1; request.seq <= STREAM_MESSAGES; request.seq++) {
        if (mesh_stream_write(stream, &request.base, 30000) < 0 ||
            mesh_stream_read(stream, &message, 30000) < 0)
            break;
        got += ((Dragoman__Faults__V1__Receipt *)message)->seq == request.seq;
        protobuf_c_message_free_unpacked(message, NULL);
    }
    mesh_stream_finish(stream);
    if (mesh_stream_read(stream, &message, 30000) == 0)
        protobuf_c_message_free_unpacked(message, NULL);
    if (!mesh_stream_status(stream, &status))
        status.code = STATUS_UNKNOWN;
    mesh_stream_destroy(&stream);
    return status.code == STATUS_OK && got == STREAM_MESSAGES;
}

static bool cancel(uint64_t id)
{
    Dragoman__Faults__V1__Entry request = entry_of(id);
    struct mesh_stream *stream = NULL;
    struct status status = {.code = STATUS_UNKNOWN};

    request.work_us = 1000000;
    if (mesh_stream_open(channel, LEDGER, "Enter", NULL, &stream) < 0)
        return false;
    mesh_stream_write(stream, &request.base, 0);
    if (id % 2)
        mesh_stream_finish(stream);
    mesh_stream_cancel(stream);
    mesh_stream_status(stream, &status);
    mesh_stream_destroy(&stream);
    atomic_fetch_add(&cancelled, status.code == STATUS_CANCELLED);
    return status.code == STATUS_CANCELLED;
}

static void *make_others(void *arg)
{
    long long n = *(const long long *)arg;

    for (long long i = 0; i < n; i++) {
        uint64_t id = (uint64_t)1 << 40 | (uint64_t)i;

        call_ended(i % 2 ? converse(id) : cancel(id));
    }
    return NULL;
}

/* ---- the process ------------------------------------------------------------------------------- */

static void run(long long calls)
{
    static struct flight flights[IN_FLIGHT];
    long long others = calls / 50;
    pthread_t thread;

    atomic_init(&left, calls - others);
    if (pthread_create(&thread, NULL, make_others, &others) != 0)
        exit(1);
    for (int i = 0; i < IN_FLIGHT; i++)
        fly(&flights[i]);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < IN_FLIGHT; i++) {
        while (!flights[i].over)
            pthread_cond_wait(&done, &lock);
    }
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    struct mesh_channel_options options = {.name = "faults-soak"};
    int64_t begun = clock_now_ms();

    if (argc != 3) {
        fprintf(stderr, "usage: %s FRONT CALLS\n", argv[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_init("faults-soak", LOG_INFO, LOG_FORMAT_TEXT);
    options.endpoint = argv[1];
    if (mesh_channel_create(&options, &channel) < 0)
        return 1;
    while (!mesh_channel_connected(channel) && clock_now_ms() - begun < 10000)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    run(strtoll(argv[2], NULL, 10));
    mesh_channel_destroy(&channel);
    printf("ended=%lld wrong=%lld cancelled=%lld ms=%lld\n", (long long)ended, (long long)wrong,
           (long long)cancelled, (long long)(clock_now_ms() - begun));
    return wrong == 0 ? 0 : 1;
}
