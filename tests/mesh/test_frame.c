/* Every byte of the wire, and bytes that are none. */
#include "mesh/frame.h"
#include "mesh/message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A header with another value in each byte, written down by hand from docs/wire.md; the crc was
 * computed bit by bit with Python. */
static const uint8_t golden[MESH_HEADER_BYTES] = {
    0x4d, 0x53, 0x48, 0x01,                         /* magic, version */
    0x20, 0x00,                                     /* OPEN, minor */
    0x13, 0x00,                                     /* END_SEND, MESSAGE, ROUTE */
    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* call_id */
    0x14, 0x13, 0x12, 0x11,                         /* seq */
    0x24, 0x23, 0x22, 0x21,                         /* credit_messages */
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, /* credit_bytes */
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, /* timeout_ns */
    0x05, 0x00, 0x00, 0x00,                         /* body_bytes */
    0x0e, 0x00,                                     /* status */
    0x07, 0x02,                                     /* priority, attempt */
    0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, /* method_hash */
    0x03, 0x00, 0x00, 0x00,                         /* meta_bytes */
    0x00, 0x00, 0x00, 0x00,                         /* crc, put in by the test */
};

static const struct mesh_header golden_header = {
    .kind = MESH_OPEN,
    .flags = MESH_END_SEND | MESH_MESSAGE | MESH_ROUTE,
    .call_id = 0x0102030405060708,
    .seq = 0x11121314,
    .credit_messages = 0x21222324,
    .credit_bytes = 0x3132333435363738,
    .timeout_ns = 0x4142434445464748,
    .body_bytes = 5,
    .status = 14,
    .priority = 7,
    .attempt = 2,
    .method_hash = 0x5152535455565758,
    .meta_bytes = 3,
};

static void put_crc(uint8_t *frame)
{
    uint32_t crc = mesh_crc32c_portable(frame, 60);

    for (int i = 0; i < 4; i++)
        frame[60 + i] = (uint8_t)(crc >> (8 * i));
}

static void crc_is_castagnoli(void **state)
{
    /* RFC 3720, B.4 */
    static const struct {
        uint8_t first, step;
        uint32_t crc;
    } vectors[] = {
        {0, 0, 0x8a9136aa}, {0xff, 0, 0x62a8ab43}, {0, 1, 0x46dd794e}, {31, 255, 0x113fdb5c}};
    uint8_t bytes[257];

    (void)state;
    for (size_t v = 0; v < 4; v++) {
        for (size_t i = 0; i < 32; i++)
            bytes[i] = (uint8_t)(vectors[v].first + i * vectors[v].step);
        assert_int_equal(mesh_crc32c(bytes, 32), vectors[v].crc);
        assert_int_equal(mesh_crc32c_portable(bytes, 32), vectors[v].crc);
    }
    assert_int_equal(mesh_crc32c("123456789", 9), 0xe3069283);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 197 + 11);
    for (size_t size = 0; size <= sizeof(bytes); size++)
        assert_int_equal(mesh_crc32c(bytes, size), mesh_crc32c_portable(bytes, size));
}

static void header_is_as_documented(void **state)
{
    uint8_t want[MESH_HEADER_BYTES], got[MESH_HEADER_BYTES];
    struct mesh_header header;

    (void)state;
    memcpy(want, golden, sizeof(want));
    put_crc(want);
    assert_memory_equal(want + 60, "\x92\x10\x1d\x27", 4);
    mesh_header_encode(&golden_header, got);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(mesh_header_decode(want, sizeof(want), &header), 0);
    assert_int_equal(header.kind, golden_header.kind);
    assert_int_equal(header.flags, golden_header.flags);
    assert_int_equal(header.call_id, golden_header.call_id);
    assert_int_equal(header.seq, golden_header.seq);
    assert_int_equal(header.credit_messages, golden_header.credit_messages);
    assert_int_equal(header.credit_bytes, golden_header.credit_bytes);
    assert_int_equal(header.timeout_ns, golden_header.timeout_ns);
    assert_int_equal(header.body_bytes, golden_header.body_bytes);
    assert_int_equal(header.status, golden_header.status);
    assert_int_equal(header.priority, golden_header.priority);
    assert_int_equal(header.attempt, golden_header.attempt);
    assert_int_equal(header.method_hash, golden_header.method_hash);
    assert_int_equal(header.meta_bytes, golden_header.meta_bytes);
}

