/* A caller of example.echo.v1.Echo: say ENDPOINT TEXT */
#include "echo.pb-c.h"
#include "mesh/channel.h"
#include "mesh/details.h"

#include <stdio.h>

/* Why a call was refused, where the service says so. */
static void print_refusal(const struct mesh_answer_meta *meta)
{
    ProtobufCMessage *message = mesh_details_read(meta->details, meta->details_size,
                                                  &example__echo__v1__refusal__descriptor);
    const Example__Echo__V1__Refusal *refusal = (const Example__Echo__V1__Refusal *)message;

    if (!refusal)
        return;
    fprintf(stderr, "'%s' must be: %s\n", refusal->field, refusal->rule);
    protobuf_c_message_free_unpacked(message, NULL);
}

int main(int argc, char **argv)
{
    struct mesh_answer_meta meta = {.details = NULL};
    const struct mesh_call_options call = {
        .timeout_ms = 5000, .wait_for_ready = true, .answer_meta = &meta};
    struct mesh_channel_options options = {.name = "say"};
    Example__Echo__V1__Text request = EXAMPLE__ECHO__V1__TEXT__INIT;
    ProtobufCMessage *response;
    struct mesh_channel *channel = NULL;
    struct status status;

    if (argc != 3) {
        fprintf(stderr, "usage: say ENDPOINT TEXT\n");
        return 2;
    }
    options.endpoint = argv[1];
    if (mesh_channel_create(&options, &channel) < 0) {
        fprintf(stderr, "say: '%s' is no endpoint: give tcp://HOST:PORT or ipc://PATH\n", argv[1]);
        return 2;
    }
    request.text = argv[2];
    if (mesh_unary(channel, &example__echo__v1__echo__descriptor, "Say", &request.base, &call,
                   &response, &status) == 0) {
        printf("%s\n", ((Example__Echo__V1__Text *)response)->text);
        protobuf_c_message_free_unpacked(response, NULL);
    } else {
        fprintf(stderr, "%s: %s\n", status_name(status.code), status.message);
        print_refusal(&meta);
    }
    mesh_answer_meta_fini(&meta);
    mesh_channel_destroy(&channel);
    return status.code == STATUS_OK ? 0 : 1;
}
