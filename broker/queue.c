#include "broker/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COST_FIRST_NS 1000000 /* of a call, until one has ended */
#define SAMPLE 64             /* of a heap, to guess at the whole */

/* What one tenant has waiting in one line. */
struct queue_lane {
    struct queue_lane *next; /* of the tenant */
    struct queue_tenant *tenant;
    struct queue_line *line;
    struct heap_node node;        /* in the line */
    struct heap entries;          /* the earliest first */
    struct queue_entries waiting; /* the same as they came */
};

struct queue_tenant {
    struct table_node by_name;
    struct heap_node node;    /* in queue.greedy */
    struct queue_lane *lanes; /* those with waiting calls */
    size_t count;             /* of these */
    size_t n_refs;
    unsigned weight;
    int64_t cost_ns; /* moving average of the time that its calls hold a worker */
    double clock;    /* virtual time at which its next call may begin */
    uint64_t period; /* that `clock` belongs to */
    char name[];
};

/* ---- orders ---------------------------------------------------------------------------------- */

static struct queue_entry *entry_at(const struct heap_node *node)
{
    return container_of(node, struct queue_entry, node);
}

static struct queue_lane *lane_at(const struct heap_node *node)
{
    return container_of(node, struct queue_lane, node);
}

static struct queue_tenant *tenant_at(const struct heap_node *node)
{
    return container_of(node, struct queue_tenant, node);
}

static bool earlier(const struct heap_node *a, const struct heap_node *b)
{
    const struct queue_entry *one = entry_at(a);
    const struct queue_entry *other = entry_at(b);

    return one->due_ns != other->due_ns ? one->due_ns < other->due_ns : one->order < other->order;
}

static bool lane_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct queue_lane *one = lane_at(a);
    const struct queue_lane *other = lane_at(b);

    if (one->tenant->clock != other->tenant->clock)
        return one->tenant->clock < other->tenant->clock;
    return earlier(heap_first(&one->entries), heap_first(&other->entries));
}

static bool greedier(const struct heap_node *a, const struct heap_node *b)
{
    const struct queue_tenant *one = tenant_at(a);
    const struct queue_tenant *other = tenant_at(b);

    return one->count * other->weight > other->count * one->weight;
}

void queue_init(struct queue *queue, size_t limit, size_t bytes_limit)
{
    *queue = (struct queue){.limit = limit, .bytes_limit = bytes_limit, .period = 1};
    table_init(&queue->tenants, (uint64_t)(uintptr_t)queue);
    heap_init(&queue->greedy, greedier);
}

void queue_fini(struct queue *queue)
{
    table_fini(&queue->tenants);
    heap_fini(&queue->greedy);
}

void queue_line_init(struct queue_line *line)
{
    *line = (struct queue_line){0};
    heap_init(&line->lanes, lane_before);
}

void queue_line_fini(struct queue_line *line)
{
    heap_fini(&line->lanes);
}

/* ---- tenants --------------------------------------------------------------------------------- */

static unsigned weight_of(const struct queue *queue, const char *name)
{
    for (size_t i = 0; i < queue->n_weights; i++)
        if (strcmp(queue->weights[i].tenant, name) == 0)
            return queue->weights[i].weight;
    return 1;
}

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
    tenant->weight = weight_of(queue, name);
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

const char *queue_tenant_name(const struct queue_tenant *tenant)
{
    return tenant->name;
}

unsigned queue_tenant_weight(const struct queue_tenant *tenant)
{
    return tenant->weight;
}

size_t queue_tenant_count(const struct queue_tenant *tenant)
{
    return tenant->count;
}

size_t queue_tenants(const struct queue *queue, const struct queue_tenant **out, size_t room)
{
    size_t n = queue->greedy.count < room ? queue->greedy.count : room;

    for (size_t i = 0; i < n; i++)
        out[i] = tenant_at(queue->greedy.nodes[i]);
    return n;
}

