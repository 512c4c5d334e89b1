#include "compute/weights/ct2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_MIN 4
#define VERSION_MAX 6
#define SMALLEST_VARIABLE 10 /* bytes of one with an empty name and no elements */
#define SMALLEST_ALIAS 6     /* bytes of two empty texts */

struct reader {
    const uint8_t *bytes;
    size_t size, at;
    char *error; /* (error_size) */
    size_t error_size;
};

static int complain(struct reader *reader, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int complain(struct reader *reader, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (reader->error_size)
        vsnprintf(reader->error, reader->error_size, fmt, args);
    va_end(args);
    return err;
}

static size_t left(const struct reader *reader)
{
    return reader->size - reader->at;
}

static int read_uint(struct reader *reader, size_t width, uint32_t *out)
{
    uint32_t value = 0;

    if (left(reader) < width)
        return complain(reader, -EBADMSG, "the file ends at byte %zu, inside a number",
                        reader->size);
    for (size_t i = 0; i < width; i++)
        value |= (uint32_t)reader->bytes[reader->at + i] << (8 * i);
    reader->at += width;
    *out = value;
    return 0;
}

/* A text in place: the file holds its NUL. */
static int read_text(struct reader *reader, const char **out)
{
    uint32_t length = 0;
    const char *text;
    int err = read_uint(reader, 2, &length);

    if (err < 0)
        return err;
    if (length == 0 || left(reader) < length)
        return complain(reader, -EBADMSG, "the name at byte %zu is %u bytes long, %zu are left",
                        reader->at, length, left(reader));
    text = (const char *)reader->bytes + reader->at;
    if (memchr(text, '\0', length) != text + length - 1)
        return complain(reader, -EBADMSG, "the name at byte %zu is no text", reader->at);
    reader->at += length;
    *out = text;
    return 0;
}

static int type_of(uint32_t id, enum weights_type *type, size_t *width)
{
    static const struct {
        enum weights_type type;
        size_t width;
    } types[] = {{WEIGHTS_F32, 4}, {WEIGHTS_S8, 1},  {WEIGHTS_S16, 2},
                 {WEIGHTS_S32, 4}, {WEIGHTS_F16, 2}, {WEIGHTS_BF16, 2}};

    if (id >= sizeof(types) / sizeof(types[0]))
        return -ENOTSUP;
    *type = types[id].type;
    *width = types[id].width;
    return 0;
}

static int read_shape(struct reader *reader, struct weights_tensor *tensor)
{
    uint32_t rank = 0, dim = 0;
    int err = read_uint(reader, 1, &rank);

    if (err < 0)
        return err;
    if (rank > WEIGHTS_MAX_RANK)
        return complain(reader, -ENOTSUP, "'%s' has %u dimensions, more than %d", tensor->name,
                        rank, WEIGHTS_MAX_RANK);
    tensor->rank = rank;
    tensor->count = 1;
    for (size_t i = 0; i < rank; i++) {
        if ((err = read_uint(reader, 4, &dim)) < 0)
            return err;
        tensor->shape[i] = dim;
        if (__builtin_mul_overflow(tensor->count, (size_t)dim, &tensor->count))
            return complain(reader, -EBADMSG, "the shape of '%s' overflows", tensor->name);
    }
    return 0;
}

static int read_variable(struct reader *reader, struct weights_tensor *tensor)
{
    uint32_t type = 0, n_bytes = 0;
    size_t width = 0, want = 0;
    int err;

    if ((err = read_text(reader, &tensor->name)) < 0 || (err = read_shape(reader, tensor)) < 0 ||
        (err = read_uint(reader, 1, &type)) < 0 || (err = read_uint(reader, 4, &n_bytes)) < 0)
        return err;
    if (type_of(type, &tensor->type, &width) < 0)
        return complain(reader, -ENOTSUP, "'%s' has the unknown type %u", tensor->name, type);
    if (__builtin_mul_overflow(tensor->count, width, &want) || want != n_bytes)
        return complain(reader, -EBADMSG, "'%s' has %u bytes, not the %zu elements of its shape",
                        tensor->name, n_bytes, tensor->count);
    if (left(reader) < n_bytes)
        return complain(reader, -EBADMSG, "'%s' has %u bytes, but the file ends after %zu",
                        tensor->name, n_bytes, left(reader));
    tensor->data = reader->bytes + reader->at;
    reader->at += n_bytes;
    return 0;
}

/* A count of things that take at least `smallest` bytes each, so that it never asks for more memory
 * than a small multiple of the file. */
static int read_count(struct reader *reader, size_t smallest, uint32_t *out)
{
    int err = read_uint(reader, 4, out);

    if (err == 0 && *out > left(reader) / smallest)
        err = complain(reader, -EBADMSG, "the count at byte %zu is %u, too many for the file",
                       reader->at - 4, *out);
    return err;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weights_tensor *)a)->name,
                  ((const struct weights_tensor *)b)->name);
}

