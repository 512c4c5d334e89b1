#include "base/clock.h"
#include "base/log.h"
#include "mesh/call.h"
#include "mesh/link.h"
#include "mesh/peers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define METHOD_BUCKETS 256
#define CALL_BUCKETS 4096
#define QUEUE_MAX 1024                 /* calls that wait for a thread, of a server with `bind` */
#define QUEUE_BYTES ((size_t)64 << 20) /* and what they hold together */
#define WATCHES_MAX 256
#define RETRY_DELAY_MS 100
#define LINGER_MS 500

typedef Dragoman__Mesh__V1__Label label_message;
typedef Dragoman__Mesh__V1__ServiceOffer offer_message;

struct offered {
    ProtobufCService *service;
    char **method_names; /* (descriptor->n_methods), of the descriptor */
};

struct mesh_server {
    struct mesh_server_options options;
    char *endpoint, *name;
    void *context;
    bool own_context;
    pthread_t thread;
    bool started;
    struct mesh_pool *pool;
    struct mesh_mailbox mailbox;
    atomic_bool stopping, ready;
    struct call_post drain_post;

    /* Fixed once started. */
    struct offered *services; /* (n_services) */
    size_t n_services;
    label_message **labels; /* (n_labels) */
    size_t n_labels;
    struct server_method *methods[METHOD_BUCKETS];

    /* The thread's own. */
    struct mesh_link link;    /* without `bind` */
    struct mesh_peers *peers; /* with it */
    int64_t now_ns;           /* of this step */
    uint64_t last_call;       /* of the link's session */
    struct mesh_timers timers;
    struct mesh_job *fresh, **fresh_last; /* calls of this step, for the pool */
    struct mesh_job *quick, **quick_last; /* and for this thread */
    struct mesh_call *calls[CALL_BUCKETS];
    uint32_t n_calls, n_watches; /* alive; watches are no calls here */
    uint32_t n_listed;           /* of them, those of sessions that stand */
    size_t queued_bytes;
    bool draining, drain_sent, drain_done;
    struct metric *late_frames, *running;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    bool drain_asked, drained;
};

struct mesh_mailbox *mesh_server_mailbox(struct mesh_server *server)
{
    return &server->mailbox;
}

/* ---- methods --------------------------------------------------------------------------------- */

static struct server_method **method_bucket(struct mesh_server *server, uint64_t hash)
{
    return &server->methods[hash % METHOD_BUCKETS];
}

static const struct server_method *find_method(struct mesh_server *server, uint64_t hash)
{
    const struct server_method *method = *method_bucket(server, hash);

    while (method && method->method->hash != hash)
        method = method->next;
    return method;
}

static int add_method(struct mesh_server *server, const ProtobufCServiceDescriptor *descriptor,
                      const struct server_method *model)
{
    struct server_method *method = malloc(sizeof(*method));
    struct server_method **bucket;

    if (!method)
        return -ENOMEM;
    *method = *model;
    method->method = mesh_method_of(descriptor, &descriptor->methods[model->index], MESH_ANSWERER);
    if (!method->method) {
        free(method);
        return -ENOMEM;
    }
    bucket = method_bucket(server, method->method->hash);
    method->next = *bucket;
    *bucket = method;
    return 0;
}

