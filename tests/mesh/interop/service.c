#include "tests/mesh/interop/service.h"

#include "base/clock.h"
#include "mesh/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef Dragoman__Interop__V1__SimpleRequest simple_request;
typedef Dragoman__Interop__V1__SimpleResponse simple_response;
typedef Dragoman__Interop__V1__StreamingOutputCallRequest output_request;
typedef Dragoman__Interop__V1__StreamingOutputCallResponse output_response;
typedef Dragoman__Interop__V1__TestService_Service service;

void interop_fill(uint8_t *data, size_t size, bool compressible)
{
    uint32_t x = 0x9e3779b9u ^ (uint32_t)size;

    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = compressible ? (uint8_t)('a' + i % 7) : (uint8_t)x;
    }
}

static void sleep_us(uint32_t us)
{
    struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    if (us > 0)
        nanosleep(&time, NULL);
}

static struct interop_worker *enter(service *self, void *call)
{
    struct interop_worker *worker = (struct interop_worker *)self;
    const struct mesh_metadata *metadata = mesh_call_metadata(call);
    int running = atomic_fetch_add(&worker->running, 1) + 1;

    for (int most = worker->most_running; running > most;) {
        if (atomic_compare_exchange_weak(&worker->most_running, &most, running))
            break;
    }
    atomic_fetch_add(&worker->started, 1);
    for (size_t i = 0; i < mesh_metadata_count(metadata); i++) {
        const void *value;
        size_t size;
        const char *key = mesh_metadata_at(metadata, i, &value, &size);

        if (strcmp(key, INTEROP_INITIAL) == 0)
            mesh_call_add_initial_metadata(call, key, value, size);
        else if (strcmp(key, INTEROP_TRAILING) == 0)
            mesh_call_add_trailer(call, key, value, size);
    }
    return worker;
}

static void leave(struct interop_worker *worker, void *call)
{
    if (mesh_call_cancelled(call)) {
        atomic_store(&worker->cancelled_at_ns, clock_now_ns());
        atomic_fetch_add(&worker->cancelled, 1);
    }
    atomic_fetch_sub(&worker->running, 1);
    atomic_fetch_add(&worker->ended, 1);
}

/* @return whether it asked for this status instead of an answer */
static bool fails(const Dragoman__Interop__V1__EchoStatus *wanted, void *call)
{
    if (!wanted || wanted->code == 0)
        return false;
    mesh_call_fail(call, (enum status_code)wanted->code, "%s", wanted->message);
    if (wanted->details.len > 0)
        mesh_call_set_details(call, wanted->details.data, wanted->details.len);
    if (wanted->typed_details)
        mesh_call_set_details_message(call, &wanted->typed_details->base);
    return true;
}

static bool fails_at_first(struct interop_worker *worker, const simple_request *request, void *call)
{
    if (request->fail_first == 0)
        return false;
    if (atomic_exchange(&worker->failed_secret, request->secret) != request->secret)
        atomic_store(&worker->failures, 0);
    if (atomic_fetch_add(&worker->failures, 1) >= (int)request->fail_first)
        return false;
    mesh_call_fail(call, STATUS_UNAVAILABLE, "not yet");
    return true;
}

static void unary_call(service *self, const simple_request *request,
                       Dragoman__Interop__V1__SimpleResponse_Closure reply, void *call)
{
    struct interop_worker *worker = enter(self, call);
    simple_response response = DRAGOMAN__INTEROP__V1__SIMPLE_RESPONSE__INIT;
    Dragoman__Interop__V1__Payload payload = DRAGOMAN__INTEROP__V1__PAYLOAD__INIT;

    sleep_us(request->sleep_ms * 1000);
    while (request->until_cancelled && !mesh_call_cancelled(call))
        sleep_us(500);
    if (!fails(request->response_status, call) && !fails_at_first(worker, request, call) &&
        !request->until_cancelled) {
        payload.body.len = request->response_size;
        payload.body.data = malloc(request->response_size + 1);
        interop_fill(payload.body.data, payload.body.len, request->response_compressible);
        response.payload = &payload;
        response.server_id = worker->id;
        response.secret = request->secret;
        response.peer = (char *)(mesh_call_peer(call) ? mesh_call_peer(call) : "");
        if (request->payload)
            response.payload_crc =
                mesh_crc32c(request->payload->body.data, request->payload->body.len);
        reply(&response, call);
        free(payload.body.data);
    }
    leave(worker, call);
}

static void empty_call(service *self, const Dragoman__Interop__V1__Empty *request,
                       Dragoman__Interop__V1__Empty_Closure reply, void *call)
{
    struct interop_worker *worker = enter(self, call);

    reply(request, call);
    leave(worker, call);
}

