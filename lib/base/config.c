#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENV_PREFIX "DRAGOMAN_"
#define ENV_NAME_MAX 96
#define HELP_COLUMN 30 /* where the explanations start */

/* Copies of list variables, split at their commas; values point into them until the process ends. */
struct list_text {
    struct list_text *next;
    char text[];
};
static struct list_text *list_texts;

static void env_name(const char *name, char out[ENV_NAME_MAX])
{
    int n = snprintf(out, ENV_NAME_MAX, ENV_PREFIX "%s", name);

    for (int i = 0; i < n && i < ENV_NAME_MAX - 1; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

/* ---- help ---- */

static void print_default(const struct config_option *option)
{
    const struct config_list *list = option->value;
    const char *text = NULL;

    switch (option->type) {
    case CONFIG_STRING:
    case CONFIG_CHOICE:
        text = *(const char *const *)option->value;
        if (text && *text)
            printf("default %s; ", text);
        break;
    case CONFIG_INT:
        printf("default %" PRId64 "; ", *(const int64_t *)option->value);
        break;
    case CONFIG_DOUBLE:
        printf("default %g; ", *(const double *)option->value);
        break;
    case CONFIG_BOOL:
        if (*(const bool *)option->value)
            printf("default yes; ");
        break;
    case CONFIG_LIST:
        if (list->count > 0)
            printf("default ");
        for (size_t i = 0; i < list->count; i++)
            printf("%s%s", list->items[i], i + 1 < list->count ? "," : "; ");
        break;
    }
}

static void print_option(const struct config_option *option)
{
    char env[ENV_NAME_MAX];
    const char *meta = option->type == CONFIG_CHOICE && option->choices ? option->choices
                       : option->meta                                   ? option->meta
                                                                        : "VALUE";
    int width = option->type == CONFIG_BOOL ? printf("  --%s", option->name)
                                            : printf("  --%s %s", option->name, meta);

    if (width >= HELP_COLUMN)
        width = printf("\n") - 1;
    printf("%*s%s%s\n", HELP_COLUMN - width, "", option->help ? option->help : "",
           option->type == CONFIG_LIST ? " (may be repeated)" : "");
    env_name(option->name, env);
    printf("%*s[", HELP_COLUMN, "");
    print_default(option);
    printf("%s]\n", env);
}

static void print_help(const struct config_spec *spec)
{
    bool headed = false;

    printf("Usage: %s [OPTIONS]%s%s\n", spec->program, spec->operands ? " " : "",
           spec->operands ? spec->operands : "");
    if (spec->summary)
        printf("%s\n", spec->summary);
    for (size_t t = 0; spec->tables && spec->tables[t]; t++) {
        const struct config_option *option = spec->tables[t];

        headed = option->name && !option->value;
        if (option->name && !headed)
            printf("\n%s\n", t == 0 ? "Options:" : "More options:");
        for (; option->name; option++) {
            if (option->value)
                print_option(option);
            else
                printf("\n%s\n", option->help);
        }
    }
    printf(
        "\nInformation:\n  --help                      Print this and leave\n"
        "  --version                   Print the version and leave\n"
        "\nIn brackets: the default, and the environment variable that gives the same option.\n");
}

/* ---- errors ---- */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* Levenshtein distance of two names, to guess what was meant. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[ENV_NAME_MAX];
    size_t n = strlen(b);

    if (n >= ENV_NAME_MAX || strlen(a) >= ENV_NAME_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];

            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

static void explain_unknown(const struct config_spec *spec, const char *name)
{
    const char *nearest = NULL;
    size_t least = 3; /* farther names are not a slip of the fingers */

    for (size_t t = 0; spec->tables && spec->tables[t]; t++)
        for (const struct config_option *option = spec->tables[t]; option->name; option++) {
            size_t distance = option->value ? edit_distance(name, option->name) : SIZE_MAX;

            if (distance < least) {
                least = distance;
                nearest = option->name;
            }
        }
    fprintf(stderr, "%s: unknown option '--%s'", spec->program, name);
    if (nearest)
        fprintf(stderr, ": did you mean '--%s'?\n", nearest);
    else
        fprintf(stderr, ": '%s --help' lists them all\n", spec->program);
}

/* ---- values ---- */

/* Say what is allowed in words; where is "--queue-limit" or "DRAGOMAN_QUEUE_LIMIT". */
static int refuse(const struct config_spec *spec, const struct config_option *option,
                  const char *where, const char *text)
{
    fprintf(stderr, "%s: %s: '%s' is not allowed: ", spec->program, where, text);
    switch (option->type) {
    case CONFIG_INT:
    case CONFIG_DOUBLE:
        fprintf(stderr, "give a%s number", option->type == CONFIG_INT ? " whole" : "");
        if (option->min != 0 || option->max != 0)
            fprintf(stderr, " from %.15g to %.15g", option->min, option->max);
        break;
    case CONFIG_BOOL:
        fprintf(stderr, "give yes or no");
        break;
    case CONFIG_CHOICE:
        fprintf(stderr, "give one of %s", option->choices);
        break;
    case CONFIG_LIST:
        fprintf(stderr, "give at most %d values, none empty", CONFIG_LIST_MAX);
        break;
    case CONFIG_STRING:
        break;
    }
    fputc('\n', stderr);
    return -EINVAL;
}

static bool in_range(const struct config_option *option, double value)
{
    return (option->min == 0 && option->max == 0) || (value >= option->min && value <= option->max);
}

static int set_int(const struct config_option *option, const char *text)
{
    char *end = NULL;
    int64_t value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text) ||
        !in_range(option, (double)value))
        return -EINVAL;
    *(int64_t *)option->value = value;
    return 0;
}

