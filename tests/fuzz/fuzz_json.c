/* Descriptor sets, messages on the wire and JSON, each from someone who means harm. */
#include "mesh/json.h"
#include "mesh/schema.h"
#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_MAX ((size_t)16 << 20)
#define TEXT_MAX ((size_t)16 << 20)
#define GOLDEN SOURCE_DIR "/tests/mesh/golden/json.fds"

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

/* The first byte says what follows: 'S' a set and, behind its size in two bytes, a message of its first
 * service's first request; 'W' a message of the golden type; 'J' JSON for it. */
const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/tests/fuzz/json/set", NULL, 0},
    {SOURCE_DIR "/tests/fuzz/json/wire", NULL, 0},
    SEED("W\x8A\x01\x05\x8A\x01\x02\x08\x01\xF2\x01\x04\x0A\x01"
         "a\x10"),
    SEED(
        "J{\"anInt32\":-1,\"aDouble\":\"NaN\",\"someBytes\":\"AAE=\",\"inner\":{\"color\":\"RED\"},"
        "\"byNumber\":{\"5\":{}},\"at\":\"2024-05-01T12:00:00.5Z\",\"took\":\"-1.5s\"}"),
    SEED("J{\"ints\":[1,2],\"chosenInner\":{\"boxedLong\":\"7\"},\"inners\":[{},{\"strings\":["
         "\"\\u0041\"]}]}"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 30000;

static void need(bool so)
{
    if (!so)
        abort();
}

static const ProtobufCMessageDescriptor *golden_type(void)
{
    static struct mesh_schema *schema; /* for the whole run */
    static uint8_t set[65536];
    char why[MESH_SCHEMA_WHY];
    FILE *file;
    size_t size;

    if (!schema) {
        file = fopen(GOLDEN, "rb");
        need(file);
        size = fread(set, 1, sizeof(set), file);
        fclose(file);
        need(mesh_schema_create(set, size, &schema, why) == 0);
    }
    return mesh_schema_message(schema, "dragoman.test.json.Everything");
}

/* What JSON was written is read again, and gives the same JSON. */
static void round_trip(const ProtobufCMessage *message, const struct mesh_json_writing *how)
{
    char why[MESH_JSON_WHY];
    ProtobufCMessage *back = NULL;
    struct buffer first, second;

    buffer_init(&first, TEXT_MAX);
    buffer_init(&second, TEXT_MAX);
    if (mesh_json_write(message, how, &first) == 0 &&
        mesh_json_read(message->descriptor, (char *)first.data, first.size, NULL, &back, why) ==
            0) {
        need(mesh_json_write(back, how, &second) == 0);
        protobuf_c_message_free_unpacked(back, NULL);
    }
    buffer_fini(&first);
    buffer_fini(&second);
}

static void read_wire(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size)
{
    const struct mesh_json_writing full = {.defaults = true, .pretty = true};
    ProtobufCMessage *message = NULL;

    if (mesh_message_read(type, bytes, size, MEMORY_MAX, &message) < 0)
        return;
    round_trip(message, NULL);
    round_trip(message, &full);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void read_set(const uint8_t *bytes, size_t size)
{
    struct mesh_schema *schema = NULL;
    char why[MESH_SCHEMA_WHY] = "";
    struct buffer text;
    size_t n;

    if (size < 2)
        return;
    n = (size_t)bytes[0] | (size_t)bytes[1] << 8;
    bytes += 2;
    size -= 2;
    if (n > size)
        n = size;
    if (mesh_schema_create(bytes, n, &schema, why) < 0) {
        need(why[0] != '\0' && memchr(why, '\0', sizeof(why)));
        return;
    }
    buffer_init(&text, TEXT_MAX);
    for (size_t i = 0; mesh_schema_service_at(schema, i); i++) {
        const struct mesh_schema_service *service = mesh_schema_service_at(schema, i);

        mesh_schema_print(schema, service->name, &text);
        for (size_t j = 0; j < service->n_methods; j++)
            read_wire(service->methods[j].input, bytes + n, size - n);
    }
    buffer_fini(&text);
    mesh_schema_destroy(&schema);
}

static void read_json(const uint8_t *bytes, size_t size)
{
    const struct mesh_json_reading lenient = {.ignore_unknown = true};
    ProtobufCMessage *message = NULL;
    char why[MESH_JSON_WHY] = "";

    if (mesh_json_read(golden_type(), (const char *)bytes, size, NULL, &message, why) < 0) {
        need(why[0] != '\0' && memchr(why, '\0', sizeof(why)));
        if (mesh_json_read(golden_type(), (const char *)bytes, size, &lenient, &message, why) < 0)
            return;
    }
    round_trip(message, NULL);
    protobuf_c_message_free_unpacked(message, NULL);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return;
    if (bytes[0] == 'S')
        read_set(bytes + 1, size - 1);
    else if (bytes[0] == 'J')
        read_json(bytes + 1, size - 1);
    else
        read_wire(golden_type(), bytes + 1, size - 1);
}
