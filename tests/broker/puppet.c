#include "tests/broker/puppet.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LABELS_MAX 8
#define VALUES_MAX 8
#define MIB ((size_t)1 << 20)

typedef Dragoman__Mesh__V1__Label label;

void puppet_init(struct puppet *puppet, struct broker_core_options options)
{
    if (options.queue_limit == 0)
        options.queue_limit = 4;
    if (options.queue_bytes == 0)
        options.queue_bytes = MIB;
    if (options.max_message_bytes == 0)
        options.max_message_bytes = MIB;
    if (options.heartbeat_ms == 0)
        options.heartbeat_ms = 1000;
    if (options.seed == 0)
        options.seed = 1;
    *puppet = (struct puppet){.now_ns = 1000 * (int64_t)PUPPET_MS};
    puppet->heartbeat_ms = options.heartbeat_ms;
    puppet->last = &puppet->first;
    assert_int_equal(broker_core_create(&options, puppet->now_ns, &puppet->core), 0);
}

void puppet_fini(struct puppet *puppet)
{
    while (puppet->first) {
        struct seen *seen = puppet->first;

        puppet->first = seen->next;
        free(seen->body);
        free(seen);
    }
    free(puppet->taken.body);
    broker_core_destroy(&puppet->core);
}

/* ---- what the broker does -------------------------------------------------------------------- */

static void see_message(struct seen *seen, struct mesh_message *message)
{
    struct mesh_frame frame;
    mesh_meta *meta = NULL;

    mesh_message_frame(message, &frame);
    seen->header = frame.header;
    if (frame.header.meta_bytes > 0 && mesh_meta_unpack(&frame, &meta) == 0) {
        snprintf(seen->message, sizeof(seen->message), "%s", meta->status_message);
        seen->retry_delay_ms = meta->retry_delay_ms;
        dragoman__mesh__v1__meta__free_unpacked(meta, NULL);
    }
    if (frame.body) {
        seen->body = malloc(frame.body_size + 1);
        memcpy(seen->body, frame.body, frame.body_size);
        seen->body_size = frame.body_size;
    }
}

void puppet_step(struct puppet *puppet, const struct broker_event *event)
{
    struct broker_message *action = broker_core_step(puppet->core, event, puppet->now_ns);

    while (action) {
        struct broker_message *next = action->next;
        struct seen *seen = calloc(1, sizeof(*seen));

        seen->side = action->side;
        seen->action = action->action;
        seen->peer = action->message.peer;
        if (action->filled)
            see_message(seen, &action->message);
        *puppet->last = seen;
        puppet->last = &seen->next;
        broker_core_recycle(puppet->core, action);
        action = next;
    }
}

/* Forgetting is the shell's business. */
static struct seen **find(struct puppet *puppet, enum broker_side side, uint64_t peer)
{
    struct seen **at = &puppet->first;

    while (*at && ((*at)->action == BROKER_FORGET || (*at)->side != side || (*at)->peer != peer))
        at = &(*at)->next;
    return at;
}

const struct seen *puppet_take(struct puppet *puppet, enum broker_side side, uint64_t peer,
                               uint8_t kind)
{
    struct seen **at = find(puppet, side, peer);
    struct seen *seen = *at;

    if (!seen)
        fail_msg("nothing was sent to %u, %s was expected", peer, mesh_kind_name(kind));
    if (seen->header.kind != kind)
        fail_msg("%s (%u, '%s') was sent to %u, %s was expected", mesh_kind_name(seen->header.kind),
                 seen->header.status, seen->message, peer, mesh_kind_name(kind));
    *at = seen->next;
    if (puppet->last == &seen->next)
        puppet->last = at;
    free(puppet->taken.body);
    puppet->taken = *seen;
    free(seen);
    return &puppet->taken;
}

bool puppet_has(struct puppet *puppet, enum broker_side side, uint64_t peer, uint8_t kind)
{
    const struct seen *seen = *find(puppet, side, peer);

    return seen && seen->header.kind == kind;
}

