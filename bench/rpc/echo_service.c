#include "bench/rpc/echo_service.h"

#include "bench/rpc/echo.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

typedef Dragoman__Bench__V1__Payload payload_message;

static void echo__quick(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                        Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    (void)self;
    reply(request, call);
}

static void echo__pooled(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                         Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    (void)self;
    reply(request, call);
}

static void echo__chat(Dragoman__Bench__V1__Echo_Service *self, const payload_message *unused,
                       Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    ProtobufCMessage *message;

    (void)self;
    (void)unused;
    while (mesh_call_read(call, &message, -1) == 0) {
        reply((const payload_message *)message, call);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static void echo__work(Dragoman__Bench__V1__Echo_Service *self, const payload_message *request,
                       Dragoman__Bench__V1__Payload_Closure reply, void *call)
{
    uint32_t left_us = request->work_us;

    (void)self;
    while (left_us > 0 && !mesh_call_cancelled(call)) {
        uint32_t step_us = left_us < 500 ? left_us : 500;
        struct timespec time = {.tv_nsec = (long)step_us * 1000};

        nanosleep(&time, NULL);
        left_us -= step_us;
    }
    reply(mesh_call_cancelled(call) ? NULL : request, call);
}

int echo_service_start(const struct mesh_server_options *options, struct mesh_server **out)
{
    static const enum mesh_kind KINDS[] = {MESH_UNARY_QUICK, MESH_UNARY, MESH_BIDI_STREAMING,
                                           MESH_UNARY};
    static Dragoman__Bench__V1__Echo_Service service = DRAGOMAN__BENCH__V1__ECHO__INIT(echo__);
    struct mesh_server *server = NULL;
    int err;

    err = mesh_server_create(options, &server);
    if (!err)
        err = mesh_server_add_service(server, &service.base, KINDS);
    if (!err)
        err = mesh_server_start(server);
    if (err < 0) {
        fprintf(stderr, "cannot serve at '%s': %s\n", options->endpoint, strerror(-err));
        mesh_server_destroy(&server);
    }
    *out = server;
    return err;
}
