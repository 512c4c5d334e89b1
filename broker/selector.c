#include "broker/selector.h"

#include "broker/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct demand {
    char *key;
    char **values; /* (n_values) sorted */
    size_t n_values;
};

struct selector {
    uint64_t hash;
    size_t n;
    struct demand demands[]; /* (n) sorted by key */
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_key(const void *a, const void *b)
{
    const struct demand *one = a;
    const struct demand *other = b;

    return strcmp(one->key, other->key);
}

static int demand_fill(struct demand *demand, const Dragoman__Mesh__V1__Label *label)
{
    if (label->key[0] == '\0' || label->n_values == 0)
        return -EINVAL;
    demand->key = strdup(label->key);
    demand->values = calloc(label->n_values, sizeof(*demand->values));
    if (!demand->key || !demand->values)
        return -ENOMEM;
    for (; demand->n_values < label->n_values; demand->n_values++) {
        demand->values[demand->n_values] = strdup(label->values[demand->n_values]);
        if (!demand->values[demand->n_values])
            return -ENOMEM;
    }
    qsort(demand->values, demand->n_values, sizeof(*demand->values), by_text);
    return 0;
}

static uint64_t hash_of(const struct selector *selector)
{
    uint64_t hash = 0;

    for (size_t i = 0; i < selector->n; i++) {
        const struct demand *demand = &selector->demands[i];

        hash = table_pair(hash, table_key(demand->key, strlen(demand->key)));
        for (size_t j = 0; j < demand->n_values; j++)
            hash = table_pair(hash, table_key(demand->values[j], strlen(demand->values[j])));
    }
    return hash;
}

uint64_t selector_hash(const struct selector *selector)
{
    return selector ? selector->hash : 0;
}

int selector_create(Dragoman__Mesh__V1__Label *const *labels, size_t n, struct selector **out)
{
    struct selector *selector = NULL;
    int err = 0;

    if (n == 0) {
        *out = NULL;
        return 0;
    }
    selector = calloc(1, sizeof(*selector) + n * sizeof(*selector->demands));
    if (!selector)
        return -ENOMEM;
    for (; err == 0 && selector->n < n; selector->n++)
        err = demand_fill(&selector->demands[selector->n], labels[selector->n]);
    if (err < 0) {
        selector_destroy(&selector);
        return err;
    }
    qsort(selector->demands, n, sizeof(*selector->demands), by_key);
    selector->hash = hash_of(selector);
    *out = selector;
    return 0;
}

void selector_destroy(struct selector **selector)
{
    struct selector *self = *selector;

    *selector = NULL;
    for (size_t i = 0; self && i < self->n; i++) {
        for (size_t j = 0; j < self->demands[i].n_values; j++)
            free(self->demands[i].values[j]);
        free(self->demands[i].values);
        free(self->demands[i].key);
    }
    free(self);
}

static bool demand_equal(const struct demand *a, const struct demand *b)
{
    if (a->n_values != b->n_values || strcmp(a->key, b->key) != 0)
        return false;
    for (size_t i = 0; i < a->n_values; i++)
        if (strcmp(a->values[i], b->values[i]) != 0)
            return false;
    return true;
}

bool selector_equal(const struct selector *a, const struct selector *b)
{
    if (!a || !b)
        return a == b;
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!demand_equal(&a->demands[i], &b->demands[i]))
            return false;
    return true;
}

static bool label_has(const Dragoman__Mesh__V1__Label *label, const struct demand *demand)
{
    if (strcmp(label->key, demand->key) != 0)
        return false;
    for (size_t i = 0; i < label->n_values; i++)
        for (size_t j = 0; j < demand->n_values; j++)
            if (strcmp(label->values[i], demand->values[j]) == 0)
                return true;
    return false;
}

static bool demand_met(const struct demand *demand, Dragoman__Mesh__V1__Label *const *labels,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (label_has(labels[i], demand))
            return true;
    return false;
}

bool selector_matches(const struct selector *selector, Dragoman__Mesh__V1__Label *const *labels,
                      size_t n)
{
    for (size_t i = 0; selector && i < selector->n; i++)
        if (!demand_met(&selector->demands[i], labels, n))
            return false;
    return true;
}

void selector_text(const struct selector *selector, char *out, size_t size)
{
    FILE *text = fmemopen(out, size, "w");

    out[0] = '\0';
    if (!text)
        return;
    for (size_t i = 0; selector && i < selector->n; i++) {
        const struct demand *demand = &selector->demands[i];

        fprintf(text, "%s%s=", i ? ", " : "", demand->key);
        for (size_t j = 0; j < demand->n_values; j++)
            fprintf(text, "%s%s", j ? "|" : "", demand->values[j]);
    }
    fclose(text);
    out[size - 1] = '\0';
}
