/*
 * client.h - a small HTTP client that may misbehave, for tests
 */
#ifndef TESTS_GATEWAY_CLIENT_H
#define TESTS_GATEWAY_CLIENT_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>

struct reply {
    int status;
    char head[8192]; /* status line and headers */
    struct buffer body;
    bool whole; /* it ended as its head said */
    bool closes;
};

/** Connect to 127.0.0.1; fails the test when it cannot. */
int client_connect(int port);
/** Send all of it; whether it could. */
bool client_send(int fd, const void *data, size_t size);
bool client_say(int fd, const char *text);
/** Read one answer, at most timeout_ms; `has_body` false after HEAD. false when none came. */
bool client_read(int fd, struct reply *reply, bool has_body, int timeout_ms);
void reply_fini(struct reply *reply);
/** A header's value, copied to static storage; NULL. */
const char *reply_header(const struct reply *reply, const char *name);

/** One request on a connection of its own. `head` lines end with CRLF each ("" for none). */
void client_request(int port, const char *method, const char *path, const char *head,
                    const void *body, size_t size, struct reply *reply);

/** A multipart body of text fields ("name", "value", ..., NULL) and one file. */
void client_form(struct buffer *body, const void *file, size_t size, const char *filename, ...);
#define CLIENT_FORM_TYPE "Content-Type: multipart/form-data; boundary=XboundaryX\r\n"

#endif
