/* A worker that serves example.echo.v1.Echo: the four kinds of call, and nothing else. */
#include "echo.pb-c.h"
#include "mesh/harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef Example__Echo__V1__Text text_message;

static void answer(const char *text, Example__Echo__V1__Text_Closure reply, void *call)
{
    text_message message = EXAMPLE__ECHO__V1__TEXT__INIT;

    message.text = (char *)text;
    reply(&message, call); /* packed before it returns */
}

/* The message is for people, the details are for programs. */
static void refuse(void *call, const char *field, const char *rule, const char *message)
{
    Example__Echo__V1__Refusal details = EXAMPLE__ECHO__V1__REFUSAL__INIT;

    details.field = (char *)field;
    details.rule = (char *)rule;
    mesh_call_set_details_message(call, &details.base);
    mesh_call_fail(call, STATUS_INVALID_ARGUMENT, "%s", message);
}

static void echo__say(Example__Echo__V1__Echo_Service *service, const text_message *request,
                      Example__Echo__V1__Text_Closure reply, void *call)
{
    (void)service;
    if (request->text[0] == '\0')
        refuse(call, "text", "not empty", "there is nothing to say");
    answer(request->text, reply, call); /* after a failure it does nothing */
}

static void echo__spell(Example__Echo__V1__Echo_Service *service, const text_message *request,
                        Example__Echo__V1__Text_Closure reply, void *call)
{
    size_t n;

    (void)service;
    for (const char *at = request->text; *at && !mesh_call_cancelled(call); at += n) {
        char letter[8];

        for (n = 1; (at[n] & 0xC0) == 0x80 && n < 4; n++) /* the rest of a UTF-8 character */
            continue;
        snprintf(letter, sizeof(letter), "%.*s", (int)n, at);
        answer(letter, reply, call); /* waits while the caller is slower */
    }
}

/* The request of a streaming method is NULL: read the messages. */
static void echo__join(Example__Echo__V1__Echo_Service *service, const text_message *request,
                       Example__Echo__V1__Text_Closure reply, void *call)
{
    char joined[256] = "";
    ProtobufCMessage *message;

    (void)service;
    (void)request;
    while (mesh_call_read(call, &message, -1) == 0) {
        strncat(joined, ((text_message *)message)->text, sizeof(joined) - strlen(joined) - 1);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    answer(joined, reply, call);
}

static void echo__chat(Example__Echo__V1__Echo_Service *service, const text_message *request,
                       Example__Echo__V1__Text_Closure reply, void *call)
{
    ProtobufCMessage *message;

    (void)service;
    (void)request;
    while (mesh_call_read(call, &message, -1) == 0) {
        answer(((text_message *)message)->text, reply, call);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static Example__Echo__V1__Echo_Service echo = EXAMPLE__ECHO__V1__ECHO__INIT(echo__);

static int start(const void *config, struct mesh_server *server, void **state)
{
    static const enum mesh_kind KINDS[] = {MESH_UNARY, MESH_SERVER_STREAMING, MESH_CLIENT_STREAMING,
                                           MESH_BIDI_STREAMING};

    (void)config;
    *state = &echo; /* a real service loads its model here */
    if (mesh_server_add_type(server, &example__echo__v1__refusal__descriptor) < 0)
        return -ENOMEM;
    return mesh_server_add_service(server, &echo.base, KINDS);
}

static void stop(void *state)
{
    (void)state;
}

int main(int argc, char **argv)
{
    static const struct mesh_harness_service service = {
        .program = "example-echo",
        .name = "echo",
        .summary = "Say everything again.",
        .default_capacity = 4,
        .start = start,
        .stop = stop,
    };

    return mesh_harness_main(&service, argc, argv);
}