int mesh_server_add_service(struct mesh_server *server, ProtobufCService *service,
                            const enum mesh_kind *kinds)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    struct offered *services =
        realloc(server->services, (server->n_services + 1) * sizeof(*services));
    char **names;

    if (!services)
        return -ENOMEM;
    server->services = services;
    names = calloc(descriptor->n_methods, sizeof(char *));
    if (!names)
        return -ENOMEM;
    services[server->n_services++] = (struct offered){.service = service, .method_names = names};
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        struct server_method model = {
            .service = service, .index = i, .kind = kinds ? kinds[i] : MESH_UNARY};

        names[i] = (char *)descriptor->methods[i].name;
        if (add_method(server, descriptor, &model) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* A server with `bind` answers for its own health; of a worker the broker does. */
static int add_health(struct mesh_server *server)
{
    const ProtobufCServiceDescriptor *health = &dragoman__mesh__v1__health__descriptor;
    int err = 0;

    for (unsigned i = 0; i < health->n_methods && err == 0; i++) {
        bool watch = strcmp(health->methods[i].name, "Watch") == 0;
        struct server_method model = {
            .index = i,
            .kind = watch ? MESH_SERVER_STREAMING : MESH_UNARY,
            .health = watch ? HEALTH_WATCH : HEALTH_CHECK,
        };

        err = add_method(server, health, &model);
    }
    return err;
}

static label_message *label_of(struct mesh_server *server, const char *key)
{
    label_message **labels;
    label_message *label;

    for (size_t i = 0; i < server->n_labels; i++) {
        if (strcmp(server->labels[i]->key, key) == 0)
            return server->labels[i];
    }
    labels = realloc(server->labels, (server->n_labels + 1) * sizeof(label_message *));
    if (!labels)
        return NULL;
    server->labels = labels;
    label = malloc(sizeof(*label));
    if (!label)
        return NULL;
    dragoman__mesh__v1__label__init(label);
    label->key = strdup(key);
    labels[server->n_labels++] = label;
    return label->key ? label : NULL;
}

int mesh_server_add_label(struct mesh_server *server, const char *key, const char *value)
{
    label_message *label = label_of(server, key);
    char **values;

    if (!label)
        return -ENOMEM;
    values = realloc(label->values, (label->n_values + 1) * sizeof(char *));
    if (!values)
        return -ENOMEM;
    label->values = values;
    values[label->n_values] = strdup(value);
    if (!values[label->n_values])
        return -ENOMEM;
    label->n_values++;
    return 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

static void send_to(struct mesh_server *server, struct mesh_peer *peer,
                    struct mesh_message *message)
{
    if (peer)
        mesh_peers_send(server->peers, peer, message);
    else
        mesh_link_send(&server->link, message);
}

static void reject(struct mesh_server *server, struct mesh_peer *peer, enum status_code code,
                   const char *why)
{
    if (peer)
        mesh_peers_reject(server->peers, peer, code, why);
    else
        mesh_link_reject(&server->link, code, why);
}

/* An OPEN that no handler will see. */
static void refuse(struct mesh_server *server, struct mesh_peer *peer, uint64_t id,
                   const struct status *status)
{
    struct mesh_message message;

    if (mesh_call_build_end(id, status, true, &message) == 0)
        send_to(server, peer, &message);
}

/* ---- a call comes and goes ------------------------------------------------------------------- */

static struct mesh_call **call_bucket(struct mesh_server *server, uint32_t peer_id, uint64_t id)
{
    uint64_t bits = (id ^ ((uint64_t)peer_id << 20)) * 0x9e3779b97f4a7c15u;

    return &server->calls[bits >> 52];
}

static struct mesh_call *find_call(struct mesh_server *server, const struct mesh_peer *peer,
                                   uint64_t id)
{
    uint32_t peer_id = peer ? peer->id : 0;
    struct mesh_call *call = *call_bucket(server, peer_id, id);

    while (call && (call->id != id || call->peer_id != peer_id))
        call = call->next_in_bucket;
    return call;
}

static bool is_watch(const struct mesh_call *call)
{
    return call->method->health != HEALTH_NONE;
}

static void list_call(struct mesh_server *server, struct mesh_call *call, struct mesh_peer *peer)
{
    struct mesh_call **bucket = call_bucket(server, call->peer_id, call->id);

    call->next_in_bucket = *bucket;
    *bucket = call;
    call->peer = peer;
    call->listed = true;
    server->n_listed += !is_watch(call);
    if (!peer)
        return;
    call->next_of_peer = peer->calls;
    if (peer->calls)
        peer->calls->previous_of_peer = call;
    peer->calls = call;
}

static void unlist_call(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_call **at = call_bucket(server, call->peer_id, call->id);

    if (!call->listed)
        return;
    while (*at != call)
        at = &(*at)->next_in_bucket;
    *at = call->next_in_bucket;
    call->listed = false;
    server->n_listed -= !is_watch(call);
    if (!call->peer)
        return;
    if (call->previous_of_peer)
        call->previous_of_peer->next_of_peer = call->next_of_peer;
    else
        call->peer->calls = call->next_of_peer;
    if (call->next_of_peer)
        call->next_of_peer->previous_of_peer = call->previous_of_peer;
}

/* The thread lets go of it. */
static void forget(struct mesh_server *server, struct mesh_call *call)
{
    unlist_call(server, call);
    mesh_timer_cancel(&server->timers, &call->timer);
    if (is_watch(call)) {
        server->n_watches--;
    } else {
        server->n_calls--;
        server->queued_bytes -= call->open_bytes;
        metric_set(server->running, server->n_calls);
    }
    mesh_call_release(call);
}

/* End a call that no handler runs. */
static void end_unstarted(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_message message;

    if (call->listed &&
        mesh_call_build_end(call->id, &call->status, !is_watch(call), &message) == 0)
        send_to(server, call->peer, &message);
    mesh_method_ended(call->method->method, call->status.code, call->arrived_ns, clock_now_ns());
    forget(server, call);
}

static void cancel(struct mesh_server *server, struct mesh_call *call, enum status_code code,
                   const char *why)
{
    if (mesh_call_cancel(call, code, why))
        end_unstarted(server, call);
}

/* ---- health ---------------------------------------------------------------------------------- */

/* A HealthCheckResponse.ServingStatus, or -1 for a service that is not here. */
static int health_of(const struct mesh_server *server, const char *name)
{
    int state = server->draining
                    ? DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                    : DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;

    if (name[0] == '\0' || strcmp(name, dragoman__mesh__v1__health__descriptor.name) == 0)
        return state;
    for (size_t i = 0; i < server->n_services; i++) {
        if (strcmp(server->services[i].service->descriptor->name, name) == 0)
            return state;
    }
    return -1;
}

static char *health_question(const struct mesh_frame *frame)
{
    ProtobufCMessage *request = NULL;
    char *name;

    if (mesh_frame_unpack(frame, &dragoman__mesh__v1__health_check_request__descriptor,
                          MESH_INLINE_MAX, &request) < 0)
        return NULL;
    name = strdup(((Dragoman__Mesh__V1__HealthCheckRequest *)request)->service);
    protobuf_c_message_free_unpacked(request, NULL);
    return name;
}

static void send_health(struct mesh_server *server, struct mesh_peer *peer,
                        const struct mesh_header *header, int state)
{
    Dragoman__Mesh__V1__HealthCheckResponse response =
        DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct mesh_message message;

    response.status = (Dragoman__Mesh__V1__HealthCheckResponse__ServingStatus)state;
    if (mesh_message_build(header, NULL, &response.base, false, &message) == 0)
        send_to(server, peer, &message);
}

static void check_health(struct mesh_server *server, struct mesh_peer *peer,
                         const struct mesh_frame *frame)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = frame->header.call_id, .seq = 1};
    char *name = health_question(frame);
    int state = name ? health_of(server, name) : -1;
    struct status status;

    if (!name)
        status_set(&status, STATUS_INTERNAL, "a request does not parse");
    else if (state < 0)
        status_set(&status, STATUS_NOT_FOUND, "no service '%s' here", name);
    if (state < 0)
        refuse(server, peer, frame->header.call_id, &status);
    else
        send_health(server, peer, &header, state);
    free(name);
}