void puppet_silence(struct puppet *puppet, enum broker_side side, uint64_t peer)
{
    const struct seen *seen = *find(puppet, side, peer);

    if (seen)
        fail_msg("%s (%u, '%s') was sent to %u", mesh_kind_name(seen->header.kind),
                 seen->header.status, seen->message, peer);
}

/* ---- what peers do --------------------------------------------------------------------------- */

static void deliver(struct puppet *puppet, enum broker_side side, uint64_t peer,
                    struct broker_message *message)
{
    struct mesh_frame frame;
    struct broker_event event = {
        .kind = BROKER_MESSAGE, .side = side, .peer = peer, .message = message, .frame = &frame};

    message->filled = true;
    message->message.peer = peer;
    mesh_message_frame(&message->message, &frame);
    event.identity = puppet->who[side] ? puppet->who[side]->number : 0;
    event.who = frame.header.kind == MESH_HELLO ? puppet->who[side] : NULL;
    puppet_step(puppet, &event);
}

void puppet_send(struct puppet *puppet, enum broker_side side, uint64_t peer,
                 const struct mesh_header *header, const mesh_meta *meta,
                 const ProtobufCMessage *body)
{
    struct broker_message *message = broker_core_blank(puppet->core);

    assert_int_equal(mesh_message_build(header, meta, body, false, &message->message), 0);
    deliver(puppet, side, peer, message);
}

void puppet_send_bytes(struct puppet *puppet, enum broker_side side, uint64_t peer,
                       const struct mesh_header *header, const mesh_meta *meta, size_t size)
{
    struct broker_message *message = broker_core_blank(puppet->core);
    struct mesh_header full = *header;
    struct mesh_frame frame;

    assert_int_equal(mesh_message_build(header, meta, NULL, false, &message->message), 0);
    mesh_message_frame(&message->message, &frame);
    full.meta_bytes = frame.header.meta_bytes;
    full.body_bytes = (uint32_t)size;
    full.flags |= MESH_MESSAGE;
    mesh_message_set_header(&message->message, &full);
    zmq_msg_init_size(&message->message.body, size);
    memset(zmq_msg_data(&message->message.body), 'b', size);
    message->message.has_body = true;
    deliver(puppet, side, peer, message);
}

void puppet_kind(struct puppet *puppet, enum broker_side side, uint64_t peer, uint8_t kind,
                 uint64_t call_id)
{
    struct mesh_header header = {.kind = kind, .call_id = call_id};

    puppet_send(puppet, side, peer, &header, NULL, NULL);
}

void puppet_hello(struct puppet *puppet, enum broker_side side, uint64_t peer)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header header = {.kind = MESH_HELLO};
    char name[32];

    snprintf(name, sizeof(name), "peer-%" PRIu64, peer);
    hello.version_min = 1;
    hello.version_max = 1;
    hello.name = name;
    hello.heartbeat_ms = puppet->heartbeat_ms;
    puppet_send(puppet, side, peer, &header, NULL, &hello.base);
}

void puppet_caller(struct puppet *puppet, uint64_t peer)
{
    puppet_hello(puppet, BROKER_FRONT, peer);
    puppet_take(puppet, BROKER_FRONT, peer, MESH_WELCOME);
}

/* "a=b|c d=e" into labels; everything points into static storage. */
static size_t read_labels(const char *text, label **out)
{
    static char copy[TEXT_MAX];
    static label labels[LABELS_MAX];
    static char *values[LABELS_MAX][VALUES_MAX];
    char *rest = copy;
    size_t n = 0;

    snprintf(copy, sizeof(copy), "%s", text ? text : "");
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " ")) {
        char *equals = strchr(word, '=');

        if (!equals)
            continue;
        *equals = '\0';
        dragoman__mesh__v1__label__init(&labels[n]);
        labels[n].key = word;
        labels[n].values = values[n];
        for (char *list = equals + 1; list;)
            values[n][labels[n].n_values++] = strsep(&list, "|");
        out[n] = &labels[n];
        n++;
    }
    return n;
}

