/*
 * echo_client - echo calls through our mesh, closed loop: so many in flight, each answered by the next call
 *
 *   echo_client --endpoint ENDPOINT --mode MODE [flags of measure.h]
 *
 *   quick, pooled   unary calls; one in flight blocks in mesh_unary(), more go by mesh_unary_start()
 *   chat            one stream with so many messages under way
 *   chats           so many streams with one message each under way, on a thread each
 *   inproc          quick, with a server of its own at inproc://, endpoint is any name
 *   inproc-broker   likewise, with a broker between
 *
 * --extra KEY,BROKER_CERTIFICATE: over CURVE.
 */
#include "base/heap.h"
#include "base/log.h"
#include "bench/rpc/echo.pb-c.h"
#include "bench/rpc/echo_service.h"
#include "bench/rpc/measure.h"
#include "broker/broker.h"
#include "mesh/channel.h"
#include "mesh/security.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

typedef Dragoman__Bench__V1__Payload payload_message;

static const ProtobufCServiceDescriptor *const ECHO = &dragoman__bench__v1__echo__descriptor;

struct client {
    struct measure_plan plan;
    struct measure *measure;
    struct mesh_channel *channel;
    const char *method;
    uint64_t number;      /* of the last call */
    int running;          /* slots */
    sem_t done;           /* all have stopped */
    pthread_mutex_t lock; /* of chats' threads around measure and number */
};

/* One call in flight. */
struct slot {
    struct client *client;
    payload_message request;
    uint64_t number;
    int64_t begun_ns;
};

static _Noreturn void die(const char *what, const struct status *status)
{
    fprintf(stderr, "%s: %s: %s\n", what, status_name(status->code), status->message);
    exit(1);
}

static void slot_init(struct slot *slot, struct client *client)
{
    uint8_t *data = malloc(client->plan.size);

    slot->client = client;
    slot->request = (payload_message)DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    measure_fill(data, client->plan.size);
    slot->request.data = (ProtobufCBinaryData){.len = client->plan.size, .data = data};
}

static void slot_stamp(struct slot *slot)
{
    slot->number = ++slot->client->number;
    measure_stamp(slot->request.data.data, slot->request.data.len, slot->number);
    slot->begun_ns = measure_now_ns();
}

/* @return whether to go on */
static bool slot_answered(struct slot *slot, ProtobufCMessage *message, int64_t now_ns)
{
    const payload_message *response = (const payload_message *)message;

    measure_check(slot->request.data.data, slot->request.data.len, response->data.data,
                  response->data.len, slot->number);
    protobuf_c_message_free_unpacked(message, NULL);
    return measure_call(slot->client->measure, slot->begun_ns, now_ns);
}

static void run_blocking(struct client *client)
{
    struct status status;
    struct slot slot;
    ProtobufCMessage *response;

    slot_init(&slot, client);
    do {
        slot_stamp(&slot);
        if (mesh_unary(client->channel, ECHO, client->method, &slot.request.base, NULL, &response,
                       &status) < 0)
            die("echo", &status);
    } while (slot_answered(&slot, response, measure_now_ns()));
    free(slot.request.data.data);
}

static void start(struct slot *slot);

static void answered(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct slot *slot = arg;
    struct client *client = slot->client;

    if (status->code != STATUS_OK)
        die("echo", status);
    if (slot_answered(slot, response, measure_now_ns()))
        start(slot);
    else if (--client->running == 0)
        sem_post(&client->done);
}

static void start(struct slot *slot)
{
    int err;

    slot_stamp(slot);
    err = mesh_unary_start(slot->client->channel, ECHO, slot->client->method, &slot->request.base,
                           NULL, answered, slot);
    if (err < 0) {
        fprintf(stderr, "cannot start a call: %s\n", strerror(-err));
        exit(1);
    }
}

/* The first calls of all slots begin in the answer of one: from then on one thread has it all. */
static void start_all(void *arg, const struct status *status, ProtobufCMessage *response)
{
    struct slot *slots = arg;

    for (int i = 1; i < slots->client->plan.in_flight; i++)
        start(&slots[i]);
    answered(slots, status, response);
}

static void run_started(struct client *client)
{
    int n = client->plan.in_flight;
    struct slot *slots = calloc((size_t)n, sizeof(*slots));

    client->running = n;
    for (int i = 0; i < n; i++)
        slot_init(&slots[i], client);
    slot_stamp(&slots[0]);
    if (mesh_unary_start(client->channel, ECHO, client->method, &slots[0].request.base, NULL,
                         start_all, slots) < 0)
        exit(1);
    sem_wait(&client->done);
    for (int i = 0; i < n; i++)
        free(slots[i].request.data.data);
    free(slots);
}

static struct mesh_stream *open_chat(struct client *client)
{
    struct mesh_stream *stream = NULL;

    if (mesh_stream_open(client->channel, ECHO, "Chat", NULL, &stream) < 0) {
        fprintf(stderr, "cannot open a stream\n");
        exit(1);
    }
    return stream;
}

/* @return false: no credit within wait_ms */
static bool chat_write(struct mesh_stream *stream, const struct slot *slot, int wait_ms)
{
    struct status status;
    int err = mesh_stream_write(stream, &slot->request.base, wait_ms);

    if (err == -EPIPE && mesh_stream_status(stream, &status))
        die("chat", &status);
    return err == 0;
}

static ProtobufCMessage *chat_read(struct mesh_stream *stream)
{
    ProtobufCMessage *message = NULL;
    struct status status;

    if (mesh_stream_read(stream, &message, -1) < 0 && mesh_stream_status(stream, &status))
        die("chat", &status);
    return message;
}

/* Echoes come in the order of what was sent, so the slots take turns. Reads when there is no credit to
 * write: the server stops reading, too, while nobody takes its echoes. */
