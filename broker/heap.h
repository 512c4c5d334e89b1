/*
 * heap.h - a binary heap of things that carry their own node
 */
#ifndef BROKER_HEAP_H
#define BROKER_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap_node {
    size_t place; /* one more than its index; 0: in no heap */
};

typedef bool heap_before(const struct heap_node *a, const struct heap_node *b);

struct heap {
    struct heap_node **nodes; /* (count) owned; the first is before all others */
    size_t count, room;
    heap_before *before;
};

void heap_init(struct heap *heap, heap_before *before);
void heap_fini(struct heap *heap); /* the nodes are their owners' */

/** Make room, so that pushes up to so many nodes in all cannot fail. @return 0; -ENOMEM */
int heap_reserve(struct heap *heap, size_t count);
/** @return 0; -ENOMEM */
int heap_push(struct heap *heap, struct heap_node *node);
/** Does nothing to a node that is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);
/** What the node is sorted by has changed. Does nothing to a node that is in no heap. */
void heap_moved(struct heap *heap, struct heap_node *node);

static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->count > 0 ? heap->nodes[0] : NULL;
}

#endif
