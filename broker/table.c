#include "broker/table.h"

#include <errno.h>
#include <stdlib.h>

#define SLOTS_FIRST 16

void table_init(struct table *table, uint64_t seed)
{
    *table = (struct table){.seed = seed};
}

void table_fini(struct table *table)
{
    free(table->slots);
    *table = (struct table){.seed = table->seed};
}

/* The finalizer of MurmurHash3 (public domain): every bit of the key moves every bit of the slot. */
uint64_t table_mix(uint64_t key)
{
    key = (key ^ (key >> 33)) * 0xFF51AFD7ED558CCDu;
    key = (key ^ (key >> 33)) * 0xC4CEB9FE1A85EC53u;
    return key ^ (key >> 33);
}

static struct table_node **slot_of(const struct table *table, uint64_t key)
{
    return &table->slots[table_mix(key ^ table->seed) & (table->n_slots - 1)];
}

static void insert(struct table *table, struct table_node *node)
{
    struct table_node **slot = slot_of(table, node->key);

    node->next = *slot;
    *slot = node;
}

static int grow(struct table *table)
{
    struct table_node **before = table->slots;
    size_t n_before = table->n_slots;
    size_t n = n_before ? 2 * n_before : SLOTS_FIRST;
    struct table_node **slots = calloc(n, sizeof(*slots));

    if (!slots)
        return n_before ? 0 : -ENOMEM; /* a crowded table still works */
    table->slots = slots;
    table->n_slots = n;
    for (size_t i = 0; i < n_before; i++)
        for (struct table_node *node = before[i]; node;) {
            struct table_node *next = node->next;

            insert(table, node);
            node = next;
        }
    free(before);
    return 0;
}

int table_add(struct table *table, struct table_node *node, uint64_t key)
{
    if (table->count >= table->n_slots && grow(table) < 0)
        return -ENOMEM;
    node->key = key;
    insert(table, node);
    table->count++;
    return 0;
}

void table_remove(struct table *table, struct table_node *node)
{
    struct table_node **at = slot_of(table, node->key);

    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    node->next = NULL;
    table->count--;
}

struct table_node *table_find(const struct table *table, uint64_t key)
{
    struct table_node *node = table->n_slots ? *slot_of(table, key) : NULL;

    while (node && node->key != key)
        node = node->next;
    return node;
}

struct table_node *table_next(const struct table_node *node)
{
    struct table_node *next = node->next;

    while (next && next->key != node->key)
        next = next->next;
    return next;
}

uint64_t table_key(const char *text, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash;
}

uint64_t table_pair(uint64_t a, uint64_t b)
{
    return table_mix(a) ^ (b * 0x9E3779B97F4A7C15u);
}
