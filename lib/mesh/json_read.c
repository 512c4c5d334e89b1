#include "mesh/json.h"

#include "mesh/json_private.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SHOWN 40 /* bytes of a value that an error shows */
#define FLOAT_TOO_LARGE                                                                            \
    3.4028235677973366e38 /* from here on rounds to more than the largest float */
#define NAMES_SHOWN 8     /* names of an enum, fields of a message */

/* Where in the text a value stands: "a.b[2]". */
struct place {
    const struct place *above;
    const char *name; /* NULL: an element */
    size_t index;
};

struct reader {
    const struct mesh_json_reading *how;
    char *why;
    int depth;
};

static int read_object(struct reader *reader, const struct place *place, json_t *json,
                       const ProtobufCMessageDescriptor *type, ProtobufCMessage **out);

/* ---- errors ---------------------------------------------------------------------------------- */

static void print_place(const struct place *place, struct buffer *out)
{
    if (!place)
        return;
    print_place(place->above, out);
    if (place->name)
        buffer_printf(out, "%s%s", out->size > 0 ? "." : "", place->name);
    else
        buffer_printf(out, "[%zu]", place->index);
}

/* "a.b[2]: expected a string, not 3" */
static int refuse(struct reader *reader, const struct place *place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(struct reader *reader, const struct place *place, const char *fmt, ...)
{
    struct buffer path;
    va_list args;
    int n;

    buffer_init(&path, MESH_JSON_WHY / 2);
    print_place(place, &path);
    n = snprintf(reader->why, MESH_JSON_WHY, "%s%s", path.size > 0 ? (char *)path.data : "",
                 path.size > 0 ? ": " : "");
    buffer_fini(&path);
    va_start(args, fmt);
    vsnprintf(reader->why + n, (size_t)(MESH_JSON_WHY - n), fmt, args);
    va_end(args);
    return -EINVAL;
}

static const char *type_name(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return "a whole number of 32 bits";
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return "a whole number from 0 to 4294967295";
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return "a whole number of 64 bits (or it as a string)";
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return "a whole number from 0 to 18446744073709551615 (or it as a string)";
    case PROTOBUF_C_TYPE_FLOAT:
        return "a number of single precision, \"NaN\" or \"Infinity\"";
    case PROTOBUF_C_TYPE_DOUBLE:
        return "a number, \"NaN\" or \"Infinity\"";
    case PROTOBUF_C_TYPE_BOOL:
        return "true or false";
    case PROTOBUF_C_TYPE_STRING:
        return "a string";
    case PROTOBUF_C_TYPE_BYTES:
        return "a string of base64";
    default:
        return "an object";
    }
}

/* "not 3", the value as it stands in the text, cut. */
static int refuse_value(struct reader *reader, const struct place *place, const char *expected,
                        json_t *found)
{
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    int err = refuse(reader, place, "expected %s, not %.*s%s", expected, TEXT_SHOWN,
                     text ? text : "this", text && strlen(text) > TEXT_SHOWN ? "..." : "");

    free(text);
    return err;
}

static int refuse_enum(struct reader *reader, const struct place *place,
                       const ProtobufCEnumDescriptor *type, json_t *found)
{
    struct buffer names;
    int err;

    buffer_init(&names, 1024);
    for (unsigned i = 0; i < type->n_values && i < NAMES_SHOWN; i++)
        buffer_printf(&names, "%s%.64s", i > 0 ? ", " : "one of ", type->values[i].name);
    if (type->n_values > NAMES_SHOWN)
        buffer_printf(&names, ", ...");
    err = refuse_value(reader, place, names.data ? (char *)names.data : "a number", found);
    buffer_fini(&names);
    return err;
}

/* ---- values ---------------------------------------------------------------------------------- */

static int read_string(struct reader *reader, const struct place *place,
                       const ProtobufCFieldDescriptor *field, json_t *json, char **out)
{
    if (!json_is_string(json))
        return refuse_value(reader, place, type_name(field), json);
    *out = strdup(json_string_value(json));
    return *out ? 0 : -ENOMEM;
}

static int read_bytes(struct reader *reader, const struct place *place,
                      const ProtobufCFieldDescriptor *field, json_t *json, ProtobufCBinaryData *out)
{
    size_t size = json_string_length(json);
    uint8_t *data;
    int64_t n;

    if (!json_is_string(json))
        return refuse_value(reader, place, type_name(field), json);
    data = malloc(size / 4 * 3 + 3);
    if (!data)
        return -ENOMEM;
    n = json_base64_read(json_string_value(json), size, data);
    if (n < 0) {
        free(data);
        return refuse_value(reader, place, type_name(field), json);
    }
    out->data = data;
    out->len = (size_t)n;
    return 0;
}

