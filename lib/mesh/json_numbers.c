/* Numbers, booleans and enums out of JSON values, which may also be strings. */
#include "mesh/json_private.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FLOAT_TOO_LARGE                                                                            \
    3.4028235677973366e38 /* from here on rounds to more than the largest float */

/* A whole number between two limits, as a number or a string. Unsigned ones above INT64_MAX only as text. */
static bool read_int(const json_t *json, int64_t min, int64_t max, int64_t *out)
{
    const char *text = json_string_value(json);
    char *end = NULL;
    double real;

    if (json_is_integer(json)) {
        *out = json_integer_value(json);
    } else if (json_is_real(json)) {
        real = json_real_value(json);
        if (real != floor(real) || fabs(real) >= 9223372036854775808.0)
            return false;
        *out = (int64_t)real;
    } else if (text && *text && strspn(text, "-0123456789") == strlen(text)) {
        errno = 0;
        *out = strtoll(text, &end, 10);
        if (errno || *end)
            return false;
    } else {
        return false;
    }
    return *out >= min && *out <= max;
}

static bool read_uint64(const json_t *json, uint64_t *out)
{
    const char *text = json_string_value(json);
    int64_t value;
    char *end = NULL;

    if (text && *text && strspn(text, "0123456789") == strlen(text)) {
        errno = 0;
        *out = strtoull(text, &end, 10);
        return !errno && !*end;
    }
    if (json_is_real(json) && json_real_value(json) == floor(json_real_value(json)) &&
        json_real_value(json) >= 0 && json_real_value(json) < 18446744073709551616.0) {
        *out = (uint64_t)json_real_value(json);
        return true;
    }
    if (!read_int(json, 0, INT64_MAX, &value))
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool read_double(const json_t *json, double *out)
{
    const char *text = json_string_value(json);
    char *end = NULL;

    if (json_is_number(json)) {
        *out = json_number_value(json);
        return true;
    }
    if (!text || !*text)
        return false;
    if (strcmp(text, "NaN") == 0)
        *out = (double)NAN;
    else if (strcmp(text, "Infinity") == 0)
        *out = (double)INFINITY;
    else if (strcmp(text, "-Infinity") == 0)
        *out = (double)-INFINITY;
    else if (strspn(text, "+-.0123456789eE") == strlen(text)) {
        *out = strtod(text, &end);
        return !*end && isfinite(*out);
    } else {
        return false;
    }
    return true;
}

static bool read_float(const json_t *json, float *out)
{
    double value;

    if (!read_double(json, &value) || (isfinite(value) && fabs(value) >= FLOAT_TOO_LARGE))
        return false;
    *out = (float)value;
    return true;
}

static bool read_int32(const json_t *json, int32_t *out)
{
    int64_t value;

    if (!read_int(json, INT32_MIN, INT32_MAX, &value))
        return false;
    *out = (int32_t)value;
    return true;
}

static bool read_uint32(const json_t *json, uint32_t *out)
{
    int64_t value;

    if (!read_int(json, 0, UINT32_MAX, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

bool json_read_enum(const json_t *json, const ProtobufCEnumDescriptor *type, int32_t *out)
{
    const char *name = json_string_value(json);
    const ProtobufCEnumValue *value;

    if (!name)
        return read_int32(json, out);
    value = protobuf_c_enum_descriptor_get_value_by_name(type, name);
    if (value)
        *out = value->value;
    return value != NULL;
}

bool json_read_scalar(const ProtobufCFieldDescriptor *field, const json_t *json, void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_int32(json, at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_uint32(json, at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_int(json, INT64_MIN, INT64_MAX, at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_uint64(json, at);
    case PROTOBUF_C_TYPE_FLOAT:
        return read_float(json, at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_double(json, at);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(json))
            return false;
        *(protobuf_c_boolean *)at = json_is_true(json);
        return true;
    default:
        return false;
    }
}
