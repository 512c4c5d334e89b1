#include "broker/heap.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM_FIRST 4

void heap_init(struct heap *heap, heap_before *before)
{
    *heap = (struct heap){.before = before};
}

void heap_fini(struct heap *heap)
{
    free(heap->nodes);
    *heap = (struct heap){.before = heap->before};
}

static void put(struct heap *heap, size_t index, struct heap_node *node)
{
    heap->nodes[index] = node;
    node->place = index + 1;
}

static void sift_up(struct heap *heap, struct heap_node *node, size_t index)
{
    while (index > 0 && heap->before(node, heap->nodes[(index - 1) / 2])) {
        put(heap, index, heap->nodes[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    put(heap, index, node);
}

static void sift_down(struct heap *heap, struct heap_node *node, size_t index)
{
    for (size_t child; (child = 2 * index + 1) < heap->count; index = child) {
        if (child + 1 < heap->count && heap->before(heap->nodes[child + 1], heap->nodes[child]))
            child++;
        if (!heap->before(heap->nodes[child], node))
            break;
        put(heap, index, heap->nodes[child]);
    }
    put(heap, index, node);
}

static void sift(struct heap *heap, struct heap_node *node, size_t index)
{
    if (index > 0 && heap->before(node, heap->nodes[(index - 1) / 2]))
        sift_up(heap, node, index);
    else
        sift_down(heap, node, index);
}

int heap_reserve(struct heap *heap, size_t count)
{
    size_t room = heap->room ? heap->room : ROOM_FIRST;
    struct heap_node **nodes = NULL;

    if (count <= heap->room)
        return 0;
    while (room < count)
        room *= 2;
    nodes = realloc(heap->nodes, room * sizeof(struct heap_node *));
    if (!nodes)
        return -ENOMEM;
    heap->nodes = nodes;
    heap->room = room;
    return 0;
}

int heap_push(struct heap *heap, struct heap_node *node)
{
    if (heap_reserve(heap, heap->count + 1) < 0)
        return -ENOMEM;
    heap->count++;
    sift_up(heap, node, heap->count - 1);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    size_t index = node->place - 1;
    struct heap_node *last = NULL;

    if (node->place == 0)
        return;
    node->place = 0;
    last = heap->nodes[--heap->count];
    if (last != node)
        sift(heap, last, index);
}

void heap_moved(struct heap *heap, struct heap_node *node)
{
    if (node->place > 0)
        sift(heap, node, node->place - 1);
}
