#include "base/config_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENV_PREFIX "DRAGOMAN_"

void config_env_name(const char *name, char out[CONFIG_ENV_NAME_MAX])
{
    int n = snprintf(out, CONFIG_ENV_NAME_MAX, ENV_PREFIX "%s", name);

    for (int i = 0; i < n && i < CONFIG_ENV_NAME_MAX - 1; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

static int read_environment(const struct config_spec *spec)
{
    char name[CONFIG_ENV_NAME_MAX];

    for (size_t t = 0; spec->tables && spec->tables[t]; t++)
        for (const struct config_option *option = spec->tables[t]; option->name; option++) {
            const char *text = NULL;
            int err;

            if (!option->value)
                continue;
            config_env_name(option->name, name);
            text = getenv(name);
            if (!text || !*text)
                continue;
            err =
                option->type == CONFIG_LIST ? config_split(option, text) : config_set(option, text);
            if (err < 0)
                return config_refuse(spec, option, name, text);
        }
    return 0;
}

/* Lists that flags have given: the first flag replaces what was there. */
struct flags {
    const struct config_spec *spec;
    int argc;
    char **argv;
    int at; /* of the argument being read */
    const struct config_option *replaced[CONFIG_LIST_MAX];
    size_t n_replaced;
};

static const struct config_option *find(const struct config_spec *spec, const char *name,
                                        size_t size)
{
    for (size_t t = 0; spec->tables && spec->tables[t]; t++)
        for (const struct config_option *option = spec->tables[t]; option->name; option++)
            if (option->value && strlen(option->name) == size &&
                strncmp(option->name, name, size) == 0)
                return option;
    return NULL;
}

static void replace_once(struct flags *flags, const struct config_option *option)
{
    for (size_t i = 0; i < flags->n_replaced; i++)
        if (flags->replaced[i] == option)
            return;
    if (flags->n_replaced < CONFIG_LIST_MAX)
        flags->replaced[flags->n_replaced++] = option;
    ((struct config_list *)option->value)->count = 0;
}

/* One flag; its value may be the next argument. */
static int read_flag(struct flags *flags)
{
    const char *flag = flags->argv[flags->at] + 2;
    size_t size = strcspn(flag, "=");
    const char *text = flag[size] == '=' ? flag + size + 1 : NULL;
    const struct config_option *option = find(flags->spec, flag, size);
    char where[CONFIG_ENV_NAME_MAX];

    snprintf(where, sizeof(where), "--%.*s", (int)(size < 80 ? size : 80), flag);
    if (!option) {
        config_explain_unknown(flags->spec, where + 2);
        return -EINVAL;
    }
    if (!text && option->type == CONFIG_BOOL)
        text = "yes";
    if (!text && flags->at + 1 < flags->argc)
        text = flags->argv[++flags->at];
    if (!text) {
        fprintf(stderr, "%s: %s needs a value: %s %s\n", flags->spec->program, where, where,
                option->meta ? option->meta : "VALUE");
        return -EINVAL;
    }
    if (option->type == CONFIG_LIST)
        replace_once(flags, option);
    return config_set(option, text) < 0 ? config_refuse(flags->spec, option, where, text) : 0;
}

static void rotate(char **argv, int from, int to) /* argv[from] moves behind argv[to - 1] */
{
    char *moved = argv[from];

    memmove(argv + from, argv + from + 1, sizeof(*argv) * (size_t)(to - from - 1));
    argv[to - 1] = moved;
}

/* The last n of argv[from..to), which stood before the others, do so again. */
static void bring_to_front(char **argv, int from, int to, int n)
{
    for (int i = 0; i < n; i++) {
        char *moved = argv[to - 1];

        memmove(argv + from + 1, argv + from, sizeof(*argv) * (size_t)(to - from - 1));
        argv[from] = moved;
    }
}

/* Operands among the flags move behind them; end is where they then start. */
static int read_flags(struct flags *flags, int *first_operand)
{
    int end = flags->argc;
    int all = flags->argc;

    flags->at = 1;
    while (flags->at < end) {
        const char *argument = flags->argv[flags->at];

        if (strcmp(argument, "--") == 0) {
            *first_operand = flags->at + 1;
            bring_to_front(flags->argv, *first_operand, all, all - end);
            return 0;
        }
        if (strncmp(argument, "--", 2) != 0) {
            if (argument[0] == '-' && argument[1] != '\0') {
                fprintf(stderr, "%s: unknown option '%s': options are long, '--name'\n",
                        flags->spec->program, argument);
                return -EINVAL;
            }
            if (flags->spec->commands)
                break;
            rotate(flags->argv, flags->at, all);
            end--;
            continue;
        }
        flags->argc = end; /* a value is never taken from the operands */
        if (read_flag(flags) < 0)
            return -EINVAL;
        flags->at++;
    }
    *first_operand = flags->at;
    return 0;
}

/* --help and --version count wherever a flag may stand, before anything else is judged. */
static bool answer_information(const struct config_spec *spec, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (spec->commands && argv[i][0] != '-')
            return false;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            config_print_help(spec);
            return true;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", spec->program, DRAGOMAN_VERSION);
            return true;
        }
    }
    return false;
}

int config_parse(const struct config_spec *spec, int argc, char **argv, int *first_operand,
                 int *exit_status)
{
    struct flags flags = {.spec = spec, .argc = argc, .argv = argv};
    int operand = argc;

    *exit_status = 0;
    if (answer_information(spec, argc, argv))
        return 1;
    *exit_status = 2;
    if (read_environment(spec) < 0 || read_flags(&flags, &operand) < 0)
        return 1;
    if (!spec->operands && operand < argc) {
        fprintf(stderr, "%s: '%s' is not an option: nothing may follow the options\n",
                spec->program, argv[operand]);
        return 1;
    }
    *exit_status = 0;
    *first_operand = operand;
    return 0;
}
