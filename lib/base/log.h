/*
 * log.h - one line an event: text on a terminal, JSON otherwise
 *
 * Lines go to standard error, whole, from any thread. A line carries the time, the level, the
 * process's name, the id of the trace that the thread works on (trace_set_current()), and the message.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/** Name the process and choose what is written. Before this: INFO, AUTO, no name. */
void log_init(const char *process, enum log_level level, enum log_format format);

/** "debug", "info", "warn", "error". @return 0; -EINVAL */
int log_level_parse(const char *text, enum log_level *out);
/** "auto", "text", "json". @return 0; -EINVAL */
int log_format_parse(const char *text, enum log_format *out);

/** Whether lines of a level are written. */
bool log_wants(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
