/* ZMTP as bytes: what libzmq 4.3.4 sends is what we send and take; everything else is refused. */
#include "mesh/zmtp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a libzmq 4.3.4 socket of each kind sent over a Unix socket, read with recv(). */
static const uint8_t golden_greeting[ZMTP_GREETING_BYTES] =
    "\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL"; /* the rest is zero */
#define READY_OF(type) "\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06" type "\x08Identity\0\0\0\0"
#define READY_BYTES (sizeof(READY_OF("DEALER")) - 1)
static const uint8_t golden_dealer[] = READY_OF("DEALER");
static const uint8_t golden_router[] = READY_OF("ROUTER");

/* In memory of its own size, so that sanitizers see a step too far. */
static uint8_t *copy_of(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return copy;
}

/* ---- greeting -------------------------------------------------------------------------------- */

static int greeting_check(const void *bytes, size_t size)
{
    uint8_t *copy = copy_of(bytes, size);
    int err = zmtp_greeting_check(copy, size);

    free(copy);
    return err;
}

static void greeting_is_libzmqs(void **state)
{
    uint8_t ours[ZMTP_GREETING_BYTES];

    (void)state;
    zmtp_greeting_write(ours);
    assert_memory_equal(ours, golden_greeting, sizeof(ours));
    for (size_t size = 0; size <= sizeof(golden_greeting); size++)
        assert_int_equal(greeting_check(golden_greeting, size), 0);
}

static void greeting_may_differ_where_it_is_free(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } fine[] = {{1, 0xff}, {8, 0}, {9, 0xff}, {10, 4}, {11, 0}, {11, 9}, {32, 1}, {33, 7}, {63, 7}};
    uint8_t greeting[ZMTP_GREETING_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        memcpy(greeting, golden_greeting, sizeof(greeting));
        greeting[fine[i].at] = fine[i].value;
        assert_int_equal(greeting_check(greeting, sizeof(greeting)), 0);
    }
}

/* Each is refused as soon as the byte is there, and not before. */
static void greeting_is_refused(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {0, 'G'}, {0, 0xfe}, {9, 0x7e}, {10, 2}, {10, 0}, {12, 'P'}, {13, 'u'}, {16, 'L'}, {31, 1},
    };
    uint8_t greeting[ZMTP_GREETING_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        memcpy(greeting, golden_greeting, sizeof(greeting));
        greeting[wrong[i].at] = wrong[i].value;
        for (size_t size = 0; size <= sizeof(greeting); size++)
            assert_int_equal(greeting_check(greeting, size), size <= wrong[i].at ? 0 : -EPROTO);
    }
    memcpy(greeting, golden_greeting, sizeof(greeting));
    memcpy(greeting + 12, "CURVE", 5);
    assert_int_equal(greeting_check(greeting, sizeof(greeting)), -EPROTO);
    memcpy(greeting + 12, "PLAIN", 5);
    assert_int_equal(greeting_check(greeting, sizeof(greeting)), -EPROTO);
}

/* ---- READY ----------------------------------------------------------------------------------- */

static int ready_check(enum mesh_socket_kind ours, const void *body, size_t size)
{
    uint8_t *copy = copy_of(body, size);
    int err = zmtp_ready_check(ours, copy, size);

    free(copy);
    return err;
}

#define check_ready(ours, text) ready_check(ours, text, sizeof(text) - 1)

static void ready_is_libzmqs(void **state)
{
    uint8_t ours[ZMTP_COMMAND_MAX];

    (void)state;
    assert_int_equal(zmtp_ready_write(MESH_DEALER, ours), READY_BYTES);
    assert_memory_equal(ours, golden_dealer, READY_BYTES);
    assert_int_equal(zmtp_ready_write(MESH_ROUTER, ours), READY_BYTES);
    assert_memory_equal(ours, golden_router, READY_BYTES);
    assert_int_equal(ready_check(MESH_ROUTER, golden_dealer + 2, READY_BYTES - 2), 0);
    assert_int_equal(ready_check(MESH_DEALER, golden_router + 2, READY_BYTES - 2), 0);
}

