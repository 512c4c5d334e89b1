/* Messages and enums: from their description to protobuf-c's descriptors and a layout in memory. */
#include "mesh/schema_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIELD_ID_MAX ((1 << 29) - 1)

static char map_entry_mark; /* where reserved1 of a map entry's descriptor points */

bool mesh_schema_is_map_entry(const ProtobufCMessageDescriptor *type)
{
    return type->reserved1 == &map_entry_mark;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

/* protobuf-c looks numbers up in runs of them. @return the runs, one more at the end; NULL: no memory */
static ProtobufCIntRange *build_ranges(struct mesh_schema *schema, const int *numbers, size_t n,
                                       unsigned *n_ranges)
{
    ProtobufCIntRange *ranges = schema_alloc(schema, n + 1, sizeof(*ranges));
    unsigned at = 0;

    if (!ranges)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || numbers[i] != numbers[i - 1] + 1)
            ranges[at++] = (ProtobufCIntRange){numbers[i], (unsigned)i};
    ranges[at] = (ProtobufCIntRange){0, (unsigned)n};
    *n_ranges = at;
    return ranges;
}

/* ---- enums ----------------------------------------------------------------------------------- */

static int value_by_number(const void *a, const void *b)
{
    int left = ((const ProtobufCEnumValue *)a)->value;
    int right = ((const ProtobufCEnumValue *)b)->value;

    return (left > right) - (left < right);
}

static int value_by_name(const void *a, const void *b)
{
    return strcmp(((const ProtobufCEnumValueIndex *)a)->name,
                  ((const ProtobufCEnumValueIndex *)b)->name);
}

static const char *short_of(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

/* The first value of each number stays; n of them before. @return how many are left */
static size_t drop_aliases(const enum_proto *from, ProtobufCEnumValue *values, size_t n)
{
    size_t kept = 0;

    qsort(values, n, sizeof(*values), value_by_number);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || values[kept - 1].value != values[i].value)
            values[kept++] = values[i];
    for (size_t i = 0; i < kept; i++) /* qsort() is not stable: the first declared gives its name */
        for (size_t j = 0; j < n; j++)
            if (from->value[j]->number == values[i].value) {
                values[i].name = values[i].c_name = from->value[j]->name;
                break;
            }
    return kept;
}

static void index_names(const enum_proto *from, ProtobufCEnumDescriptor *to,
                        ProtobufCEnumValueIndex *names)
{
    for (unsigned i = 0; i < to->n_value_names; i++) {
        ProtobufCEnumValue key = {.value = from->value[i]->number};
        const ProtobufCEnumValue *value =
            bsearch(&key, to->values, to->n_values, sizeof(key), value_by_number);

        names[i] = (ProtobufCEnumValueIndex){from->value[i]->name, (unsigned)(value - to->values)};
    }
    qsort(names, to->n_value_names, sizeof(*names), value_by_name);
}

int schema_build_enum(struct mesh_schema *schema, const struct schema_type *type)
{
    const enum_proto *from = type->enumeration;
    ProtobufCEnumDescriptor *to = type->enum_out;
    size_t n = from->n_value;
    ProtobufCEnumValue *values;
    ProtobufCEnumValueIndex *names;
    int *numbers;
    int err = schema_count(schema, n);

    if (err < 0)
        return err;
    values = schema_alloc(schema, n, sizeof(*values));
    names = schema_alloc(schema, n, sizeof(*names));
    numbers = schema_alloc(schema, n, sizeof(*numbers));
    if (!values || !names || !numbers)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (!schema_is_name(from->value[i]->name))
            return schema_refuse(schema, "a value of '%.200s' has no proper name", type->name);
        values[i] = (ProtobufCEnumValue){.name = from->value[i]->name,
                                         .c_name = from->value[i]->name,
                                         .value = from->value[i]->number};
    }
    *to = (ProtobufCEnumDescriptor){.magic = PROTOBUF_C__ENUM_DESCRIPTOR_MAGIC,
                                    .name = type->name,
                                    .short_name = short_of(type->name),
                                    .c_name = short_of(type->name),
                                    .package_name = "",
                                    .values = values,
                                    .n_value_names = (unsigned)n,
                                    .values_by_name = names};
    to->n_values = (unsigned)drop_aliases(from, values, n);
    index_names(from, to, names);
    for (unsigned i = 0; i < to->n_values; i++)
        numbers[i] = values[i].value;
    to->value_ranges = build_ranges(schema, numbers, to->n_values, &to->n_value_ranges);
    return to->value_ranges ? 0 : -ENOMEM;
}

