#include "mesh/zmtp.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define MORE 0x01
#define LONG 0x02
#define COMMAND 0x04
#define SHORT_MAX 255

#define MAJOR_AT 10
#define MINOR_AT 11
#define MECHANISM_AT 12
#define MECHANISM_BYTES 20
#define PING_TTL_BYTES 2
#define PING_CONTEXT_MAX 16

static const uint8_t mechanism[MECHANISM_BYTES] = "NULL";

/* ---- greeting -------------------------------------------------------------------------------- */

void zmtp_greeting_write(uint8_t out[ZMTP_GREETING_BYTES])
{
    memset(out, 0, ZMTP_GREETING_BYTES);
    out[0] = 0xff;
    out[8] = 1; /* what an identity without a byte would be to ZMTP 1 */
    out[9] = 0x7f;
    out[MAJOR_AT] = 3;
    out[MINOR_AT] = 1;
    memcpy(out + MECHANISM_AT, mechanism, sizeof(mechanism));
}

bool zmtp_greeting_differs(const uint8_t *bytes, size_t size)
{
    size_t known = size > MECHANISM_AT ? size - MECHANISM_AT : 0;

    if (known > MECHANISM_BYTES)
        known = MECHANISM_BYTES;
    return memcmp(bytes + MECHANISM_AT, mechanism, known) != 0;
}

int zmtp_greeting_check(const uint8_t *bytes, size_t size)
{
    if (size > 0 && bytes[0] != 0xff)
        return -EPROTO;
    if (size > 9 && !(bytes[9] & 1))
        return -EPROTO;
    if (size > MAJOR_AT && bytes[MAJOR_AT] < 3)
        return -EPROTO;
    return zmtp_greeting_differs(bytes, size) ? -EPROTO : 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static size_t header_write(uint8_t flags, uint64_t size, uint8_t *out)
{
    uint64_t length = htobe64(size);

    if (size <= SHORT_MAX) {
        out[0] = flags;
        out[1] = (uint8_t)size;
        return 2;
    }
    out[0] = flags | LONG;
    memcpy(out + 1, &length, sizeof(length));
    return ZMTP_HEADER_MAX;
}

size_t zmtp_header_write(bool more, uint64_t size, uint8_t *out)
{
    return header_write(more ? MORE : 0, size, out);
}

int zmtp_header_read(const uint8_t *bytes, size_t size, struct zmtp_header *out)
{
    uint64_t length;
    uint8_t flags;

    if (size < 2)
        return 0;
    flags = bytes[0];
    if ((flags & ~(MORE | LONG | COMMAND)) != 0 || (flags & COMMAND && flags & MORE))
        return -EPROTO;
    *out = (struct zmtp_header){.more = flags & MORE, .command = flags & COMMAND, .size = bytes[1]};
    if (!(flags & LONG))
        return 2;
    if (size < ZMTP_HEADER_MAX)
        return 0;
    memcpy(&length, bytes + 1, sizeof(length));
    out->size = be64toh(length);
    return ZMTP_HEADER_MAX;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* @return its body, behind the name; NULL: another command */
static const uint8_t *command_body(const uint8_t *command, size_t size, const char *name)
{
    size_t length = strlen(name);

    if (size < 1 + length || command[0] != length || memcmp(command + 1, name, length) != 0)
        return NULL;
    return command + 1 + length;
}

static uint8_t *put_name(uint8_t *at, const char *name)
{
    size_t length = strlen(name);

    *at++ = (uint8_t)length;
    memcpy(at, name, length);
    return at + length;
}

static uint8_t *put_property(uint8_t *at, const char *name, const char *value)
{
    uint32_t size = htobe32((uint32_t)strlen(value));

    at = put_name(at, name);
    memcpy(at, &size, sizeof(size));
    at += sizeof(size);
    memcpy(at, value, strlen(value));
    return at + strlen(value);
}

/* Put the header before a body that was written behind its place. */
static size_t seal(uint8_t *out, const uint8_t *end)
{
    size_t size = (size_t)(end - out) - 2;

    return header_write(COMMAND, size, out) + size;
}

size_t zmtp_ready_write(enum mesh_socket_kind kind, uint8_t out[ZMTP_COMMAND_MAX])
{
    uint8_t *at = put_name(out + 2, "READY");

    at = put_property(at, "Socket-Type", kind == MESH_ROUTER ? "ROUTER" : "DEALER");
    at = put_property(at, "Identity", "");
    return seal(out, at);
}

static bool fits(enum mesh_socket_kind kind, const uint8_t *type, size_t size)
{
    const char *wanted = kind == MESH_ROUTER ? "DEALER" : "ROUTER";

    return size == strlen(wanted) && memcmp(type, wanted, size) == 0;
}

/* A property: its name's length in a byte, the name; its value's in four, the value. @return the next; NULL: it is broken */
static const uint8_t *next_property(const uint8_t *at, const uint8_t *end, const uint8_t **value,
                                    size_t *size)
{
    uint32_t length;

    if (at == end || (size_t)(end - at) < 1u + *at + sizeof(length))
        return NULL;
    at += 1 + *at;
    memcpy(&length, at, sizeof(length));
    at += sizeof(length);
    length = be32toh(length);
    if (length > (size_t)(end - at))
        return NULL;
    *value = at;
    *size = length;
    return at + length;
}

/* Names of properties know no case. */
static bool is_named(const uint8_t *property, const char *name)
{
    return property[0] == strlen(name) &&
           strncasecmp((const char *)property + 1, name, strlen(name)) == 0;
}

int zmtp_ready_check(enum mesh_socket_kind kind, const uint8_t *body, size_t size)
{
    const uint8_t *at = command_body(body, size, "READY");
    const uint8_t *end = body + size;
    const uint8_t *value = NULL;
    size_t value_size = 0;
    bool fine = false;

    while (at && at < end) {
        const uint8_t *property = at;

        at = next_property(property, end, &value, &value_size);
        if (at && is_named(property, "Socket-Type"))
            fine = fits(kind, value, value_size);
    }
    return at && fine ? 0 : -EPROTO;
}

size_t zmtp_pong_write(const uint8_t *body, size_t size, uint8_t out[ZMTP_COMMAND_MAX])
{
    const uint8_t *ping = command_body(body, size, "PING");
    uint8_t *at;
    size_t context;

    if (!ping || size < (size_t)(ping - body) + PING_TTL_BYTES)
        return 0;
    ping += PING_TTL_BYTES;
    context = (size_t)(body + size - ping);
    if (context > PING_CONTEXT_MAX)
        return 0;
    at = put_name(out + 2, "PONG");
    memcpy(at, ping, context);
    return seal(out, at + context);
}
