#include "base/escape.h"

#include <string.h>

/* Bytes of the well-formed character at text (RFC 3629), 0 when there is none. */
static size_t character_size(const unsigned char *text)
{
    size_t size = text[0] < 0x80   ? 1
                  : text[0] < 0xC2 ? 0
                  : text[0] < 0xE0 ? 2
                  : text[0] < 0xF0 ? 3
                  : text[0] < 0xF5 ? 4
                                   : 0;

    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return size;
}

static int append_special(struct buffer *out, unsigned char c)
{
    if (c == '"' || c == '\\')
        return buffer_printf(out, "\\%c", c);
    if (c == '\n')
        return buffer_append(out, "\\n", 2);
    return buffer_printf(out, "\\u%04x", c);
}

int escape_append(struct buffer *out, const char *text, bool json)
{
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *from = at; /* what is not written yet */
    int err = 0;

    while (err == 0 && *at) {
        size_t size = character_size(at);

        if (size > 0 && *at >= 0x20 && *at != 0x7F && !(json && (*at == '"' || *at == '\\'))) {
            at += size;
            continue;
        }
        err = buffer_append(out, from, (size_t)(at - from));
        if (err == 0)
            err = size > 0 ? append_special(out, *at) : buffer_append(out, "\xEF\xBF\xBD", 3);
        from = ++at;
    }
    return err == 0 ? buffer_append(out, from, (size_t)(at - from)) : err;
}