/* ---- a field's kind -------------------------------------------------------------------------- */

/* protobuf's number of a type to protobuf-c's; -1: not supported. */
static int type_out(int type)
{
    static const signed char TYPES[] = {
        [1] = PROTOBUF_C_TYPE_DOUBLE,    [2] = PROTOBUF_C_TYPE_FLOAT,
        [3] = PROTOBUF_C_TYPE_INT64,     [4] = PROTOBUF_C_TYPE_UINT64,
        [5] = PROTOBUF_C_TYPE_INT32,     [6] = PROTOBUF_C_TYPE_FIXED64,
        [7] = PROTOBUF_C_TYPE_FIXED32,   [8] = PROTOBUF_C_TYPE_BOOL,
        [9] = PROTOBUF_C_TYPE_STRING,    [10] = -1,
        [11] = PROTOBUF_C_TYPE_MESSAGE,  [12] = PROTOBUF_C_TYPE_BYTES,
        [13] = PROTOBUF_C_TYPE_UINT32,   [14] = PROTOBUF_C_TYPE_ENUM,
        [15] = PROTOBUF_C_TYPE_SFIXED32, [16] = PROTOBUF_C_TYPE_SFIXED64,
        [17] = PROTOBUF_C_TYPE_SINT32,   [18] = PROTOBUF_C_TYPE_SINT64,
    };

    return type >= 1 && type <= 18 ? TYPES[type] : -1;
}

static bool is_packable(ProtobufCType type)
{
    return type != PROTOBUF_C_TYPE_STRING && type != PROTOBUF_C_TYPE_BYTES &&
           type != PROTOBUF_C_TYPE_MESSAGE;
}

static int resolve(struct mesh_schema *schema, const struct schema_type *type,
                   const field_proto *from, ProtobufCFieldDescriptor *to)
{
    const struct schema_type *target =
        from->type_name ? schema_find(schema, from->type_name) : NULL;

    if (to->type == PROTOBUF_C_TYPE_MESSAGE)
        to->descriptor = target ? target->message_out : NULL;
    else if (to->type == PROTOBUF_C_TYPE_ENUM)
        to->descriptor = target ? target->enum_out : NULL;
    else
        return 0;
    if (to->descriptor)
        return 0;
    return schema_refuse(schema, "field '%.80s' of '%.80s': its type is not in the set", from->name,
                         type->name);
}

static ProtobufCLabel label_of(const struct schema_type *type, const field_proto *from,
                               ProtobufCType kind)
{
    if (from->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED)
        return PROTOBUF_C_LABEL_REPEATED;
    if (from->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REQUIRED)
        return PROTOBUF_C_LABEL_REQUIRED;
    if (!type->proto3 || from->proto3_optional || kind == PROTOBUF_C_TYPE_MESSAGE)
        return PROTOBUF_C_LABEL_OPTIONAL;
    return PROTOBUF_C_LABEL_NONE;
}

static uint32_t flags_of(const struct schema_type *type, const field_proto *from,
                         const ProtobufCFieldDescriptor *to)
{
    bool packed = from->options && from->options->has_packed ? from->options->packed : type->proto3;
    uint32_t flags = 0;

    if (to->label == PROTOBUF_C_LABEL_REPEATED && packed && is_packable(to->type))
        flags |= PROTOBUF_C_FIELD_FLAG_PACKED;
    if (from->has_oneof_index && !from->proto3_optional)
        flags |= PROTOBUF_C_FIELD_FLAG_ONEOF;
    return flags;
}

