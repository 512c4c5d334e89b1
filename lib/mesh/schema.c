#include "mesh/schema.h"

#include "mesh/schema_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 255
#define FULL_NAME_MAX 1024
#define SET_MEMORY_MAX ((size_t)256 << 20) /* of an unpacked set */

struct schema_block {
    struct schema_block *next;
    max_align_t data[];
};

void *schema_alloc(struct mesh_schema *schema, size_t n, size_t size)
{
    struct schema_block *block = NULL;

    if (size == 0 || n <= (SIZE_MAX - sizeof(*block)) / size)
        block = calloc(1, sizeof(*block) + n * size);
    if (!block)
        return NULL;
    block->next = schema->blocks;
    schema->blocks = block;
    return block->data;
}

int schema_refuse(struct mesh_schema *schema, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(schema->why, MESH_SCHEMA_WHY, fmt, args);
    va_end(args);
    return -EBADMSG;
}

static int too_many(struct mesh_schema *schema, const char *what, size_t max)
{
    schema_refuse(schema, "more than %zu %s", max, what);
    return -EMSGSIZE;
}

int schema_count(struct mesh_schema *schema, size_t n)
{
    schema->n_fields += n;
    return schema->n_fields > MESH_SCHEMA_FIELDS_MAX
               ? too_many(schema, "fields and values", MESH_SCHEMA_FIELDS_MAX)
               : 0;
}

bool schema_is_name(const char *name)
{
    size_t n = 0;

    if (!name || (!isalpha((unsigned char)name[0]) && name[0] != '_'))
        return false;
    while (n <= NAME_BYTES_MAX && (isalnum((unsigned char)name[n]) || name[n] == '_'))
        n++;
    return name[n] == '\0';
}

static bool is_package(const char *name)
{
    bool start = true;

    if (strlen(name) > NAME_BYTES_MAX)
        return false;
    for (const char *at = name; *at; at++) {
        bool letter = isalpha((unsigned char)*at) || *at == '_';

        if (start ? !letter : !letter && !isdigit((unsigned char)*at) && *at != '.')
            return false;
        start = *at == '.';
    }
    return !start || *name == '\0';
}

/* "scope.name" */
static char *join(struct mesh_schema *schema, const char *scope, const char *name)
{
    size_t n = strlen(scope);
    size_t size = n + strlen(name) + 2;
    char *full = size <= FULL_NAME_MAX ? schema_alloc(schema, 1, size) : NULL;

    if (full)
        snprintf(full, size, "%s%s%s", scope, n > 0 ? "." : "", name);
    return full;
}

/* ---- finding the types ----------------------------------------------------------------------- */

static int add_type(struct mesh_schema *schema, const char *scope, const char *name, bool proto3,
                    struct schema_type **out)
{
    struct schema_type *type = &schema->types[schema->n_types];

    if (!schema_is_name(name))
        return schema_refuse(schema, "a type in '%s' has no proper name", scope);
    if (schema->n_types == MESH_SCHEMA_TYPES_MAX)
        return too_many(schema, "types", MESH_SCHEMA_TYPES_MAX);
    type->name = join(schema, scope, name);
    if (!type->name)
        return -ENOMEM;
    type->proto3 = proto3;
    schema->n_types++;
    *out = type;
    return 0;
}

static int add_enums(struct mesh_schema *schema, const char *scope, bool proto3,
                     enum_proto *const *enums, size_t n)
{
    int err = 0;

    for (size_t i = 0; i < n && err == 0; i++) {
        struct schema_type *type = NULL;

        err = add_type(schema, scope, enums[i]->name, proto3, &type);
        if (err < 0)
            break;
        type->enumeration = enums[i];
        type->enum_out = schema_alloc(schema, 1, sizeof(*type->enum_out));
        err = type->enum_out ? 0 : -ENOMEM;
    }
    return err;
}

static int add_messages(struct mesh_schema *schema, const char *scope, bool proto3,
                        message_proto *const *messages, size_t n, int depth)
{
    int err = 0;

    if (depth > MESH_SCHEMA_DEPTH_MAX)
        return too_many(schema, "types within types", MESH_SCHEMA_DEPTH_MAX);
    for (size_t i = 0; i < n && err == 0; i++) {
        const message_proto *message = messages[i];
        struct schema_type *type = NULL;

        err = add_type(schema, scope, message->name, proto3, &type);
        if (err < 0)
            break;
        type->message = message;
        type->message_out = schema_alloc(schema, 1, sizeof(*type->message_out));
        if (!type->message_out)
            err = -ENOMEM;
        if (err == 0)
            err = add_enums(schema, type->name, proto3, message->enum_type, message->n_enum_type);
        if (err == 0)
            err = add_messages(schema, type->name, proto3, message->nested_type,
                               message->n_nested_type, depth + 1);
    }
    return err;
}

