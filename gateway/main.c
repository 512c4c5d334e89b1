#include "base/config.h"
#include "base/log.h"
#include "base/probe.h"
#include "gateway/gateway.h"
#include "mesh/security.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 64

static struct {
    const char *listen, *broker, *cors_origin, *api_key_file, *probe, *log_level, *log_format;
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
    .log_level = "info",
    .log_format = "auto",
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
    {"", CONFIG_STRING, NULL, NULL, "Observation:", NULL, 0, 0},
    {"probe", CONFIG_STRING, &config.probe, "HOST:PORT",
     "ask a running gateway whether it is ready, and exit with 0 or 1", NULL, 0, 0},
    {"log-level", CONFIG_CHOICE, &config.log_level, NULL, "what to log at least",
     "debug|info|warn|error", 0, 0},
    {"log-format", CONFIG_CHOICE, &config.log_format, NULL, "auto: text on a terminal",
     "auto|text|json", 0, 0},
    {NULL, 0, NULL, NULL, NULL, NULL, 0, 0},
};

static void open_log(void)
{
    enum log_level level = LOG_INFO;
    enum log_format format = LOG_FORMAT_AUTO;

    log_level_parse(config.log_level, &level);
    log_format_parse(config.log_format, &format);
    log_init("dragoman-gateway", level, format);
}

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

int main(int argc, char **argv)
{
    const struct config_option *const tables[] = {OPTIONS, NULL};
    const struct config_spec spec = {
        .program = "dragoman-gateway",
        .summary = "Serve speech, translation and voices over HTTP.",
        .tables = tables,
    };
    const char *keys[KEYS_MAX + 1] = {NULL};
    char *key_text = NULL;
    struct gateway_options options;
    struct gateway *gateway = NULL;
    struct mesh_security security = {0};
    sigset_t signals;
    int operand, status, secure, number = 0, err;

    if (config_parse(&spec, argc, argv, &operand, &status) != 0)
        return status;
    if (config.probe)
        return probe_ready(config.probe);
    open_log();
    hold_signals(&signals);
    if (collect_keys(&key_text, keys) < 0)
        return EXIT_FAILURE;
    secure = mesh_security_load(&config.keys, &security);
    if (secure < 0)
        return 2;
    fill_options(&options, keys);
    options.security = secure ? &security : NULL;
    err = gateway_start(&options, &gateway);
    free(key_text);
    if (err < 0) {
        explain(err);
        return err == -EINVAL ? 2 : EXIT_FAILURE;
    }
    log_info("listening on %s (port %d), broker at %s", config.listen, gateway_port(gateway),
             config.broker);
    sigwait(&signals, &number);
    log_info("%s: no new requests, %lld s for those that run", strsignal(number),
             (long long)config.grace_s);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL); /* a second one ends the process at once */
    gateway_stop(&gateway, config.grace_s * 1000);
    mesh_security_wipe(&security);
    return EXIT_SUCCESS;
}
