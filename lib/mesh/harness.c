#include "mesh/harness.h"

#include "base/admin.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/observe.h"
#include "base/probe.h"
#include "mesh/endpoints.h"
#include "mesh/security.h"
#include "mesh/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void tell_unready(const struct harness_flags *flags, const char *trouble)
{
    char why[512];

    snprintf(why, sizeof(why), "no broker at %s%s%s", flags->broker, trouble ? ": " : "",
             trouble ? trouble : "");
    admin_set_unready(why);
}

/* Until a stop signal: keep /readyz true. */
static int serve(const struct mesh_harness *harness, const struct harness_flags *flags,
                 struct mesh_signals *signals)
{
    const char *trouble = NULL;
    bool was_ready = false;
    int number;

    tell_unready(flags, NULL);
    while (!(number = mesh_signals_wait(signals, WATCH_MS))) {
        bool ready = mesh_harness_ready(harness);
        const char *now = ready ? NULL : mesh_server_trouble(harness->server);

        if (ready == was_ready && now == trouble)
            continue;
        was_ready = ready;
        trouble = now;
        if (ready)
            admin_set_unready(NULL);
        else
            tell_unready(flags, trouble);
    }
    return number;
}

/* Let running calls finish, then tell the rest to stop. */
static void drain(struct mesh_harness **harness, int64_t grace_s, struct mesh_signals *signals)
{
    admin_set_unready("draining");
    mesh_signals_phase(signals, MESH_DRAINING);
    if (mesh_server_drain((*harness)->server, grace_s * 1000) < 0)
        log_warn("calls still ran after %lld s and were cut off", (long long)grace_s);
    mesh_signals_phase(signals, MESH_STOPPING);
    harness_destroy(harness);
}

static int harness_run(const struct mesh_harness_service *service,
                       const struct harness_flags *flags, const struct mesh_security *security,
                       struct mesh_signals *signals)
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
        int number;

        mesh_signals_phase(signals, MESH_SERVING);
        number = serve(harness, flags, signals);
        log_info("%s: draining, at most %lld s", strsignal(number), (long long)flags->grace_s);
        drain(&harness, flags->grace_s, signals);
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

/* Everything between the flags and the exit status. */
static int harness_process(const struct mesh_harness_service *service,
                           const struct harness_flags *flags)
{
    struct mesh_security security = {0};
    struct mesh_signals *signals = NULL;
    struct admin *admin = NULL;
    int exit_status = EXIT_USAGE, secure = -EINVAL;
    int err = mesh_signals_create(&signals); /* before any other thread */

    signal(SIGPIPE, SIG_IGN);
    admin_set_unready("loading");
    if (err == 0)
        err = observe_start(&flags->observe, flags->name, &admin);
    if (err == 0 && broker_is_allowed(flags->broker))
        secure = mesh_security_load(&flags->keys, &security);
    if (secure >= 0)
        exit_status = harness_run(service, flags, secure ? &security : NULL, signals);
    mesh_security_wipe(&security);
    if (err == 0)
        observe_stop(&admin);
    mesh_signals_destroy(&signals);
    return err < 0 && err != -EINVAL ? EXIT_FAILURE : exit_status;
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
    int first, exit_status;

    heap_keep();
    if (config_parse(&spec, argc, argv, &first, &exit_status))
        return exit_status;
    if (flags.observe.probe[0])
        return probe_ready(flags.observe.probe);
    return harness_process(service, &flags);
}
