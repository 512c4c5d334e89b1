#include "base/clock.h"
#include "mesh/call.h"
#include "mesh/details.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)

/* ---- what handlers say ----------------------------------------------------------------------- */

static bool may_answer(const struct mesh_call *call)
{
    return call->cancelled || call->failed || mesh_flow_may_send(&call->flow);
}

/* Wait for credit. @return the message's seq; 0: the call is over */
static uint32_t claim_answer(struct mesh_call *call, size_t size)
{
    uint32_t seq = 0;

    pthread_mutex_lock(&call->lock);
    if (!may_answer(call))
        mesh_flow_stalled();
    while (!may_answer(call))
        pthread_cond_wait(&call->changed, &call->lock);
    if (!call->cancelled && !call->failed)
        seq = mesh_flow_sent(&call->flow, true, size);
    if (seq > 0)
        mesh_call_intercept_message(call, MESH_OUTBOUND, size);
    pthread_mutex_unlock(&call->lock);
    return seq;
}

static void answer_one_of_many(struct mesh_call *call, const ProtobufCMessage *message, size_t size)
{
    struct mesh_header header = {.kind = MESH_DATA, .call_id = call->id};

    if (mesh_call_send_initial(call) < 0) {
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for initial metadata");
        return;
    }
    header.seq = claim_answer(call, size);
    if (header.seq > 0 && mesh_call_post_frame(call, &header, NULL, message) < 0)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for an answer");
}

static void tell_of_response(struct mesh_call *call, size_t size)
{
    if (!mesh_server_interceptors(call->server)->watch_messages)
        return;
    pthread_mutex_lock(&call->lock);
    mesh_call_intercept_message(call, MESH_OUTBOUND, size);
    pthread_mutex_unlock(&call->lock);
}

static void answer_the_only(struct mesh_call *call, const ProtobufCMessage *message, size_t size)
{
    struct mesh_header header = {.kind = MESH_END, .call_id = call->id, .seq = 1};

    if (call->has_response)
        mesh_call_fail(call, STATUS_INTERNAL, "the handler gave more than one response");
    else if (mesh_message_build(&header, NULL, message, call->compress, &call->response) < 0)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED, "no memory for the response");
    else
        call->has_response = true;
    if (call->has_response)
        tell_of_response(call, size);
}

void mesh_call_answer(const ProtobufCMessage *message, void *closure_data)
{
    struct mesh_call *call = closure_data;
    size_t size;

    if (!message || call->failed || __atomic_load_n(&call->cancelled, __ATOMIC_ACQUIRE))
        return;
    size = protobuf_c_message_get_packed_size(message);
    if (size > call->message_max)
        mesh_call_fail(call, STATUS_RESOURCE_EXHAUSTED,
                       "an answer of %zu bytes is larger than the %zu that the caller takes", size,
                       call->message_max);
    else if (mesh_call_has_one_answer(call))
        answer_the_only(call, message, size);
    else
        answer_one_of_many(call, message, size);
}

void mesh_call_fail(void *data, enum status_code code, const char *fmt, ...)
{
    struct mesh_call *call = data;
    va_list args;

    va_start(args, fmt);
    pthread_mutex_lock(&call->lock);
    if (!call->failed && !call->cancelled) {
        status_vset(&call->status, code, fmt, args);
        __atomic_store_n(&call->failed, true, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&call->lock);
    va_end(args);
}

int mesh_call_set_details(void *data, const void *details, size_t size)
{
    struct mesh_call *call = data;
    uint8_t *copy;

    if (size > MESH_DETAILS_MAX)
        return -EMSGSIZE;
    copy = malloc(size + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, details, size);
    free(call->details.data);
    call->details = (ProtobufCBinaryData){.data = copy, .len = size};
    return 0;
}

int mesh_call_set_details_message(void *call, const ProtobufCMessage *message)
{
    void *packed = NULL;
    size_t size = 0;
    int err = mesh_details_pack(message, &packed, &size);

    if (err == 0)
        err = mesh_call_set_details(call, packed, size);
    free(packed);
    return err;
}

void mesh_call_set_retry_delay(void *call, uint32_t ms)
{
    ((struct mesh_call *)call)->retry_delay_ms = ms;
}

int mesh_call_add_initial_metadata(void *data, const char *key, const void *value, size_t size)
{
    struct mesh_call *call = data;

    return call->initial_sent ? -EINVAL : mesh_metadata_add(&call->initial, key, value, size);
}

int mesh_call_add_trailer(void *call, const char *key, const void *value, size_t size)
{
    return mesh_metadata_add(&((struct mesh_call *)call)->trailers, key, value, size);
}

/* ---- what handlers ask ----------------------------------------------------------------------- */

static bool can_read(const struct mesh_call *call)
{
    return call->cancelled || call->flow.first || call->flow.ended_in;
}

static void wait_for_message(struct mesh_call *call, int wait_ms)
{
    int64_t at = clock_now_ns() + wait_ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / (1000 * NS_PER_MS), .tv_nsec = at % (1000 * NS_PER_MS)};
    int err = 0;

    while (!can_read(call) && wait_ms != 0 && err == 0) {
        if (wait_ms < 0)
            err = pthread_cond_wait(&call->changed, &call->lock);
        else
            err = pthread_cond_timedwait(&call->changed, &call->lock, &until);
    }
}

