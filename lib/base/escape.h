/*
 * escape.h - text from anywhere into a line of log or a string of JSON
 */
#ifndef BASE_ESCAPE_H
#define BASE_ESCAPE_H

#include "base/buffer.h"

#include <stdbool.h>

/**
 * Append text so that nothing in it ends the line or moves the cursor: control characters as \n or \u001b,
 * bytes that are not UTF-8 as U+FFFD.
 *
 * @param json  '"' and '\\' too: what stands between the quotes of a JSON string
 * @return 0; -EMSGSIZE; -ENOMEM
 */
int escape_append(struct buffer *out, const char *text, bool json);

#endif