/* Its place in every line follows its clock. */
static void clock_set(struct queue_tenant *tenant, double clock)
{
    tenant->clock = clock;
    for (struct queue_lane *lane = tenant->lanes; lane; lane = lane->next)
        heap_moved(&lane->line->lanes, &lane->node);
}

/* Who has not waited, or waited where nobody serves, has saved nothing up. */
static void clock_catch_up(const struct queue *queue, struct queue_tenant *tenant)
{
    double clock = tenant->period == queue->period ? tenant->clock : 0;

    tenant->period = queue->period;
    clock_set(tenant, clock > queue->clock ? clock : queue->clock);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static struct queue_lane *lane_find(const struct queue_tenant *tenant,
                                    const struct queue_line *line)
{
    struct queue_lane *lane = tenant->lanes;

    while (lane && lane->line != line)
        lane = lane->next;
    return lane;
}

/* An empty one, not in its line yet. */
static struct queue_lane *lane_make(struct queue_tenant *tenant, struct queue_line *line)
{
    struct queue_lane *lane = calloc(1, sizeof(*lane));

    if (!lane)
        return NULL;
    lane->tenant = tenant;
    lane->line = line;
    heap_init(&lane->entries, earlier);
    TAILQ_INIT(&lane->waiting);
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
    heap_remove(&lane->line->lanes, &lane->node);
    heap_fini(&lane->entries);
    free(lane);
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* The entry into the lane, the lane into its line, the tenant among those who wait. */
static int link_entry(struct queue *queue, struct queue_lane *lane, struct queue_entry *entry)
{
    struct queue_tenant *tenant = lane->tenant;

    if (heap_reserve(&queue->greedy, queue->greedy.count + 1) < 0 ||
        heap_push(&lane->entries, &entry->node) < 0)
        return -ENOMEM;
    if (lane->node.place > 0) {
        heap_moved(&lane->line->lanes, &lane->node);
    } else {
        clock_catch_up(queue, tenant);
        if (heap_push(&lane->line->lanes, &lane->node) < 0)
            return -ENOMEM;
    }
    tenant->count++;
    if (tenant->node.place > 0)
        heap_moved(&queue->greedy, &tenant->node);
    else
        heap_push(&queue->greedy, &tenant->node); /* there is room */
    return 0;
}

static int insert(struct queue *queue, struct queue_line *line, struct queue_entry *entry)
{
    struct queue_tenant *tenant = entry->tenant;
    struct queue_lane *lane = lane_find(tenant, line);

    if (!lane)
        lane = lane_make(tenant, line);
    if (!lane)
        return -ENOMEM;
    entry->order = queue->next_order++;
    if (link_entry(queue, lane, entry) < 0) {
        heap_remove(&lane->entries, &entry->node);
        if (lane->entries.count == 0)
            lane_free(lane);
        return -ENOMEM;
    }
    entry->lane = lane;
    line->count++;
    queue->count++;
    queue->bytes += entry->bytes;
    return 0;
}

int queue_push(struct queue *queue, struct queue_line *line, struct queue_entry *entry)
{
    int err;

    if (queue->count >= queue->limit || entry->bytes > queue->bytes_limit ||
        queue->bytes > queue->bytes_limit - entry->bytes)
        return -ENOSPC;
    err = insert(queue, line, entry);
    if (err == 0)
        TAILQ_INSERT_TAIL(&entry->lane->waiting, entry, of_lane);
    return err;
}

int queue_return(struct queue *queue, struct queue_line *line, struct queue_entry *entry)
{
    int err;

    entry->due_ns = INT64_MIN;
    err = insert(queue, line, entry);
    if (err == 0)
        TAILQ_INSERT_HEAD(&entry->lane->waiting, entry, of_lane);
    return err;
}

void queue_remove(struct queue *queue, struct queue_entry *entry)
{
    struct queue_lane *lane = entry->lane;
    struct queue_tenant *tenant = entry->tenant;

    heap_remove(&lane->entries, &entry->node);
    TAILQ_REMOVE(&lane->waiting, entry, of_lane);
    entry->lane = NULL;
    lane->line->count--;
    if (lane->entries.count == 0)
        lane_free(lane);
    else
        heap_moved(&lane->line->lanes, &lane->node);
    if (--tenant->count == 0)
        heap_remove(&queue->greedy, &tenant->node);
    else
        heap_moved(&queue->greedy, &tenant->node);
    queue->bytes -= entry->bytes;
    if (--queue->count == 0) {
        queue->period++;
        queue->clock = 0;
    }
}

void queue_take(struct queue *queue, struct queue_entry *entry)
{
    struct queue_tenant *tenant = entry->tenant;

    queue->clock = tenant->clock;
    clock_set(tenant, tenant->clock + (double)tenant->cost_ns / tenant->weight);
    queue_remove(queue, entry);
}

struct queue_entry *queue_victim(const struct queue *queue, const struct queue_tenant *newcomer)
{
    const struct heap_node *node = heap_first(&queue->greedy);
    const struct queue_tenant *most = node ? tenant_at(node) : NULL;
    struct queue_entry *last = NULL;

    if (!most || most->count * newcomer->weight <= (newcomer->count + 1) * most->weight)
        return NULL;
    for (const struct queue_lane *lane = most->lanes; lane; lane = lane->next) {
        struct queue_entry *entry = TAILQ_LAST(&lane->waiting, queue_entries);

        if (!last || entry->order > last->order)
            last = entry;
    }
    return last;
}

struct queue_entry *queue_first(const struct queue_line *line)
{
    const struct heap_node *lane = heap_first(&line->lanes);

    return lane ? entry_at(heap_first(&lane_at(lane)->entries)) : NULL;
}

bool queue_before(const struct queue_entry *a, const struct queue_entry *b)
{
    return lane_before(&a->lane->node, &b->lane->node);
}

struct queue_entry *queue_aged(struct queue_entry *first, int64_t before_ns)
{
    struct queue_entry *oldest = TAILQ_FIRST(&first->lane->waiting);

    return oldest->since_ns < before_ns ? oldest : first;
}

struct queue_line *queue_entry_line(const struct queue_entry *entry)
{
    return entry->lane->line;
}

/* ---- looking through it ---------------------------------------------------------------------- */

static size_t due_before(const struct queue_lane *lane, int64_t due_ns)
{
    size_t count = lane ? lane->entries.count : 0;
    size_t step = count / SAMPLE + 1;
    size_t seen = 0;
    size_t before = 0;

    for (size_t i = 0; i < count; i += step, seen++)
        before += entry_at(lane->entries.nodes[i])->due_ns <= due_ns;
    return seen ? before * count / seen : 0;
}

size_t queue_ahead(const struct queue *queue, const struct queue_line *line,
                   const struct queue_tenant *tenant, int64_t due_ns)
{
    const struct queue_lane *own = lane_find(tenant, line);
    size_t before = due_before(own, due_ns);
    size_t step = line->lanes.count / SAMPLE + 1;
    double clock = own ? tenant->clock : queue->clock;
    double turn = (double)tenant->cost_ns / tenant->weight;
    double others = 0;

    for (size_t i = 0; i < line->lanes.count; i += step) {
        const struct queue_lane *lane = lane_at(line->lanes.nodes[i]);
        const struct queue_tenant *other = lane->tenant;
        double meanwhile =
            (clock + turn * (double)before - other->clock) * other->weight / (double)other->cost_ns;
        double waiting = (double)lane->entries.count;

        if (lane != own && meanwhile > 0)
            others += (meanwhile < waiting ? meanwhile : waiting) * (double)step;
    }
    return before + (size_t)others;
}

void queue_each(const struct queue_line *line, void (*visit)(struct queue_entry *entry, void *arg),
                void *arg)
{
    for (size_t i = 0; i < line->lanes.count; i++) {
        const struct heap *entries = &lane_at(line->lanes.nodes[i])->entries;

        for (size_t j = 0; j < entries->count; j++)
            visit(entry_at(entries->nodes[j]), arg);
    }
}