/* The next message that is not OPEN's. */
static int next_message(struct mesh_call *call, int wait_ms, struct mesh_message **out)
{
    bool tell = false;
    int err = 0;

    pthread_mutex_lock(&call->lock);
    if (!can_read(call))
        wait_for_message(call, wait_ms);
    *out = call->cancelled ? NULL : mesh_flow_take(&call->flow, &tell);
    if (call->cancelled)
        err = -ECANCELED;
    else if (!*out)
        err = call->flow.ended_in ? -ENODATA : -EAGAIN;
    if (tell && !call->credit_posted) {
        call->credit_posted = true;
        mesh_call_post(call, &call->credit_post, POST_MORE_CREDIT);
    }
    pthread_mutex_unlock(&call->lock);
    return err;
}

static int unpack_request(struct mesh_call *call, struct mesh_message *from,
                          ProtobufCMessage **message)
{
    int err = mesh_flow_unpack(from, call->method->method->descriptor->input, message);

    if (err == 0)
        return 0;
    mesh_call_fail(call, STATUS_INTERNAL, "a request does not parse");
    return -ECANCELED;
}

int mesh_call_request(struct mesh_call *call, struct mesh_lent *request)
{
    struct mesh_frame frame;

    *request = (struct mesh_lent){NULL, NULL};
    if (call->open_read)
        return mesh_call_read(call, &request->message, -1);
    mesh_message_frame(&call->open, &frame);
    if (frame.header.flags & MESH_LZ4)
        return mesh_call_read(call, &request->message, -1);
    if (mesh_call_cancelled(call))
        return -ECANCELED;
    call->open_read = true;
    if (mesh_lent_unpack(call->method->method->descriptor->input, frame.body, frame.body_size,
                         request) == 0)
        return 0;
    mesh_call_fail(call, STATUS_INTERNAL, "a request does not parse");
    return -ECANCELED;
}

int mesh_call_read(void *data, ProtobufCMessage **message, int wait_ms)
{
    struct mesh_call *call = data;
    struct mesh_message *arrived;
    int err;

    if (mesh_call_cancelled(call))
        return -ECANCELED;
    if (!call->open_read) {
        call->open_read = true;
        return unpack_request(call, &call->open, message);
    }
    err = next_message(call, wait_ms, &arrived);
    if (err < 0)
        return err;
    err = unpack_request(call, arrived, message);
    mesh_message_close(arrived);
    free(arrived);
    return err;
}

bool mesh_call_cancelled(const void *data)
{
    const struct mesh_call *call = data;

    return __atomic_load_n(&call->cancelled, __ATOMIC_ACQUIRE) ||
           __atomic_load_n(&call->failed, __ATOMIC_ACQUIRE) ||
           (call->deadline_ns != MESH_NEVER && clock_now_ns() >= call->deadline_ns);
}

int mesh_call_cancel_fd(void *data)
{
    struct mesh_call *call = data;
    int fd;

    pthread_mutex_lock(&call->lock);
    if (call->cancel_fd < 0)
        call->cancel_fd = eventfd(call->cancelled ? 1 : 0, EFD_NONBLOCK | EFD_CLOEXEC);
    fd = call->cancel_fd < 0 ? -errno : call->cancel_fd;
    pthread_mutex_unlock(&call->lock);
    return fd;
}

const volatile int *mesh_call_cancel_flag(const void *call)
{
    return &((const struct mesh_call *)call)->cancelled;
}

int64_t mesh_call_remaining_ms(const void *data)
{
    const struct mesh_call *call = data;

    if (call->deadline_ns == MESH_NEVER)
        return INT64_MAX;
    return (call->deadline_ns - clock_now_ns()) / NS_PER_MS;
}

const char *mesh_call_peer(const void *call)
{
    return ((const struct mesh_call *)call)->peer_name;
}

const struct mesh_metadata *mesh_call_metadata(const void *call)
{
    return ((const struct mesh_call *)call)->metadata;
}

const char *mesh_call_trace_id(const void *data)
{
    struct mesh_call *call = (struct mesh_call *)data; /* the text is no part of its value */

    if (!call->trace_id[0])
        trace_id_format(mesh_call_trace(call), call->trace_id);
    return call->trace_id;
}
