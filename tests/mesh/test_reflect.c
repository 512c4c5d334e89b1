/* What is written at run time from protobuf-c's descriptors is what protoc says of the same files. */
#include "mesh/reflect.h"

#include "proto/asr.pb-c.h"
#include "proto/descriptor.pb-c.h"
#include "proto/mesh.pb-c.h"
#include "tests/mesh/reflect3.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;

#define EVERYONE (&dragoman__reflect__v3__everyone__descriptor)
#define PATH_MAX_BYTES 256

static const enum mesh_kind everyones_kinds[] = {MESH_UNARY, MESH_CLIENT_STREAMING,
                                                 MESH_SERVER_STREAMING, MESH_BIDI_STREAMING};

/* ---- a set as sorted lines ------------------------------------------------------------------- */

/* One fact a line, each with its full path, so that order and files do not matter. */
struct facts {
    char **lines;
    size_t n;
};

static void say(struct facts *facts, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct facts *facts, const char *fmt, ...)
{
    va_list args;

    facts->lines = realloc(facts->lines, (facts->n + 1) * sizeof(char *));
    assert_non_null(facts->lines);
    va_start(args, fmt);
    assert_true(vasprintf(&facts->lines[facts->n++], fmt, args) >= 0);
    va_end(args);
}

static void nothing_unknown(const ProtobufCMessage *message)
{
    assert_int_equal(message->n_unknown_fields, 0);
}

/* A oneof is told by the fields in it: its name is not known at run time. */
static void say_oneof(struct facts *facts, const char *path, const message_proto *message,
                      int32_t index)
{
    char members[1024] = "";

    for (size_t i = 0; i < message->n_field; i++) {
        const field_proto *field = message->field[i];

        if (field->has_oneof_index && field->oneof_index == index) {
            strcat(members, " ");
            strcat(members, field->name);
        }
    }
    say(facts, "%s oneof%s", path, members);
}

static void say_field(struct facts *facts, const char *path, const field_proto *field)
{
    nothing_unknown(&field->base);
    assert_true(field->has_number && field->has_label && field->has_type);
    say(facts, "%s.%s = %d label %d type %d %s json %s default %s packed %d deprecated %d in %d",
        path, field->name, field->number, field->label, field->type,
        field->type_name ? field->type_name : "-", field->json_name,
        field->default_value ? field->default_value : "-",
        field->options && field->options->has_packed ? field->options->packed : -1,
        field->options && field->options->deprecated, field->has_oneof_index);
}

static void say_enum(struct facts *facts, const char *path, const enum_proto *list)
{
    nothing_unknown(&list->base);
    say(facts, "enum %s.%s alias %d", path, list->name,
        list->options && list->options->allow_alias);
    for (size_t i = 0; i < list->n_value; i++) {
        assert_true(list->value[i]->has_number);
        say(facts, "enum %s.%s %s = %d", path, list->name, list->value[i]->name,
            list->value[i]->number);
    }
}

static void say_message(struct facts *facts, const char *outer, const message_proto *message)
{
    char path[PATH_MAX_BYTES];

    nothing_unknown(&message->base);
    snprintf(path, sizeof(path), "%s.%s", outer, message->name);
    say(facts, "message %s map %d", path, message->options && message->options->map_entry);
    for (size_t i = 0; i < message->n_field; i++)
        say_field(facts, path, message->field[i]);
    for (size_t i = 0; i < message->n_oneof_decl; i++)
        say_oneof(facts, path, message, (int32_t)i);
    for (size_t i = 0; i < message->n_enum_type; i++)
        say_enum(facts, path, message->enum_type[i]);
    for (size_t i = 0; i < message->n_nested_type; i++)
        say_message(facts, path, message->nested_type[i]);
}

