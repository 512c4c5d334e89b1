/*
 * config.h - one table gives a process its flags, environment variables, --help and checks
 *
 * The flag "--queue-limit" and the variable DRAGOMAN_QUEUE_LIMIT are the same option; the flag wins,
 * and an empty variable counts as none. Values are checked against the table before anything runs.
 * Operands may stand between the flags; "--" ends the flags.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_STRING, /* const char *: points into argv, the environment or the table */
    CONFIG_INT,    /* int64_t, within [min, max] */
    CONFIG_BOOL,   /* bool: "--flag", "--flag=no"; true|1|yes|on, false|0|no|off */
    CONFIG_DOUBLE, /* double, within [min, max] */
    CONFIG_CHOICE, /* const char *: one of `choices`, "a|b|c" */
    CONFIG_LIST,   /* struct config_list: the flag may be repeated; the variable splits at commas */
};

#define CONFIG_LIST_MAX 32

struct config_list {
    size_t count;
    const char *items[CONFIG_LIST_MAX];
};

/* An option without a value pointer is a heading of --help, its text in `help`. */
struct config_option {
    const char *name; /* "queue-limit" */
    enum config_type type;
    void *value;      /* where it goes; holds the default before */
    const char *meta; /* what --help calls the value: "N", "DIR"; NULL for a CONFIG_BOOL */
    const char *help; /* one line */
    const char *choices;
    double min, max; /* for CONFIG_INT and CONFIG_DOUBLE; both 0: any */
};

struct config_spec {
    const char *program;  /* "dragoman-asr" */
    const char *summary;  /* one sentence */
    const char *operands; /* what follows the flags, "FILE"; NULL: nothing may */
    const struct config_option *const
        *tables;   /* arrays of options, each ended by a NULL name; NULL ends */
    bool commands; /* the first operand ends the flags: what follows it is that command's */
};

/**
 * Read environment, then flags. Handles --help and --version (prints, *exit_status = 0).
 *
 * @param argv           reordered: flags first, operands last
 * @param first_operand  index in argv of the first operand; argc when there is none
 * @param exit_status    set when the return is not 0: 0 after --help, 2 after bad usage (already
 *                       explained on standard error: the option, the value, what is allowed)
 * @return 0 to go on; 1 to leave with *exit_status
 */
int config_parse(const struct config_spec *spec, int argc, char **argv, int *first_operand,
                 int *exit_status);

#endif
