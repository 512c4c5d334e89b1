#include "broker/reflect.h"
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000
#define LOCALS_MAX 1024                        /* calls that the broker answers at once */
#define SETTLE_NS (20 * (int64_t)NS_PER_MS)    /* changes within this time are told together */
#define ACTIVITY_NS (500 * (int64_t)NS_PER_MS) /* how often running numbers are told */
#define TENANTS_MAX 32                         /* that are listed of a service */
#define REQUEST_MAX 4096                       /* bytes */

typedef Dragoman__Mesh__V1__DirectoryRequest directory_request;
typedef Dragoman__Mesh__V1__DirectoryResponse directory_response;
typedef Dragoman__Mesh__V1__HealthCheckRequest health_request;
typedef Dragoman__Mesh__V1__HealthCheckResponse health_response;
typedef Dragoman__Mesh__V1__ReflectionListResponse list_response;
typedef Dragoman__Mesh__V1__DescribeRequest describe_request;
typedef Dragoman__Mesh__V1__DescribeResponse describe_response;
typedef Dragoman__Mesh__V1__ServiceState service_state;
typedef Dragoman__Mesh__V1__TenantState tenant_state;
typedef Dragoman__Mesh__V1__WorkerState worker_state;

struct method {
    const char *path;
    const ProtobufCMessageDescriptor *request;
    void (*tell)(struct broker_core *core, struct local *local);
    bool watches;   /* a stream: told again when it changes */
    bool of_health; /* which changes only with the registry, not with each call */
};

struct local {
    LIST_ENTRY(local) link;
    struct call *call;
    const struct method *method;
    ProtobufCMessage *request;
    bool watching;
    bool behind; /* something is to be told, without credit */
    int told;    /* the last health status; -1: none */
    uint32_t n_sent;
    uint64_t sent_bytes;
};

bool local_serves(const char *service, size_t size)
{
    static const char *const names[] = {REGISTRY_HEALTH, REGISTRY_DIRECTORY, REGISTRY_REFLECTION};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (size == strlen(names[i]) && memcmp(service, names[i], size) == 0)
            return true;
    return false;
}

/* ---- health ---------------------------------------------------------------------------------- */