static void numbers_do_not_change(void **state)
{
    static const struct {
        uint8_t number;
        const char *name;
    } kinds[] = {
        {1, "HELLO"},    {2, "WELCOME"},  {3, "PING"},      {4, "PONG"},        {5, "GOAWAY"},
        {6, "BYE"},      {7, "ERROR"},    {16, "REGISTER"}, {17, "REGISTERED"}, {18, "CAPACITY"},
        {19, "DRAIN"},   {20, "DRAINED"}, {21, "IDENTITY"}, {32, "OPEN"},       {33, "ACCEPT"},
        {34, "INITIAL"}, {35, "DATA"},    {36, "CREDIT"},   {37, "CANCEL"},     {38, "END"},
    };
    int named = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        assert_string_equal(mesh_kind_name(kinds[i].number), kinds[i].name);
    for (int kind = 0; kind < 256; kind++)
        named += mesh_kind_name((uint8_t)kind)[0] != '?';
    assert_int_equal(named, sizeof(kinds) / sizeof(kinds[0]));
    /* computed with Python, from the description of xxh64 */
    assert_int_equal(mesh_method_hash("/dragoman.mesh.v1.Health/Check", 30), 0x7c6a10b9a3d07f6b);
}

/* A header of these flags and lengths, with a first frame of `size` bytes. */
static int decode(uint16_t flags, uint32_t meta_bytes, uint32_t body_bytes, size_t size,
                  const char *second, size_t second_size, struct mesh_frame *out)
{
    static uint8_t first[MESH_HEADER_BYTES + MESH_META_MAX + MESH_INLINE_MAX + 2];
    struct mesh_header header = {
        .kind = MESH_DATA, .flags = flags, .meta_bytes = meta_bytes, .body_bytes = body_bytes};
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees one byte too many */
    int err;

    mesh_header_encode(&header, first);
    memcpy(exact, first, size);
    err = mesh_frame_decode(exact, size, second, second_size, out);
    free(exact);
    return err;
}

