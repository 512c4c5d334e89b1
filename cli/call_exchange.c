/* One call of any kind: lines of JSON become requests, answers become lines of JSON. */
#include "base/escape.h"
#include "cli/call.h"
#include "cli/client.h"
#include "mesh/json.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MEMORY_MAX ((size_t)1 << 30)
#define ANSWER_TEXT_MAX ((size_t)512 << 20)

struct exchange {
    const struct call_flags *flags;
    const struct mesh_schema *schema;
    const struct mesh_schema_method *method;
    struct call_input *input;
    struct mesh_stream *stream;
    atomic_int exit_status; /* of the side that sends */
};

int call_status_fail(const struct status *status)
{
    struct buffer message;

    buffer_init(&message, 8 * STATUS_MESSAGE_MAX);
    escape_append(&message, status->message, false); /* it may come from anyone */
    fflush(stdout);
    fprintf(stderr, "%s: %s", status_name(status->code), message.data ? (char *)message.data : "");
    buffer_fini(&message);
    if (status->retry_delay_ms > 0)
        fprintf(stderr, " (try again in %u ms)", status->retry_delay_ms);
    fputc('\n', stderr);
    return 1;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* JSON to an opaque message. @return 0; -errno after a message */
static int read_request(const struct exchange *exchange, const char *text, size_t size,
                        ProtobufCMessage **out)
{
    const struct mesh_json_reading how = {.ignore_unknown = exchange->flags->ignore_unknown};
    ProtobufCMessage *message = NULL;
    char why[MESH_JSON_WHY];
    int err = mesh_json_read(exchange->method->input, text, size, &how, &message, why);
    uint8_t *bytes;
    size_t n;

    if (err < 0) {
        client_fail("the request: %s", why);
        return err;
    }
    bytes = mesh_opaque_bytes(message, &n);
    protobuf_c_message_free_unpacked(message, NULL);
    err = bytes ? mesh_opaque_wrap(bytes, n, out) : -ENOMEM;
    free(bytes);
    if (err < 0)
        client_fail("the request: %s", strerror(-err));
    return err;
}

static int send_request(struct exchange *exchange, const char *text, size_t size)
{
    ProtobufCMessage *message = NULL;
    int err = read_request(exchange, text, size, &message);

    if (err < 0)
        return err;
    err = mesh_stream_write(exchange->stream, message, -1);
    protobuf_c_message_free_unpacked(message, NULL);
    if (err == -EMSGSIZE)
        client_fail("the request is larger than a message may be");
    return err;
}

/* Send all there is. A call that is over (-EPIPE) has a status, which says why. */
static void send_all(struct exchange *exchange)
{
    bool many = exchange->method->client_streams;
    const char *text;
    size_t size;
    int err;

    do {
        err = call_input_read(exchange->input, !many, &text, &size);
        if (err == -ENODATA && !many) { /* a request without a word is the empty one */
            text = "{}";
            size = 2;
            err = 0;
        }
        if (err == 0)
            err = send_request(exchange, text, size);
    } while (err == 0 && many);
    if (err == 0 || err == -ENODATA) {
        mesh_stream_finish(exchange->stream);
    } else if (err != -EPIPE && err != -ECANCELED) {
        atomic_store(&exchange->exit_status, err == -EINVAL || err == -EMSGSIZE ? 2 : 1);
        mesh_stream_cancel(exchange->stream);
    }
}

static void *send_thread(void *arg)
{
    send_all(arg);
    return NULL;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int print_message(const struct exchange *exchange, const ProtobufCMessage *message)
{
    const struct mesh_json_writing how = {
        .defaults = exchange->flags->json_defaults,
        .pretty = !exchange->method->server_streams && isatty(STDOUT_FILENO),
    };
    struct buffer text;
    int err;

    buffer_init(&text, ANSWER_TEXT_MAX);
    err = mesh_json_write(message, &how, &text);
    if (err == 0)
        err = buffer_append(&text, "\n", 1);
    if (err < 0)
        client_fail("the answer cannot be written as JSON: %s", strerror(-err));
    else if (fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout) != 0)
        err = -EPIPE;
    if (err == -EPIPE)
        client_fail("cannot write to standard output: %s", strerror(errno));
    buffer_fini(&text);
    return err;
}

static int print_answer(const struct exchange *exchange, const ProtobufCMessage *opaque)
{
    ProtobufCMessage *message = NULL;
    size_t size;
    uint8_t *bytes = mesh_opaque_bytes(opaque, &size);
    int err = bytes ? mesh_message_read(exchange->method->output, bytes, size, ANSWER_MEMORY_MAX,
                                        &message)
                    : -ENOMEM;

    free(bytes);
    if (err < 0) {
        client_fail("the answer is no %s: %s", exchange->method->output->name, strerror(-err));
        return err;
    }
    err = print_message(exchange, message);
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

static void print_metadata(const char *what, const struct mesh_metadata *metadata)
{
    for (size_t i = 0; i < mesh_metadata_count(metadata); i++) {
        const void *value;
        size_t size;
        const char *key = mesh_metadata_at(metadata, i, &value, &size);

        struct buffer text;

        buffer_init(&text, 8 * size + 1);
        escape_append(&text, value, false); /* NUL-terminated; of -bin what stands before a NUL */
        fprintf(stderr, "%s %s: %s\n", what, key, text.data ? (char *)text.data : "");
        buffer_fini(&text);
    }
}

/* @return 0; -errno after a message */
static int receive_all(struct exchange *exchange)
{
    ProtobufCMessage *message = NULL;
    bool first = true;
    int err;

    while ((err = mesh_stream_read(exchange->stream, &message, -1)) == 0) {
        if (first && exchange->flags->show_metadata)
            print_metadata("<", mesh_stream_initial_metadata(exchange->stream));
        first = false;
        err = print_answer(exchange, message);
        protobuf_c_message_free_unpacked(message, NULL);
        if (err < 0)
            return err;
    }
    if (exchange->flags->show_metadata)
        print_metadata("<<", mesh_stream_trailers(exchange->stream));
    return 0;
}

static int verdict(const struct exchange *exchange, int err)
{
    struct status status = {.code = STATUS_OK};
    const void *details;
    size_t size;

    if (atomic_load(&exchange->exit_status) != 0)
        return atomic_load(&exchange->exit_status); /* said already */
    if (err < 0)
        return 1;
    mesh_stream_status(exchange->stream, &status);
    if (status.code == STATUS_OK)
        return 0;
    call_status_fail(&status);
    details = mesh_stream_details(exchange->stream, &size);
    call_details_print(exchange->flags, exchange->schema, details, size);
    return 1;
}

static int ask_once(struct exchange *exchange)
{
    send_all(exchange);
    return verdict(exchange, receive_all(exchange));
}

/* Requests go from a thread of their own, so that answers are printed as they come. */
static int converse(struct exchange *exchange)
{
    pthread_t sender;
    int err = pthread_create(&sender, NULL, send_thread, exchange);

    if (err != 0)
        return client_fail("cannot start a thread: %s", strerror(err));
    err = receive_all(exchange);
    if (err < 0)
        mesh_stream_cancel(exchange->stream);
    call_input_stop(exchange->input);
    pthread_join(sender, NULL);
    return verdict(exchange, err);
}

/* ---- the call -------------------------------------------------------------------------------- */

/* "key=value" of the flags. @return 0; -EINVAL after a message */
static int read_metadata(const struct config_list *list, struct mesh_metadata **out)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *equals = strchr(list->items[i], '=');
        char key[65];
        int err = -EINVAL;

        if (equals && (size_t)(equals - list->items[i]) < sizeof(key)) {
            snprintf(key, sizeof(key), "%.*s", (int)(equals - list->items[i]), list->items[i]);
            err = mesh_metadata_add_text(out, key, equals + 1);
        }
        if (err < 0) {
            client_fail("--metadata: '%s' is not allowed: give KEY=VALUE, the key of a-z 0-9 . _ -",
                        list->items[i]);
            return err;
        }
    }
    return 0;
}

int call_exchange(struct mesh_channel *channel, const struct call_flags *flags,
                  const struct mesh_schema *schema, const struct mesh_schema_service *service,
                  const struct mesh_schema_method *method, struct call_input *input)
{
    struct exchange exchange = {.flags = flags, .schema = schema, .method = method, .input = input};
    struct mesh_call_options options = {
        .timeout_ms = (int64_t)(flags->timeout_s * 1000),
        .selector = flags->selector,
        .tenant = flags->tenant,
        .wait_for_ready = flags->wait,
        .compress = true,
    };
    struct mesh_metadata *metadata = NULL;
    int status = 2;
    int err = read_metadata(&flags->metadata, &metadata);

    options.metadata = metadata;
    if (err == 0) {
        err = mesh_stream_open(channel, service->opaque, method->name, &options, &exchange.stream);
        if (err == -EINVAL)
            client_fail("--selector: '%s' is not allowed: give KEY=VALUE,...", flags->selector);
        else if (err < 0)
            status = client_fail("cannot call: %s", strerror(-err));
    }
    if (err == 0)
        status = method->client_streams ? converse(&exchange) : ask_once(&exchange);
    mesh_stream_destroy(&exchange.stream);
    mesh_metadata_destroy(&metadata);
    return status;
}
