#include "mesh/monitor.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <zmq.h>

#define SLACK_MS 500 /* for what libzmq does on other threads */
#define HANDSHAKE_FAILED                                                                           \
    (ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |                  \
     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
#define EVENTS                                                                                     \
    (ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_MONITOR_STOPPED | HANDSHAKE_FAILED)
#define SPARE_FDS 64u /* of the process, or a quarter of what it may open */
#define TELL_NS INT64_C(10000000000)
#define EVENT_BYTES 6 /* a 16-bit number and a 32-bit value */

int mesh_descriptors_most(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)(limit.rlim_cur -
                 (limit.rlim_cur / 4 < SPARE_FDS ? limit.rlim_cur / 4 : SPARE_FDS));
}

int mesh_monitor_open(void *context, void *socket, struct mesh_monitor *monitor)
{
    static atomic_uint serial;
    char address[64];
    int linger = 0;

    snprintf(address, sizeof(address), "inproc://mesh.monitor.%u", atomic_fetch_add(&serial, 1));
    *monitor = (struct mesh_monitor){0};
    monitor->most_fd = mesh_descriptors_most();
    monitor->events = zmq_socket(context, ZMQ_PAIR);
    if (!monitor->events)
        return -errno;
    zmq_setsockopt(monitor->events, ZMQ_LINGER, &linger, sizeof(linger));
    if (zmq_socket_monitor(socket, address, EVENTS) < 0 ||
        zmq_connect(monitor->events, address) < 0) {
        int err = -errno;

        zmq_socket_monitor(socket, NULL, 0);
        zmq_close(monitor->events);
        monitor->events = NULL;
        return err;
    }
    monitor->socket = socket;
    return 0;
}

void mesh_monitor_close(struct mesh_monitor *monitor)
{
    if (!monitor->socket)
        return;
    zmq_socket_monitor(monitor->socket, NULL, 0);
    zmq_close(monitor->events);
    *monitor = (struct mesh_monitor){0};
}

int mesh_monitor_fd(const struct mesh_monitor *monitor)
{
    int fd = -1;
    size_t size = sizeof(fd);

    if (monitor->socket)
        zmq_getsockopt(monitor->events, ZMQ_FD, &fd, &size);
    return fd;
}

/* An event is two frames: number and value, then the address. @return false: no event */
static bool next_event(void *events, uint16_t *number, int32_t *value)
{
    zmq_msg_t frame;
    const uint8_t *data;

    *number = 0;
    zmq_msg_init(&frame);
    if (zmq_msg_recv(&frame, events, ZMQ_DONTWAIT) < 0)
        return false;
    data = zmq_msg_data(&frame);
    if (zmq_msg_size(&frame) == EVENT_BYTES) {
        memcpy(number, data, sizeof(*number));
        memcpy(value, data + sizeof(*number), sizeof(*value));
    }
    while (zmq_msg_more(&frame) && zmq_msg_recv(&frame, events, ZMQ_DONTWAIT) >= 0)
        ;
    zmq_msg_close(&frame);
    return true;
}

static enum mesh_handshake how_it_failed(uint16_t number, int32_t value)
{
    if (number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        return MESH_HANDSHAKE_REFUSED;
    if (number == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
        value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        return MESH_HANDSHAKE_MISMATCH;
    return MESH_HANDSHAKE_BROKEN;
}

/* The descriptor is libzmq's, which closes it when it finds the connection ended. Should it have done so already and
 * another socket have the number by now, that one is over the limit as well. */
static void keep_spare(struct mesh_monitor *monitor, int fd)
{
    int64_t now_ns;

    if (fd < monitor->most_fd)
        return;
    shutdown(fd, SHUT_RDWR);
    now_ns = clock_now_ns();
    if (monitor->told_ns == 0 || now_ns - monitor->told_ns > TELL_NS)
        log_warn("too many connections for the limit of open files: new ones are closed; raise it "
                 "(ulimit -n)");
    monitor->told_ns = now_ns;
}

int mesh_monitor_next(struct mesh_monitor *monitor)
{
    uint16_t number;
    int32_t value = -1;

    if (!monitor->socket)
        return -1;
    while (next_event(monitor->events, &number, &value)) {
        if (number == ZMQ_EVENT_ACCEPTED) {
            monitor->n_connections++;
            keep_spare(monitor, value);
        }
        if (number == ZMQ_EVENT_DISCONNECTED) {
            monitor->n_connections -= monitor->n_connections > 0;
            return value;
        }
        if (number & HANDSHAKE_FAILED)
            monitor->failed = how_it_failed(number, value);
    }
    return -1;
}

/* @return whether there may be an event */
static bool wait_for_event(struct mesh_monitor *monitor, int64_t until_ms)
{
    zmq_pollitem_t item = {.socket = monitor->events, .events = ZMQ_POLLIN};
    int64_t left_ms = until_ms - clock_now_ms();

    return left_ms > 0 && zmq_poll(&item, 1, left_ms) > 0;
}

void mesh_monitor_end(struct mesh_monitor *monitor, void *socket, int linger_ms)
{
    int64_t until_ms = clock_now_ms() + linger_ms;
    uint16_t number = 0;
    int32_t value;

    for (size_t left = monitor->n_connections; left > 0 && wait_for_event(monitor, until_ms);)
        while (left > 0 && mesh_monitor_next(monitor) >= 0)
            left--; /* some come back at once; they are not waited for */
    zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
    zmq_close(socket);
    if (!monitor->socket)
        return;
    until_ms = clock_now_ms() + linger_ms + SLACK_MS;
    while (number != ZMQ_EVENT_MONITOR_STOPPED && wait_for_event(monitor, until_ms))
        next_event(monitor->events, &number, &value);
    zmq_close(monitor->events);
    *monitor = (struct mesh_monitor){0};
}
