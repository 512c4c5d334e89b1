#include "base/observe.h"

#include "base/admin.h"
#include "base/log.h"
#include "base/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void open_log(const struct observe_flags *flags, const char *process)
{
    enum log_level level = LOG_INFO;
    enum log_format format = LOG_FORMAT_AUTO;

    log_level_parse(flags->log_level, &level); /* both checked against their choices */
    log_format_parse(flags->log_format, &format);
    log_init(process, level, format);
}

static int start_traces(const struct observe_flags *flags, const char *process)
{
    const char *standard = getenv("OTEL_EXPORTER_OTLP_ENDPOINT");
    const char *name = getenv("OTEL_SERVICE_NAME");
    bool ours = flags->otlp_endpoint && flags->otlp_endpoint[0];
    const char *endpoint = ours ? flags->otlp_endpoint : standard;
    int err = trace_start(endpoint, name && *name ? name : process, flags->trace_ratio);

    if (err == -EINVAL)
        log_error("%s: '%s' is not allowed: give http://HOST:PORT; for https:// let a collector "
                  "nearby forward",
                  ours ? "--otlp-endpoint" : "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    else if (err < 0)
        log_error("cannot export traces: %s", strerror(-err));
    return err;
}

static int start_admin(const struct observe_flags *flags, struct admin **admin)
{
    int err;

    if (!flags->admin || !flags->admin[0])
        return 0;
    err = admin_start(flags->admin, admin);
    if (err == -EINVAL)
        log_error("--admin: '%s' is not allowed: give HOST:PORT with an address of this machine",
                  flags->admin);
    else if (err < 0)
        log_error("cannot listen on '%s' (--admin): %s%s", flags->admin, strerror(-err),
                  err == -EADDRINUSE ? ": stop what uses it, or choose another port" : "");
    return err;
}

int observe_start(const struct observe_flags *flags, const char *process, struct admin **admin)
{
    int err;

    *admin = NULL;
    open_log(flags, process);
    err = start_traces(flags, process);
    if (err == 0)
        err = start_admin(flags, admin);
    if (err < 0)
        trace_stop();
    return err;
}

void observe_stop(struct admin **admin)
{
    trace_stop();
    admin_stop(admin);
}
