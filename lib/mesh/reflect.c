#include "mesh/reflect.h"

#include "mesh/reflect_fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__EnumValueDescriptorProto value_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;
typedef Google__Protobuf__MethodDescriptorProto method_proto;

#define METHODS_OWN_MAX 8

/* What a service leads to. */
struct found {
    const ProtobufCMessageDescriptor **messages;
    const ProtobufCEnumDescriptor **enums;
    size_t n_messages, n_enums;
};

/* ---- finding --------------------------------------------------------------------------------- */

static bool holds(const void *const *list, size_t n, const void *item)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == item)
            return true;
    }
    return false;
}

static bool add(void *list, size_t *n, const void *item)
{
    const void ***items = list;
    const void **grown = realloc(*items, (*n + 1) * sizeof(void *));

    if (!grown)
        return false;
    grown[(*n)++] = item;
    *items = grown;
    return true;
}

static bool add_message(struct found *found, const ProtobufCMessageDescriptor *message)
{
    return holds((const void *const *)found->messages, found->n_messages, message) ||
           add(&found->messages, &found->n_messages, message);
}

static bool add_types_of(struct found *found, const ProtobufCMessageDescriptor *message)
{
    bool ok = true;

    for (unsigned i = 0; i < message->n_fields && ok; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];

        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            ok = add_message(found, field->descriptor);
        else if (field->type == PROTOBUF_C_TYPE_ENUM &&
                 !holds((const void *const *)found->enums, found->n_enums, field->descriptor))
            ok = add(&found->enums, &found->n_enums, field->descriptor);
    }
    return ok;
}

static int by_message_name(const void *a, const void *b)
{
    const ProtobufCMessageDescriptor *const *one = a, *const *other = b;

    return strcmp((*one)->name, (*other)->name);
}

static int by_enum_name(const void *a, const void *b)
{
    const ProtobufCEnumDescriptor *const *one = a, *const *other = b;

    return strcmp((*one)->name, (*other)->name);
}

/* The list grows while it is walked. Sorted, a message comes before those nested in it. */
static bool find_types(const ProtobufCServiceDescriptor *service,
                       const ProtobufCMessageDescriptor *const *types, size_t n_types,
                       struct found *found)
{
    bool ok = true;

