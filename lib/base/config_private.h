/*
 * config_private.h - the parts of config.c: values are read, --help is written, here
 */
#ifndef BASE_CONFIG_PRIVATE_H
#define BASE_CONFIG_PRIVATE_H

#include "base/config.h"

#define CONFIG_ENV_NAME_MAX 96

/** The variable of an option: "DRAGOMAN_QUEUE_LIMIT" for "queue-limit". */
void config_env_name(const char *name, char out[CONFIG_ENV_NAME_MAX]);

/* ---- config_values.c ---- */

/**
 * Set an option, or add to it if it is a list.
 *
 * @param text  borrowed for ever: a string option points there
 * @return 0; -EINVAL when the table does not allow it
 */
int config_set(const struct config_option *option, const char *text);
/** The value of a list's variable: several, at commas, in place of what was there. @return 0; -EINVAL; -ENOMEM */
int config_split(const struct config_option *option, const char *text);
/** Say on standard error what is allowed; where is "--queue-limit" or "DRAGOMAN_QUEUE_LIMIT". @return -EINVAL */
int config_refuse(const struct config_spec *spec, const struct config_option *option,
                  const char *where, const char *text);

/* ---- config_help.c ---- */

void config_print_help(const struct config_spec *spec);
/** Say on standard error that there is no such option, and which may have been meant. */
void config_explain_unknown(const struct config_spec *spec, const char *name);

#endif
