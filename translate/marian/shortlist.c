#include "translate/marian/shortlist.h"

#include "compute/weights/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAGIC UINT64_C(0xF11A48D5013417F5)
#define ROUND 8

struct header {
    uint64_t magic, checksum, n_first, n_best, n_offsets, n_ids;
};

struct shortlist {
    size_t n_first, n_source, n_target;
    const uint8_t *offsets; /* (n_source + 1) u64 */
    const uint8_t *ids;     /* u32 */
    void *map;              /* NULL: the caller's memory */
    size_t map_bytes;
};

static uint64_t offset_at(const struct shortlist *shortlist, size_t i)
{
    uint64_t offset;

    memcpy(&offset, shortlist->offsets + i * sizeof(offset), sizeof(offset));
    return offset;
}

static uint32_t id_at(const struct shortlist *shortlist, uint64_t i)
{
    uint32_t id;

    memcpy(&id, shortlist->ids + i * sizeof(id), sizeof(id));
    return id;
}

static int refuse(char *error, size_t size, const char *why)
{
    snprintf(error, size, "%s", why);
    return -EBADMSG;
}

/* Whether every offset and every word lies where it may. */
static int check_content(const struct shortlist *shortlist, const struct header *header,
                         char *error, size_t size)
{
    if (offset_at(shortlist, 0) != 0 || offset_at(shortlist, shortlist->n_source) != header->n_ids)
        return refuse(error, size, "its offsets do not span its words");
    for (size_t i = 0; i < shortlist->n_source; i++)
        if (offset_at(shortlist, i) > offset_at(shortlist, i + 1))
            return refuse(error, size, "its offsets do not ascend");
    for (uint64_t i = 0; i < header->n_ids; i++)
        if (id_at(shortlist, i) >= shortlist->n_target)
            return refuse(error, size, "it names words outside the target vocabulary");
    return 0;
}

int shortlist_read(const void *bytes, size_t n_bytes, size_t n_source, size_t n_target, char *error,
                   size_t size, struct shortlist **out)
{
    struct shortlist found = {.n_source = n_source, .n_target = n_target};
    struct header header;
    int err;

    if (n_bytes < sizeof(header))
        return refuse(error, size, "it ends inside its header");
    memcpy(&header, bytes, sizeof(header));
    if (header.magic != MAGIC)
        return refuse(error, size, "it is no binary shortlist");
    if (header.n_offsets != n_source + 1)
        return refuse(error, size, "it belongs to another source vocabulary");
    if (header.n_offsets > (n_bytes - sizeof(header)) / 8 || header.n_ids > n_bytes / 4 ||
        sizeof(header) + header.n_offsets * 8 + header.n_ids * 4 != n_bytes)
        return refuse(error, size, "its size is not what its header says");
    if (header.n_first == 0)
        return refuse(error, size, "it lets no word out but those of the source");
    found.n_first = header.n_first < n_target ? (size_t)header.n_first : n_target;
    found.offsets = (const uint8_t *)bytes + sizeof(header);
    found.ids = found.offsets + header.n_offsets * 8;
    err = check_content(&found, &header, error, size);
    if (err < 0)
        return err;
    *out = malloc(sizeof(**out));
    if (!*out) {
        snprintf(error, size, "out of memory");
        return -ENOMEM;
    }
    **out = found;
    return 0;
}

int shortlist_open(const char *path, size_t n_source, size_t n_target, char *error, size_t size,
                   struct shortlist **out)
{
    void *map = NULL;
    size_t bytes = 0;
    int err = weights_map_file(path, &map, &bytes);

    if (err < 0) {
        snprintf(error, size, "%s", strerror(-err));
        return err;
    }
    err = shortlist_read(map, bytes, n_source, n_target, error, size, out);
    if (err < 0) {
        munmap(map, bytes);
        return err;
    }
    (*out)->map = map;
    (*out)->map_bytes = bytes;
    return 0;
}

void shortlist_destroy(struct shortlist **out)
{
    if (!*out)
        return;
    if ((*out)->map)
        munmap((*out)->map, (*out)->map_bytes);
    free(*out);
    *out = NULL;
}

/* One bit a target word. @return how many were not set before */
static size_t set_bit(uint64_t *bits, size_t i)
{
    uint64_t bit = UINT64_C(1) << i % 64;
    size_t added = !(bits[i / 64] & bit);

    bits[i / 64] |= bit;
    return added;
}

static size_t mark_words(const struct shortlist *shortlist, const uint32_t *pieces, size_t n_pieces,
                         size_t n_frequent, uint64_t *bits)
{
    size_t n = 0;

    if (n_frequent < shortlist->n_first)
        n_frequent = shortlist->n_first;
    for (size_t i = 0; i < n_frequent && i < shortlist->n_target; i++)
        n += set_bit(bits, i);
    for (size_t i = 0; i < n_pieces; i++) {
        uint64_t end = offset_at(shortlist, pieces[i] + 1);

        for (uint64_t j = offset_at(shortlist, pieces[i]); j < end; j++)
            n += set_bit(bits, id_at(shortlist, j));
    }
    for (size_t i = n_frequent; i < shortlist->n_target && n % ROUND; i++)
        n += set_bit(bits, i);
    return n;
}

int shortlist_words(const struct shortlist *shortlist, const uint32_t *pieces, size_t n_pieces,
                    size_t n_frequent, uint32_t **ids, size_t *n)
{
    size_t n_words = (shortlist->n_target + 63) / 64, count, at = 0;
    uint64_t *bits = calloc(n_words, sizeof(*bits));
    uint32_t *found = NULL;

    if (!bits)
        return -ENOMEM;
    count = mark_words(shortlist, pieces, n_pieces, n_frequent, bits);
    found = malloc(sizeof(*found) * (count ? count : 1));
    for (size_t i = 0; found && i < n_words; i++)
        for (uint64_t left = bits[i]; left; left &= left - 1)
            found[at++] = (uint32_t)(i * 64 + (size_t)__builtin_ctzll(left));
    free(bits);
    if (!found)
        return -ENOMEM;
    *ids = found;
    *n = count;
    return 0;
}
