/*
 * table.h - a hash table of things that carry their own node
 *
 * Keys are 64 bits, hashes of names among them: nodes of one key follow each other and the caller
 * compares. The seed keeps peers from choosing keys that collide.
 */
#ifndef BROKER_TABLE_H
#define BROKER_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct table_node {
    struct table_node *next;
    uint64_t key;
};

struct table {
    struct table_node **slots; /* (n_slots) owned */
    size_t n_slots;            /* a power of two, or 0 */
    size_t count;
    uint64_t seed;
};

void table_init(struct table *table, uint64_t seed);
void table_fini(struct table *table); /* the nodes are their owners' */

/** @return 0; -ENOMEM */
int table_add(struct table *table, struct table_node *node, uint64_t key);
void table_remove(struct table *table, struct table_node *node);

struct table_node *table_find(const struct table *table, uint64_t key);
/** The next node of the same key. */
struct table_node *table_next(const struct table_node *node);

/** Key of a name. */
uint64_t table_key(const char *text, size_t size);
/** Every bit of the key moves every bit of the result. */
uint64_t table_mix(uint64_t key);
/** Key of a pair of numbers. */
uint64_t table_pair(uint64_t a, uint64_t b);

#endif