/* What *at held before must be nothing. */
static int read_value(struct reader *reader, const struct place *place,
                      const ProtobufCFieldDescriptor *field, json_t *json, void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return read_string(reader, place, field, json, at);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(reader, place, field, json, at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_object(reader, place, json, field->descriptor, at);
    case PROTOBUF_C_TYPE_ENUM:
        return json_read_enum(json, field->descriptor, at)
                   ? 0
                   : refuse_enum(reader, place, field->descriptor, json);
    default:
        return json_read_scalar(field, json, at)
                   ? 0
                   : refuse_value(reader, place, type_name(field), json);
    }
}

/* Room for n elements. The count grows as they are read, so that what is freed is what is there. */
static int make_room(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t n,
                     size_t **count, uint8_t **elements)
{
    *count = json_member(message, field->quantifier_offset);
    *elements = n > 0 ? calloc(n, mesh_schema_value_size(field->type)) : NULL;
    *(void **)json_member(message, field->offset) = *elements;
    return n > 0 && !*elements ? -ENOMEM : 0;
}

static int read_list(struct reader *reader, const struct place *place,
                     const ProtobufCFieldDescriptor *field, json_t *json, ProtobufCMessage *message)
{
    size_t n = json_array_size(json);
    size_t *count;
    uint8_t *elements;
    int err;

    if (!json_is_array(json))
        return refuse_value(reader, place, "an array", json);
    err = make_room(message, field, n, &count, &elements);
    for (size_t i = 0; i < n && err == 0; i++) {
        struct place element = {.above = place, .index = i};

        err = read_value(reader, &element, field, json_array_get(json, i),
                         elements + i * mesh_schema_value_size(field->type));
        *count += err == 0;
    }
    return err;
}

static ProtobufCMessage *create(const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = calloc(1, type->sizeof_message);

    if (message && type->message_init)
        protobuf_c_message_init(type, message);
    else if (message)
        message->descriptor = type;
    return message;
}

/* A map's key as the text of a string: numbers and booleans are quoted there. */
static int read_key(struct reader *reader, const struct place *place,
                    const ProtobufCFieldDescriptor *field, const char *key, void *at)
{
    bool yes = strcmp(key, "true") == 0;
    json_t *json = field->type != PROTOBUF_C_TYPE_BOOL ? json_string(key)
                   : yes || strcmp(key, "false") == 0  ? json_boolean(yes)
                                                       : json_string(key);
    int err = json ? read_value(reader, place, field, json, at) : -ENOMEM;

    json_decref(json);
    return err;
}

static void set_there(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    void *quantifier = json_member(message, field->quantifier_offset);

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        *(uint32_t *)quantifier = field->id;
    else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_STRING &&
             field->type != PROTOBUF_C_TYPE_MESSAGE)
        *(protobuf_c_boolean *)quantifier = 1;
}

static int read_entry(struct reader *reader, const struct place *place,
                      const ProtobufCMessageDescriptor *type, const char *key, json_t *value,
                      ProtobufCMessage **out)
{
    const ProtobufCFieldDescriptor *fields = type->fields;
    ProtobufCMessage *entry = create(type);
    int err;

    if (!entry)
        return -ENOMEM;
    err = read_key(reader, place, &fields[0], key, json_member(entry, fields[0].offset));
    if (err == 0) {
        set_there(entry, &fields[0]);
        err = read_value(reader, place, &fields[1], value, json_member(entry, fields[1].offset));
    }
    if (err == 0) {
        set_there(entry, &fields[1]);
        *out = entry;
    } else {
        protobuf_c_message_free_unpacked(entry, NULL);
    }
    return err;
}

static int read_map(struct reader *reader, const struct place *place,
                    const ProtobufCFieldDescriptor *field, json_t *json, ProtobufCMessage *message)
{
    size_t *count;
    uint8_t *elements;
    const char *key;
    json_t *value;
    int err;

    if (!json_is_object(json))
        return refuse_value(reader, place, "an object (a map)", json);
    err = make_room(message, field, json_object_size(json), &count, &elements);
    json_object_foreach(json, key, value)
    {
        struct place element = {.above = place, .name = key};

        if (err < 0)
            break;
        err = read_entry(reader, &element, field->descriptor, key, value,
                         (ProtobufCMessage **)elements + *count);
        *count += err == 0;
    }
    return err;
}

/* ---- messages -------------------------------------------------------------------------------- */

static int read_time(struct reader *reader, const struct place *place, json_t *json,
                     bool is_timestamp, ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *fields = message->descriptor->fields;
    int64_t *seconds = json_member(message, fields[0].offset);
    int32_t *nanos = json_member(message, fields[1].offset);
    const char *text = json_string_value(json);
    int err = -EINVAL;

    if (text)
        err = is_timestamp ? json_timestamp_read(text, seconds, nanos)
                           : json_duration_read(text, seconds, nanos);
    if (err == 0)
        return 0;
    return refuse_value(
        reader, place,
        is_timestamp ? "a time like \"2024-05-01T12:00:00Z\"" : "a duration like \"1.5s\"", json);
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type,
                                                  const char *key)
{
    char room[JSON_NAME_MAX];

    for (unsigned i = 0; i < type->n_fields; i++)
        if (strcmp(json_field_name(&type->fields[i], room), key) == 0)
            return &type->fields[i];
    for (unsigned i = 0; i < type->n_fields; i++)
        if (strcmp(type->fields[i].name, key) == 0)
            return &type->fields[i];
    return NULL;
}

