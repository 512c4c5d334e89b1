#include "mesh/harness.h"

#include "base/admin.h"
#include "base/log.h"
#include "base/observe.h"
#include "base/probe.h"
#include "mesh/endpoints.h"
#include "mesh/security.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define WATCH_MS 100 /* how often readiness is looked at */

struct mesh_harness {
    const struct mesh_harness_service *service;
    struct mesh_server *server;
    void *state; /* the service's own */
};

static void harness_destroy(struct mesh_harness **harness)
{
    struct mesh_harness *self = *harness;

    if (!self)
        return;
    mesh_server_destroy(&self->server); /* no handler runs from here on */
    if (self->state)
        self->service->stop(self->state);
    free(self);
    *harness = NULL;
}

/* Load the service into a server that is made but not started. */
static int harness_create(const struct mesh_harness_service *service, const void *config,
                          const struct mesh_server_options *options, struct mesh_harness **out)
{
    struct mesh_harness *self = calloc(1, sizeof(*self));
    int err = -ENOMEM;

    if (!self)
        goto done;
    self->service = service;
    err = mesh_server_create(options, &self->server);
    if (err < 0) {
        log_error("cannot reach a broker at '%s': %s", options->endpoint, strerror(-err));
        goto done;
    }
    err = service->start(config, self->server, &self->state);
    if (err < 0)
        goto done;
    err = mesh_server_start(self->server);
    if (err < 0) {
        log_error("cannot serve at '%s': %s", options->endpoint, strerror(-err));
        goto done;
    }
    *out = self;
    self = NULL;
done:
    harness_destroy(&self);
    return err;
}

int mesh_harness_start(const struct mesh_harness_service *service, const void *config,
                       const struct mesh_harness_options *options, struct mesh_harness **out)
{
    const struct mesh_server_options server = {
        .endpoint = options->broker,
        .name = service->name,
        .context = options->context,
        .capacity = options->capacity ? options->capacity : service->default_capacity,
        .security = options->security,
    };

    return harness_create(service, config, &server, out);
}

bool mesh_harness_ready(const struct mesh_harness *harness)
{
    return mesh_server_ready(harness->server);
}

void mesh_harness_stop(struct mesh_harness **harness, int64_t grace_ms)
{
    if (*harness)
        mesh_server_drain((*harness)->server, grace_ms);
    harness_destroy(harness);
}

/* What every service process can be told. */
struct harness_flags {
    const char *broker, *name;
    struct observe_flags observe;
    int64_t capacity, grace_s, max_message_bytes;
    struct mesh_key_flags keys;
};

