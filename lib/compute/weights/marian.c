#include "compute/weights/marian.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1
#define HEADER_BYTES 32
#define CONFIG_NAME "special:model.yml"

/* Marian's type numbers: a class in the high bits, the width in the low byte. */
#define TYPE_S8 0x0101 /* text, too */
#define TYPE_F32 0x0404
#define TYPE_INTGEMM8 0x4101

struct header {
    uint64_t name_bytes, type, rank, bytes;
};

struct reader {
    const uint8_t *bytes;
    size_t size, at;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *reader, int err,
                                                        const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(reader->error, reader->error_size, fmt, args);
    va_end(args);
    return err;
}

/* Step over n bytes. @return where they are; NULL when the file ends before. */
static const uint8_t *take(struct reader *reader, uint64_t n)
{
    const uint8_t *at = reader->bytes + reader->at;

    if (n > reader->size - reader->at)
        return NULL;
    reader->at += (size_t)n;
    return at;
}

static int take_u64(struct reader *reader, uint64_t *out)
{
    const uint8_t *at = take(reader, sizeof(*out));

    if (!at)
        return refuse(reader, -EBADMSG, "it ends at byte %zu, inside its header", reader->size);
    memcpy(out, at, sizeof(*out));
    return 0;
}

static struct header header_at(const uint8_t *headers, size_t i)
{
    struct header header;

    memcpy(&header, headers + i * HEADER_BYTES, sizeof(header));
    return header;
}

static int read_name(struct reader *reader, struct header header, const char **out)
{
    const uint8_t *name = take(reader, header.name_bytes);

    if (!name || !header.name_bytes || name[header.name_bytes - 1] != '\0' ||
        memchr(name, '\0', (size_t)header.name_bytes - 1))
        return refuse(reader, -EBADMSG, "a tensor's name is damaged, before byte %zu", reader->at);
    *out = (const char *)name;
    return 0;
}

static bool is_embedding(const char *name)
{
    return strstr(name, "Wemb") != NULL;
}

static int read_shape(struct reader *reader, struct header header, struct weights_tensor *tensor)
{
    const uint8_t *dims = header.rank <= WEIGHTS_MAX_RANK ? take(reader, header.rank * 4) : NULL;

    if (!dims)
        return refuse(reader, -EBADMSG, "the shape of '%s' is damaged", tensor->name);
    tensor->rank = (size_t)header.rank;
    tensor->count = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        int32_t dim;

        memcpy(&dim, dims + 4 * i, sizeof(dim));
        if (dim <= 0 || tensor->count > SIZE_MAX / 8 / (size_t)dim)
            return refuse(reader, -EBADMSG, "dimension %zu of '%s' is %d", i, tensor->name, dim);
        tensor->shape[i] = (size_t)dim;
        tensor->count *= (size_t)dim;
    }
    return 0;
}

