#include "base/log.h"

#include "base/buffer.h"
#include "base/escape.h"
#include "base/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 16384 /* longer messages are cut: a line stays whole in one write() */
#define PROCESS_MAX 64

static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

static struct {
    char process[PROCESS_MAX];
    _Atomic int level;
    _Atomic int format;
} settings = {.level = LOG_INFO, .format = LOG_FORMAT_AUTO};

void log_init(const char *process, enum log_level level, enum log_format format)
{
    snprintf(settings.process, sizeof(settings.process), "%s", process ? process : "");
    atomic_store(&settings.level, (int)level);
    atomic_store(&settings.format, (int)format);
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++)
        if (strcmp(text, LEVELS[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

int log_format_parse(const char *text, enum log_format *out)
{
    static const char *const FORMATS[] = {"auto", "text", "json"};

    for (int i = LOG_FORMAT_AUTO; i <= LOG_FORMAT_JSON; i++)
        if (strcmp(text, FORMATS[i]) == 0) {
            *out = (enum log_format)i;
            return 0;
        }
    return -EINVAL;
}

static void append_json(struct buffer *line, enum log_level level, const char *message)
{
    struct timespec now;
    struct tm utc;
    char stamp[32], trace[TRACE_ID_TEXT];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    buffer_printf(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\"", stamp, now.tv_nsec / 1000000,
                  LEVELS[level]);
    if (settings.process[0]) {
        buffer_printf(line, ",\"process\":\"");
        escape_append(line, settings.process, true);
        buffer_printf(line, "\"");
    }
    if (trace_current()) {
        trace_id_format(trace_current(), trace);
        buffer_printf(line, ",\"trace\":\"%s\"", trace);
    }
    buffer_printf(line, ",\"message\":\"");
    escape_append(line, message, true);
    buffer_printf(line, "\"}");
}

static void append_text(struct buffer *line, enum log_level level, const char *message)
{
    struct timespec now;
    struct tm local;
    char stamp[32], trace[TRACE_ID_TEXT];

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(stamp, sizeof(stamp), "%H:%M:%S", &local);
    buffer_printf(line, "%s.%03ld %-5s ", stamp, now.tv_nsec / 1000000, LEVELS[level]);
    if (settings.process[0])
        buffer_printf(line, "%s: ", settings.process);
    escape_append(line, message, false);
    if (trace_current()) {
        trace_id_format(trace_current(), trace);
        buffer_printf(line, " [%s]", trace);
    }
}

static bool wants_json(void)
{
    int format = atomic_load(&settings.format);

    return format == LOG_FORMAT_JSON || (format == LOG_FORMAT_AUTO && !isatty(STDERR_FILENO));
}

static void write_line(const struct buffer *line)
{
    size_t done = 0;

    while (done < line->size) {
        ssize_t n = write(STDERR_FILENO, line->data + done, line->size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody to tell */
        done += (size_t)n;
    }
}

bool log_wants(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&settings.level, memory_order_relaxed);
}

void log_write(enum log_level level, const char *fmt, ...)
{
    int saved = errno;
    struct buffer line;
    char message[LINE_MAX_BYTES / 8];
    va_list args;

    if (!log_wants(level))
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    buffer_init(&line, LINE_MAX_BYTES); /* a byte escapes to six at most */
    if (wants_json())
        append_json(&line, level, message);
    else
        append_text(&line, level, message);
    if (buffer_append(&line, "\n", 1) == 0)
        write_line(&line);
    buffer_fini(&line);
    errno = saved;
}
