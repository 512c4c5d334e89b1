#include "broker/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_FIRST 8
#define COST_FIRST_NS 1000000 /* of a call, until one has ended */

struct queue_lane {
    struct queue_lane *next;
    struct queue_tenant *tenant;
    struct selector *selector;
    struct queue_entry **heap; /* (count) the first is the earliest */
    size_t count, capacity;
};

struct queue_tenant {
    struct table_node by_name;
    struct queue_tenant *before, *after; /* in the ring while something waits */
    struct queue_lane *lanes;            /* those with waiting calls */
    size_t count;                        /* waiting */
    size_t n_refs;
    int64_t cost_ns; /* moving average of the time that its calls hold a worker */
    int64_t deficit_ns;
    char name[];
};

void queue_init(struct queue *queue, size_t limit, size_t bytes_limit)
{
    *queue = (struct queue){.limit = limit, .bytes_limit = bytes_limit};
    table_init(&queue->tenants, (uint64_t)(uintptr_t)queue);
}

void queue_fini(struct queue *queue)
{
    table_fini(&queue->tenants);
}

/* ---- tenants --------------------------------------------------------------------------------- */

struct queue_tenant *queue_tenant_get(struct queue *queue, const char *name)
{
    size_t size = strlen(name);
    uint64_t key = table_key(name, size);
    struct table_node *node = table_find(&queue->tenants, key);
    struct queue_tenant *tenant = NULL;

    for (; node; node = table_next(node)) {
        tenant = container_of(node, struct queue_tenant, by_name);
        if (strcmp(tenant->name, name) == 0) {
            tenant->n_refs++;
            return tenant;
        }
    }
    tenant = calloc(1, sizeof(*tenant) + size + 1);
    if (!tenant)
        return NULL;
    if (table_add(&queue->tenants, &tenant->by_name, key) < 0) {
        free(tenant);
        return NULL;
    }
    memcpy(tenant->name, name, size);
    tenant->n_refs = 1;
    tenant->cost_ns = COST_FIRST_NS;
    return tenant;
}

void queue_tenant_put(struct queue *queue, struct queue_tenant *tenant)
{
    if (--tenant->n_refs > 0)
        return;
    table_remove(&queue->tenants, &tenant->by_name);
    free(tenant);
}

void queue_tenant_charge(struct queue_tenant *tenant, int64_t held_ns)
{
    tenant->cost_ns += (held_ns - tenant->cost_ns) / 4;
    if (tenant->cost_ns < 1)
        tenant->cost_ns = 1;
}

static void turn_pass(struct queue *queue)
{
    queue->turn = queue->turn->after;
    queue->turn_begins = true;
}

static void ring_enter(struct queue *queue, struct queue_tenant *tenant)
{
    struct queue_tenant *turn = queue->turn;

    queue->n_tenants++;
    if (!turn) {
        queue->turn = tenant->before = tenant->after = tenant;
        queue->turn_begins = true;
        return;
    }
    tenant->after = turn; /* last in the round that goes on */
    tenant->before = turn->before;
    turn->before->after = tenant;
    turn->before = tenant;
}