static void parts_must_agree(void **state)
{
    const uint16_t in_line = MESH_MESSAGE | MESH_INLINE;
    struct mesh_frame frame;

    (void)state;
    assert_int_equal(decode(0, 0, 0, 64, NULL, 0, &frame), 0);
    assert_null(frame.body);
    assert_int_equal(decode(in_line, 0, 0, 64, NULL, 0, &frame), 0);
    assert_non_null(frame.body);
    assert_int_equal(frame.body_size, 0);
    assert_int_equal(decode(in_line, 10, 20, 94, NULL, 0, &frame), 0);
    assert_int_equal(frame.body_size, 20);
    assert_ptr_equal(frame.body, frame.meta + 10);
    assert_int_equal(decode(MESH_MESSAGE, 10, 3, 74, "abc", 3, &frame), 0);
    assert_int_equal(frame.body_size, 3);
    assert_int_equal(decode(in_line, MESH_META_MAX, MESH_INLINE_MAX,
                            64 + MESH_META_MAX + MESH_INLINE_MAX, NULL, 0, &frame),
                     0);
    assert_int_equal(decode(in_line | MESH_LZ4, 0, 1000, 70, NULL, 0, &frame), 0);
    assert_int_equal(frame.body_size, 6);

    assert_int_equal(decode(0, 0, 0, 65, NULL, 0, &frame), -EBADMSG); /* something left over */
    assert_int_equal(decode(0, 1, 0, 64, NULL, 0, &frame), -EBADMSG); /* Meta past the frame */
    assert_int_equal(decode(0, UINT32_MAX, 0, 64, NULL, 0, &frame), -EBADMSG);
    assert_int_equal(decode(in_line, MESH_META_MAX + 1, 0, 64 + MESH_META_MAX + 1, NULL, 0, &frame),
                     -EBADMSG);
    assert_int_equal(
        decode(in_line, 0, MESH_INLINE_MAX + 1, 64 + MESH_INLINE_MAX + 1, NULL, 0, &frame),
        -EBADMSG);
    assert_int_equal(decode(in_line, 0, 5, 64, NULL, 0, &frame), -EBADMSG); /* shorter than said */
    assert_int_equal(decode(in_line, 0, 5, 74, NULL, 0, &frame), -EBADMSG);
    assert_int_equal(decode(in_line, 0, 0, 64, "", 0, &frame), -EBADMSG); /* a frame too many */
    assert_int_equal(decode(0, 0, 0, 64, "", 0, &frame), -EBADMSG);
    assert_int_equal(decode(MESH_MESSAGE, 0, 3, 64, NULL, 0, &frame), -EBADMSG); /* too few */
    assert_int_equal(decode(MESH_MESSAGE, 0, 3, 67, "abc", 3, &frame), -EBADMSG);
    assert_int_equal(decode(MESH_MESSAGE, 0, 4, 64, "abc", 3, &frame), -EBADMSG);
    assert_int_equal(decode(MESH_LZ4, 0, 4, 64, NULL, 0, &frame), -EBADMSG);
    assert_int_equal(decode(MESH_INLINE, 0, 0, 64, NULL, 0, &frame), -EBADMSG);
}

static void damage_is_seen(void **state)
{
    uint8_t frame[MESH_HEADER_BYTES];
    struct mesh_header header;

    (void)state;
    mesh_header_encode(&golden_header, frame);
    for (size_t size = 0; size < sizeof(frame); size++)
        assert_int_equal(mesh_header_decode(frame, size, &header), -EBADMSG);
    for (size_t bit = 0; bit < 8 * sizeof(frame); bit++) {
        int want = bit / 8 == 3 ? -EPROTONOSUPPORT : -EBADMSG;

        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(mesh_header_decode(frame, sizeof(frame), &header), want);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(mesh_header_decode(frame, sizeof(frame), &header), 0);
}

/* A later minor version may add kinds, flags, and use the byte behind the kind. */
static void unknown_kinds_and_flags_pass(void **state)
{
    uint8_t frame[MESH_HEADER_BYTES];
    struct mesh_header header = {.kind = 200, .flags = 0x4000};

    (void)state;
    mesh_header_encode(&header, frame);
    frame[5] = 9;
    put_crc(frame);
    assert_int_equal(mesh_header_decode(frame, sizeof(frame), &header), 0);
    assert_int_equal(header.kind, 200);
    assert_int_equal(header.flags, 0x4000);
}

static void lz4_round_trip_and_bombs(void **state)
{
    enum { SIZE = 100000 };
    uint8_t *text = malloc(SIZE);
    uint8_t *small = malloc(SIZE);
    uint8_t *back = malloc(SIZE);
    size_t size;

    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (uint8_t) "all human beings are born free "[i % 31];
    size = mesh_body_compress(text, SIZE, small);
    assert_in_range(size, 1, SIZE / 10);
    assert_int_equal(mesh_body_expand(small, size, back, SIZE), 0);
    assert_memory_equal(back, text, SIZE);
    assert_int_equal(mesh_body_expand(small, size, back, SIZE - 1), -EBADMSG); /* more than said */
    assert_int_equal(mesh_body_expand(small, size - 1, back, SIZE), -EBADMSG); /* cut */
    assert_int_equal(mesh_body_expand(small, 0, back, 1), -EBADMSG);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (uint8_t)((i * i * 2654435761u) >> 13);
    size = mesh_body_compress(text, 64, small);
    assert_true(size == 0 || size < 64); /* never larger */
    assert_int_equal(mesh_body_compress(text, 0, small), 0);
    free(text);
    free(small);
    free(back);
}

static void message_puts_small_bodies_in_line(void **state)
{
    Dragoman__Mesh__V1__Hello body = DRAGOMAN__MESH__V1__HELLO__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_DATA, .call_id = 7};
    struct mesh_message message;
    struct mesh_frame frame;
    ProtobufCMessage *out = NULL;

    (void)state;
    meta.method = (char *)"/a.B/C";
    for (size_t size = MESH_INLINE_MAX - 100; size < MESH_INLINE_MAX + 100; size += 7) {
        body.name = calloc(1, size + 1);
        memset(body.name, 'x', size);
        assert_int_equal(mesh_message_build(&header, &meta, &body.base, false, &message), 0);
        mesh_message_frame(&message, &frame);
        assert_int_equal(message.has_body, frame.header.body_bytes > MESH_INLINE_MAX);
        assert_int_equal((frame.header.flags & MESH_INLINE) != 0, !message.has_body);
        assert_int_equal(
            mesh_frame_unpack(&frame, &dragoman__mesh__v1__hello__descriptor, 1 << 20, &out), 0);
        assert_string_equal(((Dragoman__Mesh__V1__Hello *)out)->name, body.name);
        protobuf_c_message_free_unpacked(out, NULL);
        assert_int_equal(
            mesh_frame_unpack(&frame, &dragoman__mesh__v1__hello__descriptor, size - 1, &out),
            -EMSGSIZE);
        mesh_message_close(&message);
        free(body.name);
    }
}

