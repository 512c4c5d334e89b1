#include "tests/mesh/echo.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef Dragoman__Test__V1__EchoRequest echo_request;
typedef Dragoman__Test__V1__EchoResponse echo_response;

struct echo_counts echo_counts;

void echo_reset(void)
{
    memset(&echo_counts, 0, sizeof(echo_counts));
}

void echo_fill(uint8_t *data, size_t size)
{
    uint32_t x = 0x9e3779b9u ^ (uint32_t)size;

    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = (uint8_t)x;
    }
}

static void sleep_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

static void note_cancelled(void *call)
{
    if (!mesh_call_cancelled(call))
        return;
    atomic_fetch_add(&echo_counts.cancelled, 1);
    atomic_store(&echo_counts.cancelled_at_ns, clock_now_ns());
}

static void enter(void *call)
{
    const struct mesh_metadata *metadata = mesh_call_metadata(call);
    int running = atomic_fetch_add(&echo_counts.running, 1) + 1;

    atomic_fetch_add(&echo_counts.started, 1);
    if (running > atomic_load(&echo_counts.most_running))
        atomic_store(&echo_counts.most_running, running);
    for (size_t i = 0; i < mesh_metadata_count(metadata); i++) {
        const void *value;
        size_t size;
        const char *key = mesh_metadata_at(metadata, i, &value, &size);

        if (strcmp(key, ECHO_INITIAL) == 0)
            mesh_call_add_initial_metadata(call, key, value, size);
        else if (strcmp(key, ECHO_TRAILING) == 0)
            mesh_call_add_trailer(call, key, value, size);
        else if (strcmp(key, ECHO_TRACE) == 0)
            mesh_call_add_trailer(call, key, mesh_call_trace_id(call),
                                  strlen(mesh_call_trace_id(call)));
        else if (strcmp(key, ECHO_PEER) == 0 && mesh_call_peer(call))
            mesh_call_add_trailer(call, key, mesh_call_peer(call), strlen(mesh_call_peer(call)));
    }
}

static void leave(void *call)
{
    note_cancelled(call);
    atomic_fetch_sub(&echo_counts.running, 1);
    atomic_fetch_add(&echo_counts.ended, 1);
}

/* What a request asks for besides answers. @return false: no answer */
static bool behave(const echo_request *request, void *call)
{
    if (request->sleep_ms > 0)
        sleep_ms(request->sleep_ms);
    while (request->until_cancelled && !mesh_call_cancelled(call))
        sleep_ms(1);
    if (request->retry_delay_ms > 0)
        mesh_call_set_retry_delay(call, request->retry_delay_ms);
    if (request->status_code != 0)
        mesh_call_fail(call, (enum status_code)request->status_code, "%s", request->status_message);
    return request->status_code == 0 && !request->until_cancelled;
}

static void answer(const echo_request *request, size_t i,
                   void (*reply)(const echo_response *response, void *call), void *call)
{
    echo_response response = DRAGOMAN__TEST__V1__ECHO_RESPONSE__INIT;
    uint8_t *made = NULL;

    response.payload = request->payload;
    if (i < request->n_sizes) {
        made = malloc(request->sizes[i] + 1);
        echo_fill(made, request->sizes[i]);
        response.payload = (ProtobufCBinaryData){.len = request->sizes[i], .data = made};
    }
    reply(&response, call);
    free(made);
}

static void echo__unary(Dragoman__Test__V1__Echo_Service *self, const echo_request *request,
                        Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)self;
    enter(call);
    if (behave(request, call))
        answer(request, 0, reply, call);
    leave(call);
}

static void echo__collect(Dragoman__Test__V1__Echo_Service *self, const echo_request *unused,
                          Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    echo_response response = DRAGOMAN__TEST__V1__ECHO_RESPONSE__INIT;
    ProtobufCMessage *message = NULL;
    bool answers = true;
    int err;

    (void)self;
    (void)unused;
    enter(call);
    while ((err = mesh_call_read(call, &message, -1)) == 0) {
        const echo_request *request = (const echo_request *)message;

        response.messages++;
        response.bytes += request->payload.len;
        atomic_fetch_add(&echo_counts.received, 1);
        answers &= behave(request, call);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (answers && err == -ENODATA)
        reply(&response, call);
    leave(call);
}

static void echo__expand(Dragoman__Test__V1__Echo_Service *self, const echo_request *request,
                         Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    (void)self;
    enter(call);
    for (size_t i = 0; i < request->n_sizes && !mesh_call_cancelled(call); i++)
        answer(request, i, reply, call);
    behave(request, call);
    leave(call);
}

static void echo__chat(Dragoman__Test__V1__Echo_Service *self, const echo_request *unused,
                       Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    ProtobufCMessage *message = NULL;

    (void)self;
    (void)unused;
    enter(call);
    while (mesh_call_read(call, &message, -1) == 0) {
        const echo_request *request = (const echo_request *)message;

        atomic_fetch_add(&echo_counts.received, 1);
        if (behave(request, call)) {
            for (size_t i = 0; i == 0 || i < request->n_sizes; i++)
                answer(request, i, reply, call);
        }
        protobuf_c_message_free_unpacked(message, NULL);
    }
    leave(call);
}

static void echo__quick(Dragoman__Test__V1__Echo_Service *self, const echo_request *request,
                        Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    echo__unary(self, request, reply, call);
}

static void echo__missing(Dragoman__Test__V1__Echo_Service *self, const echo_request *request,
                          Dragoman__Test__V1__EchoResponse_Closure reply, void *call)
{
    echo__unary(self, request, reply, call);
}

static ProtobufCServiceDescriptor without_missing;
static Dragoman__Test__V1__Echo_Service service = DRAGOMAN__TEST__V1__ECHO__INIT(echo__);

static void leave_missing_out(void)
{
    without_missing = dragoman__test__v1__echo__descriptor;
    without_missing.n_methods = 5;
    service.base.descriptor = &without_missing;
}

int echo_add(struct mesh_server *server)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; /* other servers read it already */
    static const enum mesh_kind kinds[] = {MESH_UNARY, MESH_CLIENT_STREAMING, MESH_SERVER_STREAMING,
                                           MESH_BIDI_STREAMING, MESH_UNARY_QUICK};

    pthread_once(&once, leave_missing_out);
    return mesh_server_add_service(server, &service.base, kinds);
}
