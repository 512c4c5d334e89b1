/* `dragoman call`: any method of any service behind a broker, by what reflection says of it. */
#include "cli/call.h"

#include "base/clock.h"
#include "base/observe.h"
#include "cli/client.h"
#include "cli/command.h"
#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 3000 /* a broker on the way to which nothing is wrong answers sooner */
#define LOOK_MS 50      /* between two looks for a service, with --wait */

typedef Dragoman__Mesh__V1__ReflectionListRequest list_request;
typedef Dragoman__Mesh__V1__ReflectionListResponse list_response;
typedef Dragoman__Mesh__V1__DescribeRequest describe_request;
typedef Dragoman__Mesh__V1__DescribeResponse describe_response;

struct caller {
    const struct call_flags *flags;
    struct mesh_security security;
    bool secure;
    struct mesh_channel *channel;
    int64_t end_ms; /* of patience */
};

static void pause_ms(int64_t ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* ---- the broker ------------------------------------------------------------------------------ */

static int64_t patience_ms(const struct call_flags *flags)
{
    int64_t timeout = (int64_t)(flags->timeout_s * 1000);

    if (flags->wait)
        return timeout > 0 ? timeout : INT64_MAX / 2;
    return timeout > 0 && timeout < CONNECT_MS ? timeout : CONNECT_MS;
}

/* @param trouble  what a handshake has told; NULL: nothing */
static void print_no_broker(const char *broker, const char *trouble)
{
    if (trouble)
        fprintf(stderr, "UNAVAILABLE: cannot talk to %s: %s (--key, --broker-key)\n", broker,
                trouble);
    else
        fprintf(stderr,
                "UNAVAILABLE: no broker answers at %s: start one with 'dragoman-broker', or "
                "name another by --broker\n",
                broker);
}

/* @return the exit status, after a message */
static int bad_broker(const char *broker, int err)
{
    if (err != -EINVAL)
        return client_fail("cannot connect to '%s': %s", broker, strerror(-err));
    fprintf(stderr,
            "dragoman call: --broker: '%s' is not allowed: give tcp://HOST:PORT or ipc://PATH\n",
            broker);
    return 2;
}

/* @return 0; the exit status after a message */
static int connect_to_broker(struct caller *caller)
{
    const struct call_flags *flags = caller->flags;
    struct mesh_channel_options options = {.endpoint = flags->broker,
                                           .name = "call",
                                           .security = caller->secure ? &caller->security : NULL};
    int err = mesh_channel_create(&options, &caller->channel);

    if (err < 0)
        return bad_broker(flags->broker, err);
    caller->end_ms = clock_now_ms() + patience_ms(flags);
    while (!mesh_channel_connected(caller->channel)) {
        const char *trouble = mesh_channel_trouble(caller->channel);

        if (trouble ? !flags->wait : clock_now_ms() >= caller->end_ms) {
            print_no_broker(flags->broker, trouble);
            return 1;
        }
        pause_ms(1);
    }
    return 0;
}

/* ---- reflection ------------------------------------------------------------------------------ */

static int ask(struct caller *caller, const char *method, const ProtobufCMessage *request,
               ProtobufCMessage **response, struct status *status)
{
    const struct mesh_call_options options = {.timeout_ms = CONNECT_MS};

    return mesh_unary(caller->channel, &dragoman__mesh__v1__reflection__descriptor, method, request,
                      &options, response, status);
}

/* Whether to ask again: the service's first worker may still be on its way. */
static bool may_come(const struct caller *caller, const struct status *status)
{
    bool absent = status->code == STATUS_NOT_FOUND || status->code == STATUS_UNAVAILABLE ||
                  status->code == STATUS_UNIMPLEMENTED;

    return absent && caller->flags->wait && clock_now_ms() + LOOK_MS < caller->end_ms;
}

/* The shape of a service. @return 0; 1 after a message */
static int describe(struct caller *caller, const char *symbol, struct mesh_schema **out)
{
    describe_request request = DRAGOMAN__MESH__V1__DESCRIBE_REQUEST__INIT;
    describe_response *response;
    ProtobufCMessage *message = NULL;
    char why[MESH_SCHEMA_WHY];
    struct status status;
    int err;

    request.symbol = (char *)symbol;
    while (ask(caller, "Describe", &request.base, &message, &status) < 0) {
        if (!may_come(caller, &status))
            return call_status_fail(&status);
        pause_ms(LOOK_MS);
    }
    response = (describe_response *)message;
    err = mesh_schema_create(response->descriptor_set.data, response->descriptor_set.len, out, why);
    protobuf_c_message_free_unpacked(message, NULL);
    return err < 0 ? client_fail("what reflection says of '%s' is of no use: %s", symbol, why) : 0;
}

/* ---- --list and --describe ------------------------------------------------------------------- */

static int list_methods(struct caller *caller, const char *name)
{
    struct mesh_schema *schema = NULL;
    const struct mesh_schema_service *service;

    if (describe(caller, name, &schema) != 0)
        return 1;
    service = mesh_schema_service(schema, name);
    for (size_t i = 0; service && i < service->n_methods; i++) {
        const struct mesh_schema_method *method = &service->methods[i];

        printf("%s/%s(%s%s) returns (%s%s)\n", service->name, method->name,
               method->client_streams ? "stream " : "", method->input->short_name,
               method->server_streams ? "stream " : "", method->output->short_name);
    }
    mesh_schema_destroy(&schema);
    return service ? 0 : client_fail("reflection does not know service '%s'", name);
}

static int list_services(struct caller *caller)
{
    const list_request request = DRAGOMAN__MESH__V1__REFLECTION_LIST_REQUEST__INIT;
    const list_response *response;
    ProtobufCMessage *message = NULL;
    struct status status;

    if (ask(caller, "List", &request.base, &message, &status) < 0)
        return call_status_fail(&status);
    response = (const list_response *)message;
    for (size_t i = 0; i < response->n_services; i++)
        printf("%s\n", response->services[i]);
    protobuf_c_message_free_unpacked(message, NULL);
    return 0;
}

static int print_description(struct caller *caller, const char *symbol)
{
    struct mesh_schema *schema = NULL;
    struct buffer text;
    char name[512];
    int err;

    if (describe(caller, symbol, &schema) != 0)
        return 1;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(symbol, "/"), symbol);
    buffer_init(&text, (size_t)16 << 20);
    err = mesh_schema_print(schema, name, &text);
    if (err == 0)
        fwrite(text.data, 1, text.size, stdout);
    buffer_fini(&text);
    mesh_schema_destroy(&schema);
    return err < 0 ? client_fail("cannot describe '%s': %s", symbol, strerror(-err)) : 0;
}