static int refuse_field(struct reader *reader, const struct place *place,
                        const ProtobufCMessageDescriptor *type, const char *key)
{
    struct buffer names;
    char room[JSON_NAME_MAX];
    int err;

    buffer_init(&names, 1024);
    for (unsigned i = 0; i < type->n_fields && i < NAMES_SHOWN; i++)
        buffer_printf(&names, "%s%.64s", i > 0 ? ", " : "",
                      json_field_name(&type->fields[i], room));
    if (type->n_fields > NAMES_SHOWN)
        buffer_printf(&names, ", ...");
    err = refuse(reader, place, "%s has no field '%.64s'; it has %s", type->name, key,
                 names.data ? (char *)names.data : "none");
    buffer_fini(&names);
    return err;
}

/* Whether another name of the field, or another field of its oneof, came before. */
static bool is_taken(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                     const uint8_t *seen)
{
    if (seen[field - message->descriptor->fields])
        return true;
    return field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
           *(const uint32_t *)json_member(message, field->quantifier_offset) != 0;
}

static int read_field(struct reader *reader, const struct place *place, json_t *json,
                      const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
    int err;

    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        err = read_value(reader, place, field, json, json_member(message, field->offset));
        if (err == 0)
            set_there(message, field);
        return err;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && mesh_schema_is_map_entry(field->descriptor))
        return read_map(reader, place, field, json, message);
    return read_list(reader, place, field, json, message);
}

static int read_fields(struct reader *reader, const struct place *place, json_t *json,
                       ProtobufCMessage *message, uint8_t *seen)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    const char *key;
    json_t *value;
    int err = 0;

    json_object_foreach(json, key, value)
    {
        const ProtobufCFieldDescriptor *field = find_field(type, key);
        struct place inner = {.above = place, .name = key};

        if (!field && reader->how->ignore_unknown)
            continue;
        if (!field)
            return refuse_field(reader, place, type, key);
        if (json_is_null(value)) /* as if it were not there */
            continue;
        if (is_taken(message, field, seen))
            return refuse(reader, &inner, "it, or another field of its oneof, is there already");
        seen[field - type->fields] = 1;
        err = read_field(reader, &inner, value, field, message);
        if (err < 0)
            return err;
    }
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].label == PROTOBUF_C_LABEL_REQUIRED && !seen[i])
            return refuse(reader, place, "%s needs field '%s'", type->name, type->fields[i].name);
    return err;
}

static int read_plain(struct reader *reader, const struct place *place, json_t *json,
                      ProtobufCMessage *message)
{
    uint8_t *seen;
    char expected[JSON_NAME_MAX + 32];
    int err;

    if (!json_is_object(json)) {
        snprintf(expected, sizeof(expected), "an object (%.200s)", message->descriptor->name);
        return refuse_value(reader, place, expected, json);
    }
    seen = calloc(message->descriptor->n_fields + 1, 1);
    if (!seen)
        return -ENOMEM;
    err = read_fields(reader, place, json, message, seen);
    free(seen);
    return err;
}

static int read_object(struct reader *reader, const struct place *place, json_t *json,
                       const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
    ProtobufCMessage *message;
    int err;

    if (reader->depth >= MESH_DEPTH_MAX) {
        refuse(reader, place, "nested deeper than %d", MESH_DEPTH_MAX);
        return -EMSGSIZE;
    }
    message = create(type);
    if (!message)
        return -ENOMEM;
    reader->depth++;
    switch (json_known(type)) {
    case JSON_TIMESTAMP:
    case JSON_DURATION:
        err = read_time(reader, place, json, json_known(type) == JSON_TIMESTAMP, message);
        break;
    case JSON_WRAPPER:
        err = read_field(reader, place, json, &type->fields[0], message);
        break;
    default:
        err = read_plain(reader, place, json, message);
    }
    reader->depth--;
    if (err == 0)
        *out = message;
    else
        protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

int mesh_json_read(const ProtobufCMessageDescriptor *type, const char *text, size_t size,
                   const struct mesh_json_reading *how, ProtobufCMessage **out,
                   char why[MESH_JSON_WHY])
{
    static const struct mesh_json_reading STRICT;
    struct reader reader = {.how = how ? how : &STRICT, .why = why};
    json_error_t error;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    int err;

    if (!json)
        return refuse(&reader, NULL, "not JSON: %s at line %d, column %d", error.text, error.line,
                      error.column);
    snprintf(why, MESH_JSON_WHY, "no memory");
    err = read_object(&reader, NULL, json, type, out);
    json_decref(json);
    return err;
}