/* Signals that stop the process, taken by sigtimedwait() alone. */
static void signals_block(sigset_t *stop)
{
    sigemptyset(stop);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, stop, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Wait for a stop signal. @return its number; 0 when none came in time */
static int signals_wait(const sigset_t *stop, int64_t ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int number = sigtimedwait(stop, NULL, &time);

    return number > 0 ? number : 0;
}

/* Until a stop signal: keep /readyz true. */
static int serve(const struct mesh_harness *harness, const struct harness_flags *flags,
                 const sigset_t *stop)
{
    char unready[256];
    bool was_ready = false;
    int number;

    snprintf(unready, sizeof(unready), "no broker at %s", flags->broker);
    admin_set_unready(unready);
    while (!(number = signals_wait(stop, WATCH_MS))) {
        bool ready = mesh_harness_ready(harness);

        if (ready == was_ready)
            continue;
        was_ready = ready;
        admin_set_unready(ready ? NULL : unready);
    }
    return number;
}

struct drain {
    struct mesh_server *server;
    int64_t grace_ms;
    int result;
    atomic_bool done;
};

static void *drain_run(void *arg)
{
    struct drain *drain = arg;

    drain->result = mesh_server_drain(drain->server, drain->grace_ms);
    atomic_store(&drain->done, true);
    return NULL;
}

/* Let running calls finish; a second signal ends the process at once. */
static void drain_or_quit(struct mesh_harness *harness, int64_t grace_s, const sigset_t *stop)
{
    struct drain drain = {.server = harness->server, .grace_ms = grace_s * 1000};
    pthread_t thread;

    admin_set_unready("draining");
    if (pthread_create(&thread, NULL, drain_run, &drain) != 0) {
        drain_run(&drain);
        return;
    }
    while (!atomic_load(&drain.done)) {
        if (signals_wait(stop, 20)) {
            log_warn("second signal: stopping without waiting for running calls");
            _exit(1);
        }
    }
    pthread_join(thread, NULL);
    if (drain.result < 0)
        log_warn("calls still ran after %lld s and were cut off", (long long)grace_s);
}

static int harness_run(const struct mesh_harness_service *service,
                       const struct harness_flags *flags, const struct mesh_security *security,
                       const sigset_t *stop)
{
    const struct mesh_server_options options = {
        .endpoint = flags->broker,
        .name = flags->name,
        .capacity = (uint32_t)flags->capacity,
        .max_message_bytes = (size_t)flags->max_message_bytes,
        .security = security,
    };
    struct mesh_harness *harness = NULL;
    int err = harness_create(service, NULL, &options, &harness);

    if (err == 0) {
        int number = serve(harness, flags, stop);

        log_info("%s: draining, at most %lld s", strsignal(number), (long long)flags->grace_s);
        drain_or_quit(harness, flags->grace_s, stop);
        harness_destroy(&harness);
        log_info("stopped");
    }
    return err < 0 ? 1 : 0;
}

/* @return whether the broker may be there; else said why not */
static bool broker_is_allowed(const char *broker)
{
    struct mesh_endpoints endpoints;
    int err = mesh_endpoints_parse(broker, NULL, &endpoints);

    if (err < 0)
        log_error("--broker: '%s' is not allowed: give tcp://HOST:PORT or ipc://PATH, or several "
                  "with commas between them",
                  broker);
    else
        mesh_endpoints_fini(&endpoints);
    return err == 0;
}

int mesh_harness_main(const struct mesh_harness_service *service, int argc, char **argv)
{
    struct harness_flags flags = {
        .broker = "tcp://127.0.0.1:5602",
        .name = service->name,
        .observe = OBSERVE_DEFAULTS,
        .capacity = service->default_capacity ? service->default_capacity : 1,
        .grace_s = 30,
        .max_message_bytes = 32 << 20,
    };
    const struct config_option common[] = {
        {"broker", CONFIG_STRING, &flags.broker, "ENDPOINT", "the broker's worker side", NULL, 0,
         0},
        MESH_KEY_OPTIONS(flags.keys),
        {"name", CONFIG_STRING, &flags.name, "NAME", "what this worker is called in the directory",
         NULL, 0, 0},
        {"capacity", CONFIG_INT, &flags.capacity, "N", "calls that run at once", NULL, 1, 1024},
        {"max-message-bytes", CONFIG_INT, &flags.max_message_bytes, "N",
         "largest message taken or sent", NULL, 4096, 1 << 30},
        {"grace-s", CONFIG_INT, &flags.grace_s, "S", "how long running calls may take on SIGTERM",
         NULL, 0, 3600},
        OBSERVE_OPTIONS(flags.observe),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {service->options ? service->options : common,
                                                  service->options ? common : NULL, NULL};
    const struct config_spec spec = {
        .program = service->program, .summary = service->summary, .tables = tables};
    struct mesh_security security = {0};
    struct admin *admin = NULL;
    sigset_t stop;
    int first, exit_status, secure, err;

    if (config_parse(&spec, argc, argv, &first, &exit_status))
        return exit_status;
    if (flags.observe.probe[0])
        return probe_ready(flags.observe.probe);
    admin_set_unready("loading");
    signals_block(&stop);
    err = observe_start(&flags.observe, flags.name, &admin);
    if (err < 0)
        return err == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
    secure = broker_is_allowed(flags.broker) ? mesh_security_load(&flags.keys, &security) : -EINVAL;
    exit_status =
        secure < 0 ? EXIT_USAGE : harness_run(service, &flags, secure ? &security : NULL, &stop);
    mesh_security_wipe(&security);
    observe_stop(&admin);
    return exit_status;
}
