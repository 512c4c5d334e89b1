#include "mesh/reflect_fields.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__OneofDescriptorProto oneof_proto;

#define ONEOFS_MAX 64 /* of one message */

/* ---- memory ---------------------------------------------------------------------------------- */

struct reflect_block {
    struct reflect_block *next;
    max_align_t data[];
};

static void *allocate(struct reflect_arena *arena, size_t size)
{
    struct reflect_block *block = malloc(sizeof(*block) + size);

    if (!block)
        return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    return block->data;
}

void reflect_arena_fini(struct reflect_arena *arena)
{
    while (arena->blocks) {
        struct reflect_block *block = arena->blocks;

        arena->blocks = block->next;
        free(block);
    }
}

void *reflect_make(struct reflect_arena *arena, const ProtobufCMessageDescriptor *type)
{
    void *message = allocate(arena, type->sizeof_message);

    if (message)
        protobuf_c_message_init(type, message);
    return message;
}

char *reflect_text(struct reflect_arena *arena, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0)
        text = allocate(arena, (size_t)n + 1);
    if (!text)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}

/* Room doubles whenever the count is a power of two. */
bool reflect_append(struct reflect_arena *arena, void *list, size_t *n, void *item)
{
    void ***items = list;

    if ((*n & (*n - 1)) == 0) {
        void **grown = allocate(arena, (*n ? *n * 2 : 1) * sizeof(void *));

        if (!grown)
            return false;
        if (*n > 0)
            memcpy(grown, *items, *n * sizeof(void *));
        *items = grown;
    }
    (*items)[(*n)++] = item;
    return true;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* protoc's rule: "lang_id" is "langId". */
static char *json_name(struct reflect_arena *arena, const char *name)
{
    char *json = reflect_text(arena, "%s", name);
    size_t n = 0;
    bool upper = false;

    for (const char *at = name; json && *at; at++) {
        if (*at == '_') {
            upper = true;
            continue;
        }
        json[n++] = upper ? (char)toupper((unsigned char)*at) : *at;
        upper = false;
    }
    if (json)
        json[n] = '\0';
    return json;
}

/* protoc names the entry of map<..> lang_id "LangIdEntry". */
static bool is_entry_of(const char *entry, const char *field)
{
    bool upper = true;

    for (; *field; field++) {
        if (*field == '_') {
            upper = true;
            continue;
        }
        if (*entry++ != (upper ? (char)toupper((unsigned char)*field) : *field))
            return false;
        upper = false;
    }
    return strcmp(entry, "Entry") == 0;
}

const char *reflect_package_of(const ProtobufCFieldDescriptor *field)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return ((const ProtobufCMessageDescriptor *)field->descriptor)->package_name;
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return ((const ProtobufCEnumDescriptor *)field->descriptor)->package_name;
    return NULL;
}

static const char *type_name_of(const ProtobufCFieldDescriptor *field)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return ((const ProtobufCMessageDescriptor *)field->descriptor)->name;
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return ((const ProtobufCEnumDescriptor *)field->descriptor)->name;
    return NULL;
}

/* ---- types ----------------------------------------------------------------------------------- */

