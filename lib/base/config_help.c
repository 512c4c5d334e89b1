#include "base/config_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 30 /* where the explanations start */

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
    char env[CONFIG_ENV_NAME_MAX];
    const char *meta = option->type == CONFIG_CHOICE && option->choices ? option->choices
                       : option->meta                                   ? option->meta
                                                                        : "VALUE";
    int width = option->type == CONFIG_BOOL ? printf("  --%s", option->name)
                                            : printf("  --%s %s", option->name, meta);

    if (width >= HELP_COLUMN)
        width = printf("\n") - 1;
    printf("%*s%s%s\n", HELP_COLUMN - width, "", option->help ? option->help : "",
           option->type == CONFIG_LIST ? " (may be repeated)" : "");
    config_env_name(option->name, env);
    printf("%*s[", HELP_COLUMN, "");
    print_default(option);
    printf("%s]\n", env);
}

void config_print_help(const struct config_spec *spec)
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

/* ---- names that are none ---- */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* Levenshtein distance of two names, to guess what was meant. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[CONFIG_ENV_NAME_MAX];
    size_t n = strlen(b);

    if (n >= CONFIG_ENV_NAME_MAX || strlen(a) >= CONFIG_ENV_NAME_MAX)
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

void config_explain_unknown(const struct config_spec *spec, const char *name)
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