static const char *package_of(const file_proto *file)
{
    return file->package ? file->package : "";
}

/* Whether a file of that name stands before it: sets of several services share files. */
static bool seen_before(const file_set *set, size_t i)
{
    const char *name = set->file[i]->name;

    for (size_t j = 0; j < i && name; j++)
        if (set->file[j]->name && strcmp(set->file[j]->name, name) == 0)
            return true;
    return false;
}

static int add_file(struct mesh_schema *schema, const file_proto *file)
{
    const char *package = package_of(file);
    bool proto3 = file->syntax && strcmp(file->syntax, "proto3") == 0;
    int err;

    if (!is_package(package))
        return schema_refuse(schema, "a package has no proper name");
    if (file->syntax && !proto3 && strcmp(file->syntax, "proto2") != 0)
        return schema_refuse(schema, "syntax '%.32s' of package '%s' is not known here",
                             file->syntax, package);
    err = add_enums(schema, package, proto3, file->enum_type, file->n_enum_type);
    return err < 0
               ? err
               : add_messages(schema, package, proto3, file->message_type, file->n_message_type, 1);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct schema_type *)a)->name, ((const struct schema_type *)b)->name);
}

static int find_types(struct mesh_schema *schema)
{
    int err = 0;

    schema->types = schema_alloc(schema, MESH_SCHEMA_TYPES_MAX, sizeof(*schema->types));
    if (!schema->types)
        return -ENOMEM;
    for (size_t i = 0; i < schema->set->n_file && err == 0; i++)
        if (!seen_before(schema->set, i))
            err = add_file(schema, schema->set->file[i]);
    if (err < 0)
        return err;
    qsort(schema->types, schema->n_types, sizeof(*schema->types), by_name);
    for (size_t i = 1; i < schema->n_types; i++)
        if (strcmp(schema->types[i].name, schema->types[i - 1].name) == 0)
            return schema_refuse(schema, "'%.200s' is there twice", schema->types[i].name);
    return 0;
}

const struct schema_type *schema_find(const struct mesh_schema *schema, const char *name)
{
    const struct schema_type key = {.name = name + 1};

    if (name[0] != '.')
        return NULL;
    return bsearch(&key, schema->types, schema->n_types, sizeof(key), by_name);
}

/* ---- services -------------------------------------------------------------------------------- */

static int build_method(struct mesh_schema *schema, const method_proto *from, const char *service,
                        struct mesh_schema_method *to)
{
    const struct schema_type *input =
        from->input_type ? schema_find(schema, from->input_type) : NULL;
    const struct schema_type *output =
        from->output_type ? schema_find(schema, from->output_type) : NULL;

    if (!schema_is_name(from->name))
        return schema_refuse(schema, "a method of '%s' has no proper name", service);
    if (!input || !input->message || !output || !output->message)
        return schema_refuse(schema, "method '%.60s' of '%.60s': its messages are not in the set",
                             from->name, service);
    *to = (struct mesh_schema_method){.name = from->name,
                                      .input = input->message_out,
                                      .output = output->message_out,
                                      .client_streams = from->client_streaming,
                                      .server_streams = from->server_streaming};
    return 0;
}

/* The same methods over messages of opaque bytes. */
static int build_opaque(struct mesh_schema *schema, const char *package,
                        struct mesh_schema_service *service)
{
    size_t n = service->n_methods;
    ProtobufCServiceDescriptor *opaque = schema_alloc(schema, 1, sizeof(*opaque));
    ProtobufCMethodDescriptor *methods = schema_alloc(schema, n, sizeof(*methods));
    unsigned *order = schema_alloc(schema, n, sizeof(*order));

    if (!opaque || !methods || !order)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        size_t at = i;

        methods[i] = (ProtobufCMethodDescriptor){.name = service->methods[i].name,
                                                 .input = &mesh_opaque_descriptor,
                                                 .output = &mesh_opaque_descriptor};
        for (; at > 0 && strcmp(methods[order[at - 1]].name, methods[i].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = (unsigned)i;
    }
    *opaque = (ProtobufCServiceDescriptor){.magic = PROTOBUF_C__SERVICE_DESCRIPTOR_MAGIC,
                                           .name = service->name,
                                           .short_name = service->short_name,
                                           .c_name = service->short_name,
                                           .package = package,
                                           .n_methods = (unsigned)n,
                                           .methods = methods,
                                           .method_indices_by_name = order};
    service->opaque = opaque;
    return 0;
}

static int build_service(struct mesh_schema *schema, const char *package, const service_proto *from,
                         struct mesh_schema_service *to)
{
    struct mesh_schema_method *methods;
    int err = schema_count(schema, from->n_method);

