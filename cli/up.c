#include "cli/up.h"
#include "base/model_folder.h"

#include "asr/service.h"
#include "base/admin.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/observe.h"
#include "base/probe.h"
#include "broker/access.h"
#include "broker/broker.h"
#include "gateway/gateway.h"
#include "models/catalogue.h"
#include "models/store.h"
#include "translate/service.h"
#include "tts/service.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define FRONT "inproc://dragoman-front"
#define BACK "inproc://dragoman-back"
#define WORKERS_MAX (3 * CONFIG_LIST_MAX)
#define ESPEAK "espeak" /* a voice engine that needs no model of ours */

struct up_flags {
    const char *listen, *models, *catalogue, *broker_front;
    struct observe_flags observe;
    struct config_list asr, translate, tts;
    int64_t threads, grace_s;
    struct access_flags access;
};

/* One service of one model. Each loads on a thread of its own. */
struct up_worker {
    const struct mesh_harness_service *service;
    union {
        struct asr_config asr;
        struct translate_config translate;
        struct tts_config tts;
    } config;
    const char *name; /* of the model */
    char folder[STORE_PATH_MAX];
    void *context;
    struct mesh_harness *harness;
    pthread_t thread;
    int err;
};

struct up {
    struct up_flags flags;
    char models[STORE_PATH_MAX];
    struct catalogue *catalogue;
    void *context;
    struct broker *broker;
    struct mesh_security security; /* of --broker-front */
    struct up_worker *workers;     /* (n_workers) */
    size_t n_workers;
    struct gateway *gateway;
    int64_t begun_ms;
};

/* The engine and everything else that a worker of this kind needs to know. */
static void worker_configure(struct up_worker *worker, enum catalogue_kind kind,
                             const struct up_flags *flags)
{
    bool espeak = strcmp(worker->name, ESPEAK) == 0;

    switch (kind) {
    case CATALOGUE_ASR:
        worker->service = &asr_service;
        worker->config.asr = (struct asr_config){.engine = "whisper",
                                                 .model = worker->folder,
                                                 .compute_type = "f32",
                                                 .threads = flags->threads};
        break;
    case CATALOGUE_TRANSLATE:
        worker->service = &translate_service;
        worker->config.translate = (struct translate_config){.engine = "marian",
                                                             .model = worker->folder,
                                                             .compute_type = "int8",
                                                             .threads = flags->threads};
        break;
    default:
        worker->service = &tts_service;
        worker->config.tts = (struct tts_config){.engine = espeak ? "espeak" : "vits",
                                                 .model = espeak ? NULL : worker->folder,
                                                 .compute_type = "f32",
                                                 .threads = flags->threads};
        break;
    }
}

static int up_add(struct up *up, enum catalogue_kind kind, const char *name)
{
    struct up_worker *worker = &up->workers[up->n_workers];

    worker->name = name;
    if (snprintf(worker->folder, sizeof(worker->folder), "%s/%s", up->models, name) >=
        (int)sizeof(worker->folder)) {
        log_error("the path of model '%s' is too long", name);
        return -ENAMETOOLONG;
    }
    if (strcmp(name, ESPEAK) != 0 && access(worker->folder, R_OK | X_OK) < 0) {
        log_error("no model '%s' in '%s': run 'dragoman models pull %s'", name, up->models, name);
        return -ENOENT;
    }
    worker_configure(worker, kind, &up->flags);
    worker->context = up->context;
    up->n_workers++;
    return 0;
}

/* The models named by a flag, or without it those of that kind that are on disk. */
static int up_choose(struct up *up, enum catalogue_kind kind, const struct config_list *named)
{
    int err = 0;

    for (size_t i = 0; i < named->count && err == 0; i++)
        err = up_add(up, kind, named->items[i]);
    if (named->count > 0)
        return err;
    for (size_t i = 0; i < catalogue_count(up->catalogue) && err == 0; i++) {
        const struct catalogue_model *model = catalogue_at(up->catalogue, i);

        if (model->kind == kind && store_state(up->models, model) == STORE_PRESENT)
            err = up_add(up, kind, model->name);
    }
    if (err == 0 && kind == CATALOGUE_TTS)
        err = up_add(up, kind, ESPEAK);
    return err;
}

static int up_choose_all(struct up *up)
{
    size_t named = up->flags.asr.count + up->flags.translate.count + up->flags.tts.count;
    int err = up_choose(up, CATALOGUE_ASR, &up->flags.asr);

    if (err == 0)
        err = up_choose(up, CATALOGUE_TRANSLATE, &up->flags.translate);
    if (err == 0 && up->n_workers == 0 && named == 0) {
        log_error("no models in '%s': run 'dragoman models pull --default'", up->models);
        return -ENOENT;
    }
    return err == 0 ? up_choose(up, CATALOGUE_TTS, &up->flags.tts) : err;
}