static void output(struct interop_worker *worker,
                   const Dragoman__Interop__V1__ResponseParameters *wanted,
                   Dragoman__Interop__V1__StreamingOutputCallResponse_Closure reply, void *call)
{
    output_response response = DRAGOMAN__INTEROP__V1__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
    Dragoman__Interop__V1__Payload payload = DRAGOMAN__INTEROP__V1__PAYLOAD__INIT;

    sleep_us(wanted->interval_us);
    payload.body.len = wanted->size;
    payload.body.data = malloc(wanted->size + 1);
    interop_fill(payload.body.data, payload.body.len, wanted->compressible);
    response.payload = &payload;
    response.server_id = worker->id;
    reply(&response, call);
    atomic_fetch_add(&worker->sent, 1);
    free(payload.body.data);
}

static void outputs(struct interop_worker *worker, const output_request *request,
                    Dragoman__Interop__V1__StreamingOutputCallResponse_Closure reply, void *call)
{
    for (size_t i = 0; i < request->n_responses && !mesh_call_cancelled(call); i++)
        output(worker, request->responses[i], reply, call);
    fails(request->response_status, call);
}

static void streaming_output_call(service *self, const output_request *request,
                                  Dragoman__Interop__V1__StreamingOutputCallResponse_Closure reply,
                                  void *call)
{
    struct interop_worker *worker = enter(self, call);

    outputs(worker, request, reply, call);
    leave(worker, call);
}

static void streaming_input_call(service *self,
                                 const Dragoman__Interop__V1__StreamingInputCallRequest *unused,
                                 Dragoman__Interop__V1__StreamingInputCallResponse_Closure reply,
                                 void *call)
{
    struct interop_worker *worker = enter(self, call);
    Dragoman__Interop__V1__StreamingInputCallResponse response =
        DRAGOMAN__INTEROP__V1__STREAMING_INPUT_CALL_RESPONSE__INIT;
    ProtobufCMessage *message = NULL;
    int err;

    (void)unused;
    while ((err = mesh_call_read(call, &message, -1)) == 0) {
        const Dragoman__Interop__V1__StreamingInputCallRequest *request =
            (const Dragoman__Interop__V1__StreamingInputCallRequest *)message;

        atomic_fetch_add(&worker->received, 1);
        if (request->payload) {
            response.aggregated_payload_size += (uint32_t)request->payload->body.len;
            response.payload_crc =
                31 * response.payload_crc +
                mesh_crc32c(request->payload->body.data, request->payload->body.len);
        }
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (err == -ENODATA)
        reply(&response, call);
    leave(worker, call);
}

static void full_duplex_call(service *self, const output_request *unused,
                             Dragoman__Interop__V1__StreamingOutputCallResponse_Closure reply,
                             void *call)
{
    struct interop_worker *worker = enter(self, call);
    ProtobufCMessage *message = NULL;

    (void)unused;
    while (mesh_call_read(call, &message, -1) == 0) {
        atomic_fetch_add(&worker->received, 1);
        outputs(worker, (const output_request *)message, reply, call);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    leave(worker, call);
}

static void half_duplex_call(service *self, const output_request *unused,
                             Dragoman__Interop__V1__StreamingOutputCallResponse_Closure reply,
                             void *call)
{
    enum { KEPT_MAX = 64 };
    struct interop_worker *worker = enter(self, call);
    ProtobufCMessage *kept[KEPT_MAX];
    size_t n = 0;

    (void)unused;
    while (n < KEPT_MAX && mesh_call_read(call, &kept[n], -1) == 0) {
        atomic_fetch_add(&worker->received, 1);
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        outputs(worker, (const output_request *)kept[i], reply, call);
        protobuf_c_message_free_unpacked(kept[i], NULL);
    }
    leave(worker, call);
}

void interop_worker_init(struct interop_worker *worker, uint32_t id)
{
    memset(worker, 0, sizeof(*worker));
    worker->id = id;
    worker->service.base = (ProtobufCService)DRAGOMAN__INTEROP__V1__TEST_SERVICE__BASE_INIT;
    worker->service.empty_call = empty_call;
    worker->service.unary_call = unary_call;
    worker->service.cacheable_unary_call = unary_call;
    worker->service.streaming_output_call = streaming_output_call;
    worker->service.streaming_input_call = streaming_input_call;
    worker->service.full_duplex_call = full_duplex_call;
    worker->service.half_duplex_call = half_duplex_call;
}

int interop_worker_add(struct interop_worker *worker, struct mesh_server *server)
{
    static const enum mesh_kind kinds[] = {
        MESH_UNARY_QUICK,      MESH_UNARY,          MESH_UNARY,          MESH_SERVER_STREAMING,
        MESH_CLIENT_STREAMING, MESH_BIDI_STREAMING, MESH_BIDI_STREAMING, MESH_UNARY};
    static ProtobufCServiceDescriptor without_unimplemented;

    if (without_unimplemented.n_methods == 0) { /* later ones find it in use */
        without_unimplemented = dragoman__interop__v1__test_service__descriptor;
        without_unimplemented.n_methods--; /* the last */
    }
    worker->service.base.descriptor = &without_unimplemented;
    return mesh_server_add_service(server, &worker->service.base, kinds);
}
