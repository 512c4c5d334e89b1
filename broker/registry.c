#include "broker/registry.h"

#include "broker/reflect.h"
#include "broker/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128    /* of a service, a method */
#define LABEL_MAX_BYTES 256   /* of a label's key, a value */
#define LABEL_VALUES_MAX 4096 /* of one worker, all keys together */
#define OFFER_SERVICES_MAX 64
#define METHODS_MAX 256    /* of one service, ever */
#define WARM_NS 5000000000 /* from then on a worker gets its full share */
#define WARMTH_MIN 0.1
#define WEIGHT_LABEL "weight" /* of the calls, against other workers' */
#define WEIGHT_DEFAULT 100
#define WEIGHT_MAX 1000

struct method {
    struct table_node by_hash;
    struct service *service;
};

void registry_init(struct registry *registry, size_t queue_limit, size_t queue_bytes, uint64_t seed)
{
    *registry = (struct registry){.queue_limit = queue_limit, .queue_bytes = queue_bytes};
    table_init(&registry->services, seed);
    table_init(&registry->methods, seed);
    LIST_INIT(&registry->workers);
    registry->last = &registry->first;
}

void registry_weights(struct registry *registry, const struct queue_weight *weights, size_t n)
{
    registry->weights = weights;
    registry->n_weights = n;
}

/* ---- services -------------------------------------------------------------------------------- */

struct service *registry_find(const struct registry *registry, const char *name, size_t size)
{
    struct table_node *node = table_find(&registry->services, table_key(name, size));

    for (; node; node = table_next(node)) {
        struct service *service = container_of(node, struct service, by_name);

        if (strlen(service->name) == size && memcmp(service->name, name, size) == 0)
            return service;
    }
    return NULL;
}

struct service *registry_find_method(const struct registry *registry, uint64_t hash)
{
    struct table_node *node = table_find(&registry->methods, hash);

    return node ? container_of(node, struct method, by_hash)->service : NULL;
}

static void service_free(struct service *service)
{
    for (size_t i = 0; i < service->n_methods; i++)
        free(service->methods[i]);
    pool_free_all(service);
    free(service->methods);
    free(service->descriptor_set.data);
    free(service->workers);
    free(service->metrics);
    queue_fini(&service->queue);
    free(service->name);
    free(service);
}

static bool name_valid(const char *name, size_t size)
{
    if (size == 0 || size > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
              (name[i] >= '0' && name[i] <= '9') || name[i] == '_' || name[i] == '.'))
            return false;
    return true;
}

int registry_expect(struct registry *registry, const char *name, size_t size, struct service **out)
{
    struct service *service = NULL;
    struct selector *nothing = NULL;

    if (!name_valid(name, size))
        return -EINVAL;
    if (registry->services.count >= REGISTRY_SERVICES_MAX)
        return -ENOSPC;
    service = calloc(1, sizeof(*service));
    if (!service)
        return -ENOMEM;
    queue_init(&service->queue, registry->queue_limit, registry->queue_bytes);
    service->queue.weights = registry->weights;
    service->queue.n_weights = registry->n_weights;
    table_init(&service->by_selector, registry->services.seed);
    LIST_INIT(&service->pools);
    service->name = strndup(name, size);
    if (!service->name || pool_get(service, &nothing, &service->any) < 0 ||
        table_add(&registry->services, &service->by_name, table_key(name, size)) < 0) {
        service_free(service);
        return -ENOMEM;
    }
    *registry->last = service;
    registry->last = &service->next;
    *out = service;
    return 0;
}

void registry_forget(struct registry *registry, struct service *service)
{
    struct service **at = &registry->first;

    if (service->known || service->queue.count > 0)
        return;
    while (*at != service)
        at = &(*at)->next;
    *at = service->next;
    if (!service->next)
        registry->last = at;
    table_remove(&registry->services, &service->by_name);
    service_free(service);
}

static int method_add(struct registry *registry, struct service *service, const char *name)
{
    char path[2 * NAME_MAX_BYTES + 3];
    int size = snprintf(path, sizeof(path), "/%s/%s", service->name, name);
    uint64_t hash = mesh_method_hash(path, (size_t)size);
    struct method *method = NULL;
    char **methods = NULL;

    for (size_t i = 0; i < service->n_methods; i++)
        if (strcmp(service->methods[i], name) == 0)
            return 0;
    if (service->n_methods == METHODS_MAX)
        return -ENOSPC;
    methods = realloc(service->methods, (service->n_methods + 1) * sizeof(*methods));
    if (!methods)
        return -ENOMEM;
    service->methods = methods;
    method = calloc(1, sizeof(*method));
    methods[service->n_methods] = strdup(name);
    if (!method || !methods[service->n_methods] ||
        (!table_find(&registry->methods, hash) &&
         table_add(&registry->methods, &method->by_hash, hash) < 0)) {
        free(methods[service->n_methods]);
        free(method);
        return -ENOMEM;
    }
    if (method->by_hash.key != hash) /* another's hash: those calls are found by name */
        free(method);
    else
        method->service = service;
    service->n_methods++;
    return 0;
}

