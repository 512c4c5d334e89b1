#include "tests/mesh/ends.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "mesh/listener.h"
#include "mesh/zmtp.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static void *context;

int ends_setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "ends-XXXXXX"); /* where it runs: mutants leave nothing */
    context = zmq_ctx_new();
    return mkdtemp(folder) && context ? 0 : -1;
}

int ends_teardown(void **state)
{
    (void)state;
    zmq_ctx_term(context);
    return rmdir(folder); /* nothing is left behind */
}

const char *ends_path(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

void *ends_context(void)
{
    return context;
}

/* ---- ends ------------------------------------------------------------------------------------ */

struct end ends_open(enum mesh_socket_kind kind, bool libzmqs, const char *path)
{
    struct end end = {.kind = kind};
    char endpoint[160];

    if (libzmqs) {
        snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
        end.zmq = mesh_socket_open(context, kind, ENDS_MAX_BYTES);
        assert_non_null(end.zmq);
        assert_int_equal(
            kind == MESH_ROUTER ? zmq_bind(end.zmq, endpoint) : zmq_connect(end.zmq, endpoint), 0);
        return end;
    }
    assert_int_equal(mesh_ipc_create(kind, ENDS_MAX_BYTES, &end.ipc), 0);
    assert_int_equal(
        kind == MESH_ROUTER ? mesh_ipc_bind(end.ipc, path) : mesh_ipc_connect(end.ipc, path), 0);
    return end;
}

void ends_close(struct end *end, int linger_ms)
{
    if (end->zmq) {
        zmq_setsockopt(end->zmq, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
        zmq_close(end->zmq);
    }
    mesh_ipc_destroy(&end->ipc, linger_ms);
    end->zmq = NULL;
}

/* ---- messages -------------------------------------------------------------------------------- */

static void fill(zmq_msg_t *frame, uint8_t seed, size_t size)
{
    assert_int_equal(zmq_msg_init_size(frame, size), 0);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)zmq_msg_data(frame))[i] = (uint8_t)(seed + i * 7 + i / 251);
}

void ends_fill(struct mesh_message *message, uint8_t seed, size_t first, size_t body)
{
    *message = (struct mesh_message){.has_body = body != SIZE_MAX};
    fill(&message->first, seed, first);
    if (message->has_body)
        fill(&message->body, (uint8_t)(seed + 1), body);
}

static void check(zmq_msg_t *frame, uint8_t seed, size_t size)
{
    zmq_msg_t want;

    assert_int_equal(zmq_msg_size(frame), size);
    fill(&want, seed, size);
    assert_memory_equal(zmq_msg_data(frame), zmq_msg_data(&want), size);
    zmq_msg_close(&want);
}

void ends_check(struct mesh_message *message, uint8_t seed, size_t first, size_t body)
{
    check(&message->first, seed, first);
    assert_int_equal(message->has_body, body != SIZE_MAX);
    if (message->has_body)
        check(&message->body, (uint8_t)(seed + 1), body);
    mesh_message_close(message);
}

void ends_number(struct mesh_message *message, uint64_t peer, uint32_t number)
{
    *message = (struct mesh_message){.peer = peer};
    assert_int_equal(zmq_msg_init_size(&message->first, sizeof(number)), 0);
    memcpy(zmq_msg_data(&message->first), &number, sizeof(number));
}

uint32_t ends_read_number(struct mesh_message *message)
{
    uint32_t number;

    assert_int_equal(zmq_msg_size(&message->first), sizeof(number));
    memcpy(&number, zmq_msg_data(&message->first), sizeof(number));
    mesh_message_close(message);
    return number;
}

/* ---- there and back -------------------------------------------------------------------------- */

int ends_try_send(struct end *end, struct mesh_message *message)
{
    return end->ipc ? mesh_ipc_send(end->ipc, message)
                    : mesh_message_send(end->zmq, end->kind, message);
}

int ends_try_recv(struct end *end, struct mesh_message *message)
{
    return end->ipc ? mesh_ipc_recv(end->ipc, message)
                    : mesh_message_recv_any(end->zmq, end->kind, message);
}

/* Sleep until it may have something. */
static void rest(struct end *end, int ms)
{
    struct pollfd fd = {.fd = -1};

    if (end->ipc)
        fd = mesh_ipc_fd(end->ipc);
    poll(&fd, 1, end->ipc && mesh_ipc_is_ready(end->ipc) ? 0 : ms);
    if (end->ipc)
        mesh_ipc_polled(end->ipc, fd.revents);
}

void ends_idle(struct end *end, int ms)
{
    int64_t until = clock_now_ms() + ms;
    struct mesh_message message;

    do {
        rest(end, 1);
        assert_int_equal(ends_try_recv(end, &message), -EAGAIN);
    } while (clock_now_ms() < until);
}

int ends_recv(struct end *end, struct end *other, struct mesh_message *message)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    int err;

    while ((err = ends_try_recv(end, message)) == -EAGAIN && clock_now_ms() < until) {
        rest(end, other ? 0 : 1);
        if (other)
            ends_idle(other, 0);
    }
    return err;
}

void ends_send(struct end *end, struct end *other, struct mesh_message *message)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    int err;

    while ((err = ends_try_send(end, message)) == -EAGAIN && clock_now_ms() < until) {
        ends_idle(end, 0);
        if (other)
            ends_idle(other, 0);
    }
    assert_int_equal(err, 0);
}

uint64_t ends_meet(struct end *router, struct end *dealer)
{
    struct mesh_message message;
    uint64_t peer;

    ends_number(&message, 0, 4711);
    ends_send(dealer, router, &message);
    assert_int_equal(ends_recv(router, dealer, &message), 0);
    peer = message.peer;
    assert_int_equal(ends_read_number(&message), 4711);
    return peer;
}

/* ---- by hand --------------------------------------------------------------------------------- */

int ends_raw(const char *path)
{
    int fd = mesh_listener_connect(path);

    assert_true(fd >= 0);
    return fd;
}

void ends_write(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

void ends_raw_greet(int fd)
{
    uint8_t greeting[ZMTP_GREETING_BYTES];
    uint8_t ready[ZMTP_COMMAND_MAX];

    zmtp_greeting_write(greeting);
    ends_write(fd, greeting, sizeof(greeting));
    ends_write(fd, ready, zmtp_ready_write(MESH_DEALER, ready));
}

bool ends_raw_closed(int fd, struct end *router)
{
    int64_t until = clock_now_ms() + ENDS_WAIT_MS;
    uint8_t bytes[256];
    ssize_t got;

    do {
        ends_idle(router, 1);
        got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while ((got > 0 || (got < 0 && errno == EAGAIN)) && clock_now_ms() < until);
    return got == 0 || errno == ECONNRESET;
}

unsigned ends_broken(void)
{
    struct buffer page;
    const char *at;
    unsigned count = 0;

    buffer_init(&page, 1 << 20);
    assert_int_equal(metrics_render(&page), 0);
    assert_int_equal(buffer_append(&page, "", 1), 0);
    at = strstr((const char *)page.data, "\nmesh_broken_connections_total ");
    if (at)
        count = (unsigned)strtoul(strchr(at, ' '), NULL, 10);
    buffer_fini(&page);
    return count;
}
