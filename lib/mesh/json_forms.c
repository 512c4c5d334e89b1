/* Names, base64, and the forms of well-known types. */
#include "mesh/json_private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMESTAMP_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define TIMESTAMP_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DURATION_MAX INT64_C(315576000000)
#define NANOS 1000000000

/* ---- names ----------------------------------------------------------------------------------- */

const char *json_field_name(const ProtobufCFieldDescriptor *field, char room[JSON_NAME_MAX])
{
    size_t n = 0;
    bool upper = false;

    if (field->reserved2) /* a schema's: json_name */
        return field->reserved2;
    for (const char *at = field->name; *at && n + 1 < JSON_NAME_MAX; at++) {
        if (*at == '_') {
            upper = true;
            continue;
        }
        room[n++] = upper ? (char)toupper((unsigned char)*at) : *at;
        upper = false;
    }
    room[n] = '\0';
    return room;
}

/* ---- which types ----------------------------------------------------------------------------- */

static bool is_scalar(const ProtobufCFieldDescriptor *field, const char *name, unsigned id)
{
    return field->id == id && strcmp(field->name, name) == 0 &&
           field->label == PROTOBUF_C_LABEL_NONE && field->type != PROTOBUF_C_TYPE_MESSAGE &&
           !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
}

static bool is_time(const ProtobufCMessageDescriptor *type)
{
    return type->n_fields == 2 && is_scalar(&type->fields[0], "seconds", 1) &&
           is_scalar(&type->fields[1], "nanos", 2) &&
           type->fields[0].type == PROTOBUF_C_TYPE_INT64 &&
           type->fields[1].type == PROTOBUF_C_TYPE_INT32;
}

enum json_known json_known(const ProtobufCMessageDescriptor *type)
{
    static const char PREFIX[] = "google.protobuf.";
    static const char *const WRAPPERS[] = {"DoubleValue", "FloatValue",  "Int64Value",
                                           "UInt64Value", "Int32Value",  "UInt32Value",
                                           "BoolValue",   "StringValue", "BytesValue"};
    const char *name = type->name + sizeof(PREFIX) - 1;

    if (strncmp(type->name, PREFIX, sizeof(PREFIX) - 1) != 0)
        return JSON_PLAIN;
    if (strcmp(name, "Timestamp") == 0 && is_time(type))
        return JSON_TIMESTAMP;
    if (strcmp(name, "Duration") == 0 && is_time(type))
        return JSON_DURATION;
    for (size_t i = 0; i < sizeof(WRAPPERS) / sizeof(WRAPPERS[0]); i++)
        if (strcmp(name, WRAPPERS[i]) == 0 && type->n_fields == 1 &&
            is_scalar(&type->fields[0], "value", 1))
            return JSON_WRAPPER;
    return JSON_PLAIN;
}

/* ---- times ----------------------------------------------------------------------------------- */

/* ".021": none, three, six or nine digits. */
static void write_nanos(int32_t nanos, char *out, size_t size)
{
    if (nanos == 0)
        out[0] = '\0';
    else if (nanos % 1000000 == 0)
        snprintf(out, size, ".%03" PRId32, nanos / 1000000);
    else if (nanos % 1000 == 0)
        snprintf(out, size, ".%06" PRId32, nanos / 1000);
    else
        snprintf(out, size, ".%09" PRId32, nanos);
}

int json_timestamp_write(int64_t seconds, int32_t nanos, char out[JSON_TIME_MAX])
{
    time_t time = (time_t)seconds;
    char fraction[16];
    struct tm utc;

    if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX || nanos < 0 || nanos >= NANOS)
        return -ERANGE;
    gmtime_r(&time, &utc);
    write_nanos(nanos, fraction, sizeof(fraction));
    snprintf(out, JSON_TIME_MAX, "%04hd-%02hhu-%02hhuT%02hhu:%02hhu:%02hhu%sZ",
             (short)(utc.tm_year + 1900), (unsigned char)(utc.tm_mon + 1),
             (unsigned char)utc.tm_mday, (unsigned char)utc.tm_hour, (unsigned char)utc.tm_min,
             (unsigned char)utc.tm_sec, fraction);
    return 0;
}

int json_duration_write(int64_t seconds, int32_t nanos, char out[JSON_TIME_MAX])
{
    bool negative = seconds < 0 || nanos < 0;
    char fraction[16];

    if (seconds < -DURATION_MAX || seconds > DURATION_MAX || nanos <= -NANOS || nanos >= NANOS ||
        (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0))
        return -ERANGE;
    write_nanos(nanos < 0 ? -nanos : nanos, fraction, sizeof(fraction));
    snprintf(out, JSON_TIME_MAX, "%s%" PRId64 "%ss", negative ? "-" : "",
             seconds < 0 ? -seconds : seconds, fraction);
    return 0;
}