static int read_data(struct reader *reader, struct header header, struct weights_tensor *tensor)
{
    const uint8_t *data = take(reader, header.bytes);
    bool s8 = header.type == TYPE_INTGEMM8;
    size_t need = s8 ? tensor->count + sizeof(float) : tensor->count * sizeof(float);

    if (header.type == TYPE_S8)
        need = tensor->count;
    if (!data || header.bytes < need)
        return refuse(reader, -EBADMSG, "'%s' needs %zu bytes, the file has %zu for it",
                      tensor->name, need, data ? (size_t)header.bytes : reader->size - reader->at);
    if (header.type == TYPE_F32 && (uintptr_t)data % sizeof(float))
        return refuse(reader, -EBADMSG, "'%s' is not aligned", tensor->name);
    tensor->data = data;
    tensor->type = header.type == TYPE_F32 ? WEIGHTS_F32 : WEIGHTS_S8;
    if (!s8)
        return 0;
    memcpy(&tensor->multiplier, data + tensor->count, sizeof(float));
    if (!(tensor->multiplier > 0) || tensor->multiplier > 1e30f)
        return refuse(reader, -EBADMSG, "the multiplier of '%s' is damaged", tensor->name);
    if (tensor->rank == 2 && !is_embedding(tensor->name)) {
        size_t in = tensor->shape[0];

        tensor->shape[0] = tensor->shape[1];
        tensor->shape[1] = in;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct weights_tensor *left = a, *right = b;

    return strcmp(left->name, right->name);
}

/* The tensors in the file's order, the text of the model's configuration beside them. */
static int read_tensors(struct reader *reader, const uint8_t *headers, size_t n,
                        struct weights_tensor *tensors)
{
    uint64_t padding = 0;
    int err = 0;

    for (size_t i = 0; i < n && !err; i++)
        err = read_name(reader, header_at(headers, i), &tensors[i].name);
    for (size_t i = 0; i < n && !err; i++)
        err = read_shape(reader, header_at(headers, i), &tensors[i]);
    if (!err)
        err = take_u64(reader, &padding);
    if (!err && !take(reader, padding))
        err = refuse(reader, -EBADMSG, "its data begins past its end");
    for (size_t i = 0; i < n && !err; i++) {
        struct header header = header_at(headers, i);
        bool text = header.type == TYPE_S8 && strcmp(tensors[i].name, CONFIG_NAME) == 0;

        if (header.type != TYPE_F32 && header.type != TYPE_INTGEMM8 && !text)
            err = refuse(reader, -ENOTSUP, "'%s' is of type 0x%llx: only f32 and int8 are known",
                         tensors[i].name, (unsigned long long)header.type);
        else
            err = read_data(reader, header, &tensors[i]);
    }
    return err;
}

/* Take the configuration out of the tensors. */
static int split_config(struct weights_tensor *tensors, size_t *n, char **config)
{
    size_t kept = 0;
    char *text = NULL;

    for (size_t i = 0; i < *n; i++) {
        if (strcmp(tensors[i].name, CONFIG_NAME) != 0) {
            tensors[kept++] = tensors[i];
        } else if (!text) {
            text = strndup(tensors[i].data, tensors[i].count);
            if (!text)
                return -ENOMEM;
        }
    }
    if (!text)
        text = strdup("");
    *n = kept;
    *config = text;
    return text ? 0 : -ENOMEM;
}

int marian_read(const void *bytes, size_t n_bytes, char *error, size_t size, struct weights *out,
                char **config)
{
    struct reader reader = {bytes, n_bytes, 0, error, size};
    struct weights_tensor *tensors = NULL;
    const uint8_t *headers = NULL;
    uint64_t version = 0, count = 0;
    size_t n = 0;
    int err = take_u64(&reader, &version);

    if (!err)
        err = take_u64(&reader, &count);
    if (err)
        return err;
    if (version != VERSION)
        return refuse(&reader, -ENOTSUP, "it is no Marian binary of version %d", VERSION);
    headers = count <= n_bytes / HEADER_BYTES ? take(&reader, count * HEADER_BYTES) : NULL;
    if (!headers)
        return refuse(&reader, -EBADMSG, "it ends inside the headers of %llu tensors",
                      (unsigned long long)count);
    n = (size_t)count;
    tensors = calloc(n + 1, sizeof(*tensors));
    if (!tensors)
        return refuse(&reader, -ENOMEM, "out of memory");
    err = read_tensors(&reader, headers, n, tensors);
    if (!err && (err = split_config(tensors, &n, config)) < 0)
        refuse(&reader, err, "out of memory");
    if (err) {
        free(tensors);
        return err;
    }
    qsort(tensors, n, sizeof(*tensors), by_name);
    *out = (struct weights){.tensors = tensors, .n_tensors = n};
    return 0;
}

int marian_open(const char *path, char *error, size_t size, struct weights *out, char **config)
{
    struct weights found = {0};
    void *map = NULL;
    size_t bytes = 0;
    int err = weights_map_file(path, &map, &bytes);

    if (err < 0) {
        snprintf(error, size, "%s", strerror(-err));
        return err;
    }
    err = marian_read(map, bytes, error, size, &found, config);
    found.map = map;
    found.map_bytes = bytes;
    if (err < 0)
        weights_close(&found);
    else
        *out = found;
    return err;
}