static int health_of(const struct broker_core *core, const char *name)
{
    const struct service *service = NULL;

    if (core->draining)
        return DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    if (*name == '\0')
        return DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    service = registry_find(&core->registry, name, strlen(name));
    if (!service || !service->known)
        return DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    return service->n_workers > 0
               ? DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
               : DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

/* ---- directory ------------------------------------------------------------------------------- */

static void add_tenants(const struct service *service, service_state *out)
{
    const struct queue_tenant *tenants[TENANTS_MAX];
    size_t n = queue_tenants(&service->queue, tenants, TENANTS_MAX);

    out->tenants = calloc(n + 1, sizeof(*out->tenants));
    for (size_t i = 0; out->tenants && i < n; i++) {
        tenant_state *state = malloc(sizeof(*state));

        if (!state)
            return;
        dragoman__mesh__v1__tenant_state__init(state);
        state->name = (char *)queue_tenant_name(tenants[i]);
        state->queued = (uint32_t)queue_tenant_count(tenants[i]);
        state->weight = queue_tenant_weight(tenants[i]);
        out->tenants[out->n_tenants++] = state;
    }
}

static void service_forget(service_state *state)
{
    for (size_t i = 0; i < state->n_tenants; i++)
        free(state->tenants[i]);
    free(state->tenants);
    free(state);
}

static service_state *service_describe(const struct service *service)
{
    service_state *state = calloc(1, sizeof(*state));

    if (!state)
        return NULL;
    dragoman__mesh__v1__service_state__init(state);
    state->name = service->name;
    state->workers = (uint32_t)service->n_workers;
    state->capacity = (uint32_t)service->any->capacity;
    state->running = (uint32_t)service->n_running;
    state->queued = (uint32_t)service->queue.count;
    state->queue_limit = (uint32_t)service->queue.limit;
    state->started = service->n_started;
    state->failed = service->n_failed;
    state->methods = service->methods;
    state->n_methods = service->n_methods;
    state->queued_bytes = service->queue.bytes;
    add_tenants(service, state);
    return state;
}

static worker_state *worker_describe(const struct worker *worker, int64_t now_ns)
{
    worker_state *state = calloc(1, sizeof(*state));
    char **names = calloc(worker->n_services, sizeof(*names));

    if (!state || !names) {
        free(state);
        free(names);
        return NULL;
    }
    dragoman__mesh__v1__worker_state__init(state);
    for (size_t i = 0; i < worker->n_services; i++)
        names[i] = worker->services[i]->name;
    state->id = worker->id;
    state->name = worker->session->name;
    state->build = worker->session->build;
    state->services = names;
    state->n_services = worker->n_services;
    state->labels = worker->offer->labels;
    state->n_labels = worker->offer->n_labels;
    state->capacity = worker->capacity;
    state->running = worker->running;
    state->draining = worker->draining;
    state->idle_ms = (uint64_t)((now_ns - worker->session->beat.heard_at) / NS_PER_MS);
    state->calls_ended = worker->n_ended;
    state->sick = worker->ill ? (char *)sick_why(worker) : (char *)"";
    state->load = worker->load;
    state->capacity_total = worker->offer->capacity_total;
    return state;
}

static bool worker_offers(const struct worker *worker, const char *service)
{
    for (size_t i = 0; i < worker->n_services; i++)
        if (strcmp(worker->services[i]->name, service) == 0)
            return true;
    return false;
}

static void add_services(const struct broker_core *core, const char *only, directory_response *out)
{
    for (struct service *service = core->registry.first; service; service = service->next)
        if (service->known && (*only == '\0' || strcmp(only, service->name) == 0)) {
            out->services[out->n_services] = service_describe(service);
            out->n_services += out->services[out->n_services] != NULL;
        }
}

static void add_workers(const struct broker_core *core, const char *only, directory_response *out)
{
    struct worker *worker = NULL;

    LIST_FOREACH (worker, &core->registry.workers, link)
        if (*only == '\0' || worker_offers(worker, only)) {
            out->workers[out->n_workers] = worker_describe(worker, core->now_ns);
            out->n_workers += out->workers[out->n_workers] != NULL;
        }
}

/* What is described stays the registry's; only the descriptions are to be freed. */
static void directory_free(directory_response *response)
{
    for (size_t i = 0; i < response->n_services; i++)
        service_forget(response->services[i]);
    for (size_t i = 0; i < response->n_workers; i++) {
        free(response->workers[i]->services);
        free(response->workers[i]);
    }
    free(response->services);
    free(response->workers);
}

static void directory_fill(const struct broker_core *core, const char *only,
                           directory_response *out)
{
    size_t n_workers = 0;
    const struct worker *worker = NULL;

    LIST_FOREACH (worker, &core->registry.workers, link)
        n_workers++;
    dragoman__mesh__v1__directory_response__init(out);
    out->broker_build = (char *)DRAGOMAN_VERSION;
    out->uptime_ms = (uint64_t)((core->now_ns - core->born_ns) / NS_PER_MS);
    out->calls_started = core->n_started;
    out->calls_ended = core->n_ended;
    out->services = calloc(core->registry.services.count + 1, sizeof(service_state *));
    out->workers = calloc(n_workers + 1, sizeof(worker_state *));
    if (out->services)
        add_services(core, only, out);
    if (out->workers)
        add_workers(core, only, out);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void fail(struct broker_core *core, struct call *call, enum status_code code,
                 const char *why)
{
    struct verdict verdict = verdict_make(code, false, "%s", why);

    call_end(core, call, &verdict, core->now_ns);
}

static bool has_credit(const struct local *local)
{
    return local->n_sent < local->call->header.credit_messages &&
           local->sent_bytes < local->call->header.credit_bytes;
}

/* The whole answer of a unary call, or one message of a watch. */
static void tell(struct broker_core *core, struct local *local, const ProtobufCMessage *body)
{
    struct call *call = local->call;
    struct mesh_header header = {
        .kind = local->watching ? MESH_DATA : MESH_END,
        .call_id = call->caller_id,
        .seq = ++local->n_sent,
    };
    size_t size = protobuf_c_message_get_packed_size(body);

    if (size > call->caller->max_message_bytes) {
        fail(core, call, STATUS_RESOURCE_EXHAUSTED, "the answer is larger than the caller takes");
        return;
    }
    local->sent_bytes += size;
    core_send(core, call->caller, &header, NULL, body, call->header.flags & MESH_COMPRESS);
    if (!local->watching)
        call_done(core, call, core->now_ns);
}

static void tell_health(struct broker_core *core, struct local *local)
{
    health_response response = DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__INIT;
    int status = health_of(core, ((health_request *)local->request)->service);

    if (!local->watching &&
        status == DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN) {
        fail(core, local->call, STATUS_NOT_FOUND, "no worker has ever offered this service");
        return;
    }
    local->behind = status != local->told;
    if (local->watching && (!local->behind || !has_credit(local)))
        return;
    local->behind = false;
    local->told = status;
    response.status = (Dragoman__Mesh__V1__HealthCheckResponse__ServingStatus)status;
    tell(core, local, &response.base);
}

static void tell_directory(struct broker_core *core, struct local *local)
{
    directory_response response;

    local->behind = local->watching && !has_credit(local);
    if (local->behind)
        return;
    directory_fill(core, ((directory_request *)local->request)->service, &response);
    tell(core, local, &response.base);
    directory_free(&response);
}

static void tell_services(struct broker_core *core, struct local *local)
{
    list_response response;

    reflect_list(core, &response);
    tell(core, local, &response.base);
    free(response.services);
}

static void tell_description(struct broker_core *core, struct local *local)
{
    describe_response response = DRAGOMAN__MESH__V1__DESCRIBE_RESPONSE__INIT;
    uint8_t *made = NULL;
    const char *why = reflect_describe(core, ((describe_request *)local->request)->symbol,
                                       &response.descriptor_set, &made);

    if (why)
        fail(core, local->call, STATUS_NOT_FOUND, why);
    else
        tell(core, local, &response.base);
    free(made);
}

static const struct method METHODS[] = {
    {"/" REGISTRY_HEALTH "/Check", &dragoman__mesh__v1__health_check_request__descriptor,
     tell_health, .of_health = true},
    {"/" REGISTRY_HEALTH "/Watch", &dragoman__mesh__v1__health_check_request__descriptor,
     tell_health, .watches = true, .of_health = true},
    {"/" REGISTRY_DIRECTORY "/List", &dragoman__mesh__v1__directory_request__descriptor,
     tell_directory, .watches = false},
    {"/" REGISTRY_DIRECTORY "/Watch", &dragoman__mesh__v1__directory_request__descriptor,
     tell_directory, .watches = true},
    {"/" REGISTRY_REFLECTION "/List", &dragoman__mesh__v1__reflection_list_request__descriptor,
     tell_services, .watches = false},
    {"/" REGISTRY_REFLECTION "/Describe", &dragoman__mesh__v1__describe_request__descriptor,
     tell_description, .watches = false},
};

/* ---- requests -------------------------------------------------------------------------------- */

static bool read_request(struct broker_core *core, struct local *local, struct mesh_frame *frame)
{
    const ProtobufCMessageDescriptor *type = local->method->request;

    if (!(frame->header.flags & MESH_MESSAGE))
        return true;
    if (local->request || mesh_frame_unpack(frame, type, REQUEST_MAX, &local->request) < 0) {
        fail(core, local->call, STATUS_INTERNAL, "the request does not parse, or is a second one");
        return false;
    }
    return true;
}

static void run(struct broker_core *core, struct local *local)
{
    if (!local->request) {
        fail(core, local->call, STATUS_INTERNAL, "the request is missing");
        return;
    }
    local->watching = local->method->watches;
    core->n_watching += local->watching;
    local->method->tell(core, local);
}

static void ask_for_request(struct broker_core *core, const struct local *local)
{
    struct mesh_header header = {
        .kind = MESH_ACCEPT,
        .call_id = local->call->caller_id,
        .credit_messages = 1,
        .credit_bytes = REQUEST_MAX,
    };

    core_send(core, local->call->caller, &header, NULL, NULL, false);
}

static const struct method *method_find(const char *path)
{
    for (size_t i = 0; i < sizeof(METHODS) / sizeof(METHODS[0]); i++)
        if (strcmp(METHODS[i].path, path) == 0)
            return &METHODS[i];
    return NULL;
}

static struct local *local_create(struct broker_core *core, struct call *call, const char *path)
{
    struct local *local = NULL;
    const struct method *method = method_find(path);

    if (!method) {
        fail(core, call, STATUS_UNIMPLEMENTED, "the broker has no such method");
        return NULL;
    }
    if (core->n_locals < LOCALS_MAX)
        local = calloc(1, sizeof(*local));
    if (!local) {
        fail(core, call, STATUS_RESOURCE_EXHAUSTED, "too many calls ask the broker itself");
        return NULL;
    }
    local->call = call;
    local->method = method;
    local->told = -1;
    LIST_INSERT_HEAD(&core->locals, local, link);
    core->n_locals++;
    call->local = local;
    return local;
}

void local_open(struct broker_core *core, struct session *session, struct mesh_frame *frame,
                const char *path, int64_t now_ns)
{
    struct call *call = call_create(core, session, &frame->header, now_ns);
    struct local *local = NULL;
    struct verdict verdict;

    if (!call) {
        verdict = verdict_make(STATUS_RESOURCE_EXHAUSTED, true, "the broker is out of memory");
        core_send_end(core, session, frame->header.call_id, &verdict);
        return;
    }
    local = local_create(core, call, path);
    if (!local || !read_request(core, local, frame))
        return;
    if (frame->header.flags & MESH_END_SEND)
        run(core, local);
    else
        ask_for_request(core, local);
}

void local_frame(struct broker_core *core, struct call *call, struct mesh_frame *frame,
                 int64_t now_ns)
{
    struct local *local = call->local;
    const struct mesh_header *header = &frame->header;

    (void)now_ns;
    if (header->kind == MESH_CREDIT) {
        if (header->credit_messages > call->header.credit_messages)
            call->header.credit_messages = header->credit_messages;
        if (header->credit_bytes > call->header.credit_bytes)
            call->header.credit_bytes = header->credit_bytes;
        if (local->behind)
            local->method->tell(core, local);
        return;
    }
    if (local->watching) {
        fail(core, call, STATUS_INTERNAL, "a message came after the last");
        return;
    }
    if (read_request(core, local, frame) && (header->flags & MESH_END_SEND))
        run(core, local);
}

void local_free(struct broker_core *core, struct local **local)
{
    struct local *self = *local;

    if (!self)
        return;
    *local = NULL;
    LIST_REMOVE(self, link);
    core->n_locals--;
    core->n_watching -= self->watching;
    if (self->request)
        protobuf_c_message_free_unpacked(self->request, NULL);
    free(self);
}

/* ---- watchers -------------------------------------------------------------------------------- */

int64_t local_next_ns(const struct broker_core *core)
{
    if (core->n_watching == 0)
        return MESH_NEVER;
    return core->pushed_ns +
           (core->registry.version != core->pushed_version ? SETTLE_NS : ACTIVITY_NS);
}

void local_push(struct broker_core *core, int64_t now_ns)
{
    uint64_t activity = core->n_started + core->n_ended;
    bool changed = core->registry.version != core->pushed_version;
    bool active = changed || activity != core->pushed_activity;
    struct local *local = NULL;
    struct local *next = NULL;

    if (now_ns < local_next_ns(core))
        return;
    core->pushed_ns = now_ns;
    core->pushed_version = core->registry.version;
    core->pushed_activity = activity;
    for (local = LIST_FIRST(&core->locals); local; local = next) {
        next = LIST_NEXT(local, link);
        if (local->watching && (local->method->of_health ? changed : active))
            local->method->tell(core, local);
    }
}