/* Say it when it has changed and the watcher has credit. */
static void tell_watch(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call->id};
    int state = health_of(server, call->watched);

    if (state < 0)
        state = DRAGOMAN__MESH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    if (state == call->told || !mesh_credit_may_send(&call->flow.out))
        return;
    call->told = state;
    header.seq = mesh_flow_sent(&call->flow, true, 0);
    call->flow.unsent = 0; /* sent from here */
    send_health(server, call->peer, &header, state);
}

static void each_watch(struct mesh_server *server,
                       void (*visit)(struct mesh_server *, struct mesh_call *))
{
    for (size_t i = 0; i < CALL_BUCKETS && server->n_watches > 0; i++) {
        for (struct mesh_call *call = server->calls[i], *next; call; call = next) {
            next = call->next_in_bucket;
            if (is_watch(call))
                visit(server, call);
        }
    }
}

static void end_watch(struct mesh_server *server, struct mesh_call *call)
{
    cancel(server, call, STATUS_UNAVAILABLE, "the server stops");
}

static void open_watch(struct mesh_server *server, struct mesh_call *call,
                       const struct mesh_frame *frame)
{
    call->watched = health_question(frame);
    server->n_watches++;
    if (!call->watched)
        cancel(server, call, STATUS_INTERNAL, "a request does not parse");
    else
        tell_watch(server, call);
}

/* ---- OPEN ------------------------------------------------------------------------------------ */

/* Name the method as the caller did, if it did. */
static void status_unimplemented(const struct mesh_frame *frame, struct status *status)
{
    mesh_meta *meta = NULL;

    if (mesh_meta_unpack(frame, &meta) < 0) {
        status_set(status, STATUS_INTERNAL, "malformed metadata");
        return;
    }
    status_set(status, STATUS_UNIMPLEMENTED, "no method '%s' here", meta->method);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
}

