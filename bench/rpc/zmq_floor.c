/*
 * zmq_floor - what libzmq alone costs: echo through a bare zmq_proxy() between ROUTER and DEALER
 *
 *   zmq_floor broker FRONT BACK
 *   zmq_floor server BACK
 *   zmq_floor client [flags of measure.h]
 *
 * No protocol, no deadline, no routing: the floor under every broker made of libzmq.
 */
#include "bench/rpc/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void *open_socket(void *context, int type)
{
    void *socket = zmq_socket(context, type);
    int zero = 0;

    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero));
    return socket;
}

static void check(int err, const char *what)
{
    if (err >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(errno));
    exit(1);
}

static int run_broker(void *context, const char *front_endpoint, const char *back_endpoint)
{
    void *front = open_socket(context, ZMQ_ROUTER), *back = open_socket(context, ZMQ_DEALER);
    char endpoint[256];
    size_t size = sizeof(endpoint);

    check(zmq_bind(front, front_endpoint), front_endpoint);
    check(zmq_getsockopt(front, ZMQ_LAST_ENDPOINT, endpoint, &size), "endpoint");
    printf("%s\n", endpoint);
    size = sizeof(endpoint);
    check(zmq_bind(back, back_endpoint), back_endpoint);
    check(zmq_getsockopt(back, ZMQ_LAST_ENDPOINT, endpoint, &size), "endpoint");
    printf("%s\n", endpoint);
    fflush(stdout);
    return zmq_proxy(front, back, NULL);
}

/* Parts go back as they came: the envelope, then the payload. */
static _Noreturn void run_server(void *context, const char *endpoint)
{
    void *socket = open_socket(context, ZMQ_DEALER);
    zmq_msg_t part;

    check(zmq_connect(socket, endpoint), endpoint);
    zmq_msg_init(&part);
    for (;;) {
        check(zmq_msg_recv(&part, socket, 0), "receive");
        check(zmq_msg_send(&part, socket, zmq_msg_more(&part) ? ZMQ_SNDMORE : 0), "send");
    }
}

struct slot {
    uint8_t *data;
    uint64_t number;
    int64_t begun_ns;
};

static void send_slot(void *socket, struct slot *slot, uint64_t number, size_t size)
{
    slot->number = number;
    measure_stamp(slot->data, size, number);
    slot->begun_ns = measure_now_ns();
    check(zmq_send(socket, slot->data, size, 0), "send");
}

static int run_client(void *context, int argc, char **argv)
{
    void *socket = open_socket(context, ZMQ_DEALER);
    struct measure_plan plan;
    struct measure *measure;
    struct slot *slots;
    zmq_msg_t reply;
    uint64_t n, sent = 0, read = 0;
    bool more = true;

    measure_parse(argc, argv, &plan);
    check(zmq_connect(socket, plan.endpoint), plan.endpoint);
    n = (uint64_t)plan.in_flight;
    slots = calloc(n, sizeof(*slots));
    measure = measure_begin(&plan);
    zmq_msg_init(&reply);
    for (; sent < n; sent++) {
        slots[sent].data = malloc(plan.size);
        measure_fill(slots[sent].data, plan.size);
        send_slot(socket, &slots[sent], sent, plan.size);
    }
    while (more) {
        struct slot *slot = &slots[read++ % n];

        check(zmq_msg_recv(&reply, socket, 0), "receive");
        measure_check(slot->data, plan.size, zmq_msg_data(&reply), zmq_msg_size(&reply),
                      slot->number);
        more = measure_call(measure, slot->begun_ns, measure_now_ns());
        send_slot(socket, slot, sent++, plan.size);
    }
    measure_print(measure);
    zmq_msg_close(&reply);
    for (uint64_t i = 0; i < n; i++)
        free(slots[i].data);
    free(slots);
    zmq_close(socket);
    zmq_ctx_term(context);
    return 0;
}

int main(int argc, char **argv)
{
    void *context = zmq_ctx_new();

    if (argc == 4 && strcmp(argv[1], "broker") == 0)
        return run_broker(context, argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        run_server(context, argv[2]);
    if (argc > 2 && strcmp(argv[1], "client") == 0)
        return run_client(context, argc - 1, argv + 1);
    fprintf(stderr, "usage: %s broker FRONT BACK | server BACK | client FLAGS\n", argv[0]);
    return 2;
}