static void *worker_load(void *arg)
{
    struct up_worker *worker = arg;
    const struct mesh_harness_options options = {.broker = BACK, .context = worker->context};

    worker->err = mesh_harness_start(worker->service, &worker->config, &options, &worker->harness);
    return NULL;
}

/* All at once, each on its thread. */
static int up_load(struct up *up)
{
    size_t started = 0;
    int err = 0;

    for (; started < up->n_workers && err == 0; started++)
        err =
            -pthread_create(&up->workers[started].thread, NULL, worker_load, &up->workers[started]);
    if (err < 0)
        started--;
    for (size_t i = 0; i < started; i++) {
        pthread_join(up->workers[i].thread, NULL);
        if (up->workers[i].err < 0)
            err = up->workers[i].err;
    }
    return err;
}

static int up_broker(struct up *up)
{
    const char *front[] = {FRONT, up->flags.broker_front[0] ? up->flags.broker_front : NULL, NULL};
    const char *back[] = {BACK, NULL};
    const struct broker_options options = {
        .front = front,
        .back = back,
        .context = up->context,
        .security = up->security.callers ? &up->security : NULL,
    };
    int err = broker_start(&options, &up->broker);

    if (err < 0 && err != -EINVAL) /* that one is said */
        log_error("cannot start the broker%s%s: %s", front[1] ? " at " : "",
                  front[1] ? front[1] : "", strerror(-err));
    return err;
}

static int up_gateway(struct up *up)
{
    const struct gateway_options options = {
        .listen = up->flags.listen, .broker = FRONT, .context = up->context};
    int err = gateway_start(&options, &up->gateway);

    if (err == -EADDRINUSE)
        log_error("cannot listen on %s: something else does; choose another with --listen",
                  up->flags.listen);
    else if (err == -EINVAL)
        log_error("--listen: '%s' is not allowed: give HOST:PORT", up->flags.listen);
    else if (err < 0)
        log_error("cannot listen on %s: %s", up->flags.listen, strerror(-err));
    return err;
}

static void up_down(struct up *up, int64_t grace_ms)
{
    gateway_stop(&up->gateway, grace_ms);
    for (size_t i = 0; i < up->n_workers; i++)
        mesh_harness_stop(&up->workers[i].harness, grace_ms);
    broker_stop(&up->broker, grace_ms);
    mesh_security_wipe(&up->security);
    if (up->context)
        zmq_ctx_term(up->context);
    catalogue_destroy(&up->catalogue);
    free(up->workers);
}

/* All have registered, and the gateway has heard of it. */
static bool up_is_ready(const struct up *up)
{
    for (size_t i = 0; i < up->n_workers; i++)
        if (!mesh_harness_ready(up->workers[i].harness))
            return false;
    return gateway_workers(up->gateway) >= up->n_workers;
}

/* Until requests can be served, or a signal. @return the signal; 0: they can */
static int up_wait_ready(const struct up *up, const sigset_t *stop)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int number;

    while (!up_is_ready(up))
        if ((number = sigtimedwait(stop, NULL, &pause)) > 0)
            return number;
    return 0;
}

/* "127.0.0.1:8080" with the port that was picked; a wildcard address is shown as localhost. */
static void print_ready(const struct up *up)
{
    const char *colon = strrchr(up->flags.listen, ':');
    int host = colon ? (int)(colon - up->flags.listen) : 0;
    bool any = host == 0 || strncmp(up->flags.listen, "0.0.0.0", (size_t)host) == 0;

    printf("ready after %.2f s: http://%.*s:%d/\n", (double)(clock_now_ms() - up->begun_ms) / 1000,
           any ? 9 : host, any ? "localhost" : up->flags.listen, gateway_port(up->gateway));
    fflush(stdout);
}

static size_t named_by_flags(const struct up *up, enum catalogue_kind kind)
{
    switch (kind) {
    case CATALOGUE_ASR:
        return up->flags.asr.count;
    case CATALOGUE_TRANSLATE:
        return up->flags.translate.count;
    default:
        return up->flags.tts.count;
    }
}