/* n digits at *at, which moves on. @return the number; -1 */
static int read_digits(const char **at, int n)
{
    int value = 0;

    for (; n > 0; n--, ++*at) {
        if (!isdigit((unsigned char)**at))
            return -1;
        value = value * 10 + (**at - '0');
    }
    return value;
}

/* What stands behind the seconds: nothing, or a point and one to nine digits. */
static int read_nanos(const char **at, int32_t *nanos)
{
    int32_t value = 0;
    int n = 0;

    *nanos = 0;
    if (**at != '.')
        return 0;
    for (++*at; isdigit((unsigned char)**at); ++*at, n++)
        value = n < 9 ? value * 10 + (**at - '0') : value;
    if (n < 1 || n > 9)
        return -EINVAL;
    for (; n < 9; n++)
        value *= 10;
    *nanos = value;
    return 0;
}

/* "Z", "+01:00" */
static int read_offset(const char *at, int64_t *seconds)
{
    int sign = *at == '+' ? 1 : *at == '-' ? -1 : 0;
    int hours, minutes;

    *seconds = 0;
    if (strcmp(at, "Z") == 0)
        return 0;
    if (sign == 0)
        return -EINVAL;
    at++;
    hours = read_digits(&at, 2);
    if (hours < 0 || hours > 23 || *at++ != ':')
        return -EINVAL;
    minutes = read_digits(&at, 2);
    if (minutes < 0 || minutes > 59 || *at)
        return -EINVAL;
    *seconds = sign * (hours * INT64_C(3600) + minutes * 60);
    return 0;
}

/* "1972-01-01T10:00:20" */
static int read_date(const char **at, struct tm *out)
{
    static const char BEHIND[] = "--T::";
    int parts[6];

    for (int i = 0; i < 6; i++) {
        parts[i] = read_digits(at, i == 0 ? 4 : 2);
        if (parts[i] < 0 || (i < 5 && **at != BEHIND[i]))
            return -EINVAL;
        if (i < 5)
            ++*at;
    }
    if (parts[0] < 1 || parts[1] < 1 || parts[1] > 12 || parts[2] < 1 || parts[2] > 31 ||
        parts[3] > 23 || parts[4] > 59 || parts[5] > 59)
        return -EINVAL;
    *out = (struct tm){.tm_year = parts[0] - 1900,
                       .tm_mon = parts[1] - 1,
                       .tm_mday = parts[2],
                       .tm_hour = parts[3],
                       .tm_min = parts[4],
                       .tm_sec = parts[5]};
    return 0;
}

int json_timestamp_read(const char *text, int64_t *seconds, int32_t *nanos)
{
    struct tm date, back;
    int64_t offset;
    time_t time;

    if (read_date(&text, &date) < 0 || read_nanos(&text, nanos) < 0 ||
        read_offset(text, &offset) < 0)
        return -EINVAL;
    back = date;
    time = timegm(&back);
    if (back.tm_mday != date.tm_mday) /* the 31st of April */
        return -EINVAL;
    *seconds = (int64_t)time - offset;
    return *seconds < TIMESTAMP_MIN || *seconds > TIMESTAMP_MAX ? -EINVAL : 0;
}

int json_duration_read(const char *text, int64_t *seconds, int32_t *nanos)
{
    bool negative = *text == '-';
    char *end = NULL;
    const char *at;

    text += negative;
    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    *seconds = strtoll(text, &end, 10);
    at = end;
    if (*seconds > DURATION_MAX || read_nanos(&at, nanos) < 0 || strcmp(at, "s") != 0)
        return -EINVAL;
    if (negative) {
        *seconds = -*seconds;
        *nanos = -*nanos;
    }
    return 0;
}

/* ---- base64 ---------------------------------------------------------------------------------- */

int json_base64_write(const uint8_t *data, size_t size, struct buffer *out)
{
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int err = 0;

    for (size_t i = 0; i < size && err == 0; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                        (n > 2 ? data[i + 2] : 0);
        char four[4] = {ALPHABET[bits >> 18], ALPHABET[bits >> 12 & 63],
                        n > 1 ? ALPHABET[bits >> 6 & 63] : '=', n > 2 ? ALPHABET[bits & 63] : '='};

        err = buffer_append(out, four, sizeof(four));
    }
    return err;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

int64_t json_base64_read(const char *text, size_t size, uint8_t *out)
{
    uint32_t bits = 0;
    int64_t n = 0;
    unsigned n_bits = 0;

    if (size % 4 == 0)
        for (int i = 0; i < 2 && size > 0 && text[size - 1] == '='; i++)
            size--;
    if (size % 4 == 1)
        return -EINVAL;
    for (size_t i = 0; i < size; i++) {
        int digit = base64_digit(text[i]);

        if (digit < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    return n;
}
