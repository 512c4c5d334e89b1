/*
 * Descriptor sets that do not hold together are refused with a reason; those that do become types.
 */
#include "mesh/json.h"
#include "mesh/schema.h"
#include "proto/descriptor.pb-c.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__FieldDescriptorProto field_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__EnumValueDescriptorProto value_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;
typedef Google__Protobuf__MethodDescriptorProto method_proto;

/* A file with one message of two fields, an enum and a service, to be spoilt. */
static struct parts {
    file_set set;
    file_proto file, *files[2];
    message_proto message, *messages[1];
    field_proto fields[2], *field_list[2];
    enum_proto color, *enums[1];
    value_proto values[2], *value_list[2];
    service_proto service, *services[1];
    method_proto method, *methods[1];
} parts;

static field_proto field(const char *name, int number, int type, const char *type_name)
{
    field_proto made = GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__INIT;

    made.name = (char *)name;
    made.has_number = made.has_label = made.has_type = true;
    made.number = number;
    made.label = GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_OPTIONAL;
    made.type = (Google__Protobuf__FieldDescriptorProto__Type)type;
    made.type_name = (char *)type_name;
    return made;
}

static value_proto value(const char *name, int number)
{
    value_proto made = GOOGLE__PROTOBUF__ENUM_VALUE_DESCRIPTOR_PROTO__INIT;

    made.name = (char *)name;
    made.has_number = true;
    made.number = number;
    return made;
}

static void make_types(void)
{
    google__protobuf__descriptor_proto__init(&parts.message);
    google__protobuf__enum_descriptor_proto__init(&parts.color);
    parts.fields[0] = field("text", 1, 9, NULL);
    parts.fields[1] = field("color", 2, 14, ".a.Color");
    parts.values[0] = value("RED", 0);
    parts.values[1] = value("ROUGE", 0);
    for (int i = 0; i < 2; i++) {
        parts.field_list[i] = &parts.fields[i];
        parts.value_list[i] = &parts.values[i];
    }
    parts.message.name = (char *)"Text";
    parts.message.n_field = 2;
    parts.message.field = parts.field_list;
    parts.color.name = (char *)"Color";
    parts.color.n_value = 2;
    parts.color.value = parts.value_list;
}

static void make_service(void)
{
    google__protobuf__service_descriptor_proto__init(&parts.service);
    google__protobuf__method_descriptor_proto__init(&parts.method);
    parts.method.name = (char *)"Say";
    parts.method.input_type = parts.method.output_type = (char *)".a.Text";
    parts.methods[0] = &parts.method;
    parts.service.name = (char *)"Echo";
    parts.service.n_method = 1;
    parts.service.method = parts.methods;
}

static int setup(void **state)
{
    (void)state;
    google__protobuf__file_descriptor_set__init(&parts.set);
    google__protobuf__file_descriptor_proto__init(&parts.file);
    make_types();
    make_service();
    parts.messages[0] = &parts.message;
    parts.enums[0] = &parts.color;
    parts.services[0] = &parts.service;
    parts.file.name = (char *)"a.proto";
    parts.file.package = (char *)"a";
    parts.file.syntax = (char *)"proto3";
    parts.file.n_message_type = parts.file.n_enum_type = parts.file.n_service = 1;
    parts.file.message_type = parts.messages;
    parts.file.enum_type = parts.enums;
    parts.file.service = parts.services;
    parts.files[0] = parts.files[1] = &parts.file;
    parts.set.n_file = 1;
    parts.set.file = parts.files;
    return 0;
}

static int build(struct mesh_schema **out, char why[MESH_SCHEMA_WHY])
{
    size_t size = protobuf_c_message_get_packed_size(&parts.set.base);
    uint8_t *packed = malloc(size + 1);
    int err;

    protobuf_c_message_pack(&parts.set.base, packed);
    err = mesh_schema_create(packed, size, out, why);
    free(packed);
    return err;
}

