#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const NAMES[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *status_name(enum status_code code)
{
    if ((unsigned)code >= sizeof(NAMES) / sizeof(NAMES[0]))
        return NAMES[STATUS_UNKNOWN];
    return NAMES[code];
}

enum status_code status_from_errno(int err)
{
    switch (-err) {
    case 0:
        return STATUS_OK;
    case EINVAL:
    case EDOM:
    case EILSEQ:
    case EBADMSG:
        return STATUS_INVALID_ARGUMENT;
    case ERANGE:
    case EOVERFLOW:
        return STATUS_OUT_OF_RANGE;
    case ENOMEM:
    case ENOSPC:
    case EMSGSIZE:
    case E2BIG:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return STATUS_RESOURCE_EXHAUSTED;
    case ENOENT:
    case ENODEV:
        return STATUS_NOT_FOUND;
    case EEXIST:
        return STATUS_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
        return STATUS_PERMISSION_DENIED;
    case ENOSYS:
    case ENOTSUP:
        return STATUS_UNIMPLEMENTED;
    case ECANCELED:
        return STATUS_CANCELLED;
    case ETIMEDOUT:
    case ETIME:
        return STATUS_DEADLINE_EXCEEDED;
    case EAGAIN:
    case EPIPE:
    case EBUSY:
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return STATUS_UNAVAILABLE;
    case EIO:
        return STATUS_DATA_LOSS;
    case EKEYREJECTED:
        return STATUS_UNAUTHENTICATED;
    case EALREADY:
        return STATUS_FAILED_PRECONDITION;
    default:
        return STATUS_INTERNAL;
    }
}

void status_set(struct status *status, enum status_code code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    status_vset(status, code, fmt, args);
    va_end(args);
}

/* vsnprintf() may cut inside a character: drop the bytes of an unfinished last one. */
static void cut_at_character(char *text)
{
    size_t end = strlen(text);
    size_t start = end;
    unsigned char lead;
    size_t want;

    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80 && end - start < 3)
        start--;
    if (start == 0)
        return;
    lead = (unsigned char)text[start - 1];
    want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (want > end - (start - 1))
        text[start - 1] = '\0';
}

void status_vset(struct status *status, enum status_code code, const char *fmt, va_list args)
{
    int need = vsnprintf(status->message, sizeof(status->message), fmt, args);

    status->code = code;
    status->retry_delay_ms = 0;
    if (need < 0)
        status->message[0] = '\0';
    else if ((size_t)need >= sizeof(status->message))
        cut_at_character(status->message);
}