/* The models that one might miss, unless others were asked for. */
static void print_missing(const struct up *up)
{
    size_t n = 0;

    for (size_t i = 0; i < catalogue_count(up->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(up->catalogue, i);

        if (model->is_default && named_by_flags(up, model->kind) == 0 &&
            store_state(up->models, model) != STORE_PRESENT)
            fprintf(stderr, "%s%s", n++ ? ", " : "without ", model->name);
    }
    if (n > 0)
        fprintf(stderr, ": 'dragoman models pull --default' brings %s\n", n > 1 ? "them" : "it");
}

static int up_serve(struct up *up)
{
    sigset_t stop;
    int number, err;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    err = up_broker(up);
    if (err == 0)
        err = up_gateway(up);
    if (err < 0)
        return err == -EINVAL ? 2 : 1;
    if (up_choose_all(up) < 0 || up_load(up) < 0)
        return 1;
    number = up_wait_ready(up, &stop);
    if (number == 0) {
        admin_set_unready(NULL);
        print_ready(up);
        print_missing(up);
        sigwait(&stop, &number);
    }
    log_info("%s: draining, at most %lld s; again stops at once", strsignal(number),
             (long long)up->flags.grace_s);
    admin_set_unready("draining");
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
    return 0;
}

static int up_open(struct up *up)
{
    struct failure failure = {0};
    int err = 0;

    if (up->flags.models[0])
        snprintf(up->models, sizeof(up->models), "%s", up->flags.models);
    else
        err = model_folder_default(up->models, sizeof(up->models));
    if (err < 0) {
        log_error("cannot tell where the models are: set HOME, or name the folder by --models");
        return err;
    }
    err = catalogue_load(up->flags.catalogue[0] ? up->flags.catalogue : NULL, &up->catalogue,
                         &failure);
    if (err < 0) {
        log_error("%s", failure.text);
        return err;
    }
    up->workers = calloc(WORKERS_MAX + 1, sizeof(*up->workers));
    up->context = zmq_ctx_new();
    return up->workers && up->context ? 0 : -ENOMEM;
}

int up_run(int argc, char **argv)
{
    struct up up = {.flags = {.listen = "127.0.0.1:8080",
                              .models = "",
                              .catalogue = "",
                              .broker_front = "",
                              .observe = OBSERVE_DEFAULTS,
                              .grace_s = 10},
                    .begun_ms = clock_now_ms()};
    const struct config_option table[] = {
        {"listen", CONFIG_STRING, &up.flags.listen, "HOST:PORT", "where HTTP is served", NULL, 0,
         0},
        {"models", CONFIG_STRING, &up.flags.models, "DIR",
         "the models' folder; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
        {"asr", CONFIG_LIST, &up.flags.asr, "MODEL", "recognisers; without it all on disk", NULL, 0,
         0},
        {"translate", CONFIG_LIST, &up.flags.translate, "MODEL",
         "translators; without it all on disk", NULL, 0, 0},
        {"tts", CONFIG_LIST, &up.flags.tts, "MODEL",
         "voices; without it all on disk, and espeak for other languages", NULL, 0, 0},
        {"threads", CONFIG_INT, &up.flags.threads, "N", "processors a model may use; 0: all", NULL,
         0, 1024},
        {"catalogue", CONFIG_STRING, &up.flags.catalogue, "FILE",
         "another catalogue of models than the built-in one", NULL, 0, 0},
        {"broker-front", CONFIG_STRING, &up.flags.broker_front, "ENDPOINT",
         "also take RPC callers there, such as tcp://127.0.0.1:5601", NULL, 0, 0},
        ACCESS_CALLER_OPTIONS(up.flags.access),
        {"grace-s", CONFIG_INT, &up.flags.grace_s, "S",
         "how long running calls may take at the end", NULL, 0, 3600},
        OBSERVE_OPTIONS(up.flags.observe),
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {.program = "dragoman up",
                                     .summary =
                                         "Runs everything in one process: HTTP, broker and models.",
                                     .tables = tables};
    struct admin *admin = NULL;
    int first, status, err;

    up.flags.observe.log_level = "warn"; /* a terminal is for the line that says where it listens */
    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (up.flags.observe.probe[0])
        return probe_ready(up.flags.observe.probe);
    admin_set_unready("loading");
    err = observe_start(&up.flags.observe, "dragoman", &admin);
    if (err < 0)
        return err == -EINVAL ? 2 : 1;
    if (access_load(&up.flags.access, false, &up.security) < 0 ||
        access_allows(&up.flags.access, up.flags.broker_front) < 0) {
        status = 2;
    } else {
        status = up_open(&up) < 0 ? 1 : up_serve(&up);
        up_down(&up, up.flags.grace_s * 1000);
    }
    observe_stop(&admin);
    return status;
}
