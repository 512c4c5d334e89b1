/*
 * call.h - `dragoman call` between its files: options, the service's shape, lines in, the exchange
 */
#ifndef CLI_CALL_H
#define CLI_CALL_H

#include "base/config.h"
#include "base/observe.h"
#include "base/status.h"
#include "mesh/channel.h"
#include "mesh/schema.h"
#include "mesh/security.h"

#include <stdbool.h>
#include <stdint.h>

struct call_flags {
    struct observe_flags observe;
    const char *broker, *selector, *tenant;
    struct mesh_key_flags keys;
    struct config_list metadata;
    double timeout_s;
    bool wait, json_defaults, ignore_unknown, show_metadata, list, describe;
};

/* ---- lines of JSON: call_input.c ---- */

struct call_input;

/**
 * Where requests come from.
 *
 * @param operand  JSON; "@FILE"; "-" or NULL: standard input
 * @return 0; -errno after a message
 */
int call_input_open(const char *operand, struct call_input **out);
/**
 * The next line that is not blank, or with `whole` all that is left.
 *
 * @param text  NUL-terminated, borrowed until the next read
 * @return 0; -ENODATA: no more; -ECANCELED after call_input_stop(); -EMSGSIZE, -EIO after a message
 */
int call_input_read(struct call_input *input, bool whole, const char **text, size_t *size);
/** Any thread: a read that waits gives up. */
void call_input_stop(struct call_input *input);
void call_input_close(struct call_input **input);

/* ---- one call: call_exchange.c ---- */

/** Send what the input has, print what comes. @return the exit status, after a message when not 0 */
int call_exchange(struct mesh_channel *channel, const struct call_flags *flags,
                  const struct mesh_schema *schema, const struct mesh_schema_service *service,
                  const struct mesh_schema_method *method, struct call_input *input);

/** "UNAVAILABLE: why (try again in 200 ms)" on standard error. @return 1 */
int call_status_fail(const struct status *status);

/* ---- what a status says besides: call_details.c ---- */

/** "details package.Message: {...}" on standard error, where the schema has the type; else how many bytes there are. */
void call_details_print(const struct call_flags *flags, const struct mesh_schema *schema,
                        const void *details, size_t size);

#endif