static void refused(int want, const char *want_why)
{
    struct mesh_schema *schema = NULL;
    char why[MESH_SCHEMA_WHY];

    assert_int_equal(build(&schema, why), want);
    assert_null(schema);
    if (!strstr(why, want_why))
        fail_msg("'%s' does not say '%s'", why, want_why);
    setup(NULL); /* as it was, for the next one */
}

static void a_sound_set_becomes_types(void **state)
{
    struct mesh_schema *schema = NULL;
    const struct mesh_schema_service *service;
    char why[MESH_SCHEMA_WHY];

    (void)state;
    parts.set.n_file = 2; /* the same file twice */
    assert_int_equal(build(&schema, why), 0);
    assert_non_null(mesh_schema_message(schema, "a.Text"));
    assert_null(mesh_schema_message(schema, "a.Color"));
    assert_null(mesh_schema_message(schema, ".a.Text"));
    assert_int_equal(mesh_schema_enum(schema, "a.Color")->n_values, 1);
    assert_int_equal(mesh_schema_enum(schema, "a.Color")->n_value_names, 2);
    assert_string_equal(mesh_schema_enum(schema, "a.Color")->values[0].name, "RED");
    service = mesh_schema_service(schema, "a.Echo");
    assert_ptr_equal(service, mesh_schema_service_at(schema, 0));
    assert_null(mesh_schema_service_at(schema, 1));
    assert_non_null(mesh_schema_method(service, "Say"));
    assert_null(mesh_schema_method(service, "Sing"));
    assert_non_null(protobuf_c_service_descriptor_get_method_by_name(service->opaque, "Say"));
    mesh_schema_destroy(&schema);
}

static void unsound_sets_are_refused(void **state)
{
    (void)state;
    parts.fields[1].type_name = (char *)".a.Colour";
    refused(-EBADMSG, "field 'color' of 'a.Text': its type is not in the set");
    parts.fields[1].type_name = (char *)".a.Text"; /* a message where an enum should be */
    refused(-EBADMSG, "its type is not in the set");
    parts.fields[1].type_name = (char *)"Color";
    refused(-EBADMSG, "its type is not in the set");
    parts.fields[1].number = 1;
    refused(-EBADMSG, "'a.Text' has two fields 1");
    parts.fields[0].number = 0;
    refused(-EBADMSG, "0 is no field number");
    parts.fields[0].number = 1 << 29;
    refused(-EBADMSG, "536870912 is no field number");
    parts.fields[0].type = 10;
    refused(-EBADMSG, "type 10 is not supported");
    parts.fields[0].type = 99;
    refused(-EBADMSG, "type 99 is not supported");
    parts.fields[0].name = (char *)"te\"xt";
    refused(-EBADMSG, "a field of 'a.Text' has no proper name");
    parts.fields[0].has_oneof_index = true;
    parts.fields[0].oneof_index = 3;
    refused(-EBADMSG, "field 'text' of 'a.Text': no such oneof");
    parts.message.name = NULL;
    refused(-EBADMSG, "a type in 'a' has no proper name");
    parts.message.name = (char *)"Color";
    refused(-EBADMSG, "'a.Color' is there twice");
    parts.values[1].name = (char *)"";
    refused(-EBADMSG, "a value of 'a.Color' has no proper name");
    parts.method.input_type = (char *)".a.Nothing";
    refused(-EBADMSG, "method 'Say' of 'a.Echo': its messages are not in the set");
    parts.method.output_type = (char *)".a.Color";
    refused(-EBADMSG, "its messages are not in the set");
    parts.service.name = (char *)"a b";
    refused(-EBADMSG, "a service of 'a' has no proper name");
    parts.file.package = (char *)"a..b";
    refused(-EBADMSG, "a package has no proper name");
    parts.file.syntax = (char *)"editions";
    refused(-EBADMSG, "syntax 'editions' of package 'a' is not known here");
}

