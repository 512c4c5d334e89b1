/*
 * Messages as JSON and back, against Google's own library (golden/make_json.py), and what is refused.
 */
#include "mesh/json.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TYPE "dragoman.test.json.Everything"
#define MEMORY_MAX ((size_t)64 << 20)

static struct mesh_schema *schema;
static const ProtobufCMessageDescriptor *type;

static int setup(void **state)
{
    char why[MESH_SCHEMA_WHY];
    size_t size;
    char *set = golden_text(GOLDEN_DIR "/json.fds", &size);
    int err = mesh_schema_create(set, size, &schema, why);

    (void)state;
    if (err < 0)
        print_error("%s\n", why);
    assert_int_equal(err, 0);
    type = mesh_schema_message(schema, TYPE);
    assert_non_null(type);
    free(set);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mesh_schema_destroy(&schema);
    assert_null(schema);
    return 0;
}

/* ---- golden messages ------------------------------------------------------------------------- */

static uint8_t *unhex(const char *text, size_t *size)
{
    uint8_t *bytes = malloc(strlen(text) / 2 + 1);

    for (*size = 0; text[2 * *size]; ++*size) {
        unsigned byte;

        assert_int_equal(sscanf(text + 2 * *size, "%2x", &byte), 1);
        bytes[*size] = (uint8_t)byte;
    }
    return bytes;
}

/* As JSON values; 1 and 1.0 are the same number. */
static bool same(json_t *a, json_t *b)
{
    const char *key;
    json_t *value;
    size_t i;

    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_object(a)) {
        json_object_foreach(a, key, value) if (!json_object_get(b, key) ||
                                               !same(value, json_object_get(b, key))) return false;
        return json_object_size(a) == json_object_size(b);
    }
    if (json_is_array(a)) {
        json_array_foreach(a, i, value) if (!json_array_get(b, i) ||
                                            !same(value, json_array_get(b, i))) return false;
        return json_array_size(a) == json_array_size(b);
    }
    return json_equal(a, b);
}

static char *write_json(const ProtobufCMessage *message, const struct mesh_json_writing *how)
{
    struct buffer out;

    buffer_init(&out, MEMORY_MAX);
    assert_int_equal(mesh_json_write(message, how, &out), 0);
    return (char *)out.data;
}

static void assert_same(const ProtobufCMessage *message, const struct mesh_json_writing *how,
                        json_t *want, size_t at)
{
    char *text = write_json(message, how);
    json_error_t error;
    json_t *got = json_loads(text, JSON_DECODE_ANY, &error);

    if (!got || !same(got, want)) {
        char *wanted = json_dumps(want, JSON_COMPACT);

        fail_msg("message %zu: got %s, want %s %s", at, text, wanted, got ? "" : error.text);
    }
    json_decref(got);
    free(text);
}

static ProtobufCMessage *read_json(const char *text)
{
    char why[MESH_JSON_WHY];
    ProtobufCMessage *message = NULL;

    if (mesh_json_read(type, text, strlen(text), NULL, &message, why) < 0)
        fail_msg("%s: %s", text, why);
    return message;
}

static void check_wire(const ProtobufCMessage *message, const uint8_t *wire, size_t size, size_t at)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(n + 1);

    protobuf_c_message_pack(message, packed);
    if (n != size || memcmp(packed, wire, n) != 0)
        fail_msg("message %zu: JSON to %zu bytes, want %zu", at, n, size);
    free(packed);
}

static void check_golden(json_t *golden, size_t at)
{
    const struct mesh_json_writing full = {.defaults = true, .original_names = true};
    const struct mesh_json_writing pretty = {.pretty = true};
    json_t *want = json_object_get(golden, "json");
    ProtobufCMessage *message = NULL;
    ProtobufCMessage *back;
    char *text;
    size_t size;
    uint8_t *wire = unhex(json_string_value(json_object_get(golden, "wire")), &size);

    assert_int_equal(mesh_message_read(type, wire, size, MEMORY_MAX, &message), 0);
    assert_same(message, NULL, want, at);
    assert_same(message, &pretty, want, at);
    if (json_object_get(golden, "full")) {
        assert_same(message, &full, json_object_get(golden, "full"), at);
        text = write_json(message, &full);
        back = read_json(text);
        assert_same(back, NULL, want, at); /* original names are read, defaults change nothing */
        protobuf_c_message_free_unpacked(back, NULL);
        free(text);
    }
    text = json_dumps(want, JSON_REAL_PRECISION(17));
    back = read_json(text);
    assert_same(back, NULL, want, at);
    if (json_is_true(json_object_get(golden, "exact")))
        check_wire(back, wire, size, at);
    protobuf_c_message_free_unpacked(back, NULL);
    protobuf_c_message_free_unpacked(message, NULL);
    free(text);
    free(wire);
}

