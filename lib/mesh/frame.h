/*
 * frame.h - the wire format: header, Meta, body (docs/wire.md sections 2 and 3)
 *
 * Pure functions over bytes, no sockets: broker, channel and server share them, and a fuzzer.
 * Everything read here comes from outside and is checked before use.
 */
#ifndef MESH_FRAME_H
#define MESH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESH_HEADER_BYTES 64
#define MESH_META_MAX 8192   /* bytes, packed */
#define MESH_INLINE_MAX 8192 /* bytes of a body that may ride in the first frame */
#define MESH_VERSION 1
#define MESH_FEATURE_BUNDLES 0x1 /* Hello.features, Welcome.features: takes bundles (bundle.h) */
#define MESH_FEATURES MESH_FEATURE_BUNDLES /* all that this version knows */

/* Of the body, before compression; options may lower or raise it. */
#define MESH_MESSAGE_BYTES_DEFAULT (32u << 20)

enum mesh_frame_kind {
    MESH_HELLO = 1,
    MESH_WELCOME = 2,
    MESH_PING = 3,
    MESH_PONG = 4,
    MESH_GOAWAY = 5,
    MESH_BYE = 6,
    MESH_ERROR = 7,
    MESH_REGISTER = 16,
    MESH_REGISTERED = 17,
    MESH_CAPACITY = 18,
    MESH_DRAIN = 19,
    MESH_DRAINED = 20,
    MESH_IDENTITY = 21,
    MESH_OPEN = 32,
    MESH_ACCEPT = 33,
    MESH_INITIAL = 34,
    MESH_DATA = 35,
    MESH_CREDIT = 36,
    MESH_CANCEL = 37,
    MESH_END = 38,
};

enum mesh_frame_flag {
    MESH_END_SEND = 0x0001,
    MESH_MESSAGE = 0x0002,
    MESH_INLINE = 0x0004,
    MESH_LZ4 = 0x0008,
    MESH_ROUTE = 0x0010,
    MESH_WAIT = 0x0020,
    MESH_IDEMPOTENT = 0x0040,
    MESH_COMPRESS = 0x0080,
    MESH_UNPROCESSED = 0x0100,
    MESH_RETURN = 0x0200,
    MESH_CRITICAL = 0x8000,
};

struct mesh_header {
    uint8_t kind; /* enum mesh_frame_kind, or one that is not known yet */
    uint8_t priority;
    uint8_t attempt;
    uint16_t flags;
    uint16_t status;
    uint64_t call_id;
    uint32_t seq;
    uint32_t credit_messages;
    uint64_t credit_bytes;
    int64_t timeout_ns;
    uint32_t body_bytes;
    uint32_t meta_bytes;
    uint64_t method_hash;
};

/** One message in its place; pointers into the caller's bytes. */
struct mesh_frame {
    struct mesh_header header;
    const uint8_t *meta; /* (header.meta_bytes) */
    const uint8_t *body; /* (body_size) as sent, maybe lz4; NULL without MESH_MESSAGE */
    size_t body_size;
};

/** Write all 64 bytes, crc included. Also how a broker rewrites fields of a frame it passes on. */
void mesh_header_encode(const struct mesh_header *header, uint8_t out[MESH_HEADER_BYTES]);

/**
 * Read a header alone.
 *
 * @return 0; -EBADMSG: too short, another magic or crc; -EPROTONOSUPPORT: another major version
 */
int mesh_header_decode(const void *first, size_t size, struct mesh_header *out);

/** Read one that was checked before, or that we wrote. */
void mesh_header_read(const void *first, struct mesh_header *out);

/**
 * Read a message and check that its parts agree: lengths, flags, the number of frames.
 *
 * @param first   the first frame after any routing id; borrowed by *out
 * @param second  NULL when there is none; likewise
 * @return as mesh_header_decode(); -EBADMSG also for parts that disagree
 */
int mesh_frame_decode(const void *first, size_t first_size, const void *second, size_t second_size,
                      struct mesh_frame *out);

/** Hash of "/package.Service/Method", as in the header. */
uint64_t mesh_method_hash(const char *path, size_t size);

/** "OPEN"; "?" for a kind that is not known. */
const char *mesh_kind_name(uint8_t kind);

/** CRC32C of some bytes; the processor's instruction where it has one. */
uint32_t mesh_crc32c(const void *data, size_t size);
/** The same from a table; tests compare the two. */
uint32_t mesh_crc32c_portable(const void *data, size_t size);

/**
 * Try to make a body smaller.
 *
 * @param out  (size) room for the result
 * @return bytes written; 0 when lz4 saves nothing (send it as it is)
 */
size_t mesh_body_compress(const void *body, size_t size, uint8_t *out);

/**
 * Undo it.
 *
 * @param out  (out_size) exactly header.body_bytes, which the caller has compared with its limit
 * @return 0; -EBADMSG when it does not unpack to exactly that
 */
int mesh_body_expand(const void *body, size_t size, uint8_t *out, size_t out_size);

#endif