/* What a broker would ask of the selector. */
static enum status_code check_selector(const struct mesh_server *server,
                                       const struct mesh_frame *frame, struct status *status)
{
    mesh_meta *meta = NULL;
    bool match;

    status_set(status, STATUS_OK, "%s", "");
    if (mesh_meta_unpack(frame, &meta) < 0) {
        status_set(status, STATUS_INTERNAL, "malformed metadata");
        return status->code;
    }
    match = mesh_labels_match(meta->selector, meta->n_selector, server->labels, server->n_labels);
    if (!match)
        status_set(status, STATUS_UNAVAILABLE, "no worker of '%s' matches the selector",
                   meta->method);
    dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    return status->code;
}

static bool is_full(const struct mesh_server *server, size_t bytes)
{
    if (!server->peers)
        return server->n_listed >= server->options.capacity; /* those of a lost session end soon */
    return server->n_calls >= server->options.capacity + QUEUE_MAX ||
           server->queued_bytes + bytes > QUEUE_BYTES + server->options.max_message_bytes;
}

/* Whether a call may start; if not, how it ends. */
static bool admit(struct mesh_server *server, const struct server_method *method,
                  const struct mesh_frame *frame, size_t bytes, struct status *status)
{
    const struct mesh_header *header = &frame->header;

    if (!method) {
        status_unimplemented(frame, status);
        return false;
    }
    if (header->flags & MESH_MESSAGE && header->body_bytes > server->options.max_message_bytes) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "a request of %u bytes, more than %zu",
                   header->body_bytes, server->options.max_message_bytes);
        return false;
    }
    if (header->timeout_ns < 0) {
        status_set(status, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
        return false;
    }
    if (server->peers && header->flags & MESH_ROUTE && !method->health &&
        check_selector(server, frame, status) != STATUS_OK)
        return false;
    if (server->peers && server->draining && !method->health) {
        status_set(status, STATUS_UNAVAILABLE, "the server stops");
        return false;
    }
    if (method->health ? server->n_watches >= WATCHES_MAX : is_full(server, bytes)) {
        status_set(status, STATUS_RESOURCE_EXHAUSTED, "too many calls are waiting");
        status->retry_delay_ms = RETRY_DELAY_MS;
        return false;
    }
    return true;
}

static void start_call(struct mesh_server *server, struct mesh_call *call)
{
    call->open_bytes = mesh_message_bytes(&call->open);
    server->queued_bytes += call->open_bytes;
    server->n_calls++;
    metric_set(server->running, server->n_calls);
    mesh_call_hold(call); /* the handler's */
    call->job.next = NULL;
    if (call->method->kind == MESH_UNARY_QUICK && !call->open_read) {
        *server->quick_last = &call->job;
        server->quick_last = &call->job.next;
    } else {
        *server->fresh_last = &call->job;
        server->fresh_last = &call->job.next;
    }
}

static void accept_call(struct mesh_server *server, struct mesh_peer *peer,
                        const struct server_method *method, struct mesh_message *message,
                        const struct mesh_frame *frame)
{
    struct mesh_call *call = mesh_call_create(server, method, message, frame, server->now_ns);
    struct mesh_frame moved;

    if (!call)
        return; /* its caller's deadline must do: there is no memory even for an answer */
    call->message_max = peer ? peer->max_message_bytes : server->link.max_message_bytes;
    metric_add(method->method->started, 1);
    list_call(server, call, peer);
    if (method->health == HEALTH_WATCH) {
        mesh_message_frame(&call->open, &moved);
        open_watch(server, call, &moved);
        return;
    }
    start_call(server, call);
    if (call->deadline_ns != MESH_NEVER)
        mesh_timer_set(&server->timers, &call->timer, call->deadline_ns);
}

static void on_open(struct mesh_server *server, struct mesh_peer *peer,
                    struct mesh_message *message, const struct mesh_frame *frame)
{
    uint64_t *last = peer ? &peer->last_call : &server->last_call;
    const struct server_method *method = find_method(server, frame->header.method_hash);
    struct status status;

    if (frame->header.call_id <= *last) {
        reject(server, peer, STATUS_INVALID_ARGUMENT, "a call_id that was used before");
        return;
    }
    *last = frame->header.call_id;
    if (!admit(server, method, frame, mesh_message_bytes(message), &status))
        refuse(server, peer, frame->header.call_id, &status);
    else if (method->health == HEALTH_CHECK)
        check_health(server, peer, frame);
    else
        accept_call(server, peer, method, message, frame);
}

/* ---- other frames ---------------------------------------------------------------------------- */

static void on_credit(struct mesh_server *server, struct mesh_call *call,
                      const struct mesh_header *header)
{
    pthread_mutex_lock(&call->lock);
    if (mesh_credit_raise(&call->flow.out, header->credit_messages, header->credit_bytes))
        pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (is_watch(call))
        tell_watch(server, call);
}

