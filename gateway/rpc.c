#include "gateway/rpc.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>

void rpc_waiter_init(struct rpc_waiter *waiter, struct http_exchange *exchange, int64_t timeout_ms)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    waiter->signalled = false;
    waiter->exchange = exchange;
    waiter->deadline_ms = clock_now_ms() + timeout_ms;
    if (exchange)
        http_on_gone(exchange, rpc_waiter_signal, waiter);
}

void rpc_waiter_fini(struct rpc_waiter *waiter)
{
    if (waiter->exchange)
        http_on_gone(waiter->exchange, NULL, NULL);
    pthread_cond_destroy(&waiter->changed);
    pthread_mutex_destroy(&waiter->lock);
}

void rpc_waiter_signal(void *arg)
{
    struct rpc_waiter *waiter = arg;

    pthread_mutex_lock(&waiter->lock);
    waiter->signalled = true;
    pthread_cond_signal(&waiter->changed);
    pthread_mutex_unlock(&waiter->lock);
}

int rpc_waiter_wait(struct rpc_waiter *waiter)
{
    const struct timespec until = {.tv_sec = waiter->deadline_ms / 1000,
                                   .tv_nsec = waiter->deadline_ms % 1000 * 1000000};
    int err = 0;

    pthread_mutex_lock(&waiter->lock);
    while (!waiter->signalled && !err)
        err = pthread_cond_timedwait(&waiter->changed, &waiter->lock, &until);
    waiter->signalled = false;
    pthread_mutex_unlock(&waiter->lock);
    if (waiter->exchange && http_gone(waiter->exchange))
        return -ECANCELED;
    return err || clock_now_ms() >= waiter->deadline_ms ? -ETIMEDOUT : 0;
}

int64_t rpc_waiter_left_ms(const struct rpc_waiter *waiter)
{
    int64_t left = waiter->deadline_ms - clock_now_ms();

    return left > 0 ? left : 1;
}

void rpc_interrupted(int err, struct status *status)
{
    if (err == -ECANCELED)
        status_set(status, STATUS_CANCELLED, "the client has gone");
    else
        status_set(status, STATUS_DEADLINE_EXCEEDED,
                   "the request took longer than its deadline allows");
}

int rpc_open(struct rpc_waiter *waiter, struct mesh_channel *channel,
             const ProtobufCServiceDescriptor *service, const char *method, const char *selector,
             struct mesh_stream **out, struct status *status)
{
    const struct mesh_call_options options = {
        .timeout_ms = rpc_waiter_left_ms(waiter),
        .selector = selector,
        .trace_id = waiter->exchange ? http_traceparent(waiter->exchange) : NULL,
    };
    int err = mesh_stream_open(channel, service, method, &options, out);

    if (err < 0) {
        status_set(status, status_from_errno(err), "cannot call %s.%s", service->name, method);
        return -1;
    }
    mesh_stream_on_event(*out, rpc_waiter_signal, waiter);
    return 0;
}

/* A write or read found the call over: say how it ended. */
static void ended(struct mesh_stream *stream, struct status *status)
{
    if (!mesh_stream_status(stream, status))
        status_set(status, STATUS_INTERNAL, "a call is over but has no status");
}

int rpc_write(struct rpc_waiter *waiter, struct mesh_stream *stream,
              const ProtobufCMessage *message, struct status *status)
{
    for (;;) {
        int err = mesh_stream_write(stream, message, 0);

        if (err == 0)
            return 0;
        if (err == -EAGAIN)
            err = rpc_waiter_wait(waiter);
        else if (err == -EPIPE)
            ended(stream, status);
        else
            status_set(status, status_from_errno(err), "cannot send a message");
        if (err == -ECANCELED || err == -ETIMEDOUT)
            rpc_interrupted(err, status);
        if (err < 0)
            return -1;
    }
}

int rpc_read(struct rpc_waiter *waiter, struct mesh_stream *stream, ProtobufCMessage **message,
             struct status *status)
{
    for (;;) {
        int err = mesh_stream_read(stream, message, 0);

        if (err == 0)
            return 1;
        if (err == -ENODATA) {
            ended(stream, status);
            return status->code == STATUS_OK ? 0 : -1;
        }
        err = rpc_waiter_wait(waiter);
        if (err < 0) {
            rpc_interrupted(err, status);
            return -1;
        }
    }
}

int rpc_call(struct rpc_waiter *waiter, struct mesh_channel *channel,
             const ProtobufCServiceDescriptor *service, const char *method, const char *selector,
             const ProtobufCMessage *request, ProtobufCMessage **response, struct status *status)
{
    struct mesh_stream *stream = NULL;
    ProtobufCMessage *answer = NULL;
    int result = rpc_open(waiter, channel, service, method, selector, &stream, status);

    if (result < 0)
        return -1;
    result = rpc_write(waiter, stream, request, status);
    if (result == 0) {
        mesh_stream_finish(stream);
        result = rpc_read(waiter, stream, &answer, status);
    }
    if (result == 0) {
        status_set(status, STATUS_INTERNAL, "%s.%s gave no answer", service->name, method);
        result = -1;
    }
    if (result > 0) { /* the status comes behind the answer */
        ProtobufCMessage *more = NULL;

        result = rpc_read(waiter, stream, &more, status);
        if (more)
            protobuf_c_message_free_unpacked(more, NULL);
    }
    mesh_stream_destroy(&stream);
    if (result < 0) {
        if (answer)
            protobuf_c_message_free_unpacked(answer, NULL);
        return -1;
    }
    *response = answer;
    return 0;
}