static void run_chat(struct client *client)
{
    uint64_t n = (uint64_t)client->plan.in_flight, written = 0, read = 0;
    struct slot *slots = calloc(n, sizeof(*slots));
    struct mesh_stream *stream = open_chat(client);
    bool more = true;

    for (uint64_t i = 0; i < n; i++)
        slot_init(&slots[i], client);
    while (more) {
        ProtobufCMessage *message;

        while (written - read < n) {
            slot_stamp(&slots[written % n]);
            if (!chat_write(stream, &slots[written % n], written == read ? -1 : 0))
                break;
            written++;
        }
        message = chat_read(stream);
        more = slot_answered(&slots[read++ % n], message, measure_now_ns());
    }
    mesh_stream_destroy(&stream);
    for (uint64_t i = 0; i < n; i++)
        free(slots[i].request.data.data);
    free(slots);
}

static void *run_one_of_chats(void *arg)
{
    struct client *client = arg;
    struct mesh_stream *stream = open_chat(client);
    struct slot slot;
    bool more = true;

    slot_init(&slot, client);
    while (more) {
        ProtobufCMessage *message;

        pthread_mutex_lock(&client->lock);
        slot_stamp(&slot);
        pthread_mutex_unlock(&client->lock);
        chat_write(stream, &slot, -1);
        message = chat_read(stream);
        pthread_mutex_lock(&client->lock);
        more = slot_answered(&slot, message, measure_now_ns());
        pthread_mutex_unlock(&client->lock);
    }
    mesh_stream_destroy(&stream);
    free(slot.request.data.data);
    return NULL;
}

static void run_chats(struct client *client)
{
    pthread_t *threads = calloc((size_t)client->plan.in_flight, sizeof(*threads));

    for (int i = 0; i < client->plan.in_flight; i++)
        pthread_create(&threads[i], NULL, run_one_of_chats, client);
    for (int i = 0; i < client->plan.in_flight; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* A call that waits until everybody is there. */
static void greet(struct client *client)
{
    const struct mesh_call_options patient = {.timeout_ms = 10000, .wait_for_ready = true};
    payload_message request = DRAGOMAN__BENCH__V1__PAYLOAD__INIT;
    ProtobufCMessage *response;
    struct status status;

    if (mesh_unary(client->channel, ECHO, "Quick", &request.base, &patient, &response, &status) < 0)
        die("nobody answers", &status);
    protobuf_c_message_free_unpacked(response, NULL);
}

static void run(struct client *client)
{
    const char *mode = client->plan.mode;

    greet(client);
    client->method = strcmp(mode, "pooled") == 0 ? "Pooled" : "Quick";
    client->measure = measure_begin(&client->plan);
    if (strcmp(mode, "chat") == 0)
        run_chat(client);
    else if (strcmp(mode, "chats") == 0)
        run_chats(client);
    else if (client->plan.in_flight == 1)
        run_blocking(client);
    else
        run_started(client);
    measure_print(client->measure);
}

/* Everything in this process: a server, and perhaps a broker, at inproc://. */
struct inside {
    void *context;
    struct broker *broker;
    struct mesh_server *server;
};

static const char *inside_start(struct inside *inside, bool brokered)
{
    static const char *const FRONT[] = {"inproc://front", NULL};
    static const char *const BACK[] = {"inproc://back", NULL};
    struct mesh_server_options options = {.name = "echo", .capacity = 64, .bind = !brokered};
    struct broker_options broker = {.front = FRONT, .back = BACK};

    inside->context = zmq_ctx_new();
    options.context = broker.context = inside->context;
    options.endpoint = brokered ? BACK[0] : FRONT[0];
    if (brokered && broker_start(&broker, &inside->broker) < 0) {
        fprintf(stderr, "cannot start a broker\n");
        exit(1);
    }
    if (echo_service_start(&options, &inside->server) < 0)
        exit(1);
    return FRONT[0];
}

static void inside_stop(struct inside *inside)
{
    mesh_server_destroy(&inside->server);
    broker_stop(&inside->broker, 0);
    if (inside->context)
        zmq_ctx_term(inside->context);
}

/* @return whether --extra names keys, which are in *security then */
static bool load_keys(const struct measure_plan *plan, struct mesh_security *security)
{
    char key[512];
    size_t n = strcspn(plan->extra, ",");
    struct mesh_key_flags flags = {key, plan->extra + n + 1};

    if (plan->extra[0] == '\0')
        return false;
    snprintf(key, sizeof(key), "%.*s", (int)n, plan->extra);
    if (plan->extra[n] != ',' || mesh_security_load(&flags, security) < 0)
        exit(2);
    return true;
}

int main(int argc, char **argv)
{
    struct client client = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct mesh_channel_options options = {.name = "echo_client"};
    struct inside inside = {NULL, NULL, NULL};
    struct mesh_security security;

    heap_keep();
    measure_parse(argc, argv, &client.plan);
    log_init("echo_client", LOG_WARN, LOG_FORMAT_TEXT);
    sem_init(&client.done, 0, 0);
    options.endpoint = client.plan.endpoint;
    if (load_keys(&client.plan, &security))
        options.security = &security;
    if (strncmp(client.plan.mode, "inproc", 6) == 0) {
        options.endpoint = inside_start(&inside, strcmp(client.plan.mode, "inproc-broker") == 0);
        options.context = inside.context;
    }
    if (mesh_channel_create(&options, &client.channel) < 0) {
        fprintf(stderr, "cannot connect to '%s'\n", options.endpoint);
        return 1;
    }
    run(&client);
    mesh_channel_destroy(&client.channel);
    inside_stop(&inside);
    if (options.security)
        mesh_security_wipe(&security);
    return 0;
}
