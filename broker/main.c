#include "base/admin.h"
#include "base/config.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/observe.h"
#include "base/probe.h"
#include "broker/access.h"
#include "broker/broker.h"
#include "broker/weights.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define EXIT_USAGE 2

static struct {
    struct config_list front, back;
    int64_t queue_limit, queue_bytes, max_message_bytes, heartbeat_ms, grace_s, max_session_age;
    const char *tenant_weights;
    struct observe_flags observe;
    struct access_flags access;
} config = {
    .front = {.count = 1, .items = {"tcp://127.0.0.1:5601"}},
    .back = {.count = 1, .items = {"tcp://127.0.0.1:5602"}},
    .queue_limit = 1024,
    .queue_bytes = 64 << 20,
    .max_message_bytes = 32 << 20,
    .heartbeat_ms = 1000,
    .grace_s = 30,
    .observe = OBSERVE_DEFAULTS,
};

static const struct config_option OPTIONS[] = {
    {"", CONFIG_STRING, NULL, NULL, "Connections:", NULL, 0, 0},
    {"front", CONFIG_LIST, &config.front, "ENDPOINT",
     "where callers connect: tcp://HOST:PORT, ipc://PATH", NULL, 0, 0},
    {"back", CONFIG_LIST, &config.back, "ENDPOINT", "where workers connect", NULL, 0, 0},
    ACCESS_CALLER_OPTIONS(config.access),
    ACCESS_WORKER_OPTIONS(config.access),
    {"heartbeat-ms", CONFIG_INT, &config.heartbeat_ms, "N",
     "a peer that is silent three times as long is dead", NULL, 10, 60000},
    {"max-session-age", CONFIG_INT, &config.max_session_age, "SECONDS",
     "ask callers that have stayed so long to connect anew, so that they find new brokers; 0: "
     "never",
     NULL, 0, 1000000},
    {"", CONFIG_STRING, NULL, NULL, "Limits:", NULL, 0, 0},
    {"queue-limit", CONFIG_INT, &config.queue_limit, "N", "waiting calls of one service", NULL, 1,
     1000000},
    {"queue-bytes", CONFIG_INT, &config.queue_bytes, "N", "their messages together, in bytes", NULL,
     65536, 1e12},
    {"tenant-weights", CONFIG_STRING, &config.tenant_weights, "NAME=N,...",
     "tenants that get N times the share of the others, N from 1 to 1000", NULL, 0, 0},
    {"max-message-bytes", CONFIG_INT, &config.max_message_bytes, "N", "one message, in bytes", NULL,
     1024, 1 << 30},
    {"grace-s", CONFIG_INT, &config.grace_s, "N", "seconds that running calls get after SIGTERM",
     NULL, 0, 3600},
    OBSERVE_OPTIONS(config.observe),
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

/* Blocked from here on, in all threads: main waits for them. */
static void hold_signals(sigset_t *signals, bool keys)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    if (keys)
        sigaddset(signals, SIGHUP); /* without keys it ends the process, as everywhere */
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* A peer is a descriptor: take as many as are allowed. Past that libzmq would try to accept, in vain,
 * without end. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

static int allow_all(const struct config_list *endpoints)
{
    int err = 0;

    for (size_t i = 0; i < endpoints->count && err == 0; i++)
        err = access_allows(&config.access, endpoints->items[i]);
    return err;
}

/* Until a signal; the second one ends the process as it always does. */
static void run(struct broker **broker, const sigset_t *signals)
{
    int number = 0;

    for (size_t i = 0; i < config.front.count; i++)
        log_info("callers connect to %s", broker_front_endpoint(*broker, i));
    for (size_t i = 0; i < config.back.count; i++)
        log_info("workers connect to %s", broker_back_endpoint(*broker, i));
    while (sigwait(signals, &number) == 0 && number == SIGHUP)
        broker_reload(*broker);
    log_info("%s: no new calls, %lld s for those that run", strsignal(number),
             (long long)config.grace_s);
    admin_set_unready("draining");
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    broker_stop(broker, config.grace_s * 1000);
}

/* Workers of a broker that was restarted come back within so long: they try at least once a second. */
#define SETTLE_MS 1500

static void fill_options(struct broker_options *options, const char **front, const char **back)
{
    memcpy(front, config.front.items, config.front.count * sizeof(*front));
    memcpy(back, config.back.items, config.back.count * sizeof(*back));
    options->front = front;
    options->back = back;
    options->queue_limit = (uint32_t)config.queue_limit;
    options->queue_bytes = (size_t)config.queue_bytes;
    options->max_message_bytes = (size_t)config.max_message_bytes;
    options->heartbeat_ms = (uint32_t)config.heartbeat_ms;
    options->settle_ms = SETTLE_MS;
    options->max_session_age_ms = (uint32_t)config.max_session_age * 1000;
}

/* @return 0; -errno */
static int serve(struct broker_options *options)
{
    const char *front[CONFIG_LIST_MAX + 1] = {NULL};
    const char *back[CONFIG_LIST_MAX + 1] = {NULL};
    struct mesh_security security = {0};
    struct broker *broker = NULL;
    sigset_t signals;
    int secure = access_load(&config.access, true, &security);
    int err;

    if (secure < 0 || allow_all(&config.front) < 0 || allow_all(&config.back) < 0) {
        mesh_security_wipe(&security);
        return -EINVAL;
    }
    hold_signals(&signals, secure);
    raise_descriptors();
    fill_options(options, front, back);
    options->security = secure ? &security : NULL;
    err = broker_start(options, &broker);
    if (err == 0) {
        admin_set_unready(NULL);
        run(&broker, &signals);
    }
    broker_stop(&broker, 0);
    mesh_security_wipe(&security);
    if (err == 0)
        log_info("stopped");
    return err;
}

int main(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {
        .program = "dragoman-broker",
        .summary = "Give each call to a worker that can serve it.",
        .tables = tables,
    };
    struct broker_options options = {0};
    struct queue_weight *weights = NULL;
    struct admin *admin = NULL;
    int operand;
    int status;
    int err;

    heap_keep();
    if (config_parse(&spec, argc, argv, &operand, &status) != 0)
        return status;
    if (config.observe.probe[0])
        return probe_ready(config.observe.probe);
    err = weights_parse(config.tenant_weights, &weights, &options.n_weights);
    if (err < 0) {
        fprintf(
            stderr,
            "dragoman-broker: --tenant-weights '%s': give NAME=N,NAME=N with N from 1 to %d, each "
            "name once\n",
            config.tenant_weights, QUEUE_WEIGHT_MAX);
        return EXIT_USAGE;
    }
    options.weights = weights;
    admin_set_unready("starting");
    err = observe_start(&config.observe, "dragoman-broker", &admin);
    if (err == 0)
        err = serve(&options);
    observe_stop(&admin);
    free(weights);
    return err == 0 ? EXIT_SUCCESS : err == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
}
