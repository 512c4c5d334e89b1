#include "gateway/form.h"

#include "gateway/http_parse.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define PART_HEAD_MAX 4096

static int fail(char *error, int err, const char *what)
{
    snprintf(error, FORM_ERROR_MAX, "%s", what);
    return err;
}

/* Take over name (and text); on failure they are freed. */
static int add(struct form *form, struct form_field field, char *error)
{
    size_t n = strlen(field.name);
    int err = 0;

    if (form->n == FORM_FIELDS_MAX)
        err = fail(error, -EMSGSIZE, "too many fields");
    else if (field.text && !utf8_valid(field.text, strlen(field.text)))
        err = fail(error, -EBADMSG, "a field that is not UTF-8");
    if (err < 0) {
        free(field.name);
        free(field.text);
        free(field.filename);
        free(field.content_type);
        return err;
    }
    if (n > 2 && !strcmp(field.name + n - 2, "[]"))
        field.name[n - 2] = '\0';
    form->fields[form->n++] = field;
    return 0;
}

static int add_pair(struct form *form, const char *pair, size_t size, char *error)
{
    const char *equals = memchr(pair, '=', size);
    size_t name_size = equals ? (size_t)(equals - pair) : size;
    struct form_field field = {0};
    ssize_t n = -ENOMEM;

    field.name = strndup(pair, name_size);
    field.text = equals ? strndup(equals + 1, size - name_size - 1) : strdup("");
    if (field.name && field.text) {
        n = http_unescape(field.name, true);
        if (n >= 0)
            n = http_unescape(field.text, true);
    }
    if (n < 0) {
        free(field.name);
        free(field.text);
        return fail(error, (int)n, n == -ENOMEM ? "out of memory" : "a bad %-escape in a field");
    }
    field.size = (size_t)n;
    return add(form, field, error);
}

int form_add_query(struct form *form, const char *query, size_t size, char *error)
{
    const char *end = query + size;

    while (query < end) {
        const char *next = memchr(query, '&', (size_t)(end - query));
        size_t n = (size_t)((next ? next : end) - query);

        if (n) {
            int err = add_pair(form, query, n, error);

            if (err < 0)
                return err;
        }
        query += n + 1;
    }
    return 0;
}

/* One parameter from "; name=value" on. @return what follows it; NULL at the end */
static const char *next_parameter(const char *at, const char *name, char *out, size_t size,
                                  bool *found)
{
    size_t n = 0, name_size;
    bool fits = true, wanted;

    at = strchr(at, ';');
    if (!at)
        return NULL;
    at += 1 + strspn(at + 1, " \t");
    name_size = strcspn(at, "=;");
    wanted = name_size == strlen(name) && !strncasecmp(at, name, name_size);
    at += name_size;
    if (*at != '=')
        return at;
    at++;
    if (*at == '"') {
        for (at++; *at && *at != '"'; at++) {
            /* Browsers escape a quote as %22; curl and others as \". A lone \ stands for itself. */
            if (at[0] == '\\' && (at[1] == '"' || at[1] == '\\'))
                at++;
            if (n + 1 < size && wanted)
                out[n++] = *at;
            else
                fits = !wanted;
        }
        at += *at == '"';
    } else {
        for (; *at && *at != ';' && *at != ' ' && *at != '\t'; at++) {
            if (n + 1 < size && wanted)
                out[n++] = *at;
            else
                fits = !wanted;
        }
    }
    if (wanted && fits) {
        out[n] = '\0';
        *found = true;
    }
    return at;
}

bool form_parameter(const char *header, const char *name, char *out, size_t size)
{
    bool found = false;

    while (header && !found)
        header = next_parameter(header, name, out, size, &found);
    return found;
}

struct part_head {
    char name[128], filename[256], content_type[128];
    bool has_name, has_filename;
};

/* The head of a part: lines up to an empty one. @return bytes, the empty line's included; 0:
 * malformed */
