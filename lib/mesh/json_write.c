#include "mesh/json.h"

#include "base/escape.h"
#include "mesh/json_private.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    const struct mesh_json_writing *how;
    struct buffer *out;
    int depth;
};

static int write_message(struct writer *writer, const ProtobufCMessage *message);

/* ---- text ------------------------------------------------------------------------------------ */

static int put(struct writer *writer, const char *text)
{
    return buffer_append(writer->out, text, strlen(text));
}

/* What is not UTF-8 becomes U+FFFD: the answer stays JSON. */
static int put_string(struct writer *writer, const char *text)
{
    int err = put(writer, "\"");

    if (err == 0)
        err = escape_append(writer->out, text ? text : "", true);
    return err == 0 ? put(writer, "\"") : err;
}

static int put_line(struct writer *writer)
{
    int err = writer->how->pretty ? put(writer, "\n") : 0;

    for (int i = 0; i < writer->depth && writer->how->pretty && err == 0; i++)
        err = put(writer, "  ");
    return err;
}

/* The shortest decimal that reads back the same. */
static int put_double(struct writer *writer, double value, bool single)
{
    char text[40];

    if (isnan(value))
        return put(writer, "\"NaN\"");
    if (isinf(value))
        return put(writer, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
            break;
    }
    return put(writer, text);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int put_enum(struct writer *writer, const ProtobufCEnumDescriptor *type, int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(type, number);

    return value ? put_string(writer, value->name) : buffer_printf(writer->out, "%d", number);
}

static int put_bytes(struct writer *writer, const ProtobufCBinaryData *bytes)
{
    int err = put(writer, "\"");

    if (err == 0)
        err = json_base64_write(bytes->data, bytes->len, writer->out);
    return err == 0 ? put(writer, "\"") : err;
}

static int put_value(struct writer *writer, const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return buffer_printf(writer->out, "%" PRId32, *(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return buffer_printf(writer->out, "%" PRIu32, *(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return buffer_printf(writer->out, "\"%" PRId64 "\"", *(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return buffer_printf(writer->out, "\"%" PRIu64 "\"", *(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return put_double(writer, *(const float *)at, true);
    case PROTOBUF_C_TYPE_DOUBLE:
        return put_double(writer, *(const double *)at, false);
    case PROTOBUF_C_TYPE_BOOL:
        return put(writer, *(const protobuf_c_boolean *)at ? "true" : "false");
    case PROTOBUF_C_TYPE_ENUM:
        return put_enum(writer, field->descriptor, *(const int *)at);
    case PROTOBUF_C_TYPE_STRING:
        return put_string(writer, *(const char *const *)at);
    case PROTOBUF_C_TYPE_BYTES:
        return put_bytes(writer, at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return write_message(writer, *(const ProtobufCMessage *const *)at);
    }
    return -EINVAL;
}

static int put_list(struct writer *writer, const ProtobufCFieldDescriptor *field, const void *at,
                    size_t n)
{
    int err = put(writer, "[");

    writer->depth++;
    for (size_t i = 0; i < n && err == 0; i++) {
        err = i > 0 ? put(writer, ",") : 0;
        if (err == 0)
            err = put_line(writer);
        if (err == 0)
            err = put_value(writer, field,
                            (const uint8_t *)at + i * mesh_schema_value_size(field->type));
    }
    writer->depth--;
    if (err == 0 && n > 0)
        err = put_line(writer);
    return err == 0 ? put(writer, "]") : err;
}

/* A key is a string in JSON, whatever it is here. */
static int put_key(struct writer *writer, const ProtobufCFieldDescriptor *field, const void *at)
{
    size_t before = writer->out->size;
    int err = put_value(writer, field, at);

    if (err < 0 || writer->out->data[before] == '"')
        return err;
    writer->out->size = before;
    err = put(writer, "\"");
    if (err == 0)
        err = put_value(writer, field, at);
    return err == 0 ? put(writer, "\"") : err;
}

/* An entry's value; a message that is not there is an empty one. */
static int put_entry_value(struct writer *writer, const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *field = &entry->descriptor->fields[1];
    const void *at = json_member(entry, field->offset);

    if (field->type == PROTOBUF_C_TYPE_MESSAGE && !*(const ProtobufCMessage *const *)at)
        return put(writer, "{}");
    return put_value(writer, field, at);
}

static int put_map(struct writer *writer, ProtobufCMessage *const *entries, size_t n)
{
    int err = put(writer, "{");

    writer->depth++;
    for (size_t i = 0; i < n && err == 0; i++) {
        const ProtobufCFieldDescriptor *key = &entries[i]->descriptor->fields[0];

        err = i > 0 ? put(writer, ",") : 0;
        if (err == 0)
            err = put_line(writer);
        if (err == 0)
            err = put_key(writer, key, json_member(entries[i], key->offset));
        if (err == 0)
            err = put(writer, writer->how->pretty ? ": " : ":");
        if (err == 0)
            err = put_entry_value(writer, entries[i]);
    }
    writer->depth--;
    if (err == 0 && n > 0)
        err = put_line(writer);
    return err == 0 ? put(writer, "}") : err;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool is_zero(const ProtobufCFieldDescriptor *field, const void *at)
{
    static const uint8_t ZERO[8];

    if (field->type == PROTOBUF_C_TYPE_STRING)
        return !*(const char *const *)at || !**(const char *const *)at;
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)at)->len == 0;
    return memcmp(at, ZERO, mesh_schema_value_size(field->type)) == 0;
}

static bool is_there(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                     bool defaults)
{
    const void *at = json_member(message, field->offset);
    const void *quantifier = json_member(message, field->quantifier_offset);

    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return defaults || *(const size_t *)quantifier > 0;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && *(const uint32_t *)quantifier != field->id)
        return false;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(const ProtobufCMessage *const *)at != NULL;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF || field->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (field->label == PROTOBUF_C_LABEL_NONE)
        return defaults || !is_zero(field, at);
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return *(const void *const *)at && *(const void *const *)at != field->default_value;
    return *(const protobuf_c_boolean *)quantifier;
}

static int put_field(struct writer *writer, const ProtobufCMessage *message,
                     const ProtobufCFieldDescriptor *field)
{
    const void *at = json_member(message, field->offset);
    size_t n;

    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return put_value(writer, field, at);
    n = *(const size_t *)json_member(message, field->quantifier_offset);
    at = *(const void *const *)at;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && mesh_schema_is_map_entry(field->descriptor))
        return put_map(writer, at, n);
    return put_list(writer, field, at, n);
}

static int write_fields(struct writer *writer, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    bool first = true;
    int err = put(writer, "{");

    writer->depth++;
    for (unsigned i = 0; i < type->n_fields && err == 0; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        char room[JSON_NAME_MAX];

        if (!is_there(message, field, writer->how->defaults))
            continue;
        err = first ? 0 : put(writer, ",");
        first = false;
        if (err == 0)
            err = put_line(writer);
        if (err == 0)
            err = put_string(writer, writer->how->original_names ? field->name
                                                                 : json_field_name(field, room));
        if (err == 0)
            err = put(writer, writer->how->pretty ? ": " : ":");
        if (err == 0)
            err = put_field(writer, message, field);
    }
    writer->depth--;
    if (err == 0 && !first)
        err = put_line(writer);
    return err == 0 ? put(writer, "}") : err;
}

static int write_time(struct writer *writer, const ProtobufCMessage *message, bool is_timestamp)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
    int64_t seconds = *(const int64_t *)json_member(message, fields[0].offset);
    int32_t nanos = *(const int32_t *)json_member(message, fields[1].offset);
    char text[JSON_TIME_MAX];
    int err = is_timestamp ? json_timestamp_write(seconds, nanos, text)
                           : json_duration_write(seconds, nanos, text);

    return err == 0 ? put_string(writer, text) : err;
}

static int write_message(struct writer *writer, const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;

    if (writer->depth > 3 * MESH_DEPTH_MAX) /* lists and maps count as well */
        return -EMSGSIZE;
    switch (json_known(message->descriptor)) {
    case JSON_TIMESTAMP:
        return write_time(writer, message, true);
    case JSON_DURATION:
        return write_time(writer, message, false);
    case JSON_WRAPPER:
        return put_value(writer, &fields[0], json_member(message, fields[0].offset));
    case JSON_PLAIN:
        break;
    }
    return write_fields(writer, message);
}

int mesh_json_write(const ProtobufCMessage *message, const struct mesh_json_writing *how,
                    struct buffer *out)
{
    static const struct mesh_json_writing DEFAULTS;
    struct writer writer = {.how = how ? how : &DEFAULTS, .out = out};
    size_t before = out->size;
    int err = write_message(&writer, message);

    if (err < 0)
        out->size = before;
    return err;
}