static int build_field(struct mesh_schema *schema, const struct schema_type *type,
                       const field_proto *from, ProtobufCFieldDescriptor *to)
{
    int kind = type_out(from->type);

    if (!schema_is_name(from->name))
        return schema_refuse(schema, "a field of '%.200s' has no proper name", type->name);
    if (from->number < 1 || from->number > FIELD_ID_MAX)
        return schema_refuse(schema, "field '%.80s' of '%.80s': %d is no field number", from->name,
                             type->name, from->number);
    if (kind < 0)
        return schema_refuse(schema, "field '%.80s' of '%.80s': type %d is not supported",
                             from->name, type->name, (int)from->type);
    to->name = from->name;
    to->id = (uint32_t)from->number;
    to->type = (ProtobufCType)kind;
    to->label = label_of(type, from, to->type);
    to->flags = flags_of(type, from, to);
    to->reserved2 = from->json_name;
    if (to->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
        (to->label == PROTOBUF_C_LABEL_REPEATED || to->label == PROTOBUF_C_LABEL_REQUIRED ||
         from->oneof_index < 0 || (size_t)from->oneof_index >= type->message->n_oneof_decl))
        return schema_refuse(schema, "field '%.80s' of '%.80s': no such oneof", from->name,
                             type->name);
    return resolve(schema, type, from, to);
}

/* ---- the layout ------------------------------------------------------------------------------ */

size_t mesh_schema_value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4; /* booleans are ints to protobuf-c */
    }
}

/* Every place is a multiple of eight: simple, and aligned for all. */
static unsigned take(size_t *size, size_t n)
{
    size_t at = *size;

    *size += (n + 7) / 8 * 8;
    return (unsigned)at;
}

struct oneof_place {
    unsigned case_offset, value_offset;
};

/* The places of the oneofs: a number that says which field, and room for the largest. */
static struct oneof_place *place_oneofs(struct mesh_schema *schema, size_t n, size_t *size)
{
    struct oneof_place *places = schema_alloc(schema, n, sizeof(*places));

    for (size_t i = 0; places && i < n; i++) {
        places[i].case_offset = take(size, sizeof(uint32_t));
        places[i].value_offset = take(size, sizeof(ProtobufCBinaryData));
    }
    return places;
}

static void place_field(ProtobufCFieldDescriptor *field, size_t *size)
{
    bool has = field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_STRING &&
               field->type != PROTOBUF_C_TYPE_MESSAGE;

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        field->quantifier_offset = take(size, sizeof(size_t));
        field->offset = take(size, sizeof(void *));
        return;
    }
    if (has)
        field->quantifier_offset = take(size, sizeof(protobuf_c_boolean));
    field->offset = take(size, mesh_schema_value_size(field->type));
}

/* ---- messages -------------------------------------------------------------------------------- */

struct numbered { /* a field and where its description stands */
    ProtobufCFieldDescriptor field;
    const field_proto *from;
};

static int field_by_id(const void *a, const void *b)
{
    uint32_t left = ((const struct numbered *)a)->field.id;
    uint32_t right = ((const struct numbered *)b)->field.id;

    return (left > right) - (left < right);
}

static void sort_names(const ProtobufCFieldDescriptor *fields, unsigned *order, size_t n)
{
    for (size_t gap = n / 2; gap > 0; gap /= 2) /* Shell's sort */
        for (size_t i = gap; i < n; i++) {
            unsigned moved = order[i];
            size_t at = i;

            for (; at >= gap && strcmp(fields[order[at - gap]].name, fields[moved].name) > 0;
                 at -= gap)
                order[at] = order[at - gap];
            order[at] = moved;
        }
}

