/*
 * nats_client - echo calls through a NATS server by its C client, closed loop
 *
 *   nats_client server URL          answers on the subject "echo", until it is killed
 *   nats_client client [flags of measure.h]
 *
 * One call in flight: natsConnection_Request. More: one inbox, a subject each, as its request
 * multiplexer does it, without the thread that each blocking request would need.
 */
#include "bench/rpc/measure.h"

#include <nats/nats.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(natsStatus status, const char *what)
{
    if (status == NATS_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static natsConnection *dial(const char *url)
{
    natsConnection *connection = NULL;
    natsOptions *options = NULL;

    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), url);
    /* Else a thread of its own sends what has gathered in a millisecond. */
    check(natsOptions_SetSendAsap(options, true), "options");
    check(natsConnection_Connect(&connection, options), url);
    natsOptions_Destroy(options);
    return connection;
}

static void echo(natsConnection *connection, natsSubscription *subscription, natsMsg *message,
                 void *unused)
{
    (void)subscription;
    (void)unused;
    check(natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message),
                                 natsMsg_GetDataLength(message)),
          "answer");
    natsMsg_Destroy(message);
}

static void run_server(const char *url)
{
    natsConnection *connection = dial(url);
    natsSubscription *subscription;

    check(natsConnection_Subscribe(&subscription, connection, "echo", echo, NULL), "subscribe");
    check(natsSubscription_SetPendingLimits(subscription, -1, -1), "subscribe");
    check(natsConnection_Flush(connection), "flush");
    printf("ready\n");
    fflush(stdout);
    for (;;)
        nats_Sleep(1000000);
}

struct slot {
    uint8_t *data;
    uint64_t number;
    int64_t begun_ns;
    char reply_to[128];
};

struct client {
    struct measure_plan plan;
    struct measure *measure;
    struct slot *slots;
    uint64_t number;
    int running;
    sem_t done;
};

static void stamp(struct client *client, struct slot *slot)
{
    slot->number = ++client->number;
    measure_stamp(slot->data, client->plan.size, slot->number);
    slot->begun_ns = measure_now_ns();
}

static bool is_answered(struct client *client, struct slot *slot, natsMsg *reply)
{
    measure_check(slot->data, client->plan.size, (const uint8_t *)natsMsg_GetData(reply),
                  (size_t)natsMsg_GetDataLength(reply), slot->number);
    natsMsg_Destroy(reply);
    return measure_call(client->measure, slot->begun_ns, measure_now_ns());
}

static void run_blocking(struct client *client, natsConnection *connection)
{
    struct slot *slot = &client->slots[0];
    natsMsg *reply = NULL;

    do {
        stamp(client, slot);
        check(natsConnection_Request(&reply, connection, "echo", slot->data, (int)client->plan.size,
                                     10000),
              "request");
    } while (is_answered(client, slot, reply));
}

static void ask(struct client *client, natsConnection *connection, struct slot *slot)
{
    stamp(client, slot);
    check(natsConnection_PublishRequest(connection, "echo", slot->reply_to, slot->data,
                                        (int)client->plan.size),
          "request");
}

static void answered(natsConnection *connection, natsSubscription *subscription, natsMsg *reply,
                     void *arg)
{
    struct client *client = arg;
    struct slot *slot = &client->slots[atoi(strrchr(natsMsg_GetSubject(reply), '.') + 1)];

    (void)subscription;
    if (is_answered(client, slot, reply))
        ask(client, connection, slot);
    else if (--client->running == 0)
        sem_post(&client->done);
}

static void run_many(struct client *client, natsConnection *connection)
{
    natsSubscription *subscription;
    natsInbox *inbox;
    char subject[64];

    check(natsInbox_Create(&inbox), "inbox");
    snprintf(subject, sizeof(subject), "%s.*", inbox);
    check(natsConnection_Subscribe(&subscription, connection, subject, answered, client), "inbox");
    check(natsSubscription_SetPendingLimits(subscription, -1, -1), "inbox");
    client->running = client->plan.in_flight;
    for (int i = 0; i < client->plan.in_flight; i++) {
        snprintf(client->slots[i].reply_to, sizeof(client->slots[i].reply_to), "%s.%d", inbox, i);
        ask(client, connection, &client->slots[i]);
    }
    sem_wait(&client->done);
    natsSubscription_Destroy(subscription);
    natsInbox_Destroy(inbox);
}

static void run_client(int argc, char **argv)
{
    struct client client = {.number = 0};
    natsConnection *connection;

    measure_parse(argc, argv, &client.plan);
    sem_init(&client.done, 0, 0);
    connection = dial(client.plan.endpoint);
    client.slots = calloc((size_t)client.plan.in_flight, sizeof(*client.slots));
    for (int i = 0; i < client.plan.in_flight; i++) {
        client.slots[i].data = malloc(client.plan.size);
        measure_fill(client.slots[i].data, client.plan.size);
    }
    client.measure = measure_begin(&client.plan);
    if (client.plan.in_flight == 1)
        run_blocking(&client, connection);
    else
        run_many(&client, connection);
    measure_print(client.measure);
    natsConnection_Destroy(connection);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        run_server(argv[2]);
    else if (argc > 2 && strcmp(argv[1], "client") == 0)
        run_client(argc - 1, argv + 1);
    else
        return fprintf(stderr, "usage: %s server URL | client FLAGS\n", argv[0]), 2;
    return 0;
}
