#include "bench/rpc/reliability/load.h"

#include "base/clock.h"
#include "bench/rpc/reliability/stage.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALLS_MAX ((size_t)1 << 20)

struct load {
    struct load_plan plan;
    payload_message request;
    uint8_t data[64];
    pthread_mutex_t lock; /* what follows, but not the entries of calls */
    pthread_cond_t quiet;
    struct load_call *calls;
    size_t n_calls, n_running;
    bool stopping;
    pthread_t generator; /* open loop */
};

/* One of load->calls under way. */
struct under_way {
    struct load *load;
    size_t index;
};

static void begin(struct load *load);

/* @return whether the loop goes on */
static bool leave(struct load *load)
{
    bool more;

    pthread_mutex_lock(&load->lock);
    more = !load->stopping && load->plan.in_flight > 0;
    if (--load->n_running == 0)
        pthread_cond_signal(&load->quiet);
    pthread_mutex_unlock(&load->lock);
    return more;
}

static void ended(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct under_way *way = arg;
    struct load *load = way->load;
    struct load_call *call = &load->calls[way->index];

    call->ended_ns = clock_now_ns();
    call->code = status->code;
    free(way);
    if (response)
        protobuf_c_message_free_unpacked(response, NULL);
    if (leave(load))
        begin(load);
}

static void begin(struct load *load)
{
    struct under_way *way = malloc(sizeof(*way));

    pthread_mutex_lock(&load->lock);
    if (!way || load->n_calls == CALLS_MAX)
        stage_die("more calls than there is room for");
    *way = (struct under_way){.load = load, .index = load->n_calls++};
    load->n_running++;
    pthread_mutex_unlock(&load->lock);

    load->calls[way->index].begun_ns = clock_now_ns();
    if (mesh_unary_start(load->plan.channel, ECHO, "Work", &load->request.base, &load->plan.options,
                         ended, way) < 0)
        stage_die("cannot begin a call");
}

static bool is_stopping(struct load *load)
{
    bool stopping;

    pthread_mutex_lock(&load->lock);
    stopping = load->stopping;
    pthread_mutex_unlock(&load->lock);
    return stopping;
}

/* At even distances; what a late wake-up missed is made up for. */
static void *generate(void *arg)
{
    struct load *load = arg;
    int64_t start_ns = clock_now_ns();
    uint64_t begun = 0;

    while (!is_stopping(load)) {
        uint64_t due = (uint64_t)((double)(clock_now_ns() - start_ns) * 1e-9 * load->plan.per_s);

        for (; begun < due; begun++)
            begin(load);
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return NULL;
}

struct load *load_start(const struct load_plan *plan)
{
    struct load *load = calloc(1, sizeof(*load));

    if (!load || !(load->calls = calloc(CALLS_MAX, sizeof(*load->calls))))
        stage_die("out of memory");
    load->plan = *plan;
    load->request = (payload_message)DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    load->request.work_us = plan->work_us;
    load->request.data = (ProtobufCBinaryData){.len = sizeof(load->data), .data = load->data};
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->quiet, NULL);
    for (int i = 0; i < plan->in_flight; i++)
        begin(load);
    if (plan->in_flight == 0)
        pthread_create(&load->generator, NULL, generate, load);
    return load;
}

const struct load_call *load_stop(struct load *load, size_t *n)
{
    pthread_mutex_lock(&load->lock);
    load->stopping = true;
    pthread_mutex_unlock(&load->lock);
    if (load->plan.in_flight == 0)
        pthread_join(load->generator, NULL);
    pthread_mutex_lock(&load->lock);
    while (load->n_running > 0)
        pthread_cond_wait(&load->quiet, &load->lock);
    pthread_mutex_unlock(&load->lock);
    *n = load->n_calls;
    return load->calls;
}

void load_free(struct load *load)
{
    pthread_mutex_destroy(&load->lock);
    pthread_cond_destroy(&load->quiet);
    free(load->calls);
    free(load);
}