static int set_double(const struct config_option *option, const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end || isspace((unsigned char)*text) || !isfinite(value) ||
        !in_range(option, value))
        return -EINVAL;
    *(double *)option->value = value;
    return 0;
}

static int set_bool(const struct config_option *option, const char *text)
{
    static const char *const WORDS[] = {"no", "false", "0", "off", "yes", "true", "1", "on"};

    for (size_t i = 0; i < 8; i++)
        if (strcasecmp(text, WORDS[i]) == 0) {
            *(bool *)option->value = i >= 4;
            return 0;
        }
    return -EINVAL;
}

static int set_choice(const struct config_option *option, const char *text)
{
    size_t size = strlen(text);

    for (const char *at = option->choices; at && *at; at += strspn(at, "|")) {
        size_t n = strcspn(at, "|");

        if (n == size && strncmp(at, text, n) == 0) {
            *(const char **)option->value = text;
            return 0;
        }
        at += n;
    }
    return -EINVAL;
}

static int list_add(const struct config_option *option, const char *text)
{
    struct config_list *list = option->value;

    if (list->count == CONFIG_LIST_MAX || *text == '\0')
        return -EINVAL;
    list->items[list->count++] = text;
    return 0;
}

/* A variable's value: several, at commas. */
static int list_split(const struct config_option *option, const char *text)
{
    struct list_text *copy = malloc(sizeof(*copy) + strlen(text) + 1);
    char *rest = NULL;
    int err = 0;

    if (!copy)
        return -ENOMEM;
    strcpy(copy->text, text);
    copy->next = list_texts;
    list_texts = copy;
    ((struct config_list *)option->value)->count = 0;
    rest = copy->text;
    while (rest && err == 0)
        err = list_add(option, strsep(&rest, ","));
    return err;
}

static int set_value(const struct config_option *option, const char *text)
{
    switch (option->type) {
    case CONFIG_STRING:
        *(const char **)option->value = text;
        return 0;
    case CONFIG_INT:
        return set_int(option, text);
    case CONFIG_DOUBLE:
        return set_double(option, text);
    case CONFIG_BOOL:
        return set_bool(option, text);
    case CONFIG_CHOICE:
        return set_choice(option, text);
    case CONFIG_LIST:
        return list_add(option, text);
    }
    return -EINVAL;
}

/* ---- sources ---- */

static int read_environment(const struct config_spec *spec)
{
    char name[ENV_NAME_MAX];

    for (size_t t = 0; spec->tables && spec->tables[t]; t++)
        for (const struct config_option *option = spec->tables[t]; option->name; option++) {
            const char *text = NULL;
            int err;

            if (!option->value)
                continue;
            env_name(option->name, name);
            text = getenv(name);
            if (!text || !*text)
                continue;
            err = option->type == CONFIG_LIST ? list_split(option, text) : set_value(option, text);
            if (err < 0)
                return refuse(spec, option, name, text);
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
    char where[ENV_NAME_MAX];

    snprintf(where, sizeof(where), "--%.*s", (int)(size < 80 ? size : 80), flag);
    if (!option) {
        explain_unknown(flags->spec, where + 2);
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
    return set_value(option, text) < 0 ? refuse(flags->spec, option, where, text) : 0;
}

static void rotate(char **argv, int from, int to) /* argv[from] moves behind argv[to - 1] */
{
    char *moved = argv[from];

    memmove(argv + from, argv + from + 1, sizeof(*argv) * (size_t)(to - from - 1));
    argv[to - 1] = moved;
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
            int n_moved = all - end; /* operands that stood before it stay before the others */

            for (int i = 0; i < n_moved; i++)
                for (int j = all - 1; j > flags->at + 1; j--) {
                    char *swap = flags->argv[j];

                    flags->argv[j] = flags->argv[j - 1];
                    flags->argv[j - 1] = swap;
                }
            *first_operand = flags->at + 1;
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
            print_help(spec);
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