static void say_service(struct facts *facts, const char *package, const service_proto *service)
{
    for (size_t i = 0; i < service->n_method; i++) {
        const Google__Protobuf__MethodDescriptorProto *method = service->method[i];

        nothing_unknown(&method->base);
        say(facts, "method %s.%s/%s %s %d %s %d", package, service->name, method->name,
            method->input_type, method->client_streaming, method->output_type,
            method->server_streaming);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct facts facts_of(const void *bytes, size_t size)
{
    file_set *set = google__protobuf__file_descriptor_set__unpack(NULL, size, bytes);
    struct facts facts = {0};

    assert_non_null(set);
    for (size_t i = 0; i < set->n_file; i++) {
        const Google__Protobuf__FileDescriptorProto *file = set->file[i];

        say(&facts, "package %s syntax %s", file->package, file->syntax ? file->syntax : "proto2");
        for (size_t j = 0; j < file->n_message_type; j++)
            say_message(&facts, file->package, file->message_type[j]);
        for (size_t j = 0; j < file->n_enum_type; j++)
            say_enum(&facts, file->package, file->enum_type[j]);
        for (size_t j = 0; j < file->n_service; j++)
            say_service(&facts, file->package, file->service[j]);
    }
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    qsort(facts.lines, facts.n, sizeof(char *), by_text);
    return facts;
}

static void facts_free(struct facts *facts)
{
    for (size_t i = 0; i < facts->n; i++)
        free(facts->lines[i]);
    free(facts->lines);
}

static struct facts facts_of_protoc(const char *file)
{
    uint8_t bytes[65536];
    size_t size;
    FILE *in = fopen(file, "rb");

    if (!in)
        fail_msg("cannot open '%s'", file);
    size = fread(bytes, 1, sizeof(bytes), in);
    fclose(in);
    assert_in_range(size, 1, sizeof(bytes) - 1);
    return facts_of(bytes, size);
}

static struct facts facts_of_service(const ProtobufCServiceDescriptor *service,
                                     const enum mesh_kind *kinds)
{
    struct facts facts;
    uint8_t *bytes = NULL;
    size_t size = 0;

    assert_int_equal(mesh_reflect(service, kinds, NULL, 0, &bytes, &size), 0);
    facts = facts_of(bytes, size);
    free(bytes);
    return facts;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void all_of_protobuf_is_as_protoc_says(void **state)
{
    struct facts want = facts_of_protoc(DESCRIPTOR_DIR "/reflect3.set");
    struct facts got = facts_of_service(EVERYONE, everyones_kinds);

    (void)state;
    assert_true(got.n > 70);
    for (size_t i = 0; i < want.n && i < got.n; i++)
        assert_string_equal(got.lines[i], want.lines[i]);
    assert_int_equal(got.n, want.n);
    facts_free(&want);
    facts_free(&got);
}

static void is_part_of(struct facts got, struct facts want)
{
    assert_true(got.n > 10);
    for (size_t i = 0; i < got.n; i++) {
        if (!bsearch(&got.lines[i], want.lines, want.n, sizeof(char *), by_text))
            fail_msg("protoc does not say: %s", got.lines[i]);
    }
    facts_free(&got);
    facts_free(&want);
}

static void our_services_are_as_protoc_says(void **state)
{
    static const enum mesh_kind watch[] = {MESH_UNARY, MESH_SERVER_STREAMING};
    static const enum mesh_kind recognizer[] = {MESH_BIDI_STREAMING, MESH_UNARY};

    (void)state;
    assert_int_equal(dragoman__asr__v1__recognizer__descriptor.n_methods, 2);
    is_part_of(facts_of_service(&dragoman__mesh__v1__directory__descriptor, watch),
               facts_of_protoc(DESCRIPTOR_DIR "/mesh.set"));
    is_part_of(facts_of_service(&dragoman__asr__v1__recognizer__descriptor, recognizer),
               facts_of_protoc(DESCRIPTOR_DIR "/asr.set"));
}

static void the_meshs_own_watches_are_streams(void **state)
{
    uint8_t *bytes = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(mesh_reflect_own(&dragoman__mesh__v1__health__descriptor, &bytes, &size), 0);
    is_part_of(facts_of(bytes, size), facts_of_protoc(DESCRIPTOR_DIR "/mesh.set"));
    free(bytes);
}

/* And what it leads to, once. */
static void types_may_be_named_besides(void **state)
{
    const ProtobufCMessageDescriptor *const types[] = {
        &dragoman__mesh__v1__worker_state__descriptor,
        &dragoman__mesh__v1__worker_state__descriptor,
        &dragoman__mesh__v1__health_check_request__descriptor};
    static const enum mesh_kind watch[] = {MESH_UNARY, MESH_SERVER_STREAMING};
    const ProtobufCServiceDescriptor *health = &dragoman__mesh__v1__health__descriptor;
    uint8_t *bytes[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    file_set *sets[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mesh_reflect(health, watch, types, i == 0 ? 0 : 3, &bytes[i], &sizes[i]),
                         0);
        sets[i] = google__protobuf__file_descriptor_set__unpack(NULL, sizes[i], bytes[i]);
        assert_int_equal(sets[i]->n_file, 1);
    }
    /* WorkerState, Label */
    assert_int_equal(sets[1]->file[0]->n_message_type, sets[0]->file[0]->n_message_type + 2);
    is_part_of(facts_of(bytes[1], sizes[1]), facts_of_protoc(DESCRIPTOR_DIR "/mesh.set"));
    for (int i = 0; i < 2; i++) {
        google__protobuf__file_descriptor_set__free_unpacked(sets[i], NULL);
        free(bytes[i]);
    }
}

/* A set that strict readers load: each file's dependencies are in it, and come before it or behind. */
static void dependencies_are_there(void **state)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    file_set *set;

    (void)state;
    assert_int_equal(mesh_reflect(EVERYONE, NULL, NULL, 0, &bytes, &size), 0);
    set = google__protobuf__file_descriptor_set__unpack(NULL, size, bytes);
    assert_non_null(set);
    assert_int_equal(set->n_file, 2);
    for (size_t i = 0; i < set->n_file; i++) {
        for (size_t j = 0; j < set->file[i]->n_dependency; j++) {
            assert_string_equal(set->file[i]->dependency[j], set->file[1 - i]->name);
            assert_string_equal(set->file[i]->package, "dragoman.reflect.v3");
        }
    }
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    free(bytes);
}

/* A service of one method whose message is `n_fields` strings with long names. */
static int describe_wide(size_t n_fields)
{
    static char name[100];
    ProtobufCFieldDescriptor *fields = calloc(n_fields, sizeof(*fields));
    ProtobufCMessageDescriptor message = dragoman__reflect__v3__empty__descriptor;
    ProtobufCMethodDescriptor method = {.name = "M", .input = &message, .output = &message};
    ProtobufCServiceDescriptor service = *EVERYONE;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int err;

    memset(name, 'x', sizeof(name) - 1);
    for (size_t i = 0; i < n_fields; i++)
        fields[i] = (ProtobufCFieldDescriptor){.name = name,
                                               .id = (uint32_t)i + 1,
                                               .label = PROTOBUF_C_LABEL_NONE,
                                               .type = PROTOBUF_C_TYPE_STRING};
    message.n_fields = (unsigned)n_fields;
    message.fields = fields;
    service.n_methods = 1;
    service.methods = &method;
    err = mesh_reflect(&service, NULL, NULL, 0, &bytes, &size);
    assert_int_equal(err == 0, bytes != NULL);
    assert_true(size <= MESH_DESCRIPTOR_SET_MAX);
    free(bytes);
    free(fields);
    return err;
}

static void too_much_is_refused(void **state)
{
    (void)state;
    assert_int_equal(describe_wide(200), 0);
    assert_int_equal(describe_wide(400), -EMSGSIZE);
}

static void a_symbol_names_its_service(void **state)
{
    (void)state;
    assert_int_equal(mesh_reflect_service("a.b.C"), 5);
    assert_int_equal(mesh_reflect_service("a.b.C/Method"), 5);
    assert_int_equal(mesh_reflect_service(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_protobuf_is_as_protoc_says),
        cmocka_unit_test(our_services_are_as_protoc_says),
        cmocka_unit_test(the_meshs_own_watches_are_streams),
        cmocka_unit_test(types_may_be_named_besides),
        cmocka_unit_test(dependencies_are_there),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(a_symbol_names_its_service),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
