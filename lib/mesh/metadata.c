#include "mesh/meta.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define KEY_MAX 64
#define TAG_TRACEPARENT 0x42 /* field 8, bytes */
#define ENTRY_OVERHEAD 8     /* tags and lengths of one entry, at most */

typedef Dragoman__Mesh__V1__MetadataEntry entry_message;
typedef Dragoman__Mesh__V1__Label label_message;

struct mesh_metadata {
    size_t count, capacity;
    size_t packed_bytes;     /* bound of what the entries take in a Meta */
    entry_message **entries; /* (count) each in one piece with its key and value */
};

/* ---- what is allowed ------------------------------------------------------------------------- */

static bool key_is_valid(const char *key, size_t size)
{
    if (size == 0 || size > KEY_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= '0' && key[i] <= '9') ||
              key[i] == '.' || key[i] == '_' || key[i] == '-'))
            return false;
    }
    return true;
}

static bool key_is_binary(const char *key, size_t size)
{
    return size > 4 && memcmp(key + size - 4, "-bin", 4) == 0;
}

/* Length of the UTF-8 sequence at `at`, 0 for a malformed one. */
static size_t sequence_length(const uint8_t *at, size_t left)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (length == 0 || length > left || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

static bool text_is_valid(const uint8_t *text, size_t size)
{
    for (size_t i = 0, length; i < size; i += length) {
        if ((text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return false;
        length = sequence_length(text + i, size - i);
        if (length == 0)
            return false;
    }
    return true;
}

/* ---- the list -------------------------------------------------------------------------------- */

static entry_message *entry_create(const char *key, size_t key_size, const void *value, size_t size)
{
    entry_message *entry = malloc(sizeof(*entry) + key_size + 1 + size + 1);
    uint8_t *copy;

    if (!entry)
        return NULL;
    dragoman__mesh__v1__metadata_entry__init(entry);
    entry->key = (char *)(entry + 1);
    memcpy(entry->key, key, key_size + 1);
    copy = (uint8_t *)entry->key + key_size + 1;
    if (size > 0)
        memcpy(copy, value, size);
    copy[size] = '\0';
    entry->value.data = copy;
    entry->value.len = size;
    return entry;
}

static int reserve(struct mesh_metadata *metadata)
{
    size_t capacity = metadata->capacity ? 2 * metadata->capacity : 8;
    entry_message **entries;

    if (metadata->count < metadata->capacity)
        return 0;
    entries = realloc(metadata->entries, capacity * sizeof(entry_message *));
    if (!entries)
        return -ENOMEM;
    metadata->entries = entries;
    metadata->capacity = capacity;
    return 0;
}

static int append(struct mesh_metadata **metadata, const char *key, const void *value, size_t size,
                  size_t max)
{
    struct mesh_metadata *list = *metadata;
    size_t key_size = strlen(key);
    entry_message *entry;

    if (!list)
        list = *metadata = calloc(1, sizeof(*list));
    if (!list || reserve(list) < 0)
        return -ENOMEM;
    if (list->packed_bytes + key_size + size + ENTRY_OVERHEAD > max)
        return -EINVAL;
    entry = entry_create(key, key_size, value, size);
    if (!entry)
        return -ENOMEM;
    list->packed_bytes += key_size + size + ENTRY_OVERHEAD;
    list->entries[list->count++] = entry;
    return 0;
}

int mesh_metadata_add(struct mesh_metadata **metadata, const char *key, const void *value,
                      size_t size)
{
    size_t key_size = strlen(key);

    if (!key_is_valid(key, key_size) || size > MESH_METADATA_MAX ||
        (!key_is_binary(key, key_size) && !text_is_valid(value, size)))
        return -EINVAL;
    return append(metadata, key, value, size, MESH_METADATA_MAX);
}

int mesh_metadata_add_text(struct mesh_metadata **metadata, const char *key, const char *value)
{
    return mesh_metadata_add(metadata, key, value, strlen(value));
}

size_t mesh_metadata_count(const struct mesh_metadata *metadata)
{
    return metadata ? metadata->count : 0;
}

const char *mesh_metadata_at(const struct mesh_metadata *metadata, size_t i, const void **value,
                             size_t *size)
{
    const entry_message *entry;

    if (i >= mesh_metadata_count(metadata))
        return NULL;
    entry = metadata->entries[i];
    if (value)
        *value = entry->value.data;
    if (size)
        *size = entry->value.len;
    return entry->key;
}

const char *mesh_metadata_get(const struct mesh_metadata *metadata, const char *key)
{
    for (size_t i = 0; i < mesh_metadata_count(metadata); i++) {
        if (strcmp(metadata->entries[i]->key, key) == 0)
            return (const char *)metadata->entries[i]->value.data;
    }
    return NULL;
}

void mesh_metadata_destroy(struct mesh_metadata **metadata)
{
    struct mesh_metadata *list = *metadata;

    if (!list)
        return;
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i]);
    free(list->entries);
    free(list);
    *metadata = NULL;
}

/* ---- to and from a Meta ---------------------------------------------------------------------- */

void mesh_metadata_lend(const struct mesh_metadata *metadata, Dragoman__Mesh__V1__Meta *meta)
{
    meta->n_metadata = mesh_metadata_count(metadata);
    meta->metadata = metadata ? metadata->entries : NULL;
}

int mesh_metadata_take(const Dragoman__Mesh__V1__Meta *meta, struct mesh_metadata **out)
{
    struct mesh_metadata *list = NULL;

    for (size_t i = 0; i < meta->n_metadata; i++) {
        const entry_message *entry = meta->metadata[i];
        int err = mesh_metadata_add(&list, entry->key, entry->value.data, entry->value.len);

        if (err < 0) {
            mesh_metadata_destroy(&list);
            return err == -EINVAL ? -EBADMSG : err;
        }
    }
    *out = list;
    return 0;
}

int mesh_metadata_take_details(const Dragoman__Mesh__V1__Meta *meta,
                               struct mesh_metadata **trailers)
{
    const ProtobufCBinaryData *details = &meta->status_details;

    return details->len == 0
               ? 0
               : append(trailers, MESH_DETAILS_KEY, details->data, details->len, SIZE_MAX);
}

const void *mesh_metadata_details(const struct mesh_metadata *trailers, size_t *size)
{
    const void *value;

    for (size_t i = mesh_metadata_count(trailers); i-- > 0;) { /* the mesh's own comes last */
        if (strcmp(mesh_metadata_at(trailers, i, &value, size), MESH_DETAILS_KEY) == 0)
            return value;
    }
    *size = 0;
    return NULL;
}

void mesh_status_read(uint16_t number, const Dragoman__Mesh__V1__Meta *meta, struct status *out)
{
    enum status_code code =
        number <= STATUS_UNAUTHENTICATED ? (enum status_code)number : STATUS_UNKNOWN;

    if (!meta) { /* of almost every END that is OK */
        out->code = code;
        out->retry_delay_ms = 0;
        out->message[0] = '\0';
        return;
    }
    status_set(out, code, "%s", meta->status_message);
    out->retry_delay_ms = meta->retry_delay_ms;
}

/* ---- selectors and labels -------------------------------------------------------------------- */

struct mesh_selector {
    size_t count;
    label_message **pointers; /* (count) */
    label_message *labels;    /* (count) */
    char **values;            /* (count) one value each */
    char text[];              /* cut into keys and values */
};

static size_t count_pairs(const char *text)
{
    size_t n = 1;

    for (; *text; text++)
        n += *text == ',';
    return n;
}

static int selector_cut(struct mesh_selector *selector)
{
    char *rest = selector->text;

    for (char *pair; (pair = strsep(&rest, ",")) != NULL; selector->count++) {
        char *equals = strchr(pair, '=');
        size_t i = selector->count;

        if (!equals || equals == pair || equals[1] == '\0')
            return -EINVAL;
        *equals = '\0';
        selector->values[i] = equals + 1;
        dragoman__mesh__v1__label__init(&selector->labels[i]);
        selector->labels[i].key = pair;
        selector->labels[i].n_values = 1;
        selector->labels[i].values = &selector->values[i];
        selector->pointers[i] = &selector->labels[i];
    }
    return 0;
}

int mesh_selector_parse(const char *text, struct mesh_selector **out)
{
    struct mesh_selector *selector;
    size_t size, n;
    int err = -ENOMEM;

    if (!text || !*text) {
        *out = NULL;
        return 0;
    }
    size = strlen(text) + 1;
    n = count_pairs(text);
    selector = calloc(1, sizeof(*selector) + size);
    if (!selector)
        return -ENOMEM;
    memcpy(selector->text, text, size);
    selector->pointers = calloc(n, sizeof(label_message *));
    selector->labels = calloc(n, sizeof(label_message));
    selector->values = calloc(n, sizeof(char *));
    if (selector->pointers && selector->labels && selector->values)
        err = selector_cut(selector);
    if (err < 0)
        mesh_selector_destroy(&selector);
    else
        *out = selector;
    return err;
}

void mesh_selector_lend(const struct mesh_selector *selector, Dragoman__Mesh__V1__Meta *meta)
{
    meta->n_selector = selector ? selector->count : 0;
    meta->selector = selector ? selector->pointers : NULL;
}

void mesh_selector_destroy(struct mesh_selector **selector)
{
    if (!*selector)
        return;
    free((*selector)->pointers);
    free((*selector)->labels);
    free((*selector)->values);
    free(*selector);
    *selector = NULL;
}

static bool label_has_any(const label_message *offered, const label_message *wanted)
{
    for (size_t i = 0; i < wanted->n_values; i++) {
        for (size_t j = 0; j < offered->n_values; j++) {
            if (strcmp(wanted->values[i], offered->values[j]) == 0)
                return true;
        }
    }
    return false;
}

static bool any_label_has(label_message *const *offered, size_t n_offered,
                          const label_message *wanted)
{
    for (size_t i = 0; i < n_offered; i++) {
        if (strcmp(offered[i]->key, wanted->key) == 0 && label_has_any(offered[i], wanted))
            return true;
    }
    return false;
}

bool mesh_labels_match(label_message *const *wanted, size_t n_wanted, label_message *const *offered,
                       size_t n_offered)
{
    for (size_t i = 0; i < n_wanted; i++) {
        if (!any_label_has(offered, n_offered, wanted[i]))
            return false;
    }
    return true;
}

/* ---- traces ---------------------------------------------------------------------------------- */

uint64_t mesh_random(void)
{
    static _Thread_local uint64_t state;
    uint64_t z;

    while (state == 0) {
        if (getrandom(&state, sizeof(state), 0) != (ssize_t)sizeof(state))
            state = 0;
    }
    /* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014) */
    z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A varint, at most to the end. @return its bytes; 0 for one that is none */
static size_t read_varint(const uint8_t *at, size_t left, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < left && i < 10; i++) {
        *value |= (uint64_t)(at[i] & 0x7f) << (7 * i);
        if (!(at[i] & 0x80))
            return i + 1;
    }
    return 0;
}

/* All fields of what a caller sends are of the wire type with a length. */
const uint8_t *mesh_traceparent_find(const uint8_t *packed, size_t size)
{
    size_t at = 0;

    while (at < size) {
        uint8_t tag = packed[at++];
        uint64_t length;
        size_t n = read_varint(packed + at, size - at, &length);

        at += n;
        if (n == 0 || (tag & 7) != 2 || length > size - at)
            return NULL;
        if (tag == TAG_TRACEPARENT && length == MESH_TRACEPARENT_BYTES)
            return packed + at;
        at += (size_t)length;
    }
    return NULL;
}

int mesh_traceparent_replace(uint8_t *packed, size_t size,
                             const uint8_t traceparent[MESH_TRACEPARENT_BYTES])
{
    const uint8_t *at = mesh_traceparent_find(packed, size);

    if (!at)
        return -ENOENT;
    memcpy(packed + (at - packed), traceparent, MESH_TRACEPARENT_BYTES);
    return 0;
}