void registry_fini(struct registry *registry)
{
    for (struct service *service = registry->first, *next; service; service = next) {
        next = service->next;
        for (size_t i = 0; i < service->n_methods; i++) {
            char path[2 * NAME_MAX_BYTES + 3];
            int size = snprintf(path, sizeof(path), "/%s/%s", service->name, service->methods[i]);
            struct table_node *node =
                table_find(&registry->methods, mesh_method_hash(path, (size_t)size));

            if (node) {
                table_remove(&registry->methods, node);
                free(container_of(node, struct method, by_hash));
            }
        }
        service_free(service);
    }
    table_fini(&registry->services);
    table_fini(&registry->methods);
}

/* ---- offers ---------------------------------------------------------------------------------- */

static bool printable(const char *text)
{
    size_t size = strlen(text);

    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return false;
    return size > 0 && size <= LABEL_MAX_BYTES;
}

static const char *labels_fault(const mesh_register *offer)
{
    size_t n_values = 0;

    for (size_t i = 0; i < offer->n_labels; i++) {
        const Dragoman__Mesh__V1__Label *label = offer->labels[i];

        n_values += label->n_values + 1;
        if (n_values > LABEL_VALUES_MAX)
            return "more than 4096 labels";
        if (!printable(label->key))
            return "a label's key must be 1 to 256 printable bytes";
        for (size_t j = 0; j < label->n_values; j++)
            if (!printable(label->values[j]))
                return "a label's value must be 1 to 256 printable bytes";
    }
    return NULL;
}

static bool brokers_own(const char *service)
{
    return strcmp(service, REGISTRY_HEALTH) == 0 || strcmp(service, REGISTRY_DIRECTORY) == 0 ||
           strcmp(service, REGISTRY_REFLECTION) == 0;
}

static const char *services_fault(const mesh_register *offer)
{
    size_t n_offered = 0;

    if (offer->n_services > OFFER_SERVICES_MAX)
        return "more than 64 services";
    for (size_t i = 0; i < offer->n_services; i++) {
        const Dragoman__Mesh__V1__ServiceOffer *service = offer->services[i];

        n_offered += !brokers_own(service->name);
        if (!name_valid(service->name, strlen(service->name)))
            return "a service's name must be 1 to 128 of [A-Za-z0-9_.]";
        for (size_t j = 0; j < service->n_methods; j++)
            if (!name_valid(service->methods[j], strlen(service->methods[j])))
                return "a method's name must be 1 to 128 of [A-Za-z0-9_.]";
    }
    return n_offered == 0 ? "no service is offered" : NULL;
}

static const char *offer_fault(const mesh_register *offer)
{
    const char *fault = services_fault(offer);

    if (!fault)
        fault = labels_fault(offer);
    if (!fault && offer->capacity > REGISTRY_CAPACITY_MAX)
        fault = "capacity must be 0 to 65536";
    return fault;
}

/* ---- workers --------------------------------------------------------------------------------- */

static int service_enlist(struct service *service, struct worker *worker, int64_t now_ns)
{
    if (service->n_workers == 0)
        service->manned_ns = now_ns;
    else if (now_ns - service->manned_ns >= WARM_NS)
        worker->joined_ns = now_ns; /* the others are warm: a stream of calls must not drown it */
    if (service->n_workers == service->room) {
        size_t room = service->room ? 2 * service->room : 4;
        struct worker **workers = realloc(service->workers, room * sizeof(*workers));

        if (!workers)
            return -ENOMEM;
        service->workers = workers;
        service->room = room;
    }
    service->workers[service->n_workers++] = worker;
    service->known = true;
    return 0;
}

static void service_delist(struct service *service, const struct worker *worker)
{
    for (size_t i = 0; i < service->n_workers; i++)
        if (service->workers[i] == worker) {
            service->workers[i] = service->workers[--service->n_workers];
            return;
        }
}

static bool worker_has(const struct worker *worker, const struct service *service)
{
    for (size_t i = 0; i < worker->n_services; i++)
        if (worker->services[i] == service)
            return true;
    return false;
}