    if (err < 0)
        return err;
    if (!schema_is_name(from->name))
        return schema_refuse(schema, "a service of '%s' has no proper name", package);
    methods = schema_alloc(schema, from->n_method, sizeof(*methods));
    to->name = join(schema, package, from->name);
    if (!methods || !to->name)
        return -ENOMEM;
    to->short_name = from->name;
    to->methods = methods;
    to->n_methods = from->n_method;
    for (size_t i = 0; i < from->n_method && err == 0; i++)
        err = build_method(schema, from->method[i], to->name, &methods[i]);
    return err == 0 ? build_opaque(schema, package, to) : err;
}

static int build_services(struct mesh_schema *schema)
{
    const file_set *set = schema->set;
    size_t n = 0;
    int err;

    for (size_t i = 0; i < set->n_file; i++)
        n += set->file[i]->n_service;
    err = schema_count(schema, n);
    if (err < 0)
        return err;
    schema->services = schema_alloc(schema, n, sizeof(*schema->services));
    if (!schema->services)
        return -ENOMEM;
    for (size_t i = 0; i < set->n_file && err == 0; i++) {
        const file_proto *file = set->file[i];

        if (seen_before(set, i))
            continue;
        for (size_t j = 0; j < file->n_service && err == 0; j++)
            err = build_service(schema, package_of(file), file->service[j],
                                &schema->services[schema->n_services++]);
    }
    return err;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int build(struct mesh_schema *schema)
{
    int err = find_types(schema);

    for (size_t i = 0; i < schema->n_types && err == 0; i++)
        err = schema->types[i].message ? schema_build_message(schema, &schema->types[i])
                                       : schema_build_enum(schema, &schema->types[i]);
    return err == 0 ? build_services(schema) : err;
}

int mesh_schema_create(const void *set, size_t size, struct mesh_schema **out,
                       char why[MESH_SCHEMA_WHY])
{
    struct mesh_schema *schema;
    int err = -EMSGSIZE;

    snprintf(why, MESH_SCHEMA_WHY, "no memory");
    schema = calloc(1, sizeof(*schema));
    if (!schema)
        return -ENOMEM;
    schema->why = why;
    if (size > MESH_SCHEMA_BYTES_MAX)
        too_many(schema, "bytes", MESH_SCHEMA_BYTES_MAX);
    else
        err = mesh_message_read(&google__protobuf__file_descriptor_set__descriptor, set, size,
                                SET_MEMORY_MAX, (ProtobufCMessage **)&schema->set);
    if (err == -EBADMSG)
        schema_refuse(schema, "this is no FileDescriptorSet");
    if (err == 0)
        err = build(schema);
    if (err == 0) {
        schema->why = NULL;
        *out = schema;
        schema = NULL; /* the caller's now */
    }
    mesh_schema_destroy(&schema);
    return err;
}

void mesh_schema_destroy(struct mesh_schema **schema)
{
    struct mesh_schema *self = *schema;

    if (!self)
        return;
    while (self->blocks) {
        struct schema_block *next = self->blocks->next;

        free(self->blocks);
        self->blocks = next;
    }
    google__protobuf__file_descriptor_set__free_unpacked(self->set, NULL);
    free(self);
    *schema = NULL;
}

static const struct schema_type *type_of(const struct mesh_schema *schema, const char *name)
{
    const struct schema_type key = {.name = name};

    return bsearch(&key, schema->types, schema->n_types, sizeof(key), by_name);
}

const ProtobufCMessageDescriptor *mesh_schema_message(const struct mesh_schema *schema,
                                                      const char *name)
{
    const struct schema_type *type = type_of(schema, name);

    return type ? type->message_out : NULL;
}

const ProtobufCEnumDescriptor *mesh_schema_enum(const struct mesh_schema *schema, const char *name)
{
    const struct schema_type *type = type_of(schema, name);

    return type ? type->enum_out : NULL;
}

const struct mesh_schema_service *mesh_schema_service(const struct mesh_schema *schema,
                                                      const char *name)
{
    for (size_t i = 0; i < schema->n_services; i++)
        if (strcmp(schema->services[i].name, name) == 0)
            return &schema->services[i];
    return NULL;
}

const struct mesh_schema_service *mesh_schema_service_at(const struct mesh_schema *schema, size_t i)
{
    return i < schema->n_services ? &schema->services[i] : NULL;
}

const struct mesh_schema_method *mesh_schema_method(const struct mesh_schema_service *service,
                                                    const char *name)
{
    for (size_t i = 0; i < service->n_methods; i++)
        if (strcmp(service->methods[i].name, name) == 0)
            return &service->methods[i];
    return NULL;
}