static void sort(struct weights *weights)
{
    if (weights->n_tensors)
        qsort(weights->tensors, weights->n_tensors, sizeof(*weights->tensors), by_name);
}

static int read_aliases(struct reader *reader, struct weights *weights)
{
    uint32_t n_aliases = 0;
    size_t n_variables = weights->n_tensors;
    struct weights_tensor *tensors;
    int err = read_count(reader, SMALLEST_ALIAS, &n_aliases);

    if (err < 0)
        return err;
    tensors = realloc(weights->tensors, (n_variables + n_aliases + 1) * sizeof(*tensors));
    if (!tensors)
        return complain(reader, -ENOMEM, "out of memory");
    weights->tensors = tensors;
    for (size_t i = 0; i < n_aliases; i++) {
        struct weights_tensor key = {0}, *found;
        const char *alias = NULL;

        if ((err = read_text(reader, &alias)) < 0 || (err = read_text(reader, &key.name)) < 0)
            return err;
        found = bsearch(&key, tensors, n_variables, sizeof(*tensors), by_name);
        if (!found)
            return complain(reader, -EBADMSG, "'%s' stands for '%s', which is not there", alias,
                            key.name);
        tensors[weights->n_tensors] = *found;
        tensors[weights->n_tensors++].name = alias;
    }
    return 0;
}

static int refuse_duplicates(struct reader *reader, const struct weights *weights)
{
    for (size_t i = 1; i < weights->n_tensors; i++)
        if (by_name(&weights->tensors[i - 1], &weights->tensors[i]) == 0)
            return complain(reader, -EBADMSG, "'%s' is there twice", weights->tensors[i].name);
    return 0;
}

static int read_header(struct reader *reader, const char *spec)
{
    uint32_t version = 0, revision = 0;
    const char *name = NULL;
    int err = read_uint(reader, 4, &version);

    if (err < 0)
        return err;
    if (version < VERSION_MIN || version > VERSION_MAX)
        return complain(reader, -ENOTSUP,
                        "binary version %u: versions %d to %d of CTranslate2's format are read",
                        version, VERSION_MIN, VERSION_MAX);
    if ((err = read_text(reader, &name)) < 0 || (err = read_uint(reader, 4, &revision)) < 0)
        return err;
    if (spec && strcmp(name, spec) != 0)
        return complain(reader, -ENOTSUP, "it holds a '%s', not a '%s'", name, spec);
    return 0;
}

static int read_variables(struct reader *reader, struct weights *weights)
{
    uint32_t n_variables = 0;
    int err = read_count(reader, SMALLEST_VARIABLE, &n_variables);

    if (err < 0)
        return err;
    weights->tensors = calloc((size_t)n_variables + 1, sizeof(*weights->tensors));
    if (!weights->tensors)
        return complain(reader, -ENOMEM, "out of memory");
    for (; weights->n_tensors < n_variables; weights->n_tensors++)
        if ((err = read_variable(reader, &weights->tensors[weights->n_tensors])) < 0)
            return err;
    sort(weights);
    return 0;
}

int ct2_read(const void *bytes, size_t n_bytes, const char *spec, char *error, size_t size,
             struct weights *out)
{
    struct reader reader = {.bytes = bytes, .size = n_bytes, .error = error, .error_size = size};
    struct weights weights = {0};
    int err;

    if ((err = read_header(&reader, spec)) < 0 || (err = read_variables(&reader, &weights)) < 0 ||
        (err = read_aliases(&reader, &weights)) < 0)
        goto done;
    if (left(&reader) > 0) {
        err = complain(&reader, -EBADMSG, "%zu bytes follow the last tensor", left(&reader));
        goto done;
    }
    sort(&weights);
    if ((err = refuse_duplicates(&reader, &weights)) < 0)
        goto done;
    *out = weights;
    weights.tensors = NULL;
done:
    free(weights.tensors);
    return err;
}

int ct2_open(const char *path, const char *spec, char *error, size_t size, struct weights *out)
{
    char why[256] = "";
    void *map = NULL;
    size_t n_bytes = 0;
    struct weights weights = {0};
    int err = weights_map_file(path, &map, &n_bytes);

    if (err < 0) {
        snprintf(error, size, "cannot map '%s': %s", path, strerror(-err));
        return err;
    }
    err = ct2_read(map, n_bytes, spec, why, sizeof(why), &weights);
    weights.map = map;
    weights.map_bytes = n_bytes;
    if (err < 0) {
        snprintf(error, size, "cannot read '%s': %s", path, why);
        weights_close(&weights);
        return err;
    }
    *out = weights;
    return 0;
}
