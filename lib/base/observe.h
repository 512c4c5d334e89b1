/*
 * observe.h - what every long-running process shows of itself: log, admin port, traces
 *
 * One set of rows for the table of options, one call that starts it all. What is wrong with a value is
 * logged with what is allowed.
 */
#ifndef BASE_OBSERVE_H
#define BASE_OBSERVE_H

#include "base/config.h"

struct admin;

struct observe_flags {
    const char *log_level, *log_format, *admin, *probe, *otlp_endpoint;
    double trace_ratio;
};

#define OBSERVE_DEFAULTS                                                                           \
    {                                                                                              \
        .log_level = "info", .log_format = "auto", .admin = "", .probe = "", .otlp_endpoint = "",  \
        .trace_ratio = 1                                                                           \
    }

/* Rows for a process's table. */
/* clang-format off */
#define OBSERVE_OPTIONS(flags)                                                                     \
    {"", CONFIG_STRING, NULL, NULL, "Observation:", NULL, 0, 0},                                   \
    {"admin", CONFIG_STRING, &(flags).admin, "HOST:PORT",                                          \
     "serve /metrics, /healthz and /readyz there; empty: nowhere", NULL, 0, 0},                    \
    {"probe", CONFIG_STRING, &(flags).probe, "HOST:PORT",                                          \
     "ask the process with that --admin whether it is ready; exit with 0 or 1", NULL, 0, 0},   \
    {"log-level", CONFIG_CHOICE, &(flags).log_level, "LEVEL", "the least that is logged",          \
     "debug|info|warn|error", 0, 0},                                                               \
    {"log-format", CONFIG_CHOICE, &(flags).log_format, "FORMAT",                                   \
     "auto: text on a terminal, json otherwise", "auto|text|json", 0, 0},                          \
    {"otlp-endpoint", CONFIG_STRING, &(flags).otlp_endpoint, "URL",                                \
     "send traces there, http://HOST:4318; also OTEL_EXPORTER_OTLP_ENDPOINT",    \
     NULL, 0, 0},                                                                                  \
    {"trace-ratio", CONFIG_DOUBLE, &(flags).trace_ratio, "R",                                      \
     "the share of traces that are recorded, of those that begin here", NULL, 0, 1}
/* clang-format on */

/**
 * Start log, traces and admin port. Before channels and servers are made: they ask whether to trace.
 *
 * @param process  its name in logs and traces
 * @param admin    NULL inside when none was asked for; observe_stop()
 * @return 0; -EINVAL after a log_error(): exit 2; another -errno after one: exit 1
 */
int observe_start(const struct observe_flags *flags, const char *process, struct admin **admin);
/** Send the last traces, close the port. */
void observe_stop(struct admin **admin);

#endif
