#include "base/log.h"

#include "base/buffer.h"

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
#define TRACE_MAX 64

static const char *const LEVELS[] = {"debug", "info", "warn", "error"};

static struct {
    char process[PROCESS_MAX];
    _Atomic int level;
    _Atomic int format;
} settings = {.level = LOG_INFO, .format = LOG_FORMAT_AUTO};

static _Thread_local char trace[TRACE_MAX];

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

void log_set_trace(const char *trace_id)
{
    snprintf(trace, sizeof(trace), "%s", trace_id ? trace_id : "");
}

/* Bytes of the well-formed character at text (RFC 3629), 0 when there is none. */
static size_t character_size(const unsigned char *text)
{
    size_t size = text[0] < 0x80   ? 1
                  : text[0] < 0xC2 ? 0
                  : text[0] < 0xE0 ? 2
                  : text[0] < 0xF0 ? 3
                  : text[0] < 0xF5 ? 4
                                   : 0;

    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return size;
}

/* Nothing in a message may end the line, move the cursor or break the JSON. */
static void append_escaped(struct buffer *line, const char *text, bool json)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at) {
        size_t size = character_size(at);

        if (size == 0) {
            buffer_append(line, "\xEF\xBF\xBD", 3); /* U+FFFD */
            at++;
            continue;
        }
        if (*at == '\n')
            buffer_append(line, "\\n", 2);
        else if (*at < 0x20 || *at == 0x7F)
            buffer_printf(line, "\\u%04x", *at);
        else if (json && (*at == '"' || *at == '\\'))
            buffer_printf(line, "\\%c", *at);
        else
            buffer_append(line, at, size);
        at += size;
    }
}

static void append_json(struct buffer *line, enum log_level level, const char *message)
{
    struct timespec now;
    struct tm utc;
    char stamp[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    buffer_printf(line, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\"", stamp, now.tv_nsec / 1000000,
                  LEVELS[level]);
    if (settings.process[0]) {
        buffer_printf(line, ",\"process\":\"");
        append_escaped(line, settings.process, true);
        buffer_printf(line, "\"");
    }
    if (trace[0]) {
        buffer_printf(line, ",\"trace\":\"");
        append_escaped(line, trace, true);
        buffer_printf(line, "\"");
    }
    buffer_printf(line, ",\"message\":\"");
    append_escaped(line, message, true);
    buffer_printf(line, "\"}");
}

static void append_text(struct buffer *line, enum log_level level, const char *message)
{
    struct timespec now;
    struct tm local;
    char stamp[32];

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(stamp, sizeof(stamp), "%H:%M:%S", &local);
    buffer_printf(line, "%s.%03ld %-5s ", stamp, now.tv_nsec / 1000000, LEVELS[level]);
    if (settings.process[0])
        buffer_printf(line, "%s: ", settings.process);
    append_escaped(line, message, false);
    if (trace[0])
        buffer_printf(line, " [%s]", trace);
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

void log_write(enum log_level level, const char *fmt, ...)
{
    int saved = errno;
    struct buffer line;
    char message[LINE_MAX_BYTES / 8];
    va_list args;

    if ((int)level < atomic_load(&settings.level))
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
