#include "text/utf8.h"

#include <string.h>

/* What Unicode's table 3-7 allows after a lead byte. */
struct lead {
    size_t size; /* 0: no lead byte */
    uint8_t low, high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0x80)
        return (struct lead){1, 0, 0};
    if (byte < 0xC2 || byte > 0xF4)
        return (struct lead){0, 0, 0};
    if (byte < 0xE0)
        return (struct lead){2, 0x80, 0xBF};
    if (byte < 0xF0)
        return (struct lead){3, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF};
    return (struct lead){4, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF};
}

/* How many bytes at text fit their lead byte: all lead.size of them when it is a character. */
static size_t fitting(const uint8_t *text, size_t size, struct lead lead)
{
    size_t n = 1;

    if (n < lead.size && n < size && text[n] >= lead.low && text[n] <= lead.high)
        n++;
    while (n > 1 && n < lead.size && n < size && (text[n] & 0xC0) == 0x80)
        n++;
    return n;
}

size_t utf8_valid_prefix(const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t at = 0;

    while (at < size) {
        struct lead lead;
        uint64_t eight;

        if (size - at >= 8) { /* most text is ASCII */
            memcpy(&eight, bytes + at, 8);
            if (!(eight & 0x8080808080808080u)) {
                at += 8;
                continue;
            }
        }
        lead = lead_of(bytes[at]);
        if (!lead.size || fitting(bytes + at, size - at, lead) < lead.size)
            return at;
        at += lead.size;
    }
    return size;
}

bool utf8_valid(const char *text, size_t size)
{
    return utf8_valid_prefix(text, size) == size;
}

size_t utf8_decode(const char *text, size_t size, uint32_t *code_point)
{
    const uint8_t *bytes = (const uint8_t *)text;
    struct lead lead;
    uint32_t value;
    size_t n;

    if (!size)
        return 0;
    lead = lead_of(bytes[0]);
    n = lead.size ? fitting(bytes, size, lead) : 1;
    if (!lead.size || n < lead.size) {
        *code_point = UTF8_REPLACEMENT;
        return n;
    }
    value = lead.size == 1 ? bytes[0] : bytes[0] & (0xFFu >> (lead.size + 1));
    for (size_t i = 1; i < n; i++)
        value = value << 6 | (bytes[i] & 0x3Fu);
    *code_point = value;
    return n;
}

size_t utf8_encode(uint32_t code_point, char *out)
{
    uint8_t *bytes = (uint8_t *)out;

    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
        code_point = UTF8_REPLACEMENT;
    if (code_point < 0x80) {
        bytes[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        bytes[0] = (uint8_t)(0xC0 | code_point >> 6);
        bytes[1] = (uint8_t)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        bytes[0] = (uint8_t)(0xE0 | code_point >> 12);
        bytes[1] = (uint8_t)(0x80 | (code_point >> 6 & 0x3F));
        bytes[2] = (uint8_t)(0x80 | (code_point & 0x3F));
        return 3;
    }
    bytes[0] = (uint8_t)(0xF0 | code_point >> 18);
    bytes[1] = (uint8_t)(0x80 | (code_point >> 12 & 0x3F));
    bytes[2] = (uint8_t)(0x80 | (code_point >> 6 & 0x3F));
    bytes[3] = (uint8_t)(0x80 | (code_point & 0x3F));
    return 4;
}

size_t utf8_incomplete_tail(const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;

    for (size_t back = 1; back <= 3 && back <= size; back++) {
        struct lead lead = lead_of(bytes[size - back]);

        if (lead.size > back && fitting(bytes + size - back, back, lead) == back)
            return back;
        if ((bytes[size - back] & 0xC0) != 0x80)
            return 0;
    }
    return 0;
}

size_t utf8_previous(const char *text, size_t offset)
{
    while (offset > 0 && ((uint8_t)text[--offset] & 0xC0) == 0x80)
        ;
    return offset;
}

bool utf8_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool utf8_is_digit(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 0x660 && c <= 0x669) || (c >= 0x6F0 && c <= 0x6F9) ||
           (c >= 0x966 && c <= 0x96F) || (c >= 0xFF10 && c <= 0xFF19);
}

/* Blocks where capitals and small letters take turns: -1 no such letter, 0 capital, 1 small. */
static int alternating_case(uint32_t c)
{
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E))
        return c % 2 == 0; /* capitals are odd here */
    if (c == 0x138 || c == 0x149 || c == 0x178 || c == 0x17F)
        return c != 0x178;
    if ((c >= 0x100 && c <= 0x17E) || (c >= 0x1DE && c <= 0x1EF) || (c >= 0x1F8 && c <= 0x21F) ||
        (c >= 0x222 && c <= 0x233) || (c >= 0x1E00 && c <= 0x1E95) ||
        (c >= 0x1EA0 && c <= 0x1EFF) || (c >= 0x460 && c <= 0x481) || (c >= 0x48A && c <= 0x4BF) ||
        (c >= 0x4D0 && c <= 0x52F))
        return c % 2 == 1;
    if (c >= 0x4C1 && c <= 0x4CE)
        return c % 2 == 0;
    return -1;
}

bool utf8_is_upper(uint32_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
           alternating_case(c) == 0 || c == 0x386 || (c >= 0x388 && c <= 0x38F) ||
           (c >= 0x391 && c <= 0x3AB) || (c >= 0x400 && c <= 0x42F) || c == 0x4C0 ||
           (c >= 0x531 && c <= 0x556) || (c >= 0x10A0 && c <= 0x10C5);
}

bool utf8_is_lower(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 0xDF && c <= 0xFF && c != 0xF7) ||
           alternating_case(c) == 1 || c == 0x390 || (c >= 0x3AC && c <= 0x3CE) ||
           (c >= 0x430 && c <= 0x45F) || c == 0x4CF || (c >= 0x561 && c <= 0x587) ||
           (c >= 0x2D00 && c <= 0x2D25);
}