static void register_worker(struct puppet *puppet, uint64_t peer, const char *service,
                            uint32_t capacity, uint32_t total, const char *labels)
{
    Dragoman__Mesh__V1__Register offer = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer one = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *services[] = {&one};
    char *methods[] = {(char *)"Say"};
    label *listed[LABELS_MAX];
    struct mesh_header header = {.kind = MESH_REGISTER};

    one.name = (char *)service;
    one.methods = methods;
    one.n_methods = 1;
    offer.services = services;
    offer.n_services = 1;
    offer.capacity = capacity;
    offer.capacity_total = total;
    offer.labels = listed;
    offer.n_labels = read_labels(labels, listed);
    puppet_hello(puppet, BROKER_BACK, peer);
    puppet_take(puppet, BROKER_BACK, peer, MESH_WELCOME);
    puppet_send(puppet, BROKER_BACK, peer, &header, NULL, &offer.base);
    puppet_take(puppet, BROKER_BACK, peer, MESH_REGISTERED);
}

void puppet_worker(struct puppet *puppet, uint64_t peer, const char *service, uint32_t capacity,
                   const char *labels)
{
    register_worker(puppet, peer, service, capacity, 0, labels);
}

void puppet_worker_of(struct puppet *puppet, uint64_t peer, const char *service, uint32_t capacity,
                      uint32_t total)
{
    register_worker(puppet, peer, service, capacity, total, NULL);
}

void puppet_open(struct puppet *puppet, uint64_t peer, uint64_t id, struct opening opening)
{
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    label *selector[LABELS_MAX];
    char path[TEXT_MAX];
    struct mesh_header header = {
        .kind = MESH_OPEN,
        .flags = opening.flags,
        .call_id = id,
        .seq = 1,
        .timeout_ns = opening.timeout_ms * PUPPET_MS,
        .credit_messages = 16,
        .credit_bytes = 65536,
    };
    int size =
        snprintf(path, sizeof(path), "/%s/%s", opening.service ? opening.service : "test.Echo",
                 opening.method ? opening.method : "Say");

    header.method_hash = mesh_method_hash(path, (size_t)size);
    if (!opening.stream)
        header.flags |= MESH_END_SEND;
    if (opening.selector || opening.tenant || opening.affinity)
        header.flags |= MESH_ROUTE;
    meta.method = path;
    meta.tenant = (char *)(opening.tenant ? opening.tenant : "");
    meta.affinity = (char *)(opening.affinity ? opening.affinity : "");
    meta.selector = selector;
    meta.n_selector = read_labels(opening.selector, selector);
    puppet_send_bytes(puppet, BROKER_FRONT, peer, &header, &meta, opening.bytes);
}

void puppet_end(struct puppet *puppet, uint64_t peer, uint64_t id, uint16_t status)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = id, .status = status, .seq = 1};

    if (status == 0)
        puppet_send_bytes(puppet, BROKER_BACK, peer, &header, NULL, 3);
    else
        puppet_send(puppet, BROKER_BACK, peer, &header, NULL, NULL);
}

void puppet_lost(struct puppet *puppet, enum broker_side side, uint64_t peer)
{
    struct broker_event event = {
        .kind = BROKER_LOST, .side = side, .peer = peer, .why = "its connection was closed"};

    puppet_step(puppet, &event);
}

void puppet_wait(struct puppet *puppet, int64_t ms)
{
    struct broker_event tick = {.kind = BROKER_TICK};
    int64_t until = puppet->now_ns + ms * PUPPET_MS;
    int64_t next;

    while ((next = broker_core_next_ns(puppet->core)) <= until) {
        if (next > puppet->now_ns)
            puppet->now_ns = next;
        puppet_step(puppet, &tick);
    }
    puppet->now_ns = until;
}
