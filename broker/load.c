#include "broker/state.h"

#include <string.h>

#define FIELD_LOAD 10
#define EIGHTHS 8 /* finer differences say nothing */

enum wire_type { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;

        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* Bytes of the value at hand. @return false: it does not end before the Meta does */
static bool value_size(const uint8_t **at, const uint8_t *end, unsigned type, uint64_t *size)
{
    const uint8_t *start = *at;
    uint64_t ignored;

    switch (type) {
    case VARINT:
        if (!read_varint(at, end, &ignored))
            return false;
        *size = (uint64_t)(*at - start);
        *at = start;
        return true;
    case FIXED64:
        *size = 8;
        break;
    case FIXED32:
        *size = 4;
        break;
    case BYTES:
        if (!read_varint(at, end, size))
            return false;
        break;
    default:
        return false;
    }
    return *size <= (uint64_t)(end - *at);
}

/* Meta.load, without unpacking the rest: ENDs are many. */
static bool find_load(const struct mesh_frame *frame, float *out)
{
    const uint8_t *at = frame->meta;
    const uint8_t *end = at + frame->header.meta_bytes;
    uint64_t key;
    uint64_t size;

    while (at < end && read_varint(&at, end, &key) && value_size(&at, end, key & 7, &size)) {
        if (key == (FIELD_LOAD << 3 | FIXED32)) {
            memcpy(out, at, sizeof(*out));
            return true;
        }
        at += size;
    }
    return false;
}

void load_report(struct worker *worker, const struct mesh_frame *frame)
{
    float load;

    if (frame->header.meta_bytes == 0 || !find_load(frame, &load) || !(load >= 0 && load <= 1))
        return;
    worker->load = load;
    if (worker->standing.reported == (int)(load * EIGHTHS))
        return;
    worker->standing.reported = (int)(load * EIGHTHS);
    pool_changed(worker);
}