#define TYPE(name)                                                                                 \
    [PROTOBUF_C_TYPE_##name] = GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_##name

static const Google__Protobuf__FieldDescriptorProto__Type TYPES[] = {
    TYPE(INT32),  TYPE(SINT32),  TYPE(SFIXED32), TYPE(INT64),   TYPE(SINT64),  TYPE(SFIXED64),
    TYPE(UINT32), TYPE(FIXED32), TYPE(UINT64),   TYPE(FIXED64), TYPE(FLOAT),   TYPE(DOUBLE),
    TYPE(BOOL),   TYPE(ENUM),    TYPE(STRING),   TYPE(BYTES),   TYPE(MESSAGE),
};

static bool is_packable(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED && field->type != PROTOBUF_C_TYPE_STRING &&
           field->type != PROTOBUF_C_TYPE_BYTES && field->type != PROTOBUF_C_TYPE_MESSAGE;
}

static Google__Protobuf__FieldDescriptorProto__Label label_of(const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED;
    if (field->label == PROTOBUF_C_LABEL_REQUIRED)
        return GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REQUIRED;
    return GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_OPTIONAL;
}

/* `packed` is said only where it is not what the syntax takes for granted. */
static bool add_options(struct reflect_arena *arena, field_proto *field,
                        const ProtobufCFieldDescriptor *type, bool proto3)
{
    bool packed = (type->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0;
    bool say_packed = is_packable(type) && packed != proto3;
    bool deprecated = (type->flags & PROTOBUF_C_FIELD_FLAG_DEPRECATED) != 0;

    if (!say_packed && !deprecated)
        return true;
    field->options = reflect_make(arena, &google__protobuf__field_options__descriptor);
    if (!field->options)
        return false;
    field->options->has_packed = say_packed;
    field->options->packed = packed;
    field->options->has_deprecated = field->options->deprecated = deprecated;
    return true;
}

/* ---- default values, of proto2 --------------------------------------------------------------- */

static char *floating_text(struct reflect_arena *arena, double value, int digits)
{
    if (isnan(value))
        return reflect_text(arena, "nan");
    if (isinf(value))
        return reflect_text(arena, value > 0 ? "inf" : "-inf");
    return reflect_text(arena, "%.*g", digits, value);
}

/* C escapes, as protoc writes bytes. */
static char *bytes_text(struct reflect_arena *arena, const ProtobufCBinaryData *bytes)
{
    char *text = allocate(arena, bytes->len * 4 + 1), *at = text;

    for (size_t i = 0; text && i < bytes->len; i++) {
        uint8_t byte = bytes->data[i];
        const char *named = byte ? strchr("\nn\rr\tt\"\"''\\\\", byte) : NULL;

        if (named && (named - "\nn\rr\tt\"\"''\\\\") % 2 == 0)
            at += sprintf(at, "\\%c", named[1]);
        else if (byte < 0x20 || byte >= 0x7f)
            at += sprintf(at, "\\%03o", byte);
        else
            *at++ = (char)byte;
    }
    if (text)
        *at = '\0';
    return text;
}

static const char *enum_text(const ProtobufCEnumDescriptor *type, int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(type, number);

    return value ? value->name : "";
}

static char *default_text(struct reflect_arena *arena, const ProtobufCFieldDescriptor *field)
{
    const void *value = field->default_value;

    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return reflect_text(arena, "%d", *(const int32_t *)value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return reflect_text(arena, "%u", *(const uint32_t *)value);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return reflect_text(arena, "%lld", (long long)*(const int64_t *)value);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return reflect_text(arena, "%llu", (unsigned long long)*(const uint64_t *)value);
    case PROTOBUF_C_TYPE_FLOAT:
        return floating_text(arena, *(const float *)value, 6);
    case PROTOBUF_C_TYPE_DOUBLE:
        return floating_text(arena, *(const double *)value, 15);
    case PROTOBUF_C_TYPE_BOOL:
        return reflect_text(arena, *(const protobuf_c_boolean *)value ? "true" : "false");
    case PROTOBUF_C_TYPE_ENUM:
        return reflect_text(arena, "%s", enum_text(field->descriptor, *(const int *)value));
    case PROTOBUF_C_TYPE_STRING:
        return reflect_text(arena, "%s", (const char *)value);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_text(arena, value);
    default:
        return reflect_text(arena, "%s", "");
    }
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* Fields of a oneof share the place of their case. */
struct oneofs {
    unsigned places[ONEOFS_MAX];
    size_t n;
};

static bool add_oneof(struct reflect_arena *arena, reflect_message *message, struct oneofs *oneofs,
                      field_proto *field, unsigned place)
{
    oneof_proto *oneof;
    size_t i = 0;

    while (i < oneofs->n && oneofs->places[i] != place)
        i++;
    if (i == ONEOFS_MAX)
        return true; /* a plain field, then */
    field->has_oneof_index = true;
    field->oneof_index = (int32_t)i;
    if (i < oneofs->n)
        return true;
    oneofs->places[oneofs->n++] = place;
    oneof = reflect_make(arena, &google__protobuf__oneof_descriptor_proto__descriptor);
    if (!oneof || !reflect_append(arena, &message->oneof_decl, &message->n_oneof_decl, oneof))
        return false;
    oneof->name = reflect_text(arena, "oneof_%zu", oneofs->n);
    return oneof->name != NULL;
}

static bool fill_field(struct reflect_arena *arena, field_proto *field,
                       const ProtobufCFieldDescriptor *type, bool proto3)
{
    const char *type_name = type_name_of(type);

    field->name = (char *)type->name;
    field->json_name = json_name(arena, type->name);
    field->has_number = field->has_label = field->has_type = true;
    field->number = (int32_t)type->id;
    field->label = label_of(type);
    field->type = TYPES[type->type];
    if (type_name)
        field->type_name = reflect_text(arena, ".%s", type_name);
    if (!proto3 && type->default_value && type->label != PROTOBUF_C_LABEL_REPEATED)
        field->default_value = default_text(arena, type);
    return field->json_name && (field->type_name || !type_name);
}

static bool mark_entry(struct reflect_arena *arena, reflect_message *message)
{
    message->options = reflect_make(arena, &google__protobuf__message_options__descriptor);
    if (!message->options)
        return false;
    message->options->has_map_entry = message->options->map_entry = true;
    return true;
}

/* A message is a map's entry when its outer message has the field for it: known once that is described. */
static bool is_map(const ProtobufCMessageDescriptor *outer, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t n = strlen(outer->name);

    return field->type == PROTOBUF_C_TYPE_MESSAGE && field->label == PROTOBUF_C_LABEL_REPEATED &&
           strncmp(entry->name, outer->name, n) == 0 && entry->name[n] == '.' &&
           !strchr(entry->name + n + 1, '.') && is_entry_of(entry->name + n + 1, field->name) &&
           entry->n_fields == 2 && strcmp(entry->fields[0].name, "key") == 0 &&
           strcmp(entry->fields[1].name, "value") == 0;
}

/* Make the entry here; its own turn fills it. */
static bool add_entry(struct reflect_arena *arena, reflect_message *message,
                      const ProtobufCMessageDescriptor *entry)
{
    reflect_message *nested = reflect_make(arena, &google__protobuf__descriptor_proto__descriptor);

    if (!nested || !reflect_append(arena, &message->nested_type, &message->n_nested_type, nested))
        return false;
    nested->name = strrchr((char *)entry->name, '.') + 1;
    return mark_entry(arena, nested);
}

bool reflect_fields(struct reflect_arena *arena, reflect_message *message,
                    const ProtobufCMessageDescriptor *type, bool proto3)
{
    struct oneofs oneofs = {.n = 0};
    bool ok = true;

    for (unsigned i = 0; i < type->n_fields && ok; i++) {
        const ProtobufCFieldDescriptor *from = &type->fields[i];
        field_proto *field =
            reflect_make(arena, &google__protobuf__field_descriptor_proto__descriptor);

        ok = field && reflect_append(arena, &message->field, &message->n_field, field) &&
             fill_field(arena, field, from, proto3) && add_options(arena, field, from, proto3);
        if (ok && from->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
            ok = add_oneof(arena, message, &oneofs, field, from->quantifier_offset);
        if (ok && is_map(type, from))
            ok = add_entry(arena, message, from->descriptor);
    }
    return ok;
}
