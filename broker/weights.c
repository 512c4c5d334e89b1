#include "broker/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One of them, in place. */
static int parse_one(char *word, struct queue_weight *out)
{
    char *equals = strrchr(word, '=');
    char *end = NULL;
    long weight;

    if (!equals || equals == word)
        return -EINVAL;
    *equals = '\0';
    weight = equals[1] >= '0' && equals[1] <= '9' ? strtol(equals + 1, &end, 10) : 0;
    if (weight < 1 || weight > QUEUE_WEIGHT_MAX || *end != '\0')
        return -EINVAL;
    *out = (struct queue_weight){.tenant = word, .weight = (unsigned)weight};
    return 0;
}

static bool named_twice(const struct queue_weight *weights, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (strcmp(weights[i].tenant, weights[n - 1].tenant) == 0)
            return true;
    return false;
}

int weights_parse(const char *text, struct queue_weight **out, size_t *n)
{
    size_t size = text ? strlen(text) : 0;
    size_t room = 1;
    struct queue_weight *weights = NULL;
    char *rest = NULL;
    int err = 0;

    *out = NULL;
    *n = 0;
    if (size == 0)
        return 0;
    for (size_t i = 0; i < size; i++)
        room += text[i] == ',';
    weights = malloc(room * sizeof(*weights) + size + 1);
    if (!weights)
        return -ENOMEM;
    rest = (char *)(weights + room);
    memcpy(rest, text, size + 1);
    for (char *word = strsep(&rest, ","); err == 0 && word; word = strsep(&rest, ",")) {
        err = parse_one(word, &weights[(*n)++]);
        if (err == 0 && named_twice(weights, *n))
            err = -EINVAL;
    }
    if (err < 0) {
        free(weights);
        *n = 0;
        return err;
    }
    *out = weights;
    return 0;
}