    for (size_t i = 0; i < n_types && ok; i++)
        ok = add_message(found, types[i]);
    for (unsigned i = 0; i < service->n_methods && ok; i++)
        ok = add_message(found, service->methods[i].input) &&
             add_message(found, service->methods[i].output);
    for (size_t i = 0; i < found->n_messages && ok; i++)
        ok = add_types_of(found, found->messages[i]);
    if (!ok)
        return false;
    qsort(found->messages, found->n_messages, sizeof(*found->messages), by_message_name);
    if (found->n_enums > 0)
        qsort(found->enums, found->n_enums, sizeof(*found->enums), by_enum_name);
    return true;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Proto2 where any message of the package says so. */
static bool is_proto2(const struct found *found, const char *package)
{
    for (size_t i = 0; i < found->n_messages; i++) {
        const ProtobufCMessageDescriptor *message = found->messages[i];

        for (unsigned j = 0; j < message->n_fields; j++) {
            ProtobufCLabel label = message->fields[j].label;

            if (strcmp(message->package_name, package) == 0 &&
                (label == PROTOBUF_C_LABEL_OPTIONAL || label == PROTOBUF_C_LABEL_REQUIRED))
                return true;
        }
    }
    return false;
}

static char *file_name(struct reflect_arena *arena, const char *package)
{
    char *name =
        *package ? reflect_text(arena, "%s.proto", package) : reflect_text(arena, "root.proto");
    size_t n = *package && name ? strlen(package) : 0;

    for (size_t i = 0; i < n; i++) {
        if (name[i] == '.')
            name[i] = '/';
    }
    return name;
}

static file_proto *file_of(struct reflect_arena *arena, file_set *set, const struct found *found,
                           const char *package)
{
    file_proto *file;

    for (size_t i = 0; i < set->n_file; i++) {
        if (strcmp(set->file[i]->package ? set->file[i]->package : "", package) == 0)
            return set->file[i];
    }
    file = reflect_make(arena, &google__protobuf__file_descriptor_proto__descriptor);
    if (!file || !reflect_append(arena, &set->file, &set->n_file, file))
        return NULL;
    file->name = file_name(arena, package);
    file->package = *package ? (char *)package : NULL;
    file->syntax = is_proto2(found, package) ? NULL : (char *)"proto3";
    return file->name ? file : NULL;
}

/* The name within the file: "Outer.Inner". */
static const char *local_name(const char *full, const char *package)
{
    size_t n = strlen(package);

    return n > 0 && strncmp(full, package, n) == 0 && full[n] == '.' ? full + n + 1 : full;
}

static reflect_message *child(struct reflect_arena *arena, reflect_message ***list, size_t *n,
                              const char *name, size_t size)
{
    reflect_message *message;

    for (size_t i = 0; i < *n; i++) {
        if (strncmp((*list)[i]->name, name, size) == 0 && (*list)[i]->name[size] == '\0')
            return (*list)[i];
    }
    message = reflect_make(arena, &google__protobuf__descriptor_proto__descriptor);
    if (!message || !reflect_append(arena, list, n, message))
        return NULL;
    message->name = reflect_text(arena, "%.*s", (int)size, name);
    return message->name ? message : NULL;
}

/* Find or make "Outer.Inner"; *last is what is left of a name whose last part is not a message's. */
static reflect_message *message_at(struct reflect_arena *arena, file_proto *file, const char *name,
                                   bool whole, const char **last)
{
    reflect_message *message = NULL;
    const char *end;

    while ((end = strchr(name, '.')) != NULL || (whole && *name)) {
        size_t size = end ? (size_t)(end - name) : strlen(name);

        message = message ? child(arena, &message->nested_type, &message->n_nested_type, name, size)
                          : child(arena, &file->message_type, &file->n_message_type, name, size);
        if (!message)
            return NULL;
        name += size + (end ? 1 : 0);
    }
    *last = name;
    return message;
}

static bool depend(struct reflect_arena *arena, file_proto *file, const char *on)
{
    for (size_t i = 0; i < file->n_dependency; i++) {
        if (strcmp(file->dependency[i], on) == 0)
            return true;
    }
    return strcmp(file->name, on) == 0 ||
           reflect_append(arena, &file->dependency, &file->n_dependency, (void *)on);
}

/* ---- filling them ---------------------------------------------------------------------------- */

static bool describe_message(struct reflect_arena *arena, file_set *set, const struct found *found,
                             const ProtobufCMessageDescriptor *type)
{
    file_proto *file = file_of(arena, set, found, type->package_name);
    const char *rest;
    reflect_message *message =
        file ? message_at(arena, file, local_name(type->name, type->package_name), true, &rest)
             : NULL;
    bool ok = message && reflect_fields(arena, message, type, file->syntax != NULL);

    for (unsigned i = 0; i < type->n_fields && ok; i++) {
        const char *package = reflect_package_of(&type->fields[i]);
        const file_proto *other = package ? file_of(arena, set, found, package) : file;

        ok = other && depend(arena, file, other->name);
    }
    return ok;
}

static bool describe_value(struct reflect_arena *arena, enum_proto *list, const char *name,
                           int number)
{
    value_proto *value =
        reflect_make(arena, &google__protobuf__enum_value_descriptor_proto__descriptor);

    if (!value || !reflect_append(arena, &list->value, &list->n_value, value))
        return false;
    value->name = (char *)name;
    value->number = number;
    value->has_number = true;
    return true;
}

/* Proto3 wants zero first; names that share a number come behind the one that has it. */
static bool describe_values(struct reflect_arena *arena, enum_proto *list,
                            const ProtobufCEnumDescriptor *type)
{
    bool ok = true;

    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < type->n_values && ok; i++) {
            const ProtobufCEnumValue *value = &type->values[i];

            if ((value->value == 0) == (pass == 0))
                ok = describe_value(arena, list, value->name, value->value);
        }
    }
    for (unsigned i = 0; i < type->n_value_names && ok; i++) {
        const ProtobufCEnumValueIndex *name = &type->values_by_name[i];
        const ProtobufCEnumValue *value = &type->values[name->index];

        if (strcmp(name->name, value->name) != 0)
            ok = describe_value(arena, list, name->name, value->value);
    }
    return ok;
}

static bool describe_enum(struct reflect_arena *arena, file_set *set, const struct found *found,
                          const ProtobufCEnumDescriptor *type)
{
    file_proto *file = file_of(arena, set, found, type->package_name);
    enum_proto *list = reflect_make(arena, &google__protobuf__enum_descriptor_proto__descriptor);
    const char *name = local_name(type->name, type->package_name);
    reflect_message *outer = file ? message_at(arena, file, name, false, &name) : NULL;
    bool ok = file && list;

    if (ok && outer)
        ok = reflect_append(arena, &outer->enum_type, &outer->n_enum_type, list);
    else if (ok)
        ok = reflect_append(arena, &file->enum_type, &file->n_enum_type, list);
    if (!ok)
        return false;
    list->name = (char *)name;
    if (type->n_value_names > type->n_values) {
        list->options = reflect_make(arena, &google__protobuf__enum_options__descriptor);
        if (!list->options)
            return false;
        list->options->allow_alias = list->options->has_allow_alias = true;
    }
    return describe_values(arena, list, type);
}

