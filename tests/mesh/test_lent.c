/* Requests that are read where they lie; fuzz_lent.c has the rest. */
#include "mesh/lent.h"
#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const ProtobufCMessageDescriptor *const OFFER =
    &dragoman__mesh__v1__service_offer__descriptor;

/* A packed ServiceOffer, with room for a copy of itself behind it. */
static uint8_t *packed_offer(size_t large, size_t *size)
{
    Dragoman__Mesh__V1__ServiceOffer offer = DRAGOMAN__MESH__V1__SERVICE_OFFER__INIT;
    char *methods[] = {"One", "Two"};
    uint8_t *packed;

    offer.name = "a.B";
    offer.methods = methods;
    offer.n_methods = 2;
    offer.descriptor_set = (ProtobufCBinaryData){large, malloc(large)};
    memset(offer.descriptor_set.data, 'x', large);
    *size = protobuf_c_message_get_packed_size(&offer.base);
    packed = malloc(2 * *size);
    protobuf_c_message_pack(&offer.base, packed);
    free(offer.descriptor_set.data);
    return packed;
}

static bool lies_within(const struct mesh_lent *lent, const uint8_t *packed, size_t size)
{
    const Dragoman__Mesh__V1__ServiceOffer *offer = (const void *)lent->message;

    return offer->descriptor_set.data > packed && offer->descriptor_set.data < packed + size;
}

static void a_large_field_is_not_copied(void **state)
{
    size_t size, large = 100000;
    uint8_t *packed = packed_offer(large, &size);
    const Dragoman__Mesh__V1__ServiceOffer *offer;
    struct mesh_lent lent;

    (void)state;
    assert_int_equal(mesh_lent_unpack(OFFER, packed, size, &lent), 0);
    offer = (const void *)lent.message;
    assert_true(lies_within(&lent, packed, size));
    assert_int_equal(offer->descriptor_set.len, large);
    for (size_t i = 0; i < large; i++)
        assert_int_equal(offer->descriptor_set.data[i], 'x');
    assert_string_equal(offer->name, "a.B");
    assert_int_equal(offer->n_methods, 2);
    assert_string_equal(offer->methods[1], "Two");
    mesh_lent_free(&lent);
    mesh_lent_free(&lent); /* nothing twice */
    free(packed);
}

static void a_small_one_and_one_of_two_are(void **state)
{
    size_t size;
    uint8_t *packed = packed_offer(100, &size);
    struct mesh_lent lent;

    (void)state;
    assert_int_equal(mesh_lent_unpack(OFFER, packed, size, &lent), 0);
    assert_false(lies_within(&lent, packed, size));
    mesh_lent_free(&lent);
    free(packed);

    packed = packed_offer(MESH_LENT_MIN, &size);
    memcpy(packed + size, packed, size); /* each field twice: the last one counts */
    assert_int_equal(mesh_lent_unpack(OFFER, packed, 2 * size, &lent), 0);
    assert_false(lies_within(&lent, packed, 2 * size));
    mesh_lent_free(&lent);
    free(packed);
}

static void what_does_not_parse_is_refused(void **state)
{
    size_t size;
    uint8_t *packed = packed_offer(MESH_LENT_MIN, &size);
    struct mesh_lent lent;

    (void)state;
    assert_int_equal(mesh_lent_unpack(OFFER, packed, size - 1, &lent), -EBADMSG);
    mesh_lent_free(&lent);
    packed[0] = 0x0b; /* a group */
    assert_int_equal(mesh_lent_unpack(OFFER, packed, size, &lent), -EBADMSG);
    mesh_lent_free(&lent);
    free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_field_is_not_copied),
        cmocka_unit_test(a_small_one_and_one_of_two_are),
        cmocka_unit_test(what_does_not_parse_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
