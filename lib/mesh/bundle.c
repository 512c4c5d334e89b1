#include "mesh/bundle.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 4096

static const uint8_t magic[4] = {'M', 'S', 'H', 'B'};

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

/* ---- writing --------------------------------------------------------------------------------- */

static int make_room(struct mesh_bundle *bundle, size_t size)
{
    size_t room = bundle->room ? bundle->room : ROOM_FIRST;
    uint8_t *bytes;

    while (room < size)
        room *= 2;
    if (room == bundle->room)
        return 0;
    bytes = realloc(bundle->bytes, room);
    if (!bytes)
        return -ENOMEM;
    bundle->bytes = bytes;
    bundle->room = room;
    return 0;
}

int mesh_bundle_add(struct mesh_bundle *bundle, const void *frame, size_t size)
{
    size_t at = bundle->size ? bundle->size : MESH_BUNDLE_HEADER_BYTES;

    if (make_room(bundle, at + MESH_BUNDLE_PREFIX_BYTES + size) < 0)
        return -ENOMEM;
    memcpy(bundle->bytes, magic, sizeof(magic));
    put32(bundle->bytes + sizeof(magic), ++bundle->count);
    put32(bundle->bytes + at, (uint32_t)size);
    memcpy(bundle->bytes + at + MESH_BUNDLE_PREFIX_BYTES, frame, size);
    bundle->size = at + MESH_BUNDLE_PREFIX_BYTES + size;
    return 0;
}

void mesh_bundle_fini(struct mesh_bundle *bundle)
{
    free(bundle->bytes);
    *bundle = (struct mesh_bundle){0};
}

/* ---- reading --------------------------------------------------------------------------------- */

bool mesh_bundle_is(const void *first, size_t size)
{
    return size >= sizeof(magic) && memcmp(first, magic, sizeof(magic)) == 0;
}

int mesh_bundle_check(const void *first, size_t size)
{
    const uint8_t *bytes = first;
    size_t at = MESH_BUNDLE_HEADER_BYTES;
    uint32_t count = 0;

    if (!mesh_bundle_is(first, size) || size <= at || size > MESH_BUNDLE_MAX)
        return -EBADMSG;
    for (; at < size; count++) {
        if (size - at < MESH_BUNDLE_PREFIX_BYTES ||
            size - at - MESH_BUNDLE_PREFIX_BYTES < get32(bytes + at))
            return -EBADMSG;
        at += MESH_BUNDLE_PREFIX_BYTES + get32(bytes + at);
    }
    return count == get32(bytes + sizeof(magic)) ? 0 : -EBADMSG;
}

const uint8_t *mesh_bundle_next(const void *first, size_t first_size, size_t *at, size_t *size)
{
    const uint8_t *prefix = (const uint8_t *)first + (*at ? *at : MESH_BUNDLE_HEADER_BYTES);

    if (*at >= first_size)
        return NULL;
    *size = get32(prefix);
    *at = (size_t)(prefix - (const uint8_t *)first) + MESH_BUNDLE_PREFIX_BYTES + *size;
    return prefix + MESH_BUNDLE_PREFIX_BYTES;
}
