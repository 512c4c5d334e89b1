#include "base/admin.h"
#include "base/config.h"
#include "base/log.h"
#include "base/observe.h"
#include "base/probe.h"
#include "gateway/gateway.h"
#include "mesh/security.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS_MAX 64
#define EXIT_USAGE 2

static struct {
    const char *listen, *broker, *cors_origin, *api_key_file;
    struct observe_flags observe;
    struct mesh_key_flags keys;
    struct config_list api_keys;
    int64_t max_upload_mb, max_buffered_mb, max_text_bytes, max_audio_s;
    int64_t threads, queue_limit, max_connections, request_timeout_s, idle_timeout_s, grace_s;
} config = {
    .listen = "127.0.0.1:8080",
    .broker = "tcp://127.0.0.1:5601",
    .cors_origin = "*",
    .max_upload_mb = 100,
    .max_buffered_mb = 512,
    .max_text_bytes = 1 << 20,
    .max_audio_s = 4 * 3600,
    .threads = 64,
    .queue_limit = 128,
    .max_connections = 1024,
    .request_timeout_s = 1800,
    .idle_timeout_s = 60,
    .grace_s = 30,
    .observe = OBSERVE_DEFAULTS,
};

static const struct config_option OPTIONS[] = {
    {"", CONFIG_STRING, NULL, NULL, "Connections:", NULL, 0, 0},
    {"listen", CONFIG_STRING, &config.listen, "HOST:PORT", "where HTTP clients connect", NULL, 0,
     0},
    {"broker", CONFIG_STRING, &config.broker, "ENDPOINT", "the broker's caller side", NULL, 0, 0},
    MESH_KEY_OPTIONS(config.keys),
    {"api-key", CONFIG_LIST, &config.api_keys, "KEY",
     "ask clients for 'Authorization: Bearer KEY'; none: ask nobody", NULL, 0, 0},
    {"api-key-file", CONFIG_STRING, &config.api_key_file, "FILE",
     "keys from a file (a secret), one a line", NULL, 0, 0},
    {"cors-origin", CONFIG_STRING, &config.cors_origin, "ORIGIN",
     "web pages that may call: an origin, * for all, '' for none", NULL, 0, 0},
    {"", CONFIG_STRING, NULL, NULL, "Limits:", NULL, 0, 0},
    {"max-upload-mb", CONFIG_INT, &config.max_upload_mb, "N", "one request's body", NULL, 1, 4096},
    {"max-buffered-mb", CONFIG_INT, &config.max_buffered_mb, "N",
     "the bodies of all requests together", NULL, 1, 65536},
    {"max-text-bytes", CONFIG_INT, &config.max_text_bytes, "N", "text of one request", NULL, 1,
     64 << 20},
    {"max-audio-s", CONFIG_INT, &config.max_audio_s, "N", "longest recording, in seconds", NULL, 1,
     86400},
    {"threads", CONFIG_INT, &config.threads, "N", "requests that are worked on at once", NULL, 1,
     256},
    {"queue-limit", CONFIG_INT, &config.queue_limit, "N",
     "requests that wait for their turn; past it: 429", NULL, 1, 65536},
    {"max-connections", CONFIG_INT, &config.max_connections, "N", "clients connected at once", NULL,
     1, 65536},
    {"request-timeout-s", CONFIG_INT, &config.request_timeout_s, "N", "the deadline of a request",
     NULL, 1, 86400},
    {"idle-timeout-s", CONFIG_INT, &config.idle_timeout_s, "N",
     "how long a client may neither send nor take", NULL, 1, 3600},
    {"grace-s", CONFIG_INT, &config.grace_s, "N", "seconds that running requests get after SIGTERM",
     NULL, 0, 3600},
    OBSERVE_OPTIONS(config.observe),
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

/* Blocked from here on, in all threads: main waits for them. */
static void hold_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Add the lines of the key file, which become `*text`. @return 0; -1 said why */
static int read_key_file(char **text, const char **keys, size_t n)
{
    FILE *file = fopen(config.api_key_file, "re");
    size_t size = 0, before = n;
    ssize_t got = file ? getdelim(text, &size, '\0', file) : -1;
    bool failed = !file || (got < 0 && ferror(file));
    char *at = *text, *line;

    if (failed)
        log_error("cannot read the keys in '%s': %s", config.api_key_file, strerror(errno));
    if (file)
        fclose(file);
    while (got > 0 && n < KEYS_MAX && (line = strsep(&at, "\r\n"))) {
        if (*line)
            keys[n++] = line;
    }
    if (!failed && n == before) /* asking nobody is not what was meant */
        log_error("no key in '%s': write one a line", config.api_key_file);
    if (n == KEYS_MAX)
        log_error("too many keys: %d are taken", KEYS_MAX - 1);
    return n > before && n < KEYS_MAX ? 0 : -1;
}

static void fill_options(struct gateway_options *options, const char *const *keys)
{
    *options = (struct gateway_options){
        .listen = config.listen,
        .broker = config.broker,
        .api_keys = keys,
        .cors_origin = config.cors_origin,
        .max_upload_bytes = (size_t)config.max_upload_mb << 20,
        .max_buffered_bytes = (size_t)config.max_buffered_mb << 20,
        .max_text_bytes = (size_t)config.max_text_bytes,
        .max_audio_s = (uint32_t)config.max_audio_s,
        .request_threads = (uint32_t)config.threads,
        .queue_limit = (uint32_t)config.queue_limit,
        .max_connections = (uint32_t)config.max_connections,
        .request_timeout_ms = config.request_timeout_s * 1000,
        .idle_timeout_ms = config.idle_timeout_s * 1000,
    };
}

/* Keys of the flags and of the file. @return 0; -1 said why */
static int collect_keys(char **text, const char **keys)
{
    for (size_t i = 0; i < config.api_keys.count; i++)
        keys[i] = config.api_keys.items[i];
    return config.api_key_file ? read_key_file(text, keys, config.api_keys.count) : 0;
}

static void explain(int err)
{
    if (err == -EINVAL)
        log_error("cannot start: --listen=%s or --broker=%s is no address: write HOST:PORT and "
                  "tcp://HOST:PORT",
                  config.listen, config.broker);
    else
        log_error("cannot listen on %s: %s%s", config.listen, strerror(-err),
                  err == -EADDRINUSE ? ": stop what uses it, or choose another with --listen" : "");
}

/* Until a signal: keep the admin port's /readyz as true as the gateway's own. @return its number */
static int wait_for_signal(const struct gateway *gateway, const sigset_t *signals)
{
    const struct timespec pause = {.tv_nsec = 200000000};
    int number;

    do {
        admin_set_unready(gateway_ready(gateway) ? NULL : "not every service has a worker");
        number = sigtimedwait(signals, NULL, &pause);
    } while (number < 0);
    return number;
}

/* @return the exit status */
static int serve(struct gateway_options *options, const sigset_t *signals)
{
    struct gateway *gateway = NULL;
    int number;
    int err = gateway_start(options, &gateway);

    if (err < 0) {
        explain(err);
        return err == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
    }
    log_info("listening on %s (port %d), broker at %s", config.listen, gateway_port(gateway),
             config.broker);
    number = wait_for_signal(gateway, signals);
    log_info("%s: no new requests, %lld s for those that run", strsignal(number),
             (long long)config.grace_s);
    admin_set_unready("draining");
    pthread_sigmask(SIG_UNBLOCK, signals, NULL); /* a second one ends the process at once */
    gateway_stop(&gateway, config.grace_s * 1000);
    return EXIT_SUCCESS;
}

static int run(void)
{
    const char *keys[KEYS_MAX + 1] = {NULL};
    char *key_text = NULL;
    struct gateway_options options;
    struct mesh_security security = {0};
    sigset_t signals;
    int status = EXIT_FAILURE;
    int secure;

    hold_signals(&signals);
    if (collect_keys(&key_text, keys) == 0) {
        secure = mesh_security_load(&config.keys, &security);
        fill_options(&options, keys);
        options.security = secure > 0 ? &security : NULL;
        status = secure < 0 ? EXIT_USAGE : serve(&options, &signals);
    }
    free(key_text);
    mesh_security_wipe(&security);
    return status;
}

int main(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {
        .program = "dragoman-gateway",
        .summary = "Serve speech, translation and voices over HTTP.",
        .tables = tables,
    };
    struct admin *admin = NULL;
    int operand, status, err;

    if (config_parse(&spec, argc, argv, &operand, &status) != 0)
        return status;
    if (config.observe.probe[0])
        return probe_ready(config.observe.probe);
    admin_set_unready("starting");
    err = observe_start(&config.observe, "dragoman-gateway", &admin);
    status = err == 0 ? run() : err == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
    observe_stop(&admin);
    return status;
}