static void meta_can_be_replaced(void **state)
{
    Dragoman__Mesh__V1__Hello body = DRAGOMAN__MESH__V1__HELLO__INIT;
    mesh_meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_header header = {.kind = MESH_END, .call_id = 7};
    char large[20000];

    (void)state;
    memset(large, 'y', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    for (int in_line = 0; in_line < 2; in_line++) {
        ProtobufCMessage *out = NULL;
        mesh_meta *read = NULL;
        struct mesh_message message;
        struct mesh_frame frame;

        body.name = in_line ? large + sizeof(large) - 20 : large;
        assert_int_equal(mesh_message_build(&header, NULL, &body.base, false, &message), 0);
        meta.status_message = (char *)"fine";
        assert_int_equal(mesh_message_set_meta(&message, &meta), 0);
        mesh_message_frame(&message, &frame);
        assert_int_equal(mesh_meta_unpack(&frame, &read), 0);
        assert_string_equal(read->status_message, "fine");
        assert_int_equal(
            mesh_frame_unpack(&frame, &dragoman__mesh__v1__hello__descriptor, 1 << 20, &out), 0);
        assert_string_equal(((Dragoman__Mesh__V1__Hello *)out)->name, body.name);
        protobuf_c_message_free_unpacked(out, NULL);
        dragoman__mesh__v1__meta__free_unpacked(read, NULL);
        meta.status_message = large; /* over the limit: nothing changes */
        assert_int_equal(mesh_message_set_meta(&message, &meta), -EMSGSIZE);
        assert_int_equal(mesh_message_build(&header, &meta, NULL, false, &message), -EMSGSIZE);
        mesh_message_close(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(header_is_as_documented),
        cmocka_unit_test(numbers_do_not_change),
        cmocka_unit_test(parts_must_agree),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(unknown_kinds_and_flags_pass),
        cmocka_unit_test(lz4_round_trip_and_bombs),
        cmocka_unit_test(message_puts_small_bodies_in_line),
        cmocka_unit_test(meta_can_be_replaced),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