/* ---- a call ---------------------------------------------------------------------------------- */

/* "package.Service/Method", also with a '/' in front, into its halves. @return 0; 2 after a message */
static int split_method(const char *path, char *service, size_t size, const char **method)
{
    const char *slash;

    path += *path == '/';
    slash = strchr(path, '/');
    if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/') ||
        (size_t)(slash - path) >= size) {
        client_fail("'%s' is no method: give package.Service/Method; --list shows what is there",
                    path);
        return 2;
    }
    snprintf(service, size, "%.*s", (int)(slash - path), path);
    *method = slash + 1;
    return 0;
}

static int fail_without_method(const struct mesh_schema_service *service, const char *name,
                               const char *method)
{
    struct status status;

    status_set(&status, STATUS_UNIMPLEMENTED,
               "service '%s' has no method '%s': 'dragoman call --list %s' shows those it has",
               name, service ? method : "at all", name);
    return call_status_fail(&status);
}

static int call(struct caller *caller, const char *path, const char *operand)
{
    struct mesh_schema *schema = NULL;
    const struct mesh_schema_service *service;
    const struct mesh_schema_method *method = NULL;
    struct call_input *input = NULL;
    const char *name = NULL;
    char service_name[512];
    int status = split_method(path, service_name, sizeof(service_name), &name);

    if (status == 0 && call_input_open(operand, &input) < 0)
        status = 1;
    if (status == 0)
        status = connect_to_broker(caller);
    if (status == 0)
        status = describe(caller, service_name, &schema);
    if (status == 0) {
        service = mesh_schema_service(schema, service_name);
        method = service ? mesh_schema_method(service, name) : NULL;
        status = method
                     ? call_exchange(caller->channel, caller->flags, schema, service, method, input)
                     : fail_without_method(service, service_name, name);
    }
    mesh_schema_destroy(&schema);
    call_input_close(&input);
    return status;
}

