/*
 * client.h - requests of the command line to a gateway, over HTTP
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/config.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What every command that talks to a gateway can be told. */
struct client_options {
    const char *server;
    const char *api_key;
    int64_t wait_s;
};

#define CLIENT_DEFAULTS                                                                            \
    {                                                                                              \
        .server = "http://127.0.0.1:8080", .api_key = "", .wait_s = 0                              \
    }

/* Rows for a command's table. */
#define CLIENT_OPTIONS(options)                                                                    \
    {"server", CONFIG_STRING, &(options).server, "URL", "the gateway", NULL, 0, 0},                \
        {"api-key",                                                                                \
         CONFIG_STRING,                                                                            \
         &(options).api_key,                                                                       \
         "KEY",                                                                                    \
         "where the gateway asks for one",                                                         \
         NULL,                                                                                     \
         0,                                                                                        \
         0},                                                                                       \
    {                                                                                              \
        "wait", CONFIG_INT, &(options).wait_s, "S", "how long to wait for it to be ready", NULL,   \
            0, 3600                                                                                \
    }

#define CLIENT_FIELDS_MAX 16

struct client_request {
    const char *path; /* "/v1/interpret" */
    const char *json; /* the body of a POST; or, when NULL, a form: */
    const char *file; /* a path, uploaded as "file"; NULL: no form either, a GET */
    struct client_field {
        const char *name, *value; /* without a value it is left out */
    } fields[CLIENT_FIELDS_MAX];  /* ended by a NULL name */
    /** Bytes of a good answer, as they come. @return 0, or -errno to stop */
    int (*receive)(void *arg, const char *data, size_t size);
    void *arg;
};

/** Send it and wait for the whole answer. @return 0; -errno after the reason stands on standard error */
int client_send(const struct client_options *options, const struct client_request *request);

/** POST a JSON body, which is taken; NULL when its text was not UTF-8. Otherwise as client_send(). */
int client_send_json(const struct client_options *options, const char *path, json_t *body,
                     int (*receive)(void *arg, const char *data, size_t size), void *arg);

/** Standard input, or the operand when it is not "-". free(). NULL after a message. */
char *client_text(const char *operand);

/** Print "error: ..." to standard error. @return 1, the exit status */
int client_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