/* Fields by number into the descriptor, each with its place in memory. */
static int lay_out(struct mesh_schema *schema, const struct schema_type *type,
                   const struct numbered *numbered, ProtobufCFieldDescriptor *fields,
                   unsigned *order, int *numbers)
{
    ProtobufCMessageDescriptor *to = type->message_out;
    size_t size = sizeof(ProtobufCMessage);
    struct oneof_place *oneofs = place_oneofs(schema, type->message->n_oneof_decl, &size);

    if (!oneofs)
        return -ENOMEM;
    for (unsigned i = 0; i < to->n_fields; i++) {
        fields[i] = numbered[i].field;
        order[i] = i;
        numbers[i] = (int)fields[i].id;
        if (i > 0 && numbers[i] == numbers[i - 1])
            return schema_refuse(schema, "'%.200s' has two fields %d", type->name, numbers[i]);
        if (fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            fields[i].quantifier_offset = oneofs[numbered[i].from->oneof_index].case_offset;
            fields[i].offset = oneofs[numbered[i].from->oneof_index].value_offset;
        } else {
            place_field(&fields[i], &size);
        }
    }
    sort_names(fields, order, to->n_fields);
    to->sizeof_message = size;
    to->field_ranges = build_ranges(schema, numbers, to->n_fields, &to->n_field_ranges);
    return to->field_ranges ? 0 : -ENOMEM;
}

/* A map's entry is {key, value} by these numbers; what claims to be one and is not is a plain message. */
static bool is_map_entry(const message_proto *from, const ProtobufCFieldDescriptor *fields,
                         size_t n)
{
    return from->options && from->options->map_entry && n == 2 && fields[0].id == 1 &&
           fields[1].id == 2 && fields[0].label != PROTOBUF_C_LABEL_REPEATED &&
           fields[1].label != PROTOBUF_C_LABEL_REPEATED && !fields[0].flags && !fields[1].flags &&
           fields[0].type != PROTOBUF_C_TYPE_MESSAGE && fields[0].type != PROTOBUF_C_TYPE_BYTES &&
           fields[0].type != PROTOBUF_C_TYPE_FLOAT && fields[0].type != PROTOBUF_C_TYPE_DOUBLE &&
           fields[0].type != PROTOBUF_C_TYPE_ENUM;
}

int schema_build_message(struct mesh_schema *schema, const struct schema_type *type)
{
    const message_proto *from = type->message;
    size_t n = from->n_field;
    struct numbered *numbered;
    ProtobufCFieldDescriptor *fields;
    unsigned *order;
    int *numbers;
    int err = schema_count(schema, n + from->n_oneof_decl);

    if (err < 0)
        return err;
    numbered = schema_alloc(schema, n, sizeof(*numbered));
    fields = schema_alloc(schema, n, sizeof(*fields));
    order = schema_alloc(schema, n, sizeof(*order));
    numbers = schema_alloc(schema, n, sizeof(*numbers));
    if (!numbered || !fields || !order || !numbers)
        return -ENOMEM;
    for (size_t i = 0; i < n && err == 0; i++) {
        numbered[i].from = from->field[i];
        err = build_field(schema, type, from->field[i], &numbered[i].field);
    }
    if (err < 0)
        return err;
    qsort(numbered, n, sizeof(*numbered), field_by_id);
    *type->message_out = (ProtobufCMessageDescriptor){.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
                                                      .name = type->name,
                                                      .short_name = short_of(type->name),
                                                      .c_name = short_of(type->name),
                                                      .package_name = "",
                                                      .n_fields = (unsigned)n,
                                                      .fields = fields,
                                                      .fields_sorted_by_name = order};
    err = lay_out(schema, type, numbered, fields, order, numbers);
    if (err == 0 && is_map_entry(from, fields, n))
        type->message_out->reserved1 = &map_entry_mark;
    return err;
}