static void golden_messages_read_and_write_as_googles_do(void **state)
{
    json_t *all = json_load_file(GOLDEN_DIR "/json.json", 0, NULL);
    size_t i;
    json_t *golden;

    (void)state;
    assert_true(json_array_size(all) > 80);
    json_array_foreach(all, i, golden) check_golden(golden, i);
    json_decref(all);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void refused(const char *text, const char *why_want)
{
    char why[MESH_JSON_WHY];
    ProtobufCMessage *message = NULL;

    assert_int_equal(mesh_json_read(type, text, strlen(text), NULL, &message, why), -EINVAL);
    assert_null(message);
    if (!strstr(why, why_want))
        fail_msg("%s gives '%s', not '%s'", text, why, why_want);
}

static void errors_name_the_place_and_what_is_expected(void **state)
{
    (void)state;
    refused("{\"anInt32\": \"x\"}", "anInt32: expected a whole number of 32 bits, not \"x\"");
    refused("{\"anInt32\": 2147483648}", "anInt32: expected");
    refused("{\"anInt32\": 1.5}", "not 1.5");
    refused("{\"aUint32\": -1}", "from 0 to 4294967295, not -1");
    refused("{\"aUint64\": \"18446744073709551616\"}", "aUint64: expected");
    refused("{\"anInt64\": \" 1\"}", "anInt64: expected");
    refused("{\"aFloat\": 1e39}", "single precision");
    refused("{\"aDouble\": \"nan\"}", "aDouble: expected a number");
    refused("{\"aBool\": 1}", "aBool: expected true or false, not 1");
    refused("{\"aString\": 3}", "aString: expected a string, not 3");
    refused("{\"someBytes\": \"a?\"}", "someBytes: expected a string of base64");
    refused("{\"someBytes\": \"abcde\"}", "base64");
    refused("{\"color\": \"GREEN\"}", "color: expected one of DARK_RED, BLACK, RED, not \"GREEN\"");
    refused("{\"inner\": {\"inners\": [{}, {\"strings\": [\"a\", {}]}]}}",
            "inner.inners[1].strings[1]: expected a string, not {}");
    refused("{\"inner\": 1}", "inner: expected an object (" TYPE "), not 1");
    refused("{\"ints\": 1}", "ints: expected an array, not 1");
    refused("{\"ints\": [null]}", "ints[0]: expected");
    refused("{\"byName\": []}", "byName: expected an object (a map), not []");
    refused("{\"byNumber\": {\"x\": {}}}", "byNumber.x: expected a whole number");
    refused("{\"byTruth\": {\"yes\": \"\"}}", "byTruth.yes: expected true or false");
    refused("{\"nothing\": 1}", TYPE " has no field 'nothing'; it has anInt32, aSint32");
    refused("{\"inner\": {\"nothing\": 1}}", "inner: ");
    refused("{\"anInt32\": 1, \"an_int32\": 2}", "is there already");
    refused("{\"chosenLong\": 1, \"chosenString\": \"\"}", "chosenString: it, or another field");
    refused("{\"at\": \"2023-02-29T00:00:00Z\"}", "at: expected a time like");
    refused("{\"at\": \"2024-05-01 12:00:00Z\"}", "at: expected a time like");
    refused("{\"took\": \"1\"}", "took: expected a duration like \"1.5s\"");
    refused("{\"took\": \"1.0123456789s\"}", "took: expected");
    refused("[]", "expected an object");
    refused("3", "expected an object");
    refused("", "not JSON: ");
    refused("{\"aString\": \"\xff\"}", "not JSON: ");
    refused("{\"anInt32\": 1} x", "not JSON: ");
    refused("{\"anInt32\": 1, \"anInt32\": 1}", "not JSON: duplicate");
}

static void reads_as(const char *text, const char *want)
{
    ProtobufCMessage *message = read_json(text);
    char *got = write_json(message, NULL);

    assert_string_equal(got, want);
    free(got);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void several_spellings_are_read(void **state)
{
    (void)state;
    reads_as("{\"an_int32\": 1e2}", "{\"anInt32\":100}");
    reads_as("{\"anInt32\": \"-5\"}", "{\"anInt32\":-5}");
    reads_as("{\"aUint64\": 5}", "{\"aUint64\":\"5\"}");
    reads_as("{\"aDouble\": \"1.25\"}", "{\"aDouble\":1.25}");
    reads_as("{\"color\": 1, \"colors\": [\"RED\", 77]}",
             "{\"color\":\"RED\",\"colors\":[\"RED\",77]}");
    reads_as("{\"someBytes\": \"-_8\"}", "{\"someBytes\":\"+/8=\"}");
    reads_as("{\"anInt32\": null, \"ints\": null, \"inner\": null}", "{}");
    reads_as("{\"at\": \"2024-05-01T12:00:00.5+02:00\"}", "{\"at\":\"2024-05-01T10:00:00.500Z\"}");
    reads_as("{\"other-name\": \"a\"}", "{\"other-name\":\"a\"}");
    reads_as("{\"renamed\": \"a\"}", "{\"other-name\":\"a\"}");
    reads_as("{\"maybeInt\": 0}", "{\"maybeInt\":0}");
    reads_as("{\"chosenInner\": {}}", "{\"chosenInner\":{}}");
}

static void unknown_fields_may_be_ignored(void **state)
{
    static const char TEXT[] = "{\"nothing\": {\"at\": [1]}, \"anInt32\": 1}";
    const struct mesh_json_reading lenient = {.ignore_unknown = true};
    char why[MESH_JSON_WHY];
    ProtobufCMessage *message = NULL;
    char *text;

    (void)state;
    assert_int_equal(mesh_json_read(type, TEXT, sizeof(TEXT) - 1, &lenient, &message, why), 0);
    text = write_json(message, NULL);
    assert_string_equal(text, "{\"anInt32\":1}");
    free(text);
    protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* {"inner":{"inner": ... {} ... }} */
static char *deep_json(int depth)
{
    struct buffer out;

    buffer_init(&out, MEMORY_MAX);
    for (int i = 1; i < depth; i++)
        buffer_printf(&out, "{\"inner\":");
    buffer_printf(&out, "{}");
    for (int i = 1; i < depth; i++)
        buffer_printf(&out, "}");
    return (char *)out.data;
}

static void depth_is_bounded(void **state)
{
    char why[MESH_JSON_WHY];
    ProtobufCMessage *message = NULL;
    char *text = deep_json(MESH_DEPTH_MAX);
    char *back;

    (void)state;
    message = read_json(text);
    back = write_json(message, NULL);
    assert_string_equal(back, text);
    protobuf_c_message_free_unpacked(message, NULL);
    free(back);
    free(text);
    text = deep_json(MESH_DEPTH_MAX + 1);
    assert_int_equal(mesh_json_read(type, text, strlen(text), NULL, &message, why), -EMSGSIZE);
    assert_non_null(strstr(why, "nested deeper than 100"));
    free(text);
}

/* Submessages in submessages; built from the inside. */
static uint8_t *deep_wire(int depth, size_t *size)
{
    uint8_t *bytes = malloc((size_t)depth * 8);
    uint8_t *end = bytes + (size_t)depth * 8;
    uint8_t *at = end;

    for (int i = 1; i < depth; i++) {
        size_t n = (size_t)(end - at);
        uint8_t length[8];
        int digits = 0;

        for (; digits == 0 || n > 0; n >>= 7)
            length[digits++] = (uint8_t)((n & 0x7F) | (n >> 7 ? 0x80 : 0));
        at -= digits;
        memcpy(at, length, (size_t)digits);
        *--at = 0x01; /* field 17, length-prefixed: 0x8A 0x01 */
        *--at = 0x8A;
    }
    *size = (size_t)(end - at);
    memmove(bytes, at, *size);
    return bytes;
}

static void wire_is_bounded(void **state)
{
    ProtobufCMessage *message = NULL;
    size_t size;
    uint8_t *bytes = deep_wire(MESH_DEPTH_MAX, &size);

    (void)state;
    assert_int_equal(mesh_message_read(type, bytes, size, MEMORY_MAX, &message), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    free(bytes);
    bytes = deep_wire(100000, &size); /* would be the end of the stack */
    assert_int_equal(mesh_message_read(type, bytes, size, MEMORY_MAX, &message), -EMSGSIZE);
    assert_int_equal(mesh_message_read(type, bytes, size - 1, MEMORY_MAX, &message), -EBADMSG);
    free(bytes);
    bytes = calloc(1, 300000);
    for (size_t i = 0; i < 300000; i += 3) /* a hundred thousand empty messages: field 27 */
        memcpy(bytes + i, "\xDA\x01\x00", 3);
    assert_int_equal(mesh_message_read(type, bytes, 300000, (size_t)1 << 20, &message), -EMSGSIZE);
    free(bytes);
}

static void a_full_buffer_is_left_as_it_was(void **state)
{
    ProtobufCMessage *message = read_json("{\"aString\": \"0123456789012345678901234567890\"}");
    struct buffer out;

    (void)state;
    buffer_init(&out, 24);
    buffer_printf(&out, "x");
    assert_int_equal(mesh_json_write(message, NULL, &out), -EMSGSIZE);
    assert_int_equal(out.size, 1);
    buffer_fini(&out);
    protobuf_c_message_free_unpacked(message, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_messages_read_and_write_as_googles_do),
        cmocka_unit_test(errors_name_the_place_and_what_is_expected),
        cmocka_unit_test(several_spellings_are_read),
        cmocka_unit_test(unknown_fields_may_be_ignored),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(wire_is_bounded),
        cmocka_unit_test(a_full_buffer_is_left_as_it_was),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