static void on_data(struct mesh_server *server, struct mesh_call *call,
                    struct mesh_message *message, const struct mesh_frame *frame)
{
    const char *why = "";
    enum status_code code;

    pthread_mutex_lock(&call->lock);
    code = call->cancelled ? STATUS_OK
                           : mesh_flow_receive(&call->flow, message, frame,
                                               server->options.max_message_bytes, &why);
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (code != STATUS_OK)
        cancel(server, call, code, why);
}

static void on_cancel(struct mesh_server *server, struct mesh_call *call,
                      const struct mesh_header *header)
{
    if (header->status == STATUS_DEADLINE_EXCEEDED)
        cancel(server, call, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    else
        cancel(server, call, STATUS_CANCELLED, "cancelled by the caller");
}

static void on_call_frame(struct mesh_server *server, struct mesh_peer *peer,
                          struct mesh_message *message, const struct mesh_frame *frame)
{
    const struct mesh_header *header = &frame->header;
    struct mesh_call *call = find_call(server, peer, header->call_id);

    if (!call) {
        if (header->call_id > (peer ? peer->last_call : server->last_call))
            reject(server, peer, STATUS_INVALID_ARGUMENT, "a call that was never opened");
        metric_add(server->late_frames, 1);
    } else if (header->kind == MESH_CREDIT) {
        on_credit(server, call, header);
    } else if (header->kind == MESH_CANCEL) {
        on_cancel(server, call, header);
    } else {
        on_data(server, call, message, frame);
    }
}

static void on_worker_frame(struct mesh_server *server, const struct mesh_frame *frame)
{
    if (frame->header.kind == MESH_REGISTERED) {
        atomic_store(&server->ready, !server->draining);
        log_info("registered with the broker at '%s'", server->endpoint);
    } else {
        server->drain_done = true;
    }
}

static void on_any_frame(struct mesh_server *server, struct mesh_peer *peer,
                         struct mesh_message *message, const struct mesh_frame *frame)
{
    switch (frame->header.kind) {
    case MESH_OPEN:
        on_open(server, peer, message, frame);
        break;
    case MESH_DATA:
    case MESH_CREDIT:
    case MESH_CANCEL:
        on_call_frame(server, peer, message, frame);
        break;
    case MESH_REGISTERED:
    case MESH_DRAINED:
        if (!peer) {
            on_worker_frame(server, frame);
            break;
        }
        __attribute__((fallthrough));
    default:
        if (mesh_kind_name(frame->header.kind)[0] != '?')
            reject(server, peer, STATUS_INVALID_ARGUMENT, "a kind from the wrong side");
        else if (frame->header.flags & MESH_CRITICAL)
            reject(server, peer, STATUS_UNIMPLEMENTED, "an unknown kind");
        else
            mesh_ignored_frame();
    }
    mesh_message_close(message);
}

static void on_link_frame(void *arg, struct mesh_message *message, const struct mesh_frame *frame)
{
    struct mesh_server *server = arg;

    on_any_frame(server, NULL, message, frame);
}

static void on_peer_frame(void *arg, struct mesh_peer *peer, struct mesh_message *message,
                          const struct mesh_frame *frame)
{
    on_any_frame(arg, peer, message, frame);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void send_bare(struct mesh_server *server, uint8_t kind)
{
    struct mesh_header header = {.kind = kind};
    struct mesh_message message;

    if (mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        mesh_link_send(&server->link, &message);
}

static void on_link_up(void *arg)
{
    struct mesh_server *server = arg;
    Dragoman__Mesh__V1__Register body = DRAGOMAN__MESH__V1__REGISTER__INIT;
    struct mesh_header header = {.kind = MESH_REGISTER};
    offer_message *offers = calloc(server->n_services, sizeof(*offers));
    offer_message **pointers = calloc(server->n_services, sizeof(offer_message *));
    struct mesh_message message;

    server->last_call = 0;
    for (size_t i = 0; offers && pointers && i < server->n_services; i++) {
        const struct offered *offered = &server->services[i];

        dragoman__mesh__v1__service_offer__init(&offers[i]);
        offers[i].name = (char *)offered->service->descriptor->name;
        offers[i].n_methods = offered->service->descriptor->n_methods;
        offers[i].methods = offered->method_names;
        pointers[i] = &offers[i];
    }
    body.n_services = pointers ? server->n_services : 0;
    body.services = pointers;
    body.n_labels = server->n_labels;
    body.labels = server->labels;
    body.capacity = server->options.capacity;
    if (!server->draining && offers && pointers &&
        mesh_message_build(&header, NULL, &body.base, false, &message) == 0)
        mesh_link_send(&server->link, &message);
    free(offers);
    free(pointers);
}

/* Nobody waits for what still runs: stop it. Its END goes nowhere. */
static void lose_call(struct mesh_server *server, struct mesh_call *call)
{
    mesh_call_hold(call);
    unlist_call(server, call);
    call->peer = NULL;
    cancel(server, call, STATUS_CANCELLED, "the caller's session is gone");
    mesh_call_release(call);
}

static void lose_all_calls(struct mesh_server *server)
{
    for (size_t i = 0; i < CALL_BUCKETS; i++) {
        while (server->calls[i])
            lose_call(server, server->calls[i]);
    }
}

static void on_link_down(void *arg, const char *why)
{
    struct mesh_server *server = arg;

    (void)why; /* the link has logged it */
    atomic_store(&server->ready, false);
    lose_all_calls(server);
}

static void on_link_going(void *arg)
{
    (void)arg; /* a broker that stops sends no OPENs; its BYE will come */
}

static void on_peer_gone(void *arg, struct mesh_peer *peer, const char *why)
{
    log_debug("a caller's session is over: %s", why);
    while (peer->calls)
        lose_call(arg, peer->calls);
}

/* ---- posts ----------------------------------------------------------------------------------- */

static void send_credit(struct mesh_server *server, struct mesh_call *call)
{
    struct mesh_header header = {.kind = MESH_CREDIT, .call_id = call->id};
    struct mesh_message message;

    pthread_mutex_lock(&call->lock);
    call->credit_posted = false;
    header.credit_messages = call->flow.in.limit_messages;
    header.credit_bytes = call->flow.in.limit_bytes;
    pthread_mutex_unlock(&call->lock);
    if (call->listed && mesh_message_build(&header, NULL, NULL, false, &message) == 0)
        send_to(server, call->peer, &message);
}

static void send_or_drop(struct mesh_server *server, struct mesh_call *call,
                         struct mesh_message *message)
{
    pthread_mutex_lock(&call->lock);
    if (zmq_msg_size(&message->first) > 0 && mesh_flow_left(&call->flow, message))
        pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->lock);
    if (call->listed)
        send_to(server, call->peer, message);
    else
        mesh_message_close(message);
}

static void begin_drain(struct mesh_server *server)
{
    if (server->draining)
        return;
    server->draining = true;
    atomic_store(&server->ready, false);
    if (server->peers) {
        mesh_peers_goaway(server->peers);
        each_watch(server, tell_watch);
    }
}

static void handle_post(struct mesh_server *server, struct call_post *note)
{
    struct mesh_call *call = note->call;
    struct mesh_message *end;

    switch ((enum call_post_kind)note->post.kind) {
    case POST_FRAME:
        send_or_drop(server, call, &((struct call_send *)note)->message);
        free(note);
        break;
    case POST_MORE_CREDIT:
        send_credit(server, call);
        break;
    case POST_END:
        end = &call->end_post.message;
        if (zmq_msg_size(&end->first) == 0 && call->listed)
            reject(server, call->peer, STATUS_RESOURCE_EXHAUSTED, "no memory to end a call");
        send_or_drop(server, call, end);
        forget(server, call);
        break;
    case POST_DRAIN:
        begin_drain(server);
        return;
    }
    mesh_call_release(call);
}

static bool handle_posts(struct mesh_server *server)
{
    struct mesh_post *post = mesh_mailbox_take(&server->mailbox);
    bool any = post != NULL;

    while (post) {
        struct mesh_post *next = post->next;

        handle_post(server, (struct call_post *)post);
        post = next;
    }
    return any;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void cancel_late_calls(struct mesh_server *server, int64_t now_ns)
{
    struct mesh_timer *timer;

    while ((timer = mesh_timers_pop(&server->timers, now_ns)) != NULL) {
        struct mesh_call *call =
            (struct mesh_call *)((char *)timer - offsetof(struct mesh_call, timer));

        cancel(server, call, STATUS_DEADLINE_EXCEEDED, "the deadline has passed");
    }
}

/* Their ENDs lie in the mailbox after this. */
static void run_quick(struct mesh_server *server)
{
    struct mesh_job *job = server->quick;

    server->quick = NULL;
    server->quick_last = &server->quick;
    while (job) {
        struct mesh_job *next = job->next;

        mesh_call_run(job);
        job = next;
    }
}

static void hand_out(struct mesh_server *server)
{
    struct mesh_job *jobs = server->fresh;

    server->fresh = NULL;
    server->fresh_last = &server->fresh;
    mesh_pool_add(server->pool, jobs);
}

/* A worker is done when its broker says so: until then an OPEN may be under way. */
static void look_at_drain(struct mesh_server *server)
{
    bool up = !server->peers && server->link.state == LINK_UP;

    if (!server->draining)
        return;
    if (up && !server->drain_sent)
        send_bare(server, MESH_DRAIN);
    server->drain_sent = up;
    if (server->n_calls > 0 || (up && !server->drain_done))
        return;
    pthread_mutex_lock(&server->lock);
    server->drained = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static bool step(struct mesh_server *server)
{
    int64_t now = server->now_ns = clock_now_ns();
    bool busy;

    server->link.now_ns = now;
    busy = handle_posts(server);
    if (server->peers)
        busy |= mesh_peers_step(server->peers, now);
    else
        busy |= mesh_link_step(&server->link, now);
    hand_out(server);
    run_quick(server);
    busy |= handle_posts(server);
    cancel_late_calls(server, now);
    look_at_drain(server);
    return busy;
}

static void sleep_until(struct mesh_server *server, int64_t at_ns)
{
    struct pollfd fds[MESH_LINK_FDS + 1];
    int n = server->peers ? mesh_peers_fds(server->peers, fds) : mesh_link_fds(&server->link, fds);
    struct timespec timeout = {0};
    int64_t left = at_ns - clock_now_ns();
    bool pending;

    fds[n++] = (struct pollfd){.fd = server->mailbox.fd, .events = POLLIN};
    if (left > 0) {
        timeout.tv_sec = left / (1000 * NS_PER_MS);
        timeout.tv_nsec = left % (1000 * NS_PER_MS);
    }
    if (!mesh_mailbox_may_sleep(&server->mailbox))
        return;
    pending = server->peers ? mesh_peers_pending(server->peers) : mesh_link_pending(&server->link);
    if (!atomic_load(&server->stopping) && !pending)
        ppoll(fds, (nfds_t)n, at_ns == MESH_NEVER ? NULL : &timeout, NULL);
    mesh_mailbox_awake(&server->mailbox);
    if (server->peers)
        mesh_peers_polled(server->peers, fds);
    else
        mesh_link_polled(&server->link, fds);
}

static int64_t next_ns(const struct mesh_server *server)
{
    int64_t next =
        server->peers ? mesh_peers_next_ns(server->peers) : mesh_link_next_ns(&server->link);
    int64_t timer = mesh_timers_next_ns(&server->timers);

    return timer < next ? timer : next;
}

/* Handlers that are left are told to stop, and waited for. */
static void wind_up(struct mesh_server *server)
{
    begin_drain(server);
    each_watch(server, end_watch);
    for (size_t i = 0; i < CALL_BUCKETS; i++) {
        for (struct mesh_call *call = server->calls[i], *next; call; call = next) {
            next = call->next_in_bucket;
            cancel(server, call, STATUS_UNAVAILABLE, "the server stops");
        }
    }
    while (server->n_calls > 0) {
        step(server);
        sleep_until(server, clock_now_ns() + 10 * NS_PER_MS);
    }
}

static void *run(void *arg)
{
    struct mesh_server *server = arg;

    pthread_setname_np(pthread_self(), "mesh-server");
    while (!atomic_load(&server->stopping)) {
        if (!step(server))
            sleep_until(server, next_ns(server));
    }
    wind_up(server);
    mesh_peers_destroy(&server->peers, LINGER_MS);
    mesh_link_fini(&server->link, LINGER_MS);
    return NULL;
}

/* ---- create, start, drain, destroy ----------------------------------------------------------- */

int mesh_server_create(const struct mesh_server_options *options, struct mesh_server **out)
{
    struct mesh_server *server;
    pthread_condattr_t clock;

    if (!mesh_endpoint_is_valid(options->endpoint, options->context))
        return -EINVAL;
    server = calloc(1, sizeof(*server));
    if (!server)
        return -ENOMEM;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, &clock);
    pthread_condattr_destroy(&clock);
    server->mailbox.fd = -1;
    server->fresh_last = &server->fresh;
    server->quick_last = &server->quick;
    server->options = *options;
    if (server->options.capacity == 0)
        server->options.capacity = 1;
    if (server->options.max_message_bytes == 0)
        server->options.max_message_bytes = MESH_MESSAGE_BYTES_DEFAULT;
    server->endpoint = strdup(options->endpoint);
    server->name = strdup(options->name ? options->name : "");
    server->own_context = !options->context;
    server->context = options->context ? options->context : zmq_ctx_new();
    server->late_frames =
        metrics_counter("mesh_late_frames_total", "Frames for calls that were over already", NULL);
    server->running =
        metrics_gauge("mesh_worker_outstanding", "Calls received and not ended", NULL);
    if (!server->endpoint || !server->name || !server->context) {
        mesh_server_destroy(&server);
        return -ENOMEM;
    }
    *out = server;
    return 0;
}

static int start_threads(struct mesh_server *server)
{
    sigset_t all, before;
    int err = mesh_pool_create(server->options.capacity, mesh_call_run, &server->pool);

    if (err < 0)
        return err;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&server->thread, NULL, run, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    server->started = err == 0;
    return err;
}

static int listen_to_callers(struct mesh_server *server)
{
    static const struct mesh_peers_handler handler = {.gone = on_peer_gone, .frame = on_peer_frame};
    struct mesh_peers_options options = {
        .context = server->context,
        .endpoint = server->endpoint,
        .max_message_bytes = server->options.max_message_bytes,
        .heartbeat_ms = server->options.heartbeat_ms,
    };
    int err = add_health(server);

    if (err == 0)
        err = mesh_peers_create(&options, &handler, server, &server->peers);
    if (err == 0)
        atomic_store(&server->ready, true);
    return err;
}

static void work_for_broker(struct mesh_server *server)
{
    static const struct mesh_link_handler handler = {
        .up = on_link_up, .down = on_link_down, .going = on_link_going, .frame = on_link_frame};
    struct mesh_link_options options = {
        .context = server->context,
        .endpoint = server->endpoint,
        .name = server->name,
        .max_message_bytes = server->options.max_message_bytes,
        .heartbeat_ms = server->options.heartbeat_ms,
    };

    mesh_link_init(&server->link, &options, &handler, server);
}

int mesh_server_start(struct mesh_server *server)
{
    int err = mesh_mailbox_init(&server->mailbox);

    if (err < 0)
        return err;
    if (server->options.bind)
        err = listen_to_callers(server);
    else
        work_for_broker(server);
    return err < 0 ? err : start_threads(server);
}

const char *mesh_server_endpoint(const struct mesh_server *server)
{
    return server->peers ? mesh_peers_endpoint(server->peers) : NULL;
}

bool mesh_server_ready(const struct mesh_server *server)
{
    return atomic_load(&server->ready);
}

int mesh_server_drain(struct mesh_server *server, int64_t grace_ms)
{
    int64_t at = clock_now_ns() + grace_ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};
    bool drained;
    int err = 0;

    if (!server->started)
        return 0;
    pthread_mutex_lock(&server->lock);
    if (!server->drain_asked) {
        server->drain_asked = true;
        server->drain_post.post.kind = POST_DRAIN;
        mesh_mailbox_put(&server->mailbox, &server->drain_post.post);
    }
    while (!server->drained && err == 0)
        err = pthread_cond_timedwait(&server->changed, &server->lock, &until);
    drained = server->drained;
    pthread_mutex_unlock(&server->lock);
    return drained ? 0 : -ETIMEDOUT;
}

static void free_labels(struct mesh_server *server)
{
    for (size_t i = 0; i < server->n_labels; i++) {
        label_message *label = server->labels[i];

        for (size_t j = 0; j < label->n_values; j++)
            free(label->values[j]);
        free(label->values);
        free(label->key);
        free(label);
    }
    free(server->labels);
}

static void free_methods(struct mesh_server *server)
{
    for (size_t i = 0; i < METHOD_BUCKETS; i++) {
        while (server->methods[i]) {
            struct server_method *method = server->methods[i];

            server->methods[i] = method->next;
            free(method);
        }
    }
    for (size_t i = 0; i < server->n_services; i++)
        free(server->services[i].method_names);
    free(server->services);
}

void mesh_server_destroy(struct mesh_server **server)
{
    struct mesh_server *self = *server;

    if (!self)
        return;
    if (self->started) {
        atomic_store(&self->stopping, true);
        mesh_mailbox_ring(&self->mailbox);
        pthread_join(self->thread, NULL);
    }
    mesh_pool_destroy(&self->pool);
    mesh_peers_destroy(&self->peers, 0); /* of one that did not start */
    mesh_mailbox_fini(&self->mailbox);
    mesh_timers_fini(&self->timers);
    if (self->own_context && self->context)
        zmq_ctx_term(self->context);
    free_labels(self);
    free_methods(self);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self->endpoint);
    free(self->name);
    free(self);
    *server = NULL;
}
