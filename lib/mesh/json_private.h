/*
 * json_private.h - what reading and writing JSON share: names, base64, well-known types
 */
#ifndef MESH_JSON_PRIVATE_H
#define MESH_JSON_PRIVATE_H

#include "mesh/json.h"

#include <stdint.h>

struct json_t;

#define JSON_NAME_MAX 256
#define JSON_TIME_MAX 48 /* bytes of a Timestamp's or Duration's text */

/** A field's name in JSON: json_name, else lowerCamelCase; may live in `room`. */
const char *json_field_name(const ProtobufCFieldDescriptor *field, char room[JSON_NAME_MAX]);

/** A JSON value as a number or boolean of the field's type, into *at. @return whether it is one */
bool json_read_scalar(const ProtobufCFieldDescriptor *field, const struct json_t *json, void *at);
/** As an enum's number: its name, or the number itself. */
bool json_read_enum(const struct json_t *json, const ProtobufCEnumDescriptor *type, int32_t *out);

enum json_known { JSON_PLAIN, JSON_TIMESTAMP, JSON_DURATION, JSON_WRAPPER };

/** Whether a type has a form of its own; by name, and only if its fields are those that the name promises. */
enum json_known json_known(const ProtobufCMessageDescriptor *type);

/** Seconds and nanoseconds as text. @return 0; -ERANGE */
int json_timestamp_write(int64_t seconds, int32_t nanos, char out[JSON_TIME_MAX]);
int json_duration_write(int64_t seconds, int32_t nanos, char out[JSON_TIME_MAX]);
/** And back. @return 0; -EINVAL */
int json_timestamp_read(const char *text, int64_t *seconds, int32_t *nanos);
int json_duration_read(const char *text, int64_t *seconds, int32_t *nanos);

int json_base64_write(const uint8_t *data, size_t size, struct buffer *out);
/** Standard or URL alphabet, padded or not. @param out  at least size / 4 * 3 + 3 bytes
 *  @return bytes; -EINVAL */
int64_t json_base64_read(const char *text, size_t size, uint8_t *out);

static inline void *json_member(const ProtobufCMessage *message, size_t offset)
{
    return (uint8_t *)message + offset;
}

#endif
