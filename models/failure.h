/*
 * failure.h - why something did not work, in words, beside the errno
 *
 * Functions that a person waits for fill one: what failed, then why, then the remedy.
 */
#ifndef MODELS_FAILURE_H
#define MODELS_FAILURE_H

struct failure {
    char text[768]; /* UTF-8; "" until something failed */
};

/** Fill it, printf-like. @return err, so that callers can `return failure_set(...)` */
int failure_set(struct failure *failure, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