static void ring_leave(struct queue *queue, struct queue_tenant *tenant)
{
    queue->n_tenants--;
    tenant->deficit_ns = 0;
    if (tenant->after == tenant) {
        queue->turn = NULL;
        return;
    }
    tenant->before->after = tenant->after;
    tenant->after->before = tenant->before;
    if (queue->turn == tenant)
        turn_pass(queue);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static bool earlier(const struct queue_entry *a, const struct queue_entry *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void put(struct queue_lane *lane, size_t place, struct queue_entry *entry)
{
    lane->heap[place] = entry;
    entry->place = place;
}

static void sift_up(struct queue_lane *lane, struct queue_entry *entry, size_t place)
{
    while (place > 0 && earlier(entry, lane->heap[(place - 1) / 2])) {
        put(lane, place, lane->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(lane, place, entry);
}

static void sift_down(struct queue_lane *lane, struct queue_entry *entry, size_t place)
{
    for (;;) {
        size_t child = 2 * place + 1;

        if (child + 1 < lane->count && earlier(lane->heap[child + 1], lane->heap[child]))
            child++;
        if (child >= lane->count || !earlier(lane->heap[child], entry))
            break;
        put(lane, place, lane->heap[child]);
        place = child;
    }
    put(lane, place, entry);
}

static int lane_insert(struct queue_lane *lane, struct queue_entry *entry)
{
    if (lane->count == lane->capacity) {
        size_t capacity = lane->capacity ? 2 * lane->capacity : HEAP_FIRST;
        struct queue_entry **heap = realloc(lane->heap, capacity * sizeof(*heap));

        if (!heap)
            return -ENOMEM;
        lane->heap = heap;
        lane->capacity = capacity;
    }
    lane->count++;
    sift_up(lane, entry, lane->count - 1);
    return 0;
}

static void lane_delete(struct queue_lane *lane, const struct queue_entry *entry)
{
    size_t place = entry->place;
    struct queue_entry *last = lane->heap[--lane->count];

    if (last == entry)
        return;
    if (place > 0 && earlier(last, lane->heap[(place - 1) / 2]))
        sift_up(lane, last, place);
    else
        sift_down(lane, last, place);
}

static struct queue_lane *lane_find(const struct queue_tenant *tenant,
                                    const struct selector *selector)
{
    struct queue_lane *lane = tenant->lanes;

    while (lane && !selector_equal(lane->selector, selector))
        lane = lane->next;
    return lane;
}

static struct queue_lane *lane_make(struct queue_tenant *tenant, struct selector **selector)
{
    struct queue_lane *lane = calloc(1, sizeof(*lane));

    if (!lane)
        return NULL;
    lane->tenant = tenant;
    lane->selector = *selector;
    *selector = NULL;
    lane->next = tenant->lanes;
    tenant->lanes = lane;
    return lane;
}

static void lane_free(struct queue_lane *lane)
{
    struct queue_lane **at = &lane->tenant->lanes;

    while (*at != lane)
        at = &(*at)->next;
    *at = lane->next;
    selector_destroy(&lane->selector);
    free(lane->heap);
    free(lane);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static int insert(struct queue *queue, struct queue_entry *entry, struct selector **selector)
{
    struct queue_tenant *tenant = entry->tenant;
    struct queue_lane *lane = lane_find(tenant, *selector);

    if (!lane)
        lane = lane_make(tenant, selector);
    if (!lane)
        return -ENOMEM;
    entry->order = queue->next_order++;
    if (lane_insert(lane, entry) < 0) {
        if (lane->count == 0) {
            *selector = lane->selector;
            lane->selector = NULL;
            lane_free(lane);
        }
        return -ENOMEM;
    }
    selector_destroy(selector);
    entry->lane = lane;
    queue->count++;
    queue->bytes += entry->bytes;
    if (tenant->count++ == 0)
        ring_enter(queue, tenant);
    return 0;
}

int queue_push(struct queue *queue, struct queue_entry *entry, struct selector **selector)
{
    if (queue->count >= queue->limit || entry->bytes > queue->bytes_limit ||
        queue->bytes > queue->bytes_limit - entry->bytes)
        return -ENOSPC;
    return insert(queue, entry, selector);
}

int queue_return(struct queue *queue, struct queue_entry *entry, struct selector **selector)
{
    entry->due_ns = INT64_MIN;
    return insert(queue, entry, selector);
}

void queue_remove(struct queue *queue, struct queue_entry *entry)
{
    struct queue_lane *lane = entry->lane;
    struct queue_tenant *tenant = entry->tenant;

    lane_delete(lane, entry);
    if (lane->count == 0)
        lane_free(lane);
    entry->lane = NULL;
    queue->count--;
    queue->bytes -= entry->bytes;
    if (--tenant->count == 0)
        ring_leave(queue, tenant);
}

struct queue_entry *queue_victim(const struct queue *queue, const struct queue_tenant *newcomer)
{
    struct queue_tenant *most = queue->turn;
    struct queue_entry *last = NULL;

    if (!most)
        return NULL;
    for (struct queue_tenant *tenant = most->after; tenant != queue->turn; tenant = tenant->after)
        if (tenant->count > most->count)
            most = tenant;
    if (most->count <= newcomer->count + 1)
        return NULL;
    for (struct queue_lane *lane = most->lanes; lane; lane = lane->next)
        for (size_t i = lane->count / 2; i < lane->count; i++) /* the latest is a leaf */
            if (!last || earlier(last, lane->heap[i]))
                last = lane->heap[i];
    return last;
}

/* The tenant's earliest call that such a worker may serve. */
static struct queue_entry *tenant_first(const struct queue_tenant *tenant,
                                        Dragoman__Mesh__V1__Label *const *labels, size_t n_labels)
{
    struct queue_entry *first = NULL;

    for (struct queue_lane *lane = tenant->lanes; lane; lane = lane->next)
        if ((!first || earlier(lane->heap[0], first)) &&
            selector_matches(lane->selector, labels, n_labels))
            first = lane->heap[0];
    return first;
}

/* What a turn adds: enough for one call of any tenant, so that each round serves each. */
static int64_t turn_quantum(const struct queue *queue)
{
    struct queue_tenant *tenant = queue->turn;
    int64_t quantum = 1;

    for (size_t i = 0; i < queue->n_tenants; i++, tenant = tenant->after)
        if (tenant->cost_ns > quantum)
            quantum = tenant->cost_ns;
    return quantum;
}

struct queue_entry *queue_take(struct queue *queue, Dragoman__Mesh__V1__Label *const *labels,
                               size_t n_labels)
{
    int64_t quantum = turn_quantum(queue);

    for (size_t visits = queue->n_tenants + (queue->n_tenants > 0); visits > 0; visits--) {
        struct queue_tenant *tenant = queue->turn;
        struct queue_entry *first = tenant_first(tenant, labels, n_labels);

        if (first && queue->turn_begins && tenant->deficit_ns < quantum)
            tenant->deficit_ns += quantum;
        if (first && tenant->deficit_ns >= tenant->cost_ns) {
            queue->turn_begins = false;
            tenant->deficit_ns -= tenant->cost_ns;
            queue_remove(queue, first);
            return first;
        }
        turn_pass(queue);
    }
    return NULL;
}

const struct selector *queue_entry_selector(const struct queue_entry *entry)
{
    return entry->lane ? entry->lane->selector : NULL;
}

size_t queue_ahead(const struct queue_tenant *tenant, const struct selector *selector,
                   int64_t due_ns)
{
    const struct queue_lane *lane = lane_find(tenant, selector);
    size_t ahead = 0;

    for (size_t i = 0; lane && i < lane->count; i++)
        ahead += lane->heap[i]->due_ns <= due_ns;
    return ahead;
}

struct queue_entry *queue_find(const struct queue *queue,
                               bool (*wanted)(const struct queue_entry *entry, void *arg),
                               void *arg)
{
    struct queue_tenant *tenant = queue->turn;

    for (size_t i = 0; i < queue->n_tenants; i++, tenant = tenant->after)
        for (struct queue_lane *lane = tenant->lanes; lane; lane = lane->next)
            for (size_t j = 0; j < lane->count; j++)
                if (wanted(lane->heap[j], arg))
                    return lane->heap[j];
    return NULL;
}

size_t queue_wanting(const struct queue *queue, Dragoman__Mesh__V1__Label *const *labels,
                     size_t n_labels)
{
    struct queue_tenant *tenant = queue->turn;
    size_t n = 0;

    for (size_t i = 0; i < queue->n_tenants; i++, tenant = tenant->after)
        for (struct queue_lane *lane = tenant->lanes; lane; lane = lane->next)
            if (selector_matches(lane->selector, labels, n_labels))
                n += lane->count;
    return n;
}
