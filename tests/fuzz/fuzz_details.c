/* Bytes as a status's details: what is read of them is what protobuf-c reads, and lies within them. */
#include "mesh/details.h"
#include "proto/mesh.pb-c.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

const unsigned fuzz_rounds = 300000;

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

/* clang-format off */
const struct fuzz_seed fuzz_seeds[] = {
    SEED("\x0a\x04" "/a.B" "\x12\x03" "\x08\x96\x01"),
    SEED("\x12\x01" "\x08" "\x0a\x09" "x/pack.Ms_" "\x12\x00"),
    SEED("\x0a\x84\x00" "/a.B" "\x0a\x03" "/c1" "\x12\x81\x80\x00" "x"),
    {NULL, NULL, 0},
};
/* clang-format on */

void fuzz_one(const uint8_t *bytes, size_t size)
{
    Dragoman__Mesh__V1__StatusDetails *box;
    struct mesh_details opened;
    ProtobufCMessage *message;

    if (mesh_details_open(bytes, size, &opened) < 0)
        return;
    box = dragoman__mesh__v1__status_details__unpack(NULL, size, bytes);
    if (!box || strcmp(strrchr(box->type_url, '/') + 1, opened.type) != 0 ||
        box->value.len != opened.size ||
        (opened.size > 0 && memcmp(box->value.data, opened.value, opened.size) != 0))
        abort();
    if (opened.size > 0 && ((const uint8_t *)opened.value < bytes ||
                            (const uint8_t *)opened.value + opened.size > bytes + size))
        abort();
    dragoman__mesh__v1__status_details__free_unpacked(box, NULL);
    message = mesh_details_read(bytes, size, &dragoman__mesh__v1__label__descriptor);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}
