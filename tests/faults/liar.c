/*
 * A hostile peer: as a caller and as a worker, over and over on new connections, it sends rubbish, frames
 * that are too large, the same call again, and answers to calls that are not its own.
 *
 *   faults_liar FRONT BACK SECONDS SEED
 */
#include "base/clock.h"
#include "base/log.h"
#include "mesh/message.h"
#include "tests/faults/ledger.pb-c.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ENTER "/dragoman.faults.v1.Ledger/Enter"
#define OVERSIZE ((size_t)40 << 20) /* more than a broker takes */

static void *context, *sock;
static uint64_t state;
static unsigned long said;

static uint64_t random_below(uint64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return n ? (state >> 20) % n : 0;
}

/* ---- talking --------------------------------------------------------------------------------- */

static void say(const void *data, size_t size, bool more)
{
    said += zmq_send(sock, data, size, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0;
}

static void say_frame(struct mesh_header header, const mesh_meta *meta,
                      const ProtobufCMessage *body)
{
    struct mesh_message message;

    if (mesh_message_build(&header, meta, body, false, &message) < 0)
        return;
    if (mesh_message_send(sock, MESH_DEALER, &message) < 0)
        mesh_message_close(&message);
    else
        said++;
}

/* @return whether a frame came within so long; its header */
static bool hear(int wait_ms, struct mesh_header *out)
{
    struct mesh_message message;
    struct mesh_frame frame;
    zmq_pollitem_t item = {.socket = sock, .events = ZMQ_POLLIN};

    if (zmq_poll(&item, 1, wait_ms) <= 0 ||
        mesh_message_recv(sock, MESH_DEALER, &message, &frame) < 0)
        return false;
    *out = frame.header;
    mesh_message_close(&message);
    return true;
}

static bool come(const char *endpoint)
{
    Dragoman__Mesh__V1__Hello hello = DRAGOMAN__MESH__V1__HELLO__INIT;
    struct mesh_header heard;
    zmq_pollitem_t item = {.events = ZMQ_POLLOUT};

    sock = mesh_socket_open(context, MESH_DEALER, 64 << 20);
    if (!sock || zmq_connect(sock, endpoint) < 0)
        return false;
    item.socket = sock;
    zmq_poll(&item, 1, 1000);
    hello.version_min = hello.version_max = MESH_VERSION;
    hello.heartbeat_ms = 60000;
    say_frame((struct mesh_header){.kind = MESH_HELLO}, NULL, &hello.base);
    return hear(1000, &heard) && heard.kind == MESH_WELCOME;
}

static void go(void)
{
    int linger = 20;

    if (sock)
        zmq_setsockopt(sock, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_close(sock);
    sock = NULL;
}

/* ---- lies ------------------------------------------------------------------------------------ */

static void rubbish(void)
{
    uint8_t bytes[300];
    size_t size = (size_t)random_below(sizeof(bytes));

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random_below(256);
    if (random_below(2))
        memcpy(bytes, "MSH\x01", size < 4 ? size : 4);
    for (uint64_t parts = random_below(5); parts > 0; parts--)
        say(bytes, size, true);
    say(bytes, size, false);
}

static void oversize(void)
{
    uint8_t *bytes = calloc(1, OVERSIZE);

    if (bytes)
        say(bytes, OVERSIZE, false);
    free(bytes);
}

/* Any kind, flags and numbers, with a right checksum. */
static void any_frame(uint64_t near)
{
    struct mesh_header header = {
        .kind = (uint8_t)random_below(40),
        .flags = (uint16_t)(random_below(0x200) & ~(uint64_t)(MESH_MESSAGE | MESH_INLINE)),
        .call_id = near + random_below(21) - 10,
        .seq = (uint32_t)random_below(4),
        .credit_messages = (uint32_t)state,
        .credit_bytes = state,
        .timeout_ns = (int64_t)state,
        .status = (uint16_t)random_below(20),
    };

    say_frame(header, NULL, NULL);
}

/* The same OPEN several times, and frames of a call that is over. */
static void replay_open(void)
{
    Dragoman__Faults__V1__Entry entry = DRAGOMAN__FAULTS__V1__ENTRY__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header open = {.kind = MESH_OPEN,
                               .call_id = 1 + random_below(9),
                               .seq = 1,
                               .flags = MESH_END_SEND,
                               .method_hash = mesh_method_hash(ENTER, strlen(ENTER))};
    struct mesh_header heard;

    entry.call = UINT64_MAX; /* the checker knows it as nobody's */
    meta.method = (char *)ENTER;
    say_frame(open, &meta, &entry.base);
    while (hear(300, &heard) && heard.kind != MESH_END) {
    }
    for (int i = 0; i < 3; i++)
        say_frame(open, &meta, &entry.base);
}

/* Answers to calls that others have. @param near  a number that was given to us */
static void forge_answers(uint64_t near)
{
    Dragoman__Faults__V1__Receipt receipt = DRAGOMAN__FAULTS__V1__RECEIPT__INIT;

    receipt.proof = state;
    for (uint64_t back = 1; back < 50; back++) {
        struct mesh_header end = {.kind = MESH_END, .call_id = near - back, .seq = 1};

        say_frame(end, NULL, &receipt.base);
    }
    say_frame((struct mesh_header){.kind = MESH_END, .call_id = near + 1, .seq = 1}, NULL,
              &receipt.base);
}

static void offer(const char *service, uint32_t capacity)
{
    Dragoman__Mesh__V1__Register message = DRAGOMAN__MESH__V1__REGISTER__INIT;
    Dragoman__Mesh__V1__ServiceOffer said_offer = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    Dragoman__Mesh__V1__ServiceOffer *offers[] = {&said_offer};
    char *methods[] = {(char *)"Enter"};

    said_offer.name = (char *)service;
    said_offer.methods = methods;
    said_offer.n_methods = 1;
    message.services = offers;
    message.n_services = 1;
    message.capacity = capacity;
    say_frame((struct mesh_header){.kind = MESH_REGISTER}, NULL, &message.base);
}

static void lie_as_caller(const char *front)
{
    if (!come(front))
        return;
    switch (random_below(4)) {
    case 0:
        rubbish();
        break;
    case 1:
        replay_open();
        break;
    case 2:
        for (int i = 0; i < 30; i++)
            any_frame(10);
        break;
    default:
        if (random_below(20) == 0)
            oversize();
    }
}

static void lie_as_worker(const char *back)
{
    struct mesh_header heard = {.kind = 0};
    uint64_t near = (uint64_t)2 << 40;

    if (!come(back))
        return;
    if (random_below(3) == 0) { /* takes a call, and lets it down */
        offer("dragoman.faults.v1.Ledger", 1);
        while (hear(100, &heard) && heard.kind != MESH_OPEN) {
        }
        near = heard.kind == MESH_OPEN ? heard.call_id : near;
        forge_answers(near);
        return;
    }
    offer("dragoman.faults.v1.Lies", (uint32_t)random_below(UINT32_MAX));
    hear(200, &heard);
    if (random_below(2))
        forge_answers(near);
    for (int i = 0; i < 20; i++)
        any_frame(near);
    if (random_below(4) == 0)
        rubbish();
}

int main(int argc, char **argv)
{
    int64_t until_ms;

    if (argc != 5) {
        fprintf(stderr, "usage: %s FRONT BACK SECONDS SEED\n", argv[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_init("faults-liar", LOG_ERROR, LOG_FORMAT_TEXT);
    context = zmq_ctx_new();
    until_ms = clock_now_ms() + strtol(argv[3], NULL, 10) * 1000;
    state = strtoull(argv[4], NULL, 10);
    while (clock_now_ms() < until_ms) {
        if (random_below(2))
            lie_as_caller(argv[1]);
        else
            lie_as_worker(argv[2]);
        go();
    }
    printf("%lu frames were said\n", said);
    zmq_ctx_term(context);
    return 0;
}