static size_t parse_part_head(const uint8_t *data, size_t size, struct part_head *head)
{
    const size_t within = size < PART_HEAD_MAX ? size : PART_HEAD_MAX;
    size_t at = 0;

    *head = (struct part_head){0};
    for (;;) {
        const uint8_t *end = memmem(data + at, within - at, "\r\n", 2);
        char line[1024];
        size_t n;

        if (!end)
            return 0;
        n = (size_t)(end - (data + at));
        if (!n)
            return at + 2;
        if (n >= sizeof(line) || memchr(data + at, '\0', n))
            return 0;
        memcpy(line, data + at, n);
        line[n] = '\0';
        if (!strncasecmp(line, "Content-Disposition:", 20)) {
            head->has_name = form_parameter(line, "name", head->name, sizeof(head->name));
            head->has_filename =
                form_parameter(line, "filename", head->filename, sizeof(head->filename));
        } else if (!strncasecmp(line, "Content-Type:", 13)) {
            snprintf(head->content_type, sizeof(head->content_type), "%s",
                     line + 13 + strspn(line + 13, " \t"));
        }
        at += n + 2;
    }
}

static int add_part(struct form *form, const struct part_head *head, const uint8_t *data,
                    size_t size, char *error)
{
    struct form_field field = {.name = strdup(head->name), .size = size};

    if (head->has_filename) {
        field.data = data;
        field.filename = strdup(head->filename);
    } else {
        if (size > FORM_TEXT_MAX || memchr(data, '\0', size)) {
            free(field.name);
            return fail(error, -EBADMSG,
                        size > FORM_TEXT_MAX ? "a field of more than 1 MiB that is no file"
                                             : "a NUL in a field");
        }
        field.text = strndup((const char *)data, size);
    }
    if (head->content_type[0])
        field.content_type = strdup(head->content_type);
    if (!field.name || (!field.text && !field.filename)) {
        free(field.name);
        free(field.content_type);
        return fail(error, -ENOMEM, "out of memory");
    }
    return add(form, field, error);
}

/* Walk the parts; `mark` is CRLF "--" boundary, and `at` stands behind the first one. */
static int walk_parts(struct form *form, const uint8_t *body, size_t size, const char *mark,
                      size_t at, char *error)
{
    const size_t mark_size = strlen(mark);

    for (;;) {
        struct part_head head;
        const uint8_t *end;
        size_t n;
        int err;

        if (size - at >= 2 && !memcmp(body + at, "--", 2))
            return 0;
        while (at < size && (body[at] == ' ' || body[at] == '\t'))
            at++;
        if (size - at < 2 || memcmp(body + at, "\r\n", 2))
            return fail(error, -EBADMSG,
                        "a multipart boundary that is followed by neither a line "
                        "end nor the end");
        at += 2;
        n = parse_part_head(body + at, size - at, &head);
        if (!n || !head.has_name)
            return fail(error, -EBADMSG, "a part without a readable head and name");
        at += n;
        /* An empty part's end shares its CRLF with the head's. */
        end = memmem(body + at - 2, size - at + 2, mark, mark_size);
        if (!end)
            return fail(error, -EBADMSG, "the last part does not end: the body was cut off");
        n = end > body + at ? (size_t)(end - (body + at)) : 0;
        err = add_part(form, &head, body + at, n, error);
        if (err < 0)
            return err;
        at = (size_t)(end - body) + mark_size;
    }
}

int form_add_multipart(struct form *form, const char *content_type, const uint8_t *body,
                       size_t size, char *error)
{
    char mark[BOUNDARY_MAX + 8] = "\r\n--";
    size_t first;
    const uint8_t *start;

    if (!form_parameter(content_type, "boundary", mark + 4, BOUNDARY_MAX + 1) || !mark[4])
        return fail(error, -EBADMSG, "multipart without a boundary in its Content-Type");
    first = strlen(mark) - 2; /* the first one may begin the body */
    if (!size)
        return fail(error, -EBADMSG, "an empty multipart body");
    if (size >= first && !memcmp(body, mark + 2, first))
        return walk_parts(form, body, size, mark, first, error);
    start = memmem(body, size, mark, first + 2);
    if (!start)
        return fail(error, -EBADMSG, "the boundary of the Content-Type is not in the body");
    return walk_parts(form, body, size, mark, (size_t)(start - body) + first + 2, error);
}

void form_fini(struct form *form)
{
    for (size_t i = 0; i < form->n; i++) {
        free(form->fields[i].name);
        free(form->fields[i].text);
        free(form->fields[i].filename);
        free(form->fields[i].content_type);
    }
    form->n = 0;
}

const struct form_field *form_find(const struct form *form, const char *name)
{
    for (size_t i = 0; i < form->n; i++) {
        if (!strcmp(form->fields[i].name, name))
            return &form->fields[i];
    }
    return NULL;
}

const char *form_text(const struct form *form, const char *name)
{
    const struct form_field *field = form_find(form, name);

    return field && field->text && field->text[0] ? field->text : NULL;
}
