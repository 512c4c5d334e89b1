#include "base/config_private.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies of list variables, split at their commas; values point into them until the process ends. */
struct list_text {
    struct list_text *next;
    char text[];
};
static struct list_text *list_texts;

int config_refuse(const struct config_spec *spec, const struct config_option *option,
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

int config_split(const struct config_option *option, const char *text)
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

int config_set(const struct config_option *option, const char *text)
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
