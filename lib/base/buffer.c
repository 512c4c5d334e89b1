#include "base/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_FIRST 256 /* bytes of the first allocation */

void buffer_init(struct buffer *buffer, size_t limit)
{
    *buffer = (struct buffer){.limit = limit};
}

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){.limit = buffer->limit};
}

/* Room for `more` bytes and, beyond the limit's count, one NUL. */
static int reserve(struct buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_FIRST;
    uint8_t *data = NULL;

    if (more > buffer->limit || buffer->size > buffer->limit - more)
        return -EMSGSIZE;
    if (buffer->size + more < buffer->capacity)
        return 0;
    while (capacity <= buffer->size + more) {
        if (capacity > SIZE_MAX / 2)
            return -ENOMEM;
        capacity *= 2;
    }
    data = realloc(buffer->data, capacity);
    if (!data)
        return -ENOMEM;
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    int err = reserve(buffer, size);

    if (err < 0)
        return err;
    if (size > 0)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    buffer->data[buffer->size] = '\0';
    return 0;
}

int buffer_printf(struct buffer *buffer, const char *fmt, ...)
{
    va_list args;
    int need;
    int err;

    va_start(args, fmt);
    need = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (need < 0)
        return -EINVAL;
    err = reserve(buffer, (size_t)need);
    if (err < 0)
        return err;
    va_start(args, fmt);
    vsnprintf((char *)buffer->data + buffer->size, (size_t)need + 1, fmt, args);
    va_end(args);
    buffer->size += (size_t)need;
    return 0;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    if (size >= buffer->size) {
        buffer->size = 0;
        return;
    }
    memmove(buffer->data, buffer->data + size, buffer->size - size);
    buffer->size -= size;
    buffer->data[buffer->size] = '\0';
}
