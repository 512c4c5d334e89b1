/*
 * status.h - how a call ended: gRPC's 17 codes, by number and name
 *
 * A status is a plain value: copy it, keep it, nothing to free.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stdarg.h>
#include <stdint.h>

enum status_code {
    STATUS_OK = 0,
    STATUS_CANCELLED = 1,
    STATUS_UNKNOWN = 2,
    STATUS_INVALID_ARGUMENT = 3,
    STATUS_DEADLINE_EXCEEDED = 4,
    STATUS_NOT_FOUND = 5,
    STATUS_ALREADY_EXISTS = 6,
    STATUS_PERMISSION_DENIED = 7,
    STATUS_RESOURCE_EXHAUSTED = 8,
    STATUS_FAILED_PRECONDITION = 9,
    STATUS_ABORTED = 10,
    STATUS_OUT_OF_RANGE = 11,
    STATUS_UNIMPLEMENTED = 12,
    STATUS_INTERNAL = 13,
    STATUS_UNAVAILABLE = 14,
    STATUS_DATA_LOSS = 15,
    STATUS_UNAUTHENTICATED = 16,
};

#define STATUS_MESSAGE_MAX 512 /* bytes with the NUL; longer messages are cut at a character */

struct status {
    enum status_code code;
    uint32_t
        retry_delay_ms; /* with RESOURCE_EXHAUSTED and UNAVAILABLE: try again after this; 0: none */
    char message[STATUS_MESSAGE_MAX]; /* UTF-8, for people */
};

/** "RESOURCE_EXHAUSTED"; "UNKNOWN" for a number outside 0..16. */
const char *status_name(enum status_code code);

/** The code that fits a negative errno (or 0): -EINVAL is INVALID_ARGUMENT, -ENOMEM RESOURCE_EXHAUSTED... */
enum status_code status_from_errno(int err);

/** Fill a status, printf-like. */
void status_set(struct status *status, enum status_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void status_vset(struct status *status, enum status_code code, const char *fmt, va_list args);

#endif
