#include "mesh/frame.h"

#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <xxhash.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

static const uint8_t magic[3] = {'M', 'S', 'H'};

#define CRC_OFFSET 60
#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */

/* ---- CRC32C ---------------------------------------------------------------------------------- */

uint32_t mesh_crc32c_portable(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t crc = ~0u;

    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL & -(crc & 1));
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_fast(const uint8_t *bytes, size_t size)
{
    uint64_t crc = ~0u;
    uint64_t word;

    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    for (; size > 0; size--, bytes++)
        crc = _mm_crc32_u8((uint32_t)crc, *bytes);
    return ~(uint32_t)crc;
}

static bool crc32c_is_fast(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__ARM_FEATURE_CRC32)
static uint32_t crc32c_fast(const uint8_t *bytes, size_t size)
{
    uint32_t crc = ~0u;
    uint64_t word;

    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        crc = __crc32cd(crc, word);
    }
    for (; size > 0; size--, bytes++)
        crc = __crc32cb(crc, *bytes);
    return ~crc;
}

static bool crc32c_is_fast(void)
{
    return true;
}
#else
static uint32_t crc32c_fast(const uint8_t *bytes, size_t size)
{
    return mesh_crc32c_portable(bytes, size);
}

static bool crc32c_is_fast(void)
{
    return false;
}
#endif

uint32_t mesh_crc32c(const void *data, size_t size)
{
    return crc32c_is_fast() ? crc32c_fast(data, size) : mesh_crc32c_portable(data, size);
}

/* ---- header ---------------------------------------------------------------------------------- */

static void put16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

void mesh_header_encode(const struct mesh_header *header, uint8_t out[MESH_HEADER_BYTES])
{
    memcpy(out, magic, sizeof(magic));
    out[3] = MESH_VERSION;
    out[4] = header->kind;
    out[5] = 0;
    put16(out + 6, header->flags);
    put64(out + 8, header->call_id);
    put32(out + 16, header->seq);
    put32(out + 20, header->credit_messages);
    put64(out + 24, header->credit_bytes);
    put64(out + 32, (uint64_t)header->timeout_ns);
    put32(out + 40, header->body_bytes);
    put16(out + 44, header->status);
    out[46] = header->priority;
    out[47] = header->attempt;
    put64(out + 48, header->method_hash);
    put32(out + 56, header->meta_bytes);
    put32(out + CRC_OFFSET, mesh_crc32c(out, CRC_OFFSET));
}

void mesh_header_read(const void *first, struct mesh_header *out)
{
    const uint8_t *at = first;

    *out = (struct mesh_header){
        .kind = at[4],
        .flags = get16(at + 6),
        .call_id = get64(at + 8),
        .seq = get32(at + 16),
        .credit_messages = get32(at + 20),
        .credit_bytes = get64(at + 24),
        .timeout_ns = (int64_t)get64(at + 32),
        .body_bytes = get32(at + 40),
        .status = get16(at + 44),
        .priority = at[46],
        .attempt = at[47],
        .method_hash = get64(at + 48),
        .meta_bytes = get32(at + 56),
    };
}

int mesh_header_decode(const void *first, size_t size, struct mesh_header *out)
{
    const uint8_t *at = first;

    if (size < MESH_HEADER_BYTES || memcmp(at, magic, sizeof(magic)) != 0)
        return -EBADMSG;
    if (at[3] != MESH_VERSION)
        return -EPROTONOSUPPORT;
    if (get32(at + CRC_OFFSET) != mesh_crc32c(at, CRC_OFFSET))
        return -EBADMSG;

    mesh_header_read(first, out);
    return 0;
}

/* The body is what INLINE says it is, and nothing is left over. */
static int find_body(struct mesh_frame *frame, const uint8_t *rest, size_t rest_size,
                     const void *second, size_t second_size)
{
    uint16_t flags = frame->header.flags;

    frame->body = NULL;
    frame->body_size = 0;
    if (!(flags & MESH_MESSAGE))
        return rest_size == 0 && !second && !(flags & (MESH_INLINE | MESH_LZ4)) ? 0 : -EBADMSG;
    if (flags & MESH_INLINE) {
        if (second || rest_size > MESH_INLINE_MAX)
            return -EBADMSG;
        frame->body = rest;
        frame->body_size = rest_size;
    } else {
        if (!second || rest_size != 0)
            return -EBADMSG;
        frame->body = second;
        frame->body_size = second_size;
    }
    return (flags & MESH_LZ4) || frame->body_size == frame->header.body_bytes ? 0 : -EBADMSG;
}

int mesh_frame_decode(const void *first, size_t first_size, const void *second, size_t second_size,
                      struct mesh_frame *out)
{
    struct mesh_frame frame;
    int err = mesh_header_decode(first, first_size, &frame.header);
    size_t meta_bytes;

    if (err < 0)
        return err;
    meta_bytes = frame.header.meta_bytes;
    if (meta_bytes > MESH_META_MAX || meta_bytes > first_size - MESH_HEADER_BYTES)
        return -EBADMSG;
    frame.meta = (const uint8_t *)first + MESH_HEADER_BYTES;
    err = find_body(&frame, frame.meta + meta_bytes, first_size - MESH_HEADER_BYTES - meta_bytes,
                    second, second_size);
    if (err < 0)
        return err;
    *out = frame;
    return 0;
}

/* ---- names ----------------------------------------------------------------------------------- */

uint64_t mesh_method_hash(const char *path, size_t size)
{
    return XXH64(path, size, 0);
}

const char *mesh_kind_name(uint8_t kind)
{
    static const char *const names[] = {
        [MESH_HELLO] = "HELLO",       [MESH_WELCOME] = "WELCOME",
        [MESH_PING] = "PING",         [MESH_PONG] = "PONG",
        [MESH_GOAWAY] = "GOAWAY",     [MESH_BYE] = "BYE",
        [MESH_ERROR] = "ERROR",       [MESH_REGISTER] = "REGISTER",
        [MESH_CAPACITY] = "CAPACITY", [MESH_REGISTERED] = "REGISTERED",
        [MESH_DRAIN] = "DRAIN",       [MESH_DRAINED] = "DRAINED",
        [MESH_OPEN] = "OPEN",         [MESH_ACCEPT] = "ACCEPT",
        [MESH_INITIAL] = "INITIAL",   [MESH_DATA] = "DATA",
        [MESH_CREDIT] = "CREDIT",     [MESH_CANCEL] = "CANCEL",
        [MESH_END] = "END",           [MESH_IDENTITY] = "IDENTITY",
    };

    if (kind >= sizeof(names) / sizeof(names[0]) || !names[kind])
        return "?";
    return names[kind];
}

/* ---- lz4 ------------------------------------------------------------------------------------- */

size_t mesh_body_compress(const void *body, size_t size, uint8_t *out)
{
    int written;

    if (size < 2 || size > LZ4_MAX_INPUT_SIZE)
        return 0;
    written = LZ4_compress_default(body, (char *)out, (int)size, (int)(size - 1));
    return written > 0 ? (size_t)written : 0;
}

int mesh_body_expand(const void *body, size_t size, uint8_t *out, size_t out_size)
{
    int written;

    if (size > LZ4_MAX_INPUT_SIZE || out_size > LZ4_MAX_INPUT_SIZE)
        return -EBADMSG;
    written = LZ4_decompress_safe(body, (char *)out, (int)size, (int)out_size);
    return written >= 0 && (size_t)written == out_size ? 0 : -EBADMSG;
}
