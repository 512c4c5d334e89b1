/* An Echo worker whose Say fails with details of the form that the request names, for test_call.py. */
#include "echo.pb-c.h"
#include "mesh/harness.h"
#include "proto/mesh.pb-c.h"

#include <string.h>

#define CUT 2 /* bytes off a message, so that it is none */

typedef Example__Echo__V1__Text text_message;

static void set_cut(void *call, const ProtobufCMessage *message)
{
    Dragoman__Mesh__V1__StatusDetails box = DRAGOMAN__MESH__V1__STATUS_DETAILS__INIT;
    uint8_t value[64], packed[256];

    box.type_url = (char *)"type.googleapis.com/example.echo.v1.Text";
    box.value.data = value;
    box.value.len = protobuf_c_message_pack(message, value) - CUT;
    mesh_call_set_details(call, packed, protobuf_c_message_pack(&box.base, packed));
}

static void say(Example__Echo__V1__Echo_Service *service, const text_message *request,
                Example__Echo__V1__Text_Closure reply, void *call)
{
    text_message known = EXAMPLE__ECHO__V1__TEXT__INIT;
    Dragoman__Mesh__V1__Label unknown = DRAGOMAN__MESH__V1__LABEL__INIT;

    (void)service;
    known.text = (char *)"it says \"\x1b[2J\"";
    unknown.key = (char *)"lang";
    if (strcmp(request->text, "known") == 0)
        mesh_call_set_details_message(call, &known.base);
    else if (strcmp(request->text, "unknown") == 0)
        mesh_call_set_details_message(call, &unknown.base);
    else if (strcmp(request->text, "cut") == 0)
        set_cut(call, &known.base);
    else if (strcmp(request->text, "bytes") == 0)
        mesh_call_set_details(call, "\x1b[2J", 4);
    mesh_call_fail(call, STATUS_ABORTED, "as was asked for");
    reply(NULL, call);
}

static int start(const void *config, struct mesh_server *server, void **state)
{
    static Example__Echo__V1__Echo_Service service = {.base = EXAMPLE__ECHO__V1__ECHO__BASE_INIT,
                                                      .say = say};

    (void)config;
    *state = NULL;
    return mesh_server_add_service(server, &service.base, NULL);
}

static void stop(void *state)
{
    (void)state;
}

int main(int argc, char **argv)
{
    static const struct mesh_harness_service service = {.program = "details-worker",
                                                        .name = "details",
                                                        .summary = "Fails with details.",
                                                        .default_capacity = 1,
                                                        .start = start,
                                                        .stop = stop};

    return mesh_harness_main(&service, argc, argv);
}
