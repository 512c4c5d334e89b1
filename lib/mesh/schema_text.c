/* A schema's parts as .proto text, for people. */
#include "mesh/schema_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Messages to print, each once, in the order in which they were met. */
struct reached {
    const struct schema_type **types;
    size_t n;
    size_t max;
};

static const char *type_word(const field_proto *field)
{
    static const char *const WORDS[] = {
        "?",       "double",   "float",    "int64",  "uint64", "int32", "fixed64",
        "fixed32", "bool",     "string",   "group",  "?",      "bytes", "uint32",
        "?",       "sfixed32", "sfixed64", "sint32", "sint64",
    };

    return field->type_name ? field->type_name + 1 : WORDS[field->type % 19];
}

static void reach(const struct mesh_schema *schema, struct reached *reached, const char *name)
{
    const struct schema_type *type = schema_find(schema, name);

    for (size_t i = 0; i < reached->n; i++)
        if (reached->types[i] == type)
            return;
    if (type && reached->n < reached->max)
        reached->types[reached->n++] = type;
}

static void reach_fields(const struct mesh_schema *schema, struct reached *reached,
                         const message_proto *message)
{
    for (size_t i = 0; i < message->n_field; i++)
        if (message->field[i]->type_name)
            reach(schema, reached, message->field[i]->type_name);
}

/* ---- one of each ----------------------------------------------------------------------------- */

static int print_enum(const struct schema_type *type, struct buffer *out)
{
    int err = buffer_printf(out, "enum %s {\n", type->name);

    for (size_t i = 0; i < type->enumeration->n_value && err == 0; i++)
        err = buffer_printf(out, "  %s = %d;\n", type->enumeration->value[i]->name,
                            type->enumeration->value[i]->number);
    return err == 0 ? buffer_printf(out, "}\n") : err;
}

static const char *label_word(const struct schema_type *type, const field_proto *field)
{
    if (field->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED)
        return "repeated ";
    if (field->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REQUIRED)
        return "required ";
    if (field->has_oneof_index && !field->proto3_optional)
        return "";
    return field->proto3_optional || !type->proto3 ? "optional " : "";
}

static int print_field(const struct mesh_schema *schema, const struct schema_type *type,
                       const field_proto *field, const char *indent, struct buffer *out)
{
    const struct schema_type *target =
        field->type_name ? schema_find(schema, field->type_name) : NULL;

    if (target && target->message && mesh_schema_is_map_entry(target->message_out))
        return buffer_printf(out, "%s  map<%s, %s> %s = %d;\n", indent,
                             type_word(target->message->field[0]),
                             type_word(target->message->field[1]), field->name, field->number);
    return buffer_printf(out, "%s  %s%s %s = %d;\n", indent, label_word(type, field),
                         type_word(field), field->name, field->number);
}

static int print_oneof(const struct mesh_schema *schema, const struct schema_type *type, int index,
                       struct buffer *out)
{
    const char *name = type->message->oneof_decl[index]->name;
    int err = buffer_printf(out, "  oneof %s {\n", schema_is_name(name) ? name : "_");

    for (size_t i = 0; i < type->message->n_field && err == 0; i++) {
        const field_proto *field = type->message->field[i];

        if (field->has_oneof_index && !field->proto3_optional && field->oneof_index == index)
            err = print_field(schema, type, field, "  ", out);
    }
    return err == 0 ? buffer_printf(out, "  }\n") : err;
}

/* A oneof stands where its first field does. */
static bool is_first_of_oneof(const message_proto *message, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (message->field[i]->has_oneof_index && !message->field[i]->proto3_optional &&
            message->field[i]->oneof_index == message->field[at]->oneof_index)
            return false;
    return true;
}

static int print_message(const struct mesh_schema *schema, const struct schema_type *type,
                         struct buffer *out)
{
    const message_proto *message = type->message;
    int err = buffer_printf(out, "message %s {\n", type->name);

    for (size_t i = 0; i < message->n_field && err == 0; i++) {
        const field_proto *field = message->field[i];

        if (!field->has_oneof_index || field->proto3_optional)
            err = print_field(schema, type, field, "", out);
        else if (is_first_of_oneof(message, i))
            err = print_oneof(schema, type, field->oneof_index, out);
    }
    return err == 0 ? buffer_printf(out, "}\n") : err;
}

static int print_type(const struct mesh_schema *schema, const struct schema_type *type,
                      struct buffer *out)
{
    return type->message ? print_message(schema, type, out) : print_enum(type, out);
}

static int print_service(const struct mesh_schema_service *service, struct buffer *out)
{
    int err = buffer_printf(out, "service %s {\n", service->name);

    for (size_t i = 0; i < service->n_methods && err == 0; i++) {
        const struct mesh_schema_method *method = &service->methods[i];

        err = buffer_printf(out, "  rpc %s(%s%s) returns (%s%s);\n", method->name,
                            method->client_streams ? "stream " : "", method->input->name,
                            method->server_streams ? "stream " : "", method->output->name);
    }
    return err == 0 ? buffer_printf(out, "}\n") : err;
}

/* ---- all that a name reaches ----------------------------------------------------------------- */

static void reach_message(const struct mesh_schema *schema, struct reached *reached,
                          const ProtobufCMessageDescriptor *message)
{
    struct buffer name;

    buffer_init(&name, 2048);
    if (buffer_printf(&name, ".%s", message->name) == 0)
        reach(schema, reached, (char *)name.data);
    buffer_fini(&name);
}

static int print_reached(const struct mesh_schema *schema, struct reached *reached,
                         struct buffer *out)
{
    int err = 0;

    for (size_t i = 0; i < reached->n && err == 0; i++) {
        const struct schema_type *type = reached->types[i];
        bool entry = type->message && mesh_schema_is_map_entry(type->message_out);

        if (!entry && out->size > 0)
            err = buffer_printf(out, "\n");
        if (!entry && err == 0)
            err = print_type(schema, type, out);
        if (type->message)
            reach_fields(schema, reached, type->message);
    }
    return err;
}

int mesh_schema_print(const struct mesh_schema *schema, const char *name, struct buffer *out)
{
    const struct mesh_schema_service *service = mesh_schema_service(schema, name);
    const ProtobufCMessageDescriptor *message = mesh_schema_message(schema, name);
    struct reached reached = {.max = schema->n_types};
    struct buffer whole;
    int err = 0;

    reached.types = calloc(schema->n_types + 1, sizeof(*reached.types));
    if (!reached.types)
        return -ENOMEM;
    buffer_init(&whole, 2048);
    if (service) {
        err = print_service(service, out);
        for (size_t i = 0; i < service->n_methods; i++) {
            reach_message(schema, &reached, service->methods[i].input);
            reach_message(schema, &reached, service->methods[i].output);
        }
    } else if (message) {
        reach_message(schema, &reached, message);
    } else if (buffer_printf(&whole, ".%s", name) == 0) {
        reach(schema, &reached, (char *)whole.data);
    }
    if (err == 0)
        err = !service && reached.n == 0 ? -ENOENT : print_reached(schema, &reached, out);
    buffer_fini(&whole);
    free(reached.types);
    return err;
}