static void ready_of_another_socket_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ready_check(MESH_ROUTER, golden_router + 2, READY_BYTES - 2), -EPROTO);
    assert_int_equal(ready_check(MESH_DEALER, golden_dealer + 2, READY_BYTES - 2), -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\0\0\0\x03REQ"), -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\0\0\0\x05"
                                              "DEALE"),
                     -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\0\0\0\x07"
                                              "DEALERS"),
                     -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\0\0\0\x06"
                                              "dealer"),
                     -EPROTO);
}

static void properties_have_any_order_and_no_case(void **state)
{
    (void)state;
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bsocket-TYPE\0\0\0\x06"
                                              "DEALER"),
                     0);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x01X\0\0\0\x02yz"
                                              "\x0bSocket-Type\0\0\0\x06"
                                              "DEALER"
                                              "\x08Identity\0\0\0\x03"
                                              "abc"),
                     0);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket\rType\0\0\0\x06"
                                              "DEALER"),
                     -EPROTO);
}

static void ready_is_refused(void **state)
{
    (void)state;
    assert_int_equal(check_ready(MESH_ROUTER, ""), -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY"), -EPROTO); /* of no type */
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x08Identity\0\0\0\0"), -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05"
                                              "ERROR\x00"),
                     -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x06READYY"), -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\0\0\0\x07"
                                              "DEALER"),
                     -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\x0bSocket-Type\xff\xff\xff\xff"
                                              "DEALER"),
                     -EPROTO);
    assert_int_equal(check_ready(MESH_ROUTER, "\x05READY\xffSocket-Type\0\0\0\x06"
                                              "DEALER"),
                     -EPROTO);
    for (size_t cut = 1; cut < READY_BYTES - 2; cut++) { /* the type without the identity is all */
        bool whole = cut == strlen("\x08Identity") + 4;

        assert_int_equal(ready_check(MESH_ROUTER, golden_dealer + 2, READY_BYTES - 2 - cut),
                         whole ? 0 : -EPROTO);
    }
}

/* ---- headers --------------------------------------------------------------------------------- */

static int header_read(const void *bytes, size_t size, struct zmtp_header *out)
{
    uint8_t *copy = copy_of(bytes, size);
    int used = zmtp_header_read(copy, size, out);

    free(copy);
    return used;
}

static void check_header(bool more, uint64_t size, const char *want, size_t want_size)
{
    struct zmtp_header header = {.command = true};
    uint8_t bytes[ZMTP_HEADER_MAX];

    assert_int_equal(zmtp_header_write(more, size, bytes), want_size);
    assert_memory_equal(bytes, want, want_size);
    for (size_t cut = 0; cut < want_size; cut++)
        assert_int_equal(header_read(bytes, cut, &header), 0);
    assert_int_equal(header_read(bytes, want_size, &header), want_size);
    assert_int_equal(header.more, more);
    assert_false(header.command);
    assert_true(header.size == size);
}

static void headers_are_libzmqs(void **state)
{
    (void)state;
    check_header(false, 0, "\0\0", 2);
    check_header(true, 2, "\x01\x02", 2); /* sent by libzmq before "hi" and another frame */
    check_header(false, 255, "\0\xff", 2);
    check_header(false, 256, "\x02\0\0\0\0\0\0\x01\0", 9);
    check_header(false, 300, "\x02\0\0\0\0\0\0\x01\x2c", 9); /* likewise, that frame */
    check_header(true, UINT64_C(0x0102030405060708), "\x03\1\2\3\4\5\6\7\x08", 9);
    check_header(false, UINT64_MAX, "\x02\xff\xff\xff\xff\xff\xff\xff\xff", 9);
}