static int run(struct caller *caller, int n, char **operands)
{
    const struct call_flags *flags = caller->flags;
    int status;

    if (!flags->list && !flags->describe)
        return call(caller, operands[0], n > 1 ? operands[1] : NULL);
    status = connect_to_broker(caller);
    if (status != 0)
        return status;
    if (flags->describe)
        return print_description(caller, operands[0]);
    return n > 0 ? list_methods(caller, operands[0]) : list_services(caller);
}

/* @return NULL when the operands fit the flags */
static const char *what_is_wrong(const struct call_flags *flags, int n)
{
    if (flags->list && flags->describe)
        return "give one of --list and --describe";
    if (flags->list)
        return n > 1 ? "--list takes one service, or none" : NULL;
    if (flags->describe)
        return n != 1 ? "--describe takes the name of one service" : NULL;
    if (n < 1)
        return "give a method, package.Service/Method; --list shows what is there";
    return n > 2 ? "give one method and one JSON text: quote it for the shell" : NULL;
}

int call_run(int argc, char **argv)
{
    struct call_flags flags = {.broker = "tcp://127.0.0.1:5601", .observe = OBSERVE_DEFAULTS};
    const struct config_option table[] = {
        {"broker", CONFIG_STRING, &flags.broker, "ENDPOINT", "the broker's caller side", NULL, 0,
         0},
        MESH_KEY_OPTIONS(flags.keys),
        {"list", CONFIG_BOOL, &flags.list, NULL,
         "list the services, or the methods of the one named", NULL, 0, 0},
        {"describe", CONFIG_BOOL, &flags.describe, NULL,
         "print the service named and its messages, as in a .proto", NULL, 0, 0},
        {"timeout", CONFIG_DOUBLE, &flags.timeout_s, "S", "the call's deadline; 0: none", NULL, 0,
         1e6},
        {"wait", CONFIG_BOOL, &flags.wait, NULL,
         "wait for the broker and a worker, up to --timeout", NULL, 0, 0},
        {"selector", CONFIG_STRING, &flags.selector, "KEY=VALUE,...",
         "which workers may serve the call", NULL, 0, 0},
        {"tenant", CONFIG_STRING, &flags.tenant, "NAME", "whose share of the queue pays", NULL, 0,
         0},
        {"metadata", CONFIG_LIST, &flags.metadata, "KEY=VALUE", "send along with the call", NULL, 0,
         0},
        {"show-metadata", CONFIG_BOOL, &flags.show_metadata, NULL,
         "print the answer's metadata and trailers, on standard error", NULL, 0, 0},
        {"json-defaults", CONFIG_BOOL, &flags.json_defaults, NULL,
         "print fields that have their default value, too", NULL, 0, 0},
        {"ignore-unknown", CONFIG_BOOL, &flags.ignore_unknown, NULL,
         "pass over fields that the request's type does not have", NULL, 0, 0},
        {"otlp-endpoint", CONFIG_STRING, &flags.observe.otlp_endpoint, "URL",
         "send the call's trace there; also OTEL_EXPORTER_OTLP_ENDPOINT", NULL, 0, 0},
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {
        .program = "dragoman call",
        .summary = "Calls any method of any service: JSON in, JSON out. Streams take and give a\n"
                   "message a line. JSON is the operand, @FILE, or standard input.",
        .operands = "METHOD [JSON]",
        .tables = tables};
    struct caller caller = {.flags = &flags};
    struct admin *admin = NULL; /* none is asked for */
    const char *wrong;
    int first, status;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    wrong = what_is_wrong(&flags, argc - first);
    if (wrong) {
        fprintf(stderr, "dragoman call: %s\n", wrong);
        return 2;
    }
    flags.observe.log_level = "error";
    signal(SIGPIPE, SIG_IGN); /* a pipe that closes is a write that fails */
    if (observe_start(&flags.observe, "dragoman-call", &admin) < 0)
        return 2;
    status = mesh_security_load(&flags.keys, &caller.security);
    caller.secure = status > 0;
    status = status < 0 ? 2 : run(&caller, argc - first, argv + first);
    mesh_channel_destroy(&caller.channel);
    mesh_security_wipe(&caller.security);
    observe_stop(&admin);
    return status;
}
