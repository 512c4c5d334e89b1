/* What a status says for programs: a message with its type's name, out of bytes from anyone. */
#include "mesh/details.h"

#include "mesh/meta.h"
#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef Dragoman__Mesh__V1__Label label_message;

/* As google.protobuf.Any is packed: others read it, too. */
static void a_message_goes_with_its_name(void **state)
{
    static const char WANT[] = "\x0a\x2a"
                               "type.googleapis.com/dragoman.mesh.v1.Label\x12\x06\x0a\x04"
                               "lang";
    label_message label = DRAGOMAN__MESH__V1__LABEL__INIT;
    label_message *read;
    void *packed = NULL;
    size_t size = 0;

    (void)state;
    label.key = (char *)"lang";
    assert_int_equal(mesh_details_pack(&label.base, &packed, &size), 0);
    assert_int_equal(WANT[1], strlen("type.googleapis.com/dragoman.mesh.v1.Label"));
    assert_int_equal(size, sizeof(WANT) - 1);
    assert_memory_equal(packed, WANT, size);
    read = (label_message *)mesh_details_read(packed, size, label.base.descriptor);
    assert_string_equal(read->key, "lang");
    protobuf_c_message_free_unpacked(&read->base, NULL);
    assert_null(mesh_details_read(packed, size, &dragoman__mesh__v1__hello__descriptor));
    free(packed);
}

static void an_empty_message_is_one(void **state)
{
    const label_message label = DRAGOMAN__MESH__V1__LABEL__INIT;
    ProtobufCMessage *read;
    void *packed = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(mesh_details_pack(&label.base, &packed, &size), 0);
    read = mesh_details_read(packed, size, label.base.descriptor);
    assert_non_null(read);
    protobuf_c_message_free_unpacked(read, NULL);
    free(packed);
}

#define BYTES(text) text, sizeof(text) - 1

static void other_bytes_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {
        {BYTES("")},
        {BYTES("free text")},
        {BYTES("\x0a\x03"
               "a.B")}, /* no '/' */
        {BYTES("\x0a\x02"
               "a/")}, /* nothing behind it */
        {BYTES("\x0a\x05"
               "/a.B")}, /* longer than the bytes */
        {BYTES("\x0a")},
        {BYTES("\x0a\x80\x80\x80\x80\x80\x00"
               "/a.B")}, /* a length of too many bytes */
        {BYTES("\x0a\x84\x80\x80\x80\x10"
               "/a.B")}, /* of more than 32 bits */
        {BYTES("\x0a\x05"
               "/a B!")},
        {BYTES("\x0a\x05"
               "/a\x1b[2")},
        {BYTES("\x0a\x04"
               "/a\0B")},
        {BYTES("\x0a\x04"
               "\0/aB")},
        {BYTES("\x0a\x04"
               "/a.B"
               "\x1a\x01"
               "x")}, /* a field that is none of its */
        {BYTES("\x0a\x04"
               "/a.B"
               "\x10\x01")},
        {BYTES("\x12\x01"
               "x")}, /* no type */
    };
    struct mesh_details opened;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (mesh_details_open(wrong[i].bytes, wrong[i].size, &opened) != -EBADMSG)
            fail_msg("taken: number %zu", i);
        assert_null(mesh_details_read(wrong[i].bytes, wrong[i].size,
                                      &dragoman__mesh__v1__label__descriptor));
    }
}

static void names_have_a_limit(void **state)
{
    uint8_t bytes[4 + MESH_DETAILS_TYPE_MAX] = {0x0a};
    struct mesh_details opened;

    (void)state;
    for (size_t n = MESH_DETAILS_TYPE_MAX - 1; n <= MESH_DETAILS_TYPE_MAX; n++) {
        bytes[1] = (uint8_t)((n + 1) % 128 + 128);
        bytes[2] = (uint8_t)((n + 1) / 128);
        bytes[3] = '/';
        memset(bytes + 4, 'x', n);
        assert_int_equal(mesh_details_open(bytes, 4 + n, &opened),
                         n < MESH_DETAILS_TYPE_MAX ? 0 : -EBADMSG);
    }
    assert_int_equal(strlen(opened.type), MESH_DETAILS_TYPE_MAX - 1);
}

/* The last of a name counts: one that a handler gave as a trailer is not taken for the mesh's. */
static void details_are_the_last_of_their_name(void **state)
{
    Dragoman__Mesh__V1__Meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_metadata *trailers = NULL;
    uint8_t large[MESH_METADATA_MAX + 1] = {7};
    const void *details;
    size_t size = 9;

    (void)state;
    assert_null(mesh_metadata_details(NULL, &size));
    assert_int_equal(size, 0);
    assert_int_equal(mesh_metadata_take_details(&meta, &trailers), 0);
    assert_null(trailers);
    mesh_metadata_add(&trailers, MESH_DETAILS_KEY, "mine", 4);
    meta.status_details = (ProtobufCBinaryData){sizeof(large), large};
    assert_int_equal(mesh_metadata_take_details(&meta, &trailers), 0);
    details = mesh_metadata_details(trailers, &size);
    assert_int_equal(size, sizeof(large));
    assert_memory_equal(details, large, size);
    mesh_metadata_destroy(&trailers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_goes_with_its_name),
        cmocka_unit_test(an_empty_message_is_one),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(details_are_the_last_of_their_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