static int service_join(struct registry *registry, struct worker *worker,
                        Dragoman__Mesh__V1__ServiceOffer *offer, int64_t now_ns)
{
    size_t size = strlen(offer->name);
    struct service *service = registry_find(registry, offer->name, size);
    int err = service ? 0 : registry_expect(registry, offer->name, size, &service);

    for (size_t i = 0; err == 0 && i < offer->n_methods; i++)
        err = method_add(registry, service, offer->methods[i]);
    if (err == 0)
        reflect_keep(service, offer);
    if (err < 0 || worker_has(worker, service))
        return err;
    err = service_enlist(service, worker, now_ns);
    if (err < 0)
        return err;
    worker->services[worker->n_services] = service;
    LIST_INIT(&worker->places[worker->n_services]);
    worker->n_services++;
    return pool_join(service, worker, &worker->places[worker->n_services - 1]);
}

/* Of those that are equal otherwise a worker of weight 20 gets a quarter of what one of 80 gets. */
static unsigned weight_of(const mesh_register *offer)
{
    for (size_t i = 0; i < offer->n_labels; i++) {
        const Dragoman__Mesh__V1__Label *label = offer->labels[i];
        unsigned long weight;

        if (strcmp(label->key, WEIGHT_LABEL) != 0 || label->n_values != 1)
            continue;
        weight = strtoul(label->values[0], NULL, 10);
        if (weight >= 1 && weight <= WEIGHT_MAX)
            return (unsigned)weight;
    }
    return WEIGHT_DEFAULT;
}

int registry_add(struct registry *registry, struct session *session, mesh_register *offer,
                 int64_t now_ns, struct worker **out, const char **why)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    int err = 0;

    *why = offer_fault(offer);
    if (!worker || *why) {
        free(worker);
        dragoman__mesh__v1__register__free_unpacked(offer, NULL);
        return *why ? -EINVAL : -ENOMEM;
    }
    LIST_INSERT_HEAD(&registry->workers, worker, link);
    LIST_INIT(&worker->calls);
    worker->offer = offer;
    worker->session = session;
    worker->capacity = offer->capacity;
    worker->lends = offer->capacity_total > 0;
    worker->id = ++registry->next_id;
    worker->joined_ns = now_ns - WARM_NS;
    worker->weight = weight_of(offer);
    worker->standing.turn = registry->turn;
    worker->services = calloc(offer->n_services, sizeof(struct service *));
    worker->places = calloc(offer->n_services, sizeof(*worker->places));
    if (!worker->services || !worker->places)
        err = -ENOMEM;
    for (size_t i = 0; err == 0 && i < offer->n_services; i++)
        if (!brokers_own(offer->services[i]->name))
            err = service_join(registry, worker, offer->services[i], now_ns);
    if (err < 0) {
        *why = err == -ENOMEM ? "out of memory" : "too many services or methods are known";
        registry_remove(registry, &worker);
        return err;
    }
    registry->version++;
    *out = worker;
    return 0;
}

void registry_drain(struct registry *registry, struct worker *worker)
{
    worker->draining = true;
    registry->version++;
    for (size_t i = 0; i < worker->n_services; i++) {
        pool_leave(&worker->places[i]);
        service_delist(worker->services[i], worker);
    }
}

void registry_remove(struct registry *registry, struct worker **worker)
{
    struct worker *self = *worker;

    *worker = NULL;
    registry_drain(registry, self);
    LIST_REMOVE(self, link);
    dragoman__mesh__v1__register__free_unpacked(self->offer, NULL);
    free(self->services);
    free(self->places);
    free(self->told);
    free(self);
}

struct members *registry_places(struct worker *worker, const struct service *service)
{
    for (size_t i = 0; i < worker->n_services; i++)
        if (worker->services[i] == service)
            return &worker->places[i];
    return NULL;
}

void registry_standing(struct worker *worker, int64_t now_ns)
{
    int64_t age_ns = now_ns - worker->joined_ns;
    double warmth = age_ns < WARM_NS ? (double)age_ns / WARM_NS : 1;
    double slots = (double)worker->capacity * worker->weight;

    if (warmth < WARMTH_MIN)
        warmth = WARMTH_MIN;
    worker->standing.load = worker->running > 0 ? worker->running / (slots * warmth) : 0;
    pool_changed(worker);
}

void registry_turn(struct registry *registry, struct worker *worker)
{
    struct standing *standing = &worker->standing;

    if (standing->turn < registry->turn)
        standing->turn = registry->turn;
    registry->turn = standing->turn;
    standing->turn += (double)WEIGHT_DEFAULT / worker->weight;
}
