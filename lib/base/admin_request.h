/*
 * admin_request.h - the requests of the admin port: GET and HEAD, without a body, bounded
 *
 * Needs no socket; tests/fuzz/fuzz_admin.c feeds it.
 */
#ifndef BASE_ADMIN_REQUEST_H
#define BASE_ADMIN_REQUEST_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ADMIN_REQUEST_MAX 4096 /* bytes of a request */
#define ADMIN_PATH_MAX 64      /* longer ones are nobody's: cut */

struct admin_request {
    int status; /* 200: path counts; 400, 405, 505: what to answer instead */
    bool head;
    bool keep_alive;
    char path[ADMIN_PATH_MAX]; /* without the query */
};

/**
 * Read one request from the start of what has arrived.
 *
 * @return bytes that it takes, its blank line included; 0: more must come; -EMSGSIZE: it never ends
 */
ssize_t admin_request_read(const char *data, size_t size, struct admin_request *out);

/** The head and body of an answer, appended. @return 0; -EMSGSIZE; -ENOMEM */
int admin_answer_write(const struct admin_request *request, int status, const void *body,
                       size_t size, struct buffer *out);

#endif
