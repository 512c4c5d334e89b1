#include "mesh/details.h"

#include "proto/mesh.pb-c.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG_TYPE_URL 0x0a /* field 1, a string */
#define TAG_VALUE 0x12    /* field 2, bytes */
#define URL_PREFIX "type.googleapis.com/"

struct span {
    const uint8_t *at;
    size_t size;
};

/* A length and as many bytes, off the front of `from`. */
static bool take_field(struct span *from, struct span *out)
{
    uint64_t length = 0;
    size_t n = 0;

    do {
        if (n == from->size || n == 5)
            return false;
        length |= (uint64_t)(from->at[n] & 0x7f) << (7 * n);
    } while (from->at[n++] & 0x80);
    if (length > from->size - n)
        return false;
    *out = (struct span){from->at + n, (size_t)length};
    from->at += n + length;
    from->size -= n + length;
    return true;
}

/* What follows the last '/' is a message's full name. */
static int read_type(struct span url, char type[MESH_DETAILS_TYPE_MAX])
{
    size_t n = 0;

    while (n < url.size && url.at[url.size - 1 - n] != '/')
        n++;
    if (n == url.size || n == 0 || n >= MESH_DETAILS_TYPE_MAX || memchr(url.at, '\0', url.size))
        return -EBADMSG;
    url.at += url.size - n;
    for (size_t i = 0; i < n; i++) {
        char c = (char)url.at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.'))
            return -EBADMSG;
    }
    memcpy(type, url.at, n);
    type[n] = '\0';
    return 0;
}

int mesh_details_open(const void *details, size_t size, struct mesh_details *out)
{
    struct span left = {details, size}, url = {NULL, 0}, value = {NULL, 0};

    while (left.size > 0) {
        uint8_t tag = *left.at;

        left.at++;
        left.size--;
        if ((tag != TAG_TYPE_URL && tag != TAG_VALUE) ||
            !take_field(&left, tag == TAG_VALUE ? &value : &url))
            return -EBADMSG;
    }
    if (read_type(url, out->type) < 0)
        return -EBADMSG;
    out->value = value.at;
    out->size = value.size;
    return 0;
}

ProtobufCMessage *mesh_details_read(const void *details, size_t size,
                                    const ProtobufCMessageDescriptor *type)
{
    struct mesh_details opened;

    if (mesh_details_open(details, size, &opened) < 0 || strcmp(opened.type, type->name) != 0)
        return NULL;
    return protobuf_c_message_unpack(type, NULL, opened.size,
                                     opened.value ? opened.value : (const uint8_t *)"");
}

int mesh_details_pack(const ProtobufCMessage *message, void **out, size_t *size)
{
    Dragoman__Mesh__V1__StatusDetails box = DRAGOMAN__MESH__V1__STATUS_DETAILS__INIT;
    size_t n = strlen(message->descriptor->name) + sizeof(URL_PREFIX);
    void *packed = NULL;

    box.type_url = malloc(n);
    box.value.len = protobuf_c_message_get_packed_size(message);
    box.value.data = malloc(box.value.len + 1);
    if (box.type_url && box.value.data) {
        snprintf(box.type_url, n, URL_PREFIX "%s", message->descriptor->name);
        protobuf_c_message_pack(message, box.value.data);
        packed = malloc(protobuf_c_message_get_packed_size(&box.base));
    }
    if (packed) {
        *size = protobuf_c_message_pack(&box.base, packed);
        *out = packed;
    }
    free(box.type_url);
    free(box.value.data);
    return packed ? 0 : -ENOMEM;
}