static void long_headers_of_short_frames_and_commands_pass(void **state)
{
    struct zmtp_header header;

    (void)state;
    assert_int_equal(header_read("\x02\0\0\0\0\0\0\0\x05", 9, &header), 9);
    assert_true(header.size == 5 && !header.more && !header.command);
    assert_int_equal(header_read("\x04\x29", 2, &header), 2);
    assert_true(header.size == 0x29 && !header.more && header.command);
    assert_int_equal(header_read("\x06\0\0\0\0\0\0\0\x29", 9, &header), 9);
    assert_true(header.size == 0x29 && !header.more && header.command);
}

static void headers_with_other_flags_are_refused(void **state)
{
    struct zmtp_header header;

    (void)state;
    for (unsigned flags = 0; flags < 256; flags++) {
        uint8_t bytes[ZMTP_HEADER_MAX] = {(uint8_t)flags};
        bool fine = flags < 8 && flags != 5 && flags != 7; /* no command has a part that follows */
        int want = flags & 2 ? 9 : 2;

        assert_int_equal(header_read(bytes, sizeof(bytes), &header), fine ? want : -EPROTO);
        assert_int_equal(header_read(bytes, 1, &header), 0);
    }
}

/* ---- PING ------------------------------------------------------------------------------------ */

static size_t pong_of(const void *body, size_t size, uint8_t out[ZMTP_COMMAND_MAX])
{
    uint8_t *copy = copy_of(body, size);
    size_t written = zmtp_pong_write(copy, size, out);

    free(copy);
    return written;
}

static void ping_is_answered_as_libzmq_does(void **state)
{
    uint8_t pong[ZMTP_COMMAND_MAX];

    (void)state;
    assert_int_equal(pong_of("\x04PING\0\x0a"
                             "abc",
                             10, pong),
                     10);
    assert_memory_equal(pong, "\x04\x08\x04PONGabc", 10); /* as libzmq answered the same */
    assert_int_equal(pong_of("\x04PING\0\x0a", 7, pong), 7);
    assert_memory_equal(pong, "\x04\x05\x04PONG", 7);
    assert_int_equal(pong_of("\x04PING\0\x0a"
                             "0123456789abcdef",
                             23, pong),
                     23);
    assert_memory_equal(pong, "\x04\x15\x04PONG0123456789abcdef", 23);
}

static void what_is_no_ping_is_not_answered(void **state)
{
    uint8_t pong[ZMTP_COMMAND_MAX];

    (void)state;
    assert_int_equal(pong_of("", 0, pong), 0);
    assert_int_equal(pong_of("\x04PING", 5, pong), 0); /* without its time to live */
    assert_int_equal(pong_of("\x04PING\0", 6, pong), 0);
    assert_int_equal(pong_of("\x04PING\0\x0a"
                             "0123456789abcdefg",
                             24, pong),
                     0);
    assert_int_equal(pong_of("\x04PONG\0\x0a"
                             "abc",
                             10, pong),
                     0);
    assert_int_equal(pong_of("\x05PING\0\x0a"
                             "abc",
                             10, pong),
                     0);
    assert_int_equal(pong_of("\x05READY\0\0\0", 9, pong), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greeting_is_libzmqs),
        cmocka_unit_test(greeting_may_differ_where_it_is_free),
        cmocka_unit_test(greeting_is_refused),
        cmocka_unit_test(ready_is_libzmqs),
        cmocka_unit_test(ready_of_another_socket_is_refused),
        cmocka_unit_test(properties_have_any_order_and_no_case),
        cmocka_unit_test(ready_is_refused),
        cmocka_unit_test(headers_are_libzmqs),
        cmocka_unit_test(long_headers_of_short_frames_and_commands_pass),
        cmocka_unit_test(headers_with_other_flags_are_refused),
        cmocka_unit_test(ping_is_answered_as_libzmq_does),
        cmocka_unit_test(what_is_no_ping_is_not_answered),
    };

    return cmocka_run_group_tests_name("zmtp", tests, NULL, NULL);
}
