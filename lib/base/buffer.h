/*
 * buffer.h - bytes that grow, up to a limit
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data; /* (size) owned; NULL while empty */
    size_t size;
    size_t capacity;
    size_t limit; /* buffer_append() refuses to grow past this */
};

void buffer_init(struct buffer *buffer, size_t limit);
void buffer_fini(struct buffer *buffer); /* frees; init again before use */

/** Copy bytes to the end. @return 0; -EMSGSIZE past the limit; -ENOMEM */
int buffer_append(struct buffer *buffer, const void *data, size_t size);

/** printf to the end, no NUL counted in size but one always follows. @return as buffer_append() */
int buffer_printf(struct buffer *buffer, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Drop bytes from the front. */
void buffer_consume(struct buffer *buffer, size_t size);

#endif
