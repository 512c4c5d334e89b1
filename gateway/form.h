/*
 * form.h - the fields of a request: from its query, a form or a multipart body
 *
 * Works on a body that has been read whole; files stay where they are in it.
 */
#ifndef GATEWAY_FORM_H
#define GATEWAY_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORM_FIELDS_MAX 64
#define FORM_TEXT_MAX (1 << 20) /* bytes of a field that is no file */
#define FORM_ERROR_MAX 160

struct form_field {
    char *name;          /* owned, NUL-terminated, a final "[]" taken off */
    char *text;          /* owned, NUL-terminated, valid UTF-8; NULL for a file */
    const uint8_t *data; /* (size) of a file: inside the body */
    size_t size;         /* of either */
    char *filename;      /* owned; NULL unless the part has one */
    char *content_type;  /* owned; NULL */
};

struct form {
    struct form_field fields[FORM_FIELDS_MAX];
    size_t n;
};

/**
 * Add the fields of "a=1&b=2".
 *
 * @param error  (FORM_ERROR_MAX) what is wrong, on failure
 * @return 0; -EBADMSG; -EMSGSIZE for too many fields; -ENOMEM
 */
int form_add_query(struct form *form, const char *query, size_t size, char *error);

/**
 * Add the parts of a multipart/form-data body (RFC 7578).
 *
 * @param content_type  with its boundary
 * @param body          must outlive the form
 */
int form_add_multipart(struct form *form, const char *content_type, const uint8_t *body,
                       size_t size, char *error);

void form_fini(struct form *form);

/** First field of that name; NULL. */
const struct form_field *form_find(const struct form *form, const char *name);
/** Its text; NULL when there is none, it is empty or a file. */
const char *form_text(const struct form *form, const char *name);

/** The value of a header's parameter (`boundary="x y"`) into out, NUL-terminated. @return whether
 * there is one that fits */
bool form_parameter(const char *header, const char *name, char *out, size_t size);

#endif
