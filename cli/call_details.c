/* The details of a failed call's status: as JSON where reflection knows their type. */
#include "cli/call.h"
#include "mesh/details.h"
#include "mesh/json.h"

#include <stdio.h>

#define DETAILS_MEMORY_MAX ((size_t)1 << 20)
#define DETAILS_TEXT_MAX ((size_t)1 << 20)

/* @return whether it could be written */
static bool print_message(const struct call_flags *flags, const ProtobufCMessage *message)
{
    const struct mesh_json_writing how = {.defaults = flags->json_defaults};
    struct buffer text;
    bool ok;

    buffer_init(&text, DETAILS_TEXT_MAX);
    ok = mesh_json_write(message, &how, &text) == 0;
    if (ok)
        fprintf(stderr, "details %s: %.*s\n", message->descriptor->name, (int)text.size,
                (const char *)text.data);
    buffer_fini(&text);
    return ok;
}

static void print_typed(const struct call_flags *flags, const struct mesh_schema *schema,
                        const struct mesh_details *details)
{
    const ProtobufCMessageDescriptor *type = mesh_schema_message(schema, details->type);
    ProtobufCMessage *message = NULL;
    bool ok = false;

    if (!type) {
        fprintf(stderr, "details %s: %zu bytes; reflection does not know this type\n",
                details->type, details->size);
        return;
    }
    if (mesh_message_read(type, details->value, details->size, DETAILS_MEMORY_MAX, &message) == 0)
        ok = print_message(flags, message);
    if (!ok)
        fprintf(stderr, "details %s: %zu bytes that are none\n", details->type, details->size);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

void call_details_print(const struct call_flags *flags, const struct mesh_schema *schema,
                        const void *details, size_t size)
{
    struct mesh_details opened;

    if (!details)
        return;
    if (mesh_details_open(details, size, &opened) == 0)
        print_typed(flags, schema, &opened);
    else
        fprintf(stderr, "details: %zu bytes without a type\n", size);
}