static void bytes_that_are_no_set_are_refused(void **state)
{
    struct mesh_schema *schema = NULL;
    char why[MESH_SCHEMA_WHY];
    uint8_t *large = calloc(1, MESH_SCHEMA_BYTES_MAX + 1);

    (void)state;
    assert_int_equal(mesh_schema_create("\xff\xff\xff", 3, &schema, why), -EBADMSG);
    assert_string_equal(why, "this is no FileDescriptorSet");
    assert_int_equal(mesh_schema_create(large, MESH_SCHEMA_BYTES_MAX + 1, &schema, why), -EMSGSIZE);
    assert_non_null(strstr(why, "bytes"));
    assert_int_equal(mesh_schema_create("", 0, &schema, why), 0); /* nothing is a set, too */
    assert_null(mesh_schema_message(schema, "a.Text"));
    mesh_schema_destroy(&schema);
    free(large);
}

/* Text { Text { Text ... } } } of nested types. */
static void types_within_types_are_bounded(void **state)
{
    enum { DEPTH = MESH_SCHEMA_DEPTH_MAX + 2 };
    static message_proto nested[DEPTH], *lists[DEPTH];

    (void)state;
    for (int i = 0; i < DEPTH; i++) {
        google__protobuf__descriptor_proto__init(&nested[i]);
        nested[i].name = (char *)"T";
        lists[i] = &nested[i];
        if (i > 0) {
            nested[i].n_nested_type = 1;
            nested[i].nested_type = &lists[i - 1];
        }
    }
    parts.file.message_type = &lists[DEPTH - 1];
    refused(-EMSGSIZE, "types within types");
}

static void the_golden_set_prints_as_it_was_written(void **state)
{
    static const char *const LINES[] = {
        "service dragoman.test.json.Echo {\n",
        "  rpc Talk(stream dragoman.test.json.Everything) returns (stream "
        "dragoman.test.json.Everything);\n",
        "  int32 an_int32 = 1;\n",
        "  repeated dragoman.test.json.Everything inners = 27;\n",
        "  map<string, int32> by_name = 30;\n",
        "  optional string maybe_string = 41;\n",
        "  oneof choice {\n    int64 chosen_long = 50;\n    string chosen_string = 51;\n",
        "  DARK_RED = -7;\n",
        "message google.protobuf.Timestamp {\n  int64 seconds = 1;\n  int32 nanos = 2;\n}\n",
    };
    struct mesh_schema *schema = NULL;
    char why[MESH_SCHEMA_WHY];
    struct buffer text;
    size_t size;
    char *set = golden_text(GOLDEN_DIR "/json.fds", &size);

    (void)state;
    assert_int_equal(mesh_schema_create(set, size, &schema, why), 0);
    buffer_init(&text, (size_t)1 << 20);
    assert_int_equal(mesh_schema_print(schema, "dragoman.test.json.Echo", &text), 0);
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++)
        if (!strstr((char *)text.data, LINES[i]))
            fail_msg("no '%s' in %s", LINES[i], (char *)text.data);
    assert_null(strstr((char *)text.data, "Entry")); /* maps are maps */
    buffer_fini(&text);
    assert_int_equal(mesh_schema_print(schema, "dragoman.test.json.Nothing", &text), -ENOENT);
    assert_int_equal(mesh_schema_print(schema, "dragoman.test.json.Color", &text), 0);
    assert_int_equal(strncmp((char *)text.data, "enum dragoman.test.json.Color {\n", 32), 0);
    buffer_fini(&text);
    mesh_schema_destroy(&schema);
    free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_sound_set_becomes_types, setup),
        cmocka_unit_test_setup(unsound_sets_are_refused, setup),
        cmocka_unit_test_setup(bytes_that_are_no_set_are_refused, setup),
        cmocka_unit_test_setup(types_within_types_are_bounded, setup),
        cmocka_unit_test(the_golden_set_prints_as_it_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