static bool describe_method(struct reflect_arena *arena, service_proto *list,
                            const ProtobufCMethodDescriptor *type, enum mesh_kind kind)
{
    method_proto *method =
        reflect_make(arena, &google__protobuf__method_descriptor_proto__descriptor);

    if (!method || !reflect_append(arena, &list->method, &list->n_method, method))
        return false;
    method->name = (char *)type->name;
    method->input_type = reflect_text(arena, ".%s", type->input->name);
    method->output_type = reflect_text(arena, ".%s", type->output->name);
    method->client_streaming = method->has_client_streaming =
        kind == MESH_CLIENT_STREAMING || kind == MESH_BIDI_STREAMING;
    method->server_streaming = method->has_server_streaming =
        kind == MESH_SERVER_STREAMING || kind == MESH_BIDI_STREAMING;
    return method->input_type && method->output_type;
}

static bool describe_service(struct reflect_arena *arena, file_set *set, const struct found *found,
                             const ProtobufCServiceDescriptor *type, const enum mesh_kind *kinds)
{
    file_proto *file = file_of(arena, set, found, type->package);
    service_proto *service =
        reflect_make(arena, &google__protobuf__service_descriptor_proto__descriptor);
    bool ok = file && service && reflect_append(arena, &file->service, &file->n_service, service);

    for (unsigned i = 0; i < type->n_methods && ok; i++) {
        const ProtobufCMethodDescriptor *method = &type->methods[i];
        const file_proto *in = file_of(arena, set, found, method->input->package_name);
        const file_proto *out = file_of(arena, set, found, method->output->package_name);

        ok = in && out && depend(arena, file, in->name) && depend(arena, file, out->name) &&
             describe_method(arena, service, method, kinds ? kinds[i] : MESH_UNARY);
    }
    if (ok)
        service->name = (char *)local_name(type->name, type->package);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int pack(const file_set *set, uint8_t **out, size_t *size)
{
    size_t n = protobuf_c_message_get_packed_size(&set->base);
    uint8_t *bytes = n <= MESH_DESCRIPTOR_SET_MAX ? malloc(n) : NULL;

    if (!bytes)
        return n <= MESH_DESCRIPTOR_SET_MAX ? -ENOMEM : -EMSGSIZE;
    protobuf_c_message_pack(&set->base, bytes);
    *out = bytes;
    *size = n;
    return 0;
}

int mesh_reflect(const ProtobufCServiceDescriptor *service, const enum mesh_kind *kinds,
                 const ProtobufCMessageDescriptor *const *types, size_t n_types, uint8_t **out,
                 size_t *size)
{
    file_set set = GOOGLE__PROTOBUF__FILE_DESCRIPTOR_SET__INIT;
    struct reflect_arena arena = {NULL};
    struct found found = {0};
    bool ok = find_types(service, types, n_types, &found);
    int err;

    for (size_t i = 0; i < found.n_messages && ok; i++)
        ok = describe_message(&arena, &set, &found, found.messages[i]);
    for (size_t i = 0; i < found.n_enums && ok; i++)
        ok = describe_enum(&arena, &set, &found, found.enums[i]);
    ok = ok && describe_service(&arena, &set, &found, service, kinds);
    err = ok ? pack(&set, out, size) : -ENOMEM;
    reflect_arena_fini(&arena);
    free(found.messages);
    free(found.enums);
    return err;
}

int mesh_reflect_own(const ProtobufCServiceDescriptor *service, uint8_t **out, size_t *size)
{
    enum mesh_kind kinds[METHODS_OWN_MAX] = {MESH_UNARY};

    for (unsigned i = 0; i < service->n_methods && i < METHODS_OWN_MAX; i++)
        kinds[i] =
            strcmp(service->methods[i].name, "Watch") == 0 ? MESH_SERVER_STREAMING : MESH_UNARY;
    return mesh_reflect(service, kinds, NULL, 0, out, size);
}

size_t mesh_reflect_service(const char *symbol)
{
    return strcspn(symbol, "/");
}
